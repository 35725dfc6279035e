//! Reconstructions one after another: a bounded queue, VIP users first, and a thread of its own for the device.
//!
//! Nothing here awaits and nothing here knows of sockets. The one door in is [`Jobs`]: a job is either tied to whoever
//! holds its [`JobTicket`], or has a row in the store and survives this process. Both are run by the same worker.

mod input;
mod options;
mod progress;
mod queue;
mod settings;
mod worker;

use std::{
    collections::HashMap,
    fmt, io,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::{
    pipeline::{DeviceChoice, NetworkSource, PipelineError},
    store::{JobKind, JobOutcome, JobRow, JobRowState, NewJob, Store, StoreError, User},
};

pub use self::{
    input::InputFolder,
    options::{BadOption, JobOptions},
    settings::JobSettings,
};
use self::{
    progress::{Handle, Stop},
    queue::{Entry, Full, Queue},
};

/// How long a job that was told to stop may take to reach its next step before nobody waits for it any more.
const LAST_STEP: Duration = Duration::from_secs(5);

/// The folder that a job's row names when there is no input to keep. Never made; an empty name would be the folder of
/// all jobs, which somebody might remove.
const NO_INPUT: &str = "none";

/// Why jobs cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobsError {
    /// The rows.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network, when it is loaded at the start.
    #[error(transparent)]
    Network(#[from] PipelineError),
    /// The folder of uploads or of jobs' inputs.
    #[error("cannot tidy up the folders of uploads: {0}")]
    Folder(#[source] io::Error),
    /// The worker's thread.
    #[error("cannot start the worker: {0}")]
    Thread(#[source] io::Error),
}

/// Why a job is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// No place is free.
    #[error("busy, {ahead} ahead")]
    Busy {
        /// Jobs that would run before it.
        ahead: usize,
    },
    /// The user has enough jobs waiting.
    #[error("busy, {waiting} of your own wait already; try again when one is done")]
    TooManyOfOne {
        /// The user's waiting jobs.
        waiting: usize,
    },
    /// The server is about to stop.
    #[error("the server is shutting down; try again later")]
    ShuttingDown,
    /// The row could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The input files could not be kept.
    #[error("cannot keep the input files: {0}")]
    Input(#[source] io::Error),
}

/// What a job is called in logs and replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobId {
    /// The key of its row.
    Row(i64),
    /// Tied to a connection and known to nobody else: a number of this process.
    Connection(u64),
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row(id) => write!(f, "{id}"),
            Self::Connection(id) => write!(f, "c{id}"),
        }
    }
}

/// How a job stands.
#[derive(Debug, Clone, PartialEq)]
pub enum JobState {
    /// Waits for its turn.
    Queued {
        /// Jobs that run before it, the running one included.
        ahead: usize,
    },
    /// Is being worked on.
    Running {
        /// Which part, a word.
        stage: &'static str,
        /// How much of the whole is done, in [0, 1].
        fraction: f32,
        /// An estimate, once there is one.
        seconds_left: Option<f32>,
    },
    /// Its GLB is stored.
    Done {
        /// The GLB's `hashed_name`.
        hash: String,
    },
    /// It has none and will not.
    Failed {
        /// Why, fit to be told the user.
        reason: String,
    },
    /// It was stopped.
    Cancelled,
}

impl JobState {
    /// Tells whether it will not change any more.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Queued { .. } | Self::Running { .. })
    }
}

/// What is to be reconstructed, for whom and how.
#[derive(Debug)]
pub struct JobRequest {
    /// Who asks.
    pub user: User,
    /// What the folder holds.
    pub kind: JobKind,
    /// The input files.
    pub folder: InputFolder,
    /// SHA-256 of the input, 64 hex digits.
    pub input_sha256: String,
    /// How.
    pub options: JobOptions,
    /// What the result is to be called.
    pub original_name: String,
}

/// A job that lives as long as somebody holds this: dropped, it leaves the queue or stops at its next step.
#[derive(Debug)]
pub struct JobTicket {
    handle: Arc<Handle>,
    jobs: Jobs,
}

impl JobTicket {
    /// What the job is called.
    pub fn id(&self) -> JobId {
        self.handle.id
    }

    /// How the job stands, and every change of it.
    pub fn watch(&self) -> watch::Receiver<JobState> {
        self.handle.watch()
    }
}

impl Drop for JobTicket {
    fn drop(&mut self) {
        self.jobs.stop(&self.handle);
    }
}

