//! Which version of an operation runs.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::cpu::Isa;

/// A version beside the plain one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Version {
    /// The CPU's, on this instruction set.
    Cpu(Isa),
    /// The kernels of `model/kernels`.
    Cuda,
}

impl Version {
    /// The one for `x`; `None` where the plain version runs.
    pub(super) fn of(x: &Tensor) -> Option<Self> {
        match (x.device(), x.dtype()) {
            (Device::Cpu, DType::F32) => Isa::best().map(Self::Cpu),
            (Device::Cuda(_), DType::F32 | DType::F16 | DType::BF16) if cfg!(feature = "cuda") => {
                Some(Self::Cuda)
            }
            _ => None,
        }
    }

    /// The instruction set.
    ///
    /// # Errors
    /// When this is no version of the CPU's.
    pub(super) fn isa(self) -> Result<Isa> {
        match self {
            Self::Cpu(isa) => Ok(isa),
            Self::Cuda => bail!("an operation for CUDA got a tensor of the CPU"),
        }
    }
}
