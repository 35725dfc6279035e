//! Which parts arrive, so that one whose client has gone away unnoticed ends when the client is back.
//!
//! A phone that changes its network leaves a connection on which nothing comes any more, and nothing tells of its end. Until the stall
//! timeout the part would lock its file, for longer than clients try again.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};

use super::UploadKey;
use crate::http::{App, paced::Progress};

/// The part of the stall timeout after which a silent part gives way: 5 s by default, less than the 9 s for which tus-js-client tries
/// again by default.
const SILENT_PART: u32 = 6;

/// How often, and how long after each look, the end of a silent part is waited for: 2 s in all, for what it flushes.
const LOOKS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// Whose part, of which upload.
type Key = (i32, UploadKey);

/// The parts that arrive.
#[derive(Debug, Default)]
pub(in crate::http) struct Arriving(Mutex<HashMap<Key, Arc<Part>>>);

#[derive(Debug)]
struct Part {
    progress: Arc<Progress>,
    end: Notify,
}

/// A part that arrives, until this is dropped.
pub(super) struct RunningPart {
    app: App,
    key: Key,
    part: Arc<Part>,
}

impl fmt::Debug for RunningPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningPart")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl RunningPart {
    pub(super) fn progress(&self) -> &Progress {
        &self.part.progress
    }

    /// Waits until another request wants to go on with the upload.
    pub(super) async fn asked_to_end(&self) {
        self.part.end.notified().await;
    }
}

impl Drop for RunningPart {
    fn drop(&mut self) {
        let mut all = self.app.arriving.lock();
        // The file is free already: the next part may have come.
        if all
            .get(&self.key)
            .is_some_and(|part| Arc::ptr_eq(part, &self.part))
        {
            all.remove(&self.key);
        }
    }
}

impl Arriving {
    /// Notes a part, which has the lock of its file.
    pub(super) fn begin(
        app: &App,
        user: i32,
        key: UploadKey,
        progress: Arc<Progress>,
    ) -> RunningPart {
        let part = Arc::new(Part {
            progress,
            end: Notify::new(),
        });
        let key = (user, key);
        app.arriving.lock().insert(key, part.clone());
        RunningPart {
            app: app.clone(),
            key,
            part,
        }
    }

    /// Ends a part of the user's upload of which nothing has come for a while, and waits until what came is kept.
    pub(super) async fn end_silent(app: &App, user: i32, key: UploadKey) {
        let key = (user, key);
        let silent = app.peers.limits.stall / SILENT_PART;
        let part = app.arriving.lock().get(&key).cloned();
        let Some(part) = part.filter(|part| part.progress.silence() >= silent) else {
            return;
        };
        part.end.notify_one();
        for _ in 0..LOOKS {
            let now = app.arriving.lock().get(&key).cloned();
            if now.is_none_or(|now| !Arc::ptr_eq(&now, &part)) {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Part>>> {
        // Every change is one call: the map is whole after a panic elsewhere.
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}
