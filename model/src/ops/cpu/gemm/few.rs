//! The product for a left side of a few rows: as long as it takes to fetch the right side once. Nothing is packed, and the
//! arithmetic is always f32.

use std::ops::Range;

use half::{bf16, f16};
use rayon::prelude::*;

use super::{
    super::{
        Isa, Kernel, Vector,
        epilogue::Epilogue,
        scratch,
        weights::{Element, Weights},
    },
    Operands, Rows,
};

/// Rows of the left side up to which nothing is packed.
pub(crate) const FEW: usize = 4;

/// Columns of a task for few rows.
const FEW_COLUMNS: usize = 64;

/// The product for `m` rows, at most [`FEW`].
pub(super) fn few<W: Sync, R: Rows, E: Epilogue>(
    isa: Isa,
    m: usize,
    operands: &Operands<'_, W, R, E>,
    weights: Weights<'_>,
) {
    let (n, depth) = (operands.n, operands.rows.depth());
    scratch::with(m * depth, |left| {
        isa.run(PrepareFew {
            operands,
            out: left,
        });
        let left: &[f32] = left;
        (0..n.div_ceil(FEW_COLUMNS))
            .into_par_iter()
            .for_each(|task| {
                let first = task * FEW_COLUMNS;
                isa.run(Few {
                    left,
                    depth,
                    operands,
                    weights,
                    columns: first..(first + FEW_COLUMNS).min(n),
                });
            });
    });
}

/// Prepares few rows, which stay as they lie: `[m, depth]`.
struct PrepareFew<'a, W, R, E> {
    operands: &'a Operands<'a, W, R, E>,
    out: &'a mut [f32],
}

impl<W, R: Rows, E> Kernel for PrepareFew<'_, W, R, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let depth = self.operands.rows.depth();
        for (row, out) in self.out.chunks_mut(depth).enumerate() {
            // SAFETY: the processor has the instruction set, and a row `depth` elements.
            unsafe { self.operands.prepare::<V>(row, 0, out) };
        }
    }
}

/// Some columns of few rows.
struct Few<'a, W, R, E> {
    /// [m, depth], prepared.
    left: &'a [f32],
    depth: usize,
    operands: &'a Operands<'a, W, R, E>,
    weights: Weights<'a>,
    columns: Range<usize>,
}

impl<W, R: Rows, E: Epilogue> Kernel for Few<'_, W, R, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.weights {
                Weights::F32(w) => self.of_type::<V, f32>(w),
                Weights::F16(w) => self.of_type::<V, f16>(w),
                Weights::Bf16(w) => self.of_type::<V, bf16>(w),
            }
        }
    }
}

impl<W, R: Rows, E: Epilogue> Few<'_, W, R, E> {
    #[inline(always)]
    unsafe fn of_type<V: Vector, T: Element>(&self, weights: &[T]) {
        // SAFETY: the caller's promise; there are as many rows as asked for.
        unsafe {
            match self.left.len() / self.depth {
                1 => self.rows::<V, T, 1>(weights),
                2 => self.rows::<V, T, 2>(weights),
                3 => self.rows::<V, T, 3>(weights),
                _ => self.rows::<V, T, FEW>(weights),
            }
        }
    }

    #[inline(always)]
    unsafe fn rows<V: Vector, T: Element, const M: usize>(&self, weights: &[T]) {
        let Operands {
            epilogue, out, n, ..
        } = self.operands;
        for first in self.columns.clone().step_by(V::LANES) {
            let count = V::LANES.min(self.columns.end - first);
            let mut sums = [[0.0; MAX_LANES]; M];
            for column in 0..count {
                let w = &weights[(first + column) * self.depth..][..self.depth];
                // SAFETY: the processor has the instruction set; both sides are `depth` long.
                let of_column = unsafe { self.dot::<V, T, M>(w) };
                for (sums, sum) in sums.iter_mut().zip(of_column) {
                    sums[column] = sum;
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                // SAFETY: the columns lie inside the product and belong to this task alone.
                unsafe {
                    let x = V::load(sums.as_ptr());
                    let y = epilogue.apply(x, row, first, count);
                    y.store_first(out.at(row * n + first), count);
                }
            }
        }
    }

    /// The sums of one column for all rows, each by turns in `CHAINS` registers.
    #[inline(always)]
    unsafe fn dot<V: Vector, T: Element, const M: usize>(&self, w: &[T]) -> [f32; M] {
        /// Additions wait for each other; this many do not.
        const CHAINS: usize = 4;
        let depth = self.depth;
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[V::zero(); CHAINS]; M];
            let step = CHAINS * V::LANES;
            let whole = depth / step * step;
            for k in (0..whole).step_by(step) {
                for chain in 0..CHAINS {
                    let k = k + chain * V::LANES;
                    let w = T::load::<V>(w.as_ptr().add(k));
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let x = V::load(self.left.as_ptr().add(row * depth + k));
                        sums[chain] = w.mul_add(x, sums[chain]);
                    }
                }
            }
            let mut result = [0.0; M];
            for (row, (result, [a, b, c, d])) in result.iter_mut().zip(sums).enumerate() {
                *result = ((a + b) + (c + d)).sum();
                for (w, x) in w[whole..].iter().zip(&self.left[row * depth + whole..]) {
                    *result = w.to_f32().mul_add(*x, *result);
                }
            }
            result
        }
    }
}

/// Elements in the widest register.
const MAX_LANES: usize = 16;
