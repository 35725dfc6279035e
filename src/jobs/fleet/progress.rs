//! How far jobs are, in their rows: written by the process that runs them, read by all.

use std::{collections::HashMap, sync::Arc};

use super::Fleet;
use crate::{
    jobs::{
        job::JobState,
        progress::{Handle, StopReason},
        shared::{Running, Shared},
    },
    pipeline::stage_named,
    store::{Job as StoredJob, Lease, StoreError, StoredJobState},
};

impl Shared {
    /// Prolongs the leases of the jobs that run here, and records how far they are. Those that are not this process's any more are stopped.
    pub(super) fn renew(&self, fleet: &Fleet, due: bool) -> Result<(), StoreError> {
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

    /// Returns how jobs stand that have not ended.
    pub(in crate::jobs) fn pending_of(
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
}

/// The state of a job that runs and has not said how far it is.
pub(super) fn begun() -> JobState {
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
