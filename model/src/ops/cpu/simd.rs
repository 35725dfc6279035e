//! Vectors of f32 numbers, one register each, behind one trait.

use std::ops::{Add, Div, Mul, Sub};

use half::{bf16, f16};

/// One register of numbers.
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
    /// Numbers in a register.
    const LANES: usize;

    /// The register of eight numbers that goes with it.
    type Eight: Eight;

    /// All lanes `x`.
    ///
    /// # Safety
    /// The processor must have the instruction set.
    unsafe fn splat(x: f32) -> Self;

    /// The numbers from `p`, of any alignment.
    ///
    /// # Safety
    /// As [`Vector::splat`], and `LANES` numbers must be readable.
    unsafe fn load(p: *const f32) -> Self;

    /// The `n` numbers from `p`, `n` at most `LANES`, then zeros.
    ///
    /// # Safety
    /// As [`Vector::splat`], and `n` numbers must be readable.
    unsafe fn load_first(p: *const f32, n: usize) -> Self;

    /// Halves as numbers.
    ///
    /// # Safety
    /// As [`Vector::load`].
    unsafe fn load_f16(p: *const f16) -> Self;

    /// Brain floats as numbers.
    ///
    /// # Safety
    /// As [`Vector::load`].
    unsafe fn load_bf16(p: *const bf16) -> Self;

    /// Writes to `p`, of any alignment.
    ///
    /// # Safety
    /// `LANES` numbers must be writable.
    unsafe fn store(self, p: *mut f32);

    /// Writes the first `n` numbers, `n` at most `LANES`.
    ///
    /// # Safety
    /// `n` numbers must be writable.
    unsafe fn store_first(self, p: *mut f32, n: usize);

    /// self a + b, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;

    /// b - self a, rounded once.
    fn neg_mul_add(self, a: Self, b: Self) -> Self;

    /// The larger of each two; `other` where one is no number.
    fn max(self, other: Self) -> Self;

    /// The smaller of each two; `other` where one is no number.
    fn min(self, other: Self) -> Self;

    /// Without the sign.
    fn abs(self) -> Self;

    /// With the sign of `sign`; `self` must not be negative.
    fn with_sign_of(self, sign: Self) -> Self;

    /// To the nearest whole number, ties to even.
    fn round(self) -> Self;

    /// self 2^n for whole n; the result must be a normal number.
    fn times_pow2(self, n: Self) -> Self;

    /// Whether any lane is larger than `other`'s.
    fn any_gt(self, other: Self) -> bool;

    /// All lanes together.
    fn sum(self) -> f32;

    /// A register of as many 32-bit whole numbers, each of which can also be a pair of 16-bit ones.
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

    /// The numbers from `p`, of any alignment.
    ///
    /// # Safety
    /// As [`Vector::load`].
    unsafe fn int_load(p: *const i32) -> Self::Int;

    /// sums + a.0 b.0 + a.1 b.1 for the pairs of 16-bit numbers in each lane.
    ///
    /// # Safety
    /// As [`Vector::splat`].
    unsafe fn dot_pairs(sums: Self::Int, a: Self::Int, b: Self::Int) -> Self::Int;

    /// Whole numbers as numbers.
    ///
    /// # Safety
    /// As [`Vector::splat`].
    unsafe fn from_int(x: Self::Int) -> Self;

    /// All lanes 0.
    ///
    /// # Safety
    /// As [`Vector::splat`].
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: asked of the caller.
        unsafe { Self::splat(0.0) }
    }
}

/// A register of eight numbers, the unit in which rows are laid side by side.
pub(crate) trait Eight: Vector {
    /// Rows to columns: lane j of result i is lane i of row j.
    fn transpose(rows: [Self; 8]) -> [Self; 8];

    /// `self` and `other` as 16-bit whole numbers, side by side in pairs: lane i has numbers 2 i and 2 i + 1 of the
    /// sixteen. Their bits only: they are no numbers of this type.
    fn pairs(self, other: Self) -> Self;

