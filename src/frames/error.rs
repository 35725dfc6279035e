//! Errors between a file and the network's input.

use std::{io, path::PathBuf};

use vggt_model::preprocess::PreprocessError;

use super::{READABLE_FORMATS, SkipReason, SkippedFiles};

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
    /// An image could not be decoded or resized.
    #[error(transparent)]
    Image(#[from] PreprocessError),
    /// The folder holds no image, or none that can be used.
    #[error(
        "cannot find an image that can be used in \"{}\"{}",
        path.display(),
        without_images(skipped)
    )]
    NoImages {
        /// The folder.
        path: PathBuf,
        /// The files in it that are not companions of photos.
        skipped: SkippedFiles,
    },
    /// No frames at all are wanted.
    #[error("cannot build the network's input from 0 images; give at least one")]
    Empty,
    /// The wanted rate is no rate.
    #[error("cannot choose frames at {fps} a second: the rate must be above zero")]
    BadRate {
        /// Frames per second.
        fps: f64,
    },
    /// The file was given as a video and is an image.
    #[error("cannot read \"{}\" as a video: it is an image", path.display())]
    IsImage {
        /// The file.
        path: PathBuf,
    },
    /// Neither the content nor the name says what the file is.
    #[error(
        "cannot read \"{}\": it is neither an image nor a video of a known format (images: {READABLE_FORMATS})",
        path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The program was built without FFmpeg.
    #[cfg(not(feature = "video"))]
    #[error(
        "cannot read \"{}\": this program was built without video support (feature `video`)",
        path.display()
    )]
    VideoUnsupported {
        /// The video file.
        path: PathBuf,
    },
    /// The file is of no video container that is read here, or its index is missing.
    #[cfg(feature = "video")]
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
    #[cfg(feature = "video")]
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
    /// Decoding the clip would take more memory than the limit allows.
    #[error(
        "cannot read \"{}\": decoding its frames of {width}x{height} pixels takes about {mib} MiB of memory, the limit is \
         {max_mib}; scale it down first",
        path.display()
    )]
    VideoNeedsMemory {
        /// The file.
        path: PathBuf,
        /// Width of a frame, in pixels.
        width: u32,
        /// Height of a frame, in pixels.
        height: u32,
        /// The estimate, in MiB.
        mib: u64,
        /// The limit that was in force, in MiB.
        max_mib: u64,
    },
    /// The decoder ran out of memory.
    #[error("cannot read \"{}\": out of memory while it was decoded; scale it down first", path.display())]
    VideoOutOfMemory {
        /// The file.
        path: PathBuf,
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
    /// Decoding all files of a job took longer than the limit.
    #[error(
        "cannot decode \"{name}\": decoding took more than the {max_seconds:.0} seconds that it may take in all; use fewer or \
         smaller images, a shorter video, or raise the limit"
    )]
    TooSlow {
        /// The file at which the time was over.
        name: String,
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
    #[error("cannot look for the sky in an image: {reason}")]
    SkyRun {
        /// Reason.
        reason: String,
    },
    /// The tensor could not be built.
    #[error("cannot build the network's input")]
    Tensor(#[from] candle_core::Error),
}

/// What is in a folder instead of images.
fn without_images(skipped: &SkippedFiles) -> String {
    let is = |file: &&super::SkippedFile, reason| file.reason == reason;
    let video = skipped.0.iter().find(|f| is(f, SkipReason::Video));
    let only_unknown =
        (skipped.0.iter()).all(|f| is(&f, SkipReason::Video) || is(&f, SkipReason::NotAnImage));
    let mut text = String::new();
    if !skipped.0.is_empty() {
        text += &format!(": {skipped}");
    }
    if only_unknown {
        text += &format!(" (subfolders are not searched; known: {READABLE_FORMATS})");
    }
    if let Some(video) = video {
        text += &format!(
            "; to use the video, give {:?} itself instead of the folder",
            video.name
        );
    }
    text
}
