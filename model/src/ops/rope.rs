//! The rotation of queries and keys by their position.

use candle_core::{D, Result, Tensor, bail};

/// The rotations of a sequence of tokens. A longer sequence takes them again from the start: that of many frames.
#[derive(Debug, Clone)]
pub struct RopeTable {
    /// [P, D]
    pub(crate) cos: Tensor,
    /// [P, D], with the sign that swapping the halves of a rotated pair asks for.
    pub(crate) sin: Tensor,
}

impl RopeTable {
    /// Cosines and signed sines of P positions, both [P, D].
    pub fn new(cos: Tensor, sin: Tensor) -> Self {
        Self { cos, sin }
    }

    /// Rotates [B, heads, N, D], where N is a multiple of P. The reference implementation; the
    /// backends rotate while they read.
    ///
    /// # Errors
    /// When the shape does not fit or the device fails.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let (b, heads, n, d) = x.dims4()?;
        let positions = self.positions()?;
        if positions == 0 || !n.is_multiple_of(positions) {
            bail!("expected a multiple of {positions} tokens, got {n}")
        }
        let quarter = d / 4;
        let part = |i: usize| x.narrow(D::Minus1, i * quarter, quarter);
        // (a, b) -> (b, a) within each axis; the minus of the rotation sits in the table.
        let swapped = Tensor::cat(&[part(1)?, part(0)?, part(3)?, part(2)?], D::Minus1)?;
        let [cos, sin] = [&self.cos, &self.sin].map(|t| t.to_dtype(x.dtype()));
        let frames = |t: &Tensor| t.reshape((b * heads, n / positions, positions, d));
        let rotated =
            (frames(x)?.broadcast_mul(&cos?)? + frames(&swapped)?.broadcast_mul(&sin?)?)?;
        rotated.reshape((b, heads, n, d))
    }

    /// Refuses sequences of `n` tokens and heads of `depth` channels that the table does not fit, for every backend.
    pub(super) fn check(&self, n: usize, depth: usize) -> Result<()> {
        let positions = self.positions()?;
        if positions == 0 || !n.is_multiple_of(positions) || !depth.is_multiple_of(4) {
            bail!(
                "cannot rotate {n} tokens with heads of {depth} channels by {positions} positions"
            )
        }
        let len = positions * depth;
        if self.cos.elem_count() != len || self.sin.elem_count() != len {
            let (cos, sin) = (self.cos.dims(), self.sin.dims());
            bail!("expected rotations of {depth} channels, got cosines {cos:?} and sines {sin:?}")
        }
        Ok(())
    }

    /// Returns the number of positions.
    pub(super) fn positions(&self) -> Result<usize> {
        self.cos.dim(0)
    }
}
