//! Attention in 16-bit integers: the products are, what lies between them is in f32.
//!
//! Queries and keys become integers row by row, as in linear layers. Values do channel by channel within a block of keys, and
//! the powers of a block query by query: each by a scale so large that a sum of products just fits 32 bits, see
//! [`Int16`]. No power is above 1, so that the square of their norm is at most their sum, which the softmax has anyway.
//! Where one key has almost all the weight its power becomes the largest integer, 32767, and the others keep what 15 bits hold;
//! where all have the same, 128 of them, each becomes 4092.

use std::mem::MaybeUninit;

use super::{
    super::{
        Vector,
        arithmetic::{Int16, MOST, NORM, inverse, quantize, scale},
        tile::flash::{WIDE, product_of_pairs, tile_queries, tile_rows, write},
    },
    Block, KEYS, Products,
    softmax::{LOWEST, Softmax},
};

/// The widest row: more channels than integers whose products may be summed are not taken.
pub(crate) const MAX_DEPTH: usize = MOST;

/// Packed rows: pairs of integers, then the scale of the row. Packed values, block after block: for each group of channels pairs of
/// keys [pairs, tile rows], then the scales of all channels.
impl Products for Int16 {
    fn packed_row(depth: usize) -> usize {
        depth.div_ceil(2) + 1
    }

    fn packed_values(keys: usize, channels: usize) -> usize {
        (keys.div_ceil(2) + keys.div_ceil(KEYS)) * channels
    }

    #[inline(always)]
    unsafe fn pack_row<V: Vector>(row: &[f32], out: *mut f32, step: usize) {
        let mut integers = MaybeUninit::<[i16; MAX_DEPTH]>::uninit();
        let integers: *mut i16 = integers.as_mut_ptr().cast();
        let pairs = row.len().div_ceil(2);
        // SAFETY: the caller's promise; whole registers of integers are written, so that every pair is.
        unsafe {
            let scale = quantize::<V>(row, integers);
            for i in 0..pairs {
                let pair = integers.cast::<f32>().add(i).read_unaligned();
                out.add(i * step).write(pair);
            }
            out.add(pairs * step).write(scale);
        }
    }

