//! A user's jobs with rows and their results: found, renamed, published, removed.

use std::{collections::HashMap, time::SystemTime};

use serde_json::{Map, Value};

use super::{
    Jobs,
    artifacts::MadeOf,
    job::{JobState, ListedJob},
    names::JobNames,
    options::{BadOption, JobOptions},
    submit::NO_INPUT,
};
use crate::pipeline::METERS_PER_UNIT;
use crate::store::{GlbFile, Job, StoreError, StoredJobState};

/// A job of a user and its result.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnJob {
    /// The job.
    pub job: ListedJob,
    /// Its result, of a job that is done and whose result was not deleted.
    pub result: Option<GlbFile>,
    /// How many meters a unit of the result is, where its user has said so.
    pub meters_per_unit: Option<f64>,
    /// The options that it runs with; only of a job that was looked for alone.
    pub options: Option<JobOptions>,
}

/// What is to be changed of a job that is done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobChange {
    /// Another name.
    pub name: Option<String>,
    /// Whether everybody who knows the hash of the result may read it.
    pub public: Option<bool>,
    /// How many meters a unit of the result is; `Some(None)`: nobody knows.
    pub meters_per_unit: Option<Option<f64>>,
}

/// Why a job is not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The user has no such job.
    #[error("you have no such job")]
    NoJob,
    /// It has no result that could have a name or be public.
    #[error("cannot change job {0}: it has no result")]
    NoResult(i64),
    /// The name or the scale cannot be used.
    #[error(transparent)]
    Value(#[from] BadOption),
    /// The rows cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Jobs {
    /// Returns a job of a user; `None` when the user has no such job. Blocks.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn find(&self, user_id: i32, id: i64) -> Result<Option<OwnJob>, StoreError> {
        let row = self.own_row(user_id, id)?;
        let options = row
            .as_ref()
            .map(|row| JobOptions::from_row(&row.options_json));
        let found = self.with_results(user_id, row.into_iter().collect())?;
        Ok(found.into_iter().next().map(|own| OwnJob {
            // Of a row that another version wrote they may be missing.
            options: options.and_then(Result::ok),
            ..own
        }))
    }

    /// Returns the result of a job of a user, for files that are made of it; `None` when there is no such job or result. Blocks.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn made_of(&self, user_id: i32, id: i64) -> Result<Option<MadeOf>, StoreError> {
        let Some(row) = self.own_row(user_id, id)? else {
            return Ok(None);
        };
        let StoredJobState::Done { hash } = &row.state else {
            return Ok(None);
        };
        let glb = self.shared.store.find_glb_of(user_id, hash)?;
        let Some(glb) = glb else {
            return Ok(None);
        };
        Ok(Some(MadeOf {
            meters_per_unit: self.shared.store.meters_per_unit(&glb)?,
            glb,
            options_json: row.options_json,
        }))
    }

    /// As [`Jobs::page`], with the results. Blocks.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn page_with_results(
        &self,
        user_id: i32,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<OwnJob>, StoreError> {
        let rows = self.shared.store.page_of_jobs(user_id, before, limit)?;
        self.with_results(user_id, rows)
    }

    /// Gives the result of a job another name or a scale, publishes it or makes it private, and returns the job as it is then. Blocks.
    ///
    /// # Errors
    /// When the user has no such job, it has no result, the name or the scale cannot be used, or the database cannot be written.
    pub fn change(&self, user_id: i32, id: i64, change: JobChange) -> Result<OwnJob, ChangeError> {
        let scale = change.meters_per_unit.flatten();
        if let Some(scale) = scale.filter(|scale| !METERS_PER_UNIT.contains(scale)) {
            let (min, max) = METERS_PER_UNIT.into_inner();
            let why = format!("cannot use {scale} as meters_per_unit: expected {min} to {max}");
            return Err(BadOption::new(why).into());
        }
        let store = &self.shared.store;
        let row = self.own_row(user_id, id)?.ok_or(ChangeError::NoJob)?;
        let found = self.find(user_id, id)?.ok_or(ChangeError::NoJob)?;
        let result = found.result.ok_or(ChangeError::NoResult(id))?;
        let hash = &result.hashed_name;
        if let Some(name) = change.name {
            let mut fields = Map::from_iter([("name".to_owned(), Value::String(name))]);
            let name = JobNames::take(&mut fields)?.original_name(row.kind, SystemTime::now());
            store.rename_glb(user_id, hash, &name)?;
            store.rename_job(user_id, id, &name)?;
        }
        if let Some(public) = change.public {
            store.set_public(user_id, hash, public)?;
        }
        if let Some(scale) = change.meters_per_unit {
            store.set_meters_per_unit(&result, scale)?;
        }
        self.find(user_id, id)?.ok_or(ChangeError::NoJob)
    }

    /// Removes a job that has ended, with its result where no other job of the user has the same; returns false when there is no such
    /// job. Blocks.
    ///
    /// # Errors
    /// When the rows cannot be removed.
    pub fn remove(&self, user_id: i32, id: i64) -> Result<bool, StoreError> {
        let store = &self.shared.store;
        let Some(row) = self.own_row(user_id, id)? else {
            return Ok(false);
        };
        // The file first: a job without its result can be removed again, a result without its job stays for good.
        if let StoredJobState::Done { hash } = &row.state
            && !store.has_other_job(user_id, id, hash)?
        {
            store.delete_glb(user_id, hash)?;
        }
        let removed = store.remove_job(user_id, id)?;
        // Of a job that failed it may be kept.
        if removed && row.dir != NO_INPUT {
            store.remove_job_dir(&row.dir);
        }
        Ok(removed)
    }

    fn own_row(&self, user_id: i32, id: i64) -> Result<Option<Job>, StoreError> {
        let row = self.shared.store.job(id)?;
        Ok(row.filter(|row| row.user_id == user_id))
    }

    fn with_results(&self, user_id: i32, rows: Vec<Job>) -> Result<Vec<OwnJob>, StoreError> {
        let listed = self.listed(rows)?;
        let hashes: Vec<String> = listed.iter().filter_map(hash_of).collect();
        let results = self.shared.store.glbs_of(user_id, &hashes)?;
        let ids: Vec<i32> = results.iter().map(|glb| glb.id).collect();
        let scales = self.shared.store.all_meters_per_unit(&ids)?;
        let results = results
            .into_iter()
            .map(|glb| (glb.hashed_name.clone(), glb));
        let results: HashMap<String, GlbFile> = results.collect();
        let own = listed.into_iter().map(|job| {
            // Two jobs may have the same.
            let result = hash_of(&job).and_then(|hash| results.get(&hash).cloned());
            let scale = result.as_ref().and_then(|glb| scales.get(&glb.id));
            OwnJob {
                meters_per_unit: scale.copied(),
                options: None,
                job,
                result,
            }
        });
        Ok(own.collect())
    }
}

fn hash_of(job: &ListedJob) -> Option<String> {
    match &job.status.state {
        JobState::Done { hash } => Some(hash.clone()),
        _ => None,
    }
}
