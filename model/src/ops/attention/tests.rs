use candle_core::{DType, Device};

use super::*;
use crate::ops::cpu::Isa;
use crate::ops::testing::{random, random_sizes, relative_error};
use crate::stop::StopFlag;

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
    for (b, heads, positions, frames, d) in [(1, 1, 1, 1, 4), (2, 3, 5, 3, 16), (1, 2, 60, 5, 64)] {
        let n = positions * frames;
        let qkv = random(&[b, n, 3 * heads * d]);
        let norms = [0, 1].map(|_| LayerNorm::from_tensors(random(&[d]), random(&[d]), 1e-5));
        let rope = RopeTable::new(random(&[positions, d]), random(&[positions, d]));
        let wide_norms = norms
            .clone()
            .map(|norm| norm.with_dtype(DType::F64).unwrap());
        let wide_rope = RopeTable::new(wide(&rope.cos), wide(&rope.sin));
        for (normed, rotated) in [(false, false), (true, false), (false, true), (true, true)] {
            let op =
                |norms: &'_ [LayerNorm; 2], rope: &'_ RopeTable, isa: Option<Isa>, x: &Tensor| {
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

/// The attention of one head in 16-bit integers.
fn in_integers(isa: Isa, qkv: &Tensor, depth: usize) -> Tensor {
    let op = SelfAttention {
        num_heads: 1,
        q_norm: None,
        k_norm: None,
        rope: None,
        precision: Precision::Fast,
    };
    let backend = Backend::Cpu(isa);
    qkv.apply_op1_no_bwd(&FlashSelf { op, depth, backend })
        .unwrap()
}

#[test]
fn small_weights_count_beside_a_large_one() {
    // One key has a weight of 1, and 500 others 2^-11 each, together a fifth: integers that are as large as the largest weight
    // allows for an even block would lose them.
    let (n, d) = (501, 32);
    let mut qkv = vec![0f32; n * 3 * d];
    for (i, row) in qkv.chunks_exact_mut(3 * d).enumerate() {
        row[0] = 1.0;
        row[d] = if i == 300 {
            11.0 * 2f32.ln() * (d as f32).sqrt()
        } else {
            0.0
        };
        row[2 * d + 1] = if i == 300 { -1.0 } else { 1.0 };
    }
    let others = 500.0 / 2f64.powi(11);
    let exact = (others - 1.0) / (others + 1.0);
    let qkv = Tensor::from_vec(qkv, (1, n, 3 * d), &Device::Cpu).unwrap();
    for isa in Isa::all() {
        let out = in_integers(isa, &qkv, d).flatten_all().unwrap();
        let out = f64::from(out.to_vec1::<f32>().unwrap()[1]);
        assert!((out - exact).abs() < 3e-4, "{}: {out} {exact}", isa.name());
    }
}

#[test]
fn a_channel_of_large_values_leaves_the_others_alone() {
    let (n, d) = (300, 16);
    let qkv = random(&[1, n, 3 * d]);
    let mut large = qkv.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for row in large.chunks_exact_mut(3 * d) {
        row[2 * d + 3] *= 1e6;
    }
    let large = Tensor::from_vec(large, (1, n, 3 * d), &Device::Cpu).unwrap();
    for isa in Isa::all() {
        let small = in_integers(isa, &qkv, d).to_vec3::<f32>().unwrap();
        let large = in_integers(isa, &large, d).to_vec3::<f32>().unwrap();
        for (small, large) in small[0].iter().zip(&large[0]) {
            for (i, (x, y)) in small.iter().zip(large).enumerate() {
                let expected = if i == 3 { 1e6 * x } else { *x };
                assert!(
                    (y - expected).abs() <= 1e-3 * expected.abs().max(0.01),
                    "{i}: {y}"
                );
            }
        }
    }
}

#[test]
fn what_is_not_finite_shows_in_integers_too() {
    let (n, d) = (200, 16);
    for (at, what) in [(0, "q"), (d, "k"), (2 * d, "v")] {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut qkv = random(&[n, 3 * d])
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap();
            qkv[150 * 3 * d + at] = bad;
            let qkv = Tensor::from_vec(qkv, (1, n, 3 * d), &Device::Cpu).unwrap();
            for isa in Isa::all() {
                let out = in_integers(isa, &qkv, d).to_vec3::<f32>().unwrap();
                assert!(!out[0][150][0].is_finite(), "{} {what} {bad}", isa.name());
            }
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let qkv = random(&[1, 700, 3 * 2 * 16]);
    let of = |precision| SelfAttention {
        num_heads: 2,
        q_norm: None,
        k_norm: None,
        rope: None,
        precision,
    };
    let both = [Precision::Exact, Precision::Fast].map(of);
    for (isa, op) in Isa::all()
        .into_iter()
        .flat_map(|isa| both.map(|op| (isa, op)))
    {
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
fn a_flag_ends_attention_from_another_thread() {
    // 1.7e12 operations, a second for twenty cores; the flag comes long before.
    let qkv = random(&[1, 40_000, 3 * 4 * 64]);
    let op = SelfAttention {
        num_heads: 4,
        q_norm: None,
        k_norm: None,
        rope: None,
        precision: Precision::Exact,
    };
    let stop = StopFlag::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            stop.stop();
        });
        let done = stop.watch(|| op.forward(&qkv));
        assert!(done.is_err());
    });
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
