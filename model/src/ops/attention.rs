//! Scaled dot-product attention.

use std::marker::PhantomData;

use candle_core::{CpuStorage, CustomOp1, CustomOp3, D, Layout, Result, Shape, Tensor, bail};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, DType, backend::BackendStorage};
use candle_nn::ops::softmax_last_dim;
use rayon::prelude::*;

#[cfg(feature = "cuda")]
use super::cuda::device::{self, Queue};
use super::{
    LayerNorm, RopeTable,
    cpu::{
        self, Isa, Shared,
        arithmetic::{Exact, Int16},
        flash::{self, Attend, HeadRows, Keys, Pack, Prepare, Rotation},
        scores::Scores,
        scratch,
    },
    cuda,
    version::Version,
};
use crate::precision::Precision;

/// Scores held at once by the plain version, in numbers: 64 MiB in F32. Bounds the memory of global attention, whose full
/// matrix would be `N x N` for each head; the rows are independent, so cutting them changes no number.
pub(crate) const MAX_SCORES: usize = 1 << 24;

/// softmax(q kᵀ / sqrt(D)) v. q [B, heads, M, D], k and v [B, heads, N, D] -> [B, M, heads D].
///
/// # Errors
/// When the shapes do not fit or the device fails.
// PyTorch: F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    match Version::of(q) {
        Some(version) if k.dim(2)? > 0 && takes(version, q.dim(3)?) => q
            .contiguous()?
            .apply_op3_no_bwd(&k.contiguous()?, &v.contiguous()?, &Flash { version }),
        _ => plain(q, k, v, MAX_SCORES),
    }
}

/// Whether a version takes heads of `depth` numbers.
fn takes(version: Version, depth: usize) -> bool {
    match version {
        Version::Cpu(_) => true,
        Version::Cuda => depth <= cuda::MOST_DEPTH,
    }
}

/// The attention of a sequence to itself: what lies between the layers `qkv` and `proj` of a transformer's block.
#[derive(Debug, Clone, Copy)]
pub struct SelfAttention<'a> {
    /// Heads.
    pub num_heads: usize,
    /// Normalises the queries of each head.
    pub q_norm: Option<&'a LayerNorm>,
    /// Normalises the keys of each head.
    pub k_norm: Option<&'a LayerNorm>,
    /// Rotates queries and keys by their place.
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
        let depth = c3 / 3 / self.num_heads.max(1);
        match Version::of(qkv) {
            Some(version) if n > 0 && takes(version, depth) => qkv
                .contiguous()?
                .apply_op1_no_bwd(&FlashSelf { op: *self, version }),
            _ => self.plain(qkv),
        }
    }

    /// The definition: split, normalise, rotate, attend.
    fn plain(&self, qkv: &Tensor) -> Result<Tensor> {
        let (b, n, c3) = qkv.dims3()?;
        let qkv = qkv
            .reshape((b, n, 3, self.num_heads, c3 / 3 / self.num_heads))?
            .permute((2, 0, 3, 1, 4))?;
        // [B, heads, N, D] each
        let prepare = |x: Tensor, norm: Option<&LayerNorm>| -> Result<Tensor> {
            let x = match norm {
                Some(norm) => norm.plain(&x.contiguous()?)?,
                None => x.contiguous()?,
            };
            match self.rope {
                Some(rope) => rope.apply(&x),
                None => Ok(x),
            }
        };
        let q = prepare(qkv.get(0)?, self.q_norm)?;
        let k = prepare(qkv.get(1)?, self.k_norm)?;
        plain(&q, &k, &qkv.get(2)?, MAX_SCORES)
    }
}

