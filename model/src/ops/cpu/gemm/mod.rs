//! The product of matrices behind linear layers and convolutions: y = f(g(x) wᵀ).
//!
//! The left side is packed once, by all threads, into panels of as many rows as the register tile has; g, a
//! normalization or a ReLU, happens on the way. Then every task takes some columns of w, which it packs if they do not lie in
//! panels already, and multiplies them with all panels of the left side while they lie in the cache. f, the epilogue, is
//! applied to each tile on its way to memory. The sum over k runs in blocks in rising order, whatever the task split: the
//! results do not depend on the number of threads. A left side of a few rows is not worth packing w for: see [`few()`].

mod few;
mod pack_left;
mod task;

use std::ops::Range;

use rayon::prelude::*;

use super::{
    Isa, Shared,
    arithmetic::Arithmetic,
    epilogue::Epilogue,
    scratch,
    tile::gemm::tile_rows,
    weights::{Place, Right},
};
use crate::stop;
use few::few;
use pack_left::PackLeft;
use task::{SUMS, Task};

pub(crate) use few::FEW;

// The blocks follow from the sizes of caches, in the order in which the loops reuse what is in them (Goto and van de Geijn,
// Anatomy of High-Performance Matrix Multiplication, 2008). Sizes below are those with AVX-512; with AVX2 panels are half as
// high and half as wide.
//
// The innermost block, of `Arithmetic::BLOCK` elements of k, is multiplied in registers. A panel of the left side takes 12
// lines of 1 KiB, one of the right side 32: together they fit a first-level cache of 48 KiB, and with AVX2 6 and 16 KiB fit one
// of 32. Smaller blocks would load and store the sums more often.

/// Rows of the left side that are packed at once. Each lot of rows packs the right side again where it is not kept packed, so
/// that lots should be large: one frame of 518 x 518 pixels has 1374 tokens, which are one lot.
const ROWS: usize = 1536;

/// How many blocks of rows are packed at once: with [`ROWS`] 6 MiB, which should stay in the third-level cache while all columns
/// pass by. Cutting k instead of the rows keeps the right side from being packed more often when rows are deep.
const BLOCKS: usize = 4;

/// Rows whose sums stay in the second-level cache from one block of k to the next: 192 x 64 elements or 48 KiB, next to the
/// left side's 192 KiB of a block and the right side's 64. A multiple of both tile heights.
const MC: usize = 192;

/// Columns of a task, a multiple of both tile widths. More would read the left side less often; fewer make more tasks, so that
/// threads wait less for the last one. The narrowest layers, 1024 columns, are 16 tasks for each group of rows.
const NC: usize = 64;

/// The left side.
pub(crate) trait Rows: Sync {
    /// Elements in a row.
    fn depth(&self) -> usize;

    /// How many elements from `k` lie side by side in every row.
    fn run(&self, k: usize) -> usize {
        self.depth() - k
    }

    /// The `len` elements of row `row` from `k`, where `len` is at most [`Rows::run`] of `k`.
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

/// out [m, n] = epilogue(prepare(rows) weightsᵀ), by all threads of the pool, in the arithmetic of the weights. Writes all of
/// `out` before it reads any, unless the pass of this thread is stopped.
///
/// # Panics
/// When the lengths do not fit `m`, `n` and the depth, or the depth is 0.
pub(crate) fn gemm<W: Right, R: Rows, E: Epilogue>(
    isa: Isa,
    (m, n): (usize, usize),
    (rows, prepare): (&R, Prepare<'_>),
    weights: W,
    epilogue: &E,
    out: Shared<'_, f32>,
) {
    let depth = rows.depth();
    assert!(depth > 0, "there is nothing to sum");
    assert_eq!(out.len(), m * n, "out is [{m}, {n}]");
    assert!(
        weights.fits(isa.lanes(), n, depth),
        "weights are [{n}, {depth}]"
    );
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
    if (1..=FEW).contains(&m)
        && let Some(weights) = weights.in_rows()
    {
        return few(isa, m, &operands, weights);
    }
    let blocks = BLOCKS * W::Arithmetic::BLOCK;
    for first in (0..m).step_by(ROWS) {
        for k in (0..depth).step_by(blocks) {
            if stop::is_stopped() {
                return;
            }
            let product = Product {
                operands: &operands,
                first,
                len: ROWS.min(m - first),
                depth: k..(k + blocks).min(depth),
            };
            product.run(isa);
        }
    }
}

/// What is multiplied, and where the product goes. Its lengths were checked.
struct Operands<'a, W, R, E> {
    rows: &'a R,
    prepare: Prepare<'a>,
    weights: W,
    epilogue: &'a E,
    out: Shared<'a, f32>,
    /// Columns.
    n: usize,
}

/// One lot of rows and elements of k of a product.
struct Product<'a, W, R, E> {
    operands: &'a Operands<'a, W, R, E>,
    /// The first of the rows.
    first: usize,
    /// How many rows.
    len: usize,
    /// Where k begins and ends.
    depth: Range<usize>,
}

impl<W: Right, R: Rows, E: Epilogue> Product<'_, W, R, E> {
    fn run(&self, isa: Isa) {
        let lanes = isa.lanes();
        let tile = tile_rows(lanes);
        let panels = self.len.div_ceil(tile);
        let blocks = self.blocks().count();
        let panel_len = <W::Arithmetic as Arithmetic>::panel(tile);
        scratch::with(panels * blocks * panel_len, |packed| {
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
            let Operands { n, weights, .. } = *self.operands;
            let right = weights.scratch_len(NC, self.depth.len());
            let groups = self.groups(tile);
            let group = panels.div_ceil(groups);
            let tasks = groups * n.div_ceil(NC);
            (0..tasks).into_par_iter().with_max_len(1).for_each(|task| {
                let (i, j) = (task % groups, task / groups);
                scratch::with(SUMS + right, |scratch| {
                    let (sums, right) = scratch.split_at_mut(SUMS);
                    isa.run(Task {
                        product: self,
                        packed,
                        panels,
                        rows: (i * group).min(panels)..((i + 1) * group).min(panels),
                        place: Place {
                            columns: j * NC..((j + 1) * NC).min(n),
                            depth: self.depth.clone(),
                            total: self.operands.rows.depth(),
                        },
                        right,
                        sums,
                    });
                });
            });
        });
    }

    /// The blocks of k, in the order in which they are summed.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
        let size = <W::Arithmetic as Arithmetic>::BLOCK;
        let end = self.depth.end;
        let starts = self.depth.clone().step_by(size);
        starts.map(move |k| k..(k + size).min(end))
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
