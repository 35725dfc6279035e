//! What processes that have ended left in the bucket.

use std::collections::BTreeMap;

use diesel::prelude::*;
use jiff::Timestamp;

use super::{Remote, job_of, job_prefix, process_of};
use crate::store::{
    Store, StoreError,
    files::JOBS,
    schema::{drafts, jobs, removed_files},
    time::parse_time,
};

impl Store {
    /// Returns the `file_path` of objects that were to get a row, and of whose process none will.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(super) fn abandoned(&self) -> Result<Vec<String>, StoreError> {
        type Note = (String, Option<String>, Option<String>);
        let notes: Vec<Note> = removed_files::table
            .filter(removed_files::since.is_not_null())
            .select((
                removed_files::file_path,
                removed_files::since,
                removed_files::process,
            ))
            .load(&mut *self.connection()?)?;
        let names = notes.iter().filter_map(|(_, _, process)| process.clone());
        let gone = self.gone(&names.collect::<Vec<_>>())?;
        let is_left = |(_, since, process): &Note| {
            let since = since.as_deref().and_then(parse_time).unwrap_or_default();
            gone.is_over(process.as_deref(), since)
        };
        let left = notes.into_iter().filter(is_left);
        Ok(left.map(|(path, ..)| path).collect())
    }

    /// Removes from the bucket what processes that have ended left there, and what belongs to jobs that are over. Returns the number
    /// of results and folders.
    ///
    /// # Errors
    /// When the database or the bucket cannot be read or written.
    pub(in crate::store) fn sweep_bucket(&self) -> Result<usize, StoreError> {
        let Some(remote) = &self.remote else {
            return Ok(0);
        };
        let left = self.abandoned()?;
        self.condemn(&left)?;
        let folders = self.left_folders(remote)?;
        for dir in &folders {
            remote.bucket.delete_prefix(&job_prefix(dir))?;
        }
        Ok(left.len() + folders.len())
    }

    /// Returns the folders of jobs in the bucket that no row needs.
    pub(super) fn left_folders(&self, remote: &Remote) -> Result<Vec<String>, StoreError> {
        // With the time at which something was last put into them.
        let mut found: BTreeMap<String, Timestamp> = BTreeMap::new();
        for entry in remote.bucket.list(&format!("{JOBS}/")) {
            let entry = entry?;
            if let Some(dir) = job_of(&entry.key) {
                let changed = found.entry(dir.to_owned()).or_default();
                *changed = entry.modified.max(*changed);
            }
        }
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let processes = found.keys().filter_map(|dir| process_of(dir));
        let gone = self.gone(&processes.map(str::to_owned).collect::<Vec<_>>())?;
        // Behind both: what has a row now was not left, what is put there later is not on the list, and a process that has ended wrote
        // its rows before.
        let wanted = self.wanted_dirs()?;
        found.retain(|dir, _| !wanted.contains(dir));
        let dirs: Vec<String> = found.keys().cloned().collect();
        let over = self.dirs_of_ended(&dirs)?;
        found.retain(|dir, changed| over.contains(dir) || gone.is_over(process_of(dir), *changed));
        Ok(found.into_keys().collect())
    }

    /// Returns those of these folders of inputs that no job and no draft has.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn dirs_without_row(&self, dirs: &[String]) -> Result<Vec<String>, StoreError> {
        let mut conn = self.connection()?;
        let of_jobs = jobs::table.filter(jobs::dir.eq_any(dirs));
        let mut found: Vec<String> = of_jobs.select(jobs::dir).load(&mut *conn)?;
        let of_drafts = drafts::table.filter(drafts::dir.eq_any(dirs));
        found.extend(of_drafts.select(drafts::dir).load::<String>(&mut *conn)?);
        let without = dirs.iter().filter(|dir| !found.contains(dir));
        Ok(without.cloned().collect())
    }
}
