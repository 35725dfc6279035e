//! Why an output cannot be written where the user wants it.

use std::{io, path::PathBuf};

/// Why an output cannot be written where the user wants it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The target is one of the files that are read.
    #[error("cannot write \"{}\": it is an input of the same command", path.display())]
    IsInput {
        /// The target.
        path: PathBuf,
    },
    /// The target exists and something else wrote it.
    #[error("cannot replace \"{}\": the file exists and was not written by vggt", path.display())]
    NotOurs {
        /// The target.
        path: PathBuf,
    },
    /// A folder is in the way of a file.
    #[error("cannot write \"{}\": it is a folder", path.display())]
    IsFolder {
        /// The target.
        path: PathBuf,
    },
    /// A file is in the way of a folder.
    #[error("cannot write into \"{}\": \"{}\" is a file, not a folder", path.display(), file.display())]
    NotAFolder {
        /// The target.
        path: PathBuf,
        /// The file that is in the way.
        file: PathBuf,
    },
    /// A format of several files was sent to a stream.
    #[error("cannot write a folder to \"{}\": it is a device or a pipe", path.display())]
    FolderToStream {
        /// The target.
        path: PathBuf,
    },
    /// A socket or a block device.
    #[error("cannot write to \"{}\": it is a {kind}", path.display())]
    Special {
        /// The target.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Binary data would garble a terminal.
    #[error(
        "cannot write a binary file to a terminal; redirect standard output to a file or a pipe"
    )]
    Terminal,
    /// The ending of a file is none of a known format.
    #[error("unknown ending \".{ending}\" of \"{}\": expected {known}; a folder ends with /", path.display())]
    Ending {
        /// The target.
        path: PathBuf,
        /// Its ending.
        ending: String,
        /// The known endings, for the message.
        known: String,
    },
    /// Two outputs of one command have the same path.
    #[error("cannot write two outputs to \"{}\"", path.display())]
    Twice {
        /// The target.
        path: PathBuf,
    },
    /// The disk has less space than the output is estimated to need.
    #[error(
        "cannot write \"{}\": it needs about {:.1} MB and the disk has {:.1} MB left",
        path.display(), *needed as f64 / 1e6, *free as f64 / 1e6
    )]
    NoSpace {
        /// The target.
        path: PathBuf,
        /// Estimated size in bytes.
        needed: u64,
        /// Bytes that the user may still write.
        free: u64,
    },
    /// The operating system refuses.
    #[error("cannot write \"{}\"", path.display())]
    Io {
        /// The target.
        path: PathBuf,
        /// Its reason.
        #[source]
        source: io::Error,
    },
}

impl OutputError {
    pub(super) fn io(path: &std::path::Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// Returns true when other arguments fix it, rather than another disk or other rights.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::IsInput { .. }
                | Self::Ending { .. }
                | Self::FolderToStream { .. }
                | Self::Terminal
                | Self::Twice { .. }
        )
    }
}
