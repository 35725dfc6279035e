//! Jobs that are made before their files: drafts, whose files arrive in parts, and become jobs once they are started.
//!
//! A draft and how much of each file has arrived are rows, and the files lie in the folder of the jobs' inputs: both survive this
//! process. What is only here are the counts of the quotas, and which files are being written.

mod start;
mod write;

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

pub use self::{start::DraftInput, write::DraftWriter};
use super::{
    JobNames, JobOptions, Jobs,
    error::SubmitError,
    faults::quietly,
    input::InputFolder,
    options::BadOption,
    quota::{InputHold, QuotaError},
    shared::Shared,
};
use crate::store::{
    AddedFile, Draft, DraftFile, DraftLimits, NewDraft, NewDraftFile, Store, StoreError,
};

/// Why a draft or one of its files is not taken, written or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// The user has no such draft.
    #[error("you have no such job that takes files")]
    NoDraft,
    /// The draft has no such file.
    #[error("the job has no such upload")]
    NoFile,
    /// The file is being written.
    #[error("another request writes this upload; wait for its end")]
    Locked,
    /// A part begins elsewhere than where the file ends.
    #[error("cannot go on at byte {given}: the upload has {received} bytes")]
    Offset {
        /// Where the part begins.
        given: u64,
        /// Bytes that are there.
        received: u64,
    },
    /// A part goes beyond the announced length.
    #[error("the upload has {length} bytes in all, and this goes beyond them")]
    Beyond {
        /// The announced length.
        length: u64,
    },
    /// The draft has as many files as it may have.
    #[error("there are more than {0} images")]
    TooMany(u32),
    /// The files are too long together.
    #[error("at most {0} bytes are taken, in all files of a job")]
    TooLong(u64),
    /// Files have not arrived as a whole.
    #[error("cannot start the job: {}", missing(.0))]
    Incomplete(Vec<String>),
    /// The files were changed while the job was being started.
    #[error("the files were changed meanwhile; start the job again")]
    Changed,
    /// An option cannot be used any more.
    #[error(transparent)]
    Option(#[from] BadOption),
    /// The user holds too much.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// The queue does not take it.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// A file cannot be read or written.
    #[error("cannot keep the upload: {0}")]
    Disk(#[from] io::Error),
    /// The rows cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn missing(names: &[String]) -> String {
    /// Names in a message.
    const SHOWN: usize = 10;
    if names.is_empty() {
        return "it has no file".to_owned();
    }
    let shown: Vec<String> = names.iter().take(SHOWN).map(|n| format!("{n:?}")).collect();
    let others = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        n => format!(" and {n} others"),
    };
    format!("{}{others} have not arrived as a whole", shown.join(", "))
}

/// What this process knows of drafts beside their rows.
#[derive(Debug, Default)]
pub(super) struct Drafts(Mutex<HashMap<i64, Entry>>);

#[derive(Debug)]
struct Entry {
    user_id: i32,
    dir: String,
    hold: Arc<InputHold>,
    /// Numbers of the files that are being written.
    writing: HashSet<i32>,
}

impl Drafts {
    fn insert(&self, draft: &Draft, hold: InputHold) {
        let entry = Entry {
            user_id: draft.user_id,
            dir: draft.dir.clone(),
            hold: Arc::new(hold),
            writing: HashSet::new(),
        };
        self.lock().insert(draft.id, entry);
    }

    fn hold(&self, user_id: i32, id: i64) -> Result<Arc<InputHold>, DraftError> {
        let all = self.lock();
        let own = all.get(&id).filter(|entry| entry.user_id == user_id);
        own.map(|entry| entry.hold.clone())
            .ok_or(DraftError::NoDraft)
    }

    /// Returns the numbers and the folders of all.
    fn known(&self) -> Vec<(i64, String)> {
        let all = self.lock();
        let known = all.iter().map(|(id, entry)| (*id, entry.dir.clone()));
        known.collect()
    }

