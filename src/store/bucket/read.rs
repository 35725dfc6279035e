//! The bytes of an object, as a stream and as a reader.

use std::{
    io::{self, Read},
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use futures_util::{Stream, StreamExt};
use hyper::body::Bytes;
use object_store::{GetOptions, GetRange, GetResult, ObjectStore, path::Path};
use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, time::timeout};

use super::{
    Bucket, BucketError, BucketObject, Inner,
    error::Verdict,
    object::Digest,
    retry::{Attempts, Fault},
};

/// Pieces that wait for their reader; each is what one read of the connection gave, some hundred KB at most.
const WAITING: usize = 4;

const WHAT: &str = "read";

const OTHER_DIGEST: &str = "its bytes do not have the digest that was stored with them";

/// The bytes of an object, or of a part of it. They are as many as were asked for, or the last thing that is read is an error. Those of a
/// whole object have the digest that was stored with it.
///
/// [`Read`] blocks; as a [`Stream`] it may be polled in any runtime.
#[derive(Debug)]
pub struct BucketReader {
    pieces: mpsc::Receiver<Result<Bytes, BucketError>>,
    object: String,
    /// Number of bytes that have not come yet.
    left: u64,
    /// Of the bytes so far and of all, of an object that is read as a whole.
    hash: Option<(Sha256, Digest)>,
    /// What has come and was not read yet.
    piece: Bytes,
    failed: bool,
}

impl Bucket {
    /// Opens a range of the bytes of an object for reading, which starts at once. The digest in the object's metadata tells whether each
    /// answer is of this object; the bytes of a range have no digest of their own.
    ///
    /// # Errors
    /// When the object has no such bytes. All that the server does wrong is told by the reader.
    pub fn read(
        &self,
        object: &BucketObject,
        range: Range<u64>,
    ) -> Result<BucketReader, BucketError> {
        let named = self.0.url.named(&object.key);
        if range.start > range.end || range.end > object.length {
            return Err(BucketError::BadRange {
                object: named,
                start: range.start,
                end: range.end,
                length: object.length,
            });
        }
        let path = self.0.url.path(&object.key)?;
        let (sender, pieces) = mpsc::channel(WAITING);
        let left = range.end - range.start;
        let whole = object.sha256.filter(|_| left == object.length);
        if left == 0 && whole.is_some_and(|sha256| Digest::from(Sha256::digest([])) != sha256) {
            return Err(BucketError::Damaged {
                what: WHAT,
                object: named,
                why: OTHER_DIGEST.to_owned(),
            });
        }
        if left > 0 {
            let download = Download {
                inner: self.0.clone(),
                object: object.clone(),
                named: named.clone(),
                path,
                range,
                sender,
            };
            self.0.driver.spawn(download.run());
        }
        Ok(BucketReader {
            pieces,
            object: named,
            left,
            hash: whole.map(|sha256| (Sha256::new(), sha256)),
            piece: Bytes::new(),
            failed: false,
        })
    }
}

impl BucketReader {
    /// Waits for the next piece; `None` after the last.
    ///
    /// # Errors
    /// When the object is not what it was, or the bucket cannot be reached any more. Nothing comes after an error.
    pub fn next_piece(&mut self) -> Option<Result<Bytes, BucketError>> {
        pollster::block_on(self.next())
    }

    /// Reads all that is left into memory. Blocks.
    ///
    /// # Errors
    /// As [`BucketReader::next_piece`].
    pub fn into_bytes(mut self) -> Result<Vec<u8>, BucketError> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.next_piece() {
            bytes.extend(piece?);
        }
        Ok(bytes)
    }

    /// Counts what has come.
    fn take(
        &mut self,
        piece: Option<Result<Bytes, BucketError>>,
    ) -> Option<Result<Bytes, BucketError>> {
        let piece = match piece {
            Some(Ok(piece)) => piece,
            Some(Err(e)) => {
                self.failed = true;
                return Some(Err(e));
            }
            None if self.left == 0 => return None,
            // The task is gone without a word.
            None => Bytes::new(),
        };
        match self.left.checked_sub(piece.len() as u64) {
            Some(left) if !piece.is_empty() => {
                self.left = left;
                if let Some((hash, _)) = &mut self.hash {
                    hash.update(&piece);
                }
                if left == 0
                    && let Some((hash, expected)) = self.hash.take()
                    && Digest::from(hash.finalize()) != expected
                {
                    // Without its last piece nobody takes it for whole.
                    return Some(Err(self.damaged(OTHER_DIGEST.to_owned())));
                }
                Some(Ok(piece))
            }
            _ => {
                let why = format!("{} bytes are missing at its end", self.left);
                Some(Err(self.damaged(why)))
            }
        }
    }

    fn damaged(&mut self, why: String) -> BucketError {
        self.failed = true;
        BucketError::Damaged {
            what: WHAT,
            object: self.object.clone(),
            why,
        }
    }
}

