//! An image of any size -> an image that the network takes.
//!
//! Port of vggt/utils/load_fn.py, `load_and_preprocess_images`, with the configuration's image and patch
//! size in place of 518 and 14.

use ::image::{RgbImage, imageops};
use serde::{Deserialize, Serialize};

use super::{
    DecodedImage, PreprocessError,
    resample::{Lines, resize_bicubic},
};

/// Padding is white, as upstream's (1.0 in every channel).
pub(super) const WHITE: ::image::Rgb<u8> = ::image::Rgb([255; 3]);

/// Largest image size that is accepted: thirty times VGGT-1B's, and far from any overflow.
const MAX_IMG_SIZE: usize = 16_384;

/// How an image is brought to the network's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PreprocessMode {
    /// Width `img_size`, height in proportion to the nearest patch, cropped at the center to `img_size`.
    #[default]
    Crop,
    /// Longer side `img_size`, the other in proportion to the nearest patch, padded to a square with white.
    Pad,
}

/// Where a network pixel lies in the original image.
///
/// `network_x = source_x * scale_x + offset_x`, and the same for y, in continuous coordinates in which
/// pixel `i` covers `[i, i + 1)` and its center is at `i + 0.5`, on both sides. The source is the
/// original image, orientation already applied, even where it was decoded at a smaller size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Placement {
    /// Width of the original image, in pixels.
    pub source_width: u32,
    /// Height of the original image, in pixels.
    pub source_height: u32,
    /// Network pixels per source pixel, sideways.
    pub scale_x: f64,
    /// Network pixels per source pixel, downwards.
    pub scale_y: f64,
    /// Network x of the source's left edge: positive when padded.
    pub offset_x: f64,
    /// Network y of the source's upper edge: positive when padded, negative when cropped.
    pub offset_y: f64,
}

/// An image at the network's size, and where it lies in the original.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The image's name.
    pub name: String,
    /// The pixels; both sides are multiples of the patch size and at most `img_size`.
    pub rgb: RgbImage,
    /// Where the pixels lie in the original image.
    pub placement: Placement,
}

/// Size of an image that [`preprocess()`] returns, and where it lies in the original.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fitted {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Where the pixels lie in the original image.
    pub placement: Placement,
}

/// Returns what [`preprocess()`] makes of an image whose original has this width and height, without its pixels.
///
/// # Errors
/// When `img_size` is not a multiple of `patch_size`, or the image, of this name, has no pixels.
pub fn fitted(
    name: &str,
    (source_width, source_height): (u32, u32),
    mode: PreprocessMode,
    img_size: usize,
    patch_size: usize,
) -> Result<Fitted, PreprocessError> {
    if patch_size == 0
        || img_size == 0
        || img_size > MAX_IMG_SIZE
        || !img_size.is_multiple_of(patch_size)
    {
        return Err(PreprocessError::BadSizes {
            img_size,
            patch_size,
        });
    }
    if source_width == 0 || source_height == 0 {
        return Err(PreprocessError::NoPixels {
            name: name.to_owned(),
        });
    }
    let side = img_size as u32;
    let (width, height) = resized((source_width, source_height), mode, img_size, patch_size);
    let mut placement = Placement {
        source_width,
        source_height,
        scale_x: f64::from(width) / f64::from(source_width),
        scale_y: f64::from(height) / f64::from(source_height),
        offset_x: 0.0,
        offset_y: 0.0,
    };
    match mode {
        PreprocessMode::Crop => {
            placement.offset_y = -f64::from(cropped(height, side));
            Ok(Fitted {
                width,
                height: height.min(side),
                placement,
            })
        }
        PreprocessMode::Pad => {
            placement.offset_x = f64::from(margin(width, side));
            placement.offset_y = f64::from(margin(height, side));
            Ok(Fitted {
                width: side,
                height: side,
                placement,
            })
        }
    }
}

