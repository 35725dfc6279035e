//! The photos at the size at which the network saw them: what is kept of them once the originals are gone.

use image::{
    RgbImage,
    codecs::jpeg::JpegEncoder,
    imageops::{self, FilterType},
};

use super::PipelineError;
use crate::{
    frames::Placement,
    scene::{Field, Flat, PredictedFrames},
};

/// Quality of JPEGs to look at: hardly to be told from the pixels, at a tenth of their bytes.
const QUALITY: u8 = 90;

/// Longer side of a thumbnail, in pixels: as wide as one is shown in a gallery or on a camera in a viewer.
const THUMBNAIL: u32 = 160;

/// Returns frame `index` as a JPEG, without padding. Nothing of the original but these pixels is in it.
///
/// # Errors
/// When the frame cannot be read or encoded.
pub fn still(frames: &dyn PredictedFrames, index: usize) -> Result<Vec<u8>, PipelineError> {
    jpeg(&photo(frames, index)?, index)
}

/// As [`still`], at most 160 pixels wide and high.
///
/// # Errors
/// When the frame cannot be read or encoded.
pub fn thumbnail(frames: &dyn PredictedFrames, index: usize) -> Result<Vec<u8>, PipelineError> {
    small_jpeg(&photo(frames, index)?, index, THUMBNAIL)
}

/// Returns `image`, which belongs to frame `index`, as a JPEG whose longer side has at most `longest` pixels.
pub(super) fn small_jpeg(
    image: &RgbImage,
    index: usize,
    longest: u32,
) -> Result<Vec<u8>, PipelineError> {
    let (width, height) = image.dimensions();
    let longer = width.max(height).max(1);
    let small = |side: u32| (side * longest).div_ceil(longer).clamp(1, side.max(1));
    let small = imageops::resize(image, small(width), small(height), FilterType::Triangle);
    jpeg(&small, index)
}

/// Returns the pixels of frame `index` that show the photo, sRGB.
pub(super) fn photo(frames: &dyn PredictedFrames, index: usize) -> Result<RgbImage, PipelineError> {
    let image = Flat::read_from(frames, index, Field::Image)?;
    let image = image.read();
    let values = image.values()?;
    let ((height, width), area) = (frames.size(), frames.photo_area(index));
    let (rows, columns) = (area.rows(), area.columns());
    let plane = height * width;
    let size = [columns.len(), rows.len()].map(|n| n as u32);
    let mut bytes = Vec::with_capacity(3 * columns.len() * rows.len());
    for row in rows {
        for column in columns.clone() {
            let pixel = row * width + column;
            let channel = |c: usize| (values[c * plane + pixel] * 255.0).round() as u8;
            bytes.extend([channel(0), channel(1), channel(2)]);
        }
    }
    // Three bytes for each pixel.
    Ok(RgbImage::from_raw(size[0], size[1], bytes).unwrap_or_default())
}

/// Returns where the frames lie in the images that [`still`] gives.
pub(super) fn placements(frames: &dyn PredictedFrames) -> Vec<Placement> {
    let of_frame = |index| {
        let area = frames.photo_area(index);
        Placement {
            source_width: area.columns().len() as u32,
            source_height: area.rows().len() as u32,
            scale_x: 1.0,
            scale_y: 1.0,
            offset_x: area.columns().start as f64,
            offset_y: area.rows().start as f64,
        }
    };
    (0..frames.count()).map(of_frame).collect()
}

/// Returns `image`, which belongs to frame `frame`, as a JPEG.
pub(super) fn jpeg(image: &RgbImage, frame: usize) -> Result<Vec<u8>, PipelineError> {
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, QUALITY);
    let encoded = image.write_with_encoder(encoder);
    encoded.map_err(|source| PipelineError::Still { frame, source })?;
    Ok(bytes)
}
