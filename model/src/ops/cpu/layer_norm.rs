//! Layer normalization, a row at a time.

use candle_core::Result;
use rayon::prelude::*;

use super::{Isa, Kernel, Shared, Vector, collect_into_uninit, math, simd::load};

/// Parameters of a LayerNorm.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Norm<'a> {
    /// `[C]`
    pub(crate) weight: &'a [f32],
    /// `[C]`
    pub(crate) bias: &'a [f32],
    /// Added to the variance.
    pub(crate) eps: f32,
}

/// Rows of a task.
const ROWS: usize = 16;

/// Normalizes the rows of `x`, as long as the norm's parameters.
///
/// # Panics
/// When the parameters are empty or of different lengths.
pub(crate) fn layer_norm(isa: Isa, x: &[f32], norm: Norm<'_>) -> Result<Vec<f32>> {
    let Norm { weight, bias, eps } = norm;
    let c = weight.len();
    assert!(c > 0 && bias.len() == c && x.len().is_multiple_of(c));
    let write = |out: Shared<'_, f32>| {
        x.par_chunks(ROWS * c).enumerate().for_each(|(i, rows)| {
            // SAFETY: each task has rows of its own.
            let out = unsafe { out.slice(i * ROWS * c, rows.len()) };
            let moments = isa.run(Moments { rows, c, eps });
            let moments = &moments;
            isa.run(Apply {
                rows,
                moments,
                weight,
                bias,
                out,
            });
        });
        Ok(())
    };
    // SAFETY: every row is written.
    unsafe { collect_into_uninit(x.len(), write) }
}

/// Returns the mean and 1 / standard deviation of each row of `x`, rows of `c` elements.
pub(crate) fn moments(isa: Isa, x: &[f32], c: usize, eps: f32) -> Vec<(f32, f32)> {
    x.par_chunks(ROWS * c)
        .flat_map_iter(|rows| isa.run(Moments { rows, c, eps }))
        .collect()
}

/// Mean and 1 / standard deviation of rows.
struct Moments<'a> {
    rows: &'a [f32],
    c: usize,
    eps: f32,
}

impl Kernel for Moments<'_> {
    type Output = Vec<(f32, f32)>;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> Self::Output {
        let rows = self.rows.chunks_exact(self.c);
        let mut moments = Vec::with_capacity(rows.len());
        for row in rows {
            // SAFETY: the caller's promise.
            moments.push(unsafe { math::moments::<V>(row, self.eps) });
        }
        moments
    }
}

/// Scales and shifts rows whose moments are known.
struct Apply<'a> {
    rows: &'a [f32],
    moments: &'a [(f32, f32)],
    weight: &'a [f32],
    bias: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let c = self.weight.len();
        let out = Shared::new(self.out);
        for (i, (mean, rstd)) in self.moments.iter().enumerate() {
            let mut k = 0;
            while k < c {
                let n = V::LANES.min(c - k);
                // SAFETY: row i and its k below c are inside `rows` and `out`, which are equally long.
                unsafe {
                    let x = load::<V>(self.rows, i * c + k, n);
                    let x = (x - V::splat(*mean)) * V::splat(*rstd);
                    let weight = load::<V>(self.weight, k, n);
                    let y = x.mul_add(weight, load::<V>(self.bias, k, n));
                    y.store_first(out.at(i * c + k), n);
                }
                k += n;
            }
        }
    }
}
