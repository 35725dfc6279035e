//! Reconstructions one after another: a bounded queue in which users take turns, VIPs first, and a thread of its own for
//! the device.
//!
//! Nothing here awaits and nothing here knows of sockets. The entry point is [`Jobs`]: a job is either tied to the holder
//! of its [`JobTicket`], or has a row in the store and survives this process. The same worker runs both. A second thread,
//! the watcher, follows time and the rows: deadlines, further tries, and what the operator asks for.

mod artifacts;
mod drafts;
mod ending;
mod error;
mod faults;
mod fleet;
mod follow;
mod input;
mod job;
mod manage;
mod names;
mod options;
mod progress;
mod progress_kept;
mod queue;
mod quota;
mod reconstruct;
mod rerun;
mod restore;
mod settings;
mod shared;
mod watcher;
mod worker;

use std::{
    fs::File,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;
use vggt_model::demo;

pub use self::{
    artifacts::{Artifact, ArtifactError, MadeFile, MadeOf, Still, StillFile},
    drafts::{DraftError, DraftInput, DraftWriter},
    error::{JobsError, SubmitError},
    fleet::FleetSettings,
    follow::Following,
    input::InputFolder,
    job::{JobId, JobRequest, JobState, JobStatus, ListedJob},
    manage::{ChangeError, JobChange, OwnJob},
    names::JobNames,
    options::{BadOption, JobOptions},
    quota::{QuotaError, QuotaSettings, Upload},
    rerun::RerunError,
    settings::JobSettings,
};
use self::{
    faults::quietly,
    progress::{Handle, StopReason},
    shared::{Reservation, Shared, State, Work, shutting_down},
};
use crate::{
    pipeline::{DeviceChoice, NetworkSource},
    store::{Admission, Job, NewJob, Store, StoreError, StoredFile},
};

/// How long the shutdown waits for a stopped job to end.
const LAST_STEP: Duration = Duration::from_secs(5);

/// The folder that a job's row names when there is no input to keep. Never created; an empty name would be the folder of
/// all jobs, which would be removed with the job.
const NO_INPUT: &str = "none";

/// Why a job that its user cancelled ended, for the operator.
const BY_USER: &str = "cancelled by the user";

/// Ties a job to its holder: when this is dropped, the job leaves the queue or stops.
#[derive(Debug)]
pub struct JobTicket {
    handle: Arc<Handle>,
    jobs: Jobs,
}

impl JobTicket {
    /// Returns the job's id.
    pub fn id(&self) -> JobId {
        self.handle.id
    }

    /// Returns the job's state and every change of it.
    pub fn watch(&self) -> watch::Receiver<JobState> {
        self.handle.watch()
    }
}

impl Drop for JobTicket {
    fn drop(&mut self) {
        let shared = &self.jobs.shared;
        let JobId::Row(id) = self.handle.id else {
            shared.stop(&self.handle, StopReason::Cancelled);
            return;
        };
        let mut state = shared.lock();
        state.rows.remove(&id);
        if !self.handle.state().is_final() {
            // By the watcher: this must not wait for the database.
            state.unwanted.push(id);
            shared.watch.notify_all();
        }
    }
}

/// The queue and its worker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Jobs {
    shared: Arc<Shared>,
}

/// Number of jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Waiting jobs.
    pub queued: usize,
    /// Those of them that are VIPs'.
    pub queued_vip: usize,
    /// Running jobs.
    pub running: usize,
}

impl Jobs {
    /// Cleans up after the last process, queues the jobs it left, and starts the worker. With
    /// [`JobSettings::preload`] the network is loaded when this returns.
    ///
    /// # Errors
    /// When the store cannot be read, the worker cannot start or the network cannot be loaded.
    pub fn start(
        settings: JobSettings,
        store: Store,
        source: NetworkSource,
        device: DeviceChoice,
    ) -> Result<Self, JobsError> {
        store.sweep_temporary()?;
        let shared = Arc::new(Shared::new(settings, store, &source, device));
        match &shared.fleet {
            Some(fleet) => shared.take_up(fleet)?,
            None => shared.restore_all()?,
        }
        shared.restore_drafts()?;
        shared.sweep_folders()?;
        shared.listen();
        watcher::start(shared.clone())?;
        worker::start(&shared, &source)?;
        Ok(Self { shared })
    }

