//! Folders that are left of jobs.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{JOB, UPLOAD};
use crate::{
    jobs::error::JobsError,
    store::{Store, StoreError, changed_at, remove_folder},
};

/// Number of jobs of a user whose input files are kept after their end, as many as may wait by default.
const KEPT_PER_USER: usize = 4;

/// How long a folder may be without the row that is about to be written.
const WITHOUT_ROW: Duration = Duration::from_secs(30);

/// Removes leftovers of uploads and finished jobs of earlier processes. Where other processes work with the folder too, those that
/// may be theirs stay.
pub(in crate::jobs) fn sweep(store: &Store) -> Result<usize, JobsError> {
    store.create_input_folders()?;
    let mut found = Vec::new();
    for parent in [store.uploads_dir(), store.jobs_dir()] {
        let Ok(entries) = fs::read_dir(&parent) else {
            continue;
        };
        for entry in entries {
            found.push(entry.map_err(JobsError::Folder)?.path());
        }
    }
    let of_process = |path: &PathBuf| process_of(path).map(str::to_owned);
    let gone = store.gone(&found.iter().filter_map(of_process).collect::<Vec<_>>())?;
    // Behind both: a process that has ended wrote the rows of its folders before.
    let wanted = store.wanted_dirs()?;
    found.retain(|path| !name_of(path).is_some_and(|name| wanted.contains(name)));
    let (mut left, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|path| store.is_left(path));
    let names = others.iter().filter_map(|path| name_of(path));
    let over = store.dirs_of_ended(&names.map(str::to_owned).collect::<Vec<_>>())?;
    left.extend(others.into_iter().filter(|path| {
        name_of(path).is_some_and(|name| over.contains(name))
            || changed_at(path).is_some_and(|at| gone.is_over(process_of(path), at))
    }));
    for path in &left {
        remove_folder(path);
    }
    Ok(left.len())
}

/// Removes the folders of jobs that have ended, of workers that did not come to it.
pub(in crate::jobs) fn remove_ended(store: &Store) -> Result<(), StoreError> {
    let entries = fs::read_dir(store.jobs_dir()).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let names: Vec<String> = names.collect();
    for name in store.dirs_of_ended(&names)? {
        remove_folder(&store.job_dir(&name));
    }
    // Copies of what is in a bucket, of jobs that are gone with their users.
    let is_copy = |name: &String| {
        let modified = fs::metadata(store.job_dir(name)).and_then(|meta| meta.modified());
        let age = modified.ok().and_then(|time| time.elapsed().ok());
        store.job_objects(name).is_some() && age.is_some_and(|age| age > WITHOUT_ROW)
    };
    let copies: Vec<String> = names.into_iter().filter(is_copy).collect();
    if !copies.is_empty() {
        for name in store.dirs_without_row(&copies)? {
            remove_folder(&store.job_dir(&name));
        }
    }
    Ok(())
}

/// Removes the kept input files of jobs that ended a day ago, and of all but the newest few of each user.
pub(in crate::jobs) fn remove_kept(store: &Store) -> Result<(), StoreError> {
    let mut of_user: HashMap<i32, usize> = HashMap::new();
    for kept in store.kept_inputs()? {
        let number = of_user.entry(kept.user_id).or_default();
        *number += usize::from(!kept.expired);
        if kept.expired || *number > KEPT_PER_USER {
            store.remove_job_dir(&kept.dir);
            store.forget_input(kept.id)?;
        }
    }
    Ok(())
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// Returns the process that made a folder.
fn process_of(path: &Path) -> Option<&str> {
    let name = name_of(path)?;
    let rest = name
        .strip_prefix(UPLOAD)
        .or_else(|| name.strip_prefix(JOB))
        .or_else(|| name.strip_prefix("artifact-"))?;
    rest.rsplit_once('-').map(|(process, _)| process)
}
