//! The register tile of the product of matrices.

use super::super::simd::{Vector, prefetch_line};

// The size follows from the number of registers. A tile of R rows and W registers of columns holds R W sums, and each step of
// k reads W registers of the right side and broadcasts R elements of the left: R + W loads for R W multiply-adds. The
// processors in question start two of each per cycle, so that loads are hidden as soon as R W exceeds R + W by a margin, and
// the sums must be more than the eight multiply-adds that two units of latency four keep in flight.
//
// AVX-512 has 32 registers: 12 x 2 sums, 2 for the right side and 1 for the broadcast are 27, with 14 loads for 24
// multiply-adds. AVX2 has 16: 6 x 2, 2 and 1 are 15, with 8 loads for 12. 14 rows would fit as well, but 12 and 6 divide
// the blocks of rows above (192 and 1536 in `gemm`, 96 in `winograd`), so that only the last panel has rows to spare.
// Attention has another tile with as many sums, for the reason given there.

/// Registers in a row of the tile.
pub(crate) const WIDE: usize = 2;

/// Rows of the register tile.
pub(crate) const fn tile_rows(lanes: usize) -> usize {
    if lanes == 16 { 12 } else { 6 }
}

/// Columns of the register tile.
pub(crate) const fn tile_columns(lanes: usize) -> usize {
    WIDE * lanes
}

/// Returns the sums of one tile: left, MR rows `row_step` apart, times right [depth, 2 registers].
///
/// From `ahead`, any address, MR elements are brought near for every k: what is needed next and lies in a larger cache, such as the
/// left side of the next tile. Its rows are more streams of memory than processors follow by themselves: products of 1374 rows
/// take 13 % longer without (AVX-512, left side in the third-level cache).
///
/// # Safety
/// The processor must have the instruction set of `V`; both sides must be `depth` deep.
#[inline(always)]
pub(crate) unsafe fn micro_kernel<V: Vector, const MR: usize>(
    depth: usize,
    (mut left, row_step): (*const f32, usize),
    mut right: *const f32,
    ahead: *const f32,
) -> [[V; WIDE]; MR] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::zero(); WIDE]; MR];
        for k in 0..depth {
            prefetch_line(ahead.wrapping_add(k * MR));
            let columns = [V::load(right), V::load(right.add(V::LANES))];
            for (i, sums) in sums.iter_mut().enumerate() {
                let row = V::splat(*left.add(i * row_step));
                sums[0] = row.mul_add(columns[0], sums[0]);
                sums[1] = row.mul_add(columns[1], sums[1]);
            }
            left = left.add(1);
            right = right.add(WIDE * V::LANES);
        }
        sums
    }
}

/// As [`micro_kernel`] for pairs of 16-bit integers: rows `row_step` pairs apart, times right [pairs, 2 registers], MR pairs brought
/// near for each.
///
/// # Safety
/// The processor must have the instruction set of `V`; both sides must have as many pairs.
#[inline(always)]
pub(crate) unsafe fn micro_kernel_of_pairs<V: Vector, const MR: usize>(
    pairs: usize,
    (mut left, row_step): (*const i32, usize),
    mut right: *const i32,
    ahead: *const i32,
) -> [[V::Int; WIDE]; MR] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::int_zero(); WIDE]; MR];
        for k in 0..pairs {
            prefetch_line(ahead.wrapping_add(k * MR));
            let columns = [V::int_load(right), V::int_load(right.add(V::LANES))];
            for (i, sums) in sums.iter_mut().enumerate() {
                let row = V::int_splat(*left.add(i * row_step));
                sums[0] = V::dot_pairs(sums[0], row, columns[0]);
                sums[1] = V::dot_pairs(sums[1], row, columns[1]);
            }
            left = left.add(1);
            right = right.add(WIDE * V::LANES);
        }
        sums
    }
}
