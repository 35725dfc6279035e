//! A connection to the database, whichever it is: queries are written once and run on SQLite and PostgreSQL.
//!
//! What the two do not share is here: writing transactions, and the texts of the few queries that diesel does not compose.

#![allow(
    missing_docs,
    reason = "diesel's derive makes public items without any"
)]

use diesel::{
    connection::SimpleConnection, prelude::*, r2d2::R2D2Connection, result::Error as QueryError,
};

use super::{Database, StoreError, postgres::PgConnection, sqlite};

/// A connection. PostgreSQL's is not libpq's but one in Rust, so that the static program needs no library.
#[derive(diesel::MultiConnection)]
pub(super) enum AnyConnection {
    /// To a file.
    Sqlite(SqliteConnection),
    /// To a server.
    Postgres(PgConnection),
}

impl AnyConnection {
    /// Runs a transaction that writes. There is one at a time, so that it may rely on what it has read, as in SQLite: PostgreSQL's
    /// take an advisory lock. What has to be quicker than that is one statement.
    pub(super) fn write<T, E>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, E>
    where
        E: From<QueryError>,
    {
        self.transaction(|conn| {
            conn.batch_execute(match conn {
                // A statement that writes takes the lock, also if it changes nothing.
                Self::Sqlite(_) => "DELETE FROM removed_files WHERE 1 = 0;",
                Self::Postgres(_) => super::postgres::LOCK_WRITERS,
            })?;
            f(conn)
        })
    }

    /// Returns the connection to a server, for queries on what only PostgreSQL has.
    pub(super) fn postgres(&mut self) -> Result<&mut PgConnection, StoreError> {
        match self {
            Self::Sqlite(_) => Err(StoreError::Database(QueryError::NotFound)),
            Self::Postgres(conn) => Ok(conn),
        }
    }

    /// Returns the one of two texts that this database understands.
    pub(super) fn sql(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        match self {
            Self::Sqlite(_) => sqlite,
            Self::Postgres(_) => postgres,
        }
    }
}

/// Returns the columns of a row, for `returning`.
pub(super) fn columns<R: Selectable<MultiBackend>>() -> R::SelectExpression {
    R::construct_selection()
}

/// Opens connections for the pool.
#[derive(Debug)]
pub(super) struct Manager(pub(super) Database);

impl diesel::r2d2::ManageConnection for Manager {
    type Connection = AnyConnection;
    type Error = diesel::r2d2::Error;

    fn connect(&self) -> Result<AnyConnection, Self::Error> {
        use diesel::r2d2::Error::{ConnectionError, QueryError};
        match &self.0 {
            Database::Sqlite(path) => {
                let url = path.to_str().unwrap_or_default();
                let mut conn = SqliteConnection::establish(url).map_err(ConnectionError)?;
                sqlite::set_pragmas(&mut conn).map_err(QueryError)?;
                Ok(AnyConnection::Sqlite(conn))
            }
            Database::Postgres(server) => {
                let conn = PgConnection::open(server).map_err(ConnectionError)?;
                Ok(AnyConnection::Postgres(conn))
            }
        }
    }

    fn is_valid(&self, conn: &mut AnyConnection) -> Result<(), Self::Error> {
        conn.ping().map_err(diesel::r2d2::Error::QueryError)
    }

    fn has_broken(&self, conn: &mut AnyConnection) -> bool {
        std::thread::panicking() || conn.is_broken()
    }
}

/// Fails when a table or a column is missing.
pub(super) fn probe(conn: &mut AnyConnection, database: &Database) -> Result<(), StoreError> {
    for probe in [
        super::users::probe,
        super::glb_files::probe,
        super::jobs::probe,
        super::spools::probe,
        super::access_tokens::probe,
        super::share_links::probe,
        super::scales::probe,
    ] {
        probe(conn).map_err(|e| StoreError::NotOurs {
            path: database.to_path(),
            what: e.to_string(),
        })?;
    }
    Ok(())
}
