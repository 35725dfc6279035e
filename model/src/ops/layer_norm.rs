//! Layer normalization over the last dimension.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor, bail};

#[cfg(feature = "cuda")]
use super::cuda;
use super::{
    backend::Backend,
    cpu::{self, layer_norm::Norm},
};
use crate::weights::VarBuilder;

/// LayerNorm with a learned scale and shift.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

impl LayerNorm {
    /// Reads `weight` and `bias`, both `[C]`.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn new(c: usize, eps: f32, vb: &VarBuilder) -> crate::Result<Self> {
        Ok(Self {
            weight: vb.get(c, "weight")?,
            bias: vb.get(c, "bias")?,
            eps,
        })
    }

    /// A norm with given parameters, both `[C]`.
    pub fn from_tensors(weight: Tensor, bias: Tensor, eps: f32) -> Self {
        Self { weight, bias, eps }
    }

    /// Normalizes [..., C].
    ///
    /// # Errors
    /// When the shape does not fit or the device fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.check(x.dim(D::Minus1)?)?;
        match Backend::of(x) {
            Some(backend) => x.contiguous()?.apply_op1_no_bwd(&Fused {
                norm: self,
                backend,
            }),
            None => self.reference(x),
        }
    }

    /// Refuses rows of other than the norm's channels, for every backend.
    pub(super) fn check(&self, c: usize) -> Result<()> {
        let (weight, bias) = (self.weight.elem_count(), self.bias.elem_count());
        if weight != c || bias != c || c == 0 {
            bail!("layer_norm expects {weight} channels, got {c}")
        }
        Ok(())
    }

    /// The reference implementation.
    // PyTorch: F.layer_norm(x, (C,), weight, bias, eps)
    pub(super) fn reference(&self, x: &Tensor) -> Result<Tensor> {
        let c = x.dim(D::Minus1)? as f64;
        let mean = (x.sum_keepdim(D::Minus1)? / c)?;
        let centered = x.broadcast_sub(&mean)?;
        let variance = (centered.sqr()?.sum_keepdim(D::Minus1)? / c)?;
        centered
            .broadcast_div(&(variance + f64::from(self.eps))?.sqrt()?)?
            .broadcast_mul(&self.weight)?
            .broadcast_add(&self.bias)
    }

    #[cfg(test)]
    pub(super) fn with_dtype(&self, dtype: DType) -> Result<Self> {
        let to = |t: &Tensor| t.to_dtype(dtype);
        Ok(Self::from_tensors(
            to(&self.weight)?,
            to(&self.bias)?,
            self.eps,
        ))
    }

    /// Borrows the parameters for the CPU.
    pub(super) fn slices(&self) -> Result<NormSlices<'_>> {
        Ok(NormSlices {
            weight: cpu::slice_of(&self.weight)?,
            bias: cpu::slice_of(&self.bias)?,
            eps: self.eps,
        })
    }

    /// Returns the parameters for CUDA.
    #[cfg(feature = "cuda")]
    pub(super) fn tensors(&self) -> cuda::run::Norm<'_> {
        cuda::run::Norm {
            weight: &self.weight,
            bias: &self.bias,
            eps: self.eps,
        }
    }
}

/// The parameters of a norm on the CPU, kept from being written while this lives.
pub(super) struct NormSlices<'a> {
    weight: cpu::Slice<'a>,
    bias: cpu::Slice<'a>,
    eps: f32,
}

impl NormSlices<'_> {
    /// Returns them as the CPU implementations take them.
    pub(super) fn parameters(&self) -> Norm<'_> {
        Norm {
            weight: &self.weight,
            bias: &self.bias,
            eps: self.eps,
        }
    }
}

/// Normalizes [..., C] to mean 0 and variance 1, without a learned scale and shift.
///
/// # Errors
/// When the device fails.
pub fn layer_norm(x: &Tensor, eps: f32) -> Result<Tensor> {
    let c = x.dim(D::Minus1)?;
    let one = Tensor::ones(c, DType::F32, x.device())?.to_dtype(x.dtype())?;
    let bias = one.zeros_like()?;
    LayerNorm::from_tensors(one, bias, eps).forward(x)
}

/// A norm on a backend. Its operands were checked.
struct Fused<'a> {
    norm: &'a LayerNorm,
    backend: Backend,
}

impl CustomOp1 for Fused<'_> {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = cpu::contiguous(storage, layout)?;
        let norm = self.norm.slices()?;
        let out = cpu::layer_norm::layer_norm(self.backend.isa()?, x, norm.parameters())?;
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let out = self.norm.tensors().run(x, layout)?;
        Ok((out, layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cpu::Isa;
    use crate::ops::testing::{random, relative_error};

    #[test]
    fn every_instruction_set_is_the_reference() {
        for (rows, c) in [(0, 4), (1, 1), (3, 5), (17, 64), (40, 1027)] {
            let x = (random(&[2, rows, c]) + 3.0).unwrap();
            let norm = LayerNorm::from_tensors(random(&[c]), random(&[c]), 1e-5);
            let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
            let exact = LayerNorm::from_tensors(wide(&norm.weight), wide(&norm.bias), 1e-5)
                .reference(&wide(&x))
                .unwrap();
            for isa in Isa::all() {
                let ours = x
                    .apply_op1_no_bwd(&Fused {
                        norm: &norm,
                        backend: Backend::Cpu(isa),
                    })
                    .unwrap();
                let error = relative_error(&ours, &exact);
                assert!(error < 2e-6, "{} {rows} {c}: {error:e}", isa.name());
            }
        }
    }

    #[test]
    fn other_channels_are_refused() {
        let norm = LayerNorm::from_tensors(random(&[4]), random(&[4]), 1e-5);
        assert!(norm.forward(&random(&[2, 5])).is_err());
    }
}
