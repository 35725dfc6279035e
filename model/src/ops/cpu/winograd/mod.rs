//! 3 x 3 convolutions by Winograd's minimal filtering, F(4 x 4, 3 x 3): 36 multiplications for 16 outputs instead of 144.
//!
//! A tile of 6 x 6 inputs and the kernel are transformed, multiplied position by position and transformed back to 4 x 4
//! outputs. Position by position, the sum over the channels is a product of matrices: tiles times channels, channels times
//! outputs. The transformed weights are made anew in every call, which costs little and keeps them from being held four
//! times over. Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2015.

mod transform;

use rayon::prelude::*;

use super::{
    Isa, Kernel, Shared, Vector,
    epilogue::Epilogue,
    scratch,
    simd::load,
    tile::gemm::{micro_kernel, tile_columns, tile_rows},
};
use transform::{SIDE, TILE, of_inputs, of_sums, of_weights};

/// Positions in a tile.
const POSITIONS: usize = SIDE * SIDE;

/// The largest number of tiles of a task, a multiple of both register tiles' rows. Each task reads all transformed weights once,
/// 9 MB with 256 channels, which come from the third-level cache, so that tasks should be large; their inputs and sums take 7 MB
/// then. 48 tiles take 15 % longer.
const TILES: usize = 96;

/// Elements between the rows of the transformed inputs, beyond the channels: keeps rows from sharing lines of the cache.
const GAP: usize = 16;

/// A map, and the weights that it is convolved with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operands<'a> {
    /// [height, width, c_in]
    pub(crate) x: &'a [f32],
    /// Height of the map.
    pub(crate) height: usize,
    /// Width of the map.
    pub(crate) width: usize,
    /// Channels of the map.
    pub(crate) c_in: usize,
    /// Takes max(x, 0) for x.
    pub(crate) relu: bool,
    /// [3, 3, c_in, c_out]
    pub(crate) weight: &'a [f32],
    /// Channels of the result.
    pub(crate) c_out: usize,
}

/// out [height width, c_out] = epilogue of the convolution with stride 1 and padding 1. Writes all of `out` and reads none
/// of it.
///
/// # Panics
/// When the lengths do not fit.
pub(crate) fn conv3x3<E: Epilogue>(
    isa: Isa,
    operands: Operands<'_>,
    epilogue: &E,
    out: Shared<'_, f32>,
) {
    let Operands {
        x,
        height: h,
        width: w,
        c_in: c,
        relu,
        weight,
        c_out: n,
    } = operands;
    assert_eq!(x.len(), h * w * c, "x is [{h}, {w}, {c}]");
    assert_eq!(weight.len(), 9 * c * n, "weight is [3, 3, {c}, {n}]");
    assert_eq!(out.len(), h * w * n, "out is [{h}, {w}, {n}]");
    let lanes = isa.lanes();
    let wide = tile_columns(lanes);
    let panels = n.div_ceil(wide);
    let (rows, columns) = (h.div_ceil(TILE), w.div_ceil(TILE));
    let tiles = rows * columns;
    let block = tiles_of_a_task(tiles, tile_rows(lanes));
    scratch::with(POSITIONS * panels * c * wide, |transformed| {
        let shared = Shared::new(transformed);
        (0..panels * c)
            .into_par_iter()
            .with_min_len(64)
            .for_each(|task| {
                let (panel, channel) = (task / c, task % c);
                isa.run(Weights {
                    weight,
                    size: (c, n),
                    panels,
                    panel,
                    channel,
                    out: shared,
                });
            });
        let transformed: &[f32] = transformed;
        (0..tiles.div_ceil(block))
            .into_par_iter()
            .with_max_len(1)
            .for_each(|task| {
                let stride = c.next_multiple_of(lanes) + GAP;
                let (inputs, sums) = (
                    POSITIONS * block * stride,
                    POSITIONS * panels * block * wide,
                );
                scratch::with(inputs + sums, |scratch| {
                    let (inputs, sums) = scratch.split_at_mut(inputs);
                    isa.run(Tiles {
                        x,
                        size: (h, w, c),
                        relu,
                        n,
                        transformed,
                        epilogue,
                        out,
                        columns,
                        tiles: task * block..((task + 1) * block).min(tiles),
                        block,
                        stride,
                        inputs,
                        sums,
                    });
                });
            });
    });
}

