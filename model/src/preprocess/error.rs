//! Everything that can go wrong between an image file and the network's input.

use std::{io, path::PathBuf};

/// Why images could not become the network's input.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreprocessError {
    /// The file system refused.
    #[error("cannot read \"{}\"", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The bytes are of no image format that is read here.
    #[error("cannot decode \"{name}\": not an image of a known format (known: {known})")]
    NotAnImage {
        /// The image's name.
        name: String,
        /// The formats that are read.
        known: &'static str,
    },
    /// The image is larger than the limits allow; it was not decoded.
    #[error(
        "cannot decode \"{name}\": {width}x{height} pixels are more than the limit of {max_side} pixels \
         a side and {max_pixels} in all; scale the image down first"
    )]
    ImageTooLarge {
        /// The image's name.
        name: String,
        /// Width that its header declares, in pixels.
        width: u32,
        /// Height that its header declares, in pixels.
        height: u32,
        /// The limit that was in force, in pixels.
        max_side: u32,
        /// The limit that was in force, in pixels.
        max_pixels: u64,
    },
    /// The file is longer than any image of the permitted size; it was not read.
    #[error("cannot decode \"{name}\": the file has {bytes} bytes, the limit is {max_bytes}")]
    FileTooLarge {
        /// The image's name.
        name: String,
        /// Length of the file.
        bytes: u64,
        /// The limit that was in force.
        max_bytes: u64,
    },
    /// The file ends before the first pixels, or its format cannot be decoded in part.
    #[error("cannot decode \"{name}\": the file is cut off; copy or download it again")]
    Truncated {
        /// The image's name.
        name: String,
    },
    /// The image is damaged.
    #[error("cannot decode \"{name}\"")]
    Decode {
        /// The image's name.
        name: String,
        /// The error of the decoder.
        #[source]
        source: ::image::ImageError,
    },
    /// The image's container or codec, which is read outside of this crate, is damaged or not supported.
    #[error("cannot decode \"{name}\"")]
    Container {
        /// The image's name.
        name: String,
        /// The error of the reader.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The image is of a variant of its format that is not read.
    #[error("cannot decode \"{name}\": {what} is not read here; save it as JPEG or PNG first")]
    Unsupported {
        /// The image's name.
        name: String,
        /// The variant, with its article: "a TIFF with CMYK colors".
        what: String,
    },
    /// A camera's RAW file has no JPEG inside.
    #[error(
        "cannot decode \"{name}\": {format} is a RAW format, and the file has no JPEG preview; convert it to JPEG, or to \
         DNG with a full-size preview"
    )]
    NoPreview {
        /// The image's name.
        name: String,
        /// Name of the RAW format.
        format: &'static str,
    },
    /// Decoding would take more memory than the limit allows.
    #[error(
        "cannot decode \"{name}\": it takes about {mib} MiB of memory, the limit is {max_mib}; scale the image down first"
    )]
    NeedsMemory {
        /// The image's name.
        name: String,
        /// The estimate, in MiB.
        mib: u64,
        /// The limit that was in force, in MiB.
        max_mib: u64,
    },
    /// There are no images to stack.
    #[error("cannot build the network's input from 0 images; give at least one")]
    Empty,
    /// The network's sizes do not fit each other.
    #[error(
        "cannot preprocess for img_size {img_size} and patch_size {patch_size}: the first must be a \
         multiple of the second and neither may be zero or above 16384"
    )]
    BadSizes {
        /// Side of the network's input, in pixels.
        img_size: usize,
        /// Side of one patch, in pixels.
        patch_size: usize,
    },
    /// The image has no rows or no columns.
    #[error("cannot preprocess \"{name}\": it has no pixels")]
    NoPixels {
        /// The image's name.
        name: String,
    },
    /// The tensor could not be built.
    #[error("cannot build the network's input")]
    Tensor(#[from] candle_core::Error),
}
