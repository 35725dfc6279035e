//! The product of matrices behind linear layers and convolutions: y = f(g(x) wᵀ).
//!
//! The left side is packed once, by all threads, into panels of as many rows as the register tile has; g, a
//! normalisation or a ReLU, happens on the way. Then every task takes some columns: it packs a block of w, which may be
//! halves in a mapped file, and multiplies it with all panels while it lies in the cache. f, the epilogue, is applied to
//! each tile on its way to memory. The sum over k runs in blocks of [`KC`] in rising order, whatever the task split: the
//! numbers do not depend on the number of threads. A left side of a few rows is not worth packing w for: see [`few`].

use std::marker::PhantomData;

use half::{bf16, f16};
use rayon::prelude::*;

use super::{Isa, Kernel, Shared, Vector, arithmetic::Arithmetic, pack, scratch};

/// Numbers of k that are multiplied before the tile goes back to memory: two panels of this depth fit the first-level
/// cache.
pub(crate) const KC: usize = 256;

/// Rows of the left side that are packed at once; each lot of rows packs the right side again.
const ROWS: usize = 1536;

/// How deep rows are packed at once: with [`ROWS`] 6 MiB, what a core can count on in the third-level cache.
const DEPTH: usize = 1024;

/// Rows of a block that stays in the second-level cache while the columns of a task pass by.
const MC: usize = 192;

/// Columns of a task: as many as leave tasks enough to keep every thread busy to the end.
const NC: usize = 64;

/// Registers a tile is wide.
pub(crate) const WIDE: usize = 2;

/// Rows of the register tile: with two registers a row and two for the right side, what the instruction set has.
pub(crate) const fn tile_rows(lanes: usize) -> usize {
    if lanes == 16 { 12 } else { 6 }
}

/// Columns of the register tile.
pub(crate) const fn tile_columns(lanes: usize) -> usize {
    WIDE * lanes
}

/// The left side.
pub(crate) trait Rows: Sync {
    /// Numbers in a row.
    fn depth(&self) -> usize;

    /// How many numbers from `k` lie side by side in every row, at most [`KC`]; blocks of k end there.
    fn run(&self, k: usize) -> usize {
        KC.min(self.depth() - k)
    }

    /// The `len` numbers of row `row` from `k`, where `len` is [`Rows::run`] of `k`.
    fn slice(&self, row: usize, k: usize, len: usize) -> &[f32];
}

/// A row-major matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    /// [rows, depth]
    pub(crate) data: &'a [f32],
    /// Numbers in a row.
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

/// The right side, row-major [n, k], in the type in which it is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Weights<'a> {
    /// Read as they are.
    F32(&'a [f32]),
    /// Exact in f32.
    F16(&'a [f16]),
    /// Exact in f32.
    Bf16(&'a [bf16]),
}

impl Weights<'_> {
    fn len(&self) -> usize {
        match self {
            Self::F32(w) => w.len(),
            Self::F16(w) => w.len(),
            Self::Bf16(w) => w.len(),
        }
    }
}

/// What happens to each number of the product before it is written.
pub(crate) trait Epilogue: Sync {
    /// The result for `x`, the first `n` lanes of which stand for row `row` from column `column`.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`; row and columns must lie inside the product.
    unsafe fn apply<V: Vector>(&self, x: V, row: usize, column: usize, n: usize) -> V;
}

/// The product as it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity;

impl Epilogue for Identity {
    #[inline(always)]
    unsafe fn apply<V: Vector>(&self, x: V, _: usize, _: usize, _: usize) -> V {
        x
    }
}

/// The `n` numbers of `data` from `at`, for epilogues.
///
/// # Safety
/// The processor must have the instruction set of `V`; the numbers must be there.
#[inline(always)]
pub(crate) unsafe fn load<V: Vector>(data: &[f32], at: usize, n: usize) -> V {
    debug_assert!(at + n <= data.len());
    // SAFETY: asked of the caller.
    unsafe {
        let p = data.as_ptr().add(at);
        if n == V::LANES {
            V::load(p)
        } else {
            V::load_first(p, n)
        }
    }
}

/// out [m, n] = epilogue(prepare(rows) weightsᵀ), by all threads of the pool. Writes all of `out` before it reads any.
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
    if (1..=FEW).contains(&m) {
        return few::<R, E>(isa, (m, n), (rows, prepare), weights, epilogue, out);
    }
    for start in (0..m).step_by(ROWS) {
        let mut end = 0;
        while end < depth {
            let begin = end;
            while end < depth && end - begin < DEPTH {
                end += rows.run(end);
            }
            let product = Product::<A, R, E> {
                arithmetic: PhantomData,
                rows,
                prepare,
                weights,
                epilogue,
                out,
                n,
                first: start,
                len: ROWS.min(m - start),
                depth: begin..end,
            };
            product.run(isa);
        }
    }
}

