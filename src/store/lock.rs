//! One server at a time for a database in a file and for its folder, by whatever name either is called. Those of a PostgreSQL server are
//! shared.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    Bell, Database, Store, StoreError, StoreSettings,
    postgres::{SessionLock, With},
    private::open_lock,
    sqlite::create_private_db,
};
use crate::system;

/// The lock in the folder of the files.
pub(super) const LOCK: &str = ".lock";

/// Ending of the database's lock, beside it.
const DB_LOCK: &str = "-lock";

/// How long another process that starts may have the lock of the folder for itself.
const MOMENT: Duration = Duration::from_secs(1);

/// Locks for the life of a server.
#[derive(Debug)]
#[must_use]
pub struct StoreLock {
    files: Vec<File>,
    /// Of a server's database.
    _session: Option<SessionLock>,
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        for file in self.files.drain(..) {
            // A lock that cannot be released goes with the process.
            let _ = file.unlock();
            // Closing any handle of the database would release SQLite's locks on it: they stay open.
            std::mem::forget(file);
        }
    }
}

impl StoreSettings {
    /// Locks the database for this process, and creates an empty one if there is none: two servers with one file would take each
    /// other's jobs for those of a process that crashed. To be called before it is opened: through another name of the same file
    /// SQLite would not see what the other process is about to write.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it, or the lock cannot be opened.
    pub fn lock_database(&self) -> Result<StoreLock, StoreError> {
        self.lock(With::Nobody, || {})
    }

    /// Takes part in the work on a database of PostgreSQL, beside others that do; a file is locked as by
    /// [`StoreSettings::lock_database`]. `bell` rings whenever a job waits. `lost` is called if another process takes the database for
    /// itself later, which it can when the connection to it was lost.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has the database for itself, or the lock cannot be opened.
    pub fn join_database(
        &self,
        bell: Arc<Bell>,
        lost: impl FnOnce() + Send + 'static,
    ) -> Result<StoreLock, StoreError> {
        self.lock(With::Others(bell), lost)
    }

    fn lock(
        &self,
        with: With,
        lost: impl FnOnce() + Send + 'static,
    ) -> Result<StoreLock, StoreError> {
        let path = match &self.db {
            Database::Sqlite(path) => path,
            Database::Postgres(server) => {
                let session = SessionLock::take(server, with, lost)?;
                let session = session.ok_or_else(|| in_use(&self.db.to_path()))?;
                return Ok(StoreLock {
                    files: Vec::new(),
                    _session: Some(session),
                });
            }
        };
        create_private_db(path);
        let db = fs::canonicalize(path).map_err(|e| failed(path, e))?;
        let mut name = db.clone().into_os_string();
        name.push(DB_LOCK);
        let mut files = vec![lock(&PathBuf::from(name), path)?];
        files.extend(lock_inode(&db)?);
        Ok(StoreLock {
            files,
            _session: None,
        })
    }
}

impl Store {
    /// Uses the folder beside others where the database is shared, and locks it as [`Store::lock_folder`] does otherwise.
    ///
    /// # Errors
    /// As there.
    pub fn join_folder(&self) -> Result<StoreLock, StoreError> {
        self.lock_folder_with(self.is_shared())
    }

    /// Locks the folder for this process: two servers would remove each other's uploads.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another server has it, or when it does not exist or the lock cannot be opened.
    pub fn lock_folder(&self) -> Result<StoreLock, StoreError> {
        self.lock_folder_with(false)
    }

    fn lock_folder_with(&self, shared: bool) -> Result<StoreLock, StoreError> {
        if let Some(remote) = &self.remote {
            // The lock of the database is that of the bucket, too, and the folder is this process's.
            remote
                .scratch
                .create()
                .map_err(|e| failed(&self.out_root, e))?;
            return Ok(StoreLock {
                files: Vec::new(),
                _session: None,
            });
        }
        if !self.out_root.is_dir() {
            return Err(self.no_folder());
        }
        let path = self.out_root.join(LOCK);
        let file = match shared {
            true => self.share(&path)?,
            false => lock(&path, &self.out_root)?,
        };
        Ok(StoreLock {
            files: vec![file],
            _session: None,
        })
    }

    /// Locks the folder beside others. Whoever is the first finds out that way that nobody else has it, whatever the database knows of
    /// other processes.
    fn share(&self, path: &Path) -> Result<File, StoreError> {
        let file = open_lock(path).map_err(|e| failed(path, e))?;
        if file.try_lock().is_ok() {
            *self.lock_alone() = time_of(&file).ok();
            let _ = file.unlock();
        }
        let start = Instant::now();
        loop {
            match file.try_lock_shared() {
                Ok(()) => return Ok(file),
                // Another one that starts has it for itself for a moment.
                Err(TryLockError::WouldBlock) if start.elapsed() < MOMENT => {
                    thread::sleep(MOMENT / 100);
                }
                Err(TryLockError::WouldBlock) => return Err(in_use(&self.out_root)),
                Err(TryLockError::Error(e)) => return Err(failed(path, e)),
            }
        }
    }

    /// Returns the time before which whatever was last changed in the folder is nobody's, unless rows say otherwise; `None` where all of it
    /// may be another process's.
    pub(super) fn left_before(&self) -> Option<Timestamp> {
        match self.is_shared() {
            true => *self.lock_alone(),
            // A server of a database in a file has the folder for itself.
            false => Some(Timestamp::MAX),
        }
    }

    fn lock_alone(&self) -> MutexGuard<'_, Option<Timestamp>> {
        // Every change is one assignment.
        self.alone.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn lock(path: &Path, what: &Path) -> Result<File, StoreError> {
    let file = open_lock(path).map_err(|e| failed(path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(in_use(what)),
        Err(TryLockError::Error(e)) => Err(failed(path, e)),
    }
}

/// Returns the present time by the clock of the file system.
fn time_of(mut file: &File) -> io::Result<Timestamp> {
    file.set_len(0)?;
    file.write_all(b"\n")?;
    Timestamp::try_from(file.metadata()?.modified()?).map_err(io::Error::other)
}

/// Locks the database itself, which may have another name: a hard link, or a mount. Where this kind of lock would meet SQLite's,
/// the other lock has to do.
fn lock_inode(db: &Path) -> Result<Option<File>, StoreError> {
    if !system::locks_are_apart(db) {
        return Ok(None);
    }
    let file = File::open(db).map_err(|e| failed(db, e))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(e) => {
            // Closing any handle of the file would release SQLite's locks on it: it stays open.
            std::mem::forget(file);
            match e {
                TryLockError::WouldBlock => Err(in_use(db)),
                TryLockError::Error(_) => Ok(None),
            }
        }
    }
}

fn in_use(path: &Path) -> StoreError {
    StoreError::InUse {
        path: path.to_owned(),
    }
}

fn failed(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Files {
        what: "lock",
        path: path.to_owned(),
        source,
    }
}
