//! The register tile of the product of matrices.

use super::super::simd::Vector;

/// Registers a tile is wide.
pub(crate) const WIDE: usize = 2;

/// Rows of the register tile: with two registers a row and two for the right side, what the instruction set has.
pub(crate) const fn tile_rows(lanes: usize) -> usize {
    if lanes == 16 { 12 } else { 6 }
}

/// Columns of the register tile.
pub(crate) const fn tile_columns(lanes: usize) -> usize {
    WIDE * lanes
}

/// The sums of one tile: left, MR rows, times right [depth, 2 registers]. `steps` are those from one row of the left side
/// to the next and from one k to the next: (1, MR) for a packed panel.
///
/// # Safety
/// The processor must have the instruction set of `V`; both sides must be `depth` deep.
#[inline(always)]
pub(crate) unsafe fn micro_kernel<V: Vector, const MR: usize>(
    depth: usize,
    mut left: *const f32,
    (row_step, k_step): (usize, usize),
    mut right: *const f32,
) -> [[V; WIDE]; MR] {
    // SAFETY: asked of the caller.
    unsafe {
        let mut sums = [[V::zero(); WIDE]; MR];
        for _ in 0..depth {
            let columns = [V::load(right), V::load(right.add(V::LANES))];
            for (i, sums) in sums.iter_mut().enumerate() {
                let row = V::splat(*left.add(i * row_step));
                sums[0] = row.mul_add(columns[0], sums[0]);
                sums[1] = row.mul_add(columns[1], sums[1]);
            }
            left = left.add(k_step);
            right = right.add(WIDE * V::LANES);
        }
        sums
    }
}
