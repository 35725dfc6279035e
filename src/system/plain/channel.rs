//! No process can be handed open files here: nothing is decoded apart.

use std::{
    convert::Infallible,
    fs::File,
    io::{self, PipeReader, Read, Write},
    process::{Child, Command, ExitStatus},
    time::Duration,
};

use crate::system::Ending;

/// Whether this system has channels.
pub(crate) const HAS_CHANNELS: bool = false;

/// A stream to another process, of which there is none here.
#[derive(Debug)]
pub(crate) struct Channel(Infallible);

impl Channel {
    pub(crate) fn set_read_timeout(&self, _: Option<Duration>) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn set_write_timeout(&self, _: Option<Duration>) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        match self.0 {}
    }
}

impl Read for Channel {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match self.0 {}
    }
}

impl Read for &Channel {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match self.0 {}
    }
}

impl Write for Channel {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        match self.0 {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0 {}
    }
}

fn unsupported<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Fails.
pub(crate) fn start_with_channel(
    _: &mut Command,
    _: &str,
) -> io::Result<(Child, PipeReader, Channel)> {
    unsupported()
}

/// Returns how a process ended.
pub(crate) fn ending_of(status: ExitStatus) -> Ending {
    Ending::Exit(status.code().unwrap_or(-1))
}

/// It never is.
pub(crate) fn standard_input_is_a_channel() -> bool {
    false
}

/// Fails.
pub(crate) fn channel_of_standard_input() -> io::Result<Channel> {
    unsupported()
}

/// Is never called.
pub(crate) fn send_with_file(to: &Channel, _: &[u8], _: &File) -> io::Result<usize> {
    match to.0 {}
}

/// Is never called.
pub(crate) fn receive_with_file(from: &Channel, _: &mut [u8]) -> io::Result<(usize, Option<File>)> {
    match from.0 {}
}
