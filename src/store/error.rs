//! Errors of rows and files.

use std::{error::Error, io, path::PathBuf};

use diesel::{
    r2d2::PoolError,
    result::{DatabaseErrorKind, Error as QueryError},
};

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database cannot be opened or brought up to date.
    #[error("cannot open the database \"{}\": {source}", path.display())]
    Open {
        /// The database.
        path: PathBuf,
        /// Cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A table lacks columns.
    #[error(
        "\"{}\" is not a database of this service: {what}",
        path.display()
    )]
    NotOurs {
        /// The database.
        path: PathBuf,
        /// What is missing.
        what: String,
    },
    /// A later version of this program has changed the tables.
    #[error(
        "the database \"{}\" was made by a newer version (it has migration {version}); use that one",
        path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// The migration that is not known here.
        version: String,
    },
    /// The name is taken.
    #[error("the user name {0:?} is taken; choose another")]
    NameTaken(String),
    /// An invalid user name.
    #[error("cannot use {name:?} as a user name: {why}")]
    BadName {
        /// The name, shortened.
        name: String,
        /// Reason.
        why: &'static str,
    },
    /// An empty password.
    #[error("the password is empty; choose another")]
    EmptyPassword,
    /// There is no user of this name.
    #[error("there is no user {0:?}")]
    UnknownUser(String),
    /// There is no user with this id.
    #[error("there is no user with the id {0}")]
    UnknownUserId(i32),
    /// The original name of a file does not fit into its column.
    #[error("cannot use {name:?} as a file's original name: {why}")]
    BadOriginalName {
        /// The name, shortened.
        name: String,
        /// Reason.
        why: &'static str,
    },
    /// The job has been cancelled or has ended, so its result is not needed.
    #[error("job {0} has ended: its result is not kept")]
    JobOver(i64),
    /// A file could not be written; nothing of it is left.
    #[error("cannot store \"{}\": {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// A file or folder could not be read, moved or removed.
    #[error("cannot {what} \"{}\": {source}", path.display())]
    Files {
        /// The attempted operation.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// A password could not be hashed.
    #[error("cannot hash the password: {0}")]
    Hash(#[source] argon2::password_hash::Error),
    /// The operating system has no random numbers.
    #[error("cannot get random numbers from the operating system: {0}")]
    Random(String),
    /// No connection was free in time.
    #[error("the database is too busy: {0}; try again")]
    Busy(#[from] PoolError),
    /// A query failed.
    #[error("cannot query the database: {0}")]
    Database(#[from] QueryError),
}

impl StoreError {
    /// Returns true when another process had locked the database.
    pub(super) fn is_locked(&self) -> bool {
        // SQLite's text for SQLITE_BUSY, for which diesel has no code.
        matches!(self, Self::Open { source, .. } if source.to_string().contains("database is locked"))
    }

    /// Returns true when the disk is full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Write { source, .. } | Self::Files { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            // SQLite's text for SQLITE_FULL, for which diesel has no code.
            Self::Database(QueryError::DatabaseError(DatabaseErrorKind::Unknown, info)) => {
                info.message().contains("disk is full")
            }
            _ => false,
        }
    }
}

/// Returns the beginning of a name that may be too long for a message.
pub(super) fn shortened(name: &str) -> String {
    const SHOWN: usize = 80;
    match name.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}
