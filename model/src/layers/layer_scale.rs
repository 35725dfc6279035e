//! A learned factor for each channel. Port of vggt/layers/layer_scale.py.

use candle_core::Tensor;

use crate::{ops::Epilogue, weights::VarBuilder};

/// Scales each channel of a residual branch.
#[derive(Debug)]
pub struct LayerScale {
    gamma: Tensor,
}

impl LayerScale {
    /// Reads `gamma` `[C]`.
    ///
    /// # Errors
    /// When it is missing or misshapen.
    pub fn new(c: usize, vb: &VarBuilder) -> crate::Result<Self> {
        Ok(Self {
            gamma: vb.get(c, "gamma")?,
        })
    }

    /// A scale of given factors, `[C]`.
    pub fn from_tensor(gamma: Tensor) -> Self {
        Self { gamma }
    }

    /// How the last layer of a branch ends: residual + gamma y, with residual [..., C].
    pub fn residual<'a>(&'a self, residual: &'a Tensor) -> Epilogue<'a> {
        Epilogue::Residual {
            gamma: &self.gamma,
            residual,
        }
    }
}
