//! What the queue, the worker and the watcher share: the lock and what it holds. How a job ends is in `ending.rs`.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use super::{
    artifacts::Artifacts,
    drafts::Drafts,
    ending::{Delayed, Unwritten},
    error::SubmitError,
    input::InputFolder,
    job::{JobId, JobRequest, JobState, JobStatus},
    names::JobNames,
    options::JobOptions,
    progress::Handle,
    queue::{Entry, Full, Places, Queue},
    quota::Quotas,
    settings::JobSettings,
};
use crate::{
    pipeline::{DeviceChoice, NetworkSource},
    store::{Job as StoredJob, JobKind, Store, StoreError, StoredJobState},
};

/// The queue's settings and state, shared by all [`super::Jobs`], the worker and the watcher.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: JobSettings,
    pub(super) store: Store,
    pub(super) model: String,
    pub(super) device: DeviceChoice,
    /// Identifies the weights in the key of a result.
    weights_key: String,
    /// Their files; none for weights that are not in a file.
    pub(super) weights: Vec<PathBuf>,
    /// What users hold beside stored files.
    pub(super) quotas: Arc<Quotas>,
    /// Files that were made of results.
    pub(super) artifacts: Artifacts,
    /// Jobs whose files are still being uploaded.
    pub(super) drafts: Arc<Drafts>,
    state: Mutex<State>,
    /// Notified when a job arrives or ends, and at shutdown.
    pub(super) changed: Condvar,
    /// Notified when the watcher has something to do before its next look, and when it ends.
    pub(super) watch: Condvar,
}

/// What the lock holds.
#[derive(Debug)]
pub(super) struct State {
    pub(super) queue: Queue<Work>,
    pub(super) running: Option<Running>,
    /// Jobs with rows that have not ended.
    pub(super) rows: HashMap<i64, Arc<Handle>>,
    /// Jobs that wait for another try.
    pub(super) delayed: Vec<Delayed>,
    /// Ends that could not be written yet.
    pub(super) unwritten: Vec<Unwritten>,
    next_key: u64,
    /// No more jobs are taken or started.
    pub(super) closing: bool,
    /// Nothing runs any more.
    pub(super) closed: bool,
}

/// The job that the worker has.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) handle: Arc<Handle>,
    /// When it has run for too long.
    pub(super) deadline: Option<Instant>,
    /// Folder of its input files.
    pub(super) folder: PathBuf,
}

/// A queued job with all that the worker needs.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) handle: Arc<Handle>,
    pub(super) vip: bool,
    /// The process died while it ran.
    pub(super) suspect: bool,
    /// How often a passing fault has stopped it.
    pub(super) tries: u32,
    pub(super) kind: JobKind,
    pub(super) folder: InputFolder,
    pub(super) input_key: String,
    pub(super) options: JobOptions,
    pub(super) original_name: String,
    pub(super) names: JobNames,
    /// Since when it has been in the queue.
    pub(super) queued: Instant,
}

impl Work {
    pub(super) fn new(handle: Arc<Handle>, request: JobRequest, input_key: String) -> Self {
        Self {
            handle,
            vip: request.user.is_vip,
            suspect: false,
            tries: 0,
            kind: request.kind,
            folder: request.folder,
            input_key,
            options: request.options,
            original_name: request.original_name,
            names: request.names,
            queued: Instant::now(),
        }
    }

    /// Returns the key of the job's row.
    pub(super) fn row(&self) -> Option<i64> {
        match self.handle.id {
            JobId::Row(id) => Some(id),
            JobId::Connection(_) => None,
        }
    }
}

impl State {
    pub(super) fn next_key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    pub(super) fn reserve(&mut self, user: i32, vip: bool) -> Result<(), SubmitError> {
        if self.closing {
            return Err(SubmitError::ShuttingDown);
        }
        // Else a fault that stops every job would let the inputs of any number pile up.
        let delayed = self.delayed.iter().map(|delayed| &delayed.work);
        let delayed = delayed.map(|work| (work.handle.user_id, work.vip));
        let unwritten = (self.unwritten.iter()).map(|ending| (ending.handle.user_id, false));
        let aside: Vec<(i32, bool)> = delayed.chain(unwritten).collect();
        let reserved = self.queue.reserve(user, vip, &aside);
        reserved.map_err(|full| match full {
            Full {
                own: true, waiting, ..
            } => SubmitError::TooManyOfOne { waiting },
            Full { waiting, .. } => SubmitError::Busy {
                ahead: waiting + usize::from(self.running.is_some()),
            },
        })
    }

    pub(super) fn handle_of_row(&mut self, row: &StoredJob) -> Arc<Handle> {
        let key = self.next_key();
        let now = JobState::Queued { ahead: 0 };
        let handle = Handle::new(key, JobId::Row(row.id), row.user_id, now);
        self.rows.insert(row.id, handle.clone());
        handle
    }

    pub(super) fn is_running(&self, handle: &Handle) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|running| running.handle.key == handle.key)
    }

    /// Removes a job that waits in the queue or for another try.
    pub(super) fn take_waiting(&mut self, key: u64) -> Option<Work> {
        if let Some(entry) = self.queue.remove(key) {
            return Some(entry.item);
        }
        let at = self.delayed.iter().position(|d| d.work.handle.key == key)?;
        Some(self.delayed.swap_remove(at).work)
    }

    /// Tells every waiting job how many run before it.
    pub(super) fn publish_positions(&self) {
        let running = usize::from(self.running.is_some());
        let queued = self.queue.in_order().map(|entry| &entry.item);
        // By the time of their next try the queue may have emptied; others may have come.
        let delayed = self.delayed.iter().map(|delayed| &delayed.work);
        for (i, work) in queued.chain(delayed).enumerate() {
            work.handle.set(JobState::Queued { ahead: running + i });
        }
    }
}

