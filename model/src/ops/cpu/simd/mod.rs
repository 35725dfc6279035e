//! Vectors of f32 elements, one register each, behind one trait.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use std::ops::{Add, Div, Mul, Sub};

use half::{bf16, f16};

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::F32x8;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::F32x16;

/// One register of elements.
///
/// Making a value is unsafe, since the processor must have the instruction set; having one is proof of that, so that the
/// arithmetic is not.
pub(crate) trait Vector:
    Copy
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
{
    /// Elements in a register.
    const LANES: usize;

    /// The register of eight elements that goes with it.
    type Eight: Eight;

    /// All lanes `x`.
    ///
    /// # Safety
    /// The processor must have the instruction set.
    unsafe fn splat(x: f32) -> Self;

    /// The elements from `p`, of any alignment.
    ///
    /// # Safety
    /// As [`Vector::splat`], and `LANES` elements must be readable.
    unsafe fn load(p: *const f32) -> Self;

    /// The `n` elements from `p`, `n` at most `LANES`, then zeros.
    ///
    /// # Safety
    /// As [`Vector::splat`], and `n` elements must be readable.
    unsafe fn load_first(p: *const f32, n: usize) -> Self;

    /// Converts f16 to f32.
    ///
    /// # Safety
    /// As [`Vector::load`].
    unsafe fn load_f16(p: *const f16) -> Self;

    /// Converts bf16 to f32.
    ///
    /// # Safety
    /// As [`Vector::load`].
    unsafe fn load_bf16(p: *const bf16) -> Self;

    /// Writes to `p`, of any alignment.
    ///
    /// # Safety
    /// `LANES` elements must be writable.
    unsafe fn store(self, p: *mut f32);

    /// Writes the first `n` elements, `n` at most `LANES`.
    ///
    /// # Safety
    /// `n` elements must be writable.
    unsafe fn store_first(self, p: *mut f32, n: usize);

    /// self a + b, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;

    /// b - self a, rounded once.
    fn neg_mul_add(self, a: Self, b: Self) -> Self;

    /// The larger of each two; `other` where one is NaN.
    fn max(self, other: Self) -> Self;

    /// The smaller of each two; `other` where one is NaN.
    fn min(self, other: Self) -> Self;

    /// Without the sign.
    fn abs(self) -> Self;

    /// The square root.
    fn sqrt(self) -> Self;

    /// self 2^n for an integer n; the result must be a normal number.
    fn times_pow2(self, n: Self) -> Self;

    /// self - floor(self), from 0 to 1; any such number where `self` is below -126.
    fn fraction(self) -> Self;

    /// self 2^floor(x) for `self` from 1 to 2 and x up to 127; 0 or a number below 2^-125 where x is below -126.
    fn times_pow2_floor(self, x: Self) -> Self;

    /// 1 / self, relative error below 2^-22, where neither is too large or too small for a normal number.
    fn reciprocal(self) -> Self;

    /// Whether any lane is larger than `other`'s.
    fn any_gt(self, other: Self) -> bool;

    /// All lanes together.
    fn sum(self) -> f32;

    /// The largest lane.
    fn largest(self) -> f32;

    /// Writes the lanes as 16-bit integers, to the nearest, ties to even; those beyond their range become the ends of it.
    ///
    /// # Safety
    /// `LANES` integers must be writable.
    unsafe fn store_i16(self, p: *mut i16);

    /// A register of as many 32-bit integers, each of which can also be a pair of 16-bit ones.
    type Int: Copy;

    /// All lanes 0.
    ///
    /// # Safety
    /// As [`Vector::splat`].
    unsafe fn int_zero() -> Self::Int;

    /// All lanes `x`.
    ///
    /// # Safety
    /// As [`Vector::splat`].
    unsafe fn int_splat(x: i32) -> Self::Int;

    /// The elements from `p`, of any alignment.
    ///
    /// # Safety
    /// As [`Vector::load`].
    unsafe fn int_load(p: *const i32) -> Self::Int;

    /// sums + a.0 b.0 + a.1 b.1 for the pairs of 16-bit integers in each lane.
    ///
    /// # Safety
    /// As [`Vector::splat`].
    unsafe fn dot_pairs(sums: Self::Int, a: Self::Int, b: Self::Int) -> Self::Int;

    /// Converts integers to f32.
    ///
    /// # Safety
    /// As [`Vector::splat`].
    unsafe fn from_int(x: Self::Int) -> Self;

    /// Each lane of `low` and `high` as a pair of 16-bit integers, rounded to nearest, ties to even; what is beyond their range
    /// gives any integers.
    fn pairs(low: Self, high: Self) -> Self::Int;

    /// Writes to `p`, of any alignment.
    ///
    /// # Safety
    /// `LANES` elements must be writable.
    unsafe fn int_store(x: Self::Int, p: *mut i32);

    /// All lanes 0.
    ///
    /// # Safety
    /// As [`Vector::splat`].
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::splat(0.0) }
    }
}

/// A register of eight elements, the unit in which rows are laid side by side.
pub(crate) trait Eight: Vector {
    /// Rows to columns: lane j of result i is lane i of row j.
    fn transpose(rows: [Self; 8]) -> [Self; 8];

    /// Writes the first `N` elements, 4, 6 or 8, without the cost of a mask.
    ///
    /// # Safety
    /// `N` elements must be writable.
    unsafe fn store_even<const N: usize>(self, p: *mut f32);
}

/// The `n` elements of `data` from `at`, for epilogues.
///
/// # Safety
/// The processor must have the instruction set of `V`; the elements must be there.
#[inline(always)]
pub(crate) unsafe fn load<V: Vector>(data: &[f32], at: usize, n: usize) -> V {
    debug_assert!(at + n <= data.len());
    // SAFETY: the caller's promise.
    unsafe {
        let p = data.as_ptr().add(at);
        if n == V::LANES {
            V::load(p)
        } else {
            V::load_first(p, n)
        }
    }
}

/// Asks for the `len` elements from `p` to be brought near, for code that reads far-apart rows of a few cache lines each, where the
/// processor sees no pattern. A hint: `p` may be any address.
#[inline(always)]
pub(crate) fn prefetch<T>(p: *const T, len: usize) {
    /// Bytes of a line.
    const LINE: usize = 64;
    for at in (0..len * size_of::<T>()).step_by(LINE) {
        prefetch_line(p.cast::<u8>().wrapping_add(at));
    }
}

/// Asks for the cache line of `p` to be brought near. A hint: `p` may be any address.
#[inline(always)]
pub(crate) fn prefetch_line<T>(p: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, which reads nothing that a program could notice.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// Implements the arithmetic operators of a register type through intrinsics.
#[cfg(target_arch = "x86_64")]
macro_rules! operators {
    ($vector:ident: $($trait:ident $method:ident $intrinsic:ident)*) => {$(
        impl $trait for $vector {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: a value is proof of the instruction set.
                Self(unsafe { $intrinsic(self.0, other.0) })
            }
        }
    )*};
}
#[cfg(target_arch = "x86_64")]
use operators;

/// Rounds down, without a floating-point exception.
#[cfg(target_arch = "x86_64")]
const FLOOR: i32 = std::arch::x86_64::_MM_FROUND_TO_NEG_INF | std::arch::x86_64::_MM_FROUND_NO_EXC;

/// Exponent bits of 1.0.
#[cfg(target_arch = "x86_64")]
const BIAS: i32 = 127;

/// Mantissa bits of an f32.
#[cfg(target_arch = "x86_64")]
const MANTISSA: u32 = 23;
