//! Prepared images -> one tensor.

use candle_core::{Device, Tensor};

use super::{Placement, Prepared, PreprocessError, fit::pad};

/// The network's input, and where each frame comes from.
#[derive(Debug, Clone)]
pub struct Frames {
    /// sRGB values. [S, 3, H, W], in [0, 1], F32, on the CPU.
    pub images: Tensor,
    /// One name per frame, in the order of `images`.
    pub names: Vec<String>,
    /// Where each frame lies in its original image, in the order of `images`.
    pub placements: Vec<Placement>,
    /// Number of frames of the source: more than these when some were left out.
    pub available: usize,
}

impl Frames {
    /// Returns the frames of these indices, in this order.
    ///
    /// # Errors
    /// When an index is out of bounds.
    pub fn select(&self, indices: &[usize]) -> candle_core::Result<Self> {
        let frames = (indices.iter())
            .map(|i| self.images.narrow(0, *i, 1))
            .collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Self {
            images: Tensor::cat(&frames, 0)?,
            names: indices.iter().map(|i| self.names[*i].clone()).collect(),
            placements: indices.iter().map(|i| self.placements[*i]).collect(),
            available: self.available,
        })
    }
}

/// Stacks prepared images into one tensor; where shapes differ, each is centered on white of the
/// largest height and the largest width, and its placement is adjusted.
///
/// # Errors
/// When there is no image at all.
pub fn stack(prepared: Vec<Prepared>) -> Result<Frames, PreprocessError> {
    let s = prepared.len();
    let width = prepared.iter().map(|p| p.rgb.width()).max();
    let height = prepared.iter().map(|p| p.rgb.height()).max();
    let (Some(width), Some(height)) = (width, height) else {
        return Err(PreprocessError::Empty);
    };
    let (w, h) = (width as usize, height as usize);
    let mut values = Vec::with_capacity(s * 3 * h * w);
    let mut names = Vec::with_capacity(s);
    let mut placements = Vec::with_capacity(s);
    for Prepared {
        name,
        rgb,
        mut placement,
    } in prepared
    {
        let (rgb, left, top) = pad(rgb, width, height);
        placement.offset_x += f64::from(left);
        placement.offset_y += f64::from(top);
        for channel in 0..3 {
            // PyTorch: transforms.ToTensor() divides by 255 in float32.
            values.extend(rgb.pixels().map(|p| f32::from(p.0[channel]) / 255.0));
        }
        names.push(name);
        placements.push(placement);
    }
    Ok(Frames {
        images: Tensor::from_vec(values, (s, 3, h, w), &Device::Cpu)?,
        names,
        placements,
        available: s,
    })
}