/// Rows of the left side up to which nothing is packed.
const FEW: usize = 4;

/// Columns of a task for few rows.
const FEW_COLUMNS: usize = 64;

/// The product for at most [`FEW`] rows, always in f32: as long as it takes to fetch the right side once.
fn few<R: Rows, E: Epilogue>(
    isa: Isa,
    (m, n): (usize, usize),
    (rows, prepare): (&R, Prepare<'_>),
    weights: Weights<'_>,
    epilogue: &E,
    out: Shared<'_, f32>,
) {
    let depth = rows.depth();
    scratch::with(m * depth, |left| {
        isa.run(PrepareFew {
            rows,
            prepare,
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
                    weights,
                    columns: first..(first + FEW_COLUMNS).min(n),
                    n,
                    epilogue,
                    out,
                });
            });
    });
}

/// Prepares few rows, which stay as they lie: `[m, depth]`.
struct PrepareFew<'a, R> {
    rows: &'a R,
    prepare: Prepare<'a>,
    out: &'a mut [f32],
}

impl<R: Rows> Kernel for PrepareFew<'_, R> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let depth = self.rows.depth();
        for (row, out) in self.out.chunks_mut(depth).enumerate() {
            let mut k = 0;
            while k < depth {
                let block = self.rows.run(k);
                let from = self.rows.slice(row, k, block);
                let to = &mut out[k..k + block];
                match self.prepare {
                    Prepare::Plain => to.copy_from_slice(from),
                    Prepare::Relu => {
                        for (y, x) in to.iter_mut().zip(from) {
                            *y = x.max(0.0);
                        }
                    }
                    Prepare::Norm {
                        moments,
                        weight,
                        bias,
                    } => {
                        let (mean, rstd) = moments[row];
                        let affine = weight[k..].iter().zip(&bias[k..]);
                        for ((y, x), (w, b)) in to.iter_mut().zip(from).zip(affine) {
                            *y = ((x - mean) * rstd).mul_add(*w, *b);
                        }
                    }
                }
                k += block;
            }
        }
    }
}

/// Some columns of few rows.
struct Few<'a, E> {
    /// [m, depth], prepared.
    left: &'a [f32],
    depth: usize,
    weights: Weights<'a>,
    columns: std::ops::Range<usize>,
    /// Columns in all.
    n: usize,
    epilogue: &'a E,
    out: Shared<'a, f32>,
}

impl<E: Epilogue> Kernel for Few<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: passed on.
        unsafe {
            match self.weights {
                Weights::F32(w) => self.of_type::<V, f32>(w),
                Weights::F16(w) => self.of_type::<V, f16>(w),
                Weights::Bf16(w) => self.of_type::<V, bf16>(w),
            }
        }
    }
}

