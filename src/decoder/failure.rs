//! Errors of reading a file, on their way from one process to the other: they read the same on both sides.

use std::{error::Error, fmt, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{note::raw_format, protocol::Bits};
use crate::frames::{FramesError, ImageLimits, PreprocessError, READABLE_FORMATS, VideoLimits};

/// Why a file cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Failure {
    /// The image, or the frame of a video with this name.
    Image(String, ImageFailure),
    Read(Io),
    BadRate(Bits),
    Empty,
    IsImage,
    UnknownFormat,
    Unsupported,
    /// An error number of FFmpeg.
    NotAVideo(i32),
    NoVideoStream,
    /// An error number of FFmpeg.
    Codec(i32),
    TooLong(Bits),
    TooLarge(u32, u32),
    NeedsMemory(u32, u32, u64),
    OutOfMemory,
    TooSlow,
    NoFrames,
    /// Texts of an error and its causes.
    Other(Vec<String>),
}

/// [`PreprocessError`] on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ImageFailure {
    Read(Io),
    NotAnImage,
    TooLarge(u32, u32),
    FileTooLarge(u64),
    Truncated,
    /// Texts of the causes.
    Damaged(Vec<String>),
    Unsupported(String),
    NoPreview(String),
    NeedsMemory(u64),
    NoPixels,
    /// Texts of an error and its causes.
    Other(Vec<String>),
}

/// An error of the system, or its text where it has no number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Io(Option<i32>, String);

/// What was asked for, which the errors of a file repeat.
pub(super) struct Asked<'a> {
    pub(super) path: &'a Path,
    pub(super) images: ImageLimits,
    pub(super) videos: VideoLimits,
}

/// Longest text that is taken from the other process, in characters.
const MAX_TEXT: usize = 1000;

/// Causes of an error, at most.
const MAX_CAUSES: usize = 8;

/// Returns a text without control characters and of a limited length.
pub(super) fn tidy(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(MAX_TEXT).map(plain).collect()
}

