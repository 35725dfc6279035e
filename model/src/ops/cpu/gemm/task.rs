//! What one task of a product does: packs its columns of the right side and multiplies them with panels of the left.

use std::ops::Range;

use half::{bf16, f16};

use super::{
    super::{
        Kernel, Vector,
        arithmetic::Arithmetic,
        epilogue::Epilogue,
        pack,
        tile::gemm::{tile_columns, tile_rows},
    },
    MC, Operands, Product, Rows, Weights,
    weights::Element,
};

/// Some columns of some panels.
pub(super) struct Task<'a, A, R, E> {
    pub(super) product: &'a Product<'a, A, R, E>,
    /// The left side, as [`PackLeft`](super::PackLeft) leaves it.
    pub(super) packed: &'a [f32],
    /// How many panels there are.
    pub(super) panels: usize,
    /// Panels of this task.
    pub(super) rows: Range<usize>,
    /// Columns of this task.
    pub(super) columns: Range<usize>,
    /// Scratch memory for the columns at a depth of [`KC`](super::KC).
    pub(super) right: &'a mut [f32],
}

impl<A: Arithmetic, R: Rows, E: Epilogue> Kernel for Task<'_, A, R, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            if V::LANES == 16 {
                self.multiply::<V, { tile_rows(16) }, { tile_columns(16) }>();
            } else {
                self.multiply::<V, { tile_rows(8) }, { tile_columns(8) }>();
            }
        }
    }
}

impl<A: Arithmetic, R: Rows, E: Epilogue> Task<'_, A, R, E> {
    #[inline(always)]
    unsafe fn multiply<V: Vector, const MR: usize, const NR: usize>(mut self) {
        let depth = &self.product.depth;
        let mut k = depth.start;
        while k < depth.end {
            let block = self.product.operands.rows.run(k);
            // SAFETY: the buffer holds the columns of a task at a depth of at most KC, and the panels were packed with the
            // same blocks.
            unsafe {
                self.pack_right::<V, NR>(k, block);
                for start in self.rows.clone().step_by(MC / MR) {
                    let end = (start + MC / MR).min(self.rows.end);
                    for (j, column) in self.columns.clone().step_by(NR).enumerate() {
                        let right = &self.right[j * block * NR..][..block * NR];
                        for panel in start..end {
                            self.tile::<V, MR, NR>((k, block), panel, column, right);
                        }
                    }
                }
            }
            k += block;
        }
    }

    /// Lays the columns of the task side by side, in panels of `NR`.
    #[inline(always)]
    unsafe fn pack_right<V: Vector, const NR: usize>(&mut self, k: usize, block: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.product.operands.weights {
                Weights::F32(w) => self.pack_of_type::<V, f32, NR>(w, k, block),
                Weights::F16(w) => self.pack_of_type::<V, f16, NR>(w, k, block),
                Weights::Bf16(w) => self.pack_of_type::<V, bf16, NR>(w, k, block),
            }
        }
    }

    #[inline(always)]
    unsafe fn pack_of_type<V: Vector, T: Element, const NR: usize>(
        &mut self,
        weights: &[T],
        k: usize,
        block: usize,
    ) {
        let depth = self.product.operands.rows.depth();
        for (j, column) in self.columns.clone().step_by(NR).enumerate() {
            let count = NR.min(self.columns.end - column);
            let out = self.right[j * block * NR..][..block * NR].as_mut_ptr();
            // SAFETY: `count` rows of `depth` elements begin at `column * depth`: the weights' length was checked.
            unsafe {
                let right = Right {
                    start: weights.as_ptr().add(column * depth + k),
                    depth,
                    count,
                };
                A::pack::<V, NR>(&right, block, out);
            }
        }
    }

    /// Adds one block of k to one tile, and finishes it when the block is the last.
    #[inline(always)]
    unsafe fn tile<V: Vector, const MR: usize, const NR: usize>(
        &self,
        (k, block): (usize, usize),
        panel: usize,
        column: usize,
        right: &[f32],
    ) {
        let Product {
            operands,
            first,
            len,
            depth,
            ..
        } = self.product;
        let Operands {
            rows,
            epilogue,
            out,
            n,
            ..
        } = operands;
        let at = (k - depth.start) * self.panels * MR + panel * block * MR;
        let left = &self.packed[at..][..block * MR];
        let row = first + panel * MR;
        let height = MR.min(len - panel * MR);
        let width = NR.min(self.columns.end - column);
        let last = k + block == rows.depth();
        // SAFETY: both panels are as deep as the block; rows and columns of the tile lie inside the product and belong
        // to this task alone.
        unsafe {
            let sums = A::sums::<V, MR>(block, left.as_ptr(), right.as_ptr());
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
                    let to = out.at((row + i) * n + column);
                    if lanes == V::LANES {
                        let sum = if k == 0 { sum } else { sum + V::load(to) };
                        let y = if last {
                            epilogue.apply(sum, row + i, column, lanes)
                        } else {
                            sum
                        };
                        y.store(to);
                    } else {
                        let sum = if k == 0 {
                            sum
                        } else {
                            sum + V::load_first(to, lanes)
                        };
                        let y = if last {
                            epilogue.apply(sum, row + i, column, lanes)
                        } else {
                            sum
                        };
                        y.store_first(to, lanes);
                    }
                }
            }
        }
    }
}

/// `count` rows of the right side, `depth` elements apart; rows behind them are zeros.
struct Right<T> {
    start: *const T,
    depth: usize,
    count: usize,
}

impl<V: Vector, T: Element> pack::Source<V> for Right<T> {
    #[inline(always)]
    unsafe fn load(&self, row: usize, k: usize, n: usize) -> V::Eight {
        // SAFETY: the caller's promise.
        unsafe {
            if row >= self.count {
                return V::Eight::zero();
            }
            let p = self.start.add(row * self.depth + k);
            if n == 8 {
                return T::load::<V::Eight>(p);
            }
            let mut some = [0.0; 8];
            for (i, x) in some.iter_mut().enumerate().take(n) {
                *x = (*p.add(i)).to_f32();
            }
            V::Eight::load(some.as_ptr())
        }
    }
}