/// Tiles of a task: at most [`TILES`], a multiple of the register tile's `rows`, the work even among the threads.
fn tiles_of_a_task(tiles: usize, rows: usize) -> usize {
    let threads = rayon::current_num_threads();
    let tasks = tiles.div_ceil(TILES).next_multiple_of(threads);
    tiles.div_ceil(tasks).next_multiple_of(rows)
}

/// Transforms the weights of one channel to the outputs of one panel: G g Gᵀ. Out: [positions, panels, c, outputs].
struct Weights<'a> {
    /// [3, 3, c, n]
    weight: &'a [f32],
    size: (usize, usize),
    panels: usize,
    panel: usize,
    channel: usize,
    out: Shared<'a, f32>,
}

impl Kernel for Weights<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (c, n) = self.size;
        let wide = tile_columns(V::LANES);
        for j in (0..wide).step_by(V::LANES) {
            let first = self.panel * wide + j;
            let lanes = n.saturating_sub(first).min(V::LANES);
            // SAFETY: the lanes are outputs of this channel; every panel, channel and register has positions of its own.
            unsafe {
                let mut g = [[V::zero(); 3]; 3];
                for (y, row) in g.iter_mut().enumerate() {
                    for (x, g) in row.iter_mut().enumerate() {
                        if lanes > 0 {
                            let at = ((y * 3 + x) * c + self.channel) * n + first;
                            *g = load(self.weight, at, lanes);
                        }
                    }
                }
                // Not `map`, whose closure is compiled without the instruction set.
                let mut rows = [[V::zero(); SIDE]; 3];
                for (x, row) in rows.iter_mut().enumerate() {
                    *row = of_weights([g[0][x], g[1][x], g[2][x]]);
                }
                let [top, middle, bottom] = rows;
                let columns = top.into_iter().zip(middle).zip(bottom);
                for (y, ((top, middle), bottom)) in columns.enumerate() {
                    let line = of_weights([top, middle, bottom]);
                    for (x, u) in line.into_iter().enumerate() {
                        let panel = (y * SIDE + x) * self.panels + self.panel;
                        let at = (panel * c + self.channel) * wide + j;
                        u.store(self.out.slice(at, V::LANES).as_mut_ptr());
                    }
                }
            }
        }
    }
}

/// Some tiles, from the inputs to the outputs.
struct Tiles<'a, E> {
    /// [H, W, c]
    x: &'a [f32],
    size: (usize, usize, usize),
    relu: bool,
    /// Outputs.
    n: usize,
    /// [positions, panels, c, outputs of a panel]
    transformed: &'a [f32],
    epilogue: &'a E,
    out: Shared<'a, f32>,
    /// Tiles side by side.
    columns: usize,
    tiles: std::ops::Range<usize>,
    /// Capacity in tiles.
    block: usize,
    /// From the inputs of one tile to those of the next.
    stride: usize,
    /// [positions, block, stride]
    inputs: &'a mut [f32],
    /// [positions, panels, block, outputs of a panel]
    sums: &'a mut [f32],
}

impl<E: Epilogue> Kernel for Tiles<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(mut self) {
        let panels = self.n.div_ceil(tile_columns(V::LANES));
        // SAFETY: the caller's promise.
        unsafe {
            for tile in 0..self.tiles.len() {
                self.transform::<V>(tile);
            }
            if V::LANES == 16 {
                self.multiply::<V, { tile_rows(16) }>(panels);
            } else {
                self.multiply::<V, { tile_rows(8) }>(panels);
            }
            for tile in 0..self.tiles.len() {
                for panel in 0..panels {
                    self.finish::<V>(panels, panel, tile);
                }
            }
        }
    }
}