    /// Returns the name of the weights.
    pub fn model(&self) -> &str {
        &self.shared.model
    }

    /// Returns the name of the device: cpu or cuda:N.
    pub fn device(&self) -> String {
        self.shared.device_name()
    }

    /// Returns the settings.
    pub fn settings(&self) -> &JobSettings {
        &self.shared.settings
    }

    /// Returns true when the files of the weights are there, or this process needs none.
    pub fn has_weights(&self) -> bool {
        if self.shared.workers() == 0 {
            return true;
        }
        let mut files = self.shared.weights.iter();
        files.all(|file| file.is_file())
    }

    /// Returns true when the network has the demo weights, which know synthetic scenes only.
    pub fn has_demo_weights(&self) -> bool {
        self.shared.model == demo::WEIGHTS_NAME
    }

    /// Returns true when the disk of the files has more free space than uploads have to leave.
    pub fn has_disk_space(&self) -> bool {
        let Shared {
            settings, store, ..
        } = &*self.shared;
        settings.quotas.has_space(store)
    }

    /// Returns the number of waiting and running jobs, of all processes that share them. Blocks.
    pub fn load(&self) -> Load {
        if self.shared.fleet.is_some() {
            return self.shared.load_of_all().unwrap_or_else(|e| {
                tracing::warn!("cannot count the jobs: {e}");
                Load::default()
            });
        }
        let state = self.shared.lock();
        let queued = state.queue.in_order().map(|entry| entry.vip);
        let delayed = state.delayed.iter().map(|delayed| delayed.work.vip);
        Load {
            queued: state.queue.len() + state.delayed.len(),
            queued_vip: queued.chain(delayed).filter(|vip| *vip).count(),
            running: state.running.len(),
        }
    }

    /// Counts an upload of so many bytes that is about to arrive, with [`InputFolder::count`] until its job is over.
    ///
    /// Blocks on the database.
    ///
    /// # Errors
    /// When it is more than the user may hold or than fits on the disk.
    pub fn begin_upload(&self, user_id: i32, bytes: u64) -> Result<Upload, QuotaError> {
        let Shared {
            settings,
            store,
            quotas,
            ..
        } = &*self.shared;
        quotas.begin(&settings.quotas, store, user_id, bytes)
    }

    /// Returns the number of uploads that arrive.
    pub fn uploads(&self) -> usize {
        self.shared.quotas.uploads()
    }

    /// Queues a job that lives as long as its ticket. A job whose result is stored is done at once. In a shared database it has a row, for
    /// any worker, and is cancelled with its ticket.
    ///
    /// Blocks on the database.
    ///
    /// # Errors
    /// When the queue is full, the server stops or the database cannot be read.
    pub fn submit(&self, request: JobRequest) -> Result<JobTicket, SubmitError> {
        if self.shared.fleet.is_some() {
            return self.submit_shared(request);
        }
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
        state.reserve(request.user.id, request.user.is_vip)?;
        state.queue.release(request.user.id);
        let handle = handle(&mut state, JobState::Queued { ahead: 0 });
        let work = Work::new(handle.clone(), request, key);
        self.shared.push(&mut state, work);
        drop(state);
        Ok(self.ticket(handle))
    }

    fn submit_shared(&self, request: JobRequest) -> Result<JobTicket, SubmitError> {
        let user_id = request.user.id;
        let store = &self.shared.store;
        let add = |job: &NewJob| Ok::<_, SubmitError>(store.add_job(job)?);
        let id = self.submit_with(request, true, add)?;
        let mut state = self.shared.lock();
        let key = state.next_key();
        let now = JobState::Queued { ahead: 0 };
        let handle = Handle::new(key, JobId::Row(id), user_id, now);
        state.rows.insert(id, handle.clone());
        drop(state);
        // A result that is stored already is told at once.
        self.shared.watch.notify_all();
        Ok(self.ticket(handle))
    }

