//! Reconstructions one after another: a bounded queue, VIP users first, and a thread of its own for the device.
//!
//! Nothing here awaits and nothing here knows of sockets. The entry point is [`Jobs`]: a job is either tied to the holder
//! of its [`JobTicket`], or has a row in the store and survives this process. The same worker runs both.

mod error;
mod input;
mod job;
mod options;
mod progress;
mod queue;
mod quota;
mod settings;
mod shared;
mod worker;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::watch;

pub use self::{
    error::{JobsError, SubmitError},
    input::InputFolder,
    job::{JobId, JobRequest, JobState},
    options::{BadOption, JobOptions},
    quota::{QuotaError, QuotaSettings, Upload},
    settings::JobSettings,
};
use self::{
    progress::{Handle, StopReason},
    shared::{Reservation, Shared, State, Work, shutting_down},
};
use crate::{
    pipeline::{DeviceChoice, NetworkSource},
    store::{Job as StoredJob, JobOutcome, NewJob, Store, StoreError, StoredJobState},
};

/// How long the shutdown waits for a stopped job to reach its next step.
const LAST_STEP: Duration = Duration::from_secs(5);

/// The folder that a job's row names when there is no input to keep. Never created; an empty name would be the folder of
/// all jobs, which would be removed with the job.
const NO_INPUT: &str = "none";

/// Ties a job to its holder: when this is dropped, the job leaves the queue or stops at its next step.
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
        self.jobs.stop(&self.handle);
    }
}

/// The queue and its worker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Jobs {
    shared: Arc<Shared>,
}

/// Number of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Waiting jobs.
    pub queued: usize,
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
        let pending = store.pending_jobs()?;
        let wanted: Vec<PathBuf> = pending.iter().map(|row| store.job_dir(&row.dir)).collect();
        let swept = input::sweep(&store, &wanted)?;
        if swept > 0 {
            tracing::info!("removed {swept} folders of uploads and jobs that are over");
        }
        let jobs = Self {
            shared: Arc::new(Shared::new(settings, store, &source, device)),
        };
        for row in pending {
            jobs.requeue(row)?;
        }
        worker::start(jobs.shared.clone(), source)?;
        Ok(jobs)
    }

    /// Returns the name of the weights.
    pub fn model(&self) -> &str {
        &self.shared.model
    }

    /// Returns the name of the device: cpu or cuda:N.
    pub fn device(&self) -> String {
        match self.shared.device.resolved() {
            DeviceChoice::Auto => "auto".to_owned(),
            DeviceChoice::Cpu => "cpu".to_owned(),
            DeviceChoice::Cuda(n) => format!("cuda:{n}"),
        }
    }

    /// Returns the settings.
    pub fn settings(&self) -> &JobSettings {
        &self.shared.settings
    }

    /// Returns the number of waiting and running jobs.
    pub fn load(&self) -> Load {
        let state = self.shared.lock();
        Load {
            queued: state.queue.len(),
            running: usize::from(state.running.is_some()),
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

    /// Queues a job that lives as long as its ticket. A job whose result is stored is done at once.
    ///
    /// Blocks on the database.
    ///
    /// # Errors
    /// When the queue is full, the server stops or the database cannot be read.
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

    /// Stores a job, queues it and returns the key of its row. Once this returns the job survives this process.
    ///
    /// Blocks on the disk.
    ///
    /// # Errors
    /// When the queue is full, the server stops, or the job cannot be stored; nothing is left of it then.
    pub fn submit_durable(&self, mut request: JobRequest) -> Result<i64, SubmitError> {
        let shared = &self.shared;
        let key = shared.input_key(&request);
        let cached = shared.cached(&request, &key)?;
        let reservation = match cached {
            // Nothing is queued.
            Some(_) => None,
            None => Some(Reservation::reserve(shared, request.user.id)?),
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
        drop(reservation);
        Ok(row.id)
    }

    /// Returns the state of a job with a row; `None` when the user has no such job.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn state(&self, user_id: i32, id: i64) -> Result<Option<JobState>, StoreError> {
        if let Some(handle) = self.shared.lock().rows.get(&id) {
            return Ok((handle.user_id == user_id).then(|| handle.state()));
        }
        let row = self.shared.store.job(id)?.filter(|r| r.user_id == user_id);
        Ok(row.map(|row| match row.state {
            // Between the row and the queue, or left for the next start.
            StoredJobState::Queued | StoredJobState::Running => JobState::Queued { ahead: 0 },
            StoredJobState::Done { hash } => JobState::Done { hash },
            StoredJobState::Failed { reason } => JobState::Failed { reason },
            StoredJobState::Cancelled => JobState::Cancelled,
        }))
    }

    /// Stops a job with a row and returns its state then; a running one stops at its next step. `None` when the user
    /// has no such job.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn cancel(&self, user_id: i32, id: i64) -> Result<Option<JobState>, StoreError> {
        let handle = self.shared.lock().rows.get(&id).cloned();
        if let Some(handle) = handle.filter(|h| h.user_id == user_id) {
            self.stop(&handle);
        }
        self.state(user_id, id)
    }

    /// Accepts no more jobs, lets the running one finish within `grace`, then stops it. A job with a row that is not done
    /// by then stays in the store and runs again after the next start; others fail. Blocks.
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
            running.stop(StopReason::Shutdown);
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
        handle.stop(StopReason::Cancelled);
        let mut state = self.shared.lock();
        let Some(entry) = state.queue.remove(handle.key) else {
            return;
        };
        self.shared.publish_positions(&state);
        drop(state);
        self.shared.finish(entry.item, Ok(JobState::Cancelled));
    }

    /// Queues a job of an earlier process.
    fn requeue(&self, row: StoredJob) -> Result<(), JobsError> {
        let shared = &self.shared;
        let fail = |reason: &str| {
            tracing::warn!("job {}: {reason}", row.id);
            let reason = reason.to_owned();
            shared
                .store
                .finish_job(row.id, &JobOutcome::Failed { reason })
        };
        let mut folder = InputFolder::of_row(&shared.store, &row.dir);
        folder.resume(&shared.quotas, row.user_id);
        let Ok(options) = JobOptions::from_row(&row.options_json) else {
            fail("its options cannot be read")?;
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
        tracing::info!(job.id = row.id, "job {} is queued again", row.id);
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
