//! Bilinear resampling, a row of the result at a time.

use candle_core::Result;
use rayon::prelude::*;

use super::{
    super::taps::{Tap, taps},
    Isa, Kernel, Shared, Vector, collect_into_uninit,
    simd::load,
};

/// A map that is resampled, and the embedding that is added to the result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resampling<'a> {
    /// [batch, from.0, from.1, channels]
    pub(crate) x: &'a [f32],
    /// Element of maps.
    pub(crate) batch: usize,
    /// Height and width before.
    pub(crate) from: (usize, usize),
    /// Height and width after.
    pub(crate) to: (usize, usize),
    /// Element of channels.
    pub(crate) channels: usize,
    /// Embeddings [width, C / 2] of the columns and [height, C / 2] of the rows of the result.
    pub(crate) positions: Option<(&'a [f32], &'a [f32])>,
}

/// Resamples, and adds the embedding. [batch, to.0, to.1, channels]
///
/// # Panics
/// When the lengths do not fit the sizes.
pub(crate) fn resample(isa: Isa, map: Resampling<'_>) -> Result<Vec<f32>> {
    let Resampling {
        x,
        batch,
        from: (h, w),
        to: (height, width),
        channels: c,
        positions,
    } = map;
    assert_eq!(x.len(), batch * h * w * c, "x is [{batch}, {h}, {w}, {c}]");
    if let Some((columns, rows)) = positions {
        assert!(c % 2 == 0 && columns.len() == width * (c / 2) && rows.len() == height * (c / 2));
    }
    let (ys, xs) = (taps(h, height), taps(w, width));
    let row = |index: usize, out: &mut [f32]| {
        let (batch, y) = (index / height, index % height);
        let tap = ys[y];
        let source = |y: usize| &x[(batch * h + y) * w * c..][..w * c];
        isa.run(Row {
            low: source(tap.low),
            high: source(tap.high),
            t: tap.t,
            taps: &xs,
            c,
            positions: positions.map(|(columns, rows)| {
                let half = c / 2;
                (columns, &rows[y * half..][..half])
            }),
            out,
        });
    };
    let write = |out: Shared<'_, f32>| {
        (0..batch * height).into_par_iter().for_each(|index| {
            // SAFETY: each task has a row of its own.
            row(index, unsafe { out.slice(index * width * c, width * c) });
        });
        Ok(())
    };
    // SAFETY: every row is written.
    unsafe { collect_into_uninit(batch * height * width * c, write) }
}

/// One row of the result.
struct Row<'a> {
    /// The two rows it lies between, [W, C].
    low: &'a [f32],
    high: &'a [f32],
    t: f32,
    taps: &'a [Tap],
    c: usize,
    /// Embeddings [width, C / 2] of the columns and [C / 2] of this row.
    positions: Option<(&'a [f32], &'a [f32])>,
    out: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let c = self.c;
        let half = c / 2;
        let out = Shared::new(self.out);
        for (i, tap) in self.taps.iter().enumerate() {
            let (a, b) = (tap.low * c, tap.high * c);
            let mut k = 0;
            while k < c {
                // A register never covers channels of both embeddings.
                let end = if self.positions.is_some() && k < half {
                    half
                } else {
                    c
                };
                let n = V::LANES.min(end - k);
                // SAFETY: taps lie inside the source row, whose pixels have c channels; k + n is at most c, and i is a
                // pixel of the result.
                unsafe {
                    let (s, t) = (V::splat(1.0 - tap.t), V::splat(tap.t));
                    let pixel = |row: &[f32], at: usize| load::<V>(row, at + k, n);
                    let low = pixel(self.low, a) * s + pixel(self.low, b) * t;
                    let high = pixel(self.high, a) * s + pixel(self.high, b) * t;
                    let mut y = low * V::splat(1.0 - self.t) + high * V::splat(self.t);
                    if let Some((columns, row)) = self.positions {
                        y = y + if k < half {
                            load::<V>(columns, i * half + k, n)
                        } else {
                            load::<V>(row, k - half, n)
                        };
                    }
                    if n == V::LANES {
                        y.store(out.at(i * c + k));
                    } else {
                        y.store_first(out.at(i * c + k), n);
                    }
                }
                k += n;
            }
        }
    }
}
