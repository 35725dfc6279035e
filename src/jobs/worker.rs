//! The thread of the device: takes jobs from the queue, one after another, and goes on whatever happens in one.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::{
    ending::{BUG, End},
    error::{JobError, JobsError, without_paths},
    faults::quietly,
    progress::StopReason,
    shared::{Shared, Work},
};
use crate::{
    allocator::return_freed_memory,
    metrics::Cause,
    pipeline::{Network, NetworkSource, PipelineError, SkyNetwork},
};

/// Pause after a panic outside of a job, so that one that comes again and again does not take a whole core.
const RESTART_PAUSE: Duration = Duration::from_millis(200);

/// Starts the threads; with [`super::JobSettings::preload`] returns once their networks are loaded, else at once.
pub(super) fn start(shared: &Arc<Shared>, source: &NetworkSource) -> Result<(), JobsError> {
    for number in 0..shared.workers() {
        start_one(shared.clone(), source.clone(), number)?;
    }
    Ok(())
}

fn start_one(shared: Arc<Shared>, source: NetworkSource, number: usize) -> Result<(), JobsError> {
    let (ready, loaded) = mpsc::sync_channel(1);
    let preload = shared.settings.preload;
    thread::Builder::new()
        .name("worker".to_owned())
        .spawn(move || {
            let mut worker = Worker {
                number,
                shared: shared.clone(),
                source,
                network: None,
                sky: None,
            };
            if preload {
                let failed = worker.network().err();
                let stop = failed.is_some();
                // The caller is gone, so the worker is not needed.
                if ready.send(failed).is_err() || stop {
                    return;
                }
            }
            drop(ready);
            go_on(|| worker.run(), || shared.abandon(number));
        })
        .map_err(JobsError::Thread)?;
    if !preload {
        return Ok(());
    }
    match loaded.recv() {
        Ok(None) => Ok(()),
        Ok(Some(e)) => Err(e.into()),
        // A panic while it loaded.
        Err(e) => Err(JobsError::Thread(io::Error::other(e))),
    }
}

/// Calls `run` until it returns. After a panic calls `clean_up`, then `run` again: a server whose worker is gone takes jobs
/// that nobody runs.
fn go_on(mut run: impl FnMut(), mut clean_up: impl FnMut()) {
    while catch_unwind(AssertUnwindSafe(&mut run)).is_err() {
        quietly(|| tracing::error!("the worker failed and goes on; this is a bug"));
        quietly(&mut clean_up);
        thread::sleep(RESTART_PAUSE);
    }
}

pub(super) struct Worker {
    number: usize,
    pub(super) shared: Arc<Shared>,
    source: NetworkSource,
    network: Option<Network>,
    pub(super) sky: Option<SkyNetwork>,
}

impl Worker {
    /// Runs jobs until the server stops.
    fn run(&mut self) {
        let shared = self.shared.clone();
        while let Some((work, deadline)) = shared.next(self.number) {
            let start = Instant::now();
            let end = self.run_one(&work, deadline);
            shared.settings.metrics.job_ran(start.elapsed());
            let (id, user) = (work.handle.id, work.handle.user_id);
            quietly(|| log(&end, &id.to_string(), user, start.elapsed().as_millis()));
            shared.finish(work, end);
            return_freed_memory();
            // A waiting job takes the device's memory as it is; otherwise other processes may need it.
            if let Some(network) = &self.network
                && shared.is_queue_empty()
            {
                network.return_device_memory();
            }
        }
    }

    fn run_one(&mut self, work: &Work, deadline: Option<Instant>) -> End {
        let done = catch_unwind(AssertUnwindSafe(|| self.reconstruct(work, deadline)));
        // Clients should not see the paths of the server.
        let folder = format!("{}/", work.folder.path().display());
        let worded = |reason: String| {
            let reason = without_paths(&reason.replace(&folder, ""));
            work.names.in_text(&reason)
        };
        match done {
            Ok(Ok(hash)) => End::Done { hash },
            Ok(Err(JobError::Stopped)) => self.stopped(work),
            Ok(Err(JobError::Failed(cause, reason))) => End::Failed {
                cause,
                reason: worded(reason),
                keep: false,
            },
            Ok(Err(JobError::Fault(reason))) => End::Fault(worded(reason)),
            Err(_) => {
                // The network may be in an inconsistent state: the next job loads it again. So may what is computed so far.
                self.network = None;
                work.folder.drop_own_spool();
                End::Failed {
                    cause: Cause::Bug,
                    reason: BUG.to_owned(),
                    keep: true,
                }
            }
        }
    }

    fn stopped(&self, work: &Work) -> End {
        match work.handle.stopped() {
            Some(StopReason::Shutdown) => End::Shutdown,
            Some(StopReason::TimeLimit) => {
                let limit = self.shared.settings.max_job_time.unwrap_or_default();
                End::Failed {
                    cause: Cause::Timeout,
                    reason: format!(
                        "it ran longer than {} s, the server's limit; send fewer images, or set a lower fps for a video",
                        limit.as_secs()
                    ),
                    keep: true,
                }
            }
            Some(StopReason::Cancelled) | None => match work.lease {
                Some(lease) if self.shared.is_lease_over(lease) => End::LeaseOver,
                _ => End::Cancelled,
            },
        }
    }

    /// Returns the network, which is loaded if need be.
    pub(super) fn network(&mut self) -> Result<&Network, PipelineError> {
        let network = match self.network.take() {
            Some(network) => network,
            None => {
                let device = self.shared.device.open()?;
                let settings = &self.shared.settings;
                Network::load(&self.source, device, settings.dtype, settings.precision)?
            }
        };
        Ok(self.network.insert(network))
    }

    /// Lets the next job load the network again.
    pub(super) fn forget_network(&mut self) {
        self.network = None;
    }

    /// Returns the network if it is loaded.
    pub(super) fn loaded(&self) -> Option<&Network> {
        self.network.as_ref()
    }
}

fn log(end: &End, id: &str, user: i32, duration_ms: u128) {
    match end {
        End::Done { hash } => tracing::info!(
            job.id = %id, user, duration_ms, "job {id} is done in {duration_ms} ms: {hash}"
        ),
        End::Failed { reason, .. } => tracing::warn!(
            job.id = %id, user, duration_ms, "job {id} failed after {duration_ms} ms: {reason}"
        ),
        End::Cancelled => tracing::info!(
            job.id = %id, user, duration_ms, "job {id} was cancelled after {duration_ms} ms"
        ),
        End::LeaseOver => tracing::warn!(
            job.id = %id, user, duration_ms, "job {id} was given to another worker; what this one had of it is dropped"
        ),
        End::Shutdown => tracing::info!(
            job.id = %id, user, duration_ms, "job {id} stops for the shutdown"
        ),
        End::Fault(reason) => tracing::warn!(
            job.id = %id, user, duration_ms, "job {id} was stopped after {duration_ms} ms: {reason}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_panics_is_started_again_whatever_the_clean_up_does() {
        let (mut runs, mut cleaned) = (0, 0);
        go_on(
            || {
                runs += 1;
                assert!(runs == 3, "not yet");
            },
            || {
                cleaned += 1;
                assert!(cleaned == 2, "nor this");
            },
        );
        assert_eq!((runs, cleaned), (3, 2));
    }
}
