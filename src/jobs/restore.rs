//! Jobs of rows: those of an earlier process, and those that the operator wants again.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{
    ending::Delayed,
    error::JobsError,
    faults::quietly,
    input::{self, InputFolder},
    options::JobOptions,
    shared::{Shared, Work},
};
use crate::store::{Job as StoredJob, Lease, StoreError};

/// Longest pause that a row may ask for, whatever the clock was when it was written: the longest between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(20 * 60);

/// Why a job fails whose input files are missing.
pub(super) const INPUT_GONE: &str = "its input files are gone; submit it again";

impl Shared {
    /// Counts deaths of the process and queues the jobs that have not ended. A job that the process died of runs after the
    /// others.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub(super) fn restore_all(&self) -> Result<(), StoreError> {
        for job in self.store.count_deaths()? {
            let reason = job.reason.as_deref().unwrap_or_default();
            tracing::error!(job.id = job.id, "job {} failed: {reason}", job.id);
        }
        let mut rows = self.store.pending_jobs()?;
        rows.sort_by_key(|row| (row.deaths, row.id));
        for row in rows {
            let (id, deaths) = (row.id, row.deaths);
            if self.restore(row)? {
                let after = match deaths {
                    0 => String::new(),
                    n => format!(" after the others: deaths of the server while it ran: {n}"),
                };
                tracing::info!(job.id = id, "job {id} is queued again{after}");
            }
        }
        Ok(())
    }

    /// Removes the folders of uploads, and of jobs that are over. Those of jobs that wait or
    /// whose files arrive stay, and those that are kept.
    ///
    /// # Errors
    /// When the store or the folders cannot be read.
    pub(super) fn sweep_folders(&self) -> Result<(), JobsError> {
        input::remove_kept(&self.store)?;
        let swept = input::sweep(&self.store)?;
        if swept > 0 {
            tracing::info!("removed {swept} folders of uploads and jobs that are over");
        }
        Ok(())
    }

    /// Queues the job of a row. Returns false when it cannot run, which the row says then.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub(super) fn restore(&self, row: StoredJob) -> Result<bool, StoreError> {
        let mut folder = InputFolder::of_row(&self.store, &row.dir);
        folder.resume(&self.quotas, row.user_id);
        let Ok(options) = JobOptions::from_row(&row.options_json) else {
            self.refuse(&row, row.id.into(), "its options cannot be read")?;
            folder.remove();
            return Ok(false);
        };
        if self.is_input_gone(&row, &folder) {
            self.refuse(&row, row.id.into(), INPUT_GONE)?;
            return Ok(false);
        }
        let user = self.store.user_by_id(row.user_id)?;
        let mut state = self.lock();
        if state.rows.contains_key(&row.id) {
            return Ok(false);
        }
        let pause = row.next_try_at.and_then(pause_until);
        let handle = state.handle_of_row(&row);
        let work = Work {
            vip: user.is_some_and(|user| user.is_vip),
            ..Work::of_row(row, handle, folder, options)
        };
        match pause {
            Some(pause) => {
                let due = Some(Instant::now() + pause);
                state.delayed.push(Delayed::new(work, due));
                state.publish_positions();
            }
            None => self.push(&mut state, work),
        }
        Ok(true)
    }

    /// Returns true when the input files of a job are missing. Where the folder of all inputs is, its disk is: the worker waits for it.
    pub(super) fn is_input_gone(&self, row: &StoredJob, folder: &InputFolder) -> bool {
        // Those in a bucket are fetched when the job runs.
        folder.objects().is_none()
            && matches!(folder.source(row.kind), Ok(None))
            && !folder.is_of_rerun()
            && self.store.jobs_dir().is_dir()
    }

    pub(super) fn refuse(
        &self,
        row: &StoredJob,
        lease: Lease,
        reason: &str,
    ) -> Result<(), StoreError> {
        quietly(|| tracing::warn!(job.id = row.id, "job {}: {reason}", row.id));
        self.store.fail_job(lease, reason, false).map(|_| ())
    }
}

/// Returns how long it is until `time`; `None` when it is past.
fn pause_until(time: Timestamp) -> Option<Duration> {
    let left = Duration::try_from(time.duration_since(Timestamp::now())).ok()?;
    (!left.is_zero()).then(|| left.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_pause_ends_with_its_time_and_is_never_longer_than_any_that_is_asked_for() {
        let now = Timestamp::now();
        assert_eq!(pause_until(now - SignedDuration::from_secs(1)), None);
        let soon = pause_until(now + SignedDuration::from_secs(100)).unwrap();
        assert!(soon <= Duration::from_secs(100) && soon > Duration::from_secs(1));
        // The clock was wrong when the row was written.
        let late = pause_until(now + SignedDuration::from_hours(1000));
        assert_eq!(late, Some(LONGEST_PAUSE));
    }
}
