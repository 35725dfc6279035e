//! Checks of every operation's fast version against its definition in F64, for a device that was never tested.
//!
//! A [`Case`] is data: an operation with its shapes, a type and a tolerance. Its inputs follow from it, the same in every run.
//! [`run`] computes it on a device; the tests of the kernels compute the same cases through the kernels compiled for the CPU,
//! and [`Case::judge`] compares either result.

mod case;
mod dense;
mod inputs;
mod judge;
mod prepared;
mod speed;
mod transformer;
mod work;

use std::time::Instant;

use candle_core::{DType, Device, Result};

pub use case::{Case, LinearThen, MapSize, NORM_EPS, Operation, Purpose};
pub use inputs::{Inputs, Role};
pub use judge::unit_roundoff;

use crate::ops::cuda::default_dtype;

/// What kind of device the cases are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A processor: what is timed is small, and convolutions of 3 x 3 are Winograd's, which are less exact.
    Processor,
    /// A card: what is timed keeps a large one busy long enough.
    Card,
}

impl Target {
    /// The kind of `device`.
    pub fn of(device: &Device) -> Self {
        match device.is_cpu() {
            true => Self::Processor,
            false => Self::Card,
        }
    }
}

/// What came of a case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// How far the result is from the exact one, see [`Case::judge`]. 0 for a case of speed whose result is finite; NaN when
    /// an element is NaN.
    pub error: f64,
    /// Seconds of a run, for cases of speed.
    pub seconds: Option<f64>,
}

/// The types that the transformers compute in on `device`: on CUDA all that the card's tensor cores take, and F32.
///
/// # Errors
/// When the card does not say what it is.
pub fn dtypes(device: &Device) -> Result<Vec<DType>> {
    Ok(match default_dtype(device)? {
        DType::BF16 => vec![DType::BF16, DType::F16, DType::F32],
        DType::F16 => vec![DType::F16, DType::F32],
        _ => vec![DType::F32],
    })
}

/// Every case: the operations of the transformers in each of `dtypes`, those of the dense heads in F32 whatever these are, as
/// the network does, and then what is timed.
pub fn cases(dtypes: &[DType], target: Target) -> Vec<Case> {
    let mut all: Vec<Case> = dtypes.iter().flat_map(|d| transformer::cases(*d)).collect();
    all.extend(dense::cases(target));
    all.extend(speed::cases(dtypes, target));
    all
}

/// Runs one case on `device`.
///
/// # Errors
/// When the device fails or has no such operation.
pub fn run(case: &Case, device: &Device) -> Result<Outcome> {
    let inputs = case.inputs()?;
    let fast = case.operation.prepare(&inputs.on(device)?)?;
    if case.purpose == Purpose::Speed {
        let (seconds, last) = time(&*fast, device)?;
        let error = if judge::is_finite(&last)? {
            0.0
        } else {
            f64::NAN
        };
        return Ok(Outcome {
            error,
            seconds: Some(seconds),
        });
    }
    let exact = case.exact(&inputs)?;
    Ok(Outcome {
        error: case.judge(&fast()?, &exact)?,
        seconds: None,
    })
}

/// Rounds that are timed, of which the shortest counts.
const ROUNDS: usize = 3;

/// Seconds that a round takes at least where it may, so that the wait at its end, and starting the first kernel, do not count.
const ROUND_SECONDS: f64 = 0.01;

/// Runs of a round at most.
const MOST_RUNS: f64 = 200.0;