/// The definition, some rows of the scores at a time.
fn plain(q: &Tensor, k: &Tensor, v: &Tensor, max_scores: usize) -> Result<Tensor> {
    let (b, heads, m, d) = q.dims4()?;
    let n = k.dim(2)?;
    // Scaling q instead of the scores costs D numbers a row instead of N.
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

/// The tiled versions of [`attention`].
struct Flash {
    version: Version,
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
        if k_layout.dims() != [batch, heads, n, depth] || k_layout.dims() != v_layout.dims() {
            let [q, k, v] = [q_layout, k_layout, v_layout].map(Layout::dims);
            bail!("attention of q {q:?} to k {k:?} and v {v:?}")
        }
        let rows = |data, len: usize| HeadRows {
            data,
            start: 0,
            strides: [heads * len * depth, len * depth, depth],
        };
        let problem = Problem {
            q: (rows(cpu::contiguous(q, q_layout)?, m), Prepare::default()),
            k: (rows(cpu::contiguous(k, k_layout)?, n), Prepare::default()),
            v: rows(cpu::contiguous(v, v_layout)?, n),
            batch,
            heads,
            queries: m,
            keys: Keys { n, depth },
        };
        let out = problem.solve::<Exact>(self.version.isa()?)?;
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
        let (queue, dtype) = (Queue::of(q), q.dtype());
        let (batch, heads, m, depth) = q_layout.shape().dims4()?;
        let n = k_layout.shape().dims4()?.2;
        if k_layout.dims() != [batch, heads, n, depth] || k_layout.dims() != v_layout.dims() {
            let [q, k, v] = [q_layout, k_layout, v_layout].map(Layout::dims);
            bail!("attention of q {q:?} to k {k:?} and v {v:?}")
        }
        let q = queue.input(q, q_layout, dtype)?;
        let k = queue.input(k, k_layout, dtype)?;
        let v = queue.input(v, v_layout, dtype)?;
        let rows = |start, rows| cuda::HeadRows::contiguous(start, heads, rows, depth);
        // SAFETY: the operands are alive, and their shapes were compared.
        #[allow(unsafe_code)]
        unsafe {
            attended_on_cuda(
                &queue,
                cuda::AttentionCall {
                    dtype,
                    batch,
                    heads: (heads, depth),
                    queries: m,
                    keys: n,
                    q: rows(q.address, m),
                    k: rows(k.address, n),
                    v: rows(v.address, n),
                    out: cuda::Address::NULL,
                },
            )
        }
    }
}

/// The tiled versions of [`SelfAttention`].
struct FlashSelf<'a> {
    op: SelfAttention<'a>,
    version: Version,
}

impl CustomOp1 for FlashSelf<'_> {
    fn name(&self) -> &'static str {
        "self_attention"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, n, c3) = layout.shape().dims3()?;
        let heads = self.op.num_heads;
        if heads == 0 || c3 % (3 * heads) != 0 {
            bail!("{c3} channels are no q, k and v of {heads} heads")
        }
        let depth = c3 / 3 / heads;
        let data = cpu::contiguous(storage, layout)?;
        let rows = |which: usize| HeadRows {
            data,
            start: which * heads * depth,
            strides: [n * c3, depth, c3],
        };
        let out = self.with_rotation((n, depth), |rope| {
            with_norm(self.op.q_norm, depth, |q_norm| {
                with_norm(self.op.k_norm, depth, |k_norm| {
                    let problem = Problem {
                        q: (rows(0), Prepare { norm: q_norm, rope }),
                        k: (rows(1), Prepare { norm: k_norm, rope }),
                        v: rows(2),
                        batch,
                        heads,
                        queries: n,
                        keys: Keys { n, depth },
                    };
                    let isa = self.version.isa()?;
                    match self.op.precision {
                        Precision::Exact => problem.solve::<Exact>(isa),
                        Precision::Fast => problem.solve::<Int16>(isa),
                    }
                })
            })
        })?;
        Ok((CpuStorage::F32(out), (batch, n, heads * depth).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, qkv: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (queue, dtype) = (Queue::of(qkv), qkv.dtype());
        let (batch, n, c3) = layout.shape().dims3()?;
        let heads = self.op.num_heads;
        if heads == 0 || c3 % (3 * heads) != 0 {
            bail!("{c3} channels are no q, k and v of {heads} heads")
        }
        let depth = c3 / 3 / heads;
        let prepared = self.prepared_on_cuda(qkv, layout, (batch, n, heads, depth))?;
        let qkv = queue.input(qkv, layout, dtype)?;
        let in_place = |which| cuda::HeadRows::in_qkv(qkv.address, which, dtype, (heads, n, depth));
        let whole = Layout::contiguous((batch, heads, n, depth));
        let prepared = match &prepared {
            Some([q, k]) => Some([
                queue.input(q, &whole, dtype)?,
                queue.input(k, &whole, dtype)?,
            ]),
            None => None,
        };
        let [q, k] = match &prepared {
            Some(both) => both
                .each_ref()
                .map(|x| cuda::HeadRows::contiguous(x.address, heads, n, depth)),
            None => [in_place(0), in_place(1)],
        };
        // SAFETY: the operands are alive, and the rows are those of the shape that was split.
        #[allow(unsafe_code)]
        unsafe {
            attended_on_cuda(
                &queue,
                cuda::AttentionCall {
                    dtype,
                    batch,
                    heads: (heads, depth),
                    queries: n,
                    keys: n,
                    q,
                    k,
                    v: in_place(2),
                    out: cuda::Address::NULL,
                },
            )
        }
    }
}