/// The queue and its worker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Jobs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: JobSettings,
    store: Store,
    model: String,
    device: DeviceChoice,
    /// Stands for the weights in the key of a result.
    weights_key: String,
    state: Mutex<State>,
    /// Told when a job comes, ends, or the end comes.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    queue: Queue<Work>,
    running: Option<Arc<Handle>>,
    /// The jobs with rows that are not over.
    rows: HashMap<i64, Arc<Handle>>,
    next_key: u64,
    closing: bool,
}

/// All a worker needs to know of a job.
#[derive(Debug)]
struct Work {
    handle: Arc<Handle>,
    kind: JobKind,
    folder: InputFolder,
    input_key: String,
    options: JobOptions,
    original_name: String,
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Jobs that wait.
    pub queued: usize,
    /// Jobs being worked on.
    pub running: usize,
}

impl Jobs {
    /// Tidies up after the last process, queues the jobs it left, and starts the worker. With
    /// [`JobSettings::preload`] the network is loaded when this returns.
    ///
    /// # Errors
    /// When the store cannot be read, the worker not be started or the network not be loaded.
    pub fn start(
        settings: JobSettings,
        store: Store,
        source: NetworkSource,
        device: DeviceChoice,
    ) -> Result<Self, JobsError> {
        store.sweep_temporary()?;
        let pending = store.pending_jobs()?;
        let wanted: Vec<PathBuf> = pending.iter().map(|row| store.job_dir(&row.dir)).collect();
        let swept = input::sweep(&store, &wanted)?;
        if swept > 0 {
            tracing::info!("removed {swept} folders of uploads and jobs that are over");
        }
        let jobs = Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    queue: Queue::new(settings.queue, settings.queue_per_user),
                    running: None,
                    rows: HashMap::new(),
                    next_key: 0,
                    closing: false,
                }),
                changed: Condvar::new(),
                model: worker::model_name(&source),
                weights_key: worker::weights_key(&source),
                device,
                settings,
                store,
            }),
        };
        for row in pending {
            jobs.take_up(row)?;
        }
        worker::start(jobs.shared.clone(), source)?;
        Ok(jobs)
    }

    /// What the weights are called.
    pub fn model(&self) -> &str {
        &self.shared.model
    }

    /// The device, as `--device` takes it.
    pub fn device(&self) -> String {
        match self.shared.device.resolved() {
            DeviceChoice::Auto => "auto".to_owned(),
            DeviceChoice::Cpu => "cpu".to_owned(),
            DeviceChoice::Cuda(n) => format!("cuda:{n}"),
        }
    }

    /// How jobs are queued and run.
    pub fn settings(&self) -> &JobSettings {
        &self.shared.settings
    }

    /// How much there is to do.
    pub fn load(&self) -> Load {
        let state = self.shared.lock();
        Load {
            queued: state.queue.len(),
            running: usize::from(state.running.is_some()),
        }
    }

    /// Queues a job that lives as long as its ticket. A stored result of the same input is there at once.
    ///
    /// Asks the database: call it where blocking is allowed.
    ///
    /// # Errors
    /// When no place is free, the server stops or the database cannot be asked.
    pub fn submit(&self, request: JobRequest) -> Result<JobTicket, SubmitError> {
        let key = self.shared.input_key(&request);
        let cached = self.shared.cached(&request, &key)?;
        let mut state = self.shared.lock();
        let handle = |state: &mut State, now| {
            let key = state.next_key();
            Handle::new(key, JobId::Connection(key), request.user.id, now)
        };
        if let Some(hash) = cached {
            let handle = handle(&mut state, JobState::Done { hash });
            return Ok(self.ticket(handle));
        }
        state.reserve(request.user.id)?;
        state.queue.release(request.user.id);
        let handle = handle(&mut state, JobState::Queued { ahead: 0 });
        self.shared.push(
            &mut state,
            request.user.is_vip,
            Work::new(handle.clone(), request, key),
        );
        drop(state);
        Ok(self.ticket(handle))
    }

    /// Writes a job down, queues it and gives its row's key. Once this returns the job survives this process.
    ///
    /// Blocks on the disk.
    ///
    /// # Errors
    /// When no place is free, the server stops, or the job cannot be written down; nothing is left of it then.
    pub fn submit_durable(&self, mut request: JobRequest) -> Result<i64, SubmitError> {
        let shared = &self.shared;
        let key = shared.input_key(&request);
        let cached = shared.cached(&request, &key)?;
        let place = match cached {
            // Nothing is queued: no place is needed.
            Some(_) => None,
            None => Some(Place::reserve(shared, request.user.id)?),
        };
        let dir = match cached {
            Some(_) => NO_INPUT.to_owned(),
            None => request
                .folder
                .keep(&shared.store)
                .map_err(SubmitError::Input)?,
        };
        let options_json = serde_json::to_string(&request.options)
            .map_err(|e| SubmitError::Input(io::Error::other(e)))?;
        let row = shared.store.add_job(&NewJob {
            user_id: request.user.id,
            kind: request.kind,
            original_name: request.original_name.clone(),
            options_json,
            input_key: key.clone(),
            dir,
        })?;
        if let Some(hash) = cached {
            shared
                .store
                .finish_job(row.id, &JobOutcome::Done { hash })?;
            return Ok(row.id);
        }
        request.folder.has_row();
        let vip = request.user.is_vip;
        let mut state = shared.lock();
        let handle = state.handle_of_row(&row);
        shared.push(&mut state, vip, Work::new(handle, request, key));
        drop(state);
        drop(place);
        Ok(row.id)
    }

    /// How a job with a row stands; `None` when the user has no such job.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub fn state(&self, user_id: i32, id: i64) -> Result<Option<JobState>, StoreError> {
        if let Some(handle) = self.shared.lock().rows.get(&id) {
            return Ok((handle.user_id == user_id).then(|| handle.state()));
        }
        let row = self.shared.store.job(id)?.filter(|r| r.user_id == user_id);
        Ok(row.map(|row| match row.state {
            // Between the row and the queue, or left for the next start.
            JobRowState::Queued | JobRowState::Running => JobState::Queued { ahead: 0 },
            JobRowState::Done { hash } => JobState::Done { hash },
            JobRowState::Failed { reason } => JobState::Failed { reason },
            JobRowState::Cancelled => JobState::Cancelled,
        }))
    }

    /// Stops a job with a row and tells how it stands then; a running one stops at its next step. `None` when the user
    /// has no such job.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub fn cancel(&self, user_id: i32, id: i64) -> Result<Option<JobState>, StoreError> {
        let handle = self.shared.lock().rows.get(&id).cloned();
        if let Some(handle) = handle.filter(|h| h.user_id == user_id) {
            self.stop(&handle);
        }
        self.state(user_id, id)
    }

    /// Takes no more jobs, gives the running one `grace` to finish, then stops it. A job with a row that is not done by
    /// then stays in the store and runs again after the next start; others fail. Blocks.
    pub fn shutdown(&self, grace: Duration) {
        let shared = &self.shared;
        let mut state = shared.lock();
        state.closing = true;
        shared.changed.notify_all();
        let dropped: Vec<_> = std::iter::from_fn(|| state.queue.pop()).collect();
        for entry in &dropped {
            if let JobId::Connection(_) = entry.item.handle.id {
                entry.item.handle.set(shutting_down());
            }
        }
        let mut state = shared.wait_until_idle(state, grace);
        if let Some(running) = &state.running {
            running.stop(Stop::Shutdown);
            state = shared.wait_until_idle(state, LAST_STEP);
        }
        if let Some(running) = &state.running {
            tracing::warn!("job {} did not stop in time", running.id);
            if let JobId::Connection(_) = running.id {
                running.set(shutting_down());
            }
        }
    }

    fn ticket(&self, handle: Arc<Handle>) -> JobTicket {
        JobTicket {
            handle,
            jobs: self.clone(),
        }
    }

    fn stop(&self, handle: &Arc<Handle>) {
        handle.stop(Stop::Cancelled);
        let mut state = self.shared.lock();
        let Some(entry) = state.queue.remove(handle.key) else {
            return;
        };
        self.shared.tell_places(&state);
        drop(state);
        self.shared.finish(entry.item, Ok(JobState::Cancelled));
    }

    /// Queues a job of an earlier process.
    fn take_up(&self, row: JobRow) -> Result<(), JobsError> {
        let shared = &self.shared;
        let fail = |reason: &str| {
            tracing::warn!("job {}: {reason}", row.id);
            let reason = reason.to_owned();
            shared
                .store
                .finish_job(row.id, &JobOutcome::Failed { reason })
        };
        let folder = InputFolder::of_row(&shared.store, &row.dir);
        let Ok(options) = JobOptions::from_row(&row.options_json) else {
            fail("its options cannot be read any more")?;
            folder.remove();
            return Ok(());
        };
        if folder.source(row.kind).is_none() {
            fail("its input files are gone; submit it again")?;
            return Ok(());
        }
        let vip = shared
            .store
            .user_by_id(row.user_id)?
            .is_some_and(|user| user.is_vip);
        tracing::info!(job.id = row.id, "job {} is taken up again", row.id);
        let mut state = shared.lock();
        let handle = state.handle_of_row(&row);
        let work = Work {
            handle,
            kind: row.kind,
            folder,
            input_key: row.input_key,
            options,
            original_name: row.original_name,
        };
        shared.push(&mut state, vip, work);
        Ok(())
    }
}

