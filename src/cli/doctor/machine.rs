//! What computes, and how fast it could be.

use anyhow::Context as _;
use candle_core::Device;
use serde_json::{Value, json};
use vggt_model::{
    Isa, Precision,
    cost::{Card, OpWork, Unit},
    cuda::{self, CudaError},
    measured_peak,
};

use crate::pipeline::{DeviceChoice, OpenedDevice};

/// What computes.
pub(super) enum Machine {
    Cpu {
        /// As `VGGT_CPU` spells it; `plain` without a set of its own.
        instructions: &'static str,
        /// F32 operations a second of all threads, where there are vectors.
        peak: Option<f64>,
        /// The instruction that `--precision fast` multiplies with, and its operations a second.
        fast: Option<(&'static str, f64)>,
    },
    Cuda(cuda::Description),
}

impl Machine {
    pub(super) fn of(device: &Device) -> anyhow::Result<Self> {
        let card = cuda::describe(device).context("cannot ask what the device is")?;
        Ok(match card {
            Some(card) => Self::Cuda(card),
            None => {
                let isa = Isa::best();
                Self::Cpu {
                    instructions: isa.map_or("plain", Isa::name),
                    peak: isa.map(|isa| measured_peak(isa, Precision::Exact)),
                    fast: isa.map(|isa| {
                        let peak = measured_peak(isa, Precision::Fast);
                        (isa.instruction(Precision::Fast), peak)
                    }),
                }
            }
        })
    }

    /// Part of the time in which the work could be done at best, and of what limit: of this processor's multiply-adds, or of
    /// an H100's data sheet. `None` where nothing is known.
    pub(super) fn share(&self, work: &OpWork, seconds: f64) -> Option<(f64, &'static str)> {
        match self {
            Self::Cpu { peak, .. } => {
                let peak = peak.filter(|_| work.flops > 0)?;
                Some((work.flops as f64 / peak / seconds, "f32"))
            }
            Self::Cuda(_) => {
                let card = Card::H100;
                let least = card.least_seconds(work);
                let of_memory = work.bytes as f64 / card.bandwidth;
                let limit = match work.unit {
                    _ if of_memory >= least => "memory",
                    Unit::Memory => "memory",
                    Unit::Product | Unit::Attention => "tensor",
                    Unit::ProductF32 => "f32",
                };
                Some((least / seconds, limit))
            }
        }
    }

    /// The line of the table that says what computes.
    pub(super) fn line(&self) -> String {
        match self {
            Self::Cpu {
                instructions,
                peak,
                fast,
            } => {
                let mut line = format!("cpu, {instructions}");
                if let Some(peak) = peak {
                    line += &format!(", {:.0} GFLOP/s in f32 at most", peak / 1e9);
                }
                if let Some((instruction, peak)) = fast {
                    let peak = peak / 1e9;
                    line +=
                        &format!(",\n         {peak:.0} with {instruction} for --precision fast");
                }
                line
            }
            Self::Cuda(card) => {
                let capability = card.capability;
                let gib = card.memory_bytes as f64 / f64::from(1u32 << 30);
                let name = &card.name;
                format!("cuda, {name}, compute capability {capability}, {gib:.1} GiB")
            }
        }
    }

    /// What the shares in the table refer to.
    pub(super) fn shares_are_of(&self) -> String {
        match self {
            Self::Cpu { .. } => "of the most that this processor was seen to do".to_owned(),
            Self::Cuda(card) => {
                let other = if card.name.contains("H100") {
                    ""
                } else {
                    ", which this card is not"
                };
                let h100 = Card::H100;
                format!(
                    "of an H100 SXM's data sheet{other}:\n\
                     \x20        {:.2} TB/s, {:.0} TFLOP/s in 16 bits (tensor), {:.0} in f32",
                    h100.bandwidth / 1e12,
                    h100.peak / 1e12,
                    h100.peak_f32 / 1e12,
                )
            }
        }
    }

