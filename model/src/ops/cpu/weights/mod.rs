//! The right side of a product, and the forms in which it is kept.

mod elements;
mod quantized;

use std::ops::Range;

use super::{Vector, arithmetic::Arithmetic};

pub(crate) use elements::{Element, Weights};
pub(crate) use quantized::{ANY_TILE, Quantized, QuantizedColumns};

/// Some columns of the right side, at some elements of k.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Columns; the first is a multiple of the tile's columns.
    pub(crate) columns: Range<usize>,
    /// Elements of k; the first is a multiple of the arithmetic's block.
    pub(crate) depth: Range<usize>,
    /// All elements of k.
    pub(crate) total: usize,
}

/// The right side of a product [n, depth], from which tiles read panels of columns.
pub(crate) trait Right: Copy + Sync {
    /// How they are multiplied.
    type Arithmetic: Arithmetic;

    /// The weights where they lie, if they can be read there a row after the other.
    fn in_rows(&self) -> Option<Weights<'_>> {
        None
    }

    /// Whether these are the weights of `n` columns of `depth` elements, for registers of `lanes` elements.
    fn fits(&self, lanes: usize, n: usize, depth: usize) -> bool;

    /// Elements of scratch memory that a task needs for `columns`, a multiple of the tile's, at `depth` elements of k.
    fn scratch_len(&self, columns: usize, depth: usize) -> usize;

    /// Packs a place into scratch memory, where the weights do not lie as the tiles read them.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`; the place must lie inside the weights, and `scratch` be as long as
    /// [`Right::scratch_len`] says.
    unsafe fn prepare<V: Vector>(self, place: &Place, scratch: &mut [f32]);

    /// Returns the panel from `column`, the first of a tile's, for the block `k`, both inside the place.
    ///
    /// # Safety
    /// As [`Right::prepare`], which must have packed the place into `scratch`.
    unsafe fn block<V: Vector>(
        self,
        place: &Place,
        scratch: &[f32],
        column: usize,
        k: Range<usize>,
    ) -> *const f32;
}
