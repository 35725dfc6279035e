//! The thread that follows time and the rows: it starts jobs whose pause is over, stops what runs for too long, writes ends
//! that could not be written, and does what another process asks for through the database.
//!
//! The operator's `vggt job` only changes rows. A query a second, over the few rows of jobs that have not ended, finds
//! that; a notification would need a connection between the two, and the operator's command works without a server.

use std::{
    collections::HashMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    error::JobsError,
    faults::quietly,
    input,
    job::{JobId, JobState},
    progress::{Handle, StopReason},
    shared::{Shared, State},
};
use crate::store::{PendingJob, StoreError, StoredJobState};

/// Time between two looks at the rows.
const LOOK: Duration = Duration::from_secs(1);

/// Time between two looks while a job of a shared database runs here.
const PROGRESS: Duration = Duration::from_millis(500);

/// Shortest time between two rounds.
const SHORTEST: Duration = Duration::from_millis(10);

/// Time between two looks for input files that are kept no longer.
const SWEEP: Duration = Duration::from_secs(60 * 60);

/// Why a job of a user who was disabled is cancelled, for the operator.
pub(super) const DISABLED: &str = "the user was disabled";

/// Starts the thread. It ends after the shutdown.
pub(super) fn start(shared: Arc<Shared>) -> Result<(), JobsError> {
    thread::Builder::new()
        .name("jobs".to_owned())
        .spawn(move || {
            let mut watch = Watch {
                shared,
                swept: Instant::now(),
                failed: false,
                rings: 0,
            };
            while watch.wait() {
                quietly(|| watch.round());
            }
        })
        .map_err(JobsError::Thread)?;
    Ok(())
}

struct Watch {
    shared: Arc<Shared>,
    swept: Instant,
    /// The last look failed: said once.
    failed: bool,
    /// How often the bell had rung at the last look.
    rings: u64,
}

impl Watch {
    /// Waits for the next round. Returns false when nothing runs any more.
    fn wait(&mut self) -> bool {
        let state = self.shared.lock();
        if state.closed {
            return false;
        }
        let rang = std::mem::replace(&mut self.rings, state.rings) != state.rings;
        let left = state
            .next_due()
            .map_or(LOOK, |due| due.saturating_duration_since(Instant::now()));
        let look = match self.shared.fleet {
            // Others see how far it is by its row alone.
            Some(_) if !state.running.is_empty() => PROGRESS,
            _ => LOOK,
        };
        let left = match rang {
            true => SHORTEST,
            false => left.clamp(SHORTEST, look),
        };
        let state = self.shared.watch.wait_timeout(state, left);
        !state.unwrap_or_else(|e| e.into_inner()).0.closed
    }

    fn round(&mut self) {
        let shared = self.shared.clone();
        shared.stop_what_runs_for_too_long();
        shared.write_unwritten(false);
        shared.artifacts.tidy();
        shared.start_due(Instant::now(), &[]);
        let followed = match &shared.fleet {
            Some(fleet) => shared.follow_fleet(fleet),
            None => shared.follow_rows(),
        };
        match followed {
            Ok(()) => self.failed = false,
            Err(e) => {
                if !self.failed {
                    tracing::warn!("cannot look at the rows of the jobs: {e}");
                }
                self.failed = true;
            }
        }
        if self.swept.elapsed() >= SWEEP {
            self.swept = Instant::now();
            if let Err(e) = input::remove_kept(&shared.store) {
                tracing::warn!("cannot remove input files that are kept no longer: {e}");
            }
            if shared.fleet.is_some()
                && let Err(e) = shared.sweep_folders()
            {
                tracing::warn!("cannot look for leftovers of other processes: {e}");
            }
        }
    }
}

impl State {
    /// Returns when there is something to do.
    fn next_due(&self) -> Option<Instant> {
        let running = self.running.iter();
        let running = running.filter(|running| running.handle.stopped().is_none());
        let deadlines = running.filter_map(|running| running.deadline);
        let ends = self.unwritten.iter().map(|ending| ending.due);
        let tries = self.delayed.iter().filter_map(|delayed| delayed.due);
        ends.chain(tries).chain(deadlines).min()
    }

    /// Returns the jobs of connections: they have no rows.
    fn of_connections(&self) -> Vec<Arc<Handle>> {
        let queued = self.queue.in_order().map(|entry| &entry.item.handle);
        let running = self.running.iter().map(|running| &running.handle);
        queued
            .chain(running)
            .filter(|handle| matches!(handle.id, JobId::Connection(_)))
            .cloned()
            .collect()
    }
}