/// Runs `call` with memory of its own for the result, [batch, queries, heads * depth].
///
/// # Safety
/// Queries, keys and values must lie where the call says, and be alive.
#[cfg(feature = "cuda")]
#[allow(unsafe_code)]
unsafe fn attended_on_cuda(
    queue: &Queue,
    call: cuda::AttentionCall,
) -> Result<(CudaStorage, Shape)> {
    let (heads, depth) = call.heads;
    let shape = Shape::from((call.batch, call.queries, heads * depth));
    let mut out = queue.unwritten(&shape, call.dtype)?;
    {
        let to = queue.output(&mut out)?;
        let call = cuda::AttentionCall {
            out: to.address,
            ..call
        };
        let call = cuda::attention(call, queue.code()?)?;
        // SAFETY: the result is as large as its shape; the rest is asked of the caller.
        unsafe { queue.launch(&call)? };
    }
    Ok((out, shape))
}

#[cfg(feature = "cuda")]
impl FlashSelf<'_> {
    /// Queries and keys, normalised and rotated, [batch, heads, n, depth]; `None` when they can be read where they lie.
    fn prepared_on_cuda(
        &self,
        qkv: &CudaStorage,
        layout: &Layout,
        (batch, n, heads, depth): (usize, usize, usize, usize),
    ) -> Result<Option<[CudaStorage; 2]>> {
        let op = &self.op;
        if op.q_norm.is_none() && op.k_norm.is_none() && op.rope.is_none() {
            return Ok(None);
        }
        let (queue, dtype) = (Queue::of(qkv), qkv.dtype());
        let shape = Shape::from((batch, heads, n, depth));
        let mut q = queue.unwritten(&shape, dtype)?;
        let mut k = queue.unwritten(&shape, dtype)?;
        let norms = [op.q_norm, op.k_norm];
        let of_norms = norms.map(|norm| norm.map(LayerNorm::held));
        // The kernel rotates in F32.
        let in_f32 = |t: &Tensor| t.to_dtype(DType::F32);
        let tables = op
            .rope
            .map(|rope| Ok::<_, candle_core::Error>([in_f32(&rope.cos)?, in_f32(&rope.sin)?]))
            .transpose()?;
        let of_tables = tables
            .as_ref()
            .map(|[cos, sin]| [device::hold(cos), device::hold(sin)]);
        {
            let mut operands = Vec::new();
            let mut heads_norms = [cuda::HeadNorm::NONE; 2];
            for (i, held) in of_norms.iter().enumerate() {
                let (Some([weight, bias]), Some(norm)) = (held, norms[i]) else {
                    continue;
                };
                let [weight, bias] = [
                    queue.parameter(weight, depth, dtype)?,
                    queue.parameter(bias, depth, dtype)?,
                ];
                heads_norms[i] = cuda::HeadNorm {
                    weight: weight.address,
                    bias: bias.address,
                    eps: norm.eps(),
                };
                operands.extend([weight, bias]);
            }
            let mut rotation = cuda::HeadRotation::NONE;
            if let (Some([cos, sin]), Some(rope)) = (&of_tables, op.rope) {
                let places = rope.places()?;
                let [cos, sin] = [
                    queue.parameter(cos, places * depth, DType::F32)?,
                    queue.parameter(sin, places * depth, DType::F32)?,
                ];
                rotation = cuda::HeadRotation {
                    cos: cos.address,
                    sin: sin.address,
                    places,
                };
                operands.extend([cos, sin]);
            }
            let qkv = queue.input(qkv, layout, dtype)?;
            let (to_q, to_k) = (queue.output(&mut q)?, queue.output(&mut k)?);
            let call = cuda::heads(cuda::HeadsCall {
                dtype,
                tokens: (batch, n),
                heads: (heads, depth),
                norms: heads_norms,
                rotation,
                qkv: qkv.address,
                q: to_q.address,
                k: to_k.address,
            })?;
            // SAFETY: the operands are alive; parameters were measured against the depth, q and k made for the shape.
            #[allow(unsafe_code)]
            unsafe {
                queue.launch(&call)?;
            }
        }
        Ok(Some([q, k]))
    }
}