/// Resizes, and crops or pads, one image to a size that the network takes.
///
/// Bicubic (a = -0.5, antialiased), bit for bit as Pillow does it. An image that already has its target
/// size is returned unchanged.
///
/// # Errors
/// When `img_size` is not a multiple of `patch_size`, or the image has no pixels.
pub fn preprocess(
    image: DecodedImage,
    mode: PreprocessMode,
    img_size: usize,
    patch_size: usize,
) -> Result<Prepared, PreprocessError> {
    let DecodedImage {
        name,
        rgb,
        source_size,
        ..
    } = image;
    let fitted = fitted(&name, source_size, mode, img_size, patch_size)?;
    if rgb.is_empty() {
        return Err(PreprocessError::NoPixels { name });
    }
    let (width, height) = resized(source_size, mode, img_size, patch_size);
    let rows = match mode {
        PreprocessMode::Crop => Lines {
            first: cropped(height, fitted.height),
            count: fitted.height,
            of: height,
        },
        PreprocessMode::Pad => Lines {
            first: 0,
            count: height,
            of: height,
        },
    };
    let rgb = resize_bicubic(rgb, width, rows);
    // What is cropped has this size already.
    let (rgb, ..) = pad(rgb, fitted.width, fitted.height);
    Ok(Prepared {
        name,
        rgb,
        placement: fitted.placement,
    })
}

/// Width and height of an image before it is cropped or padded.
fn resized(
    (width, height): (u32, u32),
    mode: PreprocessMode,
    img_size: usize,
    patch_size: usize,
) -> (u32, u32) {
    let side = img_size as u32;
    match mode {
        PreprocessMode::Pad if width < height => {
            (in_proportion(width, height, img_size, patch_size), side)
        }
        _ => (side, in_proportion(height, width, img_size, patch_size)),
    }
}

/// Rows above the ones that are kept of `height`.
fn cropped(height: u32, kept: u32) -> u32 {
    height.saturating_sub(kept) / 2
}

/// The shorter (or, in crop mode, the other) side in whole patches.
///
/// Python: `round(other * (img_size / leading) / patch_size) * patch_size`, halves to even, in this order.
/// Differs from upstream: at least one patch, where upstream fails on a side of 0.
fn in_proportion(other: u32, leading: u32, img_size: usize, patch_size: usize) -> u32 {
    let patches = f64::from(other) * (img_size as f64 / f64::from(leading)) / patch_size as f64;
    // At most 2^32 * img_size / patch_size patches would overflow; such an image is cropped anyway.
    let patches = patches.round_ties_even().clamp(1.0, 1e5);
    (patches as u32).saturating_mul(patch_size as u32)
}

/// Centers an image on white; returns it with the number of columns to its left and of rows above it.
///
/// PyTorch: `pad_left = padding // 2`, `pad_right = padding - pad_left`.
pub(super) fn pad(rgb: RgbImage, width: u32, height: u32) -> (RgbImage, u32, u32) {
    let left = margin(rgb.width(), width);
    let top = margin(rgb.height(), height);
    if (rgb.width(), rgb.height()) == (width, height) {
        return (rgb, left, top);
    }
    let mut padded = RgbImage::from_pixel(width, height, WHITE);
    imageops::replace(&mut padded, &rgb, i64::from(left), i64::from(top));
    (padded, left, top)
}

/// Columns to the left of an image that is padded to `padded`, or rows above it.
fn margin(side: u32, padded: u32) -> u32 {
    padded.saturating_sub(side) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_known_without_the_pixels() {
        for mode in [PreprocessMode::Crop, PreprocessMode::Pad] {
            for size in [
                (60, 45),
                (45, 60),
                (200, 3),
                (3, 200),
                (1, 1),
                (28, 28),
                (28, 14),
            ] {
                let image = DecodedImage::new("a".to_owned(), RgbImage::new(size.0, size.1));
                let known = fitted("a", size, mode, 28, 14).unwrap();
                let made = preprocess(image, mode, 28, 14).unwrap();
                assert_eq!(
                    made.rgb.dimensions(),
                    (known.width, known.height),
                    "{size:?}"
                );
                assert_eq!(made.placement, known.placement, "{size:?}");
            }
        }
        let none = fitted("a", (0, 1), PreprocessMode::Crop, 28, 14);
        assert!(matches!(none, Err(PreprocessError::NoPixels { .. })));
        assert!(fitted("a", (1, 1), PreprocessMode::Crop, 28, 13).is_err());
    }

    #[test]
    fn sizes_round_halves_to_even_patches() {
        // 60x45 -> 518 * 45 / 60 = 388.5 = 27.75 patches -> 28.
        assert_eq!(in_proportion(45, 60, 518, 14), 392);
        // 4 * (28 / 16) / 14 = 0.5 patches -> 0 in Python, one patch here.
        assert_eq!(in_proportion(4, 16, 28, 14), 14);
        // 2.5 patches -> 2.
        assert_eq!(in_proportion(20, 16, 28, 14), 28);
    }
}
