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
    fleet::Fleet,
    input::{InputFolder, InputPlace},
    job::{JobId, JobRequest, JobState, JobStatus},
    names::JobNames,
    options::JobOptions,
    progress::Handle,
    queue::{Entry, Queue},
    quota::Quotas,
    settings::JobSettings,
};
use crate::{
    pipeline::{DeviceChoice, NetworkSource},
    store::{Job as StoredJob, JobKind, Lease, Store, StoreError, StoredJobState},
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
    /// How this process works on the jobs of a database that others work on too; `None`: it is the only one, and its jobs wait in memory.
    pub(super) fleet: Option<Fleet>,
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
    /// At most one for each worker.
    pub(super) running: Vec<Running>,
    /// Jobs with rows that have not ended. Of a shared database, those alone that a connection waits for.
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
    /// How often jobs of a shared database have changed.
    pub(super) rings: u64,
    /// Jobs that nobody waits for any more, to be cancelled in a shared database.
    pub(super) unwanted: Vec<i64>,
}

/// The job that a worker has.
#[derive(Debug)]
pub(super) struct Running {
    /// The worker's number.
    pub(super) worker: usize,
    /// The right to write what becomes of it, of one with a row.
    pub(super) lease: Option<Lease>,
    pub(super) handle: Arc<Handle>,
    /// When it has run for too long.
    pub(super) deadline: Option<Instant>,
    /// Where its input files are.
    pub(super) folder: InputPlace,
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
    /// The right to write what becomes of it, of one with a row.
    pub(super) lease: Option<Lease>,
    /// A connection waits for it: a fault is told at once.
    pub(super) tied: bool,
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
            vip: request.user.is_vip,
            suspect: false,
            tries: 0,
            lease: match handle.id {
                JobId::Row(id) => Some(id.into()),
                JobId::Connection(_) => None,
            },
            tied: matches!(handle.id, JobId::Connection(_)),
            kind: request.kind,
            folder: request.folder,
            input_key,
            options: request.options,
            original_name: request.original_name,
            names: request.names,
            queued: Instant::now(),
            handle,
        }
    }

    /// Returns what a worker needs of a row, with the right to write what becomes of it that a database of one process gives.
    pub(super) fn of_row(
        row: StoredJob,
        handle: Arc<Handle>,
        folder: InputFolder,
        options: JobOptions,
    ) -> Self {
        Self {
            handle,
            vip: false,
            suspect: row.deaths > 0,
            tries: row.tries,
            lease: Some(row.id.into()),
            tied: false,
            kind: row.kind,
            folder,
            input_key: row.input_key,
            options,
            names: JobNames::from_row(&row.options_json),
            original_name: row.original_name,
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
        reserved.map_err(|full| SubmitError::full(full, self.running.len()))
    }

    pub(super) fn handle_of_row(&mut self, row: &StoredJob) -> Arc<Handle> {
        let key = self.next_key();
        let now = JobState::Queued { ahead: 0 };
        let handle = Handle::new(key, JobId::Row(row.id), row.user_id, now);
        self.rows.insert(row.id, handle.clone());
        handle
    }

    pub(super) fn is_running(&self, handle: &Handle) -> bool {
        let mut running = self.running.iter();
        running.any(|running| running.handle.key == handle.key)
    }

    /// Returns the job of a row that runs here.
    pub(super) fn running_row(&self, id: i64) -> Option<&Arc<Handle>> {
        let mut running = self.running.iter().map(|running| &running.handle);
        running.find(|handle| handle.id == JobId::Row(id))
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
        let running = self.running.len();
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
        Self {
            state: Mutex::new(State {
                queue: Queue::new(settings.places()),
                running: Vec::new(),
                rows: HashMap::new(),
                delayed: Vec::new(),
                unwritten: Vec::new(),
                next_key: 0,
                closing: false,
                closed: false,
                rings: 0,
                unwanted: Vec::new(),
            }),
            quotas: Arc::default(),
            artifacts: Artifacts::default(),
            drafts: Arc::default(),
            fleet: store.is_shared().then(|| Fleet::new(&settings.fleet)),
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

    /// Returns the name of the device: cpu or cuda:N.
    pub(super) fn device_name(&self) -> String {
        match self.device.resolved() {
            DeviceChoice::Auto => "auto".to_owned(),
            DeviceChoice::Cpu => "cpu".to_owned(),
            DeviceChoice::Cuda(n) => format!("cuda:{n}"),
        }
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

    /// Returns how the jobs of rows stand.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(super) fn statuses(&self, rows: &[StoredJob]) -> Result<Vec<JobStatus>, StoreError> {
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let warnings = self.store.job_warnings(&ids)?;
        let pending = match &self.fleet {
            Some(_) => self.pending_of(rows)?,
            None => HashMap::new(),
        };
        let of = |row: &StoredJob| self.status_of(row, warnings.get(&row.id), &pending);
        Ok(rows.iter().map(of).collect())
    }

    /// Returns how the job of a row stands; `warnings` is what the store has of it.
    fn status_of(
        &self,
        row: &StoredJob,
        warnings: Option<&String>,
        pending: &HashMap<i64, JobState>,
    ) -> JobStatus {
        let ahead = {
            let state = self.lock();
            // An end that is in the row counts, also while the worker does not know of it yet.
            let known = match &self.fleet {
                None => state.rows.get(&row.id).filter(|_| !row.state.is_final()),
                // What runs here is known better than its row.
                Some(_) => state.running_row(row.id).filter(|handle| {
                    row.state == StoredJobState::Running && handle.stopped().is_none()
                }),
            };
            if let Some(handle) = known {
                return handle.status();
            }
            state.queue.len() + state.running.len()
        };
        let warnings = warnings.and_then(|json| serde_json::from_str(json).ok());
        JobStatus {
            state: match row.state.clone() {
                // Between the row and the queue, or left for the next start.
                StoredJobState::Queued | StoredJobState::Running => pending
                    .get(&row.id)
                    .cloned()
                    .unwrap_or(JobState::Queued { ahead }),
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
    pub(super) fn next(&self, worker: usize) -> Option<(Work, Option<Instant>)> {
        if let Some(fleet) = &self.fleet {
            return self.next_claimed(fleet, worker);
        }
        let mut state = self.lock();
        loop {
            if state.closing {
                return None;
            }
            if let Some(entry) = state.queue.pop() {
                let work = entry.item;
                let deadline = self.starts(&mut state, worker, &work);
                state.publish_positions();
                return Some((work, deadline));
            }
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// Notes that a worker has a job, and returns when that must have ended.
    pub(super) fn starts(&self, state: &mut State, worker: usize, work: &Work) -> Option<Instant> {
        self.settings.metrics.job_waited(work.queued.elapsed());
        let limit = self.settings.max_job_time;
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        state.running.push(Running {
            worker,
            lease: work.lease,
            handle: work.handle.clone(),
            deadline,
            folder: work.folder.place(),
        });
        self.watch.notify_all();
        deadline
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
        while !state.running.is_empty() {
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
