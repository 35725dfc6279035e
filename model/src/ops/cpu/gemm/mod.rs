//! The product of matrices behind linear layers and convolutions: y = f(g(x) wᵀ).
//!
//! The left side is packed once, by all threads, into panels of as many rows as the register tile has; g, a
//! normalization or a ReLU, happens on the way. Then every task takes some columns: it packs a block of w, which may be
//! halves in a mapped file, and multiplies it with all panels while it lies in the cache. f, the epilogue, is applied to
//! each tile on its way to memory. The sum over k runs in blocks of [`KC`] in rising order, whatever the task split: the
//! results do not depend on the number of threads. A left side of a few rows is not worth packing w for: see [`few()`].

mod few;
mod pack_left;
mod task;
mod weights;

use std::{marker::PhantomData, ops::Range};

use rayon::prelude::*;

use super::{
    Isa, Shared, arithmetic::Arithmetic, epilogue::Epilogue, scratch, tile::gemm::tile_rows,
};
use crate::stop;
use few::{FEW, few};
use pack_left::PackLeft;
use task::Task;

pub(crate) use weights::Weights;

// The blocks follow from the sizes of caches, in the order in which the loops reuse what is in them (Goto and van de Geijn,
// Anatomy of High-Performance Matrix Multiplication, 2008). Sizes below are those with AVX-512; with AVX2 panels are half as
// high and half as wide.

/// Elements of k that are multiplied before the tile goes back to memory. A panel of the left side takes 12 x 256 elements or
/// 12 KiB, one of the right side 32 x 256 or 32 KiB: together they fit a first-level cache of 48 KiB, and with AVX2 6 and 16
/// KiB fit one of 32. Smaller blocks would load and store the sums more often.
///
/// `Int16` relies on it too: its largest factor is the one whose square, summed this often, stays below 2^31.
pub(crate) const KC: usize = 256;

/// Rows of the left side that are packed at once. Each lot of rows packs the right side again, so that lots should be large:
/// one frame of 518 x 518 pixels has 1374 tokens, which are one lot.
const ROWS: usize = 1536;

/// How deep rows are packed at once: with [`ROWS`] 6 MiB, which should stay in the third-level cache while all columns pass by.
/// Cutting k instead of the rows keeps the right side from being packed more often when rows are deep.
const DEPTH: usize = 1024;

/// Rows of a block that stays in the second-level cache while the columns of a task pass by: 192 x 256 elements or 192 KiB,
/// next to the 64 KiB of the task's columns. A multiple of both tile heights.
const MC: usize = 192;

/// Columns of a task, a multiple of both tile widths. More would read the left side less often; fewer make more tasks, so that
/// threads wait less for the last one. The narrowest layers, 1024 columns, are 16 tasks for each group of rows.
const NC: usize = 64;

/// The left side.
pub(crate) trait Rows: Sync {
    /// Elements in a row.
    fn depth(&self) -> usize;

    /// How many elements from `k` lie side by side in every row, at most [`KC`]; blocks of k end there.
    fn run(&self, k: usize) -> usize {
        KC.min(self.depth() - k)
    }

    /// The `len` elements of row `row` from `k`, where `len` is [`Rows::run`] of `k`.
    fn slice(&self, row: usize, k: usize, len: usize) -> &[f32];
}

/// A row-major matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    /// [rows, depth]
    pub(crate) data: &'a [f32],
    /// Elements in a row.
    pub(crate) depth: usize,
}

impl Rows for Matrix<'_> {
    fn depth(&self) -> usize {
        self.depth
    }

    #[inline]
    fn slice(&self, row: usize, k: usize, len: usize) -> &[f32] {
        &self.data[row * self.depth + k..][..len]
    }
}

/// What happens to the left side while it is packed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Prepare<'a> {
    /// Nothing.
    Plain,
    /// max(x, 0)
    Relu,
    /// (x - mean) rstd weight + bias
    Norm {
        /// Mean and 1 / standard deviation of each row.
        moments: &'a [(f32, f32)],
        /// A factor for each k.
        weight: &'a [f32],
        /// A summand for each k.
        bias: &'a [f32],
    },
}

