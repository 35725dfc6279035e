//! Which implementation of an operation runs.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::cpu::Isa;

/// An implementation that is faster than the reference implementation.
#[derive(Debug, Clone, Copy)]
pub(super) enum Backend {
    /// The CPU's, on this instruction set.
    Cpu(Isa),
    /// The kernels of `model/kernels`.
    Cuda,
}

impl Backend {
    /// Returns the backend for `x`; `None` where the reference implementation runs.
    pub(super) fn of(x: &Tensor) -> Option<Self> {
        match (x.device(), x.dtype()) {
            (Device::Cpu, DType::F32) => Isa::best().map(Self::Cpu),
            (Device::Cuda(_), DType::F32 | DType::F16 | DType::BF16) if cfg!(feature = "cuda") => {
                Some(Self::Cuda)
            }
            _ => None,
        }
    }

    /// Returns the instruction set.
    ///
    /// # Errors
    /// When this is not a backend of the CPU.
    pub(super) fn isa(self) -> Result<Isa> {
        match self {
            Self::Cpu(isa) => Ok(isa),
            Self::Cuda => bail!("an operation for CUDA got a tensor on the CPU"),
        }
    }
}
