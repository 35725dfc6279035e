//! The scene of a job that is done once more, with other options: from what is kept beside its GLB, without the network.

use std::time::SystemTime;

use serde_json::{Map, Value};

use super::{
    Jobs,
    error::SubmitError,
    input::InputFolder,
    job::JobRequest,
    names::JobNames,
    options::{BadOption, JobOptions},
};
use crate::{
    pipeline::PredictionMode,
    store::{StoreError, StoredJobState, User},
};

/// Why a job is not run again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RerunError {
    /// The user has no such job.
    #[error("you have no such job")]
    NoJob,
    /// It has no result.
    #[error("cannot run job {0} again: it has no result; send the images again")]
    NotDone(i64),
    /// What its result was made of is not kept.
    #[error(
        "cannot run job {0} again: the server does not keep its frames any more; send the images again"
    )]
    NotKept(i64),
    /// An option is wrong, or needs the network.
    #[error(transparent)]
    Option(#[from] BadOption),
    /// The queue does not take it.
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl From<StoreError> for RerunError {
    fn from(e: StoreError) -> Self {
        Self::Submit(e.into())
    }
}

impl Jobs {
    /// Queues a job that builds the scene of a job of the user anew, and returns the key of its row. `fields` change the
    /// options of that job.
    ///
    /// Blocks on the disk.
    ///
    /// # Errors
    /// When there is no such job, its frames are not kept, an option needs the network, or the queue is full.
    pub fn rerun(
        &self,
        user: User,
        id: i64,
        fields: &Map<String, Value>,
        names: JobNames,
    ) -> Result<i64, RerunError> {
        let store = &self.shared.store;
        let row = store.job(id)?.filter(|row| row.user_id == user.id);
        let row = row.ok_or(RerunError::NoJob)?;
        let StoredJobState::Done { hash } = &row.state else {
            return Err(RerunError::NotDone(id));
        };
        let glb = store.find_glb_of(user.id, hash)?;
        let glb = glb.ok_or(RerunError::NotDone(id))?;
        if !store.has_spool(&glb)? {
            return Err(RerunError::NotKept(id));
        }
        let old = JobOptions::from_row(&row.options_json)
            .map_err(|e| BadOption::new(format!("cannot read the options of job {id}: {e}")))?;
        let options = old.with_request(fields)?;
        options.check(&self.shared.settings)?;
        check_same_pass(&old, &options)?;
        let mut folder = InputFolder::create(store).map_err(SubmitError::Input)?;
        store.link_spool(&glb, &folder.spool())?;
        folder.is_kept_of(glb);
        // The images are the same.
        let was = JobNames::from_row(&row.options_json);
        let names = JobNames {
            name: names.name.or(was.name),
            names: was.names,
        };
        folder.flush().map_err(SubmitError::Input)?;
        Ok(self.submit_durable(JobRequest {
            original_name: names.original_name(row.kind, SystemTime::now()),
            names,
            user,
            kind: row.kind,
            folder,
            input_sha256: format!("rerun of {hash}"),
            options,
        })?)
    }
}

/// Refuses options that only a pass of the network could follow.
fn check_same_pass(old: &JobOptions, new: &JobOptions) -> Result<(), BadOption> {
    let changed = if old.attention != new.attention {
        "attention"
    } else if old.fps.to_bits() != new.fps.to_bits() {
        "fps"
    } else if old.keyframes != new.keyframes {
        "keyframes"
    } else if old.scene.prediction_mode != new.scene.prediction_mode
        && new.scene.prediction_mode != PredictionMode::DepthmapAndCamera
    {
        // Points of the point head are only kept where it ran.
        "prediction_mode"
    } else {
        return Ok(());
    };
    Err(BadOption::new(format!(
        "cannot change {changed} without running the network: send the images again"
    )))
}
