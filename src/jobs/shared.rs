//! What the queue and the worker share: the lock, what it holds, and how a job ends.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use super::{
    error::SubmitError,
    input::InputFolder,
    job::{JobId, JobRequest, JobState},
    options::JobOptions,
    progress::{Handle, StopReason},
    queue::{Entry, Full, Queue},
    quota::Quotas,
    settings::JobSettings,
};
use crate::{
    pipeline::{DeviceChoice, NetworkSource},
    store::{Job as StoredJob, JobKind, JobOutcome, Store, StoreError},
};

/// The queue's settings and state, shared by all [`super::Jobs`] and the worker.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: JobSettings,
    pub(super) store: Store,
    pub(super) model: String,
    pub(super) device: DeviceChoice,
    /// Identifies the weights in the key of a result.
    weights_key: String,
    /// What users hold beside stored files.
    pub(super) quotas: Arc<Quotas>,
    pub(super) state: Mutex<State>,
    /// Notified when a job arrives or ends, and at shutdown.
    pub(super) changed: Condvar,
}

/// What the lock holds.
#[derive(Debug)]
pub(super) struct State {
    pub(super) queue: Queue<Work>,
    pub(super) running: Option<Arc<Handle>>,
    /// Jobs with rows that have not ended.
    pub(super) rows: HashMap<i64, Arc<Handle>>,
    next_key: u64,
    pub(super) closing: bool,
}

/// A queued job with all that the worker needs.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) handle: Arc<Handle>,
    pub(super) kind: JobKind,
    pub(super) folder: InputFolder,
    pub(super) input_key: String,
    pub(super) options: JobOptions,
    pub(super) original_name: String,
}

impl Work {
    pub(super) fn new(handle: Arc<Handle>, request: JobRequest, input_key: String) -> Self {
        Self {
            handle,
            kind: request.kind,
            folder: request.folder,
            input_key,
            options: request.options,
            original_name: request.original_name,
        }
    }
}

impl State {
    pub(super) fn next_key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    pub(super) fn reserve(&mut self, user: i32) -> Result<(), SubmitError> {
        if self.closing {
            return Err(SubmitError::ShuttingDown);
        }
        self.queue.reserve(user).map_err(|full| match full {
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
}

impl Shared {
    pub(super) fn new(
        settings: JobSettings,
        store: Store,
        source: &NetworkSource,
        device: DeviceChoice,
    ) -> Self {
        Self {
            state: Mutex::new(State {
                queue: Queue::new(settings.queue, settings.queue_per_user),
                running: None,
                rows: HashMap::new(),
                next_key: 0,
                closing: false,
            }),
            quotas: Arc::default(),
            changed: Condvar::new(),
            model: source.name(),
            weights_key: source.key(),
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
        let found = self.store.cached_result(request.user.id, key)?;
        Ok(found.map(|row| row.hashed_name))
    }

    pub(super) fn push(&self, state: &mut State, vip: bool, work: Work) {
        if state.closing {
            // Reserved before the shutdown: a row waits for the next start, other jobs fail.
            if let JobId::Connection(_) = work.handle.id {
                work.handle.set(shutting_down());
            }
            return;
        }
        state.queue.push(Entry {
            key: work.handle.key,
            user: work.handle.user_id,
            vip,
            item: work,
        });
        self.publish_positions(state);
        self.changed.notify_all();
    }

    pub(super) fn publish_positions(&self, state: &State) {
        let running = usize::from(state.running.is_some());
        for (i, entry) in state.queue.in_order().enumerate() {
            entry
                .item
                .handle
                .set(JobState::Queued { ahead: running + i });
        }
    }

    /// Blocks until there is a job and returns it; `None` once the server stops.
    pub(super) fn next(&self) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if state.closing {
                return None;
            }
            if let Some(entry) = state.queue.pop() {
                state.running = Some(entry.item.handle.clone());
                self.publish_positions(&state);
                return Some(entry.item);
            }
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// Returns true when no job waits.
    pub(super) fn is_queue_empty(&self) -> bool {
        self.lock().queue.len() == 0
    }

    /// Ends a job: its row, its state, its folder, and its place in the queue, in this order: clients do not wait for the
    /// removal of files, but the shutdown does. `Err` leaves the row for the next start.
    pub(super) fn finish(&self, work: Work, ended: Result<JobState, StopReason>) {
        let Work {
            handle, mut folder, ..
        } = work;
        folder.uncount();
        let state = ended.clone().unwrap_or_else(|_| shutting_down());
        if let JobId::Row(id) = handle.id {
            let outcome = match ended {
                Ok(JobState::Cancelled) => Some(JobOutcome::Cancelled),
                Ok(JobState::Failed { reason }) => Some(JobOutcome::Failed { reason }),
                Ok(JobState::Done { hash }) => Some(JobOutcome::Done { hash }),
                _ => None,
            };
            let written = outcome.map(|outcome| self.store.finish_job(id, &outcome));
            handle.set(state);
            match written {
                // The folder is removed only when its row will not need it again.
                Some(Ok(_)) => folder.remove(),
                Some(Err(e)) => tracing::error!("cannot record the end of job {id}: {e}"),
                None => {}
            }
        } else {
            handle.set(state);
            drop(folder);
        }
        let mut state = self.lock();
        if state.running.as_ref().is_some_and(|r| r.key == handle.key) {
            state.running = None;
            self.publish_positions(&state);
        }
        if let JobId::Row(id) = handle.id {
            state.rows.remove(&id);
        }
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn wait_until_idle<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        time: Duration,
    ) -> MutexGuard<'a, State> {
        let start = Instant::now();
        while state.running.is_some() {
            let left = time.saturating_sub(start.elapsed());
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
    pub(super) fn reserve(shared: &'a Shared, user: i32) -> Result<Self, SubmitError> {
        shared.lock().reserve(user)?;
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
