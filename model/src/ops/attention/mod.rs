//! Scaled dot-product attention.

mod cross;
mod heads;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, D, Layout, Result, Shape, Tensor, bail};
use candle_nn::ops::softmax_last_dim;

use super::{
    LayerNorm, RopeTable,
    backend::Backend,
    cpu::{
        self, Slice,
        attention::{KeysValues as OnCpu, Queries},
        flash::{Elements, HeadRows, Keys, Prepare, Rotation},
    },
    cuda,
};
use crate::{precision::Precision, stop};
pub use cross::{CrossAttention, KeysValues, PackedKeys};
pub use heads::HeadPreparation;

/// Scores held at once by the reference implementation: 64 MiB in F32. Bounds the memory of global attention, whose full
/// matrix would be `N x N` for each head; the rows are independent, so cutting them changes no result.
pub(crate) const MAX_SCORES: usize = 1 << 24;

/// softmax(q kᵀ / sqrt(D)) v. q [B, heads, M, D], k and v [B, heads, N, D] -> [B, M, heads D].
///
/// # Errors
/// When the shapes do not fit or the device fails.
// PyTorch: F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (b, heads, _, depth) = q.dims4()?;
    let n = k.dim(2)?;
    if k.dims() != [b, heads, n, depth] || k.dims() != v.dims() {
        let [q, k, v] = [q, k, v].map(Tensor::dims);
        bail!(
            "attention expects q [B, heads, M, D] and k, v [B, heads, N, D], got {q:?}, {k:?} and {v:?}"
        )
    }
    match Backend::of(q) {
        Some(backend) if n > 0 && supports(backend, depth) => {
            q.contiguous()?
                .apply_op3_no_bwd(&k.contiguous()?, &v.contiguous()?, &Flash { backend })
        }
        _ => reference(q, k, v, MAX_SCORES),
    }
}

/// Returns whether a backend supports heads of `depth` channels.
fn supports(backend: Backend, depth: usize) -> bool {
    match backend {
        Backend::Cpu(_) => true,
        Backend::Cuda => depth <= cuda::MAX_DEPTH,
    }
}

/// The tables of a rotation, borrowed for the CPU.
struct Tables<'a> {
    cos: Slice<'a>,
    sin: Slice<'a>,
}

impl Tables<'_> {
    fn rotation(&self) -> Rotation<'_> {
        Rotation {
            cos: &self.cos,
            sin: &self.sin,
        }
    }
}

fn rotation_of(rope: Option<&RopeTable>) -> Result<Option<Tables<'_>>> {
    match rope {
        Some(rope) => Ok(Some(Tables {
            cos: cpu::slice_of(&rope.cos)?,
            sin: cpu::slice_of(&rope.sin)?,
        })),
        None => Ok(None),
    }
}

/// The attention of a sequence to itself: what lies between the layers `qkv` and `proj` of a transformer's block.
#[derive(Debug, Clone, Copy)]
pub struct SelfAttention<'a> {
    /// Heads.
    pub num_heads: usize,
    /// Normalizes the queries of each head.
    pub q_norm: Option<&'a LayerNorm>,
    /// Normalizes the keys of each head.
    pub k_norm: Option<&'a LayerNorm>,
    /// Rotates queries and keys by their position.
    pub rope: Option<&'a RopeTable>,
    /// How queries are multiplied with keys on the CPU; values always in F32.
    pub precision: Precision,
}

impl SelfAttention<'_> {
    /// qkv [B, N, 3 C], for each token its queries, keys and values, head by head -> [B, N, C].
    ///
    /// # Errors
    /// When the shapes do not fit or the device fails.
    pub fn forward(&self, qkv: &Tensor) -> Result<Tensor> {
        let (_, n, c3) = qkv.dims3()?;
        let depth = self.depth(n, c3)?;
        match Backend::of(qkv) {
            Some(backend) if n > 0 && supports(backend, depth) => {
                qkv.contiguous()?.apply_op1_no_bwd(&FlashSelf {
                    op: *self,
                    depth,
                    backend,
                })
            }
            _ => self.reference(qkv),
        }
    }

    /// Returns the channels of a head, and refuses shapes that do not fit, for every backend.
    fn depth(&self, n: usize, c3: usize) -> Result<usize> {
        let heads = self.num_heads;
        if heads == 0 || !c3.is_multiple_of(3 * heads) {
            bail!("expected 3 x num_heads x head_dim channels, got {c3} for {heads} heads")
        }
        let depth = c3 / 3 / heads;
        for norm in [self.q_norm, self.k_norm].into_iter().flatten() {
            norm.check(depth)?;
        }
        if let Some(rope) = self.rope {
            rope.check(n, depth)?;
        }
        Ok(depth)
    }

    /// The reference implementation: split, normalize, rotate, attend.
    fn reference(&self, qkv: &Tensor) -> Result<Tensor> {
        let (b, n, c3) = qkv.dims3()?;
        let qkv = qkv
            .reshape((b, n, 3, self.num_heads, c3 / 3 / self.num_heads))?
            .permute((2, 0, 3, 1, 4))?;
        // [B, heads, N, D] each
        let prepare = |x: Tensor, norm: Option<&LayerNorm>| -> Result<Tensor> {
            let x = match norm {
                Some(norm) => norm.reference(&x.contiguous()?)?,
                None => x.contiguous()?,
            };
            match self.rope {
                Some(rope) => rope.apply(&x),
                None => Ok(x),
            }
        };
        let q = prepare(qkv.get(0)?, self.q_norm)?;
        let k = prepare(qkv.get(1)?, self.k_norm)?;
        reference(&q, &k, &qkv.get(2)?, MAX_SCORES)
    }
}

