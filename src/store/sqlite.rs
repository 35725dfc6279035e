//! SQLite: its options, the migrations, and the keys that are never given twice.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use diesel::{connection::SimpleConnection, prelude::*, sqlite::Sqlite};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{
    Database, StoreError,
    connection::{AnyConnection, probe},
    keys,
};
use crate::atomic_file::AtomicFile;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// How long a query waits for another writer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two attempts where SQLite does not wait by itself.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Opens or creates the database and brings its tables up to date.
pub(super) fn open(db: &Path) -> Result<(), StoreError> {
    let url = db.to_str().ok_or_else(|| StoreError::Open {
        path: db.to_owned(),
        source: "its path is not valid UTF-8".into(),
    })?;
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Open {
        path: db.to_owned(),
        source,
    };
    create_private_db(db);
    // Without the pool first, which would only report a timeout.
    let mut conn = SqliteConnection::establish(url).map_err(|e| failed(e.into()))?;
    let start = Instant::now();
    while let Err(e) = prepare(&mut conn, db) {
        if !e.is_locked() || start.elapsed() > BUSY_TIMEOUT {
            return Err(e);
        }
        std::thread::sleep(BUSY_PAUSE);
    }
    probe(&mut AnyConnection::Sqlite(conn), &Database::from(db))
}

/// Creates an empty database for its owner alone; SQLite gives the mode to the files beside it. What goes wrong SQLite tells.
pub(super) fn create_private_db(db: &Path) {
    // SQLite's own names for other things than a file.
    let is_special = |text: &str| ["", ":memory:"].contains(&text) || text.contains(':');
    if db.to_str().is_none_or(is_special) || db.exists() {
        return;
    }
    // A link to a database that is to be created.
    let db = match fs::read_link(db) {
        Ok(target) => db.parent().unwrap_or(db).join(target),
        Err(_) => db.to_owned(),
    };
    // Under another name first: to close a handle of a database releases the locks that SQLite has on it in this process.
    if let Ok(mut file) = AtomicFile::create_private(&db) {
        let _ = file.link();
    }
}

/// Sets SQLite's options per connection. FULL, since a row guarantees that its file is on the disk, and a job's that it is
/// not lost.
pub(super) fn set_pragmas(conn: &mut SqliteConnection) -> QueryResult<()> {
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
    migrate(conn).map_err(failed)?;
    keys::never_reuse(conn).map_err(failed)
}

/// Makes the next key of a table a higher one.
pub(super) fn go_on_after(
    conn: &mut SqliteConnection,
    table: &'static str,
    last: i64,
) -> QueryResult<()> {
    conn.batch_execute(&format!(
        "DELETE FROM sqlite_sequence WHERE name = '{table}'; INSERT INTO sqlite_sequence (name, seq) VALUES ('{table}', {last});"
    ))
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