impl<E: Epilogue> Few<'_, E> {
    #[inline(always)]
    unsafe fn of_type<V: Vector, T: Number>(&self, weights: &[T]) {
        // SAFETY: passed on; there are as many rows as asked for.
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
    unsafe fn rows<V: Vector, T: Number, const M: usize>(&self, weights: &[T]) {
        for first in self.columns.clone().step_by(V::LANES) {
            let count = V::LANES.min(self.columns.end - first);
            let mut sums = [[0.0; MOST_LANES]; M];
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
                    let y = self.epilogue.apply(x, row, first, count);
                    y.store_first(self.out.at(row * self.n + first), count);
                }
            }
        }
    }

    /// The sums of one column for all rows, each by turns in `CHAINS` registers.
    #[inline(always)]
    unsafe fn dot<V: Vector, T: Number, const M: usize>(&self, w: &[T]) -> [f32; M] {
        /// Additions wait for each other; this many do not.
        const CHAINS: usize = 4;
        let depth = self.depth;
        // SAFETY: asked of the caller.
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

/// Numbers in the widest register.
const MOST_LANES: usize = 16;

/// One lot of rows and numbers of k of a product.
struct Product<'a, A, R, E> {
    arithmetic: PhantomData<A>,
    rows: &'a R,
    prepare: Prepare<'a>,
    weights: Weights<'a>,
    epilogue: &'a E,
    out: Shared<'a, f32>,
    /// Columns.
    n: usize,
    first: usize,
    len: usize,
    /// Where k begins and ends.
    depth: std::ops::Range<usize>,
}

impl<A: Arithmetic, R: Rows, E: Epilogue> Product<'_, A, R, E> {
    fn run(&self, isa: Isa) {
        let lanes = isa.lanes();
        let tile = tile_rows(lanes);
        let panels = self.len.div_ceil(tile);
        scratch::with(panels * tile * self.depth.len(), |packed| {
            let place = Shared::new(packed);
            (0..panels)
                .into_par_iter()
                .with_min_len(4)
                .for_each(|panel| {
                    isa.run(PackLeft {
                        product: self,
                        packed: place,
                        panels,
                        panel,
                    });
                });
            let packed: &[f32] = packed;
            let (groups, columns) = self.split(tile);
            let tasks = groups * self.n.div_ceil(columns);
            (0..tasks).into_par_iter().with_max_len(1).for_each(|task| {
                let group = panels.div_ceil(groups);
                let (i, j) = (task % groups, task / groups);
                scratch::with(NC * KC, |right| {
                    isa.run(Task {
                        product: self,
                        packed,
                        panels,
                        rows: (i * group).min(panels)..((i + 1) * group).min(panels),
                        columns: j * columns..((j + 1) * columns).min(self.n),
                        right,
                    });
                });
            });
        });
    }

    /// Groups of rows and columns of a task: enough tasks to keep every thread busy to the end, and no more, since each
    /// group of rows packs the right side again.
    fn split(&self, tile: usize) -> (usize, usize) {
        let wanted = 4 * rayon::current_num_threads();
        let tasks = self.n.div_ceil(NC);
        let groups = wanted
            .div_ceil(tasks)
            .min(self.len.div_ceil(4 * tile))
            .max(1);
        (groups, NC)
    }
}

/// Packs one panel of rows, all of its depth. Packed: for each block of k all panels, each [block, tile rows].
struct PackLeft<'a, A, R, E> {
    product: &'a Product<'a, A, R, E>,
    packed: Shared<'a, f32>,
    panels: usize,
    panel: usize,
}

impl<A: Arithmetic, R: Rows, E: Epilogue> Kernel for PackLeft<'_, A, R, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: passed on.
        unsafe {
            if V::LANES == 16 {
                self.pack::<V, { tile_rows(16) }>();
            } else {
                self.pack::<V, { tile_rows(8) }>();
            }
        }
    }
}

