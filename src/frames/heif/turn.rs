//! Turning, mirroring and cropping a decoded image.

use ::image::{RgbImage, imageops};
use rayon::prelude::*;

use super::{error::HeifError, properties::Transform};

/// Rows of a turned image that are written together: as many pixels of a column of the original share a cache line or two.
const ROWS_AT_ONCE: usize = 32;

/// Applies transforms one after the other.
///
/// # Errors
/// When a crop leaves nothing.
pub(super) fn apply(mut rgb: RgbImage, transforms: &[Transform]) -> Result<RgbImage, HeifError> {
    for transform in transforms {
        match transform {
            Transform::Turn(1) => rgb = quarter(&rgb, false),
            Transform::Turn(2) => imageops::rotate180_in_place(&mut rgb),
            Transform::Turn(3) => rgb = quarter(&rgb, true),
            Transform::Turn(_) => {}
            Transform::MirrorX => imageops::flip_horizontal_in_place(&mut rgb),
            Transform::MirrorY => imageops::flip_vertical_in_place(&mut rgb),
            Transform::Crop(aperture) => {
                let (width, height) = rgb.dimensions();
                let window = aperture.window(width, height).ok_or_else(|| {
                    HeifError::damaged(
                        *b"clap",
                        format!("nothing of {width}x{height} pixels is left"),
                    )
                })?;
                if (window.width, window.height) != (width, height) {
                    rgb = imageops::crop_imm(&rgb, window.x, window.y, window.width, window.height)
                        .to_image();
                }
            }
        }
    }
    Ok(rgb)
}

/// A quarter turn, with the clock or against it. What the image crate does pixel by pixel takes as long as decoding.
fn quarter(rgb: &RgbImage, clockwise: bool) -> RgbImage {
    let (width, height) = rgb.dimensions();
    let mut turned = RgbImage::new(height, width);
    let (from_stride, to_stride) = (3 * width as usize, 3 * height as usize);
    turned
        .par_chunks_mut(to_stride * ROWS_AT_ONCE)
        .enumerate()
        .for_each(|(band, rows)| {
            let first = band * ROWS_AT_ONCE;
            for (y, from) in rgb.chunks_exact(from_stride).enumerate() {
                let x = if clockwise {
                    height as usize - 1 - y
                } else {
                    y
                };
                for (i, row) in rows.chunks_exact_mut(to_stride).enumerate() {
                    let column = match clockwise {
                        true => first + i,
                        false => width as usize - 1 - first - i,
                    };
                    row[3 * x..3 * x + 3].copy_from_slice(&from[3 * column..3 * column + 3]);
                }
            }
        });
    turned
}

/// Lays an image over white. `alpha` has the same size; any of its three channels is the transparency.
pub(super) fn over_white(rgb: &mut RgbImage, alpha: &RgbImage, premultiplied: bool) {
    for (pixel, alpha) in rgb.pixels_mut().zip(alpha.pixels()) {
        let alpha = u32::from(alpha.0[0]);
        let white = 255 - alpha;
        pixel.0 = pixel.0.map(|c| match premultiplied {
            true => u32::from(c).saturating_add(white).min(255) as u8,
            // Rounded to nearest, as images of other formats are.
            false => ((u32::from(c) * alpha + 255 * white + 127) / 255) as u8,
        });
    }
}

#[cfg(test)]
mod tests {
    use ::image::Rgb;

    use super::*;

    fn turned(transforms: &[Transform]) -> Vec<u8> {
        // 1 2
        // 3 4
        // 5 6
        let image = RgbImage::from_fn(2, 3, |x, y| Rgb([(1 + x + 2 * y) as u8; 3]));
        let turned = apply(image, transforms).unwrap();
        turned.pixels().map(|p| p.0[0]).collect()
    }

    #[test]
    fn turns_are_against_the_clock() {
        assert_eq!(turned(&[Transform::Turn(0)]), [1, 2, 3, 4, 5, 6]);
        assert_eq!(turned(&[Transform::Turn(1)]), [2, 4, 6, 1, 3, 5]);
        assert_eq!(turned(&[Transform::Turn(2)]), [6, 5, 4, 3, 2, 1]);
        assert_eq!(turned(&[Transform::Turn(3)]), [5, 3, 1, 6, 4, 2]);
        assert_eq!(turned(&[Transform::MirrorX]), [2, 1, 4, 3, 6, 5]);
        assert_eq!(turned(&[Transform::MirrorY]), [5, 6, 3, 4, 1, 2]);
    }

    #[test]
    fn quarter_turns_are_those_of_the_image_crate_at_every_size() {
        for (width, height) in [(1, 1), (1, 70), (70, 1), (33, 64), (100, 37)] {
            let image =
                RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, (x * y) as u8]));
            assert_eq!(quarter(&image, true), imageops::rotate90(&image));
            assert_eq!(quarter(&image, false), imageops::rotate270(&image));
        }
    }

    #[test]
    fn the_order_of_turns_and_mirrors_counts() {
        let (turn, mirror) = (Transform::Turn(1), Transform::MirrorX);
        assert_eq!(turned(&[turn, mirror]), [6, 4, 2, 5, 3, 1]);
        assert_eq!(turned(&[mirror, turn]), [1, 3, 5, 2, 4, 6]);
    }

    #[test]
    fn transparency_shows_white() {
        let rgb = RgbImage::from_pixel(1, 1, Rgb([100, 0, 20]));
        let alpha = |a: u8| RgbImage::from_pixel(1, 1, Rgb([a; 3]));
        let over = |a, premultiplied| {
            let mut rgb = rgb.clone();
            over_white(&mut rgb, &alpha(a), premultiplied);
            rgb.get_pixel(0, 0).0
        };
        assert_eq!(over(255, false), [100, 0, 20]);
        assert_eq!(over(0, false), [255; 3]);
        assert_eq!(over(128, false), [177, 127, 137]);
        assert_eq!(over(128, true), [227, 127, 147]);
        assert_eq!(over(255, true), [100, 0, 20]);
    }
}
