//! How the product of matrices multiplies: in f32, or in 16-bit integers.

use super::{
    Vector,
    simd::load,
    tile::gemm::{WIDE, micro_kernel, micro_kernel_of_pairs},
};

/// Elements of memory from one row of a packed panel to the next: 1 KiB, which hold 256 elements in f32 and 512 in 16 bits.
///
/// The same for every block, however deep, so that the addresses of a panel's rows differ by constants.
pub(crate) const LINE: usize = 256;

/// What writes the elements of a row. Not a closure, which would be compiled without the instruction set where it is not inlined.
pub(crate) trait WriteRow {
    /// Writes all of `row`.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`; the implementation may ask for more.
    unsafe fn write<V: Vector>(self, row: &mut [f32]);
}

/// A way to pack a block of rows of the left side, and to multiply it with a block of the right side.
pub(crate) trait Arithmetic: Send + Sync {
    /// Elements of k that are multiplied before the sums of a tile go back to memory, at most.
    const BLOCK: usize;

    /// Elements of memory that a block of a panel of `rows` takes.
    fn panel(rows: usize) -> usize;

    /// Packs a row of a panel, `row` being its number and that of all rows: the `len` elements that `source` writes.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`; the panel must be as long as [`Arithmetic::panel`] says and have such
    /// a row, and `len` be at most [`Arithmetic::BLOCK`].
    unsafe fn pack_row<V: Vector>(
        panel: *mut f32,
        row: (usize, usize),
        len: usize,
        source: impl WriteRow,
    );

    /// The sums of one tile of `MR` rows and two registers of columns, both packed. The panel behind that of the left side is
    /// brought near.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`; both sides must be packed, `len` deep.
    unsafe fn sums<V: Vector, const MR: usize>(
        len: usize,
        left: *const f32,
        right: *const f32,
    ) -> [[V; WIDE]; MR];
}

/// Products and sums in f32.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exact;

impl Arithmetic for Exact {
    const BLOCK: usize = LINE;

    fn panel(rows: usize) -> usize {
        rows * LINE
    }

    #[inline(always)]
    unsafe fn pack_row<V: Vector>(
        panel: *mut f32,
        (row, _): (usize, usize),
        len: usize,
        source: impl WriteRow,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            source.write::<V>(std::slice::from_raw_parts_mut(panel.add(row * LINE), len));
        }
    }

    #[inline(always)]
    unsafe fn sums<V: Vector, const MR: usize>(
        len: usize,
        left: *const f32,
        right: *const f32,
    ) -> [[V; WIDE]; MR] {
        // SAFETY: the caller's promise.
        unsafe {
            micro_kernel::<V, MR>(len, (left, LINE), right, left.wrapping_add(Self::panel(MR)))
        }
    }
}

/// Products and sums of 16-bit integers, twice as many an instruction as in f32.
///
/// Every row of a block becomes integers by a scale of its own, as large as the sum of products allows: that sum is at most
/// the product of both rows' Euclidean norms (Cauchy and Schwarz), also for a part of the elements, so that no sum of integers
/// leaves 32 bits where each norm is at most the root of 2^31. For elements that are spread like a normal distribution, 512 to
/// a block, the integers have a deviation of 2048 and the relative error of a product is near 2e-4; bf16 has one near 3e-3. A
/// scale by the largest element alone, of which 512 squares have to fit, would leave a third of that deviation.
///
/// A packed block of the left side: rows of integers, [`LINE`] apart, then the scales `[rows]`. Of the right side: pairs of
/// integers [len / 2, columns], then the scales `[columns]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Int16;

impl Int16 {
    /// Whether rows of `depth` elements can be multiplied: integers are written a register of elements at a time.
    pub(crate) fn takes(depth: usize) -> bool {
        depth.is_multiple_of(16)
    }
}

impl Arithmetic for Int16 {
    const BLOCK: usize = 2 * LINE;

    fn panel(rows: usize) -> usize {
        // Panels begin at a multiple of a cache line.
        rows * LINE + rows.next_multiple_of(16)
    }