impl Shared {
    fn stop_what_runs_for_too_long(&self) {
        let state = self.lock();
        let now = Instant::now();
        for running in &state.running {
            if running.deadline.is_some_and(|at| now >= at) {
                running.handle.stop(StopReason::TimeLimit);
            }
        }
    }

    /// Queues the jobs whose pause is over, and those of `rows`, of which the operator wants another try now.
    fn start_due(&self, now: Instant, rows: &[i64]) {
        let mut state = self.lock();
        let due = |delayed: &mut super::ending::Delayed| {
            let asked = delayed.work.row().is_some_and(|id| rows.contains(&id));
            asked || delayed.due.is_none_or(|due| due <= now)
        };
        let ready: Vec<_> = state.delayed.extract_if(.., due).collect();
        for mut delayed in ready {
            if delayed.work.row().is_some_and(|id| rows.contains(&id)) {
                delayed.work.tries = 0;
            }
            self.push(&mut state, delayed.work);
        }
    }

    /// Does what the rows say.
    fn follow_rows(&self) -> Result<(), StoreError> {
        // Before the rows are read: whatever is queued by now has one.
        let (known, of_connections) = {
            let state = self.lock();
            if state.closing {
                return Ok(());
            }
            (state.rows.clone(), state.of_connections())
        };
        let rows = self.store.pending_now()?;
        let pending: HashMap<i64, &PendingJob> = rows.iter().map(|row| (row.id, row)).collect();
        for (id, handle) in &known {
            match pending.get(id) {
                _ if handle.state().is_final() => {}
                None => self.follow_end(*id, handle)?,
                Some(row) if !row.active => {
                    self.store.cancel_job(*id, DISABLED, false)?;
                    self.stop_for_good(handle);
                }
                Some(_) => {}
            }
        }
        self.stop_users_who_are_gone(&of_connections)?;
        self.follow_retries(&rows)?;
        self.sweep_drafts()
    }

    /// Stops a job whose row has ended, or is gone with its user.
    fn follow_end(&self, id: i64, handle: &Arc<Handle>) -> Result<(), StoreError> {
        let row = self.store.job(id)?;
        match row.map(|row| row.state) {
            // The worker ended it a moment ago, or an operator has queued it again.
            Some(
                StoredJobState::Done { .. }
                | StoredJobState::Failed { .. }
                | StoredJobState::Queued
                | StoredJobState::Running,
            ) => {}
            Some(StoredJobState::Cancelled) | None => self.stop_for_good(handle),
        }
        Ok(())
    }

    fn stop_for_good(&self, handle: &Arc<Handle>) {
        let id = handle.id;
        quietly(|| tracing::info!(job.id = %id, "job {id} was cancelled by the operator"));
        handle.set(JobState::Cancelled);
        self.stop(handle, StopReason::Cancelled);
    }

    fn stop_users_who_are_gone(&self, handles: &[Arc<Handle>]) -> Result<(), StoreError> {
        if handles.is_empty() {
            return Ok(());
        }
        let users: Vec<i32> = handles.iter().map(|handle| handle.user_id).collect();
        let active = self.store.active_users(&users)?;
        for handle in handles {
            if !active.contains(&handle.user_id) {
                self.stop(handle, StopReason::Cancelled);
            }
        }
        Ok(())
    }

    /// Takes up jobs that the operator wants again. Their rows have a time, which tells them from rows that are just being
    /// queued here.
    fn follow_retries(&self, rows: &[PendingJob]) -> Result<(), StoreError> {
        let now = Timestamp::now();
        let asked: Vec<i64> = rows
            .iter()
            .filter(|row| row.next_try_at.is_some_and(|at| at <= now))
            .map(|row| row.id)
            .collect();
        let unknown = {
            let state = self.lock();
            let unknown = asked.iter().filter(|id| !state.rows.contains_key(id));
            unknown.copied().collect::<Vec<_>>()
        };
        for id in unknown {
            let row = self.store.job(id)?;
            if let Some(row) = row.filter(|row| !row.state.is_final())
                && self.restore(row)?
            {
                quietly(|| tracing::info!(job.id = id, "job {id} is queued again by the operator"));
            }
        }
        // Those that wait here for another try. A row that could not be written says nothing.
        let of_operator: Vec<i64> = rows
            .iter()
            .filter(|row| asked.contains(&row.id) && row.tries == 0)
            .map(|row| row.id)
            .collect();
        self.start_due(Instant::now(), &of_operator);
        Ok(())
    }
}
