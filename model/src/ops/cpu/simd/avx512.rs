//! Registers of sixteen elements: AVX-512 with F, BW, DQ, VL and VNNI.

#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "one sentence holds for every block, see below"
)]

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::{Add, Div, F32x8, FLOOR, Mul, Sub, Vector, operators};

/// AVX-512 with F, BW, DQ, VL and VNNI.
#[derive(Clone, Copy)]
pub(crate) struct F32x16(__m512);

operators!(F32x16: Add add _mm512_add_ps Sub sub _mm512_sub_ps Mul mul _mm512_mul_ps Div div _mm512_div_ps);

// SAFETY of every block below: functions that make a vector ask their caller for the instruction set and for the
// memory they touch; functions that take one have it as proof.
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
    fn pairs(low: Self, high: Self) -> __m512i {
        /// The upper half of every pair.
        const HIGH: __mmask32 = 0xAAAA_AAAA;
        unsafe {
            let (low, high) = (_mm512_cvtps_epi32(low.0), _mm512_cvtps_epi32(high.0));
            _mm512_mask_blend_epi16(HIGH, low, _mm512_slli_epi32::<16>(high))
        }
    }

    #[inline(always)]
    unsafe fn int_store(x: __m512i, p: *mut i32) {
        unsafe { _mm512_storeu_si512(p.cast(), x) }
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
    fn sqrt(self) -> Self {
        Self(unsafe { _mm512_sqrt_ps(self.0) })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        Self(unsafe { _mm512_andnot_ps(_mm512_set1_ps(-0.0), self.0) })
    }

    #[inline(always)]
    fn times_pow2(self, n: Self) -> Self {
        Self(unsafe { _mm512_scalef_ps(self.0, n.0) })
    }

    #[inline(always)]
    fn fraction(self) -> Self {
        Self(unsafe { _mm512_reduce_ps::<FLOOR>(self.0) })
    }

    #[inline(always)]
    fn times_pow2_floor(self, x: Self) -> Self {
        // The instruction takes the floor itself.
        Self(unsafe { _mm512_scalef_ps(self.0, x.0) })
    }

    #[inline(always)]
    fn reciprocal(self) -> Self {
        unsafe {
            let estimate = _mm512_rcp14_ps(self.0);
            let rest = _mm512_fnmadd_ps(self.0, estimate, _mm512_set1_ps(1.0));
            Self(_mm512_fmadd_ps(estimate, rest, estimate))
        }
    }

    #[inline(always)]
    fn any_gt(self, other: Self) -> bool {
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, other.0) != 0 }
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        unsafe { _mm512_reduce_add_ps(self.0) }
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        unsafe { _mm512_reduce_max_ps(self.0) }
    }

    #[inline(always)]
    unsafe fn store_i16(self, p: *mut i16) {
        unsafe {
            let integers = _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(self.0));
            _mm256_storeu_si256(p.cast(), integers);
        }
    }
}

/// Ones for the first `n` lanes.
#[inline(always)]
fn mask(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}
