//! Uploads: an object appears whole, or not at all.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Read},
    path::Path as LocalPath,
};

use hyper::body::Bytes;
use object_store::{
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    multipart::{MultipartStore, PartId},
    path::Path,
};
use sha2::{Digest as _, Sha256};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use super::{
    Bucket, BucketError, BucketLimits, BucketObject, Inner, ended, error::Verdict, object::Digest,
    retry::retried,
};

const WHAT: &str = "store";

/// Length of a part, and of the longest object that is stored in one request. Each part is in memory until it is stored.
const PART: u64 = 8 << 20;

/// Parts that are on their way at the same time.
const PARTS_AT_ONCE: usize = 4;

/// Parts that S3 allows in one object.
const PARTS_MAX: u64 = 10_000;

/// Bytes that are read at once to hash a file.
const PIECE: usize = 1 << 20;

impl Bucket {
    /// Uploads a file. Longer ones than 8 MiB go in parts, of which up to five are in memory. The object appears once all of them have
    /// arrived and replaces an older one; its length and digest are stored with it and verified afterwards.
    ///
    /// # Errors
    /// When the file cannot be read or changes meanwhile, or the bucket cannot be reached or refuses. Nothing of the file is in the bucket
    /// then, unless the last answer was lost: the object may be there, whole.
    pub fn put_file(&self, key: &str, from: &LocalPath) -> Result<BucketObject, BucketError> {
        let failed = |source| BucketError::File {
            what: "read",
            path: from.to_owned(),
            source,
        };
        let length = fs::metadata(from).map_err(failed)?.len();
        self.put_from(key, length, from, || File::open(from))
    }

    /// As [`Bucket::put_file`], of `length` bytes of which `open` returns a reader: they are read twice. The path is for messages.
    ///
    /// # Errors
    /// As [`Bucket::put_file`].
    pub fn put_from<R: Read>(
        &self,
        key: &str,
        length: u64,
        from: &LocalPath,
        open: impl Fn() -> io::Result<R>,
    ) -> Result<BucketObject, BucketError> {
        let failed = |source| BucketError::File {
            what: "read",
            path: from.to_owned(),
            source,
        };
        let path = self.0.url.path(key)?;
        let mut file = open().map_err(failed)?;
        if length <= PART {
            let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
            // One more byte tells that it has grown.
            let read = (&mut file).take(length + 1).read_to_end(&mut bytes);
            if read.map_err(failed)? as u64 != length {
                return Err(self.changed(key, from));
            }
            return self.put(key, bytes);
        }
        // The digest goes ahead of the bytes: it is stored with them.
        let sha256 = hash_of(&mut file).map_err(failed)?;
        let mut file = open().map_err(failed)?;
        let object = BucketObject {
            key: key.to_owned(),
            length,
            sha256: Some(sha256),
        };
        let mut upload = Upload::begin(self, path, object)?;
        match upload.send(&mut file) {
            Ok(sent) if sent == (length, sha256) => upload.complete(),
            Ok(_) => Err(self.changed(key, from)),
            Err(Sent::File(source)) => Err(failed(source)),
            Err(Sent::Bucket(e)) => Err(e),
        }
    }

    /// Uploads bytes in one request. As [`Bucket::put_file`] for what is in memory already: it is for short ones.
    ///
    /// # Errors
    /// As [`Bucket::put_file`].
    pub fn put(&self, key: &str, bytes: Vec<u8>) -> Result<BucketObject, BucketError> {
        let path = self.0.url.path(key)?;
        let object = BucketObject {
            key: key.to_owned(),
            length: bytes.len() as u64,
            sha256: Some(Sha256::digest(&bytes).into()),
        };
        let named = self.0.url.named(key);
        self.wait(WHAT, &named.clone(), move |inner| async move {
            let payload = PutPayload::from(Bytes::from(bytes));
            let once = || {
                let options = PutOptions {
                    attributes: object.attributes(),
                    ..PutOptions::default()
                };
                inner.s3.put_opts(&path, payload.clone(), options)
            };
            inner.asked(WHAT, &named, object.length, once).await?;
            inner.verify_stored(object).await
        })
    }

    fn changed(&self, key: &str, path: &LocalPath) -> BucketError {
        BucketError::Changed {
            path: path.to_owned(),
            object: self.0.url.named(key),
        }
    }
}

impl Inner {
    /// Verifies that what was stored is there. An object that carries the digest of what was stored and has another length is a part of
    /// it, which the server should not have kept: it is removed. One with another digest is of another writer, and stays.
    async fn verify_stored(&self, object: BucketObject) -> Result<BucketObject, BucketError> {
        let path = self.url.path(&object.key)?;
        let verified = self.verify(WHAT, object.clone()).await;
        if matches!(verified, Err(BucketError::Damaged { .. }))
            && self.is_cut_off(&object, &path).await
        {
            let paths = [path];
            let once = || self.delete_once(&paths);
            if let Err(fault) = retried(&self.limits, &self.host, 0, once).await {
                let named = self.url.named(&object.key);
                tracing::warn!("cannot remove the damaged {named}: {}", fault.source);
            }
        }
        verified
    }

    async fn is_cut_off(&self, object: &BucketObject, path: &Path) -> bool {
        let Ok(found) = self.head_once(path).await else {
            return false;
        };
        let claimed = BucketObject::claimed(&found);
        claimed.is_some() && claimed == object.sha256 && found.meta.size != object.length
    }
}

/// An upload in parts.
struct Upload<'a> {
    bucket: &'a Bucket,
    path: Path,
    named: String,
    object: BucketObject,
    id: String,
    /// Parts that are on their way, in order.
    sending: VecDeque<JoinHandle<Result<PartId, BucketError>>>,
    sent: Vec<PartId>,
    over: bool,
}

