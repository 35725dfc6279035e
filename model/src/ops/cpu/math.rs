//! Functions of vectors.

use super::Vector;

/// 2^x, relative error below 2e-7, for x up to 127; 0 or a number that small where a float ends below.
///
/// # Safety
/// The processor must have the instruction set of `V`.
// x = n + r with 0 <= r < 1: a polynomial for 2^r, and n into the exponent. Minimax for the relative error with the first
// coefficient held at 1, so that 2^0 is 1: 8.3e-8.
#[inline(always)]
pub(crate) unsafe fn exp2<V: Vector>(x: V) -> V {
    // SAFETY: the caller's promise.
    let c = |x: f32| unsafe { V::splat(x) };
    let r = x.fraction();
    let p = c(1.867_130_2e-3);
    let p = p.mul_add(r, c(9.017_03e-3));
    let p = p.mul_add(r, c(5.579_991e-2));
    let p = p.mul_add(r, c(2.401_644_5e-1));
    let p = p.mul_add(r, c(6.931_513e-1));
    p.mul_add(r, c(1.0)).times_pow2_floor(x)
}

/// Mean and 1 / standard deviation of a row, in two passes.
///
/// # Safety
/// The processor must have the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn moments<V: Vector>(row: &[f32], eps: f32) -> (f32, f32) {
    let n = row.len() as f32;
    // SAFETY: the caller's promise.
    unsafe {
        let mean = sum::<V, false>(row, 0.0) / n;
        let variance = sum::<V, true>(row, mean) / n;
        (mean, 1.0 / (variance + eps).sqrt())
    }
}

/// The sum of x - center, or of its squares.
///
/// # Safety
/// The processor must have the instruction set of `V`.
#[inline(always)]
unsafe fn sum<V: Vector, const SQUARES: bool>(row: &[f32], center: f32) -> f32 {
    // SAFETY: all elements lie inside the row.
    unsafe {
        let c = V::splat(center);
        let mut sum = V::zero();
        let chunks = row.chunks_exact(V::LANES);
        let rest = chunks.remainder();
        for chunk in chunks {
            let x = V::load(chunk.as_ptr()) - c;
            sum = if SQUARES { x.mul_add(x, sum) } else { sum + x };
        }
        let mut total = sum.sum();
        for x in rest {
            let x = x - center;
            total += if SQUARES { x * x } else { x };
        }
        total
    }
}

/// x Φ(x), absolute error below 4e-7 for |x| up to 4 and relative error of that order beyond.
///
/// # Safety
/// The processor must have the instruction set of `V`.
// Φ through the error function, by formula 7.1.26 of Abramowitz and Stegun, whose error is at most 1.5e-7: for z = |x| / √2,
// erf(z) = 1 - q with q = t (a1 + t (a2 + ...)) e^(-z²) and t = 1 / (1 + 0.3275911 z). Then x Φ(x) = max(x, 0) - |x| q / 2,
// on both sides of 0.
#[inline(always)]
pub(crate) unsafe fn gelu<V: Vector>(x: V) -> V {
    // SAFETY: the caller's promise.
    let c = |x: f32| unsafe { V::splat(x) };
    // Beyond 20 q is 0, and an infinity must not meet it. In this order, NaN is propagated.
    let size = c(20.0).min(x.abs());
    let t = (size.mul_add(c(0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2), c(1.0))).reciprocal();
    let p = c(0.5 * 1.061_405_4);
    let p = p.mul_add(t, c(0.5 * -1.453_152));
    let p = p.mul_add(t, c(0.5 * 1.421_413_7));
    let p = p.mul_add(t, c(0.5 * -0.284_496_74));
    let p = p.mul_add(t, c(0.5 * 0.254_829_6));
    // SAFETY: the caller's promise.
    let tail = unsafe { exp2(size * size * c(-0.5 * std::f32::consts::LOG2_E)) };
    let half_q = p * t * tail;
    half_q.neg_mul_add(size, c(0.0).max(x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cpu::{Isa, Kernel};

    /// Applies a function to elements, a multiple of 16 of them.
    struct Map<'a>(&'a mut [f32], Function);

    #[derive(Clone, Copy)]
    enum Function {
        Exp2,
        Gelu,
    }

    impl Kernel for Map<'_> {
        type Output = ();

        #[inline(always)]
        unsafe fn run<V: Vector>(self) {
            for chunk in self.0.chunks_exact_mut(V::LANES) {
                // SAFETY: the chunk holds one register; the instruction set is the caller's.
                unsafe {
                    let x = V::load(chunk.as_ptr());
                    let y = match self.1 {
                        Function::Exp2 => exp2(x),
                        Function::Gelu => gelu(x),
                    };
                    y.store(chunk.as_mut_ptr());
                }
            }
        }
    }

    #[test]
    fn exp2_is_as_good_as_a_float() {
        for isa in Isa::all() {
            let x: Vec<f32> = (0..1 << 16).map(|i| i as f32 / 280.0 - 120.0).collect();
            let mut y = x.clone();
            isa.run(Map(&mut y, Function::Exp2));
            for (x, y) in x.iter().zip(y) {
                let exact = f64::from(*x).exp2();
                let error = (f64::from(y) - exact).abs() / exact;
                assert!(error < 2e-7, "{}: exp2({x}) = {y}, {error:e}", isa.name());
            }
        }
    }

    #[test]
    fn exp2_ends_where_floats_end() {
        for isa in Isa::all() {
            let x = [
                f32::NEG_INFINITY,
                -1e30,
                -130.0,
                0.0,
                f32::NAN,
                -0.0,
                127.0,
                -126.0,
            ];
            let mut y = x.repeat(2);
            isa.run(Map(&mut y, Function::Exp2));
            assert!(y[..3].iter().all(|y| *y >= 0.0 && *y < 3e-38), "{y:?}");
            assert_eq!(y[3], 1.0);
            assert!(y[4].is_nan());
            assert_eq!(y[5], 1.0);
            assert_eq!(y[6], 2f32.powi(127));
            assert_eq!(y[7], f32::MIN_POSITIVE);
        }
    }

    #[test]
    fn gelu_keeps_what_is_not_finite() {
        for isa in Isa::all() {
            let x = [f32::NAN, f32::INFINITY, -1e30, 1e30, 0.0, -0.0, -20.0, 20.0];
            let mut y = x.repeat(2);
            isa.run(Map(&mut y, Function::Gelu));
            assert!(y[0].is_nan(), "{y:?}");
            assert_eq!((y[1], y[3], y[7]), (f32::INFINITY, 1e30, 20.0));
            assert!(
                [y[2], y[4], y[5], y[6]].iter().all(|y| y.abs() < 1e-36),
                "{y:?}"
            );
        }
    }

    #[test]
    fn gelu_is_the_exact_form() {
        for isa in Isa::all() {
            let x: Vec<f32> = (0..1 << 16).map(|i| i as f32 / 2000.0 - 16.0).collect();
            let mut y = x.clone();
            isa.run(Map(&mut y, Function::Gelu));
            for (x, y) in x.iter().zip(y) {
                let exact = f64::from(candle_core::cpu::erf::erf_f32(x / 2f32.sqrt()));
                let exact = f64::from(*x) * 0.5 * (1.0 + exact);
                let error = (f64::from(y) - exact).abs();
                assert!(
                    error < 4e-7 * exact.abs().max(1.0),
                    "{}: {x} {y} {exact}",
                    isa.name()
                );
            }
        }
    }
}
