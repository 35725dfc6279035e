//! Users, their GLB files, and jobs that survive: rows in SQLite and files below one folder.
//!
//! Nothing here knows of sockets or scenes; every call may block. The entry point is [`Store`], which is cheap to clone. A
//! database of the Python service is opened as it is; the tables are defined in `migrations/`.

mod check;
mod error;
mod files;
mod glb_files;
mod jobs;
mod known_addresses;
mod passwords;
mod results;
mod save;
mod schema;
mod sessions;
mod time;
mod users;

pub use self::{
    check::CheckReport,
    error::StoreError,
    files::WriteSeek,
    glb_files::{GlbFile, check_original_name},
    jobs::{Job, JobKind, JobOutcome, NewJob, StoredJobState},
    save::GlbOrigin,
    sessions::SessionStamp,
    time::parse_time,
    users::User,
};

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use diesel::{
    connection::SimpleConnection,
    prelude::*,
    r2d2::{ConnectionManager, CustomizeConnection, Pool, PooledConnection},
    sqlite::Sqlite,
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use passwords::Passwords;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// Size of the connection pool. SQLite has one writer at a time and readers are quick, so more would only wait elsewhere.
const CONNECTIONS: u32 = 8;

/// How long a query waits for another writer, and a caller for a connection.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two attempts where SQLite does not wait by itself.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

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
    out_root: Arc<Path>,
    passwords: Arc<Passwords>,
}

type Pooled = PooledConnection<ConnectionManager<SqliteConnection>>;

impl Store {
    /// Opens or creates the database and brings its tables up to date.
    ///
    /// # Errors
    /// When it cannot be opened, is another kind of database, or comes from a newer version.
    pub fn open(settings: &StoreSettings) -> Result<Self, StoreError> {
        let db = &settings.db;
        let url = db.to_str().ok_or_else(|| StoreError::Open {
            path: db.clone(),
            source: "its path is not valid UTF-8".into(),
        })?;
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Open {
            path: db.clone(),
            source,
        };
        // Without the pool first, which would only report a timeout.
        let mut conn = SqliteConnection::establish(url).map_err(|e| failed(e.into()))?;
        let start = Instant::now();
        while let Err(e) = prepare(&mut conn, db) {
            if !e.is_locked() || start.elapsed() > BUSY_TIMEOUT {
                return Err(e);
            }
            std::thread::sleep(BUSY_PAUSE);
        }
        for probe in [
            users::probe(&mut conn),
            glb_files::probe(&mut conn),
            jobs::probe(&mut conn),
        ] {
            probe.map_err(|e| StoreError::NotOurs {
                path: db.clone(),
                what: e.to_string(),
            })?;
        }
        let pool = Pool::builder()
            .max_size(CONNECTIONS)
            .min_idle(Some(0))
            .test_on_check_out(false)
            .connection_timeout(BUSY_TIMEOUT)
            .connection_customizer(Box::new(Pragmas))
            .build_unchecked(ConnectionManager::new(url));
        Ok(Self {
            pool,
            out_root: settings.out_root.as_path().into(),
            passwords: Arc::default(),
        })
    }

    /// Returns the folder of the GLB files.
    pub fn out_root(&self) -> &Path {
        &self.out_root
    }

    fn connection(&self) -> Result<Pooled, StoreError> {
        Ok(self.pool.get()?)
    }
}

#[derive(Debug)]
struct Pragmas;

impl CustomizeConnection<SqliteConnection, diesel::r2d2::Error> for Pragmas {
    fn on_acquire(&self, conn: &mut SqliteConnection) -> Result<(), diesel::r2d2::Error> {
        set_pragmas(conn).map_err(diesel::r2d2::Error::QueryError)
    }
}

/// Sets SQLite's options per connection. FULL, since a row guarantees that its file is on the disk, and a job's that it is
/// not lost.
fn set_pragmas(conn: &mut SqliteConnection) -> QueryResult<()> {
    conn.batch_execute(&format!(
        "PRAGMA busy_timeout = {}; PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL;",
        BUSY_TIMEOUT.as_millis()
    ))
}

/// Sets the database up. May be called again when another process had locked it.
// SQLite does not wait by itself for the change to WAL, nor for a reader to become a writer after another process wrote.
fn prepare(conn: &mut SqliteConnection, db: &Path) -> Result<(), StoreError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Open {
        path: db.to_owned(),
        source,
    };
    set_pragmas(conn)
        .and_then(|()| conn.batch_execute("PRAGMA journal_mode = WAL;"))
        .map_err(|e| failed(e.into()))?;
    refuse_newer(conn, db)?;
    migrate(conn).map_err(failed)
}

fn refuse_newer(conn: &mut SqliteConnection, db: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Open {
        path: db.to_owned(),
        source,
    };
    let applied = conn.applied_migrations().map_err(failed)?;
    let known =
        diesel::migration::MigrationSource::<Sqlite>::migrations(&MIGRATIONS).map_err(failed)?;
    let unknown = applied
        .iter()
        .find(|version| known.iter().all(|m| m.name().version() != **version));
    match unknown {
        Some(version) => Err(StoreError::Newer {
            path: db.to_owned(),
            version: version.to_string(),
        }),
        None => Ok(()),
    }
}

/// Applies all migrations or none, in one process at a time: two that start together would both find them pending.
fn migrate(conn: &mut SqliteConnection) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if !conn.has_pending_migration(MIGRATIONS)? {
        return Ok(());
    }
    let mut cause = None;
    let done = conn.immediate_transaction(|conn| {
        conn.run_pending_migrations(MIGRATIONS)
            .map(|_| ())
            .map_err(|e| {
                cause = Some(e);
                diesel::result::Error::RollbackTransaction
            })
    });
    match (done, cause) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(cause)) => Err(cause),
        (Err(e), None) => Err(e.into()),
    }
}
