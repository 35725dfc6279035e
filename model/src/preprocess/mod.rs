//! Image files to the network's input: decoding, resizing as Pillow does, cropping or padding, stacking.
//!
//! [`load_and_preprocess_images`] does all of it for a list of files:
//!
//! ```
//! use vggt_model::{
//!     Config,
//!     preprocess::{PreprocessMode, load_and_preprocess_images},
//! };
//!
//! let paths = ["demo/frames/frame_00.png", "demo/frames/frame_01.png"];
//! let frames = load_and_preprocess_images(&paths, PreprocessMode::Crop, &Config::default())?;
//! // VGGT-1B's width, and the height in proportion: 280 x 210 pixels become 518 x 392.
//! assert_eq!(frames.images.dims(), [2, 3, 392, 518]);
//! # Ok::<(), vggt_model::preprocess::PreprocessError>(())
//! ```
//!
//! The steps are public as well: [`read_image`] or [`decode_image`] returns a [`DecodedImage`], [`preprocess()`] makes it
//! [`Prepared`], and [`stack()`] gathers the [`Frames`]. Pixels are computed exactly as by upstream's
//! `load_and_preprocess_images`; what differs is named at each step.
//!
//! Folders and videos are not read here.

mod animated;
mod bmp;
mod color;
mod decode;
mod error;
mod fit;
mod ifd;
mod jpeg;
mod mask;
mod note;
mod orientation;
mod padded;
mod plain;
mod png;
mod raw;
mod resample;
mod shrink;
mod stack;
mod stored;
mod tiff;
mod tiff_kinds;

use std::path::Path;

pub use color::ColorConversion;
pub use decode::{
    DecodedImage, ImageLimits, READABLE_FORMATS, SIGNATURE_BYTES, decode_file, decode_image,
    is_image, open_regular, read_image,
};
pub use error::PreprocessError;
pub use fit::{Fitted, Placement, Prepared, PreprocessMode, fitted, preprocess};
pub use mask::{decode_mask, mask_of};
pub use note::ImageNote;
pub use orientation::exif_chunk;
pub use plain::is_plain_rgb;
pub use raw::FORMAT_NAMES as RAW_FORMATS;
pub use stack::{Frames, stack};

use crate::config::Config;

/// Reads image files and brings them to the size of the network that `config` describes.
///
/// Port of vggt/utils/load_fn.py, `load_and_preprocess_images`. Images have the limits of [`ImageLimits::default`].
///
/// # Errors
/// When there are no paths, or a file cannot be read, decoded or resized.
pub fn load_and_preprocess_images(
    paths: &[impl AsRef<Path>],
    mode: PreprocessMode,
    config: &Config,
) -> Result<Frames, PreprocessError> {
    let limits = ImageLimits::default();
    let prepared = paths.iter().map(|path| {
        let image = read_image(path.as_ref(), &limits)?;
        preprocess(image, mode, config.img_size, config.patch_size)
    });
    stack(prepared.collect::<Result<_, _>>()?)
}
