//! One image of any format: HEIC and AVIF are read here, all others by [`vggt_model::preprocess`].

use std::{fs::File, io::Cursor, path::Path};

use vggt_model::preprocess::{self, is_image};

use super::{DecodedImage, ImageLimits, PreprocessError, heif};

/// The formats of images that are read, for messages.
#[cfg(feature = "video")]
pub const READABLE_FORMATS: &str =
    "JPEG, PNG, WebP, BMP, TIFF, GIF, HEIC, AVIF, and the previews in RAW files";
/// The formats of images that are read, for messages.
#[cfg(not(feature = "video"))]
pub const READABLE_FORMATS: &str = "JPEG, PNG, WebP, BMP, TIFF, GIF, and the previews in RAW files; \
                                    HEIC and AVIF need a program with the feature `video`";

/// Reads one image file and returns it upright, as 8-bit sRGB; see [`vggt_model::preprocess::read_image`].
///
/// The content decides the format, not the name. Of a HEIF file the primary image is taken, turned as the container
/// says; its EXIF block is ignored.
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
    let file = preprocess::open_regular(path).map_err(fail)?;
    decode_file(&name, file, limits).map_err(|e| match e {
        PreprocessError::Read { source, .. } => fail(source),
        e => e,
    })
}

/// Decodes an image file that is already open, from its beginning; see [`read_image`].
///
/// # Errors
/// As [`read_image`], which names the path.
pub fn decode_file(
    name: &str,
    mut file: File,
    limits: &ImageLimits,
) -> Result<DecodedImage, PreprocessError> {
    if !heif::is_heif(&mut file).unwrap_or(false) {
        return preprocess::decode_file(name, file, limits).map_err(with_formats);
    }
    let metadata = file.metadata().map_err(|source| PreprocessError::Read {
        path: name.into(),
        source,
    })?;
    check_bytes(name, metadata.len(), limits)?;
    heif::decode(name, file, limits)
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
    if !heif::is_heif(&mut Cursor::new(bytes)).unwrap_or(false) {
        return preprocess::decode_image(name, bytes, limits).map_err(with_formats);
    }
    check_bytes(name, bytes.len() as u64, limits)?;
    heif::decode(name, Cursor::new(bytes), limits)
}

/// Names the formats that are read here beyond those of the model's own reader.
fn with_formats(e: PreprocessError) -> PreprocessError {
    match e {
        PreprocessError::NotAnImage { name, .. } => PreprocessError::NotAnImage {
            name,
            known: READABLE_FORMATS,
        },
        e => e,
    }
}

/// Returns true when an open file is an image of a format that [`read_image`] reads, by its content. `head` is its
/// beginning, as far as [`vggt_model::preprocess::is_image`] needs it.
pub(super) fn is_readable(file: &mut File, head: &[u8]) -> bool {
    is_image(head) || heif::is_heif(file).unwrap_or(false)
}

fn check_bytes(name: &str, bytes: u64, limits: &ImageLimits) -> Result<(), PreprocessError> {
    if bytes > limits.max_bytes {
        return Err(PreprocessError::FileTooLarge {
            name: name.to_owned(),
            bytes,
            max_bytes: limits.max_bytes,
        });
    }
    Ok(())
}
