//! Weights in 16-bit integers, made once, in the order in which the tiles read them.

use std::ops::Range;

use candle_core::Result;
use half::{bf16, f16};
use rayon::prelude::*;

use super::{
    super::{
        Isa, Kernel, Shared, Vector,
        arithmetic::{Arithmetic, Int16, quantize},
        collect_into_uninit, pack,
        tile::gemm::tile_columns,
    },
    Element, Place, Right, Weights,
};

/// Weights [n, depth] in 16-bit integers, for one instruction set.
///
/// For each panel of columns and each block of k pairs of integers [block / 2, columns], then the scales `[columns]`; columns
/// behind the last are zeros.
#[derive(Debug)]
pub(crate) struct Quantized {
    lines: Vec<Line>,
    n: usize,
    depth: usize,
    lanes: usize,
}

/// A line of the cache, so that no register is read from two of them.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code, reason = "read through pointers")] [f32; LINE]);

/// Elements of a line of the cache.
const LINE: usize = 16;

/// Columns at whose multiples a panel begins, whatever the instruction set.
pub(crate) const ANY_TILE: usize = tile_columns(16);

impl Quantized {
    /// Makes them of `weights`, by all threads of the pool.
    ///
    /// # Errors
    /// When the pass of this thread is stopped.
    ///
    /// # Panics
    /// When there are not `n` times `depth` weights, or [`Int16`] does not take the depth.
    pub(crate) fn new(isa: Isa, weights: Weights<'_>, (n, depth): (usize, usize)) -> Result<Self> {
        assert_eq!(weights.len(), n * depth, "weights are [{n}, {depth}]");
        assert!(Int16::takes(depth), "integers take no depth of {depth}");
        let lanes = isa.lanes();
        let wide = tile_columns(lanes);
        let panels = n.div_ceil(wide);
        let panel_lines = panel_len(wide, depth) / LINE;
        // SAFETY: every panel is written.
        let lines = unsafe {
            collect_into_uninit(panels * panel_lines, |out: Shared<'_, Line>| {
                (0..panels).into_par_iter().for_each(|panel| {
                    isa.run(QuantizePanel {
                        weights,
                        first: panel * wide,
                        size: (n, depth),
                        out: out.slice(panel * panel_lines, panel_lines),
                    });
                });
                Ok(())
            })?
        };
        Ok(Self {
            lines,
            n,
            depth,
            lanes,
        })
    }

    /// The weights of `columns` of these; the first is a multiple of every tile's columns.
    pub(crate) fn columns(&self, columns: Range<usize>) -> QuantizedColumns<'_> {
        assert!(columns.start.is_multiple_of(ANY_TILE) && columns.end <= self.n);
        QuantizedColumns {
            all: self,
            first: columns.start,
            n: columns.len(),
        }
    }
}

/// Some columns of quantized weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QuantizedColumns<'a> {
    all: &'a Quantized,
    first: usize,
    n: usize,
}

/// Elements of memory of a panel.
fn panel_len(wide: usize, depth: usize) -> usize {
    depth / 2 * wide + depth.div_ceil(Int16::BLOCK) * wide
}

impl Right for QuantizedColumns<'_> {
    type Arithmetic = Int16;

    fn fits(&self, lanes: usize, n: usize, depth: usize) -> bool {
        (self.all.lanes, self.n, self.all.depth) == (lanes, n, depth)
    }

    fn scratch_len(&self, _: usize, _: usize) -> usize {
        0
    }

    #[inline(always)]
    unsafe fn prepare<V: Vector>(self, _: &Place, _: &mut [f32]) {}

    #[inline(always)]
    unsafe fn block<V: Vector>(
        self,
        _: &Place,
        _: &[f32],
        column: usize,
        k: Range<usize>,
    ) -> *const f32 {
        let wide = tile_columns(V::LANES);
        let panel = (self.first + column) / wide;
        let at = panel * panel_len(wide, self.all.depth) + panel_len(wide, k.start);
        self.all.lines[at / LINE..].as_ptr().cast()
    }
}

/// Quantizes the columns of one panel.
struct QuantizePanel<'a> {
    /// [n, depth]
    weights: Weights<'a>,
    /// First column.
    first: usize,
    /// n and depth.
    size: (usize, usize),
    out: &'a mut [Line],
}

impl Kernel for QuantizePanel<'_> {
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

impl QuantizePanel<'_> {
    /// # Safety
    /// The processor must have the instruction set of `V`.
    #[inline(always)]
    unsafe fn of_type<V: Vector, T: Element>(self, weights: &[T]) {
        // SAFETY: the caller's promise; a register has 16 elements or 8.
        unsafe {
            if V::LANES == 16 {
                self.panel::<V, T, { tile_columns(16) }>(weights);
            } else {
                self.panel::<V, T, { tile_columns(8) }>(weights);
            }
        }
    }

    /// # Safety
    /// As [`QuantizePanel::of_type`].
    #[inline(always)]
    unsafe fn panel<V: Vector, T: Element, const NR: usize>(self, weights: &[T]) {
        let (n, depth) = self.size;
        // Integers of one block, a row of weights each, and the row they are made of.
        let mut rows = [[0.0; Int16::BLOCK / 2]; NR];
        let mut elements = [0.0; Int16::BLOCK];
        let out = self.out.as_mut_ptr().cast::<f32>();
        for k in (0..depth).step_by(Int16::BLOCK) {
            let len = Int16::BLOCK.min(depth - k);
            // SAFETY: the panel has `panel_len` elements, of which these are the block's; a row has `depth` weights.
            unsafe {
                let out = out.add(panel_len(NR, k));
                for (j, row) in rows.iter_mut().enumerate() {
                    let column = self.first + j;
                    let elements = &mut elements[..len];
                    if column < n {
                        let from = &weights[column * depth + k..][..len];
                        for i in (0..len).step_by(V::LANES) {
                            let x = T::load::<V>(from.as_ptr().add(i));
                            x.store(elements.as_mut_ptr().add(i));
                        }
                    } else {
                        elements.fill(0.0);
                    }
                    let scale = quantize::<V>(elements, row.as_mut_ptr().cast());
                    out.add(len / 2 * NR + j).write(scale);
                }
                pack::side_by_side::<V, NR>(&Pairs(&rows), len / 2, out);
            }
        }
    }
}

/// Rows of pairs of integers.
struct Pairs<'a, const NR: usize>(&'a [[f32; Int16::BLOCK / 2]; NR]);

impl<V: Vector, const NR: usize> pack::Source<V> for Pairs<'_, NR> {
    #[inline(always)]
    unsafe fn load(&self, row: usize, k: usize, _: usize) -> V::Eight {
        // The depth is a multiple of 16: there are always eight pairs.
        // SAFETY: the caller's promise.
        unsafe { V::Eight::load(self.0[row][k..k + 8].as_ptr()) }
    }
}
