//! Connections that wait for jobs, and jobs that nobody waits for any more.

use std::{sync::Arc, time::Instant};

use super::LOOK;
use crate::{
    jobs::{
        faults::quietly,
        input::InputFolder,
        job::{JobId, JobState},
        progress::{Handle, StopReason},
        shared::{Shared, shutting_down},
        watcher::DISABLED,
    },
    metrics::Outcome,
    store::{StoreError, StoredJobState},
};

impl Shared {
    /// Cancels jobs that nobody waits for any more.
    pub(super) fn cancel_unwanted(&self) -> Result<(), StoreError> {
        let unwanted = std::mem::take(&mut self.lock().unwanted);
        for (at, id) in unwanted.iter().enumerate() {
            if let Err(e) = self.cancel_row(*id, "its connection has ended") {
                self.lock().unwanted.extend(&unwanted[at..]);
                return Err(e);
            }
        }
        Ok(())
    }

    /// Cancels a job and returns true if it had not ended. A worker that has it notices soon.
    pub(in crate::jobs) fn cancel_row(&self, id: i64, why: &str) -> Result<bool, StoreError> {
        let row = self.store.job(id)?;
        let cancelled = self.store.cancel_job(id, why, false)?;
        if cancelled
            && let Some(row) = row
            && row.state == StoredJobState::Queued
        {
            // Nobody else removes it, nor counts it.
            InputFolder::of_row(&self.store, &row.dir).remove();
            self.settings.metrics.job_ended(Outcome::Cancelled);
        }
        if let Some(handle) = self.lock().running_row(id).filter(|_| cancelled) {
            handle.stop(StopReason::Cancelled);
        }
        Ok(cancelled)
    }

    /// Tells the connections that wait for jobs how they stand.
    pub(super) fn tell_connections(&self) -> Result<(), StoreError> {
        let waited_for: Vec<Arc<Handle>> = self.lock().rows.values().cloned().collect();
        let mut rows = Vec::new();
        for handle in &waited_for {
            let JobId::Row(id) = handle.id else { continue };
            match self.store.job(id)? {
                Some(row) => rows.push(row),
                // With its user.
                None => {
                    handle.set(JobState::Cancelled);
                    self.lock().rows.remove(&id);
                }
            }
        }
        for (row, status) in rows.iter().zip(self.statuses(&rows)?) {
            let handle = self.lock().rows.get(&row.id).cloned();
            let Some(handle) = handle else { continue };
            handle.show_warnings(status.warnings);
            let is_final = status.state.is_final();
            handle.set(status.state);
            if is_final {
                self.lock().rows.remove(&row.id);
            }
        }
        Ok(())
    }

    /// Ends the waiting of connections for jobs of a shared database: until `end` for those that run, for others at once. The jobs are
    /// cancelled.
    pub(in crate::jobs) fn drop_connections(&self, end: Option<Instant>) {
        if self.fleet.is_none() {
            return;
        }
        loop {
            let is_over = end.is_some_and(|end| Instant::now() >= end);
            let is_queued = |handle: &Handle| matches!(handle.state(), JobState::Queued { .. });
            let all = self.lock().rows.clone();
            // One that has just begun runs.
            if all.values().any(|handle| is_queued(handle))
                && let Err(e) = self.tell_connections()
            {
                quietly(|| tracing::warn!("cannot look at the jobs of connections: {e}"));
            }
            let given_up =
                |handle: &Handle| is_queued(handle) || is_over && !handle.state().is_final();
            let dropped: Vec<(i64, Arc<Handle>)> = all
                .into_iter()
                .filter(|(_, handle)| given_up(handle))
                .collect();
            let mut state = self.lock();
            for (id, _) in &dropped {
                state.rows.remove(id);
            }
            let is_empty = state.rows.is_empty();
            drop(state);
            for (id, handle) in dropped {
                handle.set(shutting_down());
                if let Err(e) = self.cancel_row(id, "the server was stopped") {
                    quietly(|| tracing::warn!("cannot cancel job {id}: {e}"));
                }
            }
            if is_empty {
                return;
            }
            std::thread::sleep(LOOK);
        }
    }

    pub(super) fn cancel_of_disabled(&self) -> Result<(), StoreError> {
        let rows = self.store.pending_now()?;
        for row in rows.iter().filter(|row| !row.active) {
            self.cancel_row(row.id, DISABLED)?;
        }
        Ok(())
    }
}
