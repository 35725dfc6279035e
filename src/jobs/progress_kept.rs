//! What is computed of a job, put into the bucket from time to time while it runs, so that another worker goes on with it.
//!
//! The folder of the attempt is followed from a thread of its own: neither the network nor the lease waits for the bucket.

use std::{
    path::PathBuf,
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{faults::quietly, input::InputFolder};
use crate::{
    pipeline::{PassedOn, SpoolError, SpoolPart, passed_on, spool_news},
    store::{FilePart, JobObjects, StoreError},
};

/// What of a spool is in the bucket.
#[derive(Debug, Clone)]
pub(super) struct KeptProgress {
    objects: JobObjects,
    /// Name of the spool among the objects of the job.
    spool: String,
    folder: PathBuf,
    packs: usize,
    passed_on: PassedOn,
}

/// Follows the spool of a job that runs.
#[derive(Debug)]
pub(super) struct Follower {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<KeptProgress>,
}

#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl KeptProgress {
    /// Follows the spool of a job's attempt; `None` where the store has no bucket, or the job no row. With `fetched` it is what the packs
    /// in the bucket are; else there are none.
    pub(super) fn of(folder: &InputFolder, fetched: bool) -> Option<Self> {
        let objects = folder.objects()?.clone();
        let mut kept = Self {
            objects,
            spool: folder.own_spool_name(),
            folder: folder.own_spool(),
            packs: 0,
            passed_on: PassedOn::default(),
        };
        if fetched {
            let packs = kept.objects.packs(&kept.spool);
            match (packs, passed_on(&kept.folder)) {
                (Ok(packs), Ok(passed_on)) => {
                    kept.packs = packs.len();
                    kept.passed_on = passed_on;
                }
                _ => kept.begin_again(),
            }
        }
        Some(kept)
    }

    /// Follows it on a thread, with a look each `every`; `None` when there is no thread.
    pub(super) fn follow(self, every: Duration) -> Option<Follower> {
        let (stop, stopped) = mpsc::channel();
        let mut kept = self;
        let run = move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                quietly(|| kept.send());
            }
            kept
        };
        let builder = thread::Builder::new().name("progress".to_owned());
        let thread = builder.spawn(run).ok()?;
        Some(Follower { stop, thread })
    }

    /// Puts what is new into the bucket. What cannot be put there is for the next time.
    pub(super) fn send(&mut self) {
        if let Err(e) = self.try_send() {
            tracing::warn!("cannot put the progress of a job into the bucket: {e}");
        }
    }

    fn try_send(&mut self) -> Result<(), FollowError> {
        let news = spool_news(&self.folder, self.passed_on, false)?;
        if news.begun_again {
            self.begin_again();
        }
        if news.parts.is_empty() {
            return Ok(());
        }
        let parts = file_parts(news.parts);
        let packs = (self.objects).send_parts(&self.spool, self.packs, &self.folder, &parts)?;
        self.packs = packs;
        self.passed_on = news.passed_on;
        Ok(())
    }

    fn begin_again(&mut self) {
        if let Err(e) = self.objects.remove_spool(&self.spool) {
            tracing::warn!("cannot remove the progress of a job that is begun again: {e}");
        }
        self.packs = 0;
        self.passed_on = PassedOn::default();
    }

    /// Returns the packs that are in the bucket, and what they lack of the finished spool.
    ///
    /// # Errors
    /// When the spool or the bucket cannot be read.
    pub(super) fn finished(mut self) -> Result<(Vec<String>, Vec<FilePart>), StoreError> {
        let failed = |e: SpoolError| StoreError::Files {
            what: "read the spool",
            path: self.folder.clone(),
            source: std::io::Error::other(e),
        };
        let news = spool_news(&self.folder, self.passed_on, true).map_err(failed)?;
        if news.begun_again {
            self.begin_again();
        }
        let packs = match self.packs {
            0 => Vec::new(),
            _ => self.objects.packs(&self.spool)?,
        };
        Ok((packs, file_parts(news.parts)))
    }
}

impl Follower {
    /// Ends the thread once what it puts into the bucket at this moment is there. `None` after a panic.
    pub(super) fn stop(self) -> Option<KeptProgress> {
        drop(self.stop);
        self.thread.join().ok()
    }
}

fn file_parts(parts: Vec<SpoolPart>) -> Vec<FilePart> {
    let parts = parts.into_iter().map(|part| FilePart {
        name: part.file.to_owned(),
        range: part.bytes,
    });
    parts.collect()
}
