//! A file that is cut off, continued with gray, for formats whose pixels are not compressed.

use std::io::{self, BufRead, Read, Seek, SeekFrom};

use super::shrink::MISSING;

/// What stands in for the missing bytes.
const FILLING: [u8; 4096] = [MISSING; 4096];

/// A reader that gives [`MISSING`] between the end of a file and the length that it should have.
pub(super) struct Padded<R> {
    inner: R,
    /// Length of the file.
    real: u64,
    /// Length that it should have.
    wanted: u64,
    position: u64,
}

impl<R: Seek> Padded<R> {
    pub(super) fn new(mut inner: R, wanted: u64) -> io::Result<Self> {
        let real = inner.seek(SeekFrom::End(0))?;
        inner.rewind()?;
        Ok(Self {
            inner,
            real,
            wanted,
            position: 0,
        })
    }
}

impl<R: BufRead> Read for Padded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(buf.len());
        buf[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl<R: BufRead> BufRead for Padded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position < self.real {
            return self.inner.fill_buf();
        }
        let left = self.wanted.saturating_sub(self.position);
        Ok(&FILLING[..left.min(FILLING.len() as u64) as usize])
    }

    fn consume(&mut self, n: usize) {
        if self.position < self.real {
            self.inner.consume(n);
        }
        self.position += n as u64;
    }
}

impl<R: Seek> Seek for Padded<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.wanted.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        self.inner
            .seek(SeekFrom::Start(self.position.min(self.real)))?;
        Ok(self.position)
    }
}
