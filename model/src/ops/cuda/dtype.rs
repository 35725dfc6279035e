//! The type a card computes in.

use candle_core::{DType, Device, Result};

use super::ComputeCapability;

/// The compute capability from which on tensor cores take BF16. Origin: CUDA's programming guide, Ampere.
const BF16: ComputeCapability = ComputeCapability::new(8, 0);

/// The type of the transformer on a card of this compute capability when nobody asks for one: BF16, which has the range of
/// F32, and F16 on cards whose tensor cores know nothing else, or when candle's kernels were compiled for such cards
/// (`candle`, if known), since these have no BF16.
pub fn of_capability(card: ComputeCapability, candle: Option<ComputeCapability>) -> DType {
    if candle.map_or(card, |candle| candle.min(card)) >= BF16 {
        DType::BF16
    } else {
        DType::F16
    }
}

/// The type of the transformer on `device` when nobody asks for one: F32 on the CPU, on CUDA by the card. The heads are F32
/// everywhere.
///
/// # Errors
/// When the card does not say what it is.
pub fn default_dtype(device: &Device) -> Result<DType> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => Ok(of_capability(
            super::device::capability(device)?,
            super::target::of_candle(),
        )),
        _ => Ok(DType::F32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_cards_compute_in_f16() {
        for ((major, minor), dtype) in [
            ((6, 1), DType::F16),
            ((7, 5), DType::F16),
            ((8, 0), DType::BF16),
            ((8, 9), DType::BF16),
            ((9, 0), DType::BF16),
            ((12, 0), DType::BF16),
        ] {
            let card = ComputeCapability::new(major, minor);
            let turing = ComputeCapability::new(7, 5);
            assert_eq!(of_capability(card, None), dtype);
            assert_eq!(of_capability(card, Some(BF16)), dtype);
            assert_eq!(of_capability(card, Some(turing)), DType::F16);
        }
        assert_eq!(default_dtype(&Device::Cpu).unwrap(), DType::F32);
    }
}