impl Shared {
    pub(super) fn new(
        settings: JobSettings,
        store: Store,
        source: &NetworkSource,
        device: DeviceChoice,
    ) -> Self {
        let places = Places {
            all: settings.queue,
            vip: settings.queue_vip,
            per_user: settings.queue_per_user,
        };
        Self {
            state: Mutex::new(State {
                queue: Queue::new(places),
                running: None,
                rows: HashMap::new(),
                delayed: Vec::new(),
                unwritten: Vec::new(),
                next_key: 0,
                closing: false,
                closed: false,
            }),
            quotas: Arc::default(),
            artifacts: Artifacts::default(),
            drafts: Arc::default(),
            changed: Condvar::new(),
            watch: Condvar::new(),
            model: source.name(),
            weights_key: source.key(),
            weights: source.files(),
            device,
            settings,
            store,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock can only come from a failed allocation: the state is consistent.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Returns the key that jobs with the same input, options and weights share.
    pub(super) fn input_key(&self, request: &JobRequest) -> String {
        let mut hash = Sha256::new();
        let options = serde_json::to_string(&request.options).unwrap_or_default();
        for part in [
            env!("CARGO_PKG_VERSION"),
            &self.weights_key,
            &format!("{:?}", self.settings.max_frames),
            self.settings.precision.as_str(),
            &options,
            &request.input_sha256,
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
    }

    pub(super) fn cached(
        &self,
        request: &JobRequest,
        key: &str,
    ) -> Result<Option<String>, StoreError> {
        if !self.settings.cache {
            return Ok(None);
        }
        let Some(found) = self.store.cached_result(request.user.id, key)? else {
            return Ok(None);
        };
        if request.names.name.is_some() {
            // The latest name holds.
            let (hash, name) = (&found.hashed_name, &request.original_name);
            self.store.rename_glb(request.user.id, hash, name)?;
        }
        Ok(Some(found.hashed_name))
    }

    /// Returns how the job of a row stands; `warnings` is what the store has of it.
    pub(super) fn status_of(&self, row: &StoredJob, warnings: Option<&String>) -> JobStatus {
        let ahead = {
            let state = self.lock();
            // An end that is in the row counts, also while the worker does not know of it yet.
            let running = state.rows.get(&row.id).filter(|_| !row.state.is_final());
            if let Some(handle) = running {
                return handle.status();
            }
            state.queue.len() + usize::from(state.running.is_some())
        };
        let warnings = warnings.and_then(|json| serde_json::from_str(json).ok());
        JobStatus {
            state: match row.state.clone() {
                // Between the row and the queue, or left for the next start.
                StoredJobState::Queued | StoredJobState::Running => JobState::Queued { ahead },
                StoredJobState::Done { hash } => JobState::Done { hash },
                StoredJobState::Failed { reason } => JobState::Failed { reason },
                StoredJobState::Cancelled => JobState::Cancelled,
            },
            warnings: warnings.unwrap_or_default(),
        }
    }

    pub(super) fn push(&self, state: &mut State, mut work: Work) {
        work.queued = Instant::now();
        if state.closing {
            // Reserved before the shutdown: a row waits for the next start, other jobs fail.
            if work.row().is_none() {
                work.handle.set(shutting_down());
            }
            return;
        }
        state.queue.push(Entry {
            key: work.handle.key,
            user: work.handle.user_id,
            vip: work.vip,
            suspect: work.suspect,
            item: work,
        });
        state.publish_positions();
        self.changed.notify_all();
    }

    /// Blocks until there is a job and returns it with the time by which it must have ended; `None` once the server stops.
    pub(super) fn next(&self) -> Option<(Work, Option<Instant>)> {
        let mut state = self.lock();
        loop {
            if state.closing {
                return None;
            }
            if let Some(entry) = state.queue.pop() {
                let work = entry.item;
                self.settings.metrics.job_waited(work.queued.elapsed());
                let limit = self.settings.max_job_time;
                let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
                state.running = Some(Running {
                    handle: work.handle.clone(),
                    deadline,
                    folder: work.folder.path().to_owned(),
                });
                state.publish_positions();
                self.watch.notify_all();
                return Some((work, deadline));
            }
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// Returns true when no job waits.
    pub(super) fn is_queue_empty(&self) -> bool {
        self.lock().queue.len() == 0
    }

    pub(super) fn wait_until_idle<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        time: Duration,
    ) -> MutexGuard<'a, State> {
        // A time beyond the clock's end is as good as none.
        let end = Instant::now().checked_add(time);
        while state.running.is_some() {
            let left = end.map_or(time, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(|e| e.into_inner())
                .0;
        }
        state
    }
}

/// A reserved place in the queue, released when dropped: the pushed job has taken its own by then.
pub(super) struct Reservation<'a> {
    shared: &'a Shared,
    user: i32,
}

impl<'a> Reservation<'a> {
    pub(super) fn reserve(shared: &'a Shared, user: i32, vip: bool) -> Result<Self, SubmitError> {
        shared.lock().reserve(user, vip)?;
        Ok(Self { shared, user })
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.shared.lock().queue.release(self.user);
    }
}

/// Returns the state of a job that a stopping server does not run.
pub(super) fn shutting_down() -> JobState {
    JobState::Failed {
        reason: SubmitError::ShuttingDown.to_string(),
    }
}
