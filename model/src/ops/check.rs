//! Every operation's fast version against its plain one, on the device at hand, for whoever cannot trust that a card, a driver
//! and the kernels fit together.

use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};

use super::{
    Conv2d, Conv2dConfig, ConvFusion, ConvTranspose2d, Epilogue, Fusion, LayerNorm, Linear,
    Positions, RopeTable, SelfAttention, attention, bilinear_align_corners, gelu,
};
use crate::precision::Precision;

/// What came of one operation.
#[derive(Debug, Clone, PartialEq)]
pub struct OpCheck {
    /// The operation.
    pub name: &'static str,
    /// The largest difference from the plain version in F64 on the CPU, by the largest number. NaN when a number is missing.
    pub error: f64,
    /// What it may be.
    pub tolerance: f64,
    /// The shortest of some runs.
    pub seconds: f64,
    /// Bytes that a run reads and writes, each tensor once.
    pub bytes: u64,
    /// Operations of its products, a multiplication and an addition being two.
    pub flops: u64,
}

impl OpCheck {
    /// Whether the error is within the tolerance.
    pub fn passed(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// Tokens and channels near those of one frame of VGGT-1B, heads of its size; a number of tokens that is no multiple of any
/// tile.
const TOKENS: usize = 261;
const CHANNELS: usize = 1024;
const HEADS: usize = 16;
/// Height, width and channels of a map of the dense heads.
const MAP: (usize, usize, usize) = (37, 28, 128);

/// Runs that are timed, after one that is not.
const RUNS: usize = 3;

/// Checks every operation on `device`: those of the transformers in `dtype`, those of the dense heads in F32, as the network
/// does.
///
/// # Errors
/// When the device fails or has no such operation.
pub fn run(device: &Device, dtype: DType) -> Result<Vec<OpCheck>> {
    let mut bench = Bench {
        device,
        seed: 1,
        done: Vec::new(),
    };
    let of_transformer = [norms, linears, attentions];
    for check in of_transformer {
        check(&mut bench, dtype)?;
    }
    maps(&mut bench)?;
    Ok(bench.done)
}

fn norms(bench: &mut Bench<'_>, dtype: DType) -> Result<()> {
    let x = bench.tensor(&[TOKENS, CHANNELS], dtype)?;
    let (weight, bias) = (
        bench.tensor(&[CHANNELS], dtype)?,
        bench.tensor(&[CHANNELS], dtype)?,
    );
    let norm = |side: Side| LayerNorm::from_tensors(weight.of(side), bias.of(side), 1e-6);
    bench.check(
        "layer_norm",
        Limit::rounding(dtype, 1),
        &[&x, &weight, &bias],
        0,
        |side| norm(side).forward(&x.of(side)),
    )?;
    bench.check("gelu", Limit::rounding(dtype, 2), &[&x], 0, |side| {
        gelu(&x.of(side))
    })
}

fn linears(bench: &mut Bench<'_>, dtype: DType) -> Result<()> {
    let (n, c) = (TOKENS, CHANNELS);
    let x = bench.tensor(&[n, c], dtype)?;
    let (scale, shift) = (bench.tensor(&[c], dtype)?, bench.tensor(&[c], dtype)?);
    let norm = |side: Side| LayerNorm::from_tensors(scale.of(side), shift.of(side), 1e-6);
    let weight = bench.tensor(&[c, c], dtype)?;
    let (bias, gamma) = (bench.tensor(&[c], dtype)?, bench.tensor(&[c], dtype)?);
    let residual = bench.tensor(&[n, c], dtype)?;
    let linear = |side: Side| Linear::from_tensors(weight.of(side), bias.of(side));
    let flops = (2 * n * c * c) as u64;
    let read = [&x, &weight, &bias];
    // The norm's output, the product and the result are rounded.
    let limit = Limit::rounding(dtype, 4);
    bench.check("linear after a norm", limit, &read, flops, |side| {
        let norm = norm(side);
        let fusion = Fusion {
            norm: Some(&norm),
            epilogue: Epilogue::None,
        };
        linear(side).forward_fused(&x.of(side), fusion)
    })?;
    bench.check("linear and gelu", limit, &read, flops, |side| {
        let fusion = Fusion {
            norm: None,
            epilogue: Epilogue::Gelu,
        };
        linear(side).forward_fused(&x.of(side), fusion)
    })?;
    let read = [&x, &weight, &bias, &gamma, &residual];
    bench.check("linear, scale and residual", limit, &read, flops, |side| {
        let epilogue = Epilogue::Residual {
            gamma: &gamma.of(side),
            residual: &residual.of(side),
        };
        linear(side).forward_fused(
            &x.of(side),
            Fusion {
                norm: None,
                epilogue,
            },
        )
    })
}

fn attentions(bench: &mut Bench<'_>, dtype: DType) -> Result<()> {
    let (n, c, depth) = (TOKENS, CHANNELS, CHANNELS / HEADS);
    let qkv = bench.tensor(&[1, n, 3 * c], dtype)?;
    let norms = [0, 1, 2, 3].map(|_| bench.tensor(&[depth], dtype));
    let [a, b, c1, d] = norms;
    let norms = [(a?, b?), (c1?, d?)];
    let table = [
        bench.tensor(&[n, depth], DType::F32)?,
        bench.tensor(&[n, depth], DType::F32)?,
    ];
    let flops = (4 * n * n * c) as u64;
    // Rounded queries and keys move the scores, which are up to 30 or so here, by as many roundings.
    let limit = Limit::rounding(dtype, 64);
    bench.check(
        "self-attention with norms and rotations",
        limit,
        &[&qkv],
        flops,
        |side| {
            let norm =
                |i: usize| LayerNorm::from_tensors(norms[i].0.of(side), norms[i].1.of(side), 1e-5);
            let (q_norm, k_norm) = (norm(0), norm(1));
            let rope = RopeTable::new(table[0].of(side), table[1].of(side));
            let op = SelfAttention {
                num_heads: HEADS,
                q_norm: Some(&q_norm),
                k_norm: Some(&k_norm),
                rope: Some(&rope),
                precision: Precision::Exact,
            };
            op.forward(&qkv.of(side))
        },
    )?;
    // The weights and the result are rounded.
    let limit = Limit::rounding(dtype, 4);
    bench.check("self-attention", limit, &[&qkv], flops, |side| {
        let op = SelfAttention {
            num_heads: HEADS,
            q_norm: None,
            k_norm: None,
            rope: None,
            precision: Precision::Exact,
        };
        op.forward(&qkv.of(side))
    })?;
    // Heads of another size, and fewer keys than queries: those of the track head.
    let heads = [1, 8, n, 48];
    let (q, k) = (
        bench.tensor(&heads, DType::F32)?,
        bench.tensor(&[1, 8, 64, 48], DType::F32)?,
    );
    let v = bench.tensor(&[1, 8, 64, 48], DType::F32)?;
    let flops = (4 * n * 64 * 8 * 48) as u64;
    bench.check(
        "attention",
        Limit::rounding(DType::F32, 64),
        &[&q, &k, &v],
        flops,
        |side| attention(&q.of(side), &k.of(side), &v.of(side)),
    )
}

fn maps(bench: &mut Bench<'_>) -> Result<()> {
    let ((h, w, c), dtype) = (MAP, DType::F32);
    let x = bench.tensor(&[1, h, w, c], dtype)?;
    // Sums of some hundred to a thousand products in F32, and Winograd's transformations, which lose two digits at most.
    let limit = Limit::rounding(dtype, 256);
    let size = (2 * h, 2 * w);
    let (columns, rows) = (
        bench.tensor(&[size.1, c / 2], dtype)?,
        bench.tensor(&[size.0, c / 2], dtype)?,
    );
    bench.check("bilinear", limit, &[&x, &columns, &rows], 0, |side| {
        let positions = Positions::new(columns.of(side), rows.of(side));
        bilinear_align_corners(&x.of(side), size, Some(&positions))
    })?;
    let bias = bench.tensor(&[c], dtype)?;
    let skip = bench.tensor(&[1, h, w, c], dtype)?;
    let weight = bench.tensor(&[c, c, 3, 3], dtype)?;
    let flops = (2 * h * w * c * c * 9) as u64;
    bench.check(
        "conv2d",
        limit,
        &[&x, &weight, &bias, &skip],
        flops,
        |side| {
            let conv = Conv2d::from_tensors(
                weight.of(side),
                bias.of(side),
                Conv2dConfig {
                    stride: 1,
                    padding: 1,
                },
            )?;
            let fusion = ConvFusion {
                relu_before: true,
                relu_after: true,
                skip_relu: Some(&skip.of(side)),
                skip: None,
            };
            conv.forward_fused(&x.of(side), fusion)
        },
    )?;
    let weight = bench.tensor(&[c, c, 2, 2], dtype)?;
    let flops = (2 * h * w * c * c * 4) as u64;
    bench.check(
        "conv_transpose2d",
        limit,
        &[&x, &weight, &bias],
        flops,
        |side| ConvTranspose2d::from_tensors(&weight.of(side), bias.of(side))?.forward(&x.of(side)),
    )
}

/// The version that is checked, or the one that is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Fast,
    Exact,
}

/// The same numbers on the device and, in F64, on the CPU.
struct Both {
    fast: Tensor,
    exact: Tensor,
}

impl Both {
    fn of(&self, side: Side) -> Tensor {
        match side {
            Side::Fast => self.fast.clone(),
            Side::Exact => self.exact.clone(),
        }
    }