    /// The largest lane.
    fn largest(self) -> f32;

    /// Writes the first `N` numbers, 4, 6 or 8, without the cost of a mask.
    ///
    /// # Safety
    /// `N` numbers must be writable.
    unsafe fn store_even<const N: usize>(self, p: *mut f32);
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{F32x8, F32x16};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use half::{bf16, f16};

    use super::{Add, Div, Eight, Mul, Sub, Vector};

    /// AVX2 with FMA and F16C.
    #[derive(Clone, Copy)]
    pub(crate) struct F32x8(__m256);

    /// AVX-512 with F, BW, DQ, VL and VNNI.
    #[derive(Clone, Copy)]
    pub(crate) struct F32x16(__m512);

    /// Operators through intrinsics.
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

    operators!(F32x8: Add add _mm256_add_ps Sub sub _mm256_sub_ps Mul mul _mm256_mul_ps Div div _mm256_div_ps);
    operators!(F32x16: Add add _mm512_add_ps Sub sub _mm512_sub_ps Mul mul _mm512_mul_ps Div div _mm512_div_ps);

    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    /// Exponent bits of 1.0.
    const BIAS: i32 = 127;
    /// Digits behind the point of an f32.
    const MANTISSA: u32 = 23;

    // SAFETY of every block below: functions that make a vector ask their caller for the instruction set and for the
    // memory they touch; functions that take one have it as proof.
    impl Vector for F32x8 {
        const LANES: usize = 8;
        type Eight = Self;
        type Int = __m256i;

        #[inline(always)]
        unsafe fn int_zero() -> __m256i {
            unsafe { _mm256_setzero_si256() }
        }

        #[inline(always)]
        unsafe fn int_splat(x: i32) -> __m256i {
            unsafe { _mm256_set1_epi32(x) }
        }

        #[inline(always)]
        unsafe fn int_load(p: *const i32) -> __m256i {
            unsafe { _mm256_loadu_si256(p.cast()) }
        }