impl Stream for BucketReader {
    type Item = Result<Bytes, BucketError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if !this.piece.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut this.piece))));
        }
        if this.failed || this.left == 0 {
            return Poll::Ready(None);
        }
        this.pieces.poll_recv(cx).map(|piece| this.take(piece))
    }
}

impl Read for BucketReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            match self.next_piece() {
                None => return Ok(0),
                Some(piece) => self.piece = piece.map_err(io::Error::other)?,
            }
        }
        let count = buf.len().min(self.piece.len());
        let taken = self.piece.split_to(count);
        if let Some(buf) = buf.get_mut(..count) {
            buf.copy_from_slice(&taken);
        }
        Ok(count)
    }
}

/// Fetches a range, and goes on where it was when an answer ends early.
struct Download {
    inner: Arc<Inner>,
    object: BucketObject,
    named: String,
    path: Path,
    /// What is left of it.
    range: Range<u64>,
    sender: mpsc::Sender<Result<Bytes, BucketError>>,
}

/// Why an answer was not read to the end of the range.
enum Ended {
    /// Nobody reads any more.
    Unread,
    Failed(object_store::Error),
    Late,
    Short,
    /// Of another object, or more than was asked for.
    Wrong(String),
}

impl Download {
    async fn run(mut self) {
        if let Err(e) = self.all().await {
            // Its reader may be gone, too.
            let _ = self.sender.send(Err(e)).await;
        }
    }

    async fn all(&mut self) -> Result<(), BucketError> {
        let inner = self.inner.clone();
        let mut attempts = Attempts::new(&inner.limits, &inner.host);
        while !self.range.is_empty() {
            let paused = match self.some(&mut attempts).await {
                Ok(()) => Ok(()),
                Err(Ended::Unread) => return Ok(()),
                Err(Ended::Failed(e)) => attempts.pause(e).await,
                Err(Ended::Late) => attempts.pause_when_late().await,
                Err(Ended::Short) => too_short(&mut attempts).await,
                Err(Ended::Wrong(why)) => {
                    return Err(BucketError::Damaged {
                        what: WHAT,
                        object: self.named.clone(),
                        why,
                    });
                }
            };
            if let Err(fault) = paused {
                return Err(inner.told(WHAT, &self.named, fault).await);
            }
        }
        Ok(())
    }

    /// Reads one answer.
    async fn some(&mut self, attempts: &mut Attempts<'_>) -> Result<(), Ended> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(self.range.clone())),
            ..GetOptions::default()
        };
        let got = self.inner.s3.get_opts(&self.path, options);
        let got = timeout(attempts.left(), got).await;
        let got = got.map_err(|_| Ended::Late)?.map_err(Ended::Failed)?;
        self.check(&got)?;
        let mut stream = got.into_stream();
        loop {
            let piece = timeout(attempts.left(), stream.next()).await;
            let Some(piece) = piece.map_err(|_| Ended::Late)? else {
                break;
            };
            let piece = piece.map_err(Ended::Failed)?;
            if piece.is_empty() {
                continue;
            }
            let count = piece.len() as u64;
            if count > self.range.end - self.range.start {
                return Err(Ended::Wrong("the answer is too long".to_owned()));
            }
            self.range.start += count;
            attempts.moved(count);
            let before = Instant::now();
            self.sender
                .send(Ok(piece))
                .await
                .map_err(|_| Ended::Unread)?;
            attempts.excuse(before.elapsed());
        }
        match self.range.is_empty() {
            true => Ok(()),
            false => Err(Ended::Short),
        }
    }

    /// Checks that an answer is of the object that is read.
    fn check(&self, got: &GetResult) -> Result<(), Ended> {
        let found = BucketObject::of(&self.object.key, got).map_err(Ended::Wrong)?;
        match found.is_same(&self.object) {
            true => Ok(()),
            false => Err(Ended::Wrong("it is another object than before".to_owned())),
        }
    }
}

async fn too_short(attempts: &mut Attempts<'_>) -> Result<(), Fault> {
    let source = "the answer is too short".into();
    attempts.pause_after(Verdict::Passing, false, source).await
}
