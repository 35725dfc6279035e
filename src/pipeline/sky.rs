//! The mask that removes the sky.

use candle_core::Tensor;
use image::RgbImage;

use super::{PipelineError, Stage, Watcher};
use crate::frames::SkyNetwork;

/// Returns one flag for each pixel of `images` [S, 3, H, W] in raster order: `false` where it is sky.
///
/// # Errors
/// When the sky network fails or the watcher stopped it.
pub fn sky_mask(
    network: &SkyNetwork,
    images: &Tensor,
    watcher: &mut dyn Watcher,
) -> Result<Vec<bool>, PipelineError> {
    let (s, _, h, w) = images.dims4()?;
    let mut keep = Vec::with_capacity(s * h * w);
    for i in 0..s {
        let values = (images.get(i)? * 255.0)?.round()?.permute((1, 2, 0))?;
        let bytes: Vec<f32> = values.flatten_all()?.to_vec1()?;
        let bytes = bytes.into_iter().map(|v| v as u8).collect();
        let Some(rgb) = RgbImage::from_vec(w as u32, h as u32, bytes) else {
            continue;
        };
        keep.extend(network.keep_mask(&rgb)?);
        if !watcher.step(Stage::Sky, i + 1, s) {
            return Err(PipelineError::Cancelled);
        }
    }
    Ok(keep)
}
