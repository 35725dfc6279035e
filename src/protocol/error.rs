//! What a peer can get wrong.

use super::{Command, ErrorCode};

/// Why bytes of a peer are not what the tables say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A request that ends before its parts do.
    #[error("cannot read {what}: it takes {needed} bytes, the payload has {left} left")]
    TooShort {
        /// Which part.
        what: &'static str,
        /// Bytes that part takes.
        needed: u64,
        /// Bytes there are.
        left: u32,
    },
    /// Images without an image.
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
    /// An image of no bytes.
    #[error("cannot read image {index}: it is empty")]
    EmptyImage {
        /// Counted from 0.
        index: u32,
    },
    /// Bytes after the last image.
    #[error("cannot place {left} bytes after the last image: the payload length is too large")]
    TrailingBytes {
        /// How many.
        left: u32,
    },
    /// Not a hash.
    #[error("cannot take {len} bytes as a hash: it is 64 hex digits without a suffix")]
    Hash {
        /// Bytes given.
        len: usize,
    },
    /// Not the JSON of the table.
    #[error("cannot read {what} as JSON: {detail}")]
    Json {
        /// Which body.
        what: &'static str,
        /// What the parser said, without the value where that could be a password.
        detail: String,
    },
    /// A misspelt option.
    #[error("cannot set {name:?}: the options are {known}")]
    UnknownOption {
        /// As sent.
        name: String,
        /// All there are.
        known: String,
    },
    /// A job of no known kind.
    #[error("cannot submit a job of kind {0}: 2 is images, 3 is a video")]
    SubmitKind(u8),
    /// A payload that does not fit the command's limit.
    #[error("cannot take a payload of {len} bytes for {command:?}: at most {max}")]
    PayloadTooLong {
        /// Of which request.
        command: Command,
        /// Its length.
        len: u64,
        /// The limit.
        max: u64,
    },
    /// A command that has no small payload: an upload, or unknown.
    #[error("cannot read a small payload for {0:?}")]
    NotSmall(Command),
    /// A reply of no bytes.
    #[error("the reply is empty: the server failed")]
    EmptyReply,
    /// A reply longer than its kind may be.
    #[error("cannot take {what} of {len} bytes: at most {max}; is this a vggt server?")]
    ReplyTooLong {
        /// Which part.
        what: &'static str,
        /// Its length.
        len: u32,
        /// The limit.
        max: u32,
    },
    /// Text that is none.
    #[error("cannot read {0} as UTF-8; is this a vggt server?")]
    NotText(&'static str),
    /// Neither a GLB nor an error.
    #[error("cannot use a reply of {len} bytes: it neither starts with glTF nor is it an error")]
    NotAGlb {
        /// Its length.
        len: u32,
    },
}

impl ProtocolError {
    /// The code that tells the sender of `command`.
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
