//! What can be wrong with a HEIF file.

use std::{fmt, io};

use super::boxes::FourCc;

/// Why a HEIF file gives no image.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeifError {
    /// The file system refused.
    #[error("the file cannot be read")]
    Read(#[source] io::Error),
    /// The file ends before what its boxes point to.
    #[error("the file is cut off")]
    Truncated,
    /// A box contradicts itself or the file.
    #[error("its box \"{}\" is damaged: {what}", Code(*kind))]
    Damaged {
        /// The box.
        kind: FourCc,
        /// What is wrong with it.
        what: String,
    },
    /// The file lacks a part, or its parts contradict each other.
    #[error("the file is damaged: {0}")]
    Broken(String),
    /// The image is larger than the limits allow.
    #[error("the image has {width}x{height} pixels")]
    TooLarge {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// Decoding would take more memory than the limit allows.
    #[error("decoding takes {bytes} bytes")]
    NeedsMemory {
        /// The estimate.
        bytes: u64,
    },
    /// The file is valid, as far as it was read, but of a variant that is not read here, named with its article.
    #[error("{0} is not read here")]
    Unsupported(String),
    /// The coded image is damaged.
    #[cfg(feature = "video")]
    #[error("its {codec} data cannot be decoded")]
    Codec {
        /// Name of the codec.
        codec: &'static str,
        /// The error of FFmpeg.
        #[source]
        source: ffmpeg_next::Error,
    },
}

impl HeifError {
    pub(super) fn damaged(kind: FourCc, what: impl Into<String>) -> Self {
        Self::Damaged {
            kind,
            what: what.into(),
        }
    }
}

impl From<io::Error> for HeifError {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Read(e),
        }
    }
}

/// A four-character code for messages, whatever bytes it consists of.
pub(super) struct Code(pub(super) FourCc);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}