/// Why parts could not be sent.
enum Sent {
    File(io::Error),
    Bucket(BucketError),
}

impl<'a> Upload<'a> {
    fn begin(bucket: &'a Bucket, path: Path, object: BucketObject) -> Result<Self, BucketError> {
        let named = bucket.0.url.named(&object.key);
        let (attributes, target, shown) = (object.attributes(), path.clone(), named.clone());
        let id = bucket.wait(WHAT, &named, move |inner| async move {
            let once = || {
                let options = PutMultipartOptions {
                    attributes: attributes.clone(),
                    ..PutMultipartOptions::default()
                };
                inner.s3.create_multipart_opts(&target, options)
            };
            inner.asked(WHAT, &shown, 0, once).await
        })?;
        Ok(Self {
            bucket,
            path,
            named,
            object,
            id,
            sending: VecDeque::new(),
            sent: Vec::new(),
            over: false,
        })
    }

    /// Sends the parts of a file, and returns the length and the digest of what was sent.
    fn send(&mut self, file: &mut impl Read) -> Result<(u64, Digest), Sent> {
        let part = part_length(self.object.length);
        let mut hash = Sha256::new();
        let mut length = 0;
        // A file that grows is not followed further than one byte.
        let mut file = file.take(self.object.length + 1);
        loop {
            let mut bytes = Vec::with_capacity(usize::try_from(part).unwrap_or_default());
            let count = (&mut file)
                .take(part)
                .read_to_end(&mut bytes)
                .map_err(Sent::File)?;
            if count == 0 {
                break;
            }
            length += count as u64;
            hash.update(&bytes);
            if self.sending.len() == PARTS_AT_ONCE {
                self.wait_for_one().map_err(Sent::Bucket)?;
            }
            self.send_part(bytes);
        }
        while !self.sending.is_empty() {
            self.wait_for_one().map_err(Sent::Bucket)?;
        }
        Ok((length, hash.finalize().into()))
    }

    fn send_part(&mut self, bytes: Vec<u8>) {
        let inner = self.bucket.0.clone();
        let index = self.sent.len() + self.sending.len();
        let (path, id, named) = (self.path.clone(), self.id.clone(), self.named.clone());
        let task = async move {
            let count = bytes.len() as u64;
            let payload = PutPayload::from(Bytes::from(bytes));
            let once = || inner.s3.put_part(&path, &id, index, payload.clone());
            inner.asked(WHAT, &named, count, once).await
        };
        self.sending.push_back(self.bucket.0.driver.spawn(task));
    }

    fn wait_for_one(&mut self) -> Result<(), BucketError> {
        if let Some(part) = self.sending.pop_front() {
            let part = pollster::block_on(part);
            self.sent
                .push(part.unwrap_or_else(|e| Err(ended(WHAT, &self.named, e)))?);
        }
        Ok(())
    }

    /// Makes the object of the parts, and verifies it.
    fn complete(mut self) -> Result<BucketObject, BucketError> {
        let (path, id) = (self.path.clone(), self.id.clone());
        let parts = std::mem::take(&mut self.sent);
        let (object, named) = (self.object.clone(), self.named.clone());
        let (object, over) = self
            .bucket
            .wait(WHAT, &self.named, move |inner| async move {
                let once = || inner.s3.complete_multipart(&path, &id, parts.clone());
                match inner.asked(WHAT, &named, 0, once).await {
                    Ok(_) => Ok((inner.verify_stored(object).await?, true)),
                    // The answer to an attempt that succeeded may have been lost; another one finds no such upload then.
                    Err(e) => match inner.verify(WHAT, object).await {
                        Ok(object) => Ok((object, false)),
                        Err(_) => Err(e),
                    },
                }
            })?;
        self.over = over;
        Ok(object)
    }
}

impl Drop for Upload<'_> {
    /// Removes the parts of an upload that was not completed. Waits for that, so that nothing is left once an error is returned.
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let (path, id) = (self.path.clone(), self.id.clone());
        let sending = std::mem::take(&mut self.sending);
        let removed = self
            .bucket
            .wait(WHAT, &self.named, move |inner| async move {
                // A part that arrives after the removal would stay.
                let deadline = Instant::now() + inner.limits.silence;
                for mut part in sending {
                    if timeout_at(deadline, &mut part).await.is_err() {
                        part.abort();
                    }
                }
                let once = || inner.s3.abort_multipart(&path, &id);
                // The caller has waited already.
                let limits = BucketLimits {
                    total: inner.limits.silence,
                    ..inner.limits
                };
                match retried(&limits, &inner.host, 0, once).await {
                    // Gone, or completed.
                    Err(fault) if fault.verdict != Verdict::NotFound => Ok(Some(fault)),
                    _ => Ok(None),
                }
            });
        if let Ok(Some(fault)) = removed {
            tracing::warn!(
                "cannot remove the parts of {} from the bucket, a rule of its lifecycle has to: {}",
                self.named,
                fault.source
            );
        }
    }
}

/// Returns the length of the parts of an object: as few bytes as its number of parts allows.
fn part_length(length: u64) -> u64 {
    length
        .div_ceil(PARTS_MAX)
        .next_multiple_of(PIECE as u64)
        .max(PART)
}

fn hash_of(file: &mut impl Read) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash.finalize().into()),
            count => hash.update(piece.get(..count).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_short_and_never_too_many() {
        for length in [
            PART + 1,
            100 << 20,
            PART * PARTS_MAX,
            PART * PARTS_MAX + 1,
            5 << 40,
        ] {
            let part = part_length(length);
            assert!(length.div_ceil(part) <= PARTS_MAX, "{length}");
            assert_eq!(part == PART, length <= PART * PARTS_MAX, "{length}");
        }
    }
}