    #[inline(always)]
    unsafe fn pack_values<V: Vector>(values: &[f32], channels: usize, out: *mut f32) {
        let rows = tile_rows(V::LANES);
        let keys = values.len() / channels;
        let pairs = keys.div_ceil(2);
        for first in (0..channels).step_by(V::LANES) {
            let n = V::LANES.min(channels - first);
            // SAFETY: the caller's promise: `keys` rows of `channels` values, and as many packed ones.
            unsafe {
                let at = |key: usize| {
                    if key < keys {
                        V::load_first(values.as_ptr().add(key * channels + first), n)
                    } else {
                        V::zero()
                    }
                };
                let (mut largest, mut squares) = (V::zero(), V::zero());
                for key in 0..keys {
                    let x = at(key);
                    largest = x.abs().max(largest);
                    squares = x.mul_add(x, squares);
                }
                let (mut lanes, mut all_squares) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
                largest.store(lanes.as_mut_ptr());
                squares.store(all_squares.as_mut_ptr());
                let mut inverses = [0.0; MAX_LANES];
                for (i, largest) in lanes.into_iter().enumerate().take(n) {
                    let scale = scale(largest, all_squares[i]);
                    inverses[i] = inverse(scale);
                    out.add(pairs * channels + first + i).write(scale);
                }
                let inverse = V::load(inverses.as_ptr());
                let mut both = [0i32; MAX_LANES];
                for pair in 0..pairs {
                    let integers = V::pairs(at(2 * pair) * inverse, at(2 * pair + 1) * inverse);
                    V::int_store(integers, both.as_mut_ptr());
                    for (i, both) in both[..n].chunks_exact(rows).enumerate() {
                        let group = first / rows + i;
                        let to = out.add((group * pairs + pair) * rows).cast::<i32>();
                        to.copy_from_nonoverlapping(both.as_ptr(), rows);
                    }
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
            values,
            ..
        } = block;
        let wide = tile_queries(V::LANES);
        let pairs = len.div_ceil(2);
        // SAFETY: the caller's promise; scores and sums have the sizes of a tile.
        unsafe {
            let query_scales = block.queries.add(depth.div_ceil(2) * wide);
            let query_scale = [0, 1, 2].map(|j| V::load(query_scales.add(j * V::LANES)));
            let max = scores_of::<V, R>(block, scores);
            // The same product as for each score below, so that no score is above it.
            softmax.raise([0, 1, 2].map(|j| max[j] * query_scale[j]), out);

            let sum = softmax.powers(&mut scores[..len * wide], Some(query_scale));
            let mut powers_scale = [V::zero(); WIDE];
            for (j, power_scale) in powers_scale.iter_mut().enumerate() {
                let most = V::splat(NORM * NORM) / sum[j];
                // In this order, NaN is propagated.
                *power_scale = V::splat(f32::from(i16::MAX)).min(most.sqrt());
            }
            pair_rows(&mut scores[..2 * pairs * wide], len, powers_scale);

            let inverse = powers_scale.map(|scale| V::splat(1.0) / scale);
            for group in 0..channels / R {
                let of_group = values.add(group * pairs * R);
                let sums = product_of_pairs::<V, R>(pairs, of_group.cast(), scores.as_ptr().cast());
                let scales = values.add(pairs * channels + group * R);
                let to = out.as_mut_ptr().add(group * R * wide);
                for (i, sums) in sums.into_iter().enumerate() {
                    let scale = V::splat(*scales.add(i));
                    for (j, sum) in sums.into_iter().enumerate() {
                        let to = to.add((i * WIDE + j) * V::LANES);
                        let sum = V::from_int(sum);
                        sum.mul_add(scale * inverse[j], V::load(to)).store(to);
                    }
                }
            }
        }
    }
}

/// Elements in the widest register.
const MAX_LANES: usize = 16;

/// Writes the scores of a block, but for the queries' scales, and returns the largest for each query.
///
/// # Safety
/// As [`Products::attend`].
#[inline(always)]
unsafe fn scores_of<V: Vector, const R: usize>(block: Block, scores: &mut [f32]) -> [V; WIDE] {
    let Block {
        len, depth, keys, ..
    } = block;
    let wide = tile_queries(V::LANES);
    let pairs = depth.div_ceil(2);
    // SAFETY: the caller's promise.
    unsafe {
        let mut max = [V::splat(LOWEST); WIDE];
        for group in 0..len.div_ceil(R) {
            let keys = keys.add(group * R * (pairs + 1));
            let sums = product_of_pairs::<V, R>(pairs, keys.cast(), block.queries.cast());
            let mut of_group = [[V::zero(); WIDE]; R];
            for (i, (scores, sums)) in of_group.iter_mut().zip(sums).enumerate() {
                let scale = V::splat(*keys.add(pairs * R + i));
                for (score, sum) in scores.iter_mut().zip(sums) {
                    *score = V::from_int(sum) * scale;
                }
            }
            // Of the last group some are no keys.
            if (group + 1) * R <= len {
                for scores in &of_group {
                    for (max, score) in max.iter_mut().zip(scores) {
                        *max = max.max(*score);
                    }
                }
            } else {
                for scores in of_group.iter().take(len - group * R) {
                    for (max, score) in max.iter_mut().zip(scores) {
                        *max = max.max(*score);
                    }
                }
            }
            write(of_group, scores.as_mut_ptr().add(group * R * wide));
        }
        max
    }
}

/// Makes pairs of integers of the powers of two keys each, in place: the first `len` of `rows` [keys, queries], an even number of
/// keys; those behind count as 0.
///
/// # Safety
/// The processor must have the instruction set of `V`, and the rows be as long as a tile has queries.
#[inline(always)]
unsafe fn pair_rows<V: Vector>(rows: &mut [f32], len: usize, scale: [V; WIDE]) {
    let wide = tile_queries(V::LANES);
    if let Some(behind) = rows.get_mut(len * wide..) {
        behind.fill(0.0);
    }
    let start = rows.as_mut_ptr();
    for pair in 0..rows.len() / wide / 2 {
        for (j, scale) in scale.iter().enumerate() {
            // SAFETY: both rows are there; the pair's row is the first of them or lies before it, and was read.
            unsafe {
                let low = start.add(2 * pair * wide + j * V::LANES);
                let (low, high) = (V::load(low), V::load(low.add(wide)));
                let to = start.add(pair * wide + j * V::LANES).cast();
                V::int_store(V::pairs(low * *scale, high * *scale), to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cpu::{Isa, Kernel};

    struct PackRow<'a>(&'a [f32], &'a mut [f32]);

    impl Kernel for PackRow<'_> {
        type Output = ();

        #[inline(always)]
        unsafe fn run<V: Vector>(self) {
            // SAFETY: the buffer holds a packed row, one apart.
            unsafe { Int16::pack_row::<V>(self.0, self.1.as_mut_ptr(), 1) };
        }
    }

    #[test]
    fn rows_are_packed_as_pairs_and_a_scale() {
        for isa in Isa::all() {
            let unpacked = |row: &[f32]| {
                let mut out = vec![0.0; Int16::packed_row(row.len())];
                isa.run(PackRow(row, &mut out));
                let scale = out.pop().unwrap();
                let halves = out.iter().flat_map(|x| {
                    let both = x.to_bits();
                    [both as u16 as i16, (both >> 16) as i16]
                });
                (
                    halves.map(|x| f32::from(x) * scale).collect::<Vec<_>>(),
                    scale,
                )
            };
            let row = [0.5, -2.0, 1.25e-3, 1.0, -0.75];
            let (elements, scale) = unpacked(&row);
            // The largest is 32767 times the scale.
            assert!((scale - 2.0 / 32767.0).abs() < 1e-9, "{scale}");
            for (x, y) in row.iter().zip(&elements) {
                assert!((x - y).abs() <= 0.5001 * scale, "{x} {y}");
            }
            assert_eq!(elements[5], 0.0);
            assert_eq!(unpacked(&[0.0; 4]).0, [0.0; 4]);
            assert_eq!(unpacked(&[1e-41, 0.0]).0, [0.0; 2]);
            for bad in [f32::NAN, f32::INFINITY] {
                let (_, scale) = unpacked(&[1.0, bad, 2.0]);
                assert!(!scale.is_finite(), "{bad} must not vanish");
            }
        }
    }
}
