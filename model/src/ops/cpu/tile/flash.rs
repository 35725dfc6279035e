//! The register tile of attention.

use super::super::simd::Vector;

// Both products of attention use this tile: keys x queries, summed over the channels, and channels x queries, summed over the
// keys. Its rows therefore cut the keys and the channels, and the heads of VGGT have 64 channels: 12 rows, as in the tile of
// `gemm`, would cut them into six groups of which the last is a third full, 8 (4 with AVX2) cut them without a rest. With 8
// rows the registers allow three columns: 24 sums, 3 for the queries or scores and 1 for the broadcast are 28 of AVX-512's
// 32; 12, 3 and 1 are all of AVX2's 16.

/// Registers of queries in a tile.
pub(crate) const WIDE: usize = 3;

/// Queries of a tile.
pub(crate) const fn tile_queries(lanes: usize) -> usize {
    WIDE * lanes
}

/// Keys or channels of a register tile.
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
    // SAFETY: the caller's promise.
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

/// Rows [pairs, R] times columns [pairs, 3 registers], pairs of 16-bit integers, both packed.
///
/// # Safety
/// The processor must have the instruction set of `V`; both must have as many pairs.
#[inline(always)]
pub(crate) unsafe fn product_of_pairs<V: Vector, const R: usize>(
    pairs: usize,
    mut rows: *const i32,
    mut columns: *const i32,
) -> [[V::Int; WIDE]; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::int_zero(); WIDE]; R];
        for _ in 0..pairs {
            let c = [
                V::int_load(columns),
                V::int_load(columns.add(V::LANES)),
                V::int_load(columns.add(2 * V::LANES)),
            ];
            for (i, sums) in sums.iter_mut().enumerate() {
                let row = V::int_splat(*rows.add(i));
                for j in 0..WIDE {
                    sums[j] = V::dot_pairs(sums[j], row, c[j]);
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
    // SAFETY: the caller's promise.
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
    // SAFETY: the caller's promise.
    unsafe {
        for (i, row) in sums.into_iter().enumerate() {
            for (j, x) in row.into_iter().enumerate() {
                x.store(p.add((i * WIDE + j) * V::LANES));
            }
        }
    }
}
