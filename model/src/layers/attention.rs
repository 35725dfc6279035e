//! Multi-head self-attention. Port of vggt/layers/attention.py.

use candle_core::Tensor;

use super::LayerScale;
use crate::{
    error::Result,
    ops::{
        CrossAttention, Epilogue, Fusion, HeadPreparation, KeysValues, LayerNorm, Linear,
        PackedKeys, RopeTable, SelfAttention,
    },
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
    channels: usize,
    num_heads: usize,
    precision: Precision,
}

fn normed_by(norm: &LayerNorm) -> Fusion<'_> {
    Fusion {
        norm: Some(norm),
        epilogue: Epilogue::None,
    }
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
            channels: c,
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
        let qkv = self.qkv.forward_fused(x, normed_by(norm))?;
        let attended = self.attend(rope).forward(&qkv)?;
        self.add_to(x, &attended, ls)
    }

    /// The keys and values that [`Attention::forward_to`] attends to: those of norm(x). x [1, N, C]; `rope` holds the rotation
    /// of each of the N places.
    ///
    /// # Errors
    /// When the shapes do not fit or the device fails.
    pub fn keys_values(
        &self,
        norm: &LayerNorm,
        x: &Tensor,
        rope: Option<&RopeTable>,
    ) -> Result<KeysValues> {
        let kv = self.part(1, 2)?.forward_fused(x, normed_by(norm))?;
        let keys = self.prepared(self.k_norm.as_ref(), rope);
        Ok(KeysValues::new(&kv, keys)?)
    }

    /// As [`Attention::forward`] with the keys and values of other tokens; x has none of its own. x [1, M, C] -> [1, M, C].
    ///
    /// # Errors
    /// When the shapes do not fit or the device fails.
    pub fn forward_to(
        &self,
        norm: &LayerNorm,
        x: &Tensor,
        rope: Option<&RopeTable>,
        keys: &PackedKeys,
        ls: &LayerScale,
    ) -> Result<Tensor> {
        let q = self.part(0, 1)?.forward_fused(x, normed_by(norm))?;
        let attention = CrossAttention {
            num_heads: self.num_heads,
            q_norm: self.q_norm.as_ref(),
            rope,
        };
        let attended = attention.forward(&q, keys)?;
        self.add_to(x, &attended, ls)
    }

    /// The queries of norm(x), normalized and rotated. x [B, N, C] -> [B, heads, N, D]
    pub(crate) fn queries(
        &self,
        norm: &LayerNorm,
        x: &Tensor,
        rope: Option<&RopeTable>,
    ) -> Result<Tensor> {
        let q = self.part(0, 1)?.forward_fused(x, normed_by(norm))?;
        Ok(self.prepared(self.q_norm.as_ref(), rope).forward(&q)?)
    }

    /// The keys of norm(x), normalized and rotated. x [B, N, C] -> [B, heads, N, D]
    pub(crate) fn keys(
        &self,
        norm: &LayerNorm,
        x: &Tensor,
        rope: Option<&RopeTable>,
    ) -> Result<Tensor> {
        let k = self.part(1, 1)?.forward_fused(x, normed_by(norm))?;
        Ok(self.prepared(self.k_norm.as_ref(), rope).forward(&k)?)
    }

    fn prepared<'a>(
        &self,
        norm: Option<&'a LayerNorm>,
        rope: Option<&'a RopeTable>,
    ) -> HeadPreparation<'a> {
        HeadPreparation {
            num_heads: self.num_heads,
            norm,
            rope,
        }
    }

    /// How the scores of this attention are multiplied.
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// The rows of `qkv` that give queries (0), keys (1) or values (2): `count` of these from `first`.
    fn part(&self, first: usize, count: usize) -> Result<Linear> {
        let c = self.channels;
        Ok(self.qkv.narrow(first * c, count * c)?)
    }

    /// x + ls(proj(attended)).
    fn add_to(&self, x: &Tensor, attended: &Tensor, ls: &LayerScale) -> Result<Tensor> {
        let residual = Fusion {
            norm: None,
            epilogue: ls.residual(x),
        };
        Ok(self.proj.forward_fused(attended, residual)?)
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
