//! The same from the standard library alone, for a system that is not a Unix.

mod channel;
mod files;
mod folder;
mod signals;

pub(crate) use channel::{
    Channel, HAS_CHANNELS, channel_of_standard_input, ending_of, receive_with_file, send_with_file,
    standard_input_is_a_channel, start_with_channel,
};
pub(crate) use files::*;
pub(crate) use folder::OpenFolder;
pub(crate) use signals::{StopSignals, exit_now, on_ending_signals};

use std::{
    io::{self, Write},
    path::PathBuf,
};

/// A standard stream.
#[derive(Debug)]
pub(crate) enum Standard {
    Output,
    Error,
}

impl Write for Standard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Output => io::stdout().write(bytes),
            Self::Error => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Output => io::stdout().flush(),
            Self::Error => io::stderr().flush(),
        }
    }
}

/// Returns standard output.
pub(crate) fn standard_output() -> io::Result<Standard> {
    Ok(Standard::Output)
}

/// Returns standard error.
pub(crate) fn standard_error() -> io::Result<Standard> {
    Ok(Standard::Error)
}

/// Unknown here: no journal of systemd reads it.
pub(crate) fn standard_error_id() -> Option<String> {
    None
}

/// Unknown here.
pub(crate) fn free_memory() -> Option<u64> {
    None
}

/// Unknown here.
pub(crate) fn started_as() -> Option<PathBuf> {
    None
}
