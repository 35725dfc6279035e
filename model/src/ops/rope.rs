//! The rotation of queries and keys by their place.

use candle_core::{D, Result, Tensor, bail};

/// The rotations of a sequence of tokens. A longer sequence takes them again from the start: that of many frames.
#[derive(Debug, Clone)]
pub struct RopeTable {
    /// [P, D]
    pub(super) cos: Tensor,
    /// [P, D], with the sign that swapping the halves of a rotated pair asks for.
    pub(super) sin: Tensor,
}

impl RopeTable {
    /// Cosines and signed sines of P places, both [P, D].
    pub fn new(cos: Tensor, sin: Tensor) -> Self {
        Self { cos, sin }
    }

    /// Rotates [B, heads, N, D], where N is a multiple of P. The definition; in attention it happens on the way.
    ///
    /// # Errors
    /// When the shape does not fit or the device fails.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let (b, heads, n, d) = x.dims4()?;
        let places = self.places()?;
        if places == 0 || n % places != 0 {
            bail!("{n} tokens are no multiple of {places} places")
        }
        let quarter = d / 4;
        let part = |i: usize| x.narrow(D::Minus1, i * quarter, quarter);
        // (a, b) -> (b, a) within each axis; the minus of the rotation sits in the table.
        let swapped = Tensor::cat(&[part(1)?, part(0)?, part(3)?, part(2)?], D::Minus1)?;
        let [cos, sin] = [&self.cos, &self.sin].map(|t| t.to_dtype(x.dtype()));
        let frames = |t: &Tensor| t.reshape((b * heads, n / places, places, d));
        let rotated =
            (frames(x)?.broadcast_mul(&cos?)? + frames(&swapped)?.broadcast_mul(&sin?)?)?;
        rotated.reshape((b, heads, n, d))
    }

    /// Number of places.
    pub(super) fn places(&self) -> Result<usize> {
        self.cos.dim(0)
    }
}