/// out [m, n] = epilogue(prepare(rows) weightsᵀ), by all threads of the pool. Writes all of `out` before it reads any, unless
/// the pass of this thread is stopped.
///
/// # Panics
/// When the lengths do not fit `m`, `n` and the depth, or the depth is 0.
pub(crate) fn gemm<A: Arithmetic, R: Rows, E: Epilogue>(
    isa: Isa,
    (m, n): (usize, usize),
    (rows, prepare): (&R, Prepare<'_>),
    weights: Weights<'_>,
    epilogue: &E,
    out: Shared<'_, f32>,
) {
    let depth = rows.depth();
    assert!(depth > 0, "there is nothing to sum");
    assert_eq!(out.len(), m * n, "out is [{m}, {n}]");
    assert_eq!(weights.len(), n * depth, "weights are [{n}, {depth}]");
    assert!(A::takes(depth), "this arithmetic takes no depth of {depth}");
    if let Prepare::Norm {
        moments,
        weight,
        bias,
    } = prepare
    {
        assert!(moments.len() == m && weight.len() == depth && bias.len() == depth);
    }
    let operands = Operands {
        rows,
        prepare,
        weights,
        epilogue,
        out,
        n,
    };
    if (1..=FEW).contains(&m) {
        return few(isa, m, &operands);
    }
    for start in (0..m).step_by(ROWS) {
        let mut end = 0;
        while end < depth {
            if stop::is_stopped() {
                return;
            }
            let begin = end;
            while end < depth && end - begin < DEPTH {
                end += rows.run(end);
            }
            let product = Product::<A, R, E> {
                arithmetic: PhantomData,
                operands: &operands,
                first: start,
                len: ROWS.min(m - start),
                depth: begin..end,
            };
            product.run(isa);
        }
    }
}

/// What is multiplied, and where the product goes. Its lengths were checked.
struct Operands<'a, R, E> {
    rows: &'a R,
    prepare: Prepare<'a>,
    weights: Weights<'a>,
    epilogue: &'a E,
    out: Shared<'a, f32>,
    /// Columns.
    n: usize,
}

/// One lot of rows and elements of k of a product.
struct Product<'a, A, R, E> {
    arithmetic: PhantomData<A>,
    operands: &'a Operands<'a, R, E>,
    /// The first of the rows.
    first: usize,
    /// How many rows.
    len: usize,
    /// Where k begins and ends.
    depth: Range<usize>,
}

impl<A: Arithmetic, R: Rows, E: Epilogue> Product<'_, A, R, E> {
    fn run(&self, isa: Isa) {
        let lanes = isa.lanes();
        let tile = tile_rows(lanes);
        let panels = self.len.div_ceil(tile);
        scratch::with(panels * tile * self.depth.len(), |packed| {
            let shared = Shared::new(packed);
            (0..panels)
                .into_par_iter()
                .with_min_len(4)
                .for_each(|panel| {
                    isa.run(PackLeft {
                        product: self,
                        packed: shared,
                        panels,
                        panel,
                    });
                });
            let packed: &[f32] = packed;
            let n = self.operands.n;
            let groups = self.groups(tile);
            let tasks = groups * n.div_ceil(NC);
            (0..tasks).into_par_iter().with_max_len(1).for_each(|task| {
                let group = panels.div_ceil(groups);
                let (i, j) = (task % groups, task / groups);
                scratch::with(NC * KC, |right| {
                    isa.run(Task {
                        product: self,
                        packed,
                        panels,
                        rows: (i * group).min(panels)..((i + 1) * group).min(panels),
                        columns: j * NC..((j + 1) * NC).min(n),
                        right,
                    });
                });
            });
        });
    }

    /// Into how many groups the rows are cut: tasks enough to keep every thread busy to the end, and no more, since each
    /// group packs the right side again.
    fn groups(&self, tile: usize) -> usize {
        let wanted = 4 * rayon::current_num_threads();
        let tasks = self.operands.n.div_ceil(NC);
        wanted
            .div_ceil(tasks)
            .min(self.len.div_ceil(4 * tile))
            .max(1)
    }
}

#[cfg(test)]
mod tests;
