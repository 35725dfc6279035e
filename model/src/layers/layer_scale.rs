//! A learned factor for each channel. Port of vggt/layers/layer_scale.py.

use candle_core::{Result, Tensor};

use crate::weights::VarBuilder;

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

    /// [..., C] -> [..., C].
    ///
    /// # Errors
    /// When the shape does not fit or the device fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.broadcast_mul(&self.gamma)
    }
}