/// Seconds of one run, and the result of the last.
fn time(
    op: &dyn Fn() -> Result<candle_core::Tensor>,
    device: &Device,
) -> Result<(f64, candle_core::Tensor)> {
    // The first run loads what is loaded on first use.
    let mut last = op()?;
    device.synchronize()?;
    let mut round = |runs: usize| -> Result<f64> {
        let start = Instant::now();
        for _ in 0..runs {
            last = op()?;
        }
        device.synchronize()?;
        Ok(start.elapsed().as_secs_f64() / runs as f64)
    };
    let mut seconds = round(1)?;
    let runs = (ROUND_SECONDS / seconds.max(1e-9)).clamp(1.0, MOST_RUNS) as usize;
    for _ in 0..ROUNDS {
        seconds = seconds.min(round(runs)?);
    }
    Ok((seconds, last))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_operation_passes_on_the_cpu() {
        let mut wrong = Vec::new();
        for case in cases(&dtypes(&Device::Cpu).unwrap(), Target::Processor) {
            if case.purpose == Purpose::Speed {
                continue;
            }
            let error = run(&case, &Device::Cpu).unwrap().error;
            let roundings = error / unit_roundoff(case.dtype);
            let part = error / case.tolerance();
            let line = format!(
                "{}: {roundings:.2} roundings, {part:.2} of the tolerance",
                case.label()
            );
            println!("{line}");
            if !case.passed(error) {
                wrong.push(line);
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn speed_is_measured_and_work_is_counted() {
        for mut case in speed::cases(&[DType::F32], Target::Processor) {
            let work = case.work();
            assert!(work.bytes > 0, "{case:?}");
            // The same, smaller, to be quick.
            if let Operation::LayerNorm { .. } = case.operation {
                case.operation = Operation::LayerNorm {
                    rows: 3,
                    channels: 64,
                };
                let outcome = run(&case, &Device::Cpu).unwrap();
                assert!(outcome.seconds.unwrap() > 0.0);
                assert!(case.passed(outcome.error));
            }
        }
    }

    #[test]
    fn no_two_checks_have_one_name() {
        let all = [DType::BF16, DType::F16, DType::F32];
        let all = cases(&all, Target::Card);
        let names: HashSet<_> = all
            .iter()
            .map(|case| (case.label(), case.purpose == Purpose::Speed))
            .collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|case| case.name.len() <= 42), "{all:?}");
    }

    #[test]
    fn scores_are_of_the_size_that_the_network_has() {
        for case in transformer::cases(DType::F32) {
            let Operation::SelfAttention { heads, depth, .. } = case.operation else {
                continue;
            };
            let inputs = case.inputs().unwrap();
            let qkv = inputs.get(Role::X).unwrap();
            let (b, n, _) = qkv.dims3().unwrap();
            let parts = qkv.reshape((b, n, 3, heads, depth)).unwrap();
            let part = |i: usize| {
                let part = parts.narrow(2, i, 1).unwrap().squeeze(2).unwrap();
                part.transpose(1, 2).unwrap().contiguous().unwrap()
            };
            let scores = part(0).matmul(&part(1).t().unwrap().contiguous().unwrap());
            let scores = (scores.unwrap() / (depth as f64).sqrt()).unwrap();
            let scores = scores.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let most = scores.iter().fold(0f32, |m, s| m.max(s.abs()));
            assert!(most < 6.0, "{}: {most}", case.label());
            let squares: f32 = scores.iter().map(|s| s * s).sum();
            let deviation = (squares / scores.len() as f32).sqrt();
            let expected = if scores.len() < 100 {
                0.0..3.0
            } else {
                0.8..1.2
            };
            assert!(
                expected.contains(&deviation),
                "{}: {deviation}",
                case.label()
            );
        }
    }

    #[test]
    fn inputs_are_the_same_in_every_run_and_rounded_to_the_type() {
        let case = transformer::cases(DType::BF16).remove(0);
        let [a, b] = [0, 1].map(|_| case.inputs().unwrap());
        let values = |inputs: &Inputs| {
            let x = inputs.get(Role::X).unwrap();
            assert_eq!(x.dtype(), DType::BF16);
            let x = x.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
            x.to_vec1::<f32>().unwrap()
        };
        assert_eq!(values(&a), values(&b));
        assert!(a.get(Role::Gamma).is_err());
    }
}
