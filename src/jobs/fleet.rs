//! Jobs of a database that other processes work on too: the rows are the queue, see [`crate::store::Lease`].
//!
//! A worker of this process claims a job, and the watcher prolongs its lease, records how far it is, and stops it when it is not this
//! one's any more. Status requests read the row.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use super::{
    faults::quietly,
    input::{self, InputFolder},
    job::{JobId, JobState},
    names::JobNames,
    options::JobOptions,
    progress::{Handle, StopReason},
    restore::INPUT_GONE,
    shared::{Running, Shared, Work, shutting_down},
};
use crate::{
    metrics::Outcome,
    pipeline::stage_named,
    store::{
        Bell, Claim, Claimed, Job as StoredJob, JobSize, Lease, StoreError, StoredJobState,
        WorkerRow, process_name,
    },
};

/// How long a worker without a job waits for one at most before it looks again: for those whose pause is over, and for a bell that did not
/// ring.
const POLL: Duration = Duration::from_secs(5);

/// Pause after a database that did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Time between two prolongations of a lease, at most.
const RENEW: Duration = Duration::from_secs(3);

/// After a database that did not answer, workers have so long to say that they are there.
const AFTER_A_BREAK: Duration = Duration::from_secs(15);

/// How long PostgreSQL may take to see that a process has ended, and the time between two looks.
const GOODBYE: Duration = Duration::from_secs(2);
const GOODBYE_LOOK: Duration = Duration::from_millis(20);

/// Time between two looks at the jobs of users who were disabled, and at the folders of jobs whose workers did not remove them.
const USERS: Duration = Duration::from_secs(5);

/// How this process works on the jobs of a shared database.
#[derive(Debug, Clone)]
pub struct FleetSettings {
    /// Jobs at the same time; 0 runs none.
    pub workers: usize,
    /// Takes requests: looks after jobs that nobody runs, too.
    pub front_end: bool,
    /// For how long a job is a worker's without a sign of life.
    pub lease: Duration,
    /// At most so many jobs of a user run at the same time, in all processes.
    pub running_per_user: u32,
    /// Only jobs of VIPs.
    pub only_vip: bool,
    /// Only jobs of these sizes; empty: of all.
    pub sizes: Vec<JobSize>,
    /// Name of this process, which no other has.
    pub name: String,
    /// Rings when a job waits.
    pub bell: Arc<Bell>,
}

impl Default for FleetSettings {
    fn default() -> Self {
        Self {
            workers: 1,
            front_end: true,
            lease: Duration::from_secs(60),
            running_per_user: 4,
            only_vip: false,
            sizes: Vec::new(),
            name: process_name().to_owned(),
            bell: Arc::default(),
        }
    }
}

impl FleetSettings {
    /// Returns which jobs it takes, as on the command line; empty: all.
    fn labels(&self) -> String {
        let vip = self.only_vip.then_some("vip");
        let sizes = self.sizes.iter().map(|size| size.as_str());
        vip.into_iter().chain(sizes).collect::<Vec<_>>().join(",")
    }
}

/// How this process takes part.
#[derive(Debug)]
pub(super) struct Fleet {
    settings: FleetSettings,
    claim: Claim,
    known: Mutex<Known>,
}

/// What the watcher knows.
#[derive(Debug)]
struct Known {
    /// Since when the database has answered without a break.
    answers_since: Option<Instant>,
    /// When leases were last prolonged.
    renewed: Option<Instant>,
    /// What was last recorded of each job that runs here.
    told: HashMap<i64, String>,
    /// And how many warnings.
    warnings: HashMap<i64, usize>,
    users_looked_at: Instant,
}

