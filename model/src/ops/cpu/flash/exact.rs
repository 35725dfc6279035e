//! Attention in f32.

use super::{
    super::{
        Vector,
        arithmetic::Exact,
        tile::flash::{WIDE, product, read, tile_queries, tile_rows, write},
    },
    Block, Products,
    softmax::{LOWEST, Softmax},
};

/// Packed values: for each group of channels [keys, tile rows].
impl Products for Exact {
    fn packed_row(depth: usize) -> usize {
        depth
    }

    fn packed_values(keys: usize, channels: usize) -> usize {
        keys * channels
    }

    #[inline(always)]
    unsafe fn pack_row<V: Vector>(row: &[f32], out: *mut f32, step: usize) {
        for (d, x) in row.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { out.add(d * step).write(*x) };
        }
    }

    #[inline(always)]
    unsafe fn pack_values<V: Vector>(values: &[f32], channels: usize, out: *mut f32) {
        let rows = tile_rows(V::LANES);
        let keys = values.len() / channels;
        for (i, v) in values.chunks_exact(channels).enumerate() {
            for (group, v) in v.chunks_exact(rows).enumerate() {
                for (j, x) in v.iter().enumerate() {
                    // SAFETY: the caller's promise.
                    unsafe { out.add((group * keys + i) * rows + j).write(*x) };
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn attend<V: Vector, const R: usize>(
        block: Block,
        softmax: &mut Softmax<V>,
        scores: &mut [f32],
        out: &mut [f32],
    ) {
        let Block {
            len,
            depth,
            channels,
            keys,
            values,
            queries,
        } = block;
        let wide = tile_queries(V::LANES);
        // SAFETY: the caller's promise; scores and sums have the sizes of a tile.
        unsafe {
            for group in 0..len.div_ceil(R) {
                let keys = keys.add(group * R * depth);
                let sums = product::<V, R>(depth, keys, queries, [[V::zero(); WIDE]; R]);
                write::<V, R>(sums, scores.as_mut_ptr().add(group * R * wide));
            }
            let scores = &mut scores[..len * wide];
            let mut max = [V::splat(LOWEST); WIDE];
            for row in scores.chunks_exact(wide) {
                for (j, max) in max.iter_mut().enumerate() {
                    *max = max.max(V::load(row.as_ptr().add(j * V::LANES)));
                }
            }
            softmax.raise(max, out);
            softmax.powers(scores, None);
            for group in 0..channels / R {
                let values = values.add(group * len * R);
                let sums_at = out.as_mut_ptr().add(group * R * wide);
                let sums = read::<V, R>(sums_at);
                write(product::<V, R>(len, values, scores.as_ptr(), sums), sums_at);
            }
        }
    }
}
