use half::{bf16, f16};

use super::*;
use crate::ops::cpu::{
    Vector,
    epilogue::Identity,
    simd::load,
    weights::{Quantized, Weights},
};

/// Elements between -1 and 1, the same for the same seed.
fn random(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// The reference implementation.
fn reference(x: &[f64], w: &[f32], (m, n, k): (usize, usize, usize)) -> Vec<f64> {
    let dot = |i: usize, j: usize| (0..k).map(|l| x[i * k + l] * f64::from(w[j * k + l])).sum();
    (0..m)
        .flat_map(|i| (0..n).map(move |j| dot(i, j)))
        .collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

/// The product in f32; what is not written stays NaN.
fn product(
    isa: Isa,
    (m, n): (usize, usize),
    left: (&Matrix<'_>, Prepare<'_>),
    weights: Weights<'_>,
    epilogue: &impl Epilogue,
) -> Vec<f32> {
    let mut y = vec![f32::NAN; m * n];
    gemm(isa, (m, n), left, weights, epilogue, Shared::new(&mut y));
    y
}

/// The product in 16-bit integers; what is not written stays NaN.
fn product_in_integers(
    isa: Isa,
    (m, n): (usize, usize),
    left: (&Matrix<'_>, Prepare<'_>),
    weights: Weights<'_>,
) -> Vec<f32> {
    let mut y = vec![f32::NAN; m * n];
    let quantized = Quantized::new(isa, weights, (n, left.0.depth)).unwrap();
    let out = Shared::new(&mut y);
    gemm(isa, (m, n), left, quantized.columns(0..n), &Identity, out);
    y
}

/// Asserts that no element of `y` is further than `tolerance` from the exact one.
fn assert_near(y: &[f32], exact: &[f64], tolerance: f64, what: &str) {
    assert_eq!(y.len(), exact.len(), "{what}");
    for (y, exact) in y.iter().zip(exact) {
        let error = (f64::from(*y) - exact).abs();
        assert!(error < tolerance, "{what}: {y} {exact}");
    }
}

/// Sizes around every edge: tiles of 6 and 12 rows, 16 and 32 columns, blocks of 192 rows, 128 columns and 256 deep.
const SIZES: [(usize, usize, usize); 15] = [
    (0, 3, 4),
    (1, 1, 1),
    (1, 40, 300),
    (3, 5, 7),
    (6, 16, 8),
    (12, 32, 256),
    (13, 33, 257),
    (25, 129, 513),
    (193, 17, 31),
    (200, 130, 64),
    (1540, 3, 9),
    (7, 300, 12),
    (2, 70, 129),
    (4, 65, 1100),
    (20, 9, 1300),
];

/// Of sums of k products of elements below 1.
fn tolerance(k: usize) -> f64 {
    1e-7 * (k as f64 + 10.0)
}

#[test]
fn the_product_is_the_reference() {
    for isa in Isa::all() {
        for (m, n, k) in SIZES {
            let (x, w) = (random(m * k, 1), random(n * k, 2));
            let halves: Vec<f16> = w.iter().map(|x| f16::from_f32(*x)).collect();
            let bf16s: Vec<bf16> = w.iter().map(|x| bf16::from_f32(*x)).collect();
            let from_halves: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
            let from_brains: Vec<f32> = bf16s.iter().map(|x| x.to_f32()).collect();
            let left = Matrix { data: &x, depth: k };
            for (weights, w) in [
                (Weights::F32(&w), &w),
                (Weights::F16(&halves), &from_halves),
                (Weights::Bf16(&bf16s), &from_brains),
            ] {
                let left = (&left, Prepare::Plain);
                let y = product(isa, (m, n), left, weights, &Identity);
                let exact = reference(&wide(&x), w, (m, n, k));
                let what = format!("{} {m} {n} {k}", isa.name());
                assert_near(&y, &exact, tolerance(k), &what);
            }
        }
    }
}

#[test]
fn the_left_side_is_prepared_on_the_way() {
    for isa in Isa::all() {
        for (m, n, k) in SIZES {
            let (x, w) = (random(m * k, 3), random(n * k, 4));
            let (weight, bias) = (random(k, 5), random(k, 6));
            let moments: Vec<(f32, f32)> = random(m, 7).into_iter().map(|x| (x, 1.5 + x)).collect();
            let norm = Prepare::Norm {
                moments: &moments,
                weight: &weight,
                bias: &bias,
            };
            let relu: Vec<f64> = x.iter().map(|x| f64::from(x.max(0.0))).collect();
            let normed: Vec<f64> = (0..m * k)
                .map(|i| {
                    let (mean, rstd) = moments[i / k];
                    let x = (f64::from(x[i]) - f64::from(mean)) * f64::from(rstd);
                    x * f64::from(weight[i % k]) + f64::from(bias[i % k])
                })
                .collect();
            let left = Matrix { data: &x, depth: k };
            for (prepare, x) in [(Prepare::Relu, &relu), (norm, &normed)] {
                let (left, right) = ((&left, prepare), Weights::F32(&w));
                let y = product(isa, (m, n), left, right, &Identity);
                let exact = reference(x, &w, (m, n, k));
                let what = format!("{} {m} {n} {k}", isa.name());
                assert_near(&y, &exact, 10.0 * tolerance(k), &what);
            }
        }
    }
}

#[test]
fn relu_keeps_what_is_no_number() {
    // Few rows take a way of their own.
    for (isa, m) in Isa::all().into_iter().flat_map(|isa| [(isa, 2), (isa, 20)]) {
        let (n, k) = (3, 21);
        let mut x = random(m * k, 1);
        x[k + 19] = f32::NAN;
        let w = random(n * k, 2);
        let left = Matrix { data: &x, depth: k };
        let y = product(
            isa,
            (m, n),
            (&left, Prepare::Relu),
            Weights::F32(&w),
            &Identity,
        );
        for (row, y) in y.chunks(n).enumerate() {
            assert_eq!(
                y.iter().all(|y| y.is_nan()),
                row == 1,
                "{} {row}",
                isa.name()
            );
        }
    }
}

/// Adds 1000 row + column.
struct Position;

impl Epilogue for Position {
    #[inline(always)]
    unsafe fn apply<V: Vector>(&self, x: V, row: usize, column: usize, n: usize) -> V {
        let positions: Vec<f32> = (0..n).map(|i| (1000 * row + column + i) as f32).collect();
        // SAFETY: there are n of them.
        x + unsafe { load::<V>(&positions, 0, n) }
    }
}

#[test]
fn the_epilogue_sees_every_position_once() {
    for isa in Isa::all() {
        for (m, n, k) in SIZES {
            let x = vec![0.0; m * k];
            let left = Matrix { data: &x, depth: k };
            let w = random(n * k, 1);
            let (left, right) = ((&left, Prepare::Plain), Weights::F32(&w));
            let y = product(isa, (m, n), left, right, &Position);
            let positions = (0..m * n).map(|i| (1000 * (i / n) + i % n) as f32);
            assert!(y.into_iter().eq(positions), "{} {m} {n} {k}", isa.name());
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let (m, n, k) = (701, 390, 530);
    let (x, w) = (random(m * k, 8), random(n * k, 9));
    let left = Matrix { data: &x, depth: k };
    for isa in Isa::all() {
        let results = [1, 2, 5].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let (left, right) = ((&left, Prepare::Plain), Weights::F32(&w));
            pool.install(|| product(isa, (m, n), left, right, &Identity))
        });
        assert!(results[0] == results[1] && results[0] == results[2]);
    }
}

/// Depths that integers are multiplied at, in one block and in several.
const FAST: [(usize, usize, usize); 5] = [
    (1, 1, 16),
    (13, 33, 32),
    (25, 129, 512),
    (193, 17, 1024),
    (200, 130, 272),
];

#[test]
fn whole_numbers_lose_what_their_digits_say() {
    for isa in Isa::all() {
        for (m, n, k) in FAST {
            let (x, w) = (random(m * k, 11), random(n * k, 12));
            let left = Matrix { data: &x, depth: k };
            let (left, right) = ((&left, Prepare::Plain), Weights::F32(&w));
            let y = product_in_integers(isa, (m, n), left, right);
            // Each factor is off by at most half of its row's scale, evenly spread, against factors of 0.58 rms, added up over
            // k at random. The scale is that of a norm of 0.58 times the root of a block.
            let exact = reference(&wide(&x), &w, (m, n, k));
            let rms = (y.iter().zip(&exact))
                .map(|(y, exact)| (f64::from(*y) - exact).powi(2))
                .sum::<f64>();
            let rms = (rms / (m * n) as f64).sqrt();
            let scale = (0.58 * (k.min(512) as f64).sqrt() / 46_300.0).max(1.0 / 32_767.0);
            let expected = (2.0 * k as f64).sqrt() * 0.58 * scale / 12f64.sqrt();
            // A single element may be three times off.
            let limit = if m * n == 1 { 3.0 } else { 1.2 };
            assert!(
                rms < limit * expected,
                "{} {m} {n} {k}: {rms:e} {expected:e}",
                isa.name()
            );
        }
    }
}

#[test]
fn zeros_and_extremes_stay_what_they_are() {
    let k = 256;
    // More rows than those that are never multiplied in integers.
    let elements = [0.0f32, 1e30, -1.0, 1e-30].repeat(2);
    let x: Vec<f32> = elements.iter().flat_map(|x| vec![*x; k]).collect();
    let left = Matrix { data: &x, depth: k };
    let w = vec![1.0; k];
    for isa in Isa::all() {
        let (left, right) = ((&left, Prepare::Plain), Weights::F32(&w));
        let y = product_in_integers(isa, (8, 1), left, right);
        for (y, x) in y.into_iter().zip(&elements) {
            assert!(
                (y - 256.0 * x).abs() <= 1e-3 * (256.0 * x).abs(),
                "{}: {y}",
                isa.name()
            );
        }
    }
}
