//! How a job ends: its row first, then what clients see, then its files. An end that cannot be written is kept and written
//! again; a fault that may pass puts the job aside for another try.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    faults::{self, quietly},
    input::{self, InputFolder},
    job::{JobId, JobState},
    progress::{Handle, StopReason, storing},
    shared::{Running, Shared, Work, shutting_down},
};
use crate::{
    metrics::{Cause, Outcome},
    store::{Lease, StoreError},
};

/// First and longest pause before an end is written again. Each attempt may wait for the database by itself.
const WRITE_PAUSE: Duration = Duration::from_secs(1);
const WRITE_PAUSE_MAX: Duration = Duration::from_secs(60);

/// What clients are told of a panic.
pub(super) const BUG: &str = "the server failed; this is a bug";

/// How a job leaves the worker.
#[derive(Debug)]
pub(super) enum End {
    /// With a GLB, whose row was written together with the job's.
    Done { hash: String },
    /// Without one. With `keep` its input files stay for the operator.
    Failed {
        cause: Cause,
        reason: String,
        keep: bool,
    },
    /// Cancelled; its row says so already.
    Cancelled,
    /// Another worker has it: nothing of it is this one's any more.
    LeaseOver,
    /// The server stops: a row waits for the next start.
    Shutdown,
    /// Stopped by something that may be gone at the next try.
    Fault(String),
}

impl End {
    fn state(&self) -> JobState {
        match self {
            Self::Done { hash } => JobState::Done { hash: hash.clone() },
            Self::Failed { reason, .. } | Self::Fault(reason) => JobState::Failed {
                reason: reason.clone(),
            },
            Self::Cancelled | Self::LeaseOver => JobState::Cancelled,
            Self::Shutdown => shutting_down(),
        }
    }
}

/// An end that could not be written.
#[derive(Debug)]
pub(super) struct Unwritten {
    lease: Lease,
    pub(super) handle: Arc<Handle>,
    folder: InputFolder,
    end: End,
    pub(super) due: Instant,
    pause: Duration,
}

/// A job that waits for another try.
#[derive(Debug)]
pub(super) struct Delayed {
    pub(super) work: Work,
    /// `None`: the row decides when.
    pub(super) due: Option<Instant>,
    /// The row does not say so yet.
    unwritten: Option<(Duration, String)>,
}

impl Delayed {
    pub(super) fn new(work: Work, due: Option<Instant>) -> Self {
        Self {
            work,
            due,
            unwritten: None,
        }
    }
}

/// What becomes of the input files of a job whose end is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inputs {
    Remove,
    Keep,
}

