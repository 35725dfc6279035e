//! How much one user may hold: stored files, uploads that arrive, and inputs of jobs that wait. Never deletes anything.

mod drafts;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

pub(super) use self::drafts::Arrival;
use crate::store::{DiskSpace, Store, StoreError, Usage};

/// Where nothing is said: the lesser of this and [`RESERVED_PART`] stays free, room for the results of jobs that were taken.
const RESERVED: u64 = 1 << 30;

/// A twentieth of the disk.
const RESERVED_PART: u64 = 20;

/// How much one user may hold, and what stays free on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaSettings {
    /// Maximum bytes of a user's files, kept spools, uploads and inputs of jobs.
    pub user_bytes: u64,
    /// Maximum bytes of a user's kept spools, which go before anything is refused; 0 keeps none.
    pub user_spool_bytes: u64,
    /// Maximum number of a user's files, counting one for each job.
    pub user_files: u64,
    /// Maximum number of uploads of one user that arrive at the same time.
    pub user_uploads: usize,
    /// Bytes of the disk that uploads leave free; `None`: 1 GiB, or 5 % of a smaller disk.
    pub min_free: Option<u64>,
}

impl Default for QuotaSettings {
    fn default() -> Self {
        Self {
            user_bytes: 20 << 30,
            user_spool_bytes: 5 << 30,
            user_files: 10_000,
            // More than phones and scripts have; with the bytes it bounds what half-sent uploads hold.
            user_uploads: 64,
            min_free: None,
        }
    }
}

/// Why an upload or a result is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuotaError {
    /// The files of the user would be too large.
    #[error(
        "you hold {} of {} MiB, and this has {}: delete files, or wait until your jobs are done",
        mib(*held), mib(*max), mib(*wanted)
    )]
    Bytes {
        /// Bytes that the user holds.
        held: u64,
        /// Bytes that are to be added.
        wanted: u64,
        /// Maximum.
        max: u64,
    },
    /// The user has too many files.
    #[error(
        "you hold {held} files and jobs of {max}: delete files, or wait until your jobs are done"
    )]
    Files {
        /// Files and jobs of the user.
        held: u64,
        /// Maximum.
        max: u64,
    },
    /// Too many uploads of the user at the same time.
    #[error("{running} of your uploads are arriving, at most {max} may at once: wait for them")]
    Uploads {
        /// Uploads that arrive.
        running: usize,
        /// Maximum.
        max: usize,
    },
    /// The disk has too little space left.
    #[error("the server's disk is full: it has {} MiB left and keeps {} free; try again later", mib(*free), mib(*reserved))]
    Disk {
        /// Free bytes.
        free: u64,
        /// Bytes that are about to arrive.
        wanted: u64,
        /// Bytes that stay free.
        reserved: u64,
    },
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl QuotaError {
    /// Bytes that are missing, and the user whose they are; `None` for the disk's.
    fn missing(&self, user: i32) -> Option<(Option<i32>, u64)> {
        match self {
            Self::Bytes { held, wanted, max } => {
                let over = held.saturating_add(*wanted).saturating_sub(*max);
                Some((Some(user), over))
            }
            Self::Disk {
                free,
                wanted,
                reserved,
            } => Some((None, wanted.saturating_add(*reserved).saturating_sub(*free))),
            _ => None,
        }
    }
}

/// In whole MiB, rounded up.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

impl QuotaSettings {
    fn reserved(&self, disk: DiskSpace) -> u64 {
        self.min_free
            .unwrap_or_else(|| RESERVED.min(disk.total / RESERVED_PART))
    }

    /// Whether the disk has more free space than uploads leave. True where the system does not tell.
    pub(super) fn has_space(&self, store: &Store) -> bool {
        self.has_space_for(store, 0)
    }

