//! `vggt doctor`: whether this machine computes what it should, and how fast.

use std::{fmt::Write as _, path::Path};

use anyhow::{Context as _, bail};
use candle_core::Device;
use serde_json::{Value, json};
use vggt_model::{
    Isa, demo, measured_peak,
    ops::{
        check::{self, OpCheck},
        cuda::work::{Card, OpWork, Unit},
    },
    weights::Weights,
};

use super::model_args::ModelArgs;
use crate::{hub, pipeline::transformer_dtype};

/// Runs every operation of the network on the device at hand against its plain version, in double precision on the CPU,
/// and holds the weights to the hash they should have.
///
/// Exit code 0 when all is well, 1 when something is not. Downloads nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
}

/// Prints what was found.
///
/// # Errors
/// When the device cannot be used, an operation is wrong or the weights are not what they should be.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    args.model.set_threads()?;
    let device = args.model.device.open()?;
    let dtype = transformer_dtype(args.model.dtype, &device)?;
    let found = Findings {
        machine: Machine::of(&device),
        dtype: dtype.as_str(),
        operations: check::run(&device, dtype).context("cannot check the operations")?,
        weights: WeightsState::find(&args.model)?,
    };
    if args.json {
        println!("{}", found.json());
    } else {
        print!("{}", found.table());
    }
    found.verdict()
}

/// What computes.
enum Machine {
    Cpu {
        /// As `VGGT_CPU` spells it; `plain` without a set of its own.
        instructions: &'static str,
        /// f32 operations a second of all threads, where there are vectors.
        peak: Option<f64>,
    },
    Cuda,
}

impl Machine {
    fn of(device: &Device) -> Self {
        if !device.is_cpu() {
            return Self::Cuda;
        }
        let isa = Isa::best();
        Self::Cpu {
            instructions: isa.map_or("plain", Isa::name),
            peak: isa.map(measured_peak),
        }
    }