    #[inline(always)]
    unsafe fn pack_row<V: Vector>(
        panel: *mut f32,
        (row, rows): (usize, usize),
        len: usize,
        source: impl WriteRow,
    ) {
        let mut elements = [0.0; Self::BLOCK];
        let elements = &mut elements[..len];
        // SAFETY: the caller's promise.
        unsafe {
            source.write::<V>(elements);
            let scale = quantize::<V>(elements, panel.add(row * LINE).cast());
            panel.add(rows * LINE + row).write(scale);
        }
    }

    #[inline(always)]
    unsafe fn sums<V: Vector, const MR: usize>(
        len: usize,
        left: *const f32,
        right: *const f32,
    ) -> [[V; WIDE]; MR] {
        let wide = WIDE * V::LANES;
        // SAFETY: the caller's promise.
        unsafe {
            let pairs = len / 2;
            let ahead = left.wrapping_add(Self::panel(MR));
            let sums = micro_kernel_of_pairs::<V, MR>(
                pairs,
                (left.cast(), LINE),
                right.cast(),
                ahead.cast(),
            );
            let (rows, columns) = (left.add(MR * LINE), right.add(pairs * wide));
            let columns = [V::load(columns), V::load(columns.add(V::LANES))];
            let mut scaled = [[V::zero(); WIDE]; MR];
            for (i, (scaled, sums)) in scaled.iter_mut().zip(sums).enumerate() {
                let row = V::splat(*rows.add(i));
                scaled[0] = V::from_int(sums[0]) * (row * columns[0]);
                scaled[1] = V::from_int(sums[1]) * (row * columns[1]);
            }
            scaled
        }
    }
}

/// The largest Euclidean norm of integers whose products are summed: the root of 2^31 less what rounding can add to the norm of
/// [`MOST`] integers, half the root of their number, and what f32 leaves uncertain.
pub(crate) const NORM: f32 = 46_300.0;

/// The most integers whose products are summed.
pub(crate) const MOST: usize = 512;

/// An integer whose square, summed [`MOST`] times, stays below 2^31.
const LARGEST: f32 = 2047.0;

/// Writes `row`, at most [`MOST`] elements, as integers, and returns what these are to be multiplied with.
///
/// A row of zeros, or of elements so small that the inverse of the scale is infinite, becomes zeros; one with an infinity or a
/// NaN has a scale that is not finite.
///
/// # Safety
/// The processor must have the instruction set of `V`; `out` must have as many elements, rounded up to whole registers: what is
/// beyond the row becomes 0.
#[inline(always)]
pub(crate) unsafe fn quantize<V: Vector>(row: &[f32], out: *mut i16) -> f32 {
    debug_assert!(row.len() <= MOST);
    // SAFETY: the caller's promise.
    unsafe {
        let (mut largest, mut squares) = (V::zero(), V::zero());
        for k in (0..row.len()).step_by(V::LANES) {
            let x = load::<V>(row, k, V::LANES.min(row.len() - k));
            largest = x.abs().max(largest);
            squares = x.mul_add(x, squares);
        }
        let scale = scale(largest.largest(), squares.sum());
        let inverse = V::splat(inverse(scale));
        for k in (0..row.len()).step_by(V::LANES) {
            let x = load::<V>(row, k, V::LANES.min(row.len() - k));
            (x * inverse).store_i16(out.add(k));
        }
        scale
    }
}

/// The scale of a row of at most [`MOST`] elements, from its largest element and the sum of squares.
#[inline(always)]
pub(crate) fn scale(largest: f32, squares: f32) -> f32 {
    /// Sums of squares that lost nothing to the range of f32.
    const SAFE: std::ops::Range<f32> = 1e-20..1e30;
    if SAFE.contains(&squares) {
        (largest / f32::from(i16::MAX)).max(squares.sqrt() / NORM)
    } else if squares.is_nan() {
        // Which the largest element does not show.
        squares
    } else {
        largest / LARGEST
    }
}

