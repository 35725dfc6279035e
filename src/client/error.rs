//! Errors between a client and its server.

use std::{io, path::PathBuf, time::Duration};

use crate::protocol::{ProtocolError, Refusal};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// There is no server at the address.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Host and port.
        address: String,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The server's own answer; the connection stays usable.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Name or password are wrong, or the user is disabled: the server does not tell which.
    #[error("cannot log in as {name:?}: the server refuses the name or the password")]
    LoginRefused {
        /// The user's name.
        name: String,
    },
    /// The server sent what no table has.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// Nothing moved for too long.
    #[error("gave up after {} s: {what}", limit.as_secs())]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// How long.
        limit: Duration,
    },
    /// The connection broke.
    #[error("lost the connection: {what}: {source}")]
    Lost {
        /// What was going on.
        what: &'static str,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// An earlier request on this connection failed halfway, so the next reply could not be distinguished from the rest of its own.
    #[error("cannot send a request after one that broke off: connect again")]
    Broken,
    /// The pages of a list do not come to an end.
    #[error("cannot list the files: the server's pages do not end; is this a vggt server?")]
    Pages,
    /// A file to send cannot be read.
    #[error("cannot send \"{}\": {source}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// A file to send became shorter while it was sent.
    #[error("cannot send \"{}\": it became shorter while it was read", path.display())]
    Shrunk {
        /// The file.
        path: PathBuf,
    },
    /// Nothing to send, or more than the length on the wire can say.
    #[error("cannot send {files} files of {bytes} bytes in one request: {fix}")]
    Size {
        /// How many.
        files: usize,
        /// Their bytes.
        bytes: u64,
        /// What to do.
        fix: &'static str,
    },
    /// The GLB came but could not be written.
    #[error("cannot write the GLB: {0}")]
    Output(#[source] io::Error),
}

impl ClientError {
    /// The server's answer, when there was one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Returns true when the connection broke.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }
}
