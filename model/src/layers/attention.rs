//! Multi-head self-attention. Port of vggt/layers/attention.py.

use candle_core::Tensor;

use super::LayerScale;
use crate::{
    error::Result,
    ops::{Epilogue, Fusion, LayerNorm, Linear, RopeTable, SelfAttention},
    precision::Precision,
    weights::VarBuilder,
};

/// Multi-head self-attention, with q and k normalized per head and rotated by position where the block asks for it.
#[derive(Debug)]
pub struct Attention {
    qkv: Linear,
    q_norm: Option<LayerNorm>,
    k_norm: Option<LayerNorm>,
    proj: Linear,
    num_heads: usize,
    precision: Precision,
}

/// Of the norms inside an attention. Origin: nn.LayerNorm's default, which upstream does not change here.
const QK_NORM_EPS: f32 = 1e-5;

impl Attention {
    /// Reads `qkv`, `proj`, and `q_norm`, `k_norm` when `qk_norm`.
    ///
    /// # Errors
    /// When a parameter is missing or misshapen.
    pub fn new(c: usize, num_heads: usize, qk_norm: bool, vb: &VarBuilder) -> Result<Self> {
        let head_dim = c / num_heads;
        let norm = |name| LayerNorm::new(head_dim, QK_NORM_EPS, &vb.pp(name));
        Ok(Self {
            qkv: Linear::new(c, 3 * c, &vb.pp("qkv"))?,
            q_norm: qk_norm.then(|| norm("q_norm")).transpose()?,
            k_norm: qk_norm.then(|| norm("k_norm")).transpose()?,
            proj: Linear::new(c, c, &vb.pp("proj"))?,
            num_heads,
            precision: vb.precision(),
        })
    }

    /// The branch of a block: x + ls(proj(attention(norm(x)))). x [B, N, C] -> [B, N, C]; `rope` holds the rotation of
    /// each of the N places.
    ///
    /// # Errors
    /// When the shapes do not fit or the device fails.
    pub fn forward(
        &self,
        norm: &LayerNorm,
        x: &Tensor,
        rope: Option<&RopeTable>,
        ls: &LayerScale,
    ) -> Result<Tensor> {
        let normed = Fusion {
            norm: Some(norm),
            epilogue: Epilogue::None,
        };
        let qkv = self.qkv.forward_fused(x, normed)?;
        let attended = self.attend(rope).forward(&qkv)?;
        let epilogue = ls.residual(x);
        Ok(self.proj.forward_fused(
            &attended,
            Fusion {
                norm: None,
                epilogue,
            },
        )?)
    }

    fn attend<'a>(&'a self, rope: Option<&'a RopeTable>) -> SelfAttention<'a> {
        SelfAttention {
            num_heads: self.num_heads,
            q_norm: self.q_norm.as_ref(),
            k_norm: self.k_norm.as_ref(),
            rope,
            precision: self.precision,
        }
    }
}