    /// As [`QuotaSettings::has_space`], once `bytes` more are written.
    pub(super) fn has_space_for(&self, store: &Store, bytes: u64) -> bool {
        let disk = store.disk_space();
        disk.is_none_or(|disk| disk.free > self.reserved(disk).saturating_add(bytes))
    }

    /// Refuses a result of `bytes` that is to be stored for the user. Kept spools are removed to make space.
    ///
    /// # Errors
    /// When the user would have more than is allowed, or the database cannot be read.
    pub(super) fn check_result(
        &self,
        store: &Store,
        user: i32,
        bytes: u64,
    ) -> Result<(), QuotaError> {
        with_space(store, user, || {
            self.check(store.usage_of(user)?, Held::default(), bytes)
        })
    }

    /// Whether a spool of `bytes` is to be kept for the user beside a GLB of `glb` that is about to be stored. Older ones are removed to
    /// make space; nothing else is.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub(super) fn admit_spool(
        &self,
        store: &Store,
        user: i32,
        glb: u64,
        bytes: u64,
    ) -> Result<bool, StoreError> {
        let stored = store.usage_of(user)?;
        let files = stored.bytes.saturating_sub(stored.spool_bytes);
        let files = files.saturating_add(glb);
        let most = self
            .user_spool_bytes
            .min(self.user_bytes.saturating_sub(files));
        // It is on the disk already.
        let is_full = |disk: DiskSpace| disk.free < self.reserved(disk);
        if bytes > most || store.disk_space().is_some_and(is_full) {
            return Ok(false);
        }
        let over = stored
            .spool_bytes
            .saturating_add(bytes)
            .saturating_sub(most);
        store.drop_spools(Some(user), over)?;
        Ok(true)
    }

    /// Refuses bytes that would not fit on the disk beside all that is to arrive.
    fn check_disk(
        &self,
        disk: Option<DiskSpace>,
        all: &HashMap<i32, Held>,
        bytes: u64,
    ) -> Result<(), QuotaError> {
        let Some(disk) = disk else { return Ok(()) };
        let arriving = all.values().map(|held| held.arriving);
        let arriving = arriving.fold(bytes, u64::saturating_add);
        let reserved = self.reserved(disk);
        if disk.free < reserved.saturating_add(arriving) {
            return Err(QuotaError::Disk {
                free: disk.free,
                wanted: arriving,
                reserved,
            });
        }
        Ok(())
    }

    fn check(&self, stored: Usage, held: Held, wanted: u64) -> Result<(), QuotaError> {
        let files = stored.files.saturating_add(held.inputs as u64);
        if files >= self.user_files {
            return Err(QuotaError::Files {
                held: files,
                max: self.user_files,
            });
        }
        let bytes = stored.bytes.saturating_add(held.bytes);
        if bytes.saturating_add(wanted) > self.user_bytes {
            return Err(QuotaError::Bytes {
                held: bytes,
                wanted,
                max: self.user_bytes,
            });
        }
        Ok(())
    }
}

/// Returns what a user has stored, and the inputs of the jobs that wait in a shared database: of those nobody else counts.
fn stored_by(store: &Store, user: i32) -> Result<Usage, StoreError> {
    let stored = store.usage_of(user)?;
    let (bytes, jobs) = store.inputs_of(user)?;
    Ok(Usage {
        files: stored.files.saturating_add(jobs as u64),
        bytes: stored.bytes.saturating_add(bytes),
        ..stored
    })
}

/// Calls `check` again once kept spools were removed to make space.
fn with_space<T>(
    store: &Store,
    user: i32,
    mut check: impl FnMut() -> Result<T, QuotaError>,
) -> Result<T, QuotaError> {
    match check() {
        Err(e) => match e.missing(user) {
            Some((of, bytes)) if store.drop_spools(of, bytes)? > 0 => check(),
            _ => Err(e),
        },
        done => done,
    }
}