    fn bytes(&self) -> u64 {
        bytes(&self.fast)
    }
}

fn bytes(t: &Tensor) -> u64 {
    (t.elem_count() * t.dtype().size_in_bytes()) as u64
}

/// How large an error may be.
#[derive(Debug, Clone, Copy)]
struct Limit(f64);

impl Limit {
    /// Some roundings to `dtype`, and what sums over a row lose in F32: a few more of its own.
    fn rounding(dtype: DType, times: u32) -> Self {
        let one = match dtype {
            DType::BF16 => 2f64.powi(-8),
            DType::F16 => 2f64.powi(-11),
            _ => 2f64.powi(-24),
        };
        Self(f64::from(times) * one + 64.0 * 2f64.powi(-24))
    }
}

struct Bench<'a> {
    device: &'a Device,
    seed: u64,
    done: Vec<OpCheck>,
}

impl Bench<'_> {
    /// Numbers near normal, the same in every run, rounded to `dtype`; matrices such that a product with them keeps the size
    /// of what it multiplies.
    fn tensor(&mut self, dims: &[usize], dtype: DType) -> Result<Both> {
        let count = dims.iter().product();
        let mut unit = || {
            // SplitMix64.
            self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.seed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
        };
        let numbers: Vec<f32> = (0..count)
            .map(|_| (0..12).map(|_| unit()).sum::<f32>() - 6.0)
            .collect();
        let rounded = Tensor::from_vec(numbers, dims, &Device::Cpu)?.to_dtype(dtype)?;
        Ok(Both {
            exact: rounded.to_dtype(DType::F64)?,
            fast: rounded.to_device(self.device)?,
        })
    }

    /// Runs `op` on both sides and notes how far they are apart.
    fn check(
        &mut self,
        name: &'static str,
        Limit(tolerance): Limit,
        read: &[&Both],
        flops: u64,
        op: impl Fn(Side) -> Result<Tensor>,
    ) -> Result<()> {
        let exact = op(Side::Exact)?;
        let mut fast = op(Side::Fast)?;
        let mut seconds = f64::INFINITY;
        for _ in 0..RUNS {
            self.device.synchronize()?;
            let start = Instant::now();
            fast = op(Side::Fast)?;
            self.device.synchronize()?;
            seconds = seconds.min(start.elapsed().as_secs_f64());
        }
        let all_read: u64 = read.iter().map(|both| both.bytes()).sum();
        self.done.push(OpCheck {
            name,
            error: error(&fast, &exact)?,
            tolerance,
            seconds,
            bytes: all_read + bytes(&fast),
            flops,
        });
        Ok(())
    }
}

