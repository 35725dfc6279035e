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
mod submit;
mod watcher;
mod worker;

use std::{
    fs::File,
    sync::Arc,
    time::{Duration, Instant},
};

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
    submit::JobTicket,
};
use self::{
    faults::quietly,
    progress::StopReason,
    shared::{Shared, shutting_down},
};
use crate::{
    pipeline::{DeviceChoice, NetworkSource},
    store::{Job, Store, StoreError, StoredFile},
};

/// How long the shutdown waits for a stopped job to end.
const LAST_STEP: Duration = Duration::from_secs(5);

/// Why a job that its user cancelled ended, for the operator.
const BY_USER: &str = "cancelled by the user";

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
}
