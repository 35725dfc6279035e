//! Attention, and the preparation of queries and keys.

use candle_core::{CudaStorage, DType, Layout, Result, Shape, Tensor, backend::BackendStorage};

use super::{
    super::{
        self as cuda, Address, AttentionCall, HeadNorm, HeadRotation, HeadRows, HeadsCall,
        device::{Input, Operands, Parameter, Queue},
    },
    Norm,
};
use crate::ops::RopeTable;

/// Sizes of the attention of every head.
#[derive(Clone, Copy)]
struct Sizes {
    dtype: DType,
    batch: usize,
    heads: usize,
    /// Channels of a head.
    depth: usize,
    /// Queries of a head.
    queries: usize,
    /// Keys of a head.
    keys: usize,
}

/// Returns softmax(q kᵀ / sqrt(D)) v, [B, M, heads D], for q [B, heads, M, D] and k, v [B, heads, N, D], all contiguous.
pub(in crate::ops) fn attention(qkv: [(&CudaStorage, &Layout); 3]) -> Result<(CudaStorage, Shape)> {
    let [(q, q_layout), (_, k_layout), _] = qkv;
    let (batch, heads, queries, depth) = q_layout.shape().dims4()?;
    let keys = k_layout.shape().dims4()?.2;
    let sizes = Sizes {
        dtype: q.dtype(),
        batch,
        heads,
        depth,
        queries,
        keys,
    };
    let inputs = qkv.map(|(storage, layout)| Input {
        storage,
        layout,
        dtype: sizes.dtype,
    });
    attend(&Queue::of(q), sizes, inputs, |[q, k, v]| {
        let rows = |start, rows| HeadRows::contiguous(start, heads, rows, depth);
        [rows(q, queries), rows(k, keys), rows(v, keys)]
    })
}

/// The attention of a sequence to itself.
pub(in crate::ops) struct SelfAttention<'a> {
    /// Element of heads.
    pub(in crate::ops) heads: usize,
    /// Channels of a head.
    pub(in crate::ops) depth: usize,
    /// Normalize the queries and the keys of each head.
    pub(in crate::ops) norms: [Option<Norm<'a>>; 2],
    /// Rotates queries and keys by their position.
    pub(in crate::ops) rope: Option<&'a RopeTable>,
}

impl SelfAttention<'_> {
    /// Returns [B, N, C] for qkv, contiguous, [B, N, 3 C].
    pub(in crate::ops) fn run(
        &self,
        qkv: &CudaStorage,
        layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (queue, dtype) = (Queue::of(qkv), qkv.dtype());
        let (batch, n, _) = layout.shape().dims3()?;
        let (heads, depth) = (self.heads, self.depth);
        let sizes = Sizes {
            dtype,
            batch,
            heads,
            depth,
            queries: n,
            keys: n,
        };
        let in_place = |qkv, which| HeadRows::in_qkv(qkv, which, dtype, (heads, n, depth));
        let whole = Layout::contiguous((batch, heads, n, depth));
        let input = |storage, layout| Input {
            storage,
            layout,
            dtype,
        };
        match self.prepare(qkv, layout, sizes)? {
            Some([q, k]) => {
                let inputs = [input(&q, &whole), input(&k, &whole), input(qkv, layout)];
                attend(&queue, sizes, inputs, |[q, k, qkv]| {
                    let [q, k] = [q, k].map(|x| HeadRows::contiguous(x, heads, n, depth));
                    [q, k, in_place(qkv, 2)]
                })
            }
            None => attend(&queue, sizes, [input(qkv, layout)], |[qkv]| {
                [0, 1, 2].map(|which| in_place(qkv, which))
            }),
        }
    }

    /// Returns queries and keys, normalized and rotated, [batch, heads, n, depth]; `None` when they can be read where they
    /// lie.
    fn prepare(
        &self,
        qkv: &CudaStorage,
        layout: &Layout,
        sizes: Sizes,
    ) -> Result<Option<[CudaStorage; 2]>> {
        if self.norms.iter().all(Option::is_none) && self.rope.is_none() {
            return Ok(None);
        }
        let Sizes {
            dtype,
            batch,
            heads,
            depth,
            queries: n,
            ..
        } = sizes;
        let queue = Queue::of(qkv);
        let shape = Shape::from((batch, heads, n, depth));
        let mut q = queue.uninit(&shape, dtype)?;
        let mut k = queue.uninit(&shape, dtype)?;
        let tables = Tables::of(self.rope)?;
        let [[q_weight, q_bias], [k_weight, k_bias]] =
            self.norms.map(|norm| norm_parameters(norm, depth, dtype));
        let [cos, sin] = tables.parameters(depth);
        let operands = Operands {
            parameters: [q_weight, q_bias, k_weight, k_bias, cos, sin],
            inputs: [Input {
                storage: qkv,
                layout,
                dtype,
            }],
            outputs: [&mut q, &mut k],
        };
        queue.launch(operands, |at| {
            let [q_weight, q_bias, k_weight, k_bias, cos, sin] = at.parameters;
            let ([qkv], [q, k]) = (at.inputs, at.outputs);
            let [q_eps, k_eps] = self.norms.map(|norm| norm.map_or(0.0, |norm| norm.eps));
            cuda::heads(HeadsCall {
                dtype,
                tokens: (batch, n),
                heads: (heads, depth),
                norms: [
                    HeadNorm {
                        weight: q_weight,
                        bias: q_bias,
                        eps: q_eps,
                    },
                    HeadNorm {
                        weight: k_weight,
                        bias: k_bias,
                        eps: k_eps,
                    },
                ],
                rotation: HeadRotation {
                    cos,
                    sin,
                    positions: tables.positions,
                },
                qkv,
                q,
                k,
            })
        })?;
        Ok(Some([q, k]))
    }
}

