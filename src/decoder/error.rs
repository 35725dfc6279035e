//! Errors of the process that decodes.

use std::{io, path::PathBuf};

use crate::frames::{FramesError, PreprocessError};

/// Why frames could not be had from the process that decodes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecoderError {
    /// The files cannot be decoded, or decoding was cancelled or took too long.
    #[error(transparent)]
    Frames(#[from] FramesError),
    /// The process failed.
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

impl From<PreprocessError> for DecoderError {
    fn from(e: PreprocessError) -> Self {
        Self::Frames(e.into())
    }
}

/// Why the process that decodes failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// This program's own file cannot be found.
    #[error("cannot start the process that decodes: this program's own file cannot be found")]
    NoProgram,
    /// This system cannot hand open files to another process.
    #[error("this system cannot hand open files to another process")]
    NotHere,
    /// It cannot be started.
    #[error("cannot start the process that decodes")]
    Start(#[source] io::Error),
    /// The program's file does not become the process that decodes.
    #[error("cannot start \"{}\" as the process that decodes: it ended at once: {end}", program.display())]
    NotAgain {
        /// What was started.
        program: PathBuf,
        /// How it ended.
        end: WorkerEnd,
    },
    /// It ended before it had answered.
    #[error("cannot decode \"{name}\": {end}")]
    Ended {
        /// The file.
        name: String,
        /// How it ended.
        end: WorkerEnd,
    },
    /// It is another version of the program.
    #[error(
        "cannot decode: the program's file has version {found} now, this process has {own}; restart it"
    )]
    Version {
        /// Version of the file.
        found: String,
        /// Version of this process.
        own: &'static str,
    },
    /// Its answer is not one that the request can have.
    #[error("cannot decode \"{name}\": the process that decodes gave a wrong answer ({why})")]
    Answer {
        /// The file.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
}

/// How the process that decodes ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerEnd {
    /// It wanted more memory than it may have.
    #[error("decoding it takes more than the {mib} MiB of memory that it may take")]
    Memory {
        /// The limit in MiB.
        mib: u64,
    },
    /// It used more processor time than it may.
    #[error("decoding it takes more than the {seconds} seconds of processor time that it may take")]
    CpuTime {
        /// The limit in seconds, of all threads together.
        seconds: u64,
    },
    /// It made a system call that no decoder needs.
    #[error("its decoder made a forbidden system call")]
    SystemCall,
    /// The system killed it, which it does when memory runs out.
    #[error(
        "the process that decodes was killed (signal 9), as the system does when memory runs out"
    )]
    Killed,
    /// A signal ended it.
    #[error("its decoder crashed (signal {signal})")]
    Signal {
        /// Number of the signal.
        signal: i32,
    },
    /// It ended by itself.
    #[error("its decoder failed (exit code {code})")]
    Exit {
        /// Exit code.
        code: i32,
    },
}
