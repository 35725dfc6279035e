//! Layer normalisation over the last dimension.

use candle_core::{DType, Result, Tensor};

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

    /// Normalises [..., C].
    ///
    /// # Errors
    /// When the shape does not fit or the device fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        candle_nn::ops::layer_norm(&x.contiguous()?, &self.weight, &self.bias, self.eps)
    }
}

/// Normalises [..., C] to mean 0 and variance 1, without a learned scale and shift.
///
/// # Errors
/// When the device fails.
pub fn layer_norm(x: &Tensor, eps: f32) -> Result<Tensor> {
    let c = x.dim(candle_core::D::Minus1)?;
    let one = Tensor::ones(c, DType::F32, x.device())?.to_dtype(x.dtype())?;
    candle_nn::ops::layer_norm(&x.contiguous()?, &one, &one.zeros_like()?, eps)
}
