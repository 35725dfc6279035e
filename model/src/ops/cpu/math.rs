//! Functions of vectors.

use super::Vector;

/// e^x, relative error below 2e-7; arguments are held to ±87, where a float ends.
///
/// # Safety
/// The processor must have the instruction set of `V`.
// Cephes' expf: x = n ln 2 + r with |r| <= ln(2)/2, a polynomial for e^r, and n into the exponent.
#[inline(always)]
pub(crate) unsafe fn exp<V: Vector>(x: V) -> V {
    // SAFETY: the caller's promise.
    let c = |x: f32| unsafe { V::splat(x) };
    // In this order, NaN is propagated.
    let x = c(88.3).min(c(-87.3).max(x));
    let n = (x * c(std::f32::consts::LOG2_E)).round();
    // ln 2 in two parts, of which n times the first is exact.
    let r = n.neg_mul_add(c(0.693_359_4), x);
    let r = n.neg_mul_add(c(-2.121_944_4e-4), r);
    let p = c(1.987_569_2e-4);
    let p = p.mul_add(r, c(1.398_2e-3));
    let p = p.mul_add(r, c(8.333_452e-3));
    let p = p.mul_add(r, c(4.166_579_6e-2));
    let p = p.mul_add(r, c(1.666_666_5e-1));
    let p = p.mul_add(r, c(0.5));
    let p = p.mul_add(r * r, r) + c(1.0);
    p.times_pow2(n)
}

/// 2^x, relative error below 2e-7; arguments are held to -126 and 127, where a float ends.
///
/// # Safety
/// The processor must have the instruction set of `V`.
// As `exp`, with the coefficients of Cephes' exp2f.
#[inline(always)]
pub(crate) unsafe fn exp2<V: Vector>(x: V) -> V {
    // SAFETY: the caller's promise.
    let c = |x: f32| unsafe { V::splat(x) };
    let x = c(127.0).min(c(-126.0).max(x));
    let n = x.round();
    let r = x - n;
    let p = c(1.535_336_2e-4);
    let p = p.mul_add(r, c(1.339_887_4e-3));
    let p = p.mul_add(r, c(9.618_437e-3));
    let p = p.mul_add(r, c(5.550_332_5e-2));
    let p = p.mul_add(r, c(2.402_264_8e-1));
    let p = p.mul_add(r, c(6.931_472e-1));
    p.mul_add(r, c(1.0)).times_pow2(n)
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
// Φ through the error function, by formula 7.1.26 of Abramowitz and Stegun, whose error is at most 1.5e-7.
#[inline(always)]
pub(crate) unsafe fn gelu<V: Vector>(x: V) -> V {
    // SAFETY: the caller's promise.
    let c = |x: f32| unsafe { V::splat(x) };
    let z = (x * c(std::f32::consts::FRAC_1_SQRT_2)).abs();
    let t = c(1.0) / z.mul_add(c(0.327_591_1), c(1.0));
    let p = c(1.061_405_4);
    let p = p.mul_add(t, c(-1.453_152));
    let p = p.mul_add(t, c(1.421_413_7));
    let p = p.mul_add(t, c(-0.284_496_74));
    let p = p.mul_add(t, c(0.254_829_6));
    // SAFETY: the caller's promise.
    let tail = unsafe { exp(c(0.0) - z * z) };
    let erf = (p * t).neg_mul_add(tail, c(1.0)).with_sign_of(x);
    x * c(0.5) * (c(1.0) + erf)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cpu::{Isa, Kernel};

    /// Applies a function to elements, a multiple of 16 of them.
    struct Map<'a>(&'a mut [f32], Function);

    #[derive(Clone, Copy)]
    enum Function {
        Exp,
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
                        Function::Exp => exp(x),
                        Function::Exp2 => exp2(x),
                        Function::Gelu => gelu(x),
                    };
                    y.store(chunk.as_mut_ptr());
                }
            }
        }
    }

    #[test]
    fn exp_is_as_good_as_a_float() {
        for isa in Isa::all() {
            let x: Vec<f32> = (0..1 << 16).map(|i| i as f32 / 400.0 - 86.0).collect();
            let mut y = x.clone();
            isa.run(Map(&mut y, Function::Exp));
            for (x, y) in x.iter().zip(y) {
                let exact = f64::from(*x).exp();
                let error = (f64::from(y) - exact).abs() / exact;
                assert!(error < 2e-7, "{}: exp({x}) = {y}, {error:e}", isa.name());
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
    fn exp_ends_where_floats_end() {
        for isa in Isa::all() {
            let mut y = [f32::NEG_INFINITY, -1e30, -88.0, 0.0].repeat(4);
            isa.run(Map(&mut y, Function::Exp));
            assert!(y[..3].iter().all(|y| *y >= 0.0 && *y < 2e-38), "{y:?}");
            assert_eq!(y[3], 1.0);
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