impl<A: Arithmetic, R: Rows, E: Epilogue> PackLeft<'_, A, R, E> {
    #[inline(always)]
    unsafe fn pack<V: Vector, const W: usize>(self) {
        let Product {
            rows,
            prepare,
            first,
            len,
            ref depth,
            ..
        } = *self.product;
        let start = self.panel * W;
        let count = W.min(len - start);
        let row = first + start;
        let mut k = depth.start;
        while k < depth.end {
            let block = rows.run(k);
            let mut starts = [std::ptr::null(); W];
            for (i, p) in starts.iter_mut().enumerate().take(count) {
                *p = rows.slice(row + i, k, block).as_ptr();
            }
            let at = (k - depth.start) * self.panels * W + self.panel * block * W;
            // SAFETY: every start has `block` numbers; each panel has places of its own in `packed`; moments, weight and
            // bias were measured when the product began.
            unsafe {
                let out = self.packed.slice(at, block * W).as_mut_ptr();
                let left = Left { starts, count };
                match prepare {
                    Prepare::Plain => A::pack::<V, W>(&left, block, out),
                    Prepare::Relu => A::pack::<V, W>(&Relu(left), block, out),
                    Prepare::Norm {
                        moments,
                        weight,
                        bias,
                    } => {
                        let norm = Norm {
                            left,
                            moments: &moments[row..row + count],
                            weight: &weight[k..k + block],
                            bias: &bias[k..k + block],
                        };
                        A::pack::<V, W>(&norm, block, out);
                    }
                }
            }
            k += block;
        }
    }
}

/// `count` rows of the left side; rows behind them are zeros.
struct Left<const W: usize> {
    starts: [*const f32; W],
    count: usize,
}

impl<V: Vector, const W: usize> pack::Source<V> for Left<W> {
    #[inline(always)]
    unsafe fn load(&self, row: usize, k: usize, n: usize) -> V::Eight {
        // SAFETY: asked of the caller.
        unsafe {
            match self.starts.get(row) {
                Some(start) if row < self.count && n == 8 => V::Eight::load(start.add(k)),
                Some(start) if row < self.count => V::Eight::load_first(start.add(k), n),
                _ => V::Eight::zero(),
            }
        }
    }
}

/// max(x, 0)
struct Relu<const W: usize>(Left<W>);

impl<V: Vector, const W: usize> pack::Source<V> for Relu<W> {
    #[inline(always)]
    unsafe fn load(&self, row: usize, k: usize, n: usize) -> V::Eight {
        // SAFETY: asked of the caller.
        unsafe { V::Eight::zero().max(pack::Source::<V>::load(&self.0, row, k, n)) }
    }
}

/// Normalised rows.
struct Norm<'a, const W: usize> {
    left: Left<W>,
    moments: &'a [(f32, f32)],
    weight: &'a [f32],
    bias: &'a [f32],
}

impl<V: Vector, const W: usize> pack::Source<V> for Norm<'_, W> {
    #[inline(always)]
    unsafe fn load(&self, row: usize, k: usize, n: usize) -> V::Eight {
        // SAFETY: asked of the caller.
        unsafe {
            let Some((mean, rstd)) = self.moments.get(row) else {
                return V::Eight::zero();
            };
            let x: V::Eight = pack::Source::<V>::load(&self.left, row, k, n);
            let weight = load::<V::Eight>(self.weight, k, n);
            let bias = load::<V::Eight>(self.bias, k, n);
            ((x - V::Eight::splat(*mean)) * V::Eight::splat(*rstd)).mul_add(weight, bias)
        }
    }
}

/// Some columns of some panels.
struct Task<'a, A, R, E> {
    product: &'a Product<'a, A, R, E>,
    packed: &'a [f32],
    panels: usize,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    /// Room for the columns at a depth of [`KC`].
    right: &'a mut [f32],
}