/// An error of the other process: its text, and its cause.
#[derive(Debug)]
struct Told {
    text: String,
    cause: Option<Box<Told>>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Told {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

impl Told {
    fn of(texts: &[String]) -> Box<Self> {
        let mut told = None;
        for text in texts.iter().take(MAX_CAUSES).rev() {
            let text = tidy(text);
            told = Some(Box::new(Self { text, cause: told }));
        }
        told.unwrap_or_else(|| {
            Box::new(Self {
                text: "unknown".to_owned(),
                cause: None,
            })
        })
    }
}

/// The texts of an error and of its causes.
fn texts(e: &dyn Error) -> Vec<String> {
    std::iter::successors(Some(e), |e| (*e).source())
        .take(MAX_CAUSES)
        .map(|e| tidy(&e.to_string()))
        .collect()
}

impl From<&io::Error> for Io {
    fn from(e: &io::Error) -> Self {
        Self(e.raw_os_error(), tidy(&e.to_string()))
    }
}

impl From<Io> for io::Error {
    fn from(Io(number, text): Io) -> Self {
        number.map_or_else(|| Self::other(tidy(&text)), Self::from_raw_os_error)
    }
}

impl From<&PreprocessError> for ImageFailure {
    fn from(e: &PreprocessError) -> Self {
        match e {
            PreprocessError::Read { source, .. } => Self::Read(source.into()),
            PreprocessError::NotAnImage { .. } => Self::NotAnImage,
            PreprocessError::ImageTooLarge { width, height, .. } => Self::TooLarge(*width, *height),
            PreprocessError::FileTooLarge { bytes, .. } => Self::FileTooLarge(*bytes),
            PreprocessError::Truncated { .. } => Self::Truncated,
            PreprocessError::Decode { source, .. } => Self::Damaged(texts(source)),
            PreprocessError::Container { source, .. } => Self::Damaged(texts(&**source)),
            PreprocessError::Unsupported { what, .. } => Self::Unsupported(what.clone()),
            PreprocessError::NoPreview { format, .. } => Self::NoPreview((*format).to_owned()),
            PreprocessError::NeedsMemory { mib, .. } => Self::NeedsMemory(*mib),
            PreprocessError::NoPixels { .. } => Self::NoPixels,
            e => Self::Other(texts(e)),
        }
    }
}

impl ImageFailure {
    /// The error of an image of this name.
    pub(super) fn told(self, name: &str, asked: &Asked<'_>) -> PreprocessError {
        let name = name.to_owned();
        let limits = asked.images;
        match self {
            Self::Read(e) => PreprocessError::Read {
                path: asked.path.to_path_buf(),
                source: e.into(),
            },
            Self::NotAnImage => PreprocessError::NotAnImage {
                name,
                known: READABLE_FORMATS,
            },
            Self::TooLarge(width, height) => PreprocessError::ImageTooLarge {
                name,
                width,
                height,
                max_side: limits.max_side,
                max_pixels: limits.max_pixels,
            },
            Self::FileTooLarge(bytes) => PreprocessError::FileTooLarge {
                name,
                bytes,
                max_bytes: limits.max_bytes,
            },
            Self::Truncated => PreprocessError::Truncated { name },
            Self::Unsupported(what) => PreprocessError::Unsupported {
                name,
                what: tidy(&what),
            },
            Self::NoPreview(format) => PreprocessError::NoPreview {
                name,
                format: raw_format(&format).unwrap_or("camera RAW"),
            },
            Self::NeedsMemory(mib) => PreprocessError::NeedsMemory {
                name,
                mib,
                max_mib: limits.max_memory >> 20,
            },
            Self::NoPixels => PreprocessError::NoPixels { name },
            Self::Damaged(texts) | Self::Other(texts) => PreprocessError::Container {
                name,
                source: Told::of(&texts),
            },
        }
    }
}

impl From<&FramesError> for Failure {
    fn from(e: &FramesError) -> Self {
        match e {
            FramesError::Image(e) => Self::Image(name_of(e), e.into()),
            FramesError::Read { source, .. } => Self::Read(source.into()),
            FramesError::BadRate { fps } => Self::BadRate((*fps).into()),
            FramesError::Empty => Self::Empty,
            FramesError::IsImage { .. } => Self::IsImage,
            FramesError::UnknownFormat { .. } => Self::UnknownFormat,
            #[cfg(not(feature = "video"))]
            FramesError::VideoUnsupported { .. } => Self::Unsupported,
            #[cfg(feature = "video")]
            FramesError::NotAVideo { source, .. } => Self::NotAVideo((*source).into()),
            FramesError::NoVideoStream { .. } => Self::NoVideoStream,
            #[cfg(feature = "video")]
            FramesError::VideoCodec { source, .. } => Self::Codec((*source).into()),
            FramesError::VideoTooLong { seconds, .. } => Self::TooLong((*seconds).into()),
            FramesError::VideoTooLarge { width, height, .. } => Self::TooLarge(*width, *height),
            FramesError::VideoNeedsMemory {
                width, height, mib, ..
            } => Self::NeedsMemory(*width, *height, *mib),
            FramesError::VideoOutOfMemory { .. } => Self::OutOfMemory,
            FramesError::VideoTooSlow { .. } => Self::TooSlow,
            FramesError::NoFrames { .. } => Self::NoFrames,
            e => Self::Other(texts(e)),
        }
    }
}

/// The frame of a video that an error names.
fn name_of(e: &PreprocessError) -> String {
    match e {
        PreprocessError::NoPixels { name } | PreprocessError::NeedsMemory { name, .. } => {
            name.clone()
        }
        _ => String::new(),
    }
}

impl Failure {
    /// The error of the file that was asked for.
    pub(super) fn told(self, asked: &Asked<'_>) -> FramesError {
        let path = asked.path.to_path_buf();
        let limits = asked.videos;
        match self {
            Self::Image(name, failure) => failure.told(&tidy(&name), asked).into(),
            Self::Read(e) => FramesError::Read {
                path,
                source: e.into(),
            },
            Self::BadRate(fps) => FramesError::BadRate { fps: fps.into() },
            Self::Empty => FramesError::Empty,
            Self::IsImage => FramesError::IsImage { path },
            Self::NoVideoStream => FramesError::NoVideoStream { path },
            Self::TooLong(seconds) => FramesError::VideoTooLong {
                path,
                seconds: seconds.into(),
                max_seconds: limits.max_duration_s,
            },
            Self::TooLarge(width, height) => FramesError::VideoTooLarge {
                path,
                width,
                height,
                max_pixels: limits.max_pixels,
            },
            Self::NeedsMemory(width, height, mib) => FramesError::VideoNeedsMemory {
                path,
                width,
                height,
                mib,
                max_mib: limits.max_memory >> 20,
            },
            Self::OutOfMemory => FramesError::VideoOutOfMemory { path },
            Self::TooSlow => FramesError::VideoTooSlow {
                path,
                max_seconds: limits.max_wall_time.as_secs_f64(),
            },
            Self::NoFrames => FramesError::NoFrames { path },
            #[cfg(feature = "video")]
            Self::NotAVideo(number) => FramesError::NotAVideo {
                path,
                source: number.into(),
            },
            #[cfg(feature = "video")]
            Self::Codec(number) => FramesError::VideoCodec {
                path,
                source: number.into(),
            },
            #[cfg(not(feature = "video"))]
            Self::Unsupported => FramesError::VideoUnsupported { path },
            Self::Other(texts) => FramesError::Read {
                path,
                source: io::Error::other(Told::of(&texts)),
            },
            _ => FramesError::UnknownFormat { path },
        }
    }
}

#[cfg(test)]
mod tests;
