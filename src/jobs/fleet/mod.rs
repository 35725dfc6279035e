//! Jobs of a database that other processes work on too: the rows are the queue, see [`crate::store::Lease`].
//!
//! A worker of this process claims a job, and the watcher prolongs its lease, records how far it is, and stops it when it is not this
//! one's any more. Status requests read the row.

mod claim;
mod connections;
mod progress;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use super::{faults::quietly, input, shared::Shared};
use crate::store::{Bell, Claim, JobSize, StoreError, WorkerRow, process_name};

/// Time between two prolongations of a lease, at most.
const RENEW: Duration = Duration::from_secs(3);

/// After a database that did not answer, workers have so long to say that they are there.
const AFTER_A_BREAK: Duration = Duration::from_secs(15);

/// How long PostgreSQL may take to see that a process has ended.
const GOODBYE: Duration = Duration::from_secs(2);

/// Time between two looks at something that will be so in a moment.
const LOOK: Duration = Duration::from_millis(20);

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

    /// Takes up the jobs of a process that has ended on this machine, such as an earlier one of this service.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub(super) fn take_up(&self, fleet: &Fleet) -> Result<(), StoreError> {
        let start = Instant::now();
        // PostgreSQL sees a moment later that a process was killed.
        while self.store.has_ended_workers()? && start.elapsed() < GOODBYE {
            std::thread::sleep(LOOK);
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
}
