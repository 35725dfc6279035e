//! One image file -> 8-bit RGB, upright, without alpha.

use std::{
    fs::File,
    io::{BufRead, BufReader, Cursor, Read, Seek},
    path::Path,
};

use ::image::{
    DynamicImage, ImageBuffer, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgb,
    RgbImage, metadata::Orientation,
};

use super::PreprocessError;

/// The formats that [`read_image`] reads, for messages.
pub const READABLE_FORMATS: &str = "JPEG, PNG, WebP, BMP, TIFF, GIF";

/// Number of bytes from the beginning of a file that [`is_image`] needs: the longest signature (WebP) has 12.
pub const SIGNATURE_BYTES: usize = 16;

/// One decoded image: 8-bit RGB, orientation applied, alpha over white.
#[derive(Debug, Clone)]
pub struct DecodedImage {
    /// The file's name without its folder, or the name of a video's frame.
    pub name: String,
    /// The pixels, sRGB as in the file.
    pub rgb: RgbImage,
}

/// Limits on the size of an image, checked against the file's header before any pixel is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Width times height, in pixels.
    pub max_pixels: u64,
    /// Width, and height, in pixels.
    pub max_side: u32,
    /// Length of the file, in bytes.
    pub max_bytes: u64,
}

impl Default for ImageLimits {
    /// 100 megapixels, 20 000 pixels a side, 1 GiB of file (100 megapixels of 16-bit RGBA are 800 MB).
    fn default() -> Self {
        Self {
            max_pixels: 100_000_000,
            max_side: 20_000,
            max_bytes: 1 << 30,
        }
    }
}

/// Reads one image file and returns it upright, as 8-bit RGB.
///
/// The content decides the format, not the name. Of an animated file the first frame is taken.
/// EXIF (or TIFF) orientation is applied; transparent pixels are laid over white as
/// Pillow's `Image.alpha_composite` does; of 16-bit values the high byte is kept; gray becomes RGB.
///
/// # Errors
/// When the file cannot be read, is of no known format, exceeds `limits`, is cut off or damaged.
pub fn read_image(path: &Path, limits: &ImageLimits) -> Result<DecodedImage, PreprocessError> {
    let fail = |source| PreprocessError::Read {
        path: path.to_path_buf(),
        source,
    };
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy();
    let file = File::open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if metadata.is_dir() {
        return Err(fail(std::io::ErrorKind::IsADirectory.into()));
    }
    if metadata.len() > limits.max_bytes {
        return Err(PreprocessError::FileTooLarge {
            name: name.into_owned(),
            bytes: metadata.len(),
            max_bytes: limits.max_bytes,
        });
    }
    decode(&name, BufReader::new(file), limits)
}

/// Decodes an image file that is already in memory, such as an upload; see [`read_image`].
///
/// # Errors
/// When the bytes are of no known format, exceed `limits`, are cut off or damaged.
pub fn decode_image(
    name: &str,
    bytes: &[u8],
    limits: &ImageLimits,
) -> Result<DecodedImage, PreprocessError> {
    if bytes.len() as u64 > limits.max_bytes {
        return Err(PreprocessError::FileTooLarge {
            name: name.to_owned(),
            bytes: bytes.len() as u64,
            max_bytes: limits.max_bytes,
        });
    }
    decode(name, Cursor::new(bytes), limits)
}

/// Returns true when a file that starts with `head` has a format that [`read_image`] reads.
#[must_use]
pub fn is_image(head: &[u8]) -> bool {
    format_of(head).is_some()
}

fn format_of(head: &[u8]) -> Option<ImageFormat> {
    ::image::guess_format(head)
        .ok()
        .filter(ImageFormat::reading_enabled)
}

fn decode<R: BufRead + Seek>(
    name: &str,
    mut reader: R,
    limits: &ImageLimits,
) -> Result<DecodedImage, PreprocessError> {
    let damaged = |source| match source {
        ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            PreprocessError::Truncated {
                name: name.to_owned(),
            }
        }
        source => PreprocessError::Decode {
            name: name.to_owned(),
            source,
        },
    };

    let mut head = Vec::with_capacity(SIGNATURE_BYTES);
    reader
        .by_ref()
        .take(SIGNATURE_BYTES as u64)
        .read_to_end(&mut head)
        .and_then(|_| reader.rewind())
        .map_err(|e| damaged(e.into()))?;
    let format = format_of(&head).ok_or_else(|| PreprocessError::NotAnImage {
        name: name.to_owned(),
    })?;

    if format == ImageFormat::Jpeg {
        // The JPEG decoder fills what is missing with gray instead of complaining.
        let whole = jpeg_reaches_its_end(&mut reader)
            .and_then(|whole| reader.rewind().map(|()| whole))
            .map_err(|e| damaged(e.into()))?;
        if !whole {
            return Err(PreprocessError::Truncated {
                name: name.to_owned(),
            });
        }
    }

    let mut reader = ImageReader::with_format(reader, format);
    let mut allocation = Limits::default();
    // Decoded 16-bit RGBA (8 bytes a pixel), and the same again for what the decoder needs in the meantime.
    allocation.max_alloc = Some(limits.max_pixels.saturating_mul(16).max(64 << 20));
    reader.limits(allocation);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if width > limits.max_side || height > limits.max_side || pixels > limits.max_pixels {
        return Err(PreprocessError::ImageTooLarge {
            name: name.to_owned(),
            width,
            height,
            max_side: limits.max_side,
            max_pixels: limits.max_pixels,
        });
    }
    // An image with a corrupt EXIF block is still an image.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut decoded = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    decoded.apply_orientation(orientation);
    Ok(DecodedImage {
        name: name.to_owned(),
        rgb: to_rgb8(decoded),
    })
}

