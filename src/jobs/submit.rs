//! The way of a job into the queue, and who waits for it.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    Jobs,
    error::SubmitError,
    job::{JobId, JobRequest, JobState},
    progress::{Handle, StopReason},
    shared::{Reservation, State, Work},
};
use crate::store::{Admission, Job, NewJob};

/// The folder that a job's row names when there is no input to keep. Never created; an empty name would be the folder of
/// all jobs, which would be removed with the job.
pub(super) const NO_INPUT: &str = "none";

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

impl Jobs {
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
    pub(super) fn submit_with<E: From<SubmitError>>(
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

    fn ticket(&self, handle: Arc<Handle>) -> JobTicket {
        JobTicket {
            handle,
            jobs: self.clone(),
        }
    }
}
