//! Why a spool cannot be used.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why a spool cannot be created, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// Something else is there.
    #[error("cannot use \"{}\" as a spool: {why}", path.display())]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another version of this program wrote it.
    #[error("cannot use the spool \"{}\": it has version {found}, and this program reads version {own}", path.display())]
    Version {
        /// The folder.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The version that is read.
        own: u64,
    },
    /// Another process works on it.
    #[error("cannot use the spool \"{}\": another process is at work on it", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// It belongs to another reconstruction.
    #[error("cannot go on with the spool \"{}\": {what}", path.display())]
    Changed {
        /// The folder.
        path: PathBuf,
        /// What is not as it was when the spool was begun.
        what: String,
    },
    /// Results do not have the size of the frames.
    #[error("cannot keep {name} of frame {frame}: expected {expected} values, got {found}")]
    Size {
        /// Name of the tensor.
        name: &'static str,
        /// The frame.
        frame: usize,
        /// Expected number of values.
        expected: usize,
        /// Number of values.
        found: usize,
    },
    /// The operating system refuses.
    #[error("cannot {what} \"{}\"", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Its reason.
        #[source]
        source: io::Error,
    },
    /// A tensor cannot be read.
    #[error("cannot read a result of the network")]
    Tensor(#[from] candle_core::Error),
}

/// Returns what makes an error of the operating system one of a spool.
pub(super) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SpoolError {
    let path = path.to_owned();
    move |source| SpoolError::Io { what, path, source }
}