/// The reference implementation, some rows of the scores at a time.
fn reference(q: &Tensor, k: &Tensor, v: &Tensor, max_scores: usize) -> Result<Tensor> {
    let (b, heads, m, d) = q.dims4()?;
    let n = k.dim(2)?;
    // Scaling q instead of the scores costs D products per row instead of N.
    let q = (q * (1.0 / (d as f64).sqrt()))?;
    let v = v.contiguous()?;
    let rows = (max_scores / (heads * n).max(1)).clamp(1, m.max(1));
    let mut out = Vec::with_capacity(b);
    for i in 0..b {
        let (q, k, v) = (q.get(i)?, k.get(i)?, v.get(i)?);
        let k = k.transpose(D::Minus2, D::Minus1)?;
        let mut parts = Vec::with_capacity(m.div_ceil(rows));
        for start in (0..m).step_by(rows) {
            stop::check()?;
            let q = q.narrow(1, start, rows.min(m - start))?;
            let scores = q.contiguous()?.matmul(&k)?;
            parts.push(softmax_last_dim(&scores)?.matmul(&v)?);
        }
        out.push(if parts.len() == 1 {
            parts.swap_remove(0)
        } else {
            Tensor::cat(&parts, 1)?
        });
    }
    Tensor::stack(&out, 0)?
        .transpose(1, 2)?
        .reshape((b, m, heads * d))
}

/// [`attention`] on a backend. Its operands were checked.
struct Flash {
    backend: Backend,
}

impl CustomOp3 for Flash {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, heads, m, depth) = q_layout.shape().dims4()?;
        let n = k_layout.shape().dims4()?.2;
        let rows = |data, len| HeadRows::contiguous(Elements::F32(data), heads, len, depth);
        let keys = OnCpu {
            k: rows(cpu::contiguous(k, k_layout)?, n),
            prepare_k: Prepare::default(),
            v: rows(cpu::contiguous(v, v_layout)?, n),
            batch,
            heads,
            keys: Keys { n, depth },
        };
        let queries = Queries {
            q: rows(cpu::contiguous(q, q_layout)?, m),
            prepare_q: Prepare::default(),
            count: m,
        };
        let packed = keys.pack(self.backend.isa()?, Precision::Exact)?;
        let out = packed.attend(&queries)?;
        Ok((CpuStorage::F32(out), (batch, m, heads * depth).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        q: &CudaStorage,
        q_layout: &Layout,
        k: &CudaStorage,
        k_layout: &Layout,
        v: &CudaStorage,
        v_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cuda::run::attention([(q, q_layout), (k, k_layout), (v, v_layout)])
    }
}

/// [`SelfAttention`] on a backend. Its operands were checked.
struct FlashSelf<'a> {
    op: SelfAttention<'a>,
    /// Channels of a head.
    depth: usize,
    backend: Backend,
}

impl CustomOp1 for FlashSelf<'_> {
    fn name(&self) -> &'static str {
        "self_attention"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, n, c3) = layout.shape().dims3()?;
        let (heads, depth) = (self.op.num_heads, self.depth);
        let data = cpu::contiguous(storage, layout)?;
        let rows = |which: usize| HeadRows {
            data: Elements::F32(data),
            start: which * heads * depth,
            strides: [n * c3, depth, c3],
        };
        let tables = rotation_of(self.op.rope)?;
        let rope = tables.as_ref().map(|tables| tables.rotation());
        let [q_norm, k_norm] =
            [self.op.q_norm, self.op.k_norm].map(|norm| norm.map(LayerNorm::slices).transpose());
        let (q_norm, k_norm) = (q_norm?, k_norm?);
        let q_norm = q_norm.as_ref().map(|norm| norm.parameters());
        let k_norm = k_norm.as_ref().map(|norm| norm.parameters());
        let keys = OnCpu {
            k: rows(1),
            prepare_k: Prepare { norm: k_norm, rope },
            v: rows(2),
            batch,
            heads,
            keys: Keys { n, depth },
        };
        let queries = Queries {
            q: rows(0),
            prepare_q: Prepare { norm: q_norm, rope },
            count: n,
        };
        let packed = keys.pack(self.backend.isa()?, self.op.precision)?;
        let out = packed.attend(&queries)?;
        Ok((CpuStorage::F32(out), (batch, n, heads * depth).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, qkv: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let op = cuda::run::SelfAttention {
            heads: self.op.num_heads,
            depth: self.depth,
            norms: [self.op.q_norm, self.op.k_norm].map(|norm| norm.map(LayerNorm::tensors)),
            rope: self.op.rope,
        };
        op.run(qkv, layout)
    }
}

#[cfg(test)]
mod tests;
