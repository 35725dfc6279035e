//! Errors between a file and the network's input.

use std::{io, path::PathBuf};

use super::image::READABLE_FORMATS;

/// Why frames cannot be read from an image, a folder or a video.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FramesError {
    /// The file or folder cannot be read.
    #[error("cannot read \"{}\"", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// Not an image of a known format.
    #[error(
        "cannot decode \"{name}\": not a picture of a known format (known: {READABLE_FORMATS})"
    )]
    NotAPicture {
        /// Name of the image.
        name: String,
    },
    /// The image is larger than the limits allow; it was not decoded.
    #[error(
        "cannot decode \"{name}\": {width}x{height} pixels are more than the limit of {max_side} pixels \
         a side and {max_pixels} in all; scale the picture down first"
    )]
    PictureTooLarge {
        /// Name of the image.
        name: String,
        /// Width that its header declares, in pixels.
        width: u32,
        /// Height that its header declares, in pixels.
        height: u32,
        /// The limit in pixels.
        max_side: u32,
        /// The limit in pixels.
        max_pixels: u64,
    },
    /// The file is longer than any image of the permitted size; it was not read.
    #[error("cannot decode \"{name}\": the file has {bytes} bytes, the limit is {max_bytes}")]
    FileTooLarge {
        /// Name of the image.
        name: String,
        /// Length of the file.
        bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// The file ends before the image does.
    #[error("cannot decode \"{name}\": the file is cut off; copy or download it again")]
    Truncated {
        /// Name of the image.
        name: String,
    },
    /// The image is damaged, or of a variant the decoder does not know.
    #[error("cannot decode \"{name}\"")]
    DecodePicture {
        /// Name of the image.
        name: String,
        /// Error of the decoder.
        #[source]
        source: ::image::ImageError,
    },
    /// The folder contains no images.
    #[error("cannot find a picture in \"{}\" (sub-folders are not searched; known: {READABLE_FORMATS})", path.display())]
    NoPictures {
        /// The folder.
        path: PathBuf,
    },
    /// There are no images to stack.
    #[error("cannot build the network's input from 0 pictures; give at least one")]
    Empty,
    /// The image size is not a multiple of the patch size.
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
        /// Name of the image.
        name: String,
    },
    /// The frame rate is not a positive number.
    #[error("cannot choose frames at {fps} a second: the rate must be above zero")]
    BadRate {
        /// Frames per second.
        fps: f64,
    },
    /// Not a video of a known container format, or its index is missing.
    #[error("cannot read \"{}\" as a video: it is damaged, cut off or no video", path.display())]
    NotAVideo {
        /// The file.
        path: PathBuf,
        /// Error of FFmpeg.
        #[source]
        source: ffmpeg_next::Error,
    },
    /// The file holds sound or data, but no video.
    #[error("cannot read \"{}\" as a video: it has no video stream", path.display())]
    NoVideoStream {
        /// The file.
        path: PathBuf,
    },
    /// The video's codec is missing or does not accept the stream.
    #[error("cannot decode \"{}\": its codec is not supported; convert it to H.264 first", path.display())]
    VideoCodec {
        /// The file.
        path: PathBuf,
        /// Error of FFmpeg.
        #[source]
        source: ffmpeg_next::Error,
    },
    /// The clip is longer than the limit.
    #[error(
        "cannot read \"{}\": it lasts {seconds:.0} seconds or more, the limit is {max_seconds:.0}; cut it or raise the limit",
        path.display()
    )]
    VideoTooLong {
        /// The file.
        path: PathBuf,
        /// Length as far as it is known, in seconds.
        seconds: f64,
        /// The limit.
        max_seconds: f64,
    },
    /// The clip's frames are larger than the limit.
    #[error(
        "cannot read \"{}\": its frames have {width}x{height} pixels, the limit is {max_pixels} in all; \
         scale it down or raise the limit",
        path.display()
    )]
    VideoTooLarge {
        /// The file.
        path: PathBuf,
        /// Width of a frame, in pixels.
        width: u32,
        /// Height of a frame, in pixels.
        height: u32,
        /// The limit in pixels.
        max_pixels: u64,
    },
    /// Reading took longer than the limit.
    #[error(
        "cannot read \"{}\" within {max_seconds:.0} seconds; cut it or raise the limit",
        path.display()
    )]
    VideoTooSlow {
        /// The file.
        path: PathBuf,
        /// The limit.
        max_seconds: f64,
    },
    /// No frame could be decoded.
    #[error("cannot decode a frame of \"{}\": it is damaged or empty", path.display())]
    NoFrames {
        /// The file.
        path: PathBuf,
    },
    /// The caller asked to stop.
    #[error("cannot go on reading: cancelled")]
    Cancelled,
    /// The file is not the sky network.
    #[error("cannot read \"{}\" as the sky network", path.display())]
    SkyNetwork {
        /// The file.
        path: PathBuf,
        /// Reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The sky network did not return a map.
    #[error("cannot look for the sky in a picture: {reason}")]
    SkyRun {
        /// Reason.
        reason: String,
    },
    /// The tensor could not be built.
    #[error("cannot build the network's input")]
    Tensor(#[from] candle_core::Error),
}
