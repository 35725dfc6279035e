//! A transformer block. Port of vggt/layers/block.py, Block.

use candle_core::Tensor;

use super::{Attention, LayerScale, Mlp};
use crate::{
    error::Result,
    ops::{KeysValues, LayerNorm, PackedKeys, RopeTable},
    precision::Precision,
    weights::VarBuilder,
};

/// A pre-norm transformer block with scaled residuals: x + ls1(attn(norm1(x))), then x + ls2(mlp(norm2(x))).
#[derive(Debug)]
pub struct Block {
    norm1: LayerNorm,
    attn: Attention,
    ls1: LayerScale,
    norm2: LayerNorm,
    mlp: Mlp,
    ls2: LayerScale,
}

/// Dimensions of a block.
#[derive(Debug, Clone, Copy)]
pub struct BlockConfig {
    /// Channels `C`.
    pub dim: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Hidden width of the MLP, in `C`.
    pub mlp_ratio: f64,
    /// Whether q and k are normalized per head.
    pub qk_norm: bool,
    /// Epsilon of the two norms: 1e-6 in the DINOv2 trunk, 1e-5 elsewhere.
    pub eps: f32,
}

impl Block {
    /// Reads the block's parameters.
    ///
    /// # Errors
    /// When one is missing or misshapen.
    pub fn new(config: BlockConfig, vb: &VarBuilder) -> Result<Self> {
        let c = config.dim;
        // PyTorch: int(dim * mlp_ratio)
        let hidden = (c as f64 * config.mlp_ratio) as usize;
        Ok(Self {
            norm1: LayerNorm::new(c, config.eps, &vb.pp("norm1"))?,
            attn: Attention::new(c, config.num_heads, config.qk_norm, &vb.pp("attn"))?,
            ls1: LayerScale::new(c, &vb.pp("ls1"))?,
            norm2: LayerNorm::new(c, config.eps, &vb.pp("norm2"))?,
            mlp: Mlp::new(c, hidden, c, &vb.pp("mlp"))?,
            ls2: LayerScale::new(c, &vb.pp("ls2"))?,
        })
    }

    /// x [B, N, C] -> [B, N, C].
    ///
    /// # Errors
    /// When the shapes do not fit or the device fails.
    pub fn forward(&self, x: &Tensor, rope: Option<&RopeTable>) -> Result<Tensor> {
        let x = self.attn.forward(&self.norm1, x, rope, &self.ls1)?;
        Ok(self.mlp.forward_residual(&self.norm2, &x, &self.ls2)?)
    }

    /// The keys and values of x [1, N, C] in this block, for [`Block::forward_to`].
    ///
    /// # Errors
    /// When the shapes do not fit or the device fails.
    pub fn keys_values(&self, x: &Tensor, rope: Option<&RopeTable>) -> Result<KeysValues> {
        self.attn.keys_values(&self.norm1, x, rope)
    }

    /// As [`Block::forward`], attending to the keys and values of other tokens. x [1, M, C] -> [1, M, C].
    ///
    /// # Errors
    /// When the shapes do not fit or the device fails.
    pub fn forward_to(
        &self,
        x: &Tensor,
        rope: Option<&RopeTable>,
        keys: &PackedKeys,
    ) -> Result<Tensor> {
        let x = self
            .attn
            .forward_to(&self.norm1, x, rope, keys, &self.ls1)?;
        Ok(self.mlp.forward_residual(&self.norm2, &x, &self.ls2)?)
    }

    /// The queries of x [B, N, C] in this block, normalized and rotated. [B, heads, N, D]
    pub(crate) fn queries(&self, x: &Tensor, rope: Option<&RopeTable>) -> Result<Tensor> {
        self.attn.queries(&self.norm1, x, rope)
    }

    /// The keys of x [B, N, C] in this block, normalized and rotated. [B, heads, N, D]
    pub(crate) fn keys(&self, x: &Tensor, rope: Option<&RopeTable>) -> Result<Tensor> {
        self.attn.keys(&self.norm1, x, rope)
    }

    /// How the scores of the block's attention are multiplied.
    pub(crate) fn precision(&self) -> Precision {
        self.attn.precision()
    }
}
