//! The matrix of a linear layer: where it lies, and on the CPU its copy in 16-bit integers.

use std::{ops::Range, sync::Arc};

use candle_core::{Result, Tensor};

use crate::{
    kept::Kept,
    ops::cpu::{
        self, Isa,
        weights::{ANY_TILE, Quantized, QuantizedColumns, Weights},
    },
    weights::{MappedMatrix, MatrixSlice},
};

/// A matrix [out, in], or some of its rows.
#[derive(Debug, Clone)]
pub(super) struct Weight {
    elements: Elements,
    whole: Arc<Whole>,
    /// The rows of the whole that these are.
    rows: Range<usize>,
}

#[derive(Debug, Clone)]
pub(super) enum Elements {
    /// In the mapped file.
    Mapped(MappedMatrix),
    /// Owned by the device.
    Owned(Tensor),
}

/// A matrix that several layers have rows of.
#[derive(Debug)]
struct Whole {
    elements: Elements,
    /// Made once and kept: half of the elements' size in F32, as much as in F16.
    quantized: Kept<Isa, Quantized>,
}

impl Weight {
    pub(super) fn new(elements: Elements) -> Self {
        // What is no matrix is refused when it is used.
        let rows = 0..elements.size().map_or(0, |(rows, _)| rows);
        let whole = Arc::new(Whole {
            elements: elements.clone(),
            quantized: Kept::new(),
        });
        Self {
            elements,
            whole,
            rows,
        }
    }

    /// The rows `start .. start + len`.
    ///
    /// # Errors
    /// When there are fewer.
    pub(super) fn narrow(&self, start: usize, len: usize) -> Result<Self> {
        let elements = match &self.elements {
            Elements::Mapped(m) => Elements::Mapped(m.narrow_rows(start, len)?),
            Elements::Owned(t) => Elements::Owned(t.narrow(0, start, len)?),
        };
        let first = self.rows.start + start;
        if !first.is_multiple_of(ANY_TILE) {
            // No tile of the whole begins there.
            return Ok(Self::new(elements));
        }
        Ok(Self {
            elements,
            whole: Arc::clone(&self.whole),
            rows: first..first + len,
        })
    }

    pub(super) fn elements(&self) -> &Elements {
        &self.elements
    }

    /// Returns the number of rows and columns.
    pub(super) fn size(&self) -> Result<(usize, usize)> {
        self.elements.size()
    }

    /// Returns the whole matrix in integers, made at the first call.
    ///
    /// # Errors
    /// When the pass of this thread is stopped.
    pub(super) fn quantized(&self, isa: Isa) -> Result<Arc<Quantized>> {
        let Whole {
            elements,
            quantized,
        } = &*self.whole;
        quantized.get_or_make(isa, || elements.quantize(isa))
    }

    /// The rows of this matrix among those of the whole.
    pub(super) fn columns<'a>(&self, whole: &'a Quantized) -> QuantizedColumns<'a> {
        whole.columns(self.rows.clone())
    }
}

impl Elements {
    fn size(&self) -> Result<(usize, usize)> {
        match self {
            Self::Mapped(m) => Ok((m.rows(), m.columns())),
            Self::Owned(t) => t.dims2(),
        }
    }

    fn quantize(&self, isa: Isa) -> Result<Quantized> {
        let size = self.size()?;
        match self {
            Self::Mapped(m) => {
                let quantized = Quantized::new(isa, of_mapped(m), size)?;
                // They are not read again, and would count as resident memory next to their copy.
                m.release();
                Ok(quantized)
            }
            Self::Owned(t) => Quantized::new(isa, Weights::F32(&cpu::slice_of(t)?), size),
        }
    }
}

/// A matrix where it lies.
pub(super) fn of_mapped(matrix: &MappedMatrix) -> Weights<'_> {
    match matrix.as_slice() {
        MatrixSlice::F32(w) => Weights::F32(w),
        MatrixSlice::F16(w) => Weights::F16(w),
        MatrixSlice::BF16(w) => Weights::Bf16(w),
    }
}
