//! What a result is written to: an atomic file, or a stream.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    path::Path,
};

use crate::{atomic_file::AtomicFile, system::Standard};

/// An open target; counts the bytes that are written to it.
#[derive(Debug)]
pub struct Sink {
    to: To,
    written: u64,
}

#[derive(Debug)]
enum To {
    File(AtomicFile),
    Stream(BufWriter<File>),
    Standard(BufWriter<Standard>),
}

impl Sink {
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        Ok(Self::new(To::File(AtomicFile::create(path)?)))
    }

    /// Opens a device, a FIFO (which waits for its reader) or an open file, without cutting it off.
    pub(super) fn stream(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        Ok(Self::new(To::Stream(BufWriter::new(file))))
    }

    /// Writes to a standard stream, at its own position.
    pub(super) fn standard(stream: Standard) -> Self {
        Self::new(To::Standard(BufWriter::new(stream)))
    }

    fn new(to: To) -> Self {
        Self { to, written: 0 }
    }

    /// Returns the number of bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Returns where the bytes of a file lie until the commit, to read them back; they must be flushed first.
    pub fn temporary(&self) -> Option<&Path> {
        match &self.to {
            To::File(file) => Some(file.temporary()),
            To::Stream(_) | To::Standard(_) => None,
        }
    }

    /// Flushes everything; a file takes its name now.
    ///
    /// # Errors
    /// When the disk is full, the name cannot be taken or the reader of a pipe is gone.
    pub fn commit(self) -> io::Result<()> {
        match self.to {
            To::File(file) => file.commit(),
            To::Stream(mut stream) => stream.flush(),
            To::Standard(mut stream) => stream.flush(),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = match &mut self.to {
            To::File(file) => file.write(bytes),
            To::Stream(stream) => stream.write(bytes),
            To::Standard(stream) => stream.write(bytes),
        }?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.to {
            To::File(file) => file.flush(),
            To::Stream(stream) => stream.flush(),
            To::Standard(stream) => stream.flush(),
        }
    }
}
