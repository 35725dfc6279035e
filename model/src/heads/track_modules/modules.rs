//! Attention blocks of the tracker. Port of vggt/heads/track_modules/modules.py.

use candle_core::{D, Result, Tensor};

use crate::{
    layers::Mlp,
    ops::{self, LayerNorm, Linear},
    weights::VarBuilder,
};

/// Of the tracker's norms.
pub(super) const EPS: f32 = 1e-5;

/// Hidden width of the MLPs, in channels.
const MLP_RATIO: usize = 4;

/// Attention with separate queries and context.
// PyTorch: nn.MultiheadAttention(batch_first=True)
#[derive(Debug)]
struct MultiheadAttention {
    q: Linear,
    kv: Linear,
    out_proj: Linear,
    num_heads: usize,
}

impl MultiheadAttention {
    fn new(c: usize, num_heads: usize, vb: &VarBuilder) -> crate::Result<Self> {
        let in_proj = Linear::named(c, 3 * c, ("in_proj_weight", "in_proj_bias"), vb)?;
        Ok(Self {
            q: in_proj.narrow(0, c)?,
            kv: in_proj.narrow(c, 2 * c)?,
            out_proj: Linear::new(c, c, &vb.pp("out_proj"))?,
            num_heads,
        })
    }

    /// x [B, M, C], context [B, N, C] -> [B, M, C]
    fn forward(&self, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        let (b, _, c) = x.dims3()?;
        let heads = |t: Tensor| {
            let n = t.dim(1)?;
            t.reshape((b, n, self.num_heads, c / self.num_heads))?
                .transpose(1, 2)?
                .contiguous()
        };
        let kv = self.kv.forward(context)?;
        let q = heads(self.q.forward(x)?)?;
        let k = heads(kv.narrow(D::Minus1, 0, c)?)?;
        let v = heads(kv.narrow(D::Minus1, c, c)?)?;
        self.out_proj.forward(&ops::attention(&q, &k, &v)?)
    }
}

/// Self-attention block.
#[derive(Debug)]
pub(super) struct AttnBlock {
    norm1: LayerNorm,
    attn: MultiheadAttention,
    norm2: LayerNorm,
    mlp: Mlp,
}

impl AttnBlock {
    /// Reads the block's parameters.
    ///
    /// # Errors
    /// When one is missing or misshapen.
    pub(super) fn new(c: usize, num_heads: usize, vb: &VarBuilder) -> crate::Result<Self> {
        Ok(Self {
            norm1: LayerNorm::new(c, EPS, &vb.pp("norm1"))?,
            attn: MultiheadAttention::new(c, num_heads, &vb.pp("attn"))?,
            norm2: LayerNorm::new(c, EPS, &vb.pp("norm2"))?,
            mlp: Mlp::new(c, MLP_RATIO * c, c, &vb.pp("mlp"))?,
        })
    }

    /// [B, N, C] -> [B, N, C]
    ///
    /// # Errors
    /// When the device fails.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        // As upstream has it, the residual starts from the normalized tokens.
        let x = self.norm1.forward(x)?;
        let x = (&x + self.attn.forward(&x, &x)?)?;
        &x + self.mlp.forward(&self.norm2.forward(&x)?)?
    }
}

/// Cross-attention block.
#[derive(Debug)]
pub(super) struct CrossAttnBlock {
    norm1: LayerNorm,
    norm_context: LayerNorm,
    cross_attn: MultiheadAttention,
    norm2: LayerNorm,
    mlp: Mlp,
}

impl CrossAttnBlock {
    /// Reads the block's parameters.
    ///
    /// # Errors
    /// When one is missing or misshapen.
    pub(super) fn new(c: usize, num_heads: usize, vb: &VarBuilder) -> crate::Result<Self> {
        Ok(Self {
            norm1: LayerNorm::new(c, EPS, &vb.pp("norm1"))?,
            norm_context: LayerNorm::new(c, EPS, &vb.pp("norm_context"))?,
            cross_attn: MultiheadAttention::new(c, num_heads, &vb.pp("cross_attn"))?,
            norm2: LayerNorm::new(c, EPS, &vb.pp("norm2"))?,
            mlp: Mlp::new(c, MLP_RATIO * c, c, &vb.pp("mlp"))?,
        })
    }

    /// x [B, M, C], context [B, N, C] -> [B, M, C]
    ///
    /// # Errors
    /// When the device fails.
    pub(super) fn forward(&self, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        let x = self.norm1.forward(x)?;
        let context = self.norm_context.forward(context)?;
        let x = (&x + self.cross_attn.forward(&x, &context)?)?;
        &x + self.mlp.forward(&self.norm2.forward(&x)?)?
    }
}
