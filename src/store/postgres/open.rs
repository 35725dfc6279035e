//! Opening a database of PostgreSQL: its version, and the migrations.

use diesel::{connection::SimpleConnection, pg::Pg, prelude::*, sql_types::Integer};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{PgConnection, Server};
use crate::store::{
    Database, StoreError,
    connection::{AnyConnection, probe},
};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// The oldest version that is tested.
const OLDEST: i32 = 150_000;

/// What every connection is set to. A row guarantees that its file is on the disk, and a job's that it is not lost; a process that
/// is stopped in a transaction keeps the others from writing, so that its transaction is ended.
pub(super) const SETTINGS: &str = "SET synchronous_commit = on; SET lock_timeout = '10s'; \
    SET idle_in_transaction_session_timeout = '30s'; SET client_min_messages = warning;";

#[derive(QueryableByName)]
struct Version {
    #[diesel(sql_type = Integer)]
    version: i32,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Brings the tables of a database up to date.
///
/// # Errors
/// When there is no connection, the server or the tables are of a wrong version, or they cannot be changed.
pub(in crate::store) fn open(server: &Server) -> Result<(), StoreError> {
    let database = Database::Postgres(server.clone());
    let failed = |source: Failure| StoreError::Open {
        path: database.to_path(),
        source,
    };
    let mut conn = PgConnection::open(server).map_err(|e| failed(e.into()))?;
    let version: Version =
        diesel::sql_query("SELECT current_setting('server_version_num')::int AS version")
            .get_result(&mut conn)
            .map_err(|e| failed(e.into()))?;
    if version.version < OLDEST {
        let (old, needed) = (version.version / 10_000, OLDEST / 10_000);
        let why = format!("it is PostgreSQL {old}, and this program needs {needed} or newer");
        return Err(failed(why.into()));
    }
    migrate(&mut conn, &database)?;
    probe(&mut AnyConnection::Postgres(conn), &database)
}

/// Applies all migrations or none, in one process at a time.
fn migrate(conn: &mut PgConnection, database: &Database) -> Result<(), StoreError> {
    let failed = |source: Failure| StoreError::Open {
        path: database.to_path(),
        source,
    };
    let query = |e: diesel::result::Error| failed(e.into());
    // The list of migrations is itself a table that two processes would make at the same time.
    conn.batch_execute("SELECT pg_advisory_lock(1986488180);")
        .map_err(query)?;
    let done = migrate_locked(conn, database);
    conn.batch_execute("SELECT pg_advisory_unlock(1986488180);")
        .map_err(query)?;
    done
}

fn migrate_locked(conn: &mut PgConnection, database: &Database) -> Result<(), StoreError> {
    let failed = |source: Failure| StoreError::Open {
        path: database.to_path(),
        source,
    };
    let applied = conn.applied_migrations().map_err(failed)?;
    let known =
        diesel::migration::MigrationSource::<Pg>::migrations(&MIGRATIONS).map_err(failed)?;
    let unknown = applied
        .iter()
        .find(|version| known.iter().all(|m| m.name().version() != **version));
    if let Some(version) = unknown {
        return Err(StoreError::Newer {
            path: database.to_path(),
            version: version.to_string(),
        });
    }
    let mut cause = None;
    let done = conn.transaction(|conn| {
        let run = conn.run_pending_migrations(MIGRATIONS);
        run.map(|_| ()).map_err(|e| {
            cause = Some(e);
            diesel::result::Error::RollbackTransaction
        })
    });
    match (done, cause) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(cause)) => Err(failed(cause)),
        (Err(e), None) => Err(failed(e.into())),
    }
}
