//! Registers of eight elements: AVX2 with FMA and F16C.

#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "one sentence holds for every block, see below"
)]

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::{Add, BIAS, Div, Eight, FLOOR, MANTISSA, Mul, Sub, Vector, operators};

/// AVX2 with FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct F32x8(__m256);

operators!(F32x8: Add add _mm256_add_ps Sub sub _mm256_sub_ps Mul mul _mm256_mul_ps Div div _mm256_div_ps);

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
    fn pairs(low: Self, high: Self) -> __m256i {
        /// The upper half of every pair.
        const HIGH: i32 = 0xAA;
        unsafe {
            let (low, high) = (_mm256_cvtps_epi32(low.0), _mm256_cvtps_epi32(high.0));
            _mm256_blend_epi16::<HIGH>(low, _mm256_slli_epi32::<16>(high))
        }
    }

    #[inline(always)]
    unsafe fn int_store(x: __m256i, p: *mut i32) {
        unsafe { _mm256_storeu_si256(p.cast(), x) }
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
    fn sqrt(self) -> Self {
        Self(unsafe { _mm256_sqrt_ps(self.0) })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        Self(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0) })
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
    fn fraction(self) -> Self {
        let x = self.not_below_normal();
        x - Self(unsafe { _mm256_round_ps::<FLOOR>(x.0) })
    }

    #[inline(always)]
    fn times_pow2_floor(self, x: Self) -> Self {
        let n = unsafe { _mm256_round_ps::<FLOOR>(x.not_below_normal().0) };
        self.times_pow2(Self(n))
    }

    #[inline(always)]
    fn reciprocal(self) -> Self {
        unsafe {
            let estimate = Self(_mm256_rcp_ps(self.0));
            let rest = self.neg_mul_add(estimate, Self::splat(1.0));
            estimate.mul_add(rest, estimate)
        }
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
    unsafe fn store_i16(self, p: *mut i16) {
        unsafe {
            let integers = _mm256_cvtps_epi32(self.0);
            let high = _mm256_extracti128_si256::<1>(integers);
            let packed = _mm_packs_epi32(_mm256_castsi256_si128(integers), high);
            _mm_storeu_si128(p.cast(), packed);
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

impl F32x8 {
    /// The smallest exponent of a normal number where `self` is below it; NaN stays NaN.
    #[inline(always)]
    fn not_below_normal(self) -> Self {
        unsafe { Self::splat(-126.0) }.max(self)
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