impl<E: Epilogue> Tiles<'_, E> {
    /// First row and column of the tile's outputs.
    #[inline(always)]
    fn corner(&self, tile: usize) -> (usize, usize) {
        let tile = self.tiles.start + tile;
        (tile / self.columns * TILE, tile % self.columns * TILE)
    }

    /// Bᵀ d B for the 6 x 6 inputs of one tile.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`.
    #[inline(always)]
    unsafe fn transform<V: Vector>(&mut self, tile: usize) {
        let (h, w, c) = self.size;
        let (top, left) = self.corner(tile);
        let mut k = 0;
        while k < c {
            let lanes = V::LANES.min(c - k);
            // SAFETY: only pixels inside the map are read; those written are this tile's, as long as a register beyond
            // the last channel.
            unsafe {
                let mut lines = [[V::zero(); SIDE]; SIDE];
                for (i, line) in lines.iter_mut().enumerate() {
                    // The padding shifts the tile by one.
                    let Some(y) = (top + i).checked_sub(1).filter(|y| *y < h) else {
                        continue;
                    };
                    let mut d = [V::zero(); SIDE];
                    for (j, d) in d.iter_mut().enumerate() {
                        let x = left + j;
                        if x > 0 && x <= w {
                            let value = load::<V>(self.x, (y * w + x - 1) * c + k, lanes);
                            *d = if self.relu {
                                V::zero().max(value)
                            } else {
                                value
                            };
                        }
                    }
                    *line = of_inputs(d);
                }
                for x in 0..SIDE {
                    let column = lines.map(|line| line[x]);
                    for (y, v) in of_inputs(column).into_iter().enumerate() {
                        let at = ((y * SIDE + x) * self.block + tile) * self.stride + k;
                        v.store(self.inputs.as_mut_ptr().add(at));
                    }
                }
            }
            k += V::LANES;
        }
    }

    /// The sums over the channels at every position. Position by position, so that its inputs, 104 KB with 256 channels, stay in
    /// the second-level cache while the weights of all panels go by, each once.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`.
    #[inline(always)]
    unsafe fn multiply<V: Vector, const MR: usize>(&mut self, panels: usize) {
        let wide = tile_columns(V::LANES);
        let c = self.size.2;
        for position in 0..POSITIONS {
            for panel in 0..panels {
                let right = &self.transformed[(position * panels + panel) * c * wide..][..c * wide];
                let next = right.as_ptr().wrapping_add(c * wide);
                for first in (0..self.tiles.len()).step_by(MR) {
                    let at = (position * self.block + first) * self.stride;
                    let left = &self.inputs[at..at + (MR - 1) * self.stride + c];
                    let at = ((position * panels + panel) * self.block + first) * wide;
                    let out = &mut self.sums[at..][..MR * wide];
                    // SAFETY: MR rows of c elements, c rows of the panel's outputs, and memory for the tile: the block is a
                    // multiple of MR.
                    unsafe {
                        let ahead = next.wrapping_add(first * c * wide / self.tiles.len());
                        let left = (left.as_ptr(), self.stride);
                        let sums = micro_kernel::<V, MR>(c, left, right.as_ptr(), ahead);
                        for (i, sums) in sums.into_iter().enumerate() {
                            for (j, sum) in sums.into_iter().enumerate() {
                                sum.store(out.as_mut_ptr().add(i * wide + j * V::LANES));
                            }
                        }
                    }
                }
            }
        }
    }

    /// Aᵀ m A: the outputs of one panel for one tile.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`.
    #[inline(always)]
    unsafe fn finish<V: Vector>(&mut self, panels: usize, panel: usize, tile: usize) {
        let (h, w, _) = self.size;
        let wide = tile_columns(V::LANES);
        let (top, left) = self.corner(tile);
        for j in (0..wide).step_by(V::LANES) {
            let column = panel * wide + j;
            let lanes = self.n.saturating_sub(column).min(V::LANES);
            if lanes == 0 {
                return;
            }
            // SAFETY: the sums of this tile are there; the outputs inside the map are this task's alone.
            unsafe {
                let sum = |y: usize, x: usize| {
                    let at = (((y * SIDE + x) * panels + panel) * self.block + tile) * wide + j;
                    V::load(self.sums.as_ptr().add(at))
                };
                let mut lines = [[V::zero(); SIDE]; TILE];
                let [a, b, e, f] = &mut lines;
                for (x, (((a, b), e), f)) in a.iter_mut().zip(b).zip(e).zip(f).enumerate() {
                    let column = [0, 1, 2, 3, 4, 5].map(|y| sum(y, x));
                    [*a, *b, *e, *f] = of_sums(column);
                }
                for (i, line) in lines.into_iter().enumerate() {
                    for (x, value) in of_sums(line).into_iter().enumerate() {
                        if top + i < h && left + x < w {
                            let row = (top + i) * w + left + x;
                            let y = self.epilogue.apply(value, row, column, lanes);
                            let to = self.out.at(row * self.n + column);
                            if lanes == V::LANES {
                                y.store(to);
                            } else {
                                y.store_first(to, lanes);
                            }
                        }
                    }
                }
            }
        }
    }
}
