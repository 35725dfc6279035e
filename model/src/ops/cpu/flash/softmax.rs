//! The running softmax of a tile of queries.

use super::super::{
    Vector, math,
    tile::flash::{WIDE, tile_queries},
};

/// The running softmax of a tile of queries.
pub(crate) struct Softmax<V> {
    /// The largest score so far.
    pub(super) max: [V; WIDE],
    /// The sum of all powers so far.
    pub(super) sum: [V; WIDE],
}

/// Below every score: a block's first maximum.
pub(super) const LOWEST: f32 = -1e30;

impl<V: Vector> Softmax<V> {
    /// # Safety
    /// The processor must have the instruction set of `V`.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            Self {
                max: [V::splat(LOWEST); WIDE],
                sum: [V::zero(); WIDE],
            }
        }
    }

    /// Takes the largest scores of a block, and scales what the blocks before have summed, `out` [channels, queries], to the
    /// new maximum.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`; the length of `out` must be a multiple of the tile's queries.
    #[inline(always)]
    pub(super) unsafe fn raise(&mut self, of_block: [V; WIDE], out: &mut [f32]) {
        let grown = |j: usize| of_block[j].any_gt(self.max[j]);
        if !(grown(0) || grown(1) || grown(2)) {
            return;
        }
        // SAFETY: the caller's promise.
        unsafe {
            let mut factor = [V::zero(); WIDE];
            for (j, factor) in factor.iter_mut().enumerate() {
                let max = of_block[j].max(self.max[j]);
                *factor = math::exp2(self.max[j] - max);
                self.sum[j] = self.sum[j] * *factor;
                self.max[j] = max;
            }
            for row in out.chunks_exact_mut(tile_queries(V::LANES)) {
                for (j, factor) in factor.iter().enumerate() {
                    let p = row.as_mut_ptr().add(j * V::LANES);
                    (V::load(p) * *factor).store(p);
                }
            }
        }
    }

    /// Makes powers of the scores of a block [keys, queries], below the maximum, and returns their sums, which it also takes.
    /// Scores that lack the scales of the queries are multiplied with these.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`; the length of `scores` must be a multiple of the tile's queries.
    #[inline(always)]
    pub(super) unsafe fn powers(
        &mut self,
        scores: &mut [f32],
        scales: Option<[V; WIDE]>,
    ) -> [V; WIDE] {
        let max = self.max;
        // SAFETY: the caller's promise.
        unsafe {
            let mut sum = [V::zero(); WIDE];
            for row in scores.chunks_exact_mut(tile_queries(V::LANES)) {
                for (j, (max, sum)) in max.iter().zip(&mut sum).enumerate() {
                    let p = row.as_mut_ptr().add(j * V::LANES);
                    let score = match scales {
                        Some(scales) => V::load(p) * scales[j],
                        None => V::load(p),
                    };
                    let power = math::exp2(score - *max);
                    *sum = *sum + power;
                    power.store(p);
                }
            }
            for (all, sum) in self.sum.iter_mut().zip(sum) {
                *all = *all + sum;
            }
            sum
        }
    }
}
