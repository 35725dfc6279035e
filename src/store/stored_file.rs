//! A file of the store, open for reading: on a disk, or in a bucket.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use super::{Bucket, BucketError, BucketObject, BucketReader};

/// A file that is read as a whole or in part.
#[derive(Debug)]
pub struct StoredFile {
    len: u64,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Disk(File),
    Bucket(Bucket, BucketObject),
}

/// The bytes of a [`StoredFile`], or of a part of it.
#[derive(Debug)]
pub enum StoredBytes {
    /// On a disk: this file, from its position on.
    Disk(File),
    /// In a bucket: as many as were asked for, or an error comes last.
    Bucket(Box<BucketReader>),
}

impl StoredFile {
    /// Takes a file on a disk, as long as it is now.
    ///
    /// # Errors
    /// When its length cannot be found out.
    pub fn on_disk(file: File) -> io::Result<Self> {
        Ok(Self {
            len: file.metadata()?.len(),
            source: Source::Disk(file),
        })
    }

    pub(super) fn in_bucket(bucket: &Bucket, object: BucketObject) -> Self {
        Self {
            len: object.length,
            source: Source::Bucket(bucket.clone(), object),
        }
    }

    /// Returns its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns true when it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads `count` bytes from `start` on.
    ///
    /// # Errors
    /// When it has no such bytes.
    pub fn bytes(self, start: u64, count: u64) -> io::Result<StoredBytes> {
        let end = start.checked_add(count).filter(|end| *end <= self.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(match self.source {
            Source::Disk(mut file) => {
                file.seek(SeekFrom::Start(start))?;
                StoredBytes::Disk(file)
            }
            Source::Bucket(bucket, object) => {
                let reader = bucket.read(&object, start..end);
                StoredBytes::Bucket(Box::new(reader.map_err(io::Error::other)?))
            }
        })
    }

    /// Reads all of it into memory. Blocks.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read_all(self) -> io::Result<Vec<u8>> {
        let len = self.len;
        let mut bytes = Vec::new();
        match self.bytes(0, len)? {
            StoredBytes::Disk(file) => file.take(len).read_to_end(&mut bytes)?,
            StoredBytes::Bucket(mut reader) => reader.read_to_end(&mut bytes)?,
        };
        Ok(bytes)
    }
}

impl From<BucketError> for io::Error {
    fn from(e: BucketError) -> Self {
        match e {
            BucketError::File { source, .. } => source,
            e if e.is_not_found() => Self::new(io::ErrorKind::NotFound, e),
            e => Self::other(e),
        }
    }
}
