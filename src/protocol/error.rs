//! Errors in the bytes of a peer.

use super::{Command, ErrorCode};

/// Why bytes of a peer do not match the tables.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A request ends before all its parts are there.
    #[error("cannot read {what}: it takes {needed} bytes, the payload has {left} left")]
    TooShort {
        /// The part.
        what: &'static str,
        /// Length of the part in bytes.
        needed: u64,
        /// Remaining bytes of the payload.
        left: u32,
    },
    /// A request of 0 images.
    #[error("cannot reconstruct 0 images: send at least 1")]
    NoImages,
    /// More images than allowed.
    #[error("cannot take {count} images: at most {max} in one request")]
    TooManyImages {
        /// Images announced.
        count: u32,
        /// Images allowed.
        max: u32,
    },
    /// An image of 0 bytes.
    #[error("cannot read image {index}: it is empty")]
    EmptyImage {
        /// Index of the image, counted from 0.
        index: u32,
    },
    /// Bytes after the last image.
    #[error("cannot place {left} bytes after the last image: the payload length is too large")]
    TrailingBytes {
        /// Number of bytes.
        left: u32,
    },
    /// Not a hash.
    #[error("cannot take {len} bytes as a hash: it is 64 hex digits without a suffix")]
    Hash {
        /// Length of the text in bytes.
        len: usize,
    },
    /// Not the JSON of the table.
    #[error("cannot read {what} as JSON: {detail}")]
    Json {
        /// The body.
        what: &'static str,
        /// Error of the parser, without the value where that could be a password.
        detail: String,
    },
    /// A job of an unknown kind.
    #[error("cannot submit a job of kind {0}: 2 is images, 3 is a video")]
    SubmitKind(u8),
    /// A payload that does not fit the command's limit.
    #[error("cannot take a payload of {len} bytes for {command:?}: at most {max}")]
    PayloadTooLong {
        /// Command of the request.
        command: Command,
        /// Length of the payload in bytes.
        len: u64,
        /// Maximum length.
        max: u64,
    },
    /// A command without a small payload: an upload, or an unknown one.
    #[error("cannot read a small payload for {0:?}")]
    NotSmall(Command),
    /// A reply of 0 bytes.
    #[error("the reply is empty: the server failed")]
    EmptyReply,
    /// A reply longer than its kind may be.
    #[error("cannot take {what} of {len} bytes: at most {max}; is this a vggt server?")]
    ReplyTooLong {
        /// The part.
        what: &'static str,
        /// Length in bytes.
        len: u32,
        /// Maximum length.
        max: u32,
    },
    /// Not valid UTF-8.
    #[error("cannot read {0} as UTF-8; is this a vggt server?")]
    NotText(&'static str),
    /// Neither a GLB nor an error.
    #[error("cannot use a reply of {len} bytes: it neither starts with glTF nor is it an error")]
    NotAGlb {
        /// Length in bytes.
        len: u32,
    },
}

impl ProtocolError {
    /// Returns the code with which `command` is answered.
    pub fn code(&self, command: Command) -> ErrorCode {
        match (self, command) {
            (_, Command::Unknown(_)) => ErrorCode::UnknownCommand,
            (Self::Hash { .. }, _) => ErrorCode::InvalidHash,
            (_, Command::GetGlb) => ErrorCode::InvalidHash,
            (_, Command::Images) => ErrorCode::ImageRequest,
            (_, Command::Video) => ErrorCode::VideoRequest,
            (
                Self::TooShort { .. }
                | Self::NoImages
                | Self::TooManyImages { .. }
                | Self::EmptyImage { .. }
                | Self::TrailingBytes { .. },
                Command::Submit,
            ) => ErrorCode::ImageRequest,
            _ => ErrorCode::BadRequest,
        }
    }
}
