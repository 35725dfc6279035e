//! Decoding strangers' images and videos in another process, `vggt decode-worker`, that can do nothing else.
//!
//! A mistake in a decoder, or a file that is small on the disk and large in memory, then costs one job and not the service.
//! The process is this same program ([`Worker`] finds it), started for one job. It is handed files that are open already, one
//! at a time, and gives back frames at the network's size; it has limits on memory, processor time and files, and loses what
//! else it could do before it sees the first byte of a file (`sandbox`): see the list in SECURITY.md.
//!
//! [`Session`] is the side of this process, over a `link` to the other: it starts it, asks for frames, and ends it. `worker` is the other
//! side, `protocol` what they say to each other, `failure` errors on the way. Nothing that the other process says is trusted:
//! lengths and sizes are checked against what was asked for before anything is allocated.

mod error;
mod failure;
mod link;
mod log;
mod note;
mod process;
mod program;
mod protocol;
mod sandbox;
mod session;
mod waiting;
mod wire;
mod worker;

pub use error::{DecoderError, WorkerEnd, WorkerError};
pub use program::Worker;
pub use protocol::Shape;
pub use session::{Allowance, Decoded, Read, Session, Video};
pub use worker::work;

/// Where images and videos are decoded.
#[derive(Debug, Clone, Default)]
pub enum Decoding {
    /// In this process.
    #[default]
    Here,
    /// In a process of its own for each job.
    Isolated(Worker),
}
