//! The progress of a job: its stages as one fraction, with an estimate of the remaining time.

use std::{
    cell::Cell,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Map, Value};
use tokio::sync::watch;

use super::{
    faults::quietly,
    job::{JobId, JobState, JobStatus},
    names::JobNames,
};
use crate::{
    metrics::Metrics,
    pipeline::{Overall, Stage, StopFlag, Warning, Watcher},
    store::{Lease, Store},
};

/// Warnings that are kept of one job: more kinds than there are.
const WARNINGS: usize = 50;

/// The stages around those of the pipeline.
const LOAD: &str = "load";
const STORING: &str = "storing";

/// Pause between two looks at the stop flag while a job waits for the store. A cancelled job leaves the worker that soon.
const WAIT_STEP: Duration = Duration::from_millis(100);

/// Why a job is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopReason {
    /// The user or the operator cancelled it, its user is gone, or the holder of its ticket is. A row says so already.
    Cancelled,
    /// It runs for too long.
    TimeLimit,
    /// The server stops; a job that has a row runs again after the restart.
    Shutdown,
}

/// The anchors' scene, while the other frames are computed.
#[derive(Debug)]
pub(super) struct Preview {
    /// By which its owner fetches it.
    pub(super) hash: String,
    /// The GLB.
    pub(super) path: PathBuf,
}

/// State of one job, shared by the worker and those who wait for it.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) key: u64,
    pub(super) id: JobId,
    pub(super) user_id: i32,
    stop: OnceLock<StopReason>,
    /// Set with `stop`: ends the pass that runs, within its operations.
    flag: StopFlag,
    preview: OnceLock<Preview>,
    warnings: Mutex<Vec<Map<String, Value>>>,
    state: watch::Sender<JobState>,
}

impl Handle {
    pub(super) fn new(key: u64, id: JobId, user_id: i32, state: JobState) -> Arc<Self> {
        Arc::new(Self {
            key,
            id,
            user_id,
            stop: OnceLock::new(),
            flag: StopFlag::new(),
            preview: OnceLock::new(),
            warnings: Mutex::default(),
            state: watch::Sender::new(state),
        })
    }

    /// Asks the job to stop. Keeps the first reason.
    pub(super) fn stop(&self, reason: StopReason) {
        let _ = self.stop.set(reason);
        self.flag.stop();
    }

    /// Returns the reason to stop, if there is one.
    pub(super) fn stopped(&self) -> Option<StopReason> {
        self.stop.get().copied()
    }

    /// Lets the owner fetch the preview, whose file is written.
    pub(super) fn set_preview(&self, preview: Preview) {
        let _ = self.preview.set(preview);
    }

    /// Returns the preview, if there is one.
    pub(super) fn preview(&self) -> Option<&Preview> {
        self.preview.get()
    }

    /// Publishes a state. A final one stays: a cancelled job that still runs reports in vain.
    pub(super) fn set(&self, state: JobState) {
        self.state.send_if_modified(|now| {
            let changed = *now != state && !now.is_final();
            if changed {
                *now = state;
            }
            changed
        });
    }

    pub(super) fn state(&self) -> JobState {
        self.state.borrow().clone()
    }

    /// Returns the state and the warnings so far.
    pub(super) fn status(&self) -> JobStatus {
        JobStatus {
            state: self.state(),
            warnings: self.warnings(),
        }
    }

    /// Returns the warnings so far.
    pub(super) fn warnings(&self) -> Vec<Map<String, Value>> {
        self.lock_warnings().clone()
    }

    /// Shows the warnings of a job that another process runs.
    pub(super) fn show_warnings(&self, warnings: Vec<Map<String, Value>>) {
        let mut shown = self.lock_warnings();
        if *shown != warnings {
            *shown = warnings;
            drop(shown);
            self.state.send_modify(|_| {});
        }
    }

    /// Begins anew, as a job that is tried again does.
    fn forget_warnings(&self) {
        self.lock_warnings().clear();
    }

    pub(super) fn warn(&self, warning: Map<String, Value>) {
        let mut warnings = self.lock_warnings();
        if warnings.len() < WARNINGS {
            warnings.push(warning);
        }
        drop(warnings);
        // Who follows the job is told of it.
        self.state.send_modify(|_| {});
    }

    fn lock_warnings(&self) -> MutexGuard<'_, Vec<Map<String, Value>>> {
        // Every operation on the list is one call: it is whole after a panic elsewhere.
        self.warnings.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn watch(&self) -> watch::Receiver<JobState> {
        self.state.subscribe()
    }
}

/// Publishes the progress of a job, and stops it on request.
#[derive(Debug)]
pub(super) struct Progress<'a> {
    handle: &'a Handle,
    /// Names for warnings.
    names: &'a JobNames,
    /// The row to be told once the job has come further than before.
    row: Option<(&'a Store, Lease)>,
    deadline: Option<Instant>,
    overall: Overall,
    clock: Option<StageClock>,
}

/// Counts the time of each stage.
#[derive(Debug)]
struct StageClock {
    metrics: Arc<Metrics>,
    stage: Cell<&'static str>,
    since: Cell<Instant>,
}

impl StageClock {
    fn enter(&self, stage: &'static str) {
        if self.stage.get() != stage {
            let now = Instant::now();
            let took = now.duration_since(self.since.replace(now));
            self.metrics.stage_took(self.stage.replace(stage), took);
        }
    }
}

impl Drop for StageClock {
    fn drop(&mut self) {
        let took = self.since.get().elapsed();
        self.metrics.stage_took(self.stage.get(), took);
    }
}