    /// Stores a job, queues it and returns the key of its row. Once this returns the job survives this process.
    ///
    /// Blocks on the disk.
    ///
    /// # Errors
    /// When the queue is full, the server stops, or the job cannot be stored; nothing is left of it then.
    pub fn submit_durable(&self, request: JobRequest) -> Result<i64, SubmitError> {
        let store = &self.shared.store;
        self.submit_with(request, false, |job| Ok(store.add_job(job)?))
    }

    /// As [`Jobs::submit_durable`]; `add` makes the row, and with `tied` a connection waits for it.
    fn submit_with<E: From<SubmitError>>(
        &self,
        mut request: JobRequest,
        tied: bool,
        add: impl FnOnce(&NewJob) -> Result<Job, E>,
    ) -> Result<i64, E> {
        let shared = &self.shared;
        let key = shared.input_key(&request);
        let cached = shared.cached(&request, &key).map_err(SubmitError::from)?;
        let reservation = match cached {
            // Nothing is queued.
            Some(_) => None,
            // The row takes the place.
            None if shared.fleet.is_some() => match shared.lock().closing {
                true => return Err(SubmitError::ShuttingDown.into()),
                false => None,
            },
            None => Some(Reservation::reserve(
                shared,
                request.user.id,
                request.user.is_vip,
            )?),
        };
        let dir = match cached {
            Some(_) => NO_INPUT.to_owned(),
            None => request
                .folder
                .keep(&shared.store)
                .map_err(SubmitError::Input)?,
        };
        let row = add(&NewJob {
            user_id: request.user.id,
            kind: request.kind,
            original_name: request.original_name.clone(),
            options_json: request
                .names
                .options_json(&request.options)
                .map_err(SubmitError::Input)?,
            input_key: key.clone(),
            dir,
            admission: Admission {
                vip: request.user.is_vip,
                size: request.folder.size(request.kind),
                input_bytes: request.folder.bytes(),
                tied,
                places: shared.fleet.is_some().then_some(shared.settings.places()),
            },
            hash: cached.clone(),
        })?;
        if cached.is_some() {
            return Ok(row.id);
        }
        request.folder.has_row();
        if shared.workers() == 0 {
            request.folder.leave();
        }
        if shared.fleet.is_some() {
            return Ok(row.id);
        }
        let mut state = shared.lock();
        let handle = state.handle_of_row(&row);
        shared.push(&mut state, Work::new(handle, request, key));
        drop(state);
        drop(reservation);
        Ok(row.id)
    }