    /// Adds what is known of it to a report.
    pub(super) fn describe(&self, report: &mut Value) {
        match self {
            Self::Cpu {
                instructions,
                peak,
                fast,
            } => {
                report["device"] = json!("cpu");
                report["instructions"] = json!(instructions);
                report["peak_flop_per_s"] = json!(peak);
                report["fast_instruction"] = json!(fast.map(|(instruction, _)| instruction));
                report["fast_peak_op_per_s"] = json!(fast.map(|(_, peak)| peak));
            }
            Self::Cuda(card) => {
                let capability = card.capability;
                report["device"] = json!("cuda");
                report["card"] = json!(card.name);
                report["compute_capability"] = json!(capability.to_string());
                report["memory_bytes"] = json!(card.memory_bytes);
            }
        }
    }
}

/// Which device was asked for, and why it is another.
pub(super) struct Choice {
    pub(super) asked: DeviceChoice,
    /// Why `auto` took the CPU.
    pub(super) fallback: Option<CudaError>,
}

impl Choice {
    pub(super) fn new(asked: DeviceChoice, opened: &OpenedDevice) -> Self {
        Self {
            asked,
            fallback: opened.fallback.clone(),
        }
    }

    /// Why CUDA could not be used where it should have been: the program has it and there is a driver. A machine without
    /// either is no fault.
    pub(super) fn fault(&self) -> Option<&CudaError> {
        let why = self.fallback.as_ref()?;
        let absent = matches!(why, CudaError::NotBuilt | CudaError::NoDriver(_));
        (!absent).then_some(why)
    }
}

#[cfg(test)]
mod tests {
    use vggt_model::cuda::ComputeCapability;

    use super::*;

    fn card(name: &str) -> Machine {
        Machine::Cuda(cuda::Description {
            name: name.to_owned(),
            capability: ComputeCapability::new(9, 0),
            memory_bytes: 80 << 30,
        })
    }

    fn work(unit: Unit, bytes: u64, flops: u64) -> OpWork {
        OpWork {
            name: "an operation",
            ours: true,
            unit,
            calls: 1,
            bytes,
            flops,
            instructions: 0,
        }
    }

    #[test]
    fn every_operation_is_held_to_its_own_limit() {
        let h100 = card("NVIDIA H100 80GB HBM3");
        for (unit, bytes, flops, seconds, limit) in [
            (Unit::Product, 1000, 990_000_000_000, 2e-3, "tensor"),
            (Unit::Attention, 1000, 990_000_000_000, 2e-3, "tensor"),
            (Unit::ProductF32, 1000, 67_000_000_000, 2e-3, "f32"),
            (Unit::Memory, 3_350_000_000, 0, 2e-3, "memory"),
            // A product so small that its bytes count.
            (Unit::Product, 3_350_000_000, 1000, 2e-3, "memory"),
        ] {
            let (share, of) = h100.share(&work(unit, bytes, flops), seconds).unwrap();
            assert!((share - 0.5).abs() < 1e-6, "{unit:?}: {share}");
            assert_eq!(of, limit, "{unit:?}");
        }
        let cpu = Machine::Cpu {
            instructions: "avx2",
            peak: Some(1e11),
            fast: None,
        };
        let (share, _) = cpu
            .share(&work(Unit::Product, 0, 50_000_000_000), 1.0)
            .unwrap();
        assert!((share - 0.5).abs() < 1e-9);
        assert!(cpu.share(&work(Unit::Memory, 1 << 20, 0), 1.0).is_none());
    }

    #[test]
    fn shares_of_another_card_say_so() {
        assert!(
            !card("NVIDIA H100 80GB HBM3")
                .shares_are_of()
                .contains("not")
        );
        let other = card("NVIDIA A10").shares_are_of();
        assert!(
            other.contains("H100 SXM's data sheet, which this card is not"),
            "{other}"
        );
    }

    #[test]
    fn only_a_driver_that_cannot_be_used_is_a_fault() {
        let choice = |fallback| Choice {
            asked: DeviceChoice::Auto,
            fallback,
        };
        assert!(choice(None).fault().is_none());
        assert!(choice(Some(CudaError::NotBuilt)).fault().is_none());
        let none = CudaError::NoDriver("libcuda.so.1".to_owned());
        assert!(choice(Some(none)).fault().is_none());
        for fault in [
            CudaError::NoDevice {
                ordinal: 0,
                count: 0,
            },
            CudaError::OldDriver {
                driver: 11070,
                needed: 13000,
            },
            CudaError::NoLibrary(13, "libcublas.so.13".to_owned()),
            CudaError::Failed("out of memory".to_owned()),
        ] {
            assert!(choice(Some(fault)).fault().is_some());
        }
    }
}