impl<A: Arithmetic, R: Rows, E: Epilogue> Kernel for Task<'_, A, R, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: passed on.
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
            let block = self.product.rows.run(k);
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
        let depth = self.product.rows.depth();
        for (j, column) in self.columns.clone().step_by(NR).enumerate() {
            let count = NR.min(self.columns.end - column);
            let at = column * depth + k;
            let out = self.right[j * block * NR..][..block * NR].as_mut_ptr();
            // SAFETY: `count` rows of `depth` numbers begin at `column * depth`: the weights' length was checked.
            unsafe {
                match self.product.weights {
                    Weights::F32(w) => {
                        let right = Right {
                            start: w.as_ptr().add(at),
                            depth,
                            count,
                        };
                        A::pack::<V, NR>(&right, block, out);
                    }
                    Weights::F16(w) => {
                        let right = Right {
                            start: w.as_ptr().add(at),
                            depth,
                            count,
                        };
                        A::pack::<V, NR>(&right, block, out);
                    }
                    Weights::Bf16(w) => {
                        let right = Right {
                            start: w.as_ptr().add(at),
                            depth,
                            count,
                        };
                        A::pack::<V, NR>(&right, block, out);
                    }
                }
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
            rows,
            epilogue,
            out,
            n,
            first,
            len,
            depth,
            ..
        } = self.product;
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
                    let place = out.at((row + i) * n + column);
                    if lanes == V::LANES {
                        let sum = if k == 0 { sum } else { sum + V::load(place) };
                        let y = if last {
                            epilogue.apply(sum, row + i, column, lanes)
                        } else {
                            sum
                        };
                        y.store(place);
                    } else {
                        let sum = if k == 0 {
                            sum
                        } else {
                            sum + V::load_first(place, lanes)
                        };
                        let y = if last {
                            epilogue.apply(sum, row + i, column, lanes)
                        } else {
                            sum
                        };
                        y.store_first(place, lanes);
                    }
                }
            }
        }
    }
}

/// `count` rows of the right side, `depth` numbers apart; rows behind them are zeros.
struct Right<T> {
    start: *const T,
    depth: usize,
    count: usize,
}

/// A type in which weights are kept.
trait Number: Copy {
    /// Eight numbers.
    ///
    /// # Safety
    /// The processor must have the instruction set; the numbers must be readable.
    unsafe fn load<V: Vector>(p: *const Self) -> V;

    fn to_f32(self) -> f32;
}

macro_rules! number {
    ($($number:ty, $load:ident, |$x:ident| $to_f32:expr;)*) => {$(
        impl Number for $number {
            #[inline(always)]
            unsafe fn load<V: Vector>(p: *const Self) -> V {
                // SAFETY: asked of the caller.
                unsafe { V::$load(p) }
            }

            #[inline(always)]
            fn to_f32(self) -> f32 {
                let $x = self;
                $to_f32
            }
        }
    )*};
}

number! {
    f32, load, |x| x;
    f16, load_f16, |x| x.to_f32();
    bf16, load_bf16, |x| x.to_f32();
}

