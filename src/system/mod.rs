//! What the program asks of the operating system and the standard library does not offer on every one.
//!
//! `unix` asks a Unix system, `plain` has the same functions from the standard library alone and says what it cannot do: it
//! is for every other system, and for the feature `portable`, which shows on Linux that the program compiles there. No other
//! module calls a system by name, except `decoder/sandbox`, which is about one. `tests/portable.rs` checks it.

#[cfg(not(unix_calls))]
mod plain;
#[cfg(unix_calls)]
mod unix;

#[cfg(not(unix_calls))]
pub(crate) use plain::*;
#[cfg(unix_calls)]
pub(crate) use unix::*;

/// Space of a disk, in bytes. Some file systems, such as those of containers' kernels, report 0 of 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Space {
    /// What this process may still write.
    pub(crate) free: u64,
    /// Size of the disk.
    pub(crate) total: u64,
}

/// How a file in a folder is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// For reading alone.
    Read,
    /// For reading and writing.
    Write,
    /// As [`Access::Write`]; an empty file is created where there is none.
    Create,
    /// As [`Access::Create`]; what was in it is gone.
    Replace,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(unix_calls),
    allow(
        dead_code,
        reason = "elsewhere a process has an exit code, whatever ended it"
    )
)]
pub(crate) enum Ending {
    /// By itself, with this code.
    Exit(i32),
    /// It gave up, by this signal.
    Aborted(i32),
    /// It used more processor time than it may.
    CpuTime,
    /// It made a system call that it may not make.
    SystemCall,
    /// It was killed.
    Killed,
    /// By this signal.
    Signal(i32),
}
