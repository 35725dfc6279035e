//! One mask: which pixels of a picture are kept.

use std::path::Path;

use image::GrayImage;
use vggt_model::preprocess::{self, ImageLimits, PreprocessError, decode_mask, mask_of};

use super::{heif, read::decode_file};

/// Values from here on keep a pixel. In between are the soft edges of masks that were scaled or drawn with a brush.
const KEEPS_FROM: u8 = 128;

/// Which pixels of a picture are kept, in the coordinates of the picture or of one that was scaled down evenly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    values: GrayImage,
    /// Lowest value that keeps a pixel.
    keeps_from: u8,
}

impl Mask {
    /// Returns a mask that keeps the pixels with a value of 128 and above; where no value reaches that, as in masks of 0 and 1 and of
    /// numbered objects, those that are not 0.
    pub fn new(values: GrayImage) -> Self {
        let is_bright = values.iter().any(|value| *value >= KEEPS_FROM);
        Self {
            keeps_from: if is_bright { KEEPS_FROM } else { 1 },
            values,
        }
    }

    /// Returns the width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        self.values.dimensions()
    }

    /// Returns whether the pixel at `x` and `y` is kept, which are shares of the width and height; beyond an edge it is as at the edge.
    pub fn keeps(&self, x: f64, y: f64) -> bool {
        let (width, height) = self.size();
        // Casts saturate: NaN and negative values become 0.
        let at = |share: f64, length: u32| {
            ((share * f64::from(length)) as u32).min(length.saturating_sub(1))
        };
        let value = self.values.get_pixel_checked(at(x, width), at(y, height));
        value.is_some_and(|value| value.0[0] >= self.keeps_from)
    }
}

/// Reads an image file of any format as a mask, upright, within the limits of images.
///
/// The opacity decides if some pixel of a PNG or WebP is not opaque, else the largest of red, green and blue; see [`Mask::new`].
///
/// # Errors
/// When the file cannot be read, is of no known format, exceeds `limits`, or is damaged or cut off anywhere.
pub fn read_mask(path: &Path, limits: &ImageLimits) -> Result<Mask, PreprocessError> {
    let fail = |source| PreprocessError::Read {
        path: path.to_path_buf(),
        source,
    };
    let name = path.file_name().unwrap_or(path.as_os_str());
    let name = name.to_string_lossy();
    let mut file = preprocess::open_regular(path).map_err(fail)?;
    let values = match heif::is_heif(&mut file).unwrap_or(false) {
        true => mask_of(decode_file(&name, file, limits)?)?,
        false => decode_mask(&name, file, limits)?,
    };
    Ok(Mask::new(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeps(values: &[u8]) -> Vec<bool> {
        let count = values.len() as u32;
        let mask = Mask::new(GrayImage::from_raw(count, 1, values.to_vec()).unwrap());
        let at = |i: u32| (f64::from(i) + 0.5) / f64::from(count);
        (0..count).map(|i| mask.keeps(at(i), 0.5)).collect()
    }

    #[test]
    fn half_of_white_keeps_and_without_white_all_but_black() {
        assert_eq!(
            keeps(&[0, 1, 127, 128, 255]),
            [false, false, false, true, true]
        );
        assert_eq!(keeps(&[0, 1, 127]), [false, true, true]);
        assert_eq!(keeps(&[0, 0]), [false, false]);
    }

    #[test]
    fn beyond_the_edges_it_is_as_there_and_without_pixels_nothing_is_kept() {
        let mask = Mask::new(GrayImage::from_raw(2, 1, vec![255, 0]).unwrap());
        let at = [-1.0, 0.0, 0.49, 0.51, 1.0, 7.0, f64::NAN].map(|x| mask.keeps(x, 0.0));
        assert_eq!(at, [true, true, true, false, false, false, true]);
        assert!(!Mask::new(GrayImage::new(0, 0)).keeps(0.5, 0.5));
    }
}