/// 8-bit RGB: high byte of 16-bit values, alpha over white.
fn to_rgb8(decoded: DynamicImage) -> RgbImage {
    if decoded.color().has_alpha() {
        let rgba = match decoded {
            DynamicImage::ImageRgba8(rgba) => rgba,
            DynamicImage::ImageLumaA16(_) | DynamicImage::ImageRgba16(_) => {
                high_bytes(&decoded.into_rgba16())
            }
            other => other.into_rgba8(),
        };
        return over_white(&rgba);
    }
    match decoded {
        DynamicImage::ImageRgb8(rgb) => rgb,
        DynamicImage::ImageLuma16(_) | DynamicImage::ImageRgb16(_) => {
            high_bytes(&decoded.into_rgb16())
        }
        other => other.into_rgb8(),
    }
}

/// The high byte of every 16-bit value, as Pillow reads 16-bit color.
///
/// Differs from upstream: Pillow clips 16-bit gray at 255, which turns nearly all of it white.
fn high_bytes<P16, P8>(wide: &ImageBuffer<P16, Vec<u16>>) -> ImageBuffer<P8, Vec<u8>>
where
    P16: ::image::Pixel<Subpixel = u16>,
    P8: ::image::Pixel<Subpixel = u8>,
{
    let (width, height) = wide.dimensions();
    let mut narrow = ImageBuffer::new(width, height);
    for (to, from) in narrow.iter_mut().zip(wide.iter()) {
        *to = (from >> 8) as u8;
    }
    narrow
}

/// Pillow: Image.alpha_composite(white, image) in 8 bits: the exact quotient, rounded to nearest.
fn over_white(rgba: &::image::RgbaImage) -> RgbImage {
    let (width, height) = rgba.dimensions();
    let mut rgb = RgbImage::new(width, height);
    for (to, from) in rgb.pixels_mut().zip(rgba.pixels()) {
        let [r, g, b, alpha] = from.0.map(u32::from);
        *to = Rgb([r, g, b].map(|c| ((c * alpha + 255 * (255 - alpha) + 127) / 255) as u8));
    }
    rgb
}

/// Whether a JPEG's marker segments and entropy-coded data lead to an end-of-image marker.
fn jpeg_reaches_its_end<R: BufRead>(reader: &mut R) -> std::io::Result<bool> {
    const MARKER: u8 = 0xFF;
    const END_OF_IMAGE: u8 = 0xD9;
    let mut marker = Vec::new();
    loop {
        // Inside entropy-coded data a literal 0xFF is followed by 0, so every other pair is a marker.
        marker.clear();
        reader.read_until(MARKER, &mut marker)?;
        let code = loop {
            let mut byte = [0];
            if reader.read(&mut byte)? == 0 {
                return Ok(false);
            }
            if byte[0] != MARKER {
                break byte[0];
            }
        };
        match code {
            END_OF_IMAGE => return Ok(true),
            // Stuffed zero, a lone TEM, restart markers and start-of-image carry no length.
            0x00 | 0x01 | 0xD0..=0xD8 => {}
            _ => {
                let mut length = [0; 2];
                if reader.read(&mut length[..1])? == 0 || reader.read(&mut length[1..])? == 0 {
                    return Ok(false);
                }
                // The length counts itself; thumbnails with end markers of their own are stepped over.
                let body = u64::from(u16::from_be_bytes(length)).saturating_sub(2);
                if std::io::copy(&mut reader.by_ref().take(body), &mut std::io::sink())? < body {
                    return Ok(false);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpha_is_laid_over_white_and_rounded_to_nearest() {
        let rgba = ::image::RgbaImage::from_vec(
            2,
            2,
            vec![10, 20, 30, 255, 10, 20, 30, 0, 0, 100, 200, 128, 0, 0, 0, 1],
        )
        .unwrap();
        // By hand: round((c * a + 255 * (255 - a)) / 255).
        let expected = [10, 20, 30, 255, 255, 255, 127, 177, 227, 254, 254, 254];
        assert_eq!(over_white(&rgba).as_raw(), &expected);
    }

    #[test]
    fn an_end_marker_inside_a_segment_does_not_end_the_image() {
        let segment = [0xFF, 0xD8, 0xFF, 0xE1, 0, 4, 0xFF, 0xD9];
        assert!(!jpeg_reaches_its_end(&mut segment.as_slice()).unwrap());
        let whole = [&segment[..], &[0xFF, 0x00, 7, 0xFF, 0xFF, 0xD9]].concat();
        assert!(jpeg_reaches_its_end(&mut whole.as_slice()).unwrap());
    }
}