    /// Makes the caller the only one that writes a file.
    fn lock_file(
        self: &Arc<Self>,
        user_id: i32,
        id: i64,
        number: i32,
    ) -> Result<FileLock, DraftError> {
        let mut all = self.lock();
        let own = all
            .get_mut(&id)
            .filter(|entry| entry.user_id == user_id)
            .ok_or(DraftError::NoDraft)?;
        if !own.writing.insert(number) {
            return Err(DraftError::Locked);
        }
        Ok(FileLock {
            hold: own.hold.clone(),
            drafts: self.clone(),
            id,
            number,
        })
    }

    fn remove(&self, id: i64) {
        // What it holds is freed behind the lock.
        let removed = self.lock().remove(&id);
        drop(removed);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i64, Entry>> {
        // Every change is one call: the map is consistent after a panic elsewhere.
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// A file that nobody else writes until this is dropped.
#[derive(Debug)]
struct FileLock {
    hold: Arc<InputHold>,
    drafts: Arc<Drafts>,
    id: i64,
    number: i32,
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if let Some(entry) = self.drafts.lock().get_mut(&self.id) {
            entry.writing.remove(&self.number);
        }
    }
}

fn path_of(store: &Store, draft: &Draft, number: i32) -> PathBuf {
    let name = DraftFile::name_in_folder(number);
    store.job_dir(&draft.dir).join(name)
}

impl Jobs {
    /// Makes a job whose files are still to come. Once this returns it survives this process, for a day after its last byte.
    ///
    /// Blocks on the disk.
    ///
    /// # Errors
    /// When the user has too many or holds too much, or it cannot be stored.
    pub fn create_draft(
        &self,
        user_id: i32,
        options: &JobOptions,
        names: &JobNames,
    ) -> Result<Draft, DraftError> {
        let Shared {
            settings,
            store,
            quotas,
            drafts,
            ..
        } = &*self.shared;
        let hold = quotas.begin_draft(&settings.quotas, store, user_id)?;
        let mut folder = InputFolder::create(store)?;
        let dir = folder.keep(store)?;
        let draft = store.add_draft(&NewDraft {
            user_id,
            options_json: names.options_json(options)?,
            dir,
        })?;
        folder.has_row();
        drafts.insert(&draft, hold);
        Ok(draft)
    }

    /// Returns the user's jobs whose files are still to come, oldest first. Blocks.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn drafts_of(&self, user_id: i32) -> Result<Vec<Draft>, StoreError> {
        self.shared.store.drafts_of(user_id)
    }

    /// Returns a job of the user whose files are still to come. Blocks.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn draft(&self, user_id: i32, id: i64) -> Result<Option<Draft>, StoreError> {
        self.shared.store.draft_of(user_id, id)
    }

    /// Returns the name that the user gave to the result of a draft.
    pub fn name_of_draft(&self, draft: &Draft) -> Option<String> {
        let names = JobNames::from_row(&draft.options_json);
        let named = names.name.is_some();
        let name = names.original_name(crate::store::JobKind::Images, std::time::UNIX_EPOCH);
        named.then_some(name)
    }

    /// Removes a draft with its files, and returns true if there was one. Blocks on the disk.
    ///
    /// # Errors
    /// When the rows cannot be removed.
    pub fn discard_draft(&self, user_id: i32, id: i64) -> Result<bool, StoreError> {
        let Some(draft) = self.shared.store.draft_of(user_id, id)? else {
            return Ok(false);
        };
        self.shared.discard(id, &draft.dir)
    }

    /// Adds a file to a draft: its length counts for the user from now on. Blocks on the database.
    ///
    /// # Errors
    /// When there is no such draft, or the file is more than the draft, the user or the disk may hold.
    pub fn add_draft_file(
        &self,
        user_id: i32,
        id: i64,
        new: &NewDraftFile,
        limits: DraftLimits,
    ) -> Result<(DraftFile, jiff::Timestamp), DraftError> {
        let Shared {
            settings, store, ..
        } = &*self.shared;
        if store.draft_of(user_id, id)?.is_none() {
            return Err(DraftError::NoDraft);
        }
        self.shared.adopt(user_id, id)?;
        let hold = self.shared.drafts.hold(user_id, id)?;
        hold.grow(&settings.quotas, store, new.length)?;
        let added = store.add_draft_file(id, new, limits);
        let refused = match added {
            Ok(AddedFile::Added { file, expires_at }) => return Ok((file, expires_at)),
            Ok(AddedFile::NoDraft) => DraftError::NoDraft,
            Ok(AddedFile::TooMany) => DraftError::TooMany(limits.files),
            Ok(AddedFile::TooLong) => DraftError::TooLong(limits.bytes),
            Err(e) => e.into(),
        };
        hold.shrink(new.length, new.length);
        Err(refused)
    }

