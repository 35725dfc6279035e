//! Users, their sessions and tokens, their GLB files, and jobs that survive: rows in SQLite and files below one folder.
//!
//! Nothing here knows of sockets or scenes; every call may block. The entry point is [`Store`], which is cheap to clone. A
//! database of the Python service is opened as it is; the tables are defined in `migrations/`.

mod access_tokens;
mod check;
mod create_table;
mod draft_files;
mod drafts;
mod error;
mod files;
mod glb_files;
mod identity;
mod job_control;
mod job_warnings;
mod jobs;
mod keys;
mod known_addresses;
mod lock;
mod open;
mod open_glb;
mod own_jobs;
mod passwords;
mod private;
mod random;
mod removed;
mod results;
mod save;
mod scales;
mod schema;
mod sessions;
mod share_links;
mod spools;
mod time;
mod upkeep;
mod usage;
mod users;

pub use self::{
    access_tokens::{AccessToken, NewSecret},
    check::{CheckReport, Repair},
    draft_files::{AddedFile, DraftFile, DraftLimits, NewDraftFile},
    drafts::{Draft, NewDraft},
    error::StoreError,
    files::WriteSeek,
    glb_files::{GlbFile, check_original_name},
    job_control::{JobFilter, KeptInput, MAX_DEATHS, PendingJob},
    jobs::{Job, JobKind, JobOutcome, NewJob, StoredJobState},
    lock::StoreLock,
    private::{create_private, open_private, remove_folder},
    random::random_hash,
    save::GlbOrigin,
    sessions::SessionStamp,
    share_links::{NewLink, ShareLink, Shared},
    time::parse_time,
    upkeep::{Retention, Upkeep},
    usage::{DiskSpace, Usage},
    users::User,
};

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicU32},
};

use diesel::{
    prelude::*,
    r2d2::{ConnectionManager, Pool, PooledConnection},
};
use passwords::Passwords;

/// Paths of the database and the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// The database.
    pub db: PathBuf,
    /// The folder of the GLB files, created when the first is stored.
    pub out_root: PathBuf,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            db: "./vggt_app.db".into(),
            out_root: "./out".into(),
        }
    }
}

/// Users, GLB files and jobs: a pool of connections and the folder of the files.
#[derive(Debug, Clone)]
pub struct Store {
    pool: Pool<ConnectionManager<SqliteConnection>>,
    db: Arc<Path>,
    out_root: Arc<Path>,
    /// The identifier that the folder had when it was last looked at.
    bound: Arc<Mutex<Option<String>>>,
    /// As in [`Retention`].
    jobs_per_user: Arc<AtomicU32>,
    passwords: Arc<Passwords>,
}

type Pooled = PooledConnection<ConnectionManager<SqliteConnection>>;

impl Store {
    /// Opens or creates the database and brings its tables up to date.
    ///
    /// # Errors
    /// When it cannot be opened, is another kind of database, or comes from a newer version.
    pub fn open(settings: &StoreSettings) -> Result<Self, StoreError> {
        let pool = open::open(&settings.db)?;
        Ok(Self {
            pool,
            db: settings.db.as_path().into(),
            out_root: settings.out_root.as_path().into(),
            bound: Arc::default(),
            jobs_per_user: Arc::new(Retention::default().jobs_per_user.into()),
            passwords: Arc::default(),
        })
    }

    /// Returns the path of the database.
    pub fn db(&self) -> &Path {
        &self.db
    }

    /// Returns the folder of the GLB files.
    pub fn out_root(&self) -> &Path {
        &self.out_root
    }

    /// Returns those of the service's files and folders that other users of this machine may read or write. What is created
    /// is for its owner alone.
    pub fn open_to_others(&self) -> Vec<PathBuf> {
        let mut paths = vec![self.db.to_path_buf(), self.out_root.to_path_buf()];
        paths.extend(files::OWN_FOLDERS.map(|name| self.out_root.join(name)));
        let open = private::open_to_others(&paths);
        open.into_iter().map(Path::to_owned).collect()
    }

    fn connection(&self) -> Result<Pooled, StoreError> {
        Ok(self.pool.get()?)
    }
}
