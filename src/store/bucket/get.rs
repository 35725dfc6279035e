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

    fn download(&self, expected: &BucketObject, to: &Path) -> Result<BucketObject, BucketError> {
        let failed = |source| BucketError::File {
            what: "write",
            path: to.to_owned(),
            source,
        };
        let mut reader = self.read(expected, 0..expected.length)?;
        let mut file = AtomicFile::create_private(to).map_err(failed)?;
        let mut hash = Sha256::new();
        while let Some(piece) = reader.next_piece() {
            let piece = piece?;
            hash.update(&piece);
            file.write_all(&piece).map_err(failed)?;
        }
        let sha256 = hash.finalize().into();
        if expected.sha256.is_some_and(|expected| expected != sha256) {
            return Err(BucketError::Damaged {
                what: WHAT,
                object: self.0.url.named(&expected.key),
                why: "its bytes do not have the digest that was stored with them".to_owned(),
            });
        }
        file.commit().map_err(failed)?;
        Ok(BucketObject {
            sha256: Some(sha256),
            ..expected.clone()
        })
    }
}
