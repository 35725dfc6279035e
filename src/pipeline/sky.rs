//! The mask that removes the sky.

use candle_core::Tensor;
use image::RgbImage;

use super::PipelineError;
use crate::frames::SkyNetwork;

/// Returns one flag for each pixel of `image` [3, H, W], values in [0, 1], in raster order: `false` where it is sky.
///
/// # Errors
/// When the sky network fails.
pub fn frame_mask(network: &SkyNetwork, image: &Tensor) -> Result<Vec<bool>, PipelineError> {
    let (_, h, w) = image.dims3()?;
    let values = (image * 255.0)?.round()?.permute((1, 2, 0))?;
    let bytes: Vec<f32> = values.flatten_all()?.to_vec1()?;
    let bytes = bytes.into_iter().map(|v| v as u8).collect();
    match RgbImage::from_vec(w as u32, h as u32, bytes) {
        Some(rgb) => Ok(network.keep_mask(&rgb)?),
        None => Ok(vec![true; h * w]),
    }
}