    /// Seconds that an operation should take on paper: by this processor's multiply-adds, or by the table of
    /// `model/kernels/README.md`, which is for an H100. `None` where nothing is known.
    fn expected(&self, op: &OpCheck) -> Option<f64> {
        match self {
            Self::Cpu { peak, .. } => peak
                .filter(|_| op.flops > 0)
                .map(|peak| op.flops as f64 / peak),
            Self::Cuda => Some(Card::H100.seconds(&OpWork {
                name: op.name,
                ours: true,
                unit: if op.flops > 0 {
                    Unit::Product
                } else {
                    Unit::Memory
                },
                calls: 1,
                bytes: op.bytes,
                flops: op.flops,
            })),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Cpu { .. } => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// What is known of the weights.
#[derive(Debug, PartialEq, Eq)]
enum WeightsState {
    /// Those inside the program.
    Bundled,
    /// None on this machine.
    Absent(String),
    /// A file.
    File {
        path: String,
        sha256: String,
        /// What the hub said when it was downloaded; `None` for files from elsewhere.
        expected: Option<String>,
    },
}

impl WeightsState {
    /// Looks where `vggt export` looks, but never asks the network.
    fn find(model: &ModelArgs) -> anyhow::Result<Self> {
        if model.demo {
            demo::weights().context("the bundled weights cannot be read")?;
            return Ok(Self::Bundled);
        }
        let mut settings = model.hub()?;
        settings.offline = true;
        let explicit = model.checkpoint.as_deref();
        let path = match hub::find_weights(explicit, Path::new("."), &settings, &mut |_, _, _| true)
        {
            Ok(path) => path,
            Err(e) => return Ok(Self::Absent(e.to_string())),
        };
        Ok(Self::File {
            sha256: Weights::open(&path)?.sha256()?,
            expected: hub::known_sha256(&path, &settings),
            path: path.display().to_string(),
        })
    }

    fn is_damaged(&self) -> bool {
        matches!(self, Self::File { sha256, expected: Some(expected), .. } if sha256 != expected)
    }
}

/// All of it.
struct Findings {
    machine: Machine,
    dtype: &'static str,
    operations: Vec<OpCheck>,
    weights: WeightsState,
}

impl Findings {
    /// # Errors
    /// When anything is wrong: what.
    fn verdict(&self) -> anyhow::Result<()> {
        let wrong: Vec<&str> = (self.operations.iter())
            .filter(|op| !op.passed())
            .map(|op| op.name)
            .collect();
        if !wrong.is_empty() {
            bail!(
                "{} of {} operations are wrong on this device: {}. Results of it cannot be trusted; --device cpu or \
                 VGGT_CPU=plain may be right",
                wrong.len(),
                self.operations.len(),
                wrong.join(", ")
            )
        }
        if self.weights.is_damaged() {
            bail!("the weights are not what the hub named: delete the file and fetch it again")
        }
        Ok(())
    }

    fn table(&self) -> String {
        let mut text = String::new();
        let paper = match &self.machine {
            Machine::Cpu { instructions, peak } => {
                let _ = write!(text, "device   cpu, {instructions}");
                if let Some(peak) = peak {
                    let _ = write!(text, ", {:.0} GFLOP/s at most", peak / 1e9);
                }
                "of peak"
            }
            Machine::Cuda => {
                text.push_str("device   cuda");
                "of H100"
            }
        };
        let _ = writeln!(text, "\ntype     {}\n", self.dtype);
        let _ = writeln!(
            text,
            "{:<42} {:>9} {:>9} {:>9} {:>8} {:>9} {:>8}",
            "operation", "error", "allowed", "ms", "GB/s", "GFLOP/s", paper
        );
        for op in &self.operations {
            let number = |x: f64| {
                if x > 0.0 {
                    format!("{x:.1}")
                } else {
                    "-".to_owned()
                }
            };
            let share = self.machine.expected(op).map_or_else(
                || "-".to_owned(),
                |expected| format!("{:.0} %", 100.0 * expected / op.seconds),
            );
            let _ = writeln!(
                text,
                "{:<42} {:>9.1e} {:>9.1e} {:>9.3} {:>8} {:>9} {:>8}  {}",
                op.name,
                op.error,
                op.tolerance,
                1e3 * op.seconds,
                number(op.bytes as f64 / op.seconds / 1e9),
                number(op.flops as f64 / op.seconds / 1e9),
                share,
                if op.passed() { "ok" } else { "WRONG" }
            );
        }
        text.push('\n');
        let _ = match &self.weights {
            WeightsState::Bundled => writeln!(text, "weights  the bundled ones"),
            WeightsState::Absent(why) => writeln!(text, "weights  none here: {why}"),
            WeightsState::File {
                path,
                sha256,
                expected,
            } => {
                let says = match expected {
                    Some(expected) if expected == sha256 => "as the hub named it",
                    Some(_) => "NOT what the hub named",
                    None => "not from the hub: what it should be is not known here",
                };
                writeln!(text, "weights  {path}\nsha256   {sha256}, {says}")
            }
        };
        text
    }

    fn json(&self) -> Value {
        let operations: Vec<Value> = (self.operations.iter())
            .map(|op| {
                json!({
                    "name": op.name,
                    "error": op.error,
                    "tolerance": op.tolerance,
                    "seconds": op.seconds,
                    "bytes": op.bytes,
                    "flops": op.flops,
                    "expected_seconds": self.machine.expected(op),
                    "passed": op.passed(),
                })
            })
            .collect();
        let weights = match &self.weights {
            WeightsState::Bundled => json!({ "name": "demo" }),
            WeightsState::Absent(why) => json!({ "missing": why }),
            WeightsState::File {
                path,
                sha256,
                expected,
            } => json!({ "path": path, "sha256": sha256, "expected_sha256": expected }),
        };
        let mut report = json!({
            "device": self.machine.name(),
            "dtype": self.dtype,
            "operations": operations,
            "weights": weights,
            "passed": self.verdict().is_ok(),
        });
        if let Machine::Cpu { instructions, peak } = &self.machine {
            report["instructions"] = json!(instructions);
            report["peak_flop_per_s"] = json!(peak);
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(name: &'static str, error: f64) -> OpCheck {
        OpCheck {
            name,
            error,
            tolerance: 1e-6,
            seconds: 2e-3,
            bytes: 1 << 20,
            flops: 1 << 30,
        }
    }

    fn findings(operations: Vec<OpCheck>, weights: WeightsState) -> Findings {
        Findings {
            machine: Machine::Cuda,
            dtype: "bf16",
            operations,
            weights,
        }
    }

    #[test]
    fn a_wrong_operation_is_named() {
        for error in [1e-3, f64::NAN] {
            let operations = vec![op("good", 1e-7), op("bad", error)];
            let found = findings(operations, WeightsState::Bundled);
            let e = found.verdict().unwrap_err().to_string();
            assert!(
                e.starts_with("1 of 2 operations are wrong on this device: bad."),
                "{e}"
            );
            assert!(found.table().contains("WRONG"));
            assert_eq!(found.json()["passed"], false);
        }
    }

    #[test]
    fn only_a_hash_that_is_known_can_be_wrong() {
        let file = |expected: Option<&str>| WeightsState::File {
            path: "model.pt".to_owned(),
            sha256: "aa".to_owned(),
            expected: expected.map(str::to_owned),
        };
        for (expected, good) in [(None, true), (Some("aa"), true), (Some("bb"), false)] {
            let found = findings(vec![op("good", 0.0)], file(expected));
            assert_eq!(found.verdict().is_ok(), good, "{expected:?}");
        }
    }
}