    /// Returns how a job with a row stands; `None` when the user has no such job.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn status(&self, user_id: i32, id: i64) -> Result<Option<JobStatus>, StoreError> {
        if self.shared.fleet.is_none()
            && let Some(handle) = self.shared.lock().rows.get(&id)
        {
            return Ok((handle.user_id == user_id).then(|| handle.status()));
        }
        let store = &self.shared.store;
        let Some(row) = store.job(id)?.filter(|row| row.user_id == user_id) else {
            return Ok(None);
        };
        Ok(self.shared.statuses(&[row])?.pop())
    }

    /// Returns at most `limit` jobs with rows of a user, newest first, from those submitted before the job `before`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn page(
        &self,
        user_id: i32,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<ListedJob>, StoreError> {
        let rows = self.shared.store.page_of_jobs(user_id, before, limit)?;
        self.listed(rows)
    }

    fn listed(&self, rows: Vec<Job>) -> Result<Vec<ListedJob>, StoreError> {
        let statuses = self.shared.statuses(&rows)?;
        let listed = rows.into_iter().zip(statuses);
        let listed = listed.map(|(row, status)| ListedJob {
            id: row.id,
            status,
            name: row.original_name,
            created_at: row.created_at,
            finished_at: row.finished_at,
        });
        Ok(listed.collect())
    }

    /// Opens a preview of a job that runs, if it is the user's. Blocks.
    ///
    /// # Errors
    /// When the database or the file cannot be read.
    pub fn preview(&self, user_id: i32, hash: &str) -> Result<Option<StoredFile>, StoreError> {
        let here = {
            let state = self.shared.lock();
            let running = state.running.iter().map(|running| &running.handle);
            let mut own = running.filter(|h| h.user_id == user_id && !h.state().is_final());
            let preview = own.find_map(|handle| handle.preview().filter(|p| p.hash == hash));
            preview.map(|preview| preview.path.clone())
        };
        if let Some(path) = here {
            // A moment ago.
            return Ok(File::open(path).and_then(StoredFile::on_disk).ok());
        }
        if self.shared.fleet.is_none() {
            return Ok(None);
        }
        let store = &self.shared.store;
        match store.dir_of_preview(user_id, hash)? {
            Some(dir) => InputFolder::of_row(store, &dir).open_preview(),
            None => Ok(None),
        }
    }

    /// Cancels a job with a row and returns how it stands then. Once this returns, the row says so: the job does not come back,
    /// whatever happens to this process. A running one stops soon after. `None` when the user has no such job.
    ///
    /// Blocks on the disk.
    ///
    /// # Errors
    /// When the database cannot be read or written: the job goes on then.
    pub fn cancel(&self, user_id: i32, id: i64) -> Result<Option<JobStatus>, StoreError> {
        let store = &self.shared.store;
        let of_user = |row: &Job| row.user_id == user_id;
        if store.job(id)?.filter(of_user).is_none() {
            return Ok(None);
        }
        if self.shared.fleet.is_some() {
            self.shared.cancel_row(id, BY_USER)?;
            return self.status(user_id, id);
        }
        if !store.cancel_job(id, BY_USER, false)? {
            // It had ended, which its worker may be about to learn: the row is what counts.
            let row = store.job(id)?.filter(of_user);
            return Ok(self.shared.statuses(row.as_slice())?.pop());
        }
        let handle = self.shared.lock().rows.get(&id).cloned();
        if let Some(handle) = handle {
            handle.set(JobState::Cancelled);
            self.shared.stop(&handle, StopReason::Cancelled);
        }
        self.status(user_id, id)
    }

    /// Accepts no more jobs, lets the running one finish within `grace`, then stops it. A job with a row that is not done
    /// by then stays in the store and runs again after the next start; others fail. Blocks.
    pub fn shutdown(&self, grace: Duration) {
        let shared = &self.shared;
        let mut state = shared.lock();
        state.closing = true;
        if let Some(fleet) = &shared.fleet {
            fleet.hurry();
        }
        shared.changed.notify_all();
        shared.watch.notify_all();
        let dropped: Vec<_> = std::iter::from_fn(|| state.queue.pop()).collect();
        let delayed = std::mem::take(&mut state.delayed);
        for entry in &dropped {
            if entry.item.row().is_none() {
                entry.item.handle.set(shutting_down());
            }
        }
        drop((state, dropped, delayed));
        // Before the grace period: whatever ends the process from now on is not a death of the job.
        self.note_clean_stop();
        let end = Instant::now().checked_add(grace);
        shared.drop_connections(end);
        let left = end.map_or(grace, |end| end.saturating_duration_since(Instant::now()));
        let mut state = shared.wait_until_idle(shared.lock(), left);
        for running in &state.running {
            running.handle.stop(StopReason::Shutdown);
        }
        state = shared.wait_until_idle(state, LAST_STEP);
        for running in &state.running {
            let handle = &running.handle;
            quietly(|| tracing::warn!("job {} did not stop in time", handle.id));
            if let JobId::Connection(_) = handle.id {
                handle.set(shutting_down());
            }
        }
        drop(state);
        shared.write_unwritten(true);
        // Again, for a job that was about to start.
        self.note_clean_stop();
        shared.leave_fleet();
        shared.lock().closed = true;
        shared.artifacts.clear();
        shared.watch.notify_all();
    }

    fn note_clean_stop(&self) {
        if self.shared.fleet.is_some() {
            // Others go on.
            return;
        }
        if let Err(e) = self.shared.store.stop_jobs_cleanly() {
            quietly(|| tracing::warn!("cannot note the clean stop in the rows of the jobs: {e}"));
        }
    }

    fn ticket(&self, handle: Arc<Handle>) -> JobTicket {
        JobTicket {
            handle,
            jobs: self.clone(),
        }
    }
}
