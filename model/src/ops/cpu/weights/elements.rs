//! Weights as they are kept: each task packs the columns it multiplies.

use std::ops::Range;

use half::{bf16, f16};

use super::{
    super::{
        Vector,
        arithmetic::{Exact, LINE},
        pack,
        tile::gemm::tile_columns,
    },
    Place, Right,
};

/// Weights, row-major [n, k], in the type in which they are kept.
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
    /// How many elements there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::F32(w) => w.len(),
            Self::F16(w) => w.len(),
            Self::Bf16(w) => w.len(),
        }
    }
}

// Packed: for each block of k, panels of columns [block, columns of the tile].
impl Right for Weights<'_> {
    type Arithmetic = Exact;

    fn in_rows(&self) -> Option<Weights<'_>> {
        Some(*self)
    }

    fn fits(&self, _: usize, n: usize, depth: usize) -> bool {
        self.len() == n * depth
    }

    fn scratch_len(&self, columns: usize, depth: usize) -> usize {
        columns * depth
    }

    #[inline(always)]
    unsafe fn prepare<V: Vector>(self, place: &Place, scratch: &mut [f32]) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Weights::F32(w) => pack_columns::<V, f32>(w, place, scratch),
                Weights::F16(w) => pack_columns::<V, f16>(w, place, scratch),
                Weights::Bf16(w) => pack_columns::<V, bf16>(w, place, scratch),
            }
        }
    }

    #[inline(always)]
    unsafe fn block<V: Vector>(
        self,
        place: &Place,
        scratch: &[f32],
        column: usize,
        k: Range<usize>,
    ) -> *const f32 {
        scratch[place.at::<V>(column, &k)..].as_ptr()
    }
}

impl Place {
    /// Where a panel of columns begins in the scratch memory.
    #[inline(always)]
    fn at<V: Vector>(&self, column: usize, k: &Range<usize>) -> usize {
        let columns = self.columns.len().next_multiple_of(tile_columns(V::LANES));
        (k.start - self.depth.start) * columns + (column - self.columns.start) * k.len()
    }
}

/// # Safety
/// The processor must have the instruction set of `V`; the place must lie inside the weights.
#[inline(always)]
unsafe fn pack_columns<V: Vector, T: Element>(weights: &[T], place: &Place, scratch: &mut [f32]) {
    // SAFETY: the caller's promise; a register has 16 elements or 8.
    unsafe {
        if V::LANES == 16 {
            pack_wide::<V, T, { tile_columns(16) }>(weights, place, scratch);
        } else {
            pack_wide::<V, T, { tile_columns(8) }>(weights, place, scratch);
        }
    }
}

/// # Safety
/// As [`pack_columns`].
#[inline(always)]
unsafe fn pack_wide<V: Vector, T: Element, const NR: usize>(
    weights: &[T],
    place: &Place,
    scratch: &mut [f32],
) {
    let total = place.total;
    for k in place.depth.clone().step_by(LINE) {
        let block = k..(k + LINE).min(place.depth.end);
        for column in place.columns.clone().step_by(NR) {
            let count = NR.min(place.columns.end - column);
            let at = place.at::<V>(column, &block);
            let out = scratch[at..at + block.len() * NR].as_mut_ptr();
            // SAFETY: `count` rows of `total` elements begin at `column * total`.
            unsafe {
                let rows = Rows {
                    start: weights.as_ptr().add(column * total + k),
                    total,
                    count,
                };
                pack::side_by_side::<V, NR>(&rows, block.len(), out);
            }
        }
    }
}

/// `count` rows of weights, `total` elements apart; rows behind them are zeros.
struct Rows<T> {
    start: *const T,
    total: usize,
    count: usize,
}

impl<V: Vector, T: Element> pack::Source<V> for Rows<T> {
    #[inline(always)]
    unsafe fn load(&self, row: usize, k: usize, n: usize) -> V::Eight {
        // SAFETY: the caller's promise.
        unsafe {
            if row >= self.count {
                return V::Eight::zero();
            }
            let p = self.start.add(row * self.total + k);
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

/// A type in which weights are kept.
pub(crate) trait Element: Copy {
    /// Eight elements.
    ///
    /// # Safety
    /// The processor must have the instruction set; the elements must be readable.
    unsafe fn load<V: Vector>(p: *const Self) -> V;

    /// Returns the same value.
    fn to_f32(self) -> f32;
}

macro_rules! element {
    ($($element:ty, $load:ident, |$x:ident| $to_f32:expr;)*) => {$(
        impl Element for $element {
            #[inline(always)]
            unsafe fn load<V: Vector>(p: *const Self) -> V {
                // SAFETY: the caller's promise.
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

element! {
    f32, load, |x| x;
    f16, load_f16, |x| x.to_f32();
    bf16, load_bf16, |x| x.to_f32();
}