/// The largest difference by the largest number.
fn error(fast: &Tensor, exact: &Tensor) -> Result<f64> {
    let numbers = |t: &Tensor| {
        let t = t.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        t.flatten_all()?.to_vec1::<f64>()
    };
    let (fast, exact) = (numbers(fast)?, numbers(exact)?);
    if fast.len() != exact.len() {
        return Ok(f64::NAN);
    }
    let largest = exact.iter().fold(f64::MIN_POSITIVE, |m, x| m.max(x.abs()));
    let differences = fast.iter().zip(&exact).map(|(a, b)| (a - b).abs());
    // Not by max, which passes over NaN.
    Ok(differences.fold(0.0, |m: f64, d| if d <= m { m } else { d }) / largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_passes_on_the_cpu() {
        let checks = run(&Device::Cpu, DType::F32).unwrap();
        assert_eq!(checks.len(), 11);
        for check in checks {
            assert!(check.passed(), "{check:?}");
            assert!(check.seconds > 0.0 && check.bytes > 0, "{check:?}");
        }
    }

    #[test]
    fn a_wrong_result_does_not_pass() {
        let device = Device::Cpu;
        let mut bench = Bench {
            device: &device,
            seed: 3,
            done: Vec::new(),
        };
        let x = bench.tensor(&[3, 5], DType::F32).unwrap();
        let limit = Limit::rounding(DType::F32, 1);
        let off = |by: f64| {
            move |x: Tensor, side| match side {
                Side::Exact => Ok(x),
                Side::Fast => x.affine(1.0, by),
            }
        };
        for (by, right) in [(0.0, true), (1e-3, false), (f64::NAN, false)] {
            bench
                .check("copy", limit, &[&x], 0, |side| off(by)(x.of(side), side))
                .unwrap();
            assert_eq!(bench.done.last().unwrap().passed(), right, "{by}");
        }
    }
}
