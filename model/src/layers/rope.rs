//! Rotary position embedding in two dimensions. Port of vggt/layers/rope.py.

use candle_core::{D, DType, Device, Result, Tensor};

/// Rotates the first half of each head by the token's row, the second half by its column.
#[derive(Debug, Clone, Copy)]
pub struct RotaryPositionEmbedding2D {
    /// Base of the frequencies.
    pub frequency: f64,
}

/// The rotations of a sequence of tokens.
#[derive(Debug, Clone)]
pub struct RopeTable {
    /// [N, D]
    cos: Tensor,
    /// [N, D], with the sign that swapping the halves of a rotated pair asks for.
    sin: Tensor,
}

impl RotaryPositionEmbedding2D {
    /// Rotations for heads of `head_dim` channels at `positions`, given as (row, column).
    ///
    /// # Errors
    /// When the device fails.
    pub fn table(
        &self,
        positions: &[(u32, u32)],
        head_dim: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<RopeTable> {
        // Channels of one axis; a pair is (i, i + quarter).
        let half = head_dim / 2;
        let quarter = half / 2;
        // F32 throughout, as upstream computes it.
        let inv_freq: Vec<f32> = (0..quarter)
            .map(|i| 1.0 / (self.frequency as f32).powf((2 * i) as f32 / half as f32))
            .collect();
        let mut cos = Vec::with_capacity(positions.len() * head_dim);
        let mut sin = Vec::with_capacity(positions.len() * head_dim);
        for &(row, column) in positions {
            for place in [row, column] {
                for sign in [-1f32, 1.0] {
                    for freq in &inv_freq {
                        let angle = place as f32 * freq;
                        cos.push(angle.cos());
                        sin.push(sign * angle.sin());
                    }
                }
            }
        }
        let shape = (positions.len(), head_dim);
        Ok(RopeTable {
            cos: Tensor::from_vec(cos, shape, device)?.to_dtype(dtype)?,
            sin: Tensor::from_vec(sin, shape, device)?.to_dtype(dtype)?,
        })
    }
}

impl RopeTable {
    /// Rotates [B, heads, N, D].
    ///
    /// # Errors
    /// When the shape does not fit or the device fails.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let quarter = x.dim(D::Minus1)? / 4;
        let part = |i: usize| x.narrow(D::Minus1, i * quarter, quarter);
        // (a, b) -> (b, a) within each axis; the minus of the rotation sits in the table.
        let swapped = Tensor::cat(&[part(1)?, part(0)?, part(3)?, part(2)?], D::Minus1)?;
        x.broadcast_mul(&self.cos)? + swapped.broadcast_mul(&self.sin)?
    }

    /// The same rotations `times` times over: the sequence of that many frames side by side.
    ///
    /// # Errors
    /// When the device fails.
    pub fn repeat(&self, times: usize) -> Result<Self> {
        Ok(Self {
            cos: self.cos.repeat((times, 1))?,
            sin: self.sin.repeat((times, 1))?,
        })
    }
}