impl Work {
    fn new(handle: Arc<Handle>, request: JobRequest, input_key: String) -> Self {
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
    fn next_key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    fn reserve(&mut self, user: i32) -> Result<(), SubmitError> {
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

    fn handle_of_row(&mut self, row: &JobRow) -> Arc<Handle> {
        let key = self.next_key();
        let now = JobState::Queued { ahead: 0 };
        let handle = Handle::new(key, JobId::Row(row.id), row.user_id, now);
        self.rows.insert(row.id, handle.clone());
        handle
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock can only come from an allocation that failed: the state is whole.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// What the same input with the same options and weights has in common.
    fn input_key(&self, request: &JobRequest) -> String {
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

    fn cached(&self, request: &JobRequest, key: &str) -> Result<Option<String>, StoreError> {
        if !self.settings.cache {
            return Ok(None);
        }
        let found = self.store.cached_result(request.user.id, key)?;
        Ok(found.map(|row| row.hashed_name))
    }

    fn push(&self, state: &mut State, vip: bool, work: Work) {
        if state.closing {
            // Reserved before the end came: a row waits for the next start, others are told.
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
        self.tell_places(state);
        self.changed.notify_all();
    }

    fn tell_places(&self, state: &State) {
        let running = usize::from(state.running.is_some());
        for (i, entry) in state.queue.in_order().enumerate() {
            entry
                .item
                .handle
                .set(JobState::Queued { ahead: running + i });
        }
    }

    /// The next job, or `None` when there will be no more. Blocks until then.
    fn next(&self) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if state.closing {
                return None;
            }
            if let Some(entry) = state.queue.pop() {
                state.running = Some(entry.item.handle.clone());
                self.tell_places(&state);
                return Some(entry.item);
            }
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// Ends a job: its row, whoever waits for it, its folder, and its place, in this order: nobody waits for files to be
    /// removed, but the end of the server does. `Err` leaves a row for the next start.
    fn finish(&self, work: Work, ended: Result<JobState, Stop>) {
        let Work { handle, folder, .. } = work;
        let told = ended.clone().unwrap_or_else(|_| shutting_down());
        if let JobId::Row(id) = handle.id {
            let outcome = match ended {
                Ok(JobState::Cancelled) => Some(JobOutcome::Cancelled),
                Ok(JobState::Failed { reason }) => Some(JobOutcome::Failed { reason }),
                Ok(JobState::Done { hash }) => Some(JobOutcome::Done { hash }),
                _ => None,
            };
            let written = outcome.map(|outcome| self.store.finish_job(id, &outcome));
            handle.set(told);
            match written {
                // A folder goes only when its row will not ask for it again.
                Some(Ok(_)) => folder.remove(),
                Some(Err(e)) => tracing::error!("cannot write down the end of job {id}: {e}"),
                None => {}
            }
        } else {
            handle.set(told);
            drop(folder);
        }
        let mut state = self.lock();
        if state.running.as_ref().is_some_and(|r| r.key == handle.key) {
            state.running = None;
            self.tell_places(&state);
        }
        if let JobId::Row(id) = handle.id {
            state.rows.remove(&id);
        }
        drop(state);
        self.changed.notify_all();
    }

    fn wait_until_idle<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        time: Duration,
    ) -> MutexGuard<'a, State> {
        let end = Instant::now() + time;
        while state.running.is_some() {
            let left = end.saturating_duration_since(Instant::now());
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

/// A reserved place, given back when dropped: the pushed job holds one of its own by then.
struct Place<'a> {
    shared: &'a Shared,
    user: i32,
}

impl<'a> Place<'a> {
    fn reserve(shared: &'a Shared, user: i32) -> Result<Self, SubmitError> {
        shared.lock().reserve(user)?;
        Ok(Self { shared, user })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.lock().queue.release(self.user);
    }
}

fn shutting_down() -> JobState {
    JobState::Failed {
        reason: SubmitError::ShuttingDown.to_string(),
    }
}
