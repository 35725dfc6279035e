//! How the product of matrices multiplies: in f32, or in 16-bit integers.

use super::{
    Vector,
    pack::{self, Source},
    simd::Eight,
    tile::gemm::{WIDE, micro_kernel},
};

/// A way to pack a block of rows and to multiply two packed blocks.
pub(crate) trait Arithmetic: Send + Sync {
    /// Whether rows of `depth` elements can be multiplied.
    fn takes(depth: usize) -> bool;

    /// Packs `W` rows of `depth` elements into at most `depth * W` elements.
    ///
    /// # Safety
    /// As [`pack::side_by_side`].
    unsafe fn pack<V: Vector, const W: usize>(source: &impl Source<V>, depth: usize, out: *mut f32);

    /// The sums of one tile of `MR` rows and two registers of columns, both packed.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`; both sides must be packed, `depth` deep.
    unsafe fn sums<V: Vector, const MR: usize>(
        depth: usize,
        left: *const f32,
        right: *const f32,
    ) -> [[V; WIDE]; MR];
}

/// Products and sums in f32.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exact;

impl Arithmetic for Exact {
    fn takes(_: usize) -> bool {
        true
    }

    #[inline(always)]
    unsafe fn pack<V: Vector, const W: usize>(
        source: &impl Source<V>,
        depth: usize,
        out: *mut f32,
    ) {
        // SAFETY: the caller's promise.
        unsafe { pack::side_by_side::<V, W>(source, depth, out) }
    }

    #[inline(always)]
    unsafe fn sums<V: Vector, const MR: usize>(
        depth: usize,
        left: *const f32,
        right: *const f32,
    ) -> [[V; WIDE]; MR] {
        // SAFETY: the caller's promise.
        unsafe { micro_kernel::<V, MR>(depth, left, (1, MR), right) }
    }
}

/// Products and sums of integers: each row of a block is scaled so that its largest element becomes [`LARGEST`], and
/// rounded. Twice as many products an instruction, at a relative error near 4e-4; bf16 has one near 3e-3.
///
/// Packed: pairs of 16-bit integers [depth / 2, W], then the scales `[W]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Int16;

/// The largest integer whose square, summed over the depth of a block, stays below 2^31.
const LARGEST: f32 = 2896.0;

/// Elements that are packed in one step: two registers of eight.
const STEP: usize = 16;

impl Arithmetic for Int16 {
    fn takes(depth: usize) -> bool {
        depth.is_multiple_of(STEP)
    }

    #[inline(always)]
    unsafe fn pack<V: Vector, const W: usize>(
        source: &impl Source<V>,
        depth: usize,
        out: *mut f32,
    ) {
        // SAFETY: the caller's promise; pairs and scales together are fewer than depth W.
        unsafe {
            let scales = out.add(depth / 2 * W);
            let mut inverse = [0.0; W];
            for (row, inverse) in inverse.iter_mut().enumerate() {
                let mut largest = V::Eight::zero();
                for k in (0..depth).step_by(8) {
                    largest = largest.max(source.load(row, k, 8).abs());
                }
                let largest = largest.largest();
                // A row of zeros, or of elements so small that the inverse is infinite, counts as zeros.
                if largest > f32::MIN_POSITIVE * LARGEST {
                    *inverse = LARGEST / largest;
                }
                scales.add(row).write(largest / LARGEST);
            }
            let pairs = Pairs { source, inverse };
            pack::side_by_side::<V, W>(&pairs, depth / 2, out);
        }
    }

    #[inline(always)]
    unsafe fn sums<V: Vector, const MR: usize>(
        depth: usize,
        left: *const f32,
        right: *const f32,
    ) -> [[V; WIDE]; MR] {
        let wide = WIDE * V::LANES;
        // SAFETY: the caller's promise: pairs, then scales.
        unsafe {
            let (row_scales, column_scales) =
                (left.add(depth / 2 * MR), right.add(depth / 2 * wide));
            let (mut left, mut right) = (left.cast::<i32>(), right.cast::<i32>());
            let mut sums = [[V::int_zero(); WIDE]; MR];
            for _ in 0..depth / 2 {
                let columns = [V::int_load(right), V::int_load(right.add(V::LANES))];
                for (i, sums) in sums.iter_mut().enumerate() {
                    let row = V::int_splat(*left.add(i));
                    sums[0] = V::dot_pairs(sums[0], row, columns[0]);
                    sums[1] = V::dot_pairs(sums[1], row, columns[1]);
                }
                left = left.add(MR);
                right = right.add(wide);
            }
            let columns = [V::load(column_scales), V::load(column_scales.add(V::LANES))];
            let mut scaled = [[V::zero(); WIDE]; MR];
            for (i, (scaled, sums)) in scaled.iter_mut().zip(sums).enumerate() {
                let row = V::splat(*row_scales.add(i));
                scaled[0] = V::from_int(sums[0]) * (row * columns[0]);
                scaled[1] = V::from_int(sums[1]) * (row * columns[1]);
            }
            scaled
        }
    }
}

/// The rows of a source as pairs of integers.
struct Pairs<'a, S, const W: usize> {
    source: &'a S,
    /// What each row is multiplied with.
    inverse: [f32; W],
}

impl<V: Vector, S: Source<V>, const W: usize> Source<V> for Pairs<'_, S, W> {
    #[inline(always)]
    unsafe fn load(&self, row: usize, k: usize, _: usize) -> V::Eight {
        // SAFETY: the caller's promise; the depth is a multiple of `STEP`.
        unsafe {
            let scale = V::Eight::splat(self.inverse[row]);
            let a = self.source.load(row, 2 * k, 8) * scale;
            let b = self.source.load(row, 2 * k + 8, 8) * scale;
            a.pairs(b)
        }
    }
}
