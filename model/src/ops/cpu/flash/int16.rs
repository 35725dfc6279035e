//! How the scores of attention, products of queries and keys, are multiplied: in f32, or in 16-bit integers.

use super::{
    Vector,
    arithmetic::{Exact, Int16},
    tile::flash::{WIDE, product},
};

/// A way to pack queries and keys and to multiply them.
pub(crate) trait Scores: Send + Sync {
    /// Elements that a packed row of `depth` channels takes.
    fn packed(depth: usize) -> usize;

    /// Packs one row into every `step`th element from `out`.
    ///
    /// # Safety
    /// As many elements as [`Scores::packed`] says must be writable, `step` apart.
    unsafe fn pack(row: &[f32], out: *mut f32, step: usize);

    /// The scores of R keys, packed R apart, for three registers of queries, packed as many apart.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`; both must be packed, `depth` channels deep.
    unsafe fn multiply<V: Vector, const R: usize>(
        depth: usize,
        keys: *const f32,
        queries: *const f32,
    ) -> [[V; WIDE]; R];
}

impl Scores for Exact {
    fn packed(depth: usize) -> usize {
        depth
    }

    #[inline(always)]
    unsafe fn pack(row: &[f32], out: *mut f32, step: usize) {
        for (d, x) in row.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { out.add(d * step).write(*x) };
        }
    }

    #[inline(always)]
    unsafe fn multiply<V: Vector, const R: usize>(
        depth: usize,
        keys: *const f32,
        queries: *const f32,
    ) -> [[V; WIDE]; R] {
        // SAFETY: the caller's promise.
        unsafe { product::<V, R>(depth, keys, queries, [[V::zero(); WIDE]; R]) }
    }
}

/// Packed: pairs of 16-bit integers, then the scale of the row. The largest element of a row becomes as large as the sum of
/// `depth` products allows: 5792 for heads of 64, which is off by at most 9e-5 of that largest element.
impl Scores for Int16 {
    fn packed(depth: usize) -> usize {
        depth.div_ceil(2) + 1
    }

    #[inline(always)]
    unsafe fn pack(row: &[f32], out: *mut f32, step: usize) {
        let max = max_integer(row.len());
        // NaN is propagated.
        let larger = |a: f32, b: f32| if a >= b || a.is_nan() { a } else { b };
        let largest = row.iter().fold(0.0, |a, x| larger(a, x.abs()));
        // A row of zeros, or of elements so small that the inverse is infinite, counts as zeros.
        let inverse = if largest > f32::MIN_POSITIVE * max {
            max / largest
        } else {
            0.0
        };
        let whole = |x: f32| (x * inverse).round_ties_even() as i16;
        let pairs = row.len().div_ceil(2);
        // SAFETY: the caller's promise.
        unsafe {
            for (i, pair) in row.chunks(2).enumerate() {
                let low = whole(pair[0]) as u16;
                let high = pair.get(1).map_or(0, |x| whole(*x) as u16);
                let both = u32::from(low) | u32::from(high) << 16;
                out.add(i * step).cast::<u32>().write(both);
            }
            out.add(pairs * step).write(largest / max);
        }
    }

    #[inline(always)]
    unsafe fn multiply<V: Vector, const R: usize>(
        depth: usize,
        keys: *const f32,
        queries: *const f32,
    ) -> [[V; WIDE]; R] {
        let pairs = depth.div_ceil(2);
        let wide = WIDE * V::LANES;
        // SAFETY: the caller's promise: pairs, then scales.
        unsafe {
            let (key_scales, query_scales) = (keys.add(pairs * R), queries.add(pairs * wide));
            let (mut keys, mut queries) = (keys.cast::<i32>(), queries.cast::<i32>());
            let mut sums = [[V::int_zero(); WIDE]; R];
            for _ in 0..pairs {
                let columns = [
                    V::int_load(queries),
                    V::int_load(queries.add(V::LANES)),
                    V::int_load(queries.add(2 * V::LANES)),
                ];
                for (i, sums) in sums.iter_mut().enumerate() {
                    let key = V::int_splat(*keys.add(i));
                    for j in 0..WIDE {
                        sums[j] = V::dot_pairs(sums[j], key, columns[j]);
                    }
                }
                keys = keys.add(R);
                queries = queries.add(wide);
            }
            let mut scores = [[V::zero(); WIDE]; R];
            for (i, (scores, sums)) in scores.iter_mut().zip(sums).enumerate() {
                let key = V::splat(*key_scales.add(i));
                for j in 0..WIDE {
                    let query = V::load(query_scales.add(j * V::LANES));
                    scores[j] = V::from_int(sums[j]) * (key * query);
                }
            }
            scores
        }
    }
}

/// The largest 16-bit integer whose square, summed `depth` times, stays below 2^31.
fn max_integer(depth: usize) -> f32 {
    let squares = f64::from(i32::MAX) / depth.next_multiple_of(2) as f64;
    squares.sqrt().floor().min(f64::from(i16::MAX)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_sum_fits() {
        for depth in [1, 2, 3, 16, 63, 64, 128, 1000] {
            let max = f64::from(max_integer(depth)) as i64;
            let sum = max * max * depth.next_multiple_of(2) as i64;
            assert!(
                sum <= i64::from(i32::MAX) && max <= i64::from(i16::MAX),
                "{depth}"
            );
            // And hardly less than what fits.
            assert!(max == i64::from(i16::MAX) || sum as f64 > 0.99 * f64::from(i32::MAX));
        }
    }

    #[test]
    fn rows_are_packed_as_pairs_and_a_scale() {
        let unpacked = |row: &[f32]| {
            let mut out = vec![0.0; <Int16 as Scores>::packed(row.len())];
            // SAFETY: the buffer holds them, one apart.
            #[allow(unsafe_code, reason = "calls the packing directly")]
            unsafe {
                <Int16 as Scores>::pack(row, out.as_mut_ptr(), 1);
            }
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
        let (elements, _) = unpacked(&row);
        for (x, y) in row.iter().zip(&elements) {
            assert!((x - y).abs() <= 0.5001 * 2.0 / max_integer(5), "{x} {y}");
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
