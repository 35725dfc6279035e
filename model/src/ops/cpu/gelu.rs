//! GELU of many elements.

use candle_core::cpu::erf::erf_f32;
use rayon::prelude::*;

/// Returns x Φ(x) for each element, by all threads of the pool.
pub(crate) fn gelu(x: &[f32]) -> Vec<f32> {
    x.par_iter()
        .with_min_len(1 << 12)
        .map(|x| (erf_f32(x * std::f32::consts::FRAC_1_SQRT_2) + 1.0) * 0.5 * x)
        .collect()
}
