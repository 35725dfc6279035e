//! Users, their sessions and tokens, their GLB files, and jobs that survive: rows in SQLite or PostgreSQL and files below one folder.
//!
//! Nothing here knows of sockets or scenes; every call may block. The entry point is [`Store`], which is cheap to clone. A
//! database of the Python service is opened as it is; the tables are defined in
//! `migrations/`.

mod access_tokens;
mod bell;
mod bucket;
mod check;
mod connection;
mod create_table;
mod database;
mod draft_files;
mod drafts;
mod driver;
mod error;
mod files;
mod glb_files;
mod gone;
mod identity;
mod job_control;
mod job_warnings;
mod jobs;
mod keys;
mod known_addresses;
mod last_logins;
mod lock;
mod login_counts;
mod migrate;
mod migrate_files;
mod open_glb;
mod own_jobs;
mod passwords;
mod postgres;
mod private;
mod queue;
mod random;
mod remote;
mod removed;
mod results;
mod save;
mod scales;
mod schema;
mod sessions;
mod share_links;
mod spools;
mod sqlite;
mod stored_file;
mod time;
mod upkeep;
mod usage;
mod users;

pub use self::{
    access_tokens::{AccessToken, NewSecret},
    bell::Bell,
    bucket::{
        Bucket, BucketEntry, BucketError, BucketLimits, BucketList, BucketObject, BucketReader,
        BucketSettings, BucketUrl,
    },
    check::{CheckReport, Repair},
    database::Database,
    draft_files::{AddedFile, DraftFile, DraftLimits, DraftPart, NewDraftFile},
    drafts::{Draft, NewDraft},
    error::StoreError,
    files::{WriteSeek, changed_at},
    glb_files::{GlbFile, check_original_name},
    gone::Gone,
    job_control::{JobFilter, KeptInput, MAX_DEATHS, PendingJob},
    jobs::{Job, JobKind, JobOutcome, NewJob, StoredJobState},
    last_logins::SharedLogins,
    lock::StoreLock,
    login_counts::{LoginCount, LoginCounts},
    migrate::CopiedTable,
    migrate_files::CopiedFiles,
    postgres::Server,
    private::{create_private, open_private, remove_folder},
    queue::{
        Admission, Claim, Claimed, Full, JobSize, Lease, Load, Overview, Places, Reaped,
        RunningJob, WaitingJob, WorkerRow, WorkerState, process_name,
    },
    random::random_hash,
    remote::{FilePart, JobObjects, OutRoot},
    save::GlbOrigin,
    sessions::SessionStamp,
    share_links::{NewLink, ShareLink, Shared},
    spools::SpoolToKeep,
    stored_file::{StoredBytes, StoredFile},
    time::parse_time,
    upkeep::{Retention, Upkeep},
    usage::{DiskSpace, Usage},
    users::User,
};

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicU32},
    time::Duration,
};

use connection::Manager;
use diesel::r2d2::{Pool, PooledConnection};
use jiff::Timestamp;
use login_counts::LoginWrites;
use passwords::Passwords;
use remote::Remote;

/// Paths of the database and the files.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// The database.
    pub db: Database,
    /// Where the GLB files are. A folder is created when the first is stored.
    pub out_root: OutRoot,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            db: Database::Sqlite("./vggt_app.db".into()),
            out_root: "./out".into(),
        }
    }
}

/// Users, GLB files and jobs: a pool of connections and the folder of the files.
#[derive(Debug, Clone)]
pub struct Store {
    pool: Pool<Manager>,
    database: Arc<Database>,
    /// The folder of the files; where these are in a bucket, that of this process.
    out_root: Arc<Path>,
    remote: Option<Arc<Remote>>,
    /// The identifier that the folder had when it was last looked at.
    bound: Arc<Mutex<Option<String>>>,
    /// As [`Store::left_before`], where the database is shared.
    alone: Arc<Mutex<Option<Timestamp>>>,
    /// As in [`Retention`].
    jobs_per_user: Arc<AtomicU32>,
    passwords: Arc<Passwords>,
    login_writes: LoginWrites,
}

type Pooled = PooledConnection<Manager>;

/// Size of the connection pool. SQLite has one writer at a time and readers are quick, so more would only wait elsewhere.
const CONNECTIONS: u32 = 8;

/// How long a caller waits for a connection.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

impl Store {
    /// Opens or creates the database and brings its tables up to date.
    ///
    /// # Errors
    /// When it cannot be opened, is another kind of database, or comes from a newer version.
    pub fn open(settings: &StoreSettings) -> Result<Self, StoreError> {
        // Without the pool first, which would only report a timeout.
        match &settings.db {
            Database::Sqlite(path) => sqlite::open(path)?,
            Database::Postgres(server) => postgres::open(server)?,
        }
        let pool = Pool::builder()
            .max_size(CONNECTIONS)
            .min_idle(Some(0))
            // A server may have been restarted, a file is what it was.
            .test_on_check_out(settings.db.file().is_none())
            .connection_timeout(BUSY_TIMEOUT)
            .build_unchecked(Manager(settings.db.clone()));
        let (out_root, remote) = match &settings.out_root {
            OutRoot::Folder(path) => (path.as_path().into(), None),
            OutRoot::Bucket { bucket, scratch } => {
                let remote = Remote::new(bucket.clone(), scratch);
                (remote.scratch.path().into(), Some(Arc::new(remote)))
            }
        };
        Ok(Self {
            pool,
            database: Arc::new(settings.db.clone()),
            out_root,
            remote,
            bound: Arc::default(),
            alone: Arc::default(),
            jobs_per_user: Arc::new(Retention::default().jobs_per_user.into()),
            passwords: Arc::default(),
            login_writes: LoginWrites::default(),
        })
    }

    /// Returns the database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Returns the folder of the GLB files; where these are in a bucket, that of this process. See [`Store::location`].
    pub fn out_root(&self) -> &Path {
        &self.out_root
    }

    /// Returns those of the service's files and folders that other users of this machine may read or write. What is created
    /// is for its owner alone.
    pub fn open_to_others(&self) -> Vec<PathBuf> {
        let mut paths = vec![self.out_root.to_path_buf()];
        paths.extend(self.database.file().map(Path::to_owned));
        paths.extend(files::OWN_FOLDERS.map(|name| self.out_root.join(name)));
        let open = private::open_to_others(&paths);
        open.into_iter().map(Path::to_owned).collect()
    }

    fn connection(&self) -> Result<Pooled, StoreError> {
        Ok(self.pool.get()?)
    }
}