impl<'a> Progress<'a> {
    /// `deadline` is when the job has run for too long.
    pub(super) fn new(handle: &'a Handle, names: &'a JobNames, deadline: Option<Instant>) -> Self {
        handle.forget_warnings();
        Self {
            handle,
            names,
            row: None,
            deadline,
            overall: Overall::begin(),
            clock: None,
        }
    }

    /// Has the first frame that is kept recorded in the row: a job that goes on from there is not one that cannot be done.
    pub(super) fn recorded(mut self, store: &'a Store, row: Option<Lease>) -> Self {
        self.row = row.map(|lease| (store, lease));
        self
    }

    /// Has the time of each stage counted from now on.
    pub(super) fn count(&mut self, metrics: Arc<Metrics>) {
        self.clock = Some(StageClock {
            metrics,
            stage: Cell::new(LOAD),
            since: Cell::new(Instant::now()),
        });
    }

    /// Reports that the network is being loaded, before the first step.
    pub(super) fn loading(&self) {
        self.report(LOAD);
    }

    /// Waits before the result is stored once more. Returns false when the job is to stop.
    pub(super) fn wait_to_store(&self, pause: Duration) -> bool {
        self.enter(STORING);
        self.handle.set(storing());
        let end = Instant::now() + pause;
        while self.handle.stopped().is_none() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(WAIT_STEP));
        }
        false
    }

    fn enter(&self, stage: &'static str) {
        if let Some(clock) = &self.clock {
            clock.enter(stage);
        }
    }

    fn report(&self, stage: &'static str) {
        self.enter(stage);
        let preview = self.handle.preview().map(|preview| preview.hash.clone());
        self.handle.set(JobState::Running {
            stage,
            fraction: self.overall.fraction(),
            seconds_left: self.overall.seconds_left(),
            preview,
        });
    }
}

impl Watcher for Progress<'_> {
    fn step(&mut self, stage: Stage, done: usize, total: usize) -> bool {
        let name = self.overall.step(stage, done, total);
        self.report(name);
        if self.deadline.is_some_and(|at| Instant::now() >= at) {
            self.handle.stop(StopReason::TimeLimit);
        }
        self.handle.stopped().is_none()
    }

    fn stop_flag(&self) -> Option<StopFlag> {
        Some(self.handle.flag.clone())
    }

    fn warn(&mut self, warning: &Warning) {
        tracing::warn!(job.id = %self.handle.id, "job {}: {warning}", self.handle.id);
        let mut json = Value::Object(warning.to_json());
        self.names.in_json(&mut json);
        if let Value::Object(fields) = json {
            self.handle.warn(fields);
        }
    }

    fn kept_frame(&mut self) {
        if let Some((store, lease)) = self.row.take()
            && let Err(e) = store.note_progress(lease)
        {
            quietly(|| tracing::warn!("cannot note the progress of job {}: {e}", lease.job));
        }
    }
}

/// Returns the state of a job that has ended, while its end cannot be written.
pub(super) fn storing() -> JobState {
    JobState::Running {
        stage: STORING,
        fraction: 1.0,
        seconds_left: None,
        preview: None,
    }
}

#[cfg(test)]
mod tests {
    use vggt_model::progress::Stage as NetworkStage;

    use super::*;

    static NAMELESS: JobNames = JobNames {
        name: None,
        names: Vec::new(),
    };

    #[test]
    fn the_fraction_never_goes_back_and_a_stop_ends_the_work() {
        let handle = Handle::new(0, JobId::Connection(0), 1, JobState::Queued { ahead: 0 });
        let mut progress = Progress::new(&handle, &NAMELESS, None);
        let blocks = [NetworkStage::FrameBlocks, NetworkStage::GlobalBlocks];
        let mut last = 0.0;
        for (i, stage) in [1, 1, 2, 2].into_iter().zip(blocks.into_iter().cycle()) {
            assert!(progress.step(Stage::Network(stage), i, 2));
            let JobState::Running {
                fraction,
                seconds_left,
                ..
            } = handle.state()
            else {
                panic!("{:?}", handle.state())
            };
            assert!(fraction >= last && fraction <= 1.0);
            assert!(seconds_left.is_some_and(|s| s >= 0.0));
            last = fraction;
        }
        handle.stop(StopReason::Cancelled);
        handle.stop(StopReason::Shutdown);
        assert_eq!(handle.stopped(), Some(StopReason::Cancelled));
        assert!(!progress.step(Stage::Write, 0, 1));
        assert!(progress.stop_flag().is_some_and(|flag| flag.is_stopped()));
        assert!(!progress.wait_to_store(Duration::from_secs(3600)));
    }

    #[test]
    fn a_job_past_its_deadline_stops_at_the_next_step() {
        let handle = Handle::new(0, JobId::Connection(0), 1, JobState::Queued { ahead: 0 });
        let mut progress = Progress::new(&handle, &NAMELESS, Some(Instant::now()));
        assert!(!progress.step(Stage::Decode, 0, 1));
        assert_eq!(handle.stopped(), Some(StopReason::TimeLimit));
    }

    #[test]
    fn a_final_state_stays() {
        let handle = Handle::new(0, JobId::Connection(0), 1, JobState::Queued { ahead: 0 });
        handle.set(JobState::Cancelled);
        Progress::new(&handle, &NAMELESS, None).loading();
        assert_eq!(handle.state(), JobState::Cancelled);
    }
}