/// What a user holds beside stored files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Held {
    /// Uploads that arrive.
    uploads: usize,
    /// Bytes that are still to arrive.
    arriving: u64,
    /// Uploads that arrive, drafts, and inputs of jobs that are not over.
    inputs: usize,
    /// Their bytes.
    bytes: u64,
}

/// What all users hold beside stored files.
#[derive(Debug, Default)]
pub(super) struct Quotas(Mutex<HashMap<i32, Held>>);

impl Quotas {
    /// Counts an upload of so many bytes that is about to arrive. Kept spools are removed to make space.
    ///
    /// # Errors
    /// When it is more than the user may hold or than fits on the disk.
    pub(super) fn begin(
        self: &Arc<Self>,
        settings: &QuotaSettings,
        store: &Store,
        user: i32,
        bytes: u64,
    ) -> Result<Upload, QuotaError> {
        with_space(store, user, || self.try_begin(settings, store, user, bytes))
    }

    fn try_begin(
        self: &Arc<Self>,
        settings: &QuotaSettings,
        store: &Store,
        user: i32,
        bytes: u64,
    ) -> Result<Upload, QuotaError> {
        let stored = stored_by(store, user)?;
        let disk = store.disk_space();
        let mut all = self.lock();
        let held = all.get(&user).copied().unwrap_or_default();
        if held.uploads >= settings.user_uploads {
            return Err(QuotaError::Uploads {
                running: held.uploads,
                max: settings.user_uploads,
            });
        }
        settings.check(stored, held, bytes)?;
        settings.check_disk(disk, &all, bytes)?;
        let held = all.entry(user).or_default();
        held.uploads += 1;
        held.arriving += bytes;
        held.inputs += 1;
        held.bytes += bytes;
        Ok(Upload {
            input: Some(self.hold(user, bytes, 0)),
        })
    }

    /// Counts the input of a job of an earlier process.
    pub(super) fn resume(self: &Arc<Self>, user: i32, bytes: u64) -> InputHold {
        let mut all = self.lock();
        let held = all.entry(user).or_default();
        held.inputs += 1;
        held.bytes += bytes;
        drop(all);
        self.hold(user, bytes, 0)
    }

    fn hold(self: &Arc<Self>, user: i32, bytes: u64, arriving: u64) -> InputHold {
        InputHold {
            quotas: self.clone(),
            user,
            bytes: bytes.into(),
            arriving: arriving.into(),
        }
    }

    pub(super) fn uploads(&self) -> usize {
        self.lock().values().map(|held| held.uploads).sum()
    }

    fn change(&self, user: i32, change: impl FnOnce(&mut Held)) {
        let mut all = self.lock();
        if let Some(held) = all.get_mut(&user) {
            change(held);
            if held.inputs == 0 && held.uploads == 0 {
                all.remove(&user);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Held>> {
        // The counts are consistent after a panic elsewhere.
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// An upload that arrives, counted until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Upload {
    /// `None` once it has been received.
    input: Option<InputHold>,
}

impl Upload {
    /// Ends the upload; its bytes count as the input of a job until what is returned is dropped.
    pub(super) fn received(mut self) -> Option<InputHold> {
        self.end();
        self.input.take()
    }

    fn end(&self) {
        if let Some(input) = &self.input {
            input.quotas.change(input.user, |held| {
                held.uploads -= 1;
                held.arriving -= input.bytes.load(Relaxed);
            });
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.end();
    }
}

/// The counted input of a job.
#[derive(Debug)]
pub(super) struct InputHold {
    quotas: Arc<Quotas>,
    user: i32,
    // Changed under the lock of the counts.
    bytes: AtomicU64,
    /// Those of them that are still to arrive, of a draft.
    arriving: AtomicU64,
}

impl Drop for InputHold {
    fn drop(&mut self) {
        self.quotas.change(self.user, |held| {
            held.inputs -= 1;
            held.bytes -= self.bytes.load(Relaxed);
            held.arriving -= self.arriving.load(Relaxed);
        });
    }
}
