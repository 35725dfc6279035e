//! `vggt doctor`: whether this machine computes what it should, and how fast.

use std::{fmt::Write as _, path::Path};

use anyhow::{Context as _, bail};
use candle_core::Device;
use serde_json::{Value, json};
use vggt_model::{
    Isa,
    cost::{Card, OpWork, Unit},
    cuda, demo, measured_peak,
    ops::check::{self, OpCheck},
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
        machine: Machine::of(&device)?,
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
    Cuda(cuda::Description),
}

impl Machine {
    fn of(device: &Device) -> anyhow::Result<Self> {
        let card = cuda::describe(device).context("cannot ask what the device is")?;
        Ok(match card {
            Some(card) => Self::Cuda(card),
            None => {
                let isa = Isa::best();
                Self::Cpu {
                    instructions: isa.map_or("plain", Isa::name),
                    peak: isa.map(measured_peak),
                }
            }
        })
    }

    /// Seconds that an operation should take on paper: by this processor's multiply-adds, or by the table of
    /// `model/kernels/README.md`, which is for an H100. `None` where nothing is known.
    fn expected(&self, op: &OpCheck) -> Option<f64> {
        match self {
            Self::Cpu { peak, .. } => peak
                .filter(|_| op.flops > 0)
                .map(|peak| op.flops as f64 / peak),
            Self::Cuda(_) => Some(Card::H100.seconds(&OpWork {
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
                instructions: 0,
            })),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Cpu { .. } => "cpu",
            Self::Cuda(_) => "cuda",
        }
    }
}

/// What is known of the weights.
#[derive(Debug, PartialEq, Eq)]
enum WeightsState {
    /// None on this machine.
    Absent(String),
    /// Those inside the program.
    Bundled { sha256: String },
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
            let weights = demo::weights().context("the bundled weights cannot be read")?;
            return Ok(Self::Bundled {
                sha256: weights.sha256()?,
            });
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

    /// What is wrong with them, and what to do.
    fn damage(&self) -> Option<&'static str> {
        match self {
            Self::Bundled { sha256 } if sha256 != demo::WEIGHTS_SHA256 => Some(
                "the weights inside this program are not those it was built with: its file is damaged, install it again",
            ),
            Self::File {
                sha256,
                expected: Some(expected),
                ..
            } if sha256 != expected => {
                Some("the weights are not what the hub named: delete the file and fetch it again")
            }
            _ => None,
        }
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
        match self.weights.damage() {
            Some(damage) => bail!(damage),
            None => Ok(()),
        }
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
            Machine::Cuda(card) => {
                let capability = card.capability;
                let gib = card.memory_bytes as f64 / f64::from(1u32 << 30);
                let name = &card.name;
                let _ = write!(
                    text,
                    "device   cuda, {name}, compute capability {capability}, {gib:.1} GiB"
                );
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
            WeightsState::Bundled { sha256 } => {
                let says = match self.weights.damage() {
                    Some(_) => "NOT what they were",
                    None => "as they were built in",
                };
                writeln!(text, "weights  the bundled ones\nsha256   {sha256}, {says}")
            }
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
                    "bytes_per_s": op.bytes as f64 / op.seconds,
                    "flop_per_s": op.flops as f64 / op.seconds,
                    "expected_seconds": self.machine.expected(op),
                    "passed": op.passed(),
                })
            })
            .collect();
        let weights = match &self.weights {
            WeightsState::Bundled { sha256 } => json!({
                "name": demo::WEIGHTS_NAME,
                "sha256": sha256,
                "expected_sha256": demo::WEIGHTS_SHA256,
            }),
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
        match &self.machine {
            Machine::Cpu { instructions, peak } => {
                report["instructions"] = json!(instructions);
                report["peak_flop_per_s"] = json!(peak);
            }
            Machine::Cuda(card) => {
                report["card"] = json!(card.name);
                report["compute_capability"] = json!(card.capability.to_string());
                report["memory_bytes"] = json!(card.memory_bytes);
            }
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
            machine: Machine::Cuda(cuda::Description {
                name: "NVIDIA A10".to_owned(),
                capability: cuda::ComputeCapability::new(8, 6),
                memory_bytes: 24 << 30,
            }),
            dtype: "bf16",
            operations,
            weights,
        }
    }

    fn bundled(sha256: &str) -> WeightsState {
        WeightsState::Bundled {
            sha256: sha256.to_owned(),
        }
    }

    #[test]
    fn a_card_is_named() {
        let found = findings(vec![op("good", 0.0)], bundled(demo::WEIGHTS_SHA256));
        let table = found.table();
        let line = "device   cuda, NVIDIA A10, compute capability 8.6, 24.0 GiB\n";
        assert!(table.starts_with(line), "{table}");
        let json = found.json();
        assert_eq!(json["card"], "NVIDIA A10");
        assert_eq!(json["compute_capability"], "8.6");
        let speed = json["operations"][0]["flop_per_s"].as_f64().unwrap();
        assert!((speed / (f64::from(1u32 << 30) / 2e-3) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_damaged_program_is_no_sound_machine() {
        let found = findings(vec![op("good", 0.0)], bundled("aa"));
        let e = found.verdict().unwrap_err().to_string();
        assert!(e.contains("install it again"), "{e}");
        assert!(found.table().contains("aa, NOT what they were"));
        assert_eq!(found.json()["passed"], false);
    }

    #[test]
    fn a_wrong_operation_is_named() {
        for error in [1e-3, f64::NAN] {
            let operations = vec![op("good", 1e-7), op("bad", error)];
            let found = findings(operations, bundled(demo::WEIGHTS_SHA256));
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