impl<V: Vector, T: Number> pack::Source<V> for Right<T> {
    #[inline(always)]
    unsafe fn load(&self, row: usize, k: usize, n: usize) -> V::Eight {
        // SAFETY: asked of the caller.
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

/// The sums of one tile: left, MR rows, times right [depth, 2 registers]. `steps` are those from one row of the left side
/// to the next and from one k to the next: (1, MR) for a packed panel.
///
/// # Safety
/// The processor must have the instruction set of `V`; both sides must be `depth` deep.
#[inline(always)]
pub(crate) unsafe fn micro_kernel<V: Vector, const MR: usize>(
    depth: usize,
    mut left: *const f32,
    (row_step, k_step): (usize, usize),
    mut right: *const f32,
) -> [[V; WIDE]; MR] {
    // SAFETY: asked of the caller.
    unsafe {
        let mut sums = [[V::zero(); WIDE]; MR];
        for _ in 0..depth {
            let columns = [V::load(right), V::load(right.add(V::LANES))];
            for (i, sums) in sums.iter_mut().enumerate() {
                let row = V::splat(*left.add(i * row_step));
                sums[0] = row.mul_add(columns[0], sums[0]);
                sums[1] = row.mul_add(columns[1], sums[1]);
            }
            left = left.add(k_step);
            right = right.add(WIDE * V::LANES);
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cpu::arithmetic::{Exact, Int16};

    /// Numbers between -1 and 1, the same for the same seed.
    fn random(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    /// The definition.
    fn plain(x: &[f64], w: &[f32], (m, n, k): (usize, usize, usize)) -> Vec<f64> {
        let dot = |i: usize, j: usize| (0..k).map(|l| x[i * k + l] * f64::from(w[j * k + l])).sum();
        (0..m)
            .flat_map(|i| (0..n).map(move |j| dot(i, j)))
            .collect()
    }

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|x| f64::from(*x)).collect()
    }

    /// Sizes around every edge: tiles of 6 and 12 rows, 16 and 32 columns, blocks of 192 rows, 128 columns and 256 deep.
    const SIZES: [(usize, usize, usize); 15] = [
        (0, 3, 4),
        (1, 1, 1),
        (1, 40, 300),
        (3, 5, 7),
        (6, 16, 8),
        (12, 32, 256),
        (13, 33, 257),
        (25, 129, 513),
        (193, 17, 31),
        (200, 130, 64),
        (1540, 3, 9),
        (7, 300, 12),
        (2, 70, 129),
        (4, 65, 1100),
        (20, 9, 1300),
    ];

    /// Of sums of k products of numbers below 1.
    fn tolerance(k: usize) -> f64 {
        1e-7 * (k as f64 + 10.0)
    }

    #[test]
    fn the_product_is_the_plain_one() {
        for isa in Isa::all() {
            for (m, n, k) in SIZES {
                let (x, w) = (random(m * k, 1), random(n * k, 2));
                let halves: Vec<f16> = w.iter().map(|x| f16::from_f32(*x)).collect();
                let brains: Vec<bf16> = w.iter().map(|x| bf16::from_f32(*x)).collect();
                let from_halves: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
                let from_brains: Vec<f32> = brains.iter().map(|x| x.to_f32()).collect();
                let left = Matrix { data: &x, depth: k };
                for (weights, w) in [
                    (Weights::F32(&w), &w),
                    (Weights::F16(&halves), &from_halves),
                    (Weights::Bf16(&brains), &from_brains),
                ] {
                    let mut y = vec![f32::NAN; m * n];
                    gemm::<Exact, _, _>(
                        isa,
                        (m, n),
                        (&left, Prepare::Plain),
                        weights,
                        &Identity,
                        Shared::new(&mut y),
                    );
                    for (y, exact) in y.iter().zip(plain(&wide(&x), w, (m, n, k))) {
                        let error = (f64::from(*y) - exact).abs();
                        assert!(
                            error < tolerance(k),
                            "{} {m} {n} {k}: {y} {exact}",
                            isa.name()
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_left_side_is_prepared_on_the_way() {
        for isa in Isa::all() {
            for (m, n, k) in SIZES {
                let (x, w) = (random(m * k, 3), random(n * k, 4));
                let (weight, bias) = (random(k, 5), random(k, 6));
                let moments: Vec<(f32, f32)> =
                    random(m, 7).into_iter().map(|x| (x, 1.5 + x)).collect();
                let norm = Prepare::Norm {
                    moments: &moments,
                    weight: &weight,
                    bias: &bias,
                };
                let relu: Vec<f64> = x.iter().map(|x| f64::from(x.max(0.0))).collect();
                let normed: Vec<f64> = (0..m * k)
                    .map(|i| {
                        let (mean, rstd) = moments[i / k];
                        let x = (f64::from(x[i]) - f64::from(mean)) * f64::from(rstd);
                        x * f64::from(weight[i % k]) + f64::from(bias[i % k])
                    })
                    .collect();
                let left = Matrix { data: &x, depth: k };
                for (prepare, x) in [(Prepare::Relu, &relu), (norm, &normed)] {
                    let mut y = vec![f32::NAN; m * n];
                    gemm::<Exact, _, _>(
                        isa,
                        (m, n),
                        (&left, prepare),
                        Weights::F32(&w),
                        &Identity,
                        Shared::new(&mut y),
                    );
                    for (y, exact) in y.iter().zip(plain(x, &w, (m, n, k))) {
                        let error = (f64::from(*y) - exact).abs();
                        assert!(
                            error < 10.0 * tolerance(k),
                            "{} {m} {n} {k}: {y} {exact}",
                            isa.name()
                        );
                    }
                }
            }
        }
    }

    /// Adds 1000 row + column.
    struct Place;

    impl Epilogue for Place {
        #[inline(always)]
        unsafe fn apply<V: Vector>(&self, x: V, row: usize, column: usize, n: usize) -> V {
            let places: Vec<f32> = (0..n).map(|i| (1000 * row + column + i) as f32).collect();
            // SAFETY: there are n of them.
            x + unsafe { load::<V>(&places, 0, n) }
        }
    }

    #[test]
    fn the_epilogue_sees_every_place_once() {
        for isa in Isa::all() {
            for (m, n, k) in SIZES {
                let x = vec![0.0; m * k];
                let left = Matrix { data: &x, depth: k };
                let mut y = vec![f32::NAN; m * n];
                let w = random(n * k, 1);
                gemm::<Exact, _, _>(
                    isa,
                    (m, n),
                    (&left, Prepare::Plain),
                    Weights::F32(&w),
                    &Place,
                    Shared::new(&mut y),
                );
                let places = (0..m * n).map(|i| (1000 * (i / n) + i % n) as f32);
                assert!(y.into_iter().eq(places), "{} {m} {n} {k}", isa.name());
            }
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let (m, n, k) = (701, 390, 530);
        let (x, w) = (random(m * k, 8), random(n * k, 9));
        let left = Matrix { data: &x, depth: k };
        for isa in Isa::all() {
            let results = [1, 2, 5].map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                let mut y = vec![0.0; m * n];
                let right = Weights::F32(&w);
                pool.install(|| {
                    gemm::<Exact, _, _>(
                        isa,
                        (m, n),
                        (&left, Prepare::Plain),
                        right,
                        &Identity,
                        Shared::new(&mut y),
                    )
                });
                y
            });
            assert!(results[0] == results[1] && results[0] == results[2]);
        }
    }

    /// Depths that whole numbers are multiplied at, in one block and in several.
    const FAST: [(usize, usize, usize); 5] = [
        (1, 1, 16),
        (13, 33, 32),
        (25, 129, 512),
        (193, 17, 1024),
        (200, 130, 272),
    ];

    #[test]
    fn whole_numbers_lose_what_their_digits_say() {
        for isa in Isa::all() {
            for (m, n, k) in FAST {
                let (x, w) = (random(m * k, 11), random(n * k, 12));
                let left = Matrix { data: &x, depth: k };
                let mut y = vec![f32::NAN; m * n];
                let right = Weights::F32(&w);
                gemm::<Int16, _, _>(
                    isa,
                    (m, n),
                    (&left, Prepare::Plain),
                    right,
                    &Identity,
                    Shared::new(&mut y),
                );
                // Each factor is off by at most half of 1 / 2896, evenly spread: two errors of 1e-4 rms against factors of
                // 0.58 rms, added up over k at random.
                let exact = plain(&wide(&x), &w, (m, n, k));
                let rms = (y.iter().zip(&exact))
                    .map(|(y, exact)| (f64::from(*y) - exact).powi(2))
                    .sum::<f64>();
                let rms = (rms / (m * n) as f64).sqrt();
                let expected = (2.0 * k as f64).sqrt() * 0.58 / 2896.0 / 12f64.sqrt();
                // One number alone may be three times off.
                let limit = if m * n == 1 { 3.0 } else { 1.2 };
                assert!(
                    rms < limit * expected,
                    "{} {m} {n} {k}: {rms:e} {expected:e}",
                    isa.name()
                );
            }
        }
    }

    #[test]
    fn zeros_and_extremes_stay_what_they_are() {
        let k = 256;
        let x: Vec<f32> = [0.0f32, 1e30, -1.0, 1e-30]
            .iter()
            .flat_map(|x| vec![*x; k])
            .collect();
        let left = Matrix { data: &x, depth: k };
        let w = vec![1.0; k];
        for isa in Isa::all() {
            let mut y = [f32::NAN; 4];
            let right = Weights::F32(&w);
            gemm::<Int16, _, _>(
                isa,
                (4, 1),
                (&left, Prepare::Plain),
                right,
                &Identity,
                Shared::new(&mut y),
            );
            for (y, x) in y.into_iter().zip([0.0, 1e30, -1.0, 1e-30]) {
                assert!(
                    (y - 256.0 * x).abs() <= 1e-3 * (256.0 * x).abs(),
                    "{}: {y}",
                    isa.name()
                );
            }
        }
    }
}
