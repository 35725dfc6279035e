//! Rotary position embedding in two dimensions. Port of vggt/layers/rope.py.

use candle_core::{DType, Device, Result, Tensor};

use crate::ops::RopeTable;

/// Rotates the first half of each head by the token's row, the second half by its column.
#[derive(Debug, Clone, Copy)]
pub struct RotaryPositionEmbedding2D {
    /// Base of the frequencies.
    pub frequency: f64,
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
        Ok(RopeTable::new(
            Tensor::from_vec(cos, shape, device)?.to_dtype(dtype)?,
            Tensor::from_vec(sin, shape, device)?.to_dtype(dtype)?,
        ))
    }
}