/// What elements of this scale are multiplied with to become integers.
#[inline(always)]
pub(crate) fn inverse(scale: f32) -> f32 {
    if scale > f32::MIN_POSITIVE {
        1.0 / scale
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cpu::{Isa, Kernel};

    struct Quantize<'a>(&'a [f32], &'a mut [i16]);

    impl Kernel for Quantize<'_> {
        type Output = f32;

        #[inline(always)]
        unsafe fn run<V: Vector>(self) -> f32 {
            assert!(self.1.len() >= self.0.len());
            // SAFETY: there are as many integers as elements.
            unsafe { quantize::<V>(self.0, self.1.as_mut_ptr()) }
        }
    }

    fn quantized(isa: Isa, row: &[f32]) -> (Vec<i16>, f32) {
        let mut integers = vec![0; row.len()];
        let scale = isa.run(Quantize(row, &mut integers));
        (integers, scale)
    }

    /// Rows of every kind: even, spread, one element above all others, tiny, huge, alternating signs.
    fn rows() -> Vec<Vec<f32>> {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let mut rows = Vec::new();
        for len in [16, 64, 272, 512] {
            let noise: Vec<f32> = (0..len).map(|_| random()).collect();
            let mut outlier = noise.clone();
            outlier[len / 2] = -1000.0;
            for scale in [1.0, 1e-25, 1e25, 3e37] {
                rows.push(vec![scale; len]);
                rows.push(
                    (0..len)
                        .map(|i| if i % 2 == 0 { scale } else { -scale })
                        .collect(),
                );
                rows.push(noise.iter().map(|x| x * scale).collect());
            }
            rows.push(outlier);
            rows.push(noise.iter().map(|x| x.powi(9)).collect());
        }
        rows
    }

    #[test]
    fn no_sum_of_products_leaves_32_bits() {
        for isa in Isa::all() {
            for row in rows() {
                let (integers, _) = quantized(isa, &row);
                // The sum of any products is at most the product of the norms: of two rows of this norm, 2^31.
                let squares: i64 = integers.iter().map(|x| i64::from(*x).pow(2)).sum();
                assert!(
                    squares < 1 << 31,
                    "{}: {squares} {:?}",
                    isa.name(),
                    &row[..4]
                );
                assert!(integers.iter().all(|x| *x != i16::MIN), "{:?}", &row[..4]);
            }
        }
    }

    #[test]
    fn integers_are_as_large_as_they_may_be() {
        for isa in Isa::all() {
            for row in rows() {
                let (integers, scale) = quantized(isa, &row);
                for (x, integer) in row.iter().zip(&integers) {
                    let back = f64::from(*integer) * f64::from(scale);
                    let error = (f64::from(*x) - back).abs();
                    // Half a step, and what f32 loses of 32767 steps.
                    assert!(
                        error <= 0.505 * f64::from(scale),
                        "{}: {x} {back}",
                        isa.name()
                    );
                }
                // Where the squares are in the range of f32, hardly less than what fits.
                let largest = row.iter().fold(0f32, |a, x| a.max(x.abs()));
                if (1e-8..1e10).contains(&largest) {
                    let squares: i64 = integers.iter().map(|x| i64::from(*x).pow(2)).sum();
                    let most = integers.iter().map(|x| x.unsigned_abs()).max().unwrap();
                    assert!(
                        squares as f64 > 0.99 * 2f64.powi(31) || most == 32767,
                        "{squares}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_shows_in_the_scale() {
        for isa in Isa::all() {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in [0, 7, 31] {
                    let mut row = vec![1.0; 32];
                    row[at] = bad;
                    assert!(
                        !quantized(isa, &row).1.is_finite(),
                        "{} {bad} {at}",
                        isa.name()
                    );
                }
            }
            let (integers, scale) = quantized(isa, &[1e-41; 32]);
            assert!(integers.iter().all(|x| *x == 0) && scale.is_finite());
        }
    }
}
