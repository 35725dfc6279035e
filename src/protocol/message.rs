//! The words of the tables: commands, codes, hashes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{HASH_LEN, HEAD_LEN, ProtocolError};

/// The first byte of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// 1: name and password.
    Login,
    /// 2: images in, a GLB out.
    Images,
    /// 3: a video in, a GLB out.
    Video,
    /// 4: a GLB by its hash.
    GetGlb,
    /// 5: the user's files.
    List,
    /// 6: delete a file.
    Delete,
    /// 7: make a file public or private.
    SetPublic,
    /// 8: images or a video in, a job out.
    Submit,
    /// 9: how a job stands.
    Status,
    /// 10: stop a job.
    Cancel,
    /// 11: options for the next reconstruction.
    Options,
    /// 12: what the server is.
    Info,
    /// 13: a page of the user's files.
    Page,
    /// 14: a page of the user's jobs.
    Jobs,
    /// 15: the scene of a job that is done once more, with other options.
    Rerun,
    /// Any other byte.
    Unknown(u8),
}

impl From<u8> for Command {
    fn from(byte: u8) -> Self {
        match byte {
            1 => Self::Login,
            2 => Self::Images,
            3 => Self::Video,
            4 => Self::GetGlb,
            5 => Self::List,
            6 => Self::Delete,
            7 => Self::SetPublic,
            8 => Self::Submit,
            9 => Self::Status,
            10 => Self::Cancel,
            11 => Self::Options,
            12 => Self::Info,
            13 => Self::Page,
            14 => Self::Jobs,
            15 => Self::Rerun,
            other => Self::Unknown(other),
        }
    }
}

impl From<Command> for u8 {
    fn from(command: Command) -> Self {
        match command {
            Command::Login => 1,
            Command::Images => 2,
            Command::Video => 3,
            Command::GetGlb => 4,
            Command::List => 5,
            Command::Delete => 6,
            Command::SetPublic => 7,
            Command::Submit => 8,
            Command::Status => 9,
            Command::Cancel => 10,
            Command::Options => 11,
            Command::Info => 12,
            Command::Page => 13,
            Command::Jobs => 14,
            Command::Rerun => 15,
            Command::Unknown(byte) => byte,
        }
    }
}

impl Command {
    /// Returns true when the payload carries images or a video, which go to disk as they arrive.
    pub fn is_upload(self) -> bool {
        matches!(self, Self::Images | Self::Video | Self::Submit)
    }

    /// A word for logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Images => "images",
            Self::Video => "video",
            Self::GetGlb => "get",
            Self::List => "list",
            Self::Delete => "delete",
            Self::SetPublic => "set public",
            Self::Submit => "submit",
            Self::Status => "status",
            Self::Cancel => "cancel",
            Self::Options => "options",
            Self::Info => "info",
            Self::Page => "page",
            Self::Jobs => "jobs",
            Self::Rerun => "rerun",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// The five bytes before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHead {
    /// What is asked.
    pub command: Command,
    /// Bytes that follow.
    pub payload_len: u32,
}

impl RequestHead {
    /// Reads a head; every five bytes are one.
    pub fn parse(bytes: [u8; HEAD_LEN]) -> Self {
        let [command, length @ ..] = bytes;
        Self {
            command: command.into(),
            payload_len: u32::from_be_bytes(length),
        }
    }

    /// The head as it is sent.
    pub fn to_bytes(self) -> [u8; HEAD_LEN] {
        let [a, b, c, d] = self.payload_len.to_be_bytes();
        [self.command.into(), a, b, c, d]
    }
}

/// The first byte of a submitted payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmitKind {
    /// 2: the payload of command 2 follows.
    Images,
    /// 3: the payload of command 3 follows.
    Video,
}

impl TryFrom<u8> for SubmitKind {
    type Error = ProtocolError;

    fn try_from(byte: u8) -> Result<Self, ProtocolError> {
        match byte {
            2 => Ok(Self::Images),
            3 => Ok(Self::Video),
            other => Err(ProtocolError::SubmitKind(other)),
        }
    }
}

impl From<SubmitKind> for u8 {
    fn from(kind: SubmitKind) -> Self {
        match kind {
            SubmitKind::Images => 2,
            SubmitKind::Video => 3,
        }
    }
}

/// What went wrong, as it is spelled on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// Log in first.
    NotLoggedIn,
    /// No reconstruction came of these images.
    ImageRequest,
    /// No reconstruction came of this video.
    VideoRequest,
    /// Not 64 hex digits.
    InvalidHash,
    /// No such file, or not for this user.
    HashNotFound,
    /// The row is there, the bytes are gone.
    FileMissing,
    /// No such command.
    UnknownCommand,
    /// Version 2: a payload that is not as in the table.
    BadRequest,
    /// Version 2: no such job, or another user's.
    JobNotFound,
    /// Version 2: the server's own fault.
    Internal,
}

impl ErrorCode {
    /// The wire's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotLoggedIn => "ERROR_NOT_LOGGED_IN",
            Self::ImageRequest => "ERROR_IMAGE_REQUEST",
            Self::VideoRequest => "ERROR_VIDEO_REQUEST",
            Self::InvalidHash => "ERROR_INVALID_HASH",
            Self::HashNotFound => "ERROR_HASH_NOT_FOUND",
            Self::FileMissing => "ERROR_FILE_MISSING",
            Self::UnknownCommand => "UNKNOWN_COMMAND",
            Self::BadRequest => "ERROR_BAD_REQUEST",
            Self::JobNotFound => "ERROR_JOB_NOT_FOUND",
            Self::Internal => "ERROR_INTERNAL",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error as a client receives it. A code this version does not know is kept as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("the server answers {error}{}{reason}", if reason.is_empty() { "" } else { ": " })]
pub struct Refusal {
    /// The code.
    pub error: String,
    /// More about it, often empty.
    #[serde(default)]
    pub reason: String,
}

impl Refusal {
    /// Reads `CODE` or `CODE: reason`, the form of version 1.
    pub fn from_text(text: &str) -> Self {
        let (error, reason) = text.split_once(": ").unwrap_or((text, ""));
        Self {
            error: error.to_owned(),
            reason: reason.to_owned(),
        }
    }

    /// Returns true when this is `code`.
    pub fn is(&self, code: ErrorCode) -> bool {
        self.error == code.as_str()
    }
}

/// The name of a stored GLB: 64 hex digits, kept in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(String);

impl Hash {
    /// Reads the hex digits, of either case.
    ///
    /// # Errors
    /// When it is anything but 64 hex digits.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProtocolError> {
        let len = bytes.len();
        let refused = || ProtocolError::Hash { len };
        if len != HASH_LEN || !bytes.iter().all(u8::is_ascii_hexdigit) {
            return Err(refused());
        }
        let text = std::str::from_utf8(bytes).map_err(|_| refused())?;
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hash {
    type Err = ProtocolError;

    fn from_str(s: &str) -> Result<Self, ProtocolError> {
        Self::parse(s.as_bytes())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}