        #[inline(always)]
        unsafe fn dot_pairs(sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
            unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(a, b)) }
        }

        #[inline(always)]
        unsafe fn from_int(x: __m256i) -> Self {
            Self(unsafe { _mm256_cvtepi32_ps(x) })
        }

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            Self(unsafe { _mm256_set1_ps(x) })
        }

        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            Self(unsafe { _mm256_loadu_ps(p) })
        }

        #[inline(always)]
        unsafe fn load_first(p: *const f32, n: usize) -> Self {
            Self(unsafe { _mm256_maskload_ps(p, first(n)) })
        }

        #[inline(always)]
        unsafe fn load_f16(p: *const f16) -> Self {
            Self(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) })
        }

        #[inline(always)]
        unsafe fn load_bf16(p: *const bf16) -> Self {
            Self(unsafe {
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16))
            })
        }

        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            unsafe { _mm256_storeu_ps(p, self.0) }
        }

        #[inline(always)]
        unsafe fn store_first(self, p: *mut f32, n: usize) {
            unsafe { _mm256_maskstore_ps(p, first(n), self.0) }
        }

        #[inline(always)]
        fn mul_add(self, a: Self, b: Self) -> Self {
            Self(unsafe { _mm256_fmadd_ps(self.0, a.0, b.0) })
        }

        #[inline(always)]
        fn neg_mul_add(self, a: Self, b: Self) -> Self {
            Self(unsafe { _mm256_fnmadd_ps(self.0, a.0, b.0) })
        }

        #[inline(always)]
        fn max(self, other: Self) -> Self {
            Self(unsafe { _mm256_max_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn min(self, other: Self) -> Self {
            Self(unsafe { _mm256_min_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn abs(self) -> Self {
            Self(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0) })
        }

        #[inline(always)]
        fn with_sign_of(self, sign: Self) -> Self {
            Self(unsafe { _mm256_or_ps(self.0, _mm256_and_ps(_mm256_set1_ps(-0.0), sign.0)) })
        }

        #[inline(always)]
        fn round(self) -> Self {
            Self(unsafe { _mm256_round_ps::<NEAREST>(self.0) })
        }

        #[inline(always)]
        fn times_pow2(self, n: Self) -> Self {
            Self(unsafe {
                let n = _mm256_add_epi32(_mm256_cvtps_epi32(n.0), _mm256_set1_epi32(BIAS));
                let power = _mm256_slli_epi32::<{ MANTISSA as i32 }>(n);
                _mm256_mul_ps(self.0, _mm256_castsi256_ps(power))
            })
        }

        #[inline(always)]
        fn any_gt(self, other: Self) -> bool {
            unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(self.0, other.0)) != 0 }
        }

        #[inline(always)]
        fn sum(self) -> f32 {
            unsafe {
                let four = _mm_add_ps(
                    _mm256_castps256_ps128(self.0),
                    _mm256_extractf128_ps::<1>(self.0),
                );
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
            }
        }
    }

    /// Ones in the first `n` lanes.
    #[inline(always)]
    fn first(n: usize) -> __m256i {
        // SAFETY: only called where a vector is made or held.
        unsafe {
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lanes)
        }
    }

    impl Eight for F32x8 {
        #[inline(always)]
        fn transpose(rows: [Self; 8]) -> [Self; 8] {
            unsafe {
                // Pairs of rows, then of pairs, then of halves.
                let low = |a: Self, b: Self| _mm256_unpacklo_ps(a.0, b.0);
                let high = |a: Self, b: Self| _mm256_unpackhi_ps(a.0, b.0);
                let [r0, r1, r2, r3, r4, r5, r6, r7] = rows;
                let t = [
                    low(r0, r1),
                    high(r0, r1),
                    low(r2, r3),
                    high(r2, r3),
                    low(r4, r5),
                    high(r4, r5),
                    low(r6, r7),
                    high(r6, r7),
                ];
                let s = [
                    _mm256_shuffle_ps::<0x44>(t[0], t[2]),
                    _mm256_shuffle_ps::<0xEE>(t[0], t[2]),
                    _mm256_shuffle_ps::<0x44>(t[1], t[3]),
                    _mm256_shuffle_ps::<0xEE>(t[1], t[3]),
                    _mm256_shuffle_ps::<0x44>(t[4], t[6]),
                    _mm256_shuffle_ps::<0xEE>(t[4], t[6]),
                    _mm256_shuffle_ps::<0x44>(t[5], t[7]),
                    _mm256_shuffle_ps::<0xEE>(t[5], t[7]),
                ];
                [
                    Self(_mm256_permute2f128_ps::<0x20>(s[0], s[4])),
                    Self(_mm256_permute2f128_ps::<0x20>(s[1], s[5])),
                    Self(_mm256_permute2f128_ps::<0x20>(s[2], s[6])),
                    Self(_mm256_permute2f128_ps::<0x20>(s[3], s[7])),
                    Self(_mm256_permute2f128_ps::<0x31>(s[0], s[4])),
                    Self(_mm256_permute2f128_ps::<0x31>(s[1], s[5])),
                    Self(_mm256_permute2f128_ps::<0x31>(s[2], s[6])),
                    Self(_mm256_permute2f128_ps::<0x31>(s[3], s[7])),
                ]
            }
        }

        #[inline(always)]
        fn pairs(self, other: Self) -> Self {
            // Packing works within halves of the register; the last step puts their quarters in order.
            const IN_ORDER: i32 = 0b11_01_10_00;
            Self(unsafe {
                let (a, b) = (_mm256_cvtps_epi32(self.0), _mm256_cvtps_epi32(other.0));
                let packed = _mm256_packs_epi32(a, b);
                _mm256_castsi256_ps(_mm256_permute4x64_epi64::<IN_ORDER>(packed))
            })
        }

        #[inline(always)]
        fn largest(self) -> f32 {
            unsafe {
                let high = _mm256_extractf128_ps::<1>(self.0);
                let four = _mm_max_ps(_mm256_castps256_ps128(self.0), high);
                let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
            }
        }

        #[inline(always)]
        unsafe fn store_even<const N: usize>(self, p: *mut f32) {
            unsafe {
                if N == 8 {
                    return _mm256_storeu_ps(p, self.0);
                }
                _mm_storeu_ps(p, _mm256_castps256_ps128(self.0));
                if N == 6 {
                    let high = _mm_castps_pd(_mm256_extractf128_ps::<1>(self.0));
                    _mm_storel_pd(p.add(4).cast(), high);
                }
            }
        }
    }

    impl Vector for F32x16 {
        const LANES: usize = 16;
        type Eight = F32x8;
        type Int = __m512i;

        #[inline(always)]
        unsafe fn int_zero() -> __m512i {
            unsafe { _mm512_setzero_si512() }
        }

        #[inline(always)]
        unsafe fn int_splat(x: i32) -> __m512i {
            unsafe { _mm512_set1_epi32(x) }
        }

        #[inline(always)]
        unsafe fn int_load(p: *const i32) -> __m512i {
            unsafe { _mm512_loadu_si512(p.cast()) }
        }

        #[inline(always)]
        unsafe fn dot_pairs(sums: __m512i, a: __m512i, b: __m512i) -> __m512i {
            unsafe { _mm512_dpwssd_epi32(sums, a, b) }
        }

        #[inline(always)]
        unsafe fn from_int(x: __m512i) -> Self {
            Self(unsafe { _mm512_cvtepi32_ps(x) })
        }

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            Self(unsafe { _mm512_set1_ps(x) })
        }

        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            Self(unsafe { _mm512_loadu_ps(p) })
        }

        #[inline(always)]
        unsafe fn load_first(p: *const f32, n: usize) -> Self {
            Self(unsafe { _mm512_maskz_loadu_ps(mask(n), p) })
        }

        #[inline(always)]
        unsafe fn load_f16(p: *const f16) -> Self {
            Self(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) })
        }

        #[inline(always)]
        unsafe fn load_bf16(p: *const bf16) -> Self {
            Self(unsafe {
                let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
            })
        }

        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            unsafe { _mm512_storeu_ps(p, self.0) }
        }

        #[inline(always)]
        unsafe fn store_first(self, p: *mut f32, n: usize) {
            unsafe { _mm512_mask_storeu_ps(p, mask(n), self.0) }
        }

        #[inline(always)]
        fn mul_add(self, a: Self, b: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(self.0, a.0, b.0) })
        }

        #[inline(always)]
        fn neg_mul_add(self, a: Self, b: Self) -> Self {
            Self(unsafe { _mm512_fnmadd_ps(self.0, a.0, b.0) })
        }

        #[inline(always)]
        fn max(self, other: Self) -> Self {
            Self(unsafe { _mm512_max_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn min(self, other: Self) -> Self {
            Self(unsafe { _mm512_min_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn abs(self) -> Self {
            Self(unsafe { _mm512_andnot_ps(_mm512_set1_ps(-0.0), self.0) })
        }

        #[inline(always)]
        fn with_sign_of(self, sign: Self) -> Self {
            Self(unsafe { _mm512_or_ps(self.0, _mm512_and_ps(_mm512_set1_ps(-0.0), sign.0)) })
        }

        #[inline(always)]
        fn round(self) -> Self {
            Self(unsafe { _mm512_roundscale_ps::<NEAREST>(self.0) })
        }

        #[inline(always)]
        fn times_pow2(self, n: Self) -> Self {
            Self(unsafe { _mm512_scalef_ps(self.0, n.0) })
        }

        #[inline(always)]
        fn any_gt(self, other: Self) -> bool {
            unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, other.0) != 0 }
        }

        #[inline(always)]
        fn sum(self) -> f32 {
            unsafe { _mm512_reduce_add_ps(self.0) }
        }
    }

    /// Ones for the first `n` lanes.
    #[inline(always)]
    fn mask(n: usize) -> __mmask16 {
        ((1u32 << n) - 1) as __mmask16
    }
}