impl Shared {
    /// Ends a job, or puts it aside for another try. Frees the worker's place last, for the shutdown to wait for all of it.
    pub(super) fn finish(&self, work: Work, end: End) {
        let handle = work.handle.clone();
        match self.for_good(&work, end) {
            End::Fault(fault) => self.delay(work, fault),
            end => {
                let mut folder = work.folder;
                folder.uncount();
                self.end(handle.clone(), work.lease, folder, end);
            }
        }
        let mut state = self.lock();
        if state.is_running(&handle) {
            let key = handle.key;
            state.running.retain(|running| running.handle.key != key);
            state.publish_positions();
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Turns a fault into a failure when there is no further try.
    fn for_good(&self, work: &Work, end: End) -> End {
        let End::Fault(reason) = end else {
            return end;
        };
        if work.tied {
            return End::Failed {
                cause: Cause::Fault,
                reason,
                keep: false,
            };
        }
        if self.lock().closing {
            return End::Shutdown;
        }
        match faults::pause(work.tries, self.settings.retry_for) {
            Some(_) => End::Fault(reason),
            None => End::Failed {
                cause: Cause::Fault,
                reason: match work.tries {
                    0 => reason,
                    tries => format!("{reason} (tried {} times)", tries + 1),
                },
                keep: true,
            },
        }
    }

    fn delay(&self, mut work: Work, fault: String) {
        let Some(lease) = work.lease else { return };
        let id = lease.job;
        let Some(pause) = faults::pause(work.tries, self.settings.retry_for) else {
            return;
        };
        work.tries += 1;
        // Whatever it was, the process lived.
        work.suspect = false;
        let written = self.store.defer_job(lease, work.tries, pause, &fault);
        let seconds = pause.as_secs();
        self.settings.metrics.job_put_aside();
        match &written {
            Ok(false) => {
                let end = match self.is_lease_over(lease) {
                    true => {
                        quietly(|| {
                            tracing::warn!(job.id = id, "job {id} was given to another worker");
                        });
                        End::LeaseOver
                    }
                    false => End::Cancelled,
                };
                return self.end(work.handle.clone(), work.lease, work.folder, end);
            }
            Ok(true) => quietly(|| {
                tracing::warn!(
                    job.id = id,
                    "job {id} is tried again in {seconds} s: {fault}"
                );
            }),
            Err(e) => quietly(|| {
                tracing::warn!(
                    job.id = id,
                    "job {id} is tried again in {seconds} s: {fault}; its row does not say so: {e}"
                );
            }),
        }
        if self.fleet.is_some() {
            // The row has it, for any worker; where it could not be written, the lease runs out.
            return work.folder.leave();
        }
        let mut state = self.lock();
        state.delayed.push(Delayed {
            work,
            due: Instant::now().checked_add(pause),
            unwritten: written.err().map(|_| (pause, fault)),
        });
        state.publish_positions();
        self.watch.notify_all();
    }

    fn end(&self, handle: Arc<Handle>, lease: Option<Lease>, folder: InputFolder, end: End) {
        self.count(&end);
        let Some(lease) = lease else {
            handle.set(end.state());
            return;
        };
        let pause = WRITE_PAUSE;
        self.write_or_keep(Unwritten {
            lease,
            handle,
            folder,
            end,
            due: Instant::now(),
            pause,
        });
    }

    fn count(&self, end: &End) {
        let outcome = match end {
            End::Done { .. } => Outcome::Done,
            End::Failed { cause, .. } => Outcome::Failed(*cause),
            End::Cancelled => Outcome::Cancelled,
            // It runs again.
            End::Shutdown | End::LeaseOver | End::Fault(_) => return,
        };
        self.settings.metrics.job_ended(outcome);
    }

    /// Returns true when the end is in the row.
    fn write_or_keep(&self, mut ending: Unwritten) -> bool {
        let id = ending.lease.job;
        match self.write(ending.lease, &ending.end) {
            Ok(inputs) => {
                if !matches!(ending.end, End::Shutdown) {
                    ending.handle.set(ending.end.state());
                }
                if inputs == Inputs::Remove {
                    ending.folder.remove();
                } else {
                    ending.folder.leave();
                    if let Err(e) = input::remove_kept(&self.store) {
                        quietly(|| {
                            tracing::warn!("cannot look for input files that are kept: {e}");
                        });
                    }
                }
                if self.fleet.is_none() {
                    self.lock().rows.remove(&id);
                }
                // A connection that waits for it is told at once.
                self.watch.notify_all();
                true
            }
            Err(e) => {
                quietly(|| {
                    tracing::error!(
                        job.id = id,
                        "cannot record the end of job {id}, trying again: {e}"
                    );
                });
                ending.handle.set(storing());
                ending.due = Instant::now() + ending.pause;
                ending.pause = (ending.pause * 2).min(WRITE_PAUSE_MAX);
                self.lock().unwritten.push(ending);
                self.watch.notify_all();
                false
            }
        }
    }

    /// Writes the end of a job into its row.
    fn write(&self, lease: Lease, end: &End) -> Result<Inputs, StoreError> {
        let id = lease.job;
        let keep = match end {
            End::Done { .. } => false,
            End::Failed { reason, keep, .. } => {
                let failed = self.store.fail_job(lease, reason, *keep)?;
                // Another worker may have it.
                *keep || !failed && self.is_needed(id)?
            }
            // Who cancelled it wrote the row. By now the operator may want it again.
            End::Cancelled | End::LeaseOver => self.is_needed(id)?,
            End::Shutdown => {
                if self.fleet.is_some() {
                    self.store.release_job(lease)?;
                }
                true
            }
            End::Fault(_) => true,
        };
        Ok(if keep { Inputs::Keep } else { Inputs::Remove })
    }

    /// Returns whether the input files of a job are needed, by what its row says.
    fn is_needed(&self, id: i64) -> Result<bool, StoreError> {
        Ok(match self.store.job(id)? {
            Some(row) => !row.state.is_final() || self.store.is_input_kept(id)?,
            // Its user was removed.
            None => false,
        })
    }

    /// Writes again what could not be written, as far as it is due; all of it when the server stops.
    pub(super) fn write_unwritten(&self, all: bool) {
        let now = Instant::now();
        let mut state = self.lock();
        let due = |ending: &mut Unwritten| all || ending.due <= now;
        let endings: Vec<Unwritten> = state.unwritten.extract_if(.., due).collect();
        let deferred: Vec<(i64, u32, Duration, String)> = state
            .delayed
            .iter()
            .filter_map(|delayed| {
                let (pause, fault) = delayed.unwritten.clone()?;
                Some((delayed.work.row()?, delayed.work.tries, pause, fault))
            })
            .collect();
        drop(state);
        let mut endings = endings.into_iter();
        for ending in endings.by_ref() {
            if !self.write_or_keep(ending) {
                // Each attempt may wait for the database: the others are for another time.
                break;
            }
        }
        self.lock().unwritten.extend(endings);
        for (id, tries, pause, fault) in deferred {
            if self.store.defer_job(id, tries, pause, &fault).is_err() {
                break;
            }
            let mut state = self.lock();
            let of_row = |delayed: &&mut Delayed| delayed.work.row() == Some(id);
            if let Some(delayed) = state.delayed.iter_mut().find(of_row) {
                delayed.unwritten = None;
            }
        }
    }

    /// Stops a job: one that waits ends here, one that runs soon after.
    pub(super) fn stop(&self, handle: &Arc<Handle>, reason: StopReason) {
        handle.stop(reason);
        let mut state = self.lock();
        let Some(work) = state.take_waiting(handle.key) else {
            return;
        };
        state.publish_positions();
        drop(state);
        self.finish(work, End::Cancelled);
    }

    /// Fails the job that a worker had when it panicked outside of the job itself.
    pub(super) fn abandon(&self, worker: usize) {
        let running = {
            let mut state = self.lock();
            let at = state.running.iter().position(|r| r.worker == worker);
            at.map(|at| state.running.swap_remove(at))
        };
        let Some(Running {
            handle,
            lease,
            folder,
            ..
        }) = running
        else {
            return;
        };
        let end = End::Failed {
            cause: Cause::Bug,
            reason: BUG.to_owned(),
            keep: true,
        };
        let folder = InputFolder::at(folder);
        match handle.id {
            JobId::Row(_) => self.end(handle, lease, folder, end),
            JobId::Connection(_) => {
                self.count(&end);
                handle.set(end.state());
                folder.remove();
            }
        }
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests;