/// The tables of a rotation for the kernel, which rotates in F32.
struct Tables {
    cos_sin: Option<[Tensor; 2]>,
    positions: usize,
}

impl Tables {
    fn of(rope: Option<&RopeTable>) -> Result<Self> {
        let in_f32 = |t: &Tensor| t.to_dtype(DType::F32);
        Ok(match rope {
            Some(rope) => Self {
                cos_sin: Some([in_f32(&rope.cos)?, in_f32(&rope.sin)?]),
                positions: rope.positions()?,
            },
            None => Self {
                cos_sin: None,
                positions: 1,
            },
        })
    }

    fn parameters(&self, depth: usize) -> [Parameter<'_>; 2] {
        match &self.cos_sin {
            Some(tables) => tables
                .each_ref()
                .map(|t| Parameter::new(t, self.positions * depth, DType::F32)),
            None => [Parameter::NONE; 2],
        }
    }
}

fn norm_parameters(norm: Option<Norm<'_>>, depth: usize, dtype: DType) -> [Parameter<'_>; 2] {
    match norm {
        Some(norm) => [norm.weight, norm.bias].map(|t| Parameter::new(t, depth, dtype)),
        None => [Parameter::NONE; 2],
    }
}

/// Queries or keys of one sequence, prepared.
pub(in crate::ops) struct HeadPreparation<'a> {
    /// Heads.
    pub(in crate::ops) heads: usize,
    /// Channels of a head.
    pub(in crate::ops) depth: usize,
    /// Normalizes each head.
    pub(in crate::ops) norm: Option<Norm<'a>>,
    /// Rotates each head by the token's position.
    pub(in crate::ops) rope: Option<&'a RopeTable>,
}

impl HeadPreparation<'_> {
    /// Returns [B, heads, N, D] for x, contiguous, [B, N, heads D].
    pub(in crate::ops) fn run(
        &self,
        x: &CudaStorage,
        layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (queue, dtype) = (Queue::of(x), x.dtype());
        let (batch, n, _) = layout.shape().dims3()?;
        let (heads, depth) = (self.heads, self.depth);
        let shape = Shape::from((batch, heads, n, depth));
        let mut out = queue.uninit(&shape, dtype)?;
        let tables = Tables::of(self.rope)?;
        let [weight, bias] = norm_parameters(self.norm, depth, dtype);
        let [cos, sin] = tables.parameters(depth);
        let operands = Operands {
            parameters: [weight, bias, cos, sin],
            inputs: [Input {
                storage: x,
                layout,
                dtype,
            }],
            outputs: [&mut out],
        };
        queue.launch(operands, |at| {
            let [weight, bias, cos, sin] = at.parameters;
            let ([x], [out]) = (at.inputs, at.outputs);
            let eps = self.norm.map_or(0.0, |norm| norm.eps);
            cuda::heads(HeadsCall {
                dtype,
                tokens: (batch, n),
                heads: (heads, depth),
                norms: [HeadNorm { weight, bias, eps }, HeadNorm::NONE],
                rotation: HeadRotation {
                    cos,
                    sin,
                    positions: tables.positions,
                },
                qkv: x,
                q: out,
                k: Address::NULL,
            })
        })?;
        Ok((out, shape))
    }
}

/// Attends, with new memory for the result, [batch, queries, heads * depth]. `rows` returns where queries, keys and values
/// are in the inputs.
fn attend<const I: usize>(
    queue: &Queue,
    sizes: Sizes,
    inputs: [Input<'_>; I],
    rows: impl FnOnce([Address; I]) -> [HeadRows; 3],
) -> Result<(CudaStorage, Shape)> {
    let Sizes {
        dtype,
        batch,
        heads,
        depth,
        queries,
        keys,
    } = sizes;
    let shape = Shape::from((batch, queries, heads * depth));
    let mut out = queue.uninit(&shape, dtype)?;
    let operands = Operands {
        parameters: [],
        inputs,
        outputs: [&mut out],
    };
    queue.launch(operands, |at| {
        let ([q, k, v], [out]) = (rows(at.inputs), at.outputs);
        let call = AttentionCall {
            dtype,
            batch,
            heads: (heads, depth),
            queries,
            keys,
            q,
            k,
            v,
            out,
        };
        cuda::attention(call, queue.code()?)
    })?;
    Ok((out, shape))
}