impl FlashSelf<'_> {
    fn with_rotation<R>(
        &self,
        (n, depth): (usize, usize),
        f: impl FnOnce(Option<Rotation<'_>>) -> Result<R>,
    ) -> Result<R> {
        let Some(rope) = self.op.rope else {
            return f(None);
        };
        let places = rope.places()?;
        if places == 0 || n % places != 0 || depth % 4 != 0 {
            bail!("{n} tokens of {depth} channels a head, rotated by {places} places")
        }
        cpu::with_numbers(&rope.cos, |cos| {
            cpu::with_numbers(&rope.sin, |sin| {
                if cos.len() != places * depth || sin.len() != cos.len() {
                    bail!("rotations of other heads than {depth} channels")
                }
                f(Some(Rotation { cos, sin }))
            })
        })
    }
}

/// Scale, shift and epsilon of a norm.
type Norm<'a> = (&'a [f32], &'a [f32], f32);

fn with_norm<R>(
    norm: Option<&LayerNorm>,
    depth: usize,
    f: impl FnOnce(Option<Norm<'_>>) -> Result<R>,
) -> Result<R> {
    match norm {
        Some(norm) => norm.with_numbers(|weight, bias| {
            if weight.len() != depth || bias.len() != depth {
                bail!("a norm of {} channels for heads of {depth}", weight.len())
            }
            f(Some((weight, bias, norm.eps())))
        }),
        None => f(None),
    }
}

/// Every head of every batch: queries, keys and values somewhere in memory.
struct Problem<'a> {
    q: (HeadRows<'a>, Prepare<'a>),
    k: (HeadRows<'a>, Prepare<'a>),
    v: HeadRows<'a>,
    batch: usize,
    heads: usize,
    queries: usize,
    keys: Keys,
}

/// Tiles of queries of a task: enough that fetching the packed keys does not count, few enough for many tasks.
const TILES: usize = 4;

