//! Scaled dot-product attention.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, D, Layout, Result, Shape, Tensor, bail};
use candle_nn::ops::softmax_last_dim;

use super::{
    LayerNorm, RopeTable,
    backend::Backend,
    cpu::{
        self,
        attention::Problem,
        flash::{HeadRows, Keys, Prepare, Rotation},
    },
    cuda,
};
use crate::precision::Precision;

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
        let rows = |data, len| HeadRows::contiguous(data, heads, len, depth);
        let problem = Problem {
            q: (rows(cpu::contiguous(q, q_layout)?, m), Prepare::default()),
            k: (rows(cpu::contiguous(k, k_layout)?, n), Prepare::default()),
            v: rows(cpu::contiguous(v, v_layout)?, n),
            batch,
            heads,
            queries: m,
            keys: Keys { n, depth },
        };
        let out = problem.solve(self.backend.isa()?, Precision::Exact)?;
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
            data,
            start: which * heads * depth,
            strides: [n * c3, depth, c3],
        };
        let tables = match self.op.rope {
            Some(rope) => Some((cpu::slice_of(&rope.cos)?, cpu::slice_of(&rope.sin)?)),
            None => None,
        };
        let rope = tables.as_ref().map(|(cos, sin)| Rotation { cos, sin });
        let [q_norm, k_norm] =
            [self.op.q_norm, self.op.k_norm].map(|norm| norm.map(LayerNorm::slices).transpose());
        let (q_norm, k_norm) = (q_norm?, k_norm?);
        let q_norm = q_norm.as_ref().map(|norm| norm.parameters());
        let k_norm = k_norm.as_ref().map(|norm| norm.parameters());
        let problem = Problem {
            q: (rows(0), Prepare { norm: q_norm, rope }),
            k: (rows(1), Prepare { norm: k_norm, rope }),
            v: rows(2),
            batch,
            heads,
            queries: n,
            keys: Keys { n, depth },
        };
        let out = problem.solve(self.backend.isa()?, self.op.precision)?;
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
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::ops::cpu::Isa;
    use crate::ops::testing::{random, random_sizes, relative_error};

    fn wide(t: &Tensor) -> Tensor {
        t.to_dtype(DType::F64).unwrap()
    }

    #[test]
    fn cutting_the_rows_changes_nothing() {
        let (q, k, v) = (
            random(&[2, 3, 13, 8]),
            random(&[2, 3, 17, 8]),
            random(&[2, 3, 17, 8]),
        );
        let whole = reference(&q, &k, &v, usize::MAX).unwrap();
        for max_scores in [1, 3 * 17 * 5, 3 * 17 * 12] {
            let cut = reference(&q, &k, &v, max_scores).unwrap();
            // Another number of rows may take another kernel, whose sums run in another order.
            assert!(relative_error(&cut, &whole) < 1e-6, "{max_scores}");
        }
    }

    #[test]
    fn every_instruction_set_is_the_reference() {
        let edges = [
            [1, 1, 1, 1, 1],
            [1, 2, 3, 5, 4],
            [2, 3, 49, 7, 6],
            [1, 1, 24, 256, 64],
            [1, 2, 100, 257, 64],
            [2, 1, 7, 515, 48],
        ];
        let sizes = edges
            .into_iter()
            .chain(random_sizes(8, [2, 3, 60, 300, 70]));
        for [b, heads, m, n, d] in sizes {
            let (q, k) = (random(&[b, heads, m, d]), random(&[b, heads, n, d]));
            let v = random(&[b, heads, n, d]);
            let exact = reference(&wide(&q), &wide(&k), &wide(&v), MAX_SCORES).unwrap();
            for isa in Isa::all() {
                let backend = Backend::Cpu(isa);
                let ours = q.apply_op3_no_bwd(&k, &v, &Flash { backend }).unwrap();
                let error = relative_error(&ours, &exact);
                assert!(
                    error < 2e-6,
                    "{} {b} {heads} {m} {n} {d}: {error:e}",
                    isa.name()
                );
            }
        }
    }

    #[test]
    fn large_scores_do_not_overflow() {
        // The largest score comes last, and is far above the range of exp.
        let q = (random(&[1, 1, 5, 8]).ones_like().unwrap() * 30.0).unwrap();
        let k = (0..600)
            .map(|i| vec![i as f32 / 20.0; 8])
            .collect::<Vec<_>>();
        let k = Tensor::new(k, &Device::Cpu)
            .unwrap()
            .reshape((1, 1, 600, 8))
            .unwrap();
        let v = random(&[1, 1, 600, 8]);
        let exact = reference(&wide(&q), &wide(&k), &wide(&v), MAX_SCORES).unwrap();
        for isa in Isa::all() {
            let backend = Backend::Cpu(isa);
            let ours = q.apply_op3_no_bwd(&k, &v, &Flash { backend }).unwrap();
            // Scores near 2500 have an absolute error of 1e-4 in F32.
            assert!(relative_error(&ours, &exact) < 1e-3, "{}", isa.name());
        }
    }

    #[test]
    fn norms_and_rotations_happen_on_the_way() {
        for (b, heads, positions, frames, d) in
            [(1, 1, 1, 1, 4), (2, 3, 5, 3, 16), (1, 2, 60, 5, 64)]
        {
            let n = positions * frames;
            let qkv = random(&[b, n, 3 * heads * d]);
            let norms = [0, 1].map(|_| LayerNorm::from_tensors(random(&[d]), random(&[d]), 1e-5));
            let rope = RopeTable::new(random(&[positions, d]), random(&[positions, d]));
            let wide_norms = norms
                .clone()
                .map(|norm| norm.with_dtype(DType::F64).unwrap());
            let wide_rope = RopeTable::new(wide(&rope.cos), wide(&rope.sin));
            for (normed, rotated) in [(false, false), (true, false), (false, true), (true, true)] {
                let op = |norms: &'_ [LayerNorm; 2],
                          rope: &'_ RopeTable,
                          isa: Option<Isa>,
                          x: &Tensor| {
                    let op = SelfAttention {
                        num_heads: heads,
                        q_norm: normed.then_some(&norms[0]),
                        k_norm: normed.then_some(&norms[1]),
                        rope: rotated.then_some(rope),
                        precision: Precision::Exact,
                    };
                    match isa {
                        Some(isa) => {
                            let backend = Backend::Cpu(isa);
                            x.apply_op1_no_bwd(&FlashSelf {
                                op,
                                depth: d,
                                backend,
                            })
                            .unwrap()
                        }
                        None => op.reference(x).unwrap(),
                    }
                };
                let exact = op(&wide_norms, &wide_rope, None, &wide(&qkv));
                for isa in Isa::all() {
                    let ours = op(&norms, &rope, Some(isa), &qkv);
                    let error = relative_error(&ours, &exact);
                    assert!(
                        error < 1e-5,
                        "{} {n} {d} {normed} {rotated}: {error:e}",
                        isa.name()
                    );
                }
            }
        }
    }

    /// Scores of elements below 1: each is off by some 1e-4 of the largest, at random.
    const FAST_TOLERANCE: f64 = 3e-4;

    #[test]
    fn whole_numbers_lose_what_their_digits_say() {
        let sizes = [
            [1, 1, 1, 1],
            [2, 3, 49, 6],
            [1, 2, 257, 64],
            [1, 1, 600, 63],
        ];
        let all = sizes.into_iter().chain(random_sizes(6, [2, 3, 400, 70]));
        for [b, heads, n, d] in all {
            let qkv = random(&[b, n, 3 * heads * d]);
            let op = SelfAttention {
                num_heads: heads,
                q_norm: None,
                k_norm: None,
                rope: None,
                precision: Precision::Fast,
            };
            let exact = op.reference(&wide(&qkv)).unwrap();
            for isa in Isa::all() {
                let backend = Backend::Cpu(isa);
                let op = FlashSelf {
                    op,
                    depth: d,
                    backend,
                };
                let error = relative_error(&qkv.apply_op1_no_bwd(&op).unwrap(), &exact);
                assert!(
                    error < FAST_TOLERANCE,
                    "{} {b} {heads} {n} {d}: {error:e}",
                    isa.name()
                );
                // It must not be the exact one under another name.
                assert!(n < 40 || error > 1e-6, "{} {n} {d}: {error:e}", isa.name());
            }
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let qkv = random(&[1, 700, 3 * 2 * 16]);
        let op = SelfAttention {
            num_heads: 2,
            q_norm: None,
            k_norm: None,
            rope: None,
            precision: Precision::Exact,
        };
        for isa in Isa::all() {
            let results = [1, 3].map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                let backend = Backend::Cpu(isa);
                let op = FlashSelf {
                    op,
                    depth: 16,
                    backend,
                };
                let out = pool.install(|| qkv.apply_op1_no_bwd(&op).unwrap());
                out.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            });
            assert!(results[0] == results[1]);
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let op = SelfAttention {
            num_heads: 4,
            q_norm: None,
            k_norm: None,
            rope: None,
            precision: Precision::Exact,
        };
        assert!(op.forward(&random(&[1, 3, 18])).is_err());
        let (q, k) = (random(&[1, 2, 3, 4]), random(&[1, 2, 3, 5]));
        assert!(attention(&q, &k, &k).is_err());
        let rope = RopeTable::new(random(&[2, 4]), random(&[2, 4]));
        let op = SelfAttention {
            rope: Some(&rope),
            num_heads: 1,
            ..op
        };
        assert!(op.forward(&random(&[1, 3, 12])).is_err());
    }
}
