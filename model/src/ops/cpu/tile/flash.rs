//! The register tile of attention.

use super::super::simd::Vector;

/// Registers of queries in a tile.
pub(crate) const WIDE: usize = 3;

/// Queries of a tile.
pub(crate) const fn tile_queries(lanes: usize) -> usize {
    WIDE * lanes
}

/// Keys or channels of a register tile: with the three registers of queries, what the instruction set has.
pub(crate) const fn tile_rows(lanes: usize) -> usize {
    lanes / 2
}

/// `sums` plus rows [depth, R] times columns [depth, 3 registers], both packed.
///
/// # Safety
/// The processor must have the instruction set of `V`; both must be `depth` deep.
#[inline(always)]
pub(crate) unsafe fn product<V: Vector, const R: usize>(
    depth: usize,
    mut rows: *const f32,
    mut columns: *const f32,
    mut sums: [[V; WIDE]; R],
) -> [[V; WIDE]; R] {
    // SAFETY: asked of the caller.
    unsafe {
        for _ in 0..depth {
            let c = [
                V::load(columns),
                V::load(columns.add(V::LANES)),
                V::load(columns.add(2 * V::LANES)),
            ];
            for (i, sums) in sums.iter_mut().enumerate() {
                let row = V::splat(*rows.add(i));
                for j in 0..WIDE {
                    sums[j] = row.mul_add(c[j], sums[j]);
                }
            }
            rows = rows.add(R);
            columns = columns.add(WIDE * V::LANES);
        }
        sums
    }
}

/// A register tile from memory.
///
/// # Safety
/// The processor must have the instruction set of `V`; R rows of three registers must be readable.
#[inline(always)]
pub(crate) unsafe fn read<V: Vector, const R: usize>(p: *const f32) -> [[V; WIDE]; R] {
    // SAFETY: asked of the caller.
    unsafe {
        let mut sums = [[V::zero(); WIDE]; R];
        for (i, row) in sums.iter_mut().enumerate() {
            for (j, x) in row.iter_mut().enumerate() {
                *x = V::load(p.add((i * WIDE + j) * V::LANES));
            }
        }
        sums
    }
}

/// A register tile to memory.
///
/// # Safety
/// R rows of three registers must be writable.
#[inline(always)]
pub(crate) unsafe fn write<V: Vector, const R: usize>(sums: [[V; WIDE]; R], p: *mut f32) {
    // SAFETY: asked of the caller.
    unsafe {
        for (i, row) in sums.into_iter().enumerate() {
            for (j, x) in row.into_iter().enumerate() {
                x.store(p.add((i * WIDE + j) * V::LANES));
            }
        }
    }
}
