//! What one task of a product does: multiplies some columns of the right side with panels of the left.

use std::ops::Range;

use super::{
    super::{
        Kernel, Vector,
        arithmetic::Arithmetic,
        epilogue::Epilogue,
        tile::gemm::{WIDE, tile_columns, tile_rows},
    },
    MC, NC, Operands, Place, Product, Right, Rows,
};

/// Some columns of some panels.
pub(super) struct Task<'a, W, R, E> {
    pub(super) product: &'a Product<'a, W, R, E>,
    /// The left side, as [`PackLeft`](super::PackLeft) leaves it.
    pub(super) packed: &'a [f32],
    /// How many panels there are.
    pub(super) panels: usize,
    /// Panels of this task.
    pub(super) rows: Range<usize>,
    /// Columns of this task, and the elements of k.
    pub(super) place: Place,
    /// Scratch memory for the columns, as much as [`Right::scratch_len`] says.
    pub(super) right: &'a mut [f32],
    /// Scratch memory for the sums of a block of rows, [`SUMS`] elements.
    pub(super) sums: &'a mut [f32],
}

/// Elements of the sums that wait for more blocks of k.
pub(super) const SUMS: usize = MC * NC;

impl<W: Right, R: Rows, E: Epilogue> Kernel for Task<'_, W, R, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            if V::LANES == 16 {
                self.multiply::<V, { tile_rows(16) }>();
            } else {
                self.multiply::<V, { tile_rows(8) }>();
            }
        }
    }
}

impl<W: Right, R: Rows, E: Epilogue> Task<'_, W, R, E> {
    #[inline(always)]
    unsafe fn multiply<V: Vector, const MR: usize>(self) {
        let wide = tile_columns(V::LANES);
        let Self {
            product,
            packed,
            panels,
            ref place,
            ..
        } = self;
        let columns = &place.columns;
        let weights = product.operands.weights;
        // SAFETY: the buffers are as long as their fields say; every panel was packed.
        unsafe {
            weights.prepare::<V>(place, self.right);
            for start in self.rows.clone().step_by(MC / MR) {
                let end = (start + MC / MR).min(self.rows.end);
                for (i, block) in product.blocks().enumerate() {
                    let last = block.end == product.depth.end;
                    for column in columns.clone().step_by(wide) {
                        let right = weights.block::<V>(place, self.right, column, block.clone());
                        for panel in start..end {
                            let left = packed
                                [(i * panels + panel) * <W::Arithmetic as Arithmetic>::panel(MR)..]
                                .as_ptr();
                            let mut sums = <W::Arithmetic as Arithmetic>::sums::<V, MR>(
                                block.len(),
                                left,
                                right,
                            );
                            let at = ((panel - start) * NC + column - columns.start) * MR;
                            let waiting = self.sums[at..at + MR * wide].as_mut_ptr();
                            if i > 0 {
                                add(&mut sums, waiting);
                            }
                            if last {
                                product.finish::<V, MR>(sums, panel, column, columns.end);
                            } else {
                                write(sums, waiting);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Adds a tile from memory.
#[inline(always)]
unsafe fn add<V: Vector, const MR: usize>(sums: &mut [[V; WIDE]; MR], p: *const f32) {
    for (i, row) in sums.iter_mut().enumerate() {
        for (j, x) in row.iter_mut().enumerate() {
            // SAFETY: the caller's promise: as many elements.
            *x = *x + unsafe { V::load(p.add((i * WIDE + j) * V::LANES)) };
        }
    }
}

/// Writes a tile to memory.
#[inline(always)]
unsafe fn write<V: Vector, const MR: usize>(sums: [[V; WIDE]; MR], p: *mut f32) {
    for (i, row) in sums.into_iter().enumerate() {
        for (j, x) in row.into_iter().enumerate() {
            // SAFETY: the caller's promise: as many elements.
            unsafe { x.store(p.add((i * WIDE + j) * V::LANES)) };
        }
    }
}

impl<W: Right, R: Rows, E: Epilogue> Product<'_, W, R, E> {
    /// Adds the sums of a tile to those of earlier elements of k, and finishes them when there are no more.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`; rows and columns of the tile must belong to this task alone.
    #[inline(always)]
    unsafe fn finish<V: Vector, const MR: usize>(
        &self,
        sums: [[V; WIDE]; MR],
        panel: usize,
        column: usize,
        columns_end: usize,
    ) {
        let Operands {
            rows,
            epilogue,
            out,
            n,
            ..
        } = self.operands;
        let row = self.first + panel * MR;
        let height = MR.min(self.len - panel * MR);
        let width = tile_columns(V::LANES).min(columns_end - column);
        let begun = self.depth.start > 0;
        let last = self.depth.end == rows.depth();
        for (i, sums) in sums.into_iter().enumerate() {
            if i >= height {
                break;
            }
            for (j, sum) in sums.into_iter().enumerate() {
                let column = column + j * V::LANES;
                let lanes = width.saturating_sub(j * V::LANES).min(V::LANES);
                if lanes == 0 {
                    break;
                }
                // SAFETY: the caller's promise.
                unsafe {
                    let to = out.at((row + i) * n + column);
                    let whole = lanes == V::LANES;
                    let sum = match (begun, whole) {
                        (false, _) => sum,
                        (true, true) => sum + V::load(to),
                        (true, false) => sum + V::load_first(to, lanes),
                    };
                    let y = if last {
                        epilogue.apply(sum, row + i, column, lanes)
                    } else {
                        sum
                    };
                    if whole {
                        y.store(to);
                    } else {
                        y.store_first(to, lanes);
                    }
                }
            }
        }
    }
}
