//! Queries or keys on their way from a linear layer to attention: normalized, rotated, and each head together.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::{
    super::{
        LayerNorm, RopeTable,
        backend::Backend,
        cpu::{self, flash::Prepare, heads::prepare_heads},
    },
    rotation_of, supports,
};
#[cfg(feature = "cuda")]
use crate::ops::cuda;

/// What happens to the queries or the keys of a sequence before they are multiplied.
#[derive(Debug, Clone, Copy)]
pub struct HeadPreparation<'a> {
    /// Heads.
    pub num_heads: usize,
    /// Normalizes the channels of each head.
    pub norm: Option<&'a LayerNorm>,
    /// Rotates them by the token's position.
    pub rope: Option<&'a RopeTable>,
}

impl HeadPreparation<'_> {
    /// x [B, N, C], head by head -> [B, heads, N, D].
    ///
    /// # Errors
    /// When the shapes do not fit or the device fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, n, c) = x.dims3()?;
        let depth = self.depth(n, c)?;
        match Backend::of(x) {
            Some(backend) if n > 0 && supports(backend, depth) => {
                x.contiguous()?.apply_op1_no_bwd(&Fused {
                    op: *self,
                    depth,
                    backend,
                })
            }
            _ => self.reference(x),
        }
    }

    /// Returns the channels of a head, and refuses shapes that do not fit, for every backend.
    pub(super) fn depth(&self, n: usize, c: usize) -> Result<usize> {
        let heads = self.num_heads;
        if heads == 0 || !c.is_multiple_of(heads) {
            bail!("expected num_heads x head_dim channels, got {c} for {heads} heads")
        }
        let depth = c / heads;
        if let Some(norm) = self.norm {
            norm.check(depth)?;
        }
        if let Some(rope) = self.rope {
            rope.check(n, depth)?;
        }
        Ok(depth)
    }

    /// The reference implementation.
    pub(super) fn reference(&self, x: &Tensor) -> Result<Tensor> {
        let x = split_heads(x, self.num_heads)?;
        let x = match self.norm {
            Some(norm) => norm.reference(&x)?,
            None => x,
        };
        match self.rope {
            Some(rope) => rope.apply(&x),
            None => Ok(x),
        }
    }
}

/// [B, N, C] -> [B, heads, N, D], contiguous.
pub(super) fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, n, c) = x.dims3()?;
    x.reshape((b, n, heads, c / heads))?
        .transpose(1, 2)?
        .contiguous()
}

/// [`HeadPreparation`] on a backend. Its operands were checked.
struct Fused<'a> {
    op: HeadPreparation<'a>,
    /// Channels of a head.
    depth: usize,
    backend: Backend,
}

impl CustomOp1 for Fused<'_> {
    fn name(&self) -> &'static str {
        "heads"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, n, _) = layout.shape().dims3()?;
        let (heads, depth) = (self.op.num_heads, self.depth);
        let norm = self.op.norm.map(LayerNorm::slices).transpose()?;
        let tables = rotation_of(self.op.rope)?;
        let prepare = Prepare {
            norm: norm.as_ref().map(|norm| norm.parameters()),
            rope: tables.as_ref().map(|tables| tables.rotation()),
        };
        let x = cpu::contiguous(storage, layout)?;
        let out = prepare_heads(self.backend.isa()?, x, (n, heads, depth), prepare)?;
        Ok((CpuStorage::F32(out), (batch, heads, n, depth).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let op = cuda::run::HeadPreparation {
            heads: self.op.num_heads,
            depth: self.depth,
            norm: self.op.norm.map(LayerNorm::tensors),
            rope: self.op.rope,
        };
        op.run(x, layout)
    }
}
