#![doc = include_str!("README.md")]
//!
//! # This module
//!
//! The bytes and nothing else: no sockets, no files, no waiting. [`RequestHead`], [`Request`] and [`ImagesDecoder`] decode
//! requests, [`encode`] encodes replies; [`GlbReplyDecoder`] and [`JsonReplyDecoder`] decode replies. The decoders accept
//! bytes in pieces of any size, and never allocate by a length that a peer sent.

pub mod encode;

mod body;
mod decode;
mod error;
mod message;
mod options;
mod reply;
mod request;

pub use body::{
    FileEntry, FileList, FilePage, JobEntry, JobPage, JobStateReply, JobStatusReply, JobWarning,
    ServerInfo, ServerLimits,
};
pub use decode::{ImageLimits, ImagesDecoder, UploadEvent};
pub use error::ProtocolError;
pub use message::{Command, ErrorCode, Hash, Refusal, RequestHead, SubmitKind};
pub use options::ReconstructionOptions;
pub use reply::{GlbEvent, GlbReplyDecoder, JsonReplyDecoder};
pub use request::{LoginRequest, PageRequest, Request};

/// The port of the service, fixed by the older one.
pub const DEFAULT_PORT: u16 = 4567;

/// The newest version of the tables.
pub const PROTOCOL_VERSION: u32 = 2;

/// Bytes of a request before its payload: 1 of command, 4 of length.
pub const HEAD_LEN: usize = 5;

/// Hex digits of a hash (SHA-256).
pub const HASH_LEN: usize = 64;

/// Longest payload of a request that is not an upload, logged in or not: 64 KiB. A name, a password and every JSON body
/// of the tables are far shorter.
pub const SMALL_PAYLOAD_MAX: u32 = 64 << 10;

/// Images in one request unless the server says otherwise.
pub const DEFAULT_MAX_IMAGES: u32 = 300;

/// Longest name in a reply: a known phone client reads no more.
pub const NAME_MAX: u32 = 1024;

/// Longest error where a GLB would be, code and reason: clients take what is under 1 KiB for an error.
pub const ERROR_MAX: u32 = 1023;

/// Most files in a reply to 5 or 13: some 170 kB with names of ordinary length, 3.2 MB at most.
pub const PAGE_MAX: u32 = 1000;

/// Longest JSON reply a client takes: a list of some 70 000 files, as servers sent them before they had pages.
pub const JSON_REPLY_MAX: u32 = 16 << 20;

/// The first bytes of every GLB.
pub const GLB_MAGIC: &[u8; 4] = b"glTF";