impl Problem<'_> {
    /// [batch, queries, heads depth]
    #[allow(unsafe_code)]
    fn solve<S: Scores>(&self, isa: Isa) -> Result<Vec<f32>> {
        let lanes = isa.lanes();
        let Keys { n, depth } = self.keys;
        let heads = self.batch * self.heads;
        let of_head = (
            self.keys.packed_keys::<S>(lanes),
            self.keys.packed_values(lanes),
        );
        let len = heads * (of_head.0 + of_head.1);
        // SAFETY: packing writes the keys of all heads, then their values; the tiles write every query of every head.
        unsafe {
            let packed = cpu::written(len, |packed| {
                let packed_k = packed.part(0, heads * of_head.0);
                let packed_v = packed.part(heads * of_head.0, heads * of_head.1);
                self.pack::<S>(isa, n.div_ceil(flash::KEYS), of_head, (packed_k, packed_v));
                Ok(())
            })?;
            let packed = packed.split_at(heads * of_head.0);
            cpu::written(heads * self.queries * depth, |out| {
                self.attend::<S>(isa, of_head, packed, out);
                Ok(())
            })
        }
    }

    /// Packs keys and values, each block of each head a task.
    fn pack<S: Scores>(
        &self,
        isa: Isa,
        blocks: usize,
        of_head: (usize, usize),
        (packed_k, packed_v): (Shared<'_, f32>, Shared<'_, f32>),
    ) {
        let heads = self.batch * self.heads;
        (0..heads * blocks).into_par_iter().for_each(|task| {
            let (index, block) = (task / blocks, task % blocks);
            scratch::with(self.keys.depth, |row| {
                isa.run(Pack::<S> {
                    scores: PhantomData,
                    keys: self.keys,
                    k: self.k.0,
                    prepare: self.k.1,
                    v: self.v,
                    batch: index / self.heads,
                    head: index % self.heads,
                    first: block * flash::KEYS,
                    packed_k,
                    packed_v,
                    at: (index * of_head.0, index * of_head.1),
                    row,
                });
            });
        });
    }

    /// Attends, some tiles of queries of a head a task.
    fn attend<S: Scores>(
        &self,
        isa: Isa,
        of_head: (usize, usize),
        (packed_k, packed_v): (&[f32], &[f32]),
        out: Shared<'_, f32>,
    ) {
        let lanes = isa.lanes();
        let depth = self.keys.depth;
        let heads = self.batch * self.heads;
        let queries = TILES * flash::tile_queries(lanes);
        let tasks = self.queries.div_ceil(queries);
        let run = |task: usize, room: &mut [f32]| {
            let (index, first) = (task / tasks, task % tasks * queries);
            let (batch, head) = (index / self.heads, index % self.heads);
            isa.run(Attend::<S> {
                scores: PhantomData,
                keys: self.keys,
                q: self.q.0,
                prepare: self.q.1,
                packed_k: &packed_k[index * of_head.0..][..of_head.0],
                packed_v: &packed_v[index * of_head.1..][..of_head.1],
                batch,
                head,
                queries: first..(first + queries).min(self.queries),
                out,
                out_at: (
                    (batch * self.queries * self.heads + head) * depth,
                    self.heads * depth,
                ),
                room,
            });
        };
        (0..heads * tasks)
            .into_par_iter()
            .with_max_len(1)
            .for_each(|task| {
                scratch::with(Attend::<S>::room(lanes, depth), |room| run(task, room))
            });
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
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
        let whole = plain(&q, &k, &v, usize::MAX).unwrap();
        for max_scores in [1, 3 * 17 * 5, 3 * 17 * 12] {
            let cut = plain(&q, &k, &v, max_scores).unwrap();
            // Another number of rows may take another kernel, whose sums run in another order.
            assert!(relative_error(&cut, &whole) < 1e-6, "{max_scores}");
        }
    }

    #[test]
    fn tiles_give_the_plain_attention() {
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
            let exact = plain(&wide(&q), &wide(&k), &wide(&v), MAX_SCORES).unwrap();
            for isa in Isa::all() {
                let version = Version::Cpu(isa);
                let ours = q.apply_op3_no_bwd(&k, &v, &Flash { version }).unwrap();
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
        let exact = plain(&wide(&q), &wide(&k), &wide(&v), MAX_SCORES).unwrap();
        for isa in Isa::all() {
            let version = Version::Cpu(isa);
            let ours = q.apply_op3_no_bwd(&k, &v, &Flash { version }).unwrap();
            // Scores near 2500 have an absolute error of 1e-4 in F32.
            assert!(relative_error(&ours, &exact) < 1e-3, "{}", isa.name());
        }
    }

    #[test]
    fn norms_and_rotations_happen_on_the_way() {
        for (b, heads, places, frames, d) in [(1, 1, 1, 1, 4), (2, 3, 5, 3, 16), (1, 2, 60, 5, 64)]
        {
            let n = places * frames;
            let qkv = random(&[b, n, 3 * heads * d]);
            let norms = [0, 1].map(|_| LayerNorm::from_tensors(random(&[d]), random(&[d]), 1e-5));
            let rope = RopeTable::new(random(&[places, d]), random(&[places, d]));
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
                            let version = Version::Cpu(isa);
                            x.apply_op1_no_bwd(&FlashSelf { op, version }).unwrap()
                        }
                        None => op.plain(x).unwrap(),
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

    /// Scores of numbers below 1: each is off by some 1e-4 of the largest, at random.
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
            let exact = op.plain(&wide(&qkv)).unwrap();
            for isa in Isa::all() {
                let version = Version::Cpu(isa);
                let op = FlashSelf { op, version };
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
                let version = Version::Cpu(isa);
                let op = FlashSelf { op, version };
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
