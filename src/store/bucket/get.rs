//! Downloads: a local file appears with the right bytes, or not at all.

use std::{io::Write, path::Path};

use sha2::{Digest as _, Sha256};

use super::{Bucket, BucketError, BucketObject};
use crate::atomic_file::AtomicFile;

const WHAT: &str = "fetch";

/// Downloads until the digest is right: what went wrong on the way does not do so again, and what is wrong in the bucket does.
const TIMES: u32 = 2;

impl Bucket {
    /// Downloads an object into a file, which only its owner may read. It is flushed to the disk and replaces an older file of that
    /// name once its length and digest are right. Returns the object, with the digest of the bytes that are in the file.
    ///
    /// # Errors
    /// [`BucketError::NotFound`] when there is no such object, [`BucketError::Damaged`] when its bytes are not those that were stored;
    /// when the bucket cannot be reached or the file not be written. Nothing is left of the file then.
    pub fn get_file(&self, key: &str, to: &Path) -> Result<BucketObject, BucketError> {
        let expected = self.head_to(WHAT, key)?;
        self.get_object(&expected, to)
    }

    /// As [`Bucket::get_file`], of an object whose length and digest are known, as from a row.
    ///
    /// # Errors
    /// As [`Bucket::get_file`]; also when the object has another length or digest.
    pub fn get_object(
        &self,
        expected: &BucketObject,
        to: &Path,
    ) -> Result<BucketObject, BucketError> {
        let mut time = 1;
        loop {
            match self.download(expected, to) {
                Err(e @ BucketError::Damaged { .. }) if time < TIMES => {
                    tracing::warn!("{e}; it is fetched again");
                    time += 1;
                }
                done => return done,
            }
        }
    }

    /// Reads a short object into memory.
    ///
    /// # Errors
    /// As [`Bucket::get_file`].
    pub fn get(&self, key: &str) -> Result<Vec<u8>, BucketError> {
        let object = self.head_to(WHAT, key)?;
        self.read(&object, 0..object.length)?.into_bytes()
    }

    /// Writes the bytes of an object behind what a file holds, whose path is for messages.
    ///
    /// # Errors
    /// As [`Bucket::get_file`]; the file may hold some of the bytes then.
    pub fn write_to(
        &self,
        expected: &BucketObject,
        file: &mut impl Write,
        path: &Path,
    ) -> Result<BucketObject, BucketError> {
        let failed = |source| BucketError::File {
            what: "write",
            path: path.to_owned(),
            source,
        };
        let mut reader = self.read(expected, 0..expected.length)?;
        // The reader compares a digest that is known.
        let mut hash = expected.sha256.is_none().then(Sha256::new);
        while let Some(piece) = reader.next_piece() {
            let piece = piece?;
            if let Some(hash) = &mut hash {
                hash.update(&piece);
            }
            file.write_all(&piece).map_err(failed)?;
        }
        let found = hash.map(|hash| hash.finalize().into());
        Ok(BucketObject {
            sha256: expected.sha256.or(found),
            ..expected.clone()
        })
    }

    fn download(&self, expected: &BucketObject, to: &Path) -> Result<BucketObject, BucketError> {
        let failed = |source| BucketError::File {
            what: "write",
            path: to.to_owned(),
            source,
        };
        let mut file = AtomicFile::create_private(to).map_err(failed)?;
        let object = self.write_to(expected, &mut file, to)?;
        file.commit().map_err(failed)?;
        Ok(object)
    }
}
