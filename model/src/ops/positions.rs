//! A position embedding that is the sum of a part for the row and a part for the column.

use candle_core::{D, Result, Tensor, bail};

/// An embedding of H x W positions whose first half of channels depends on the column and whose second half depends on the
/// row, so that H + W vectors define it.
#[derive(Debug, Clone)]
pub struct Positions {
    /// [W, C / 2]
    pub(super) columns: Tensor,
    /// [H, C / 2]
    pub(super) rows: Tensor,
}

impl Positions {
    /// `columns` [W, C / 2], `rows` [H, C / 2].
    pub fn new(columns: Tensor, rows: Tensor) -> Self {
        Self { columns, rows }
    }

    /// Adds the embedding to x [B, H, W, C].
    ///
    /// # Errors
    /// When the shape does not fit or the device fails.
    pub fn add(&self, x: &Tensor) -> Result<Tensor> {
        x.broadcast_add(&self.whole()?)
    }

    /// Refuses an embedding of another map than one of `size` with `c` channels.
    pub(super) fn check(&self, (height, width): (usize, usize), c: usize) -> Result<()> {
        let expected = (width * (c / 2), height * (c / 2));
        if !c.is_multiple_of(2) || expected != (self.columns.elem_count(), self.rows.elem_count()) {
            let (columns, rows) = (self.columns.dims(), self.rows.dims());
            bail!(
                "expected an embedding of {height} x {width} positions with {c} channels, got columns {columns:?} and rows {rows:?}"
            )
        }
        Ok(())
    }

    /// [1, H, W, C]
    pub(crate) fn whole(&self) -> Result<Tensor> {
        let (w, half) = self.columns.dims2()?;
        let h = self.rows.dim(0)?;
        let columns = self.columns.reshape((1, w, half))?;
        let rows = self.rows.reshape((h, 1, half))?;
        let both = [columns, rows].map(|t| t.broadcast_as((h, w, half)));
        let [columns, rows] = both;
        Tensor::cat(&[columns?, rows?], D::Minus1)?.unsqueeze(0)
    }
}
