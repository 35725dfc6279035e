//! HEIC, HEIF and AVIF images: the container is read here, and libavcodec decodes what is in it.
//!
//! `file` finds the `meta` box and the bytes of items, `meta` and `properties` parse it, on top of `boxes`. `primary`
//! decodes the primary image: one coded item or a `grid` of tiles, through `bitstream`, `decoder`, `planes` and `matrix`;
//! `turn` brings it upright. Thumbnails, depth maps, gain maps for brighter screens, tone-mapped variants and the frames of
//! a sequence are ignored: the primary image counts.
//!
//! What the file says is trusted with nothing: sizes are checked against the limits before memory is taken, numbers
//! against the bytes that are there.
//!
//! The container's `irot`, `imir` and `clap` turn and crop the image, in the order of its properties. The EXIF block
//! repeats the camera's orientation, which is not applied: both would turn the image twice.
//!
//! Without the feature `video` files are recognized and refused.

#[cfg(feature = "video")]
mod bitstream;
#[cfg_attr(
    not(feature = "video"),
    allow(dead_code, reason = "decoding is left out")
)]
mod boxes;
#[cfg(feature = "video")]
mod decoder;
#[cfg_attr(
    not(feature = "video"),
    allow(dead_code, reason = "decoding is left out")
)]
mod error;
#[cfg(feature = "video")]
mod exif;
#[cfg_attr(
    not(feature = "video"),
    allow(dead_code, reason = "decoding is left out")
)]
mod file;
#[cfg(feature = "video")]
mod grid;
#[cfg(feature = "video")]
mod matrix;
#[cfg(feature = "video")]
mod meta;
#[cfg(feature = "video")]
mod planes;
#[cfg(feature = "video")]
mod primary;
#[cfg(feature = "video")]
mod properties;
#[cfg(feature = "video")]
mod turn;
#[cfg(not(feature = "video"))]
mod unsupported;

use std::io::{self, Read, Seek};

use crate::frames::{DecodedImage, ImageLimits, PreprocessError};

use error::HeifError;
#[cfg(feature = "video")]
use primary::decode as decode_primary;
#[cfg(not(feature = "video"))]
use unsupported::decode as decode_primary;

/// Returns true when the file holds a still image in a HEIF container, whether or not it can be decoded.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn is_heif<R: Read + Seek>(reader: &mut R) -> io::Result<bool> {
    file::is_heif(reader)
}

/// Decodes the primary image: upright, in sRGB, transparency over white.
///
/// # Errors
/// When the file is damaged, cut off, exceeds `limits` or is of a variant that is not read here.
pub(super) fn decode<R: Read + Seek + Send>(
    name: &str,
    reader: R,
    limits: &ImageLimits,
) -> Result<DecodedImage, PreprocessError> {
    let rgb = decode_primary(name, reader, limits).map_err(|e| of_image(e, name, limits))?;
    Ok(DecodedImage::new(name.to_owned(), rgb))
}

/// Returns the EXIF block from its TIFF header on; `None` where there is none, it is damaged, or the feature `video` is missing.
pub(super) fn exif<R: Read + Seek>(reader: R) -> Option<Vec<u8>> {
    #[cfg(feature = "video")]
    return exif::exif(reader);
    #[cfg(not(feature = "video"))]
    {
        let _ = reader;
        None
    }
}

/// The error as the reader of all other images tells it.
fn of_image(e: HeifError, name: &str, limits: &ImageLimits) -> PreprocessError {
    let name = name.to_owned();
    match e {
        HeifError::Truncated => PreprocessError::Truncated { name },
        HeifError::TooLarge { width, height } => PreprocessError::ImageTooLarge {
            name,
            width,
            height,
            max_side: limits.max_side,
            max_pixels: limits.max_pixels,
        },
        HeifError::NeedsMemory { bytes } => PreprocessError::NeedsMemory {
            name,
            mib: bytes.div_ceil(1 << 20),
            max_mib: limits.max_memory >> 20,
        },
        HeifError::Unsupported(what) => PreprocessError::Unsupported { name, what },
        other => PreprocessError::Container {
            name,
            source: Box::new(other),
        },
    }
}