impl Fleet {
    pub(super) fn new(settings: &FleetSettings) -> Self {
        let sizes = match settings.sizes.is_empty() {
            true => JobSize::ALL.to_vec(),
            false => settings.sizes.clone(),
        };
        Self {
            claim: Claim {
                worker: settings.name.clone(),
                lease: settings.lease,
                running_per_user: settings.running_per_user,
                only_vip: settings.only_vip,
                sizes,
            },
            settings: settings.clone(),
            known: Mutex::new(Known {
                answers_since: None,
                renewed: None,
                told: HashMap::new(),
                warnings: HashMap::new(),
                users_looked_at: Instant::now(),
            }),
        }
    }

    /// Has the others told at once how this process stands.
    pub(super) fn hurry(&self) {
        self.known().renewed = None;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Every change is one assignment.
        self.known.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Shared {
    /// Returns the number of jobs that run here at the same time.
    pub(super) fn workers(&self) -> usize {
        match &self.fleet {
            Some(fleet) => fleet.settings.workers,
            None => 1,
        }
    }

    /// Has the workers look for jobs, and the watcher at the rows, whenever the bell rings.
    pub(super) fn listen(self: &Arc<Self>) {
        let Some(fleet) = &self.fleet else { return };
        let shared = Arc::downgrade(self);
        fleet.settings.bell.listen(move || {
            if let Some(shared) = shared.upgrade() {
                shared.lock().rings += 1;
                shared.changed.notify_all();
                shared.watch.notify_all();
            }
        });
    }

    /// Blocks until there is a job that this process may run; `None` once it stops.
    pub(super) fn next_claimed(
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
            let waits =
                |state: &mut super::shared::State| !state.closing && (told || state.rings == rings);
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
        let key = self.lock().next_key();
        let now = JobState::Queued { ahead: 0 };
        Ok(Some(Work {
            handle: Handle::new(key, JobId::Row(row.id), row.user_id, now),
            vip: false,
            suspect: row.deaths > 0,
            tries: row.tries,
            lease: Some(lease),
            tied,
            kind: row.kind,
            folder,
            input_key: row.input_key,
            options,
            names: JobNames::from_row(&row.options_json),
            original_name: row.original_name,
            queued: Instant::now(),
        }))
    }

    /// Returns true when a job of a shared database is another worker's, or over in another way than by its cancellation.
    pub(super) fn is_lease_over(&self, lease: Lease) -> bool {
        let row = self.store.job(lease.job);
        let cancelled = |row: &StoredJob| row.state == StoredJobState::Cancelled;
        lease.is_shared() && row.is_ok_and(|row| !row.as_ref().is_some_and(cancelled))
    }

    /// Returns how jobs stand that have not ended.
    pub(super) fn pending_of(
        &self,
        rows: &[StoredJob],
    ) -> Result<HashMap<i64, JobState>, StoreError> {
        let of = |wanted: &dyn Fn(&StoredJobState) -> bool| -> Vec<i64> {
            let rows = rows.iter().filter(|row| wanted(&row.state));
            rows.map(|row| row.id).collect()
        };
        let queued = of(&|state| *state == StoredJobState::Queued);
        let running = of(&|state| *state == StoredJobState::Running);
        let mut states = HashMap::new();
        if !queued.is_empty() {
            let ahead = self.store.jobs_ahead(&queued)?;
            states.extend(
                ahead
                    .into_iter()
                    .map(|(id, ahead)| (id, JobState::Queued { ahead })),
            );
        }
        if !running.is_empty() {
            let progress = self.store.progress_of(&running)?;
            states.extend(running.into_iter().map(|id| {
                let told = progress.get(&id).and_then(|json| from_json(json));
                (id, told.unwrap_or_else(begun))
            }));
        }
        Ok(states)
    }

    /// Takes up the jobs of a process that has ended on this machine, such as an earlier one of this service.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub(super) fn take_up(&self, fleet: &Fleet) -> Result<(), StoreError> {
        let start = Instant::now();
        // PostgreSQL sees a moment later that a process was killed.
        while self.store.has_ended_workers()? && start.elapsed() < GOODBYE {
            std::thread::sleep(GOODBYE_LOOK);
        }
        self.reap(fleet, true)
    }

    /// Returns the number of jobs of all processes.
    pub(super) fn load_of_all(&self) -> Result<super::Load, StoreError> {
        let load = self.store.load_of_jobs()?;
        let number = |n: i64| usize::try_from(n).unwrap_or(0);
        Ok(super::Load {
            queued: number(load.queued),
            queued_vip: number(load.queued_vip),
            running: number(load.running),
        })
    }

    /// Does what is to be done from time to time.
    pub(super) fn follow_fleet(&self, fleet: &Fleet) -> Result<(), StoreError> {
        let done = self.round(fleet);
        let mut known = fleet.known();
        match &done {
            Ok(()) => {
                known.answers_since.get_or_insert_with(Instant::now);
            }
            Err(_) => {
                known.answers_since = None;
                known.renewed = None;
            }
        }
        done
    }

    fn round(&self, fleet: &Fleet) -> Result<(), StoreError> {
        let pace = RENEW.min(fleet.settings.lease / 3);
        let due = {
            let mut known = fleet.known();
            let due = known.renewed.is_none_or(|at| at.elapsed() >= pace);
            if due {
                // Now, so that a haste that comes meanwhile is not lost.
                known.renewed = Some(Instant::now());
            }
            due
        };
        self.renew(fleet, due)?;
        self.cancel_unwanted()?;
        self.tell_connections()?;
        if due {
            self.note_worker(fleet)?;
            let answers = fleet.known().answers_since;
            let only_here = answers.is_none_or(|since| since.elapsed() < AFTER_A_BREAK);
            self.reap(fleet, only_here)?;
        }
        if fleet.settings.front_end && fleet.known().users_looked_at.elapsed() >= USERS {
            self.cancel_of_disabled()?;
            input::remove_ended(&self.store)?;
            fleet.known().users_looked_at = Instant::now();
        }
        self.sweep_drafts()
    }

    /// Prolongs the leases of the jobs that run here, and records how far they are. Those that are not this process's any more are stopped.
    fn renew(&self, fleet: &Fleet, due: bool) -> Result<(), StoreError> {
        let running: Vec<(Lease, Arc<Handle>)> = {
            let state = self.lock();
            let leased = |r: &Running| Some((r.lease?, r.handle.clone()));
            state.running.iter().filter_map(leased).collect()
        };
        let is_here = |id: &i64| running.iter().any(|(lease, _)| lease.job == *id);
        fleet.known().told.retain(|id, _| is_here(id));
        fleet.known().warnings.retain(|id, _| is_here(id));
        for (lease, handle) in &running {
            if handle.stopped().is_some() {
                continue;
            }
            let progress = to_json(&handle.state());
            let news = progress.filter(|json| fleet.known().told.get(&lease.job) != Some(json));
            let holds = match due || news.is_some() {
                true => {
                    let time = fleet.settings.lease;
                    self.store.renew_lease(*lease, time, news.as_deref())?
                }
                false => self.store.holds_lease(*lease)?,
            };
            if let Some(json) = news {
                fleet.known().told.insert(lease.job, json);
            }
            self.tell_warnings(fleet, *lease, handle)?;
            if !holds {
                handle.stop(StopReason::Cancelled);
            }
        }
        Ok(())
    }

    /// Records the warnings of a job that runs here, once there are others.
    fn tell_warnings(
        &self,
        fleet: &Fleet,
        lease: Lease,
        handle: &Handle,
    ) -> Result<(), StoreError> {
        let warnings = handle.warnings();
        let told = fleet.known().warnings.get(&lease.job).copied();
        if warnings.len() != told.unwrap_or(0) {
            let count = warnings.len();
            let json = serde_json::Value::from(warnings).to_string();
            self.store.set_job_warnings(lease, &json)?;
            fleet.known().warnings.insert(lease.job, count);
        }
        Ok(())
    }

    /// Cancels jobs that nobody waits for any more.
    fn cancel_unwanted(&self) -> Result<(), StoreError> {
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
    pub(super) fn cancel_row(&self, id: i64, why: &str) -> Result<bool, StoreError> {
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
    fn tell_connections(&self) -> Result<(), StoreError> {
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
    pub(super) fn drop_connections(&self, end: Option<Instant>) {
        if self.fleet.is_none() {
            return;
        }
        // One that has just begun runs.
        if let Err(e) = self.tell_connections() {
            quietly(|| tracing::warn!("cannot look at the jobs of connections: {e}"));
        }
        loop {
            let is_over = end.is_some_and(|end| Instant::now() >= end);
            let mut state = self.lock();
            let all: Vec<(i64, Arc<Handle>)> = state.rows.clone().into_iter().collect();
            let given_up =
                |handle: &Handle| is_over || matches!(handle.state(), JobState::Queued { .. });
            let (dropped, kept): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|(_, handle)| given_up(handle));
            state.rows = kept.into_iter().collect();
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
            std::thread::sleep(GOODBYE_LOOK);
        }
    }

    fn note_worker(&self, fleet: &Fleet) -> Result<(), StoreError> {
        let settings = &fleet.settings;
        if settings.workers == 0 {
            return Ok(());
        }
        let worker = WorkerRow {
            name: settings.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: self.model.clone(),
            device: self.device_name(),
            labels: settings.labels(),
            max_jobs: settings.workers,
        };
        let closing = self.lock().closing;
        self.store.note_worker(&worker, closing)
    }

    /// Takes this process off the list of workers.
    pub(super) fn leave_fleet(&self) {
        if let Some(fleet) = &self.fleet
            && let Err(e) = self.store.forget_worker(&fleet.settings.name)
        {
            quietly(|| tracing::debug!("cannot take this worker off the list: {e}"));
        }
    }

    fn reap(&self, fleet: &Fleet, only_here: bool) -> Result<(), StoreError> {
        for reaped in self.store.reap_jobs(fleet.settings.lease, only_here)? {
            let (id, worker) = (reaped.id, reaped.worker.as_deref().unwrap_or("a process"));
            quietly(|| match reaped.failed {
                true => tracing::error!(
                    job.id = id,
                    "job {id} failed: {worker} is gone, the third that died with it"
                ),
                false => tracing::warn!(
                    job.id = id,
                    "job {id} is queued again: {worker} has not been heard of"
                ),
            });
        }
        Ok(())
    }

    fn cancel_of_disabled(&self) -> Result<(), StoreError> {
        let rows = self.store.pending_now()?;
        for row in rows.iter().filter(|row| !row.active) {
            self.cancel_row(row.id, super::watcher::DISABLED)?;
        }
        Ok(())
    }
}

/// The state of a job that runs and has not said how far it is.
fn begun() -> JobState {
    JobState::Running {
        stage: "load",
        fraction: 0.0,
        seconds_left: None,
        preview: None,
    }
}

fn to_json(state: &JobState) -> Option<String> {
    let JobState::Running {
        stage,
        fraction,
        seconds_left,
        preview,
    } = state
    else {
        return None;
    };
    let json = serde_json::json!({
        "stage": stage, "fraction": fraction, "seconds_left": seconds_left, "preview": preview,
    });
    Some(json.to_string())
}

fn from_json(json: &str) -> Option<JobState> {
    #[derive(serde::Deserialize)]
    struct Told {
        stage: String,
        fraction: f32,
        seconds_left: Option<f32>,
        preview: Option<String>,
    }
    let told: Told = serde_json::from_str(json).ok()?;
    Some(JobState::Running {
        // Of a newer version there may be others.
        stage: stage_named(&told.stage).unwrap_or("running"),
        fraction: told.fraction,
        seconds_left: told.seconds_left,
        preview: told.preview,
    })
}
