//! A draft becomes a job.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{DraftError, path_of};
use crate::{
    jobs::{InputFolder, JobNames, JobOptions, JobRequest, Jobs, SubmitError, shared::Shared},
    store::{Draft, DraftFile, JobKind, User, create_private},
};

/// What the files of a draft are.
#[derive(Debug, Clone)]
pub struct DraftInput {
    /// Kind of the files.
    pub kind: JobKind,
    /// Names of the images.
    pub names: Vec<String>,
    /// SHA-256 of the kind and the files, 64 hex digits.
    pub sha256: String,
}

impl Jobs {
    /// Returns the paths of the files of a draft, in their order, all of which have arrived.
    ///
    /// # Errors
    /// Names the files that have not, or says that there is none.
    pub fn draft_paths(&self, draft: &Draft) -> Result<Vec<PathBuf>, DraftError> {
        let store = &self.shared.store;
        let path = |file: &DraftFile| path_of(store, draft, file.number);
        if let Some(objects) = store.job_objects(&draft.dir) {
            for file in draft.files.iter().filter(|file| file.is_complete()) {
                let is_whole = |meta: fs::Metadata| meta.len() == file.length;
                if !fs::metadata(path(file)).is_ok_and(is_whole) {
                    let parts = store.draft_parts(draft.id, file.number)?;
                    let names: Vec<String> = parts.into_iter().map(|part| part.name).collect();
                    objects.join(&names, &path(file))?;
                }
            }
        }
        let is_there = |file: &&DraftFile| {
            let len = fs::metadata(path(file)).map(|meta| meta.len());
            file.is_complete() && len.is_ok_and(|len| len == file.length)
        };
        let missing = draft.files.iter().filter(|file| !is_there(file));
        let missing: Vec<String> = missing.map(|file| file.name.clone()).collect();
        if !missing.is_empty() || draft.files.is_empty() {
            return Err(DraftError::Incomplete(missing));
        }
        Ok(draft.files.iter().map(path).collect())
    }

    /// Queues a draft as a job under its number. The draft stays as it was when this fails.
    ///
    /// Blocks on the disk.
    ///
    /// # Errors
    /// When files are missing or were changed, an option cannot be used, or the queue is full.
    pub fn start_draft(
        &self,
        user: User,
        draft: &Draft,
        input: DraftInput,
    ) -> Result<(), DraftError> {
        let Shared {
            settings,
            store,
            drafts,
            ..
        } = &*self.shared;
        let paths = self.draft_paths(draft)?;
        let options = JobOptions::from_row(&draft.options_json)
            .map_err(|e| SubmitError::Input(io::Error::other(e)))?;
        // The server may have been started with others since.
        options.check(settings)?;
        let mut names = JobNames::from_row(&draft.options_json);
        if names.names.is_empty() {
            names.names = input.names;
        }
        // Links: until the job has its row the draft has the files, whatever happens to this process.
        let mut folder = InputFolder::create(store)?;
        for (index, from) in (0..).zip(&paths) {
            let to = match input.kind {
                JobKind::Video => folder.video(),
                JobKind::Images => folder.image(index),
            };
            link_or_copy(from, &to)?;
        }
        self.shared.adopt(user.id, draft.id)?;
        folder.count_with(drafts.hold(user.id, draft.id)?);
        let request = JobRequest {
            original_name: names.original_name(input.kind, SystemTime::now()),
            names,
            user,
            kind: input.kind,
            folder,
            input_sha256: input.sha256,
            options,
        };
        self.submit_with(request, false, |job| {
            let started = store.start_draft(draft, job).map_err(SubmitError::from)?;
            started.ok_or(DraftError::Changed)
        })?;
        drafts.remove(draft.id);
        store.remove_job_dir(&draft.dir);
        Ok(())
    }
}

fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    // Not every file system has a second name for a file.
    let mut copy = create_private(to)?;
    io::copy(&mut File::open(from)?, &mut copy)?;
    copy.sync_all()
}
