//! The next job of a worker of this process.

use std::time::{Duration, Instant};

use super::{Fleet, progress::begun};
use crate::{
    jobs::{
        faults::quietly,
        input::InputFolder,
        job::JobId,
        options::JobOptions,
        progress::Handle,
        restore::INPUT_GONE,
        shared::{Shared, State, Work},
    },
    store::{Claimed, Job as StoredJob, Lease, StoreError, StoredJobState},
};

/// How long a worker without a job waits for one at most before it looks again: for those whose pause is over, and for a bell that did not
/// ring.
const POLL: Duration = Duration::from_secs(5);

/// Pause after a database that did not answer.
const PAUSE: Duration = Duration::from_secs(1);

impl Shared {
    /// Blocks until there is a job that this process may run; `None` once it stops.
    pub(in crate::jobs) fn next_claimed(
        &self,
        fleet: &Fleet,
        worker: usize,
    ) -> Option<(Work, Option<Instant>)> {
        let mut told = false;
        loop {
            let rings = {
                let state = self.lock();
                if state.closing {
                    return None;
                }
                state.rings
            };
            let found = self.store.claim_job(&fleet.claim);
            let found = found.and_then(|claimed| match claimed {
                Some(claimed) => self.work_of(claimed),
                None => Ok(None),
            });
            let pause = match found {
                Ok(Some(work)) => {
                    let mut state = self.lock();
                    if state.closing {
                        drop(state);
                        self.give_back(&work);
                        return None;
                    }
                    let deadline = self.starts(&mut state, worker, &work);
                    return Some((work, deadline));
                }
                Ok(None) => {
                    told = false;
                    POLL
                }
                Err(e) => {
                    if !told {
                        quietly(|| tracing::warn!("cannot take a job: {e}"));
                    }
                    told = true;
                    PAUSE
                }
            };
            let state = self.lock();
            let waits = |state: &mut State| !state.closing && (told || state.rings == rings);
            drop(
                self.changed
                    .wait_timeout_while(state, pause, waits)
                    .unwrap_or_else(|e| e.into_inner()),
            );
        }
    }

    fn give_back(&self, work: &Work) {
        if let Some(lease) = work.lease
            && let Err(e) = self.store.release_job(lease)
        {
            quietly(|| tracing::warn!("cannot give job {} back: {e}", lease.job));
        }
    }

    /// Returns what the worker needs of a job; `None` when it cannot run, which its row says then.
    fn work_of(&self, claimed: Claimed) -> Result<Option<Work>, StoreError> {
        let Claimed {
            job: row,
            lease,
            token,
            tied,
            input_bytes,
        } = claimed;
        let mut folder = InputFolder::of_row(&self.store, &row.dir);
        let Ok(options) = JobOptions::from_row(&row.options_json) else {
            self.refuse(&row, lease, "its options cannot be read")?;
            return Ok(None);
        };
        if self.is_input_gone(&row, &folder) {
            self.refuse(&row, lease, INPUT_GONE)?;
            return Ok(None);
        }
        folder.begin_attempt(token);
        folder.expect(input_bytes);
        let key = self.lock().next_key();
        let handle = Handle::new(key, JobId::Row(row.id), row.user_id, begun());
        Ok(Some(Work {
            lease: Some(lease),
            tied,
            ..Work::of_row(row, handle, folder, options)
        }))
    }

    /// Returns true when a job of a shared database is another worker's, or over in another way than by its cancellation.
    pub(in crate::jobs) fn is_lease_over(&self, lease: Lease) -> bool {
        let row = self.store.job(lease.job);
        let cancelled = |row: &StoredJob| row.state == StoredJobState::Cancelled;
        lease.is_shared() && row.is_ok_and(|row| !row.as_ref().is_some_and(cancelled))
    }
}
