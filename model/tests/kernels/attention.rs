//! `heads.cu`, `flash_attention.cu`, `attention.cu`, and the three joined as the network joins them.

use candle_core::{DType, Tensor};
use vggt_model::{
    Precision,
    ops::{
        LayerNorm, RopeTable, SelfAttention,
        cuda::{
            Address, AttentionCall, ComputeCapability, HeadNorm, HeadRotation, HeadRows, HeadsCall,
            attention, heads,
        },
    },
};

use super::{DTYPES, Memory, Random, Runner, relative_error, rounding};

/// A card with tensor cores, and one without.
const AMPERE: ComputeCapability = ComputeCapability::new(8, 0);
const TURING: ComputeCapability = ComputeCapability::new(7, 5);

/// Two roundings of values to 16 bits: of the weights, and of the result, relative to the largest value.
/// Scores and sums are F32.
fn tolerance(dtype: DType) -> f64 {
    2.0 * rounding(dtype) + 64.0 * rounding(DType::F32)
}

/// Norm and rotation of a sequence, and how the kernels see them.
struct Preparation {
    norms: [(Memory, Memory, f32); 2],
    rotation: (Memory, Memory),
    positions: usize,
    depth: usize,
    normed: bool,
    rotated: bool,
}

impl Preparation {
    fn random(
        random: &mut Random,
        dtype: DType,
        (positions, depth): (usize, usize),
        (normed, rotated): (bool, bool),
    ) -> Self {
        let norm = |random: &mut Random, eps| {
            let [weight, bias] = [0, 1].map(|_| Memory::new(&random.values(depth), dtype));
            (weight, bias, eps)
        };
        let norms = [norm(random, 1e-5), norm(random, 1e-3)];
        let table =
            |random: &mut Random| Memory::new(&random.values(positions * depth), DType::F32);
        Self {
            norms,
            rotation: (table(random), table(random)),
            positions,
            depth,
            normed,
            rotated,
        }
    }

    fn memory(&self) -> [&Memory; 6] {
        let [(a, b, _), (c, d, _)] = &self.norms;
        [a, b, c, d, &self.rotation.0, &self.rotation.1]
    }

    fn norms(&self) -> [HeadNorm; 2] {
        [0, 1].map(|i| match (&self.norms[i], self.normed) {
            ((weight, bias, eps), true) => HeadNorm {
                weight: weight.address(),
                bias: bias.address(),
                eps: *eps,
            },
            _ => HeadNorm::NONE,
        })
    }

    fn rotation(&self) -> HeadRotation {
        match self.rotated {
            true => HeadRotation {
                cos: self.rotation.0.address(),
                sin: self.rotation.1.address(),
                positions: self.positions,
            },
            false => HeadRotation::NONE,
        }
    }

    fn plain_norms(&self) -> [LayerNorm; 2] {
        [0, 1].map(|i| {
            let (weight, bias, eps) = &self.norms[i];
            LayerNorm::from_tensors(weight.tensor(self.depth), bias.tensor(self.depth), *eps)
        })
    }

    fn plain_rope(&self) -> RopeTable {
        let shape = (self.positions, self.depth);
        RopeTable::new(self.rotation.0.tensor(shape), self.rotation.1.tensor(shape))
    }

    /// What `heads.cu` makes of queries `x` [b, n, h, d] without keys and values: [b, h, n, d].
    fn queries_alone(
        &self,
        runner: Runner,
        (x, dtype): (&Memory, DType),
        (b, n): (usize, usize),
        (h, d): (usize, usize),
    ) -> Memory {
        let mut q = Memory::unwritten(b * h * n * d, dtype, 0);
        let call = heads(HeadsCall {
            dtype,
            tokens: (b, n),
            heads: (h, d),
            norms: self.norms(),
            rotation: self.rotation(),
            qkv: x.address(),
            q: q.address(),
            k: Address::NULL,
        })
        .unwrap();
        let inputs = [&[x][..], &self.memory()[..]].concat();
        runner.run(&call, &inputs, &mut q);
        q
    }
}