    /// Removes a file of a draft. Blocks on the disk.
    ///
    /// # Errors
    /// When there is no such file, or it is being written.
    pub fn remove_draft_file(&self, user_id: i32, id: i64, number: i32) -> Result<(), DraftError> {
        let Shared { store, drafts, .. } = &*self.shared;
        self.shared.adopt(user_id, id)?;
        let lock = drafts.lock_file(user_id, id, number)?;
        let draft = store.draft_of(user_id, id)?.ok_or(DraftError::NoDraft)?;
        let file = draft.files.iter().find(|file| file.number == number);
        let file = file.ok_or(DraftError::NoFile)?;
        let parts = match store.job_objects(&draft.dir) {
            Some(objects) => Some((objects, store.draft_parts(id, number)?)),
            None => None,
        };
        if !store.remove_draft_file(id, number)? {
            return Err(DraftError::NoFile);
        }
        if let Some((objects, parts)) = parts {
            for part in parts {
                objects.remove_file(&part.name)?;
            }
        }
        lock.hold.shrink(file.length, file.length - file.received);
        match fs::remove_file(path_of(store, &draft, number)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(()),
        }
    }
}

impl Shared {
    /// Takes up the drafts of an earlier process.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub(super) fn restore_drafts(&self) -> Result<(), StoreError> {
        // Before it is asked which of them stay: another process may make one in between.
        let drafts = self.store.drafts()?;
        let stay: HashSet<i64> = self.store.drafts_that_stay()?.into_iter().collect();
        for draft in drafts {
            if !stay.contains(&draft.id) {
                // Its folder goes with those of the other jobs that are over.
                self.store.remove_draft(draft.id)?;
                continue;
            }
            self.count_draft(&draft);
        }
        Ok(())
    }

    /// Takes up a draft that another process has made.
    fn adopt(&self, user_id: i32, id: i64) -> Result<(), StoreError> {
        if self.fleet.is_none() || self.drafts.lock().contains_key(&id) {
            return Ok(());
        }
        if let Some(draft) = self.store.draft_of(user_id, id)? {
            self.count_draft(&draft);
        }
        Ok(())
    }

    fn count_draft(&self, draft: &Draft) {
        let lengths = draft.files.iter().map(|file| file.length);
        let missing = draft.files.iter();
        let missing = missing.map(|file| file.length.saturating_sub(file.received));
        let (bytes, missing) = (lengths.sum(), missing.sum());
        let hold = self.quotas.resume_draft(draft.user_id, bytes, missing);
        self.drafts.insert(draft, hold);
    }

    /// Removes the drafts whose time is over, or whose users are gone.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub(super) fn sweep_drafts(&self) -> Result<(), StoreError> {
        // Before the rows are read: whatever is known by now has one.
        let known = self.drafts.known();
        if known.is_empty() {
            return Ok(());
        }
        let stay: HashSet<i64> = self.store.drafts_that_stay()?.into_iter().collect();
        for (id, dir) in known.iter().filter(|(id, _)| !stay.contains(id)) {
            if self.discard(*id, dir)? {
                quietly(|| {
                    tracing::info!(job.id = id, "removed job {id}, whose files did not arrive");
                });
            }
        }
        Ok(())
    }

    fn discard(&self, id: i64, dir: &str) -> Result<bool, StoreError> {
        let removed = self.store.remove_draft(id)?;
        self.drafts.remove(id);
        self.store.remove_job_dir(dir);
        Ok(removed)
    }
}