#[test]
fn queries_and_keys_are_normalised_and_rotated_as_in_the_plain_version() {
    let mut random = Random(21);
    // Batch, heads, positions, repetitions of them, depth, offset of the memory.
    let shapes = [
        (1, 1, 1, 1, 4, 0),
        (2, 3, 5, 3, 64, 0),
        (1, 2, 7, 1, 64, 1),
        (2, 1, 3, 2, 128, 0),
        (1, 2, 4, 2, 20, 0),
        (1, 1, 3, 1, 256, 0),
    ];
    for dtype in DTYPES {
        for (b, h, positions, frames, d, offset) in shapes {
            let n = positions * frames;
            let qkv = Memory::at_offset(&random.values(b * n * 3 * h * d), dtype, offset);
            for (normed, rotated) in [(false, false), (true, false), (false, true), (true, true)] {
                let prepare =
                    Preparation::random(&mut random, dtype, (positions, d), (normed, rotated));
                for &runner in Runner::all() {
                    // Queries and keys side by side, so that one buffer shows what was written.
                    let len = b * h * n * d;
                    let mut out = Memory::unwritten(2 * len, dtype, 0);
                    let half = (len * dtype.size_in_bytes()) as u64;
                    let mut keys = out.address();
                    keys.0 += half;
                    let call = heads(HeadsCall {
                        dtype,
                        tokens: (b, n),
                        heads: (h, d),
                        norms: prepare.norms(),
                        rotation: prepare.rotation(),
                        qkv: qkv.address(),
                        q: out.address(),
                        k: keys,
                    })
                    .unwrap();
                    let inputs = [&[&qkv][..], &prepare.memory()[..]].concat();
                    runner.run(&call, &inputs, &mut out);

                    let ours = out.tensor((2, b, h, n, d));
                    let parts = qkv
                        .tensor((b, n, 3, h, d))
                        .permute((2, 0, 3, 1, 4))
                        .unwrap();
                    for i in 0..2 {
                        let x = parts.get(i).unwrap().contiguous().unwrap();
                        let x = match normed {
                            true => prepare.plain_norms()[i].forward(&x).unwrap(),
                            false => x,
                        };
                        let exact = match rotated {
                            true => prepare.plain_rope().apply(&x).unwrap(),
                            false => x,
                        };
                        let error = relative_error(&ours.get(i).unwrap(), &exact);
                        // One rounding; norm and rotation are a few in F32.
                        let tolerance = rounding(dtype) + 16.0 * rounding(DType::F32);
                        assert!(
                            error < tolerance,
                            "{runner} {dtype:?} {b} {h} {n} {d} {normed} {rotated} {i}: {error:e}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn queries_alone_are_prepared_as_beside_keys_and_values() {
    let mut random = Random(22);
    for dtype in DTYPES {
        for (b, h, positions, frames, d, offset) in
            [(1, 1, 1, 1, 4, 0), (2, 3, 5, 3, 64, 0), (1, 2, 7, 1, 64, 1)]
        {
            let n = positions * frames;
            let x = Memory::at_offset(&random.values(b * n * h * d), dtype, offset);
            let prepare = Preparation::random(&mut random, dtype, (positions, d), (true, true));
            for &runner in Runner::all() {
                let out = prepare.queries_alone(runner, (&x, dtype), (b, n), (h, d));
                let plain = x.tensor((b, n, h, d)).transpose(1, 2).unwrap();
                let plain = prepare.plain_norms()[0].forward(&plain.contiguous().unwrap());
                let exact = prepare.plain_rope().apply(&plain.unwrap()).unwrap();
                let error = relative_error(&out.tensor((b, h, n, d)), &exact);
                let tolerance = rounding(dtype) + 16.0 * rounding(DType::F32);
                assert!(
                    error < tolerance,
                    "{runner} {dtype:?} {b} {h} {n} {d}: {error:e}"
                );
            }
        }
    }
}

/// softmax(q kᵀ / sqrt(d)) v, the reference implementation. All F64, [batch, heads, rows, depth].
fn plain(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    vggt_model::ops::attention(q, k, v).unwrap()
}

/// The kernel on tensors of their own against the reference implementation. `card` says which kernel.
fn compare(
    random: &mut Random,
    dtype: DType,
    card: ComputeCapability,
    (b, h, m, n, d): (usize, usize, usize, usize, usize),
    scale: f32,
) {
    let mut tensor = |rows: usize, scale: f32| {
        let values = random.values(b * h * rows * d);
        let values: Vec<f32> = values.iter().map(|x| x * scale).collect();
        Memory::new(&values, dtype)
    };
    let (q, k, v) = (tensor(m, scale), tensor(n, 1.0), tensor(n, 1.0));
    for &runner in Runner::all() {
        let mut out = Memory::unwritten(b * m * h * d, dtype, 0);
        let rows = |memory: &Memory, rows| HeadRows::contiguous(memory.address(), h, rows, d);
        let call = attention(
            AttentionCall {
                dtype,
                batch: b,
                heads: (h, d),
                queries: m,
                keys: n,
                q: rows(&q, m),
                k: rows(&k, n),
                v: rows(&v, n),
                out: out.address(),
            },
            card,
        )
        .unwrap();
        runner.run(&call, &[&q, &k, &v], &mut out);
        let wide = |memory: &Memory, rows: usize| memory.tensor((b, h, rows, d));
        let exact = plain(&wide(&q, m), &wide(&k, n), &wide(&v, n));
        let error = relative_error(&out.tensor((b, m, h * d)), &exact);
        assert!(
            error < tolerance(dtype),
            "{runner} {} {b} {h} {m} {n} {d} {scale}: {error:e}",
            call.function
        );
    }
}

#[test]
fn flash_attention_on_tensor_cores_matches_the_reference() {
    let mut random = Random(31);
    for dtype in [DType::F16, DType::BF16] {
        // One query and key; a tile and a key; tails of both; more queries than keys and the other way round.
        for (b, h, m, n) in [
            (1, 1, 1, 1),
            (1, 2, 16, 65),
            (2, 1, 129, 63),
            (1, 1, 40, 200),
            (1, 1, 130, 128),
        ] {
            compare(&mut random, dtype, AMPERE, (b, h, m, n, 64), 1.0);
        }
        // Scores so large that one key has nearly all the weight.
        compare(&mut random, dtype, AMPERE, (1, 1, 20, 100, 64), 30.0);
    }
}

#[test]
fn attention_of_any_type_and_depth_matches_the_reference() {
    let mut random = Random(32);
    for dtype in DTYPES {
        for shape in [
            (1, 1, 1, 1, 1),
            (1, 2, 3, 5, 4),
            (2, 2, 49, 31, 6),
            (1, 1, 24, 70, 64),
            (1, 1, 33, 40, 172),
        ] {
            compare(&mut random, dtype, TURING, shape, 1.0);
        }
    }
    // F32 does not lose digits in the weights either.
    let mut random = Random(33);
    compare(&mut random, DType::F32, AMPERE, (1, 1, 40, 129, 64), 3.0);
}

#[test]
fn random_sizes_match_the_reference_too() {
    let mut random = Random(34);
    for _ in 0..4 {
        let (b, h) = (random.within(1, 3), random.within(1, 3));
        let (m, n) = (random.within(1, 150), random.within(1, 150));
        let d = 4 * random.within(1, 20);
        compare(&mut random, DType::BF16, AMPERE, (b, h, m, n, 64), 1.0);
        compare(&mut random, DType::F32, AMPERE, (b, h, m, n, d), 1.0);
    }
}

#[test]
fn self_attention_reads_queries_keys_and_values_where_they_lie() {
    let mut random = Random(41);
    let (b, h, d) = (2, 2, 64);
    let (positions, frames) = (13, 2);
    let n = positions * frames;
    for (dtype, normed, rotated) in [
        (DType::BF16, false, false),
        (DType::BF16, true, true),
        (DType::F16, true, true),
        (DType::F32, false, false),
        (DType::F32, true, true),
    ] {
        let qkv = Memory::new(&random.values(b * n * 3 * h * d), dtype);
        let prepare = Preparation::random(&mut random, dtype, (positions, d), (normed, rotated));
        for &runner in Runner::all() {
            let [mut q, mut k] = [0, 1].map(|_| Memory::unwritten(b * h * n * d, dtype, 0));
            let in_place = |which| HeadRows::in_qkv(qkv.address(), which, dtype, (h, n, d));
            let mut rows = [in_place(0), in_place(1)];
            if normed || rotated {
                let call = heads(HeadsCall {
                    dtype,
                    tokens: (b, n),
                    heads: (h, d),
                    norms: prepare.norms(),
                    rotation: prepare.rotation(),
                    qkv: qkv.address(),
                    q: q.address(),
                    k: k.address(),
                })
                .unwrap();
                let inputs = [&[&qkv][..], &prepare.memory()[..]].concat();
                runner.run_all(&call, &inputs, &mut [&mut q, &mut k]);
                rows = [&q, &k].map(|x| HeadRows::contiguous(x.address(), h, n, d));
            }
            let mut out = Memory::unwritten(b * n * h * d, dtype, 0);
            let call = attention(
                AttentionCall {
                    dtype,
                    batch: b,
                    heads: (h, d),
                    queries: n,
                    keys: n,
                    q: rows[0],
                    k: rows[1],
                    v: in_place(2),
                    out: out.address(),
                },
                AMPERE,
            )
            .unwrap();
            runner.run(&call, &[&qkv, &q, &k], &mut out);

            let norms = prepare.plain_norms();
            let rope = prepare.plain_rope();
            let op = SelfAttention {
                num_heads: h,
                q_norm: normed.then_some(&norms[0]),
                k_norm: normed.then_some(&norms[1]),
                rope: rotated.then_some(&rope),
                precision: Precision::Exact,
            };
            let exact = op.forward(&qkv.tensor((b, n, 3 * h * d))).unwrap();
            let error = relative_error(&out.tensor((b, n, h * d)), &exact);
            // Rounded queries and keys move the scores, here up to 30 or so, by some roundings of that size.
            let of_scores = match normed || rotated {
                true => 64.0 * rounding(dtype),
                false => 0.0,
            };
            assert!(
                error < tolerance(dtype) + of_scores,
                "{runner} {dtype:?} {normed} {rotated}: {error:e}"
            );
        }
    }
}

/// As the other frames of a capture attend to the anchors: the queries are prepared alone, and all frames read the same keys
/// and values, of which there are more or fewer.
#[test]
fn the_frames_of_a_batch_attend_to_the_keys_and_values_of_others() {
    let mut random = Random(42);
    let (h, d, positions) = (2, 64, 13);
    for (dtype, frames, keys, one_sequence) in [
        (DType::BF16, 3, 5 * 13, true),
        (DType::BF16, 4, 13, false),
        (DType::F16, 12, 2 * 13, true),
        (DType::F32, 2, 7 * 13, false),
    ] {
        let m = frames * positions;
        let x = Memory::new(&random.values(m * h * d), dtype);
        let k = Memory::new(&random.values(keys * h * d), dtype);
        let v = Memory::new(&random.values(keys * h * d), dtype);
        let prepare = Preparation::random(&mut random, dtype, (positions, d), (true, true));
        // One sequence of all frames, as the network has it, or one for each: then the keys' batch stride is 0.
        let (b, n) = match one_sequence {
            true => (1, m),
            false => (frames, positions),
        };
        for &runner in Runner::all() {
            let q = prepare.queries_alone(runner, (&x, dtype), (b, n), (h, d));
            let kept = |memory: &Memory| {
                let mut rows = HeadRows::contiguous(memory.address(), h, keys, d);
                rows.strides[0] = 0;
                rows
            };
            let mut out = Memory::unwritten(m * h * d, dtype, 0);
            let call = attention(
                AttentionCall {
                    dtype,
                    batch: b,
                    heads: (h, d),
                    queries: n,
                    keys,
                    q: HeadRows::contiguous(q.address(), h, n, d),
                    k: kept(&k),
                    v: kept(&v),
                    out: out.address(),
                },
                AMPERE,
            )
            .unwrap();
            runner.run(&call, &[&q, &k, &v], &mut out);

            let queries = q.tensor((b, h, n, d));
            let of_all = |memory: &Memory| {
                let one = memory.tensor((1, h, keys, d));
                one.broadcast_as((b, h, keys, d))
                    .unwrap()
                    .contiguous()
                    .unwrap()
            };
            let exact = plain(&queries, &of_all(&k), &of_all(&v));
            let error = relative_error(&out.tensor((b, n, h * d)), &exact);
            assert!(
                error < tolerance(dtype),
                "{runner} {dtype:?} {frames} {keys}: {error:e}"
            );
        }
    }
}
