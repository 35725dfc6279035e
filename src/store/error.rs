//! Errors of rows and files.

use std::{error::Error, io, path::PathBuf};

use diesel::{
    r2d2::PoolError,
    result::{DatabaseErrorKind, Error as QueryError},
};

use super::{BucketError, queue::Full};
use crate::system;

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
    /// The name of a token does not fit into its column.
    #[error("cannot use {name:?} as the name of a token: {why}")]
    BadTokenName {
        /// The name, shortened.
        name: String,
        /// Reason.
        why: &'static str,
    },
    /// The user has the maximum number of tokens.
    #[error("you have {0} tokens, the most that a user may have; revoke one")]
    TooManyTokens(i64),
    /// The result has the maximum number of links.
    #[error("there are {0} links to this result, the most that it may have; remove one")]
    TooManyLinks(i64),
    /// There is a user, so that none is the first.
    #[error("there are users already")]
    HasUsers,
    /// The user has the maximum number of jobs whose files are to be uploaded.
    #[error(
        "you have {0} jobs that wait for their files, the most that a user may have; start or remove one"
    )]
    TooManyDrafts(i64),
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
    /// There is no job with this id.
    #[error("there is no job {0}")]
    UnknownJob(i64),
    /// The state of the job does not allow what was asked for.
    #[error("cannot {what} job {id}: it is {state}")]
    JobState {
        /// The job.
        id: i64,
        /// What was tried.
        what: &'static str,
        /// Its state.
        state: &'static str,
    },
    /// The input files of the job were removed when it ended.
    #[error("cannot retry job {0}: its input files are gone; submit it again")]
    JobInputGone(i64),
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
    /// The folder of the files is not there, and the database has files in it.
    #[error("there is no folder \"{}\", in which the database has its files", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// The folder is there, but has no identifier and few of the files.
    #[error(
        "{missing} of {wanted} files of the database are missing in the folder \"{}\", which has no identifier: \
         a disk may not be mounted",
        path.display()
    )]
    FilesMissing {
        /// The folder.
        path: PathBuf,
        /// Number of missing files.
        missing: usize,
        /// Number of files that rows name.
        wanted: usize,
    },
    /// The folder belongs to another database.
    #[error(
        "the folder \"{}\" does not belong to the database \"{}\"",
        path.display(), db.display()
    )]
    OtherFolder {
        /// The folder.
        path: PathBuf,
        /// The database.
        db: PathBuf,
    },
    /// Most rows have no file, so that a repair would be a loss.
    #[error("{missing} of {rows} files are missing in \"{}\": nothing was repaired", path.display())]
    MostMissing {
        /// The folder.
        path: PathBuf,
        /// Number of rows whose file is missing or damaged.
        missing: usize,
        /// Number of rows.
        rows: usize,
    },
    /// Another server uses the database or the folder.
    #[error("another vggt serve uses \"{}\"", path.display())]
    InUse {
        /// The database or the folder.
        path: PathBuf,
    },
    /// A table cannot be copied.
    #[error("cannot copy the table {table}: {source}; nothing was copied")]
    Copy {
        /// The table.
        table: &'static str,
        /// Cause.
        #[source]
        source: QueryError,
    },
    /// A database that rows are to be copied into has some.
    #[error(
        "there are rows in the table {table} already: the database that gets the rows must be new"
    )]
    NotEmpty {
        /// The table.
        table: &'static str,
    },
    /// What was written is not what was read.
    #[error("the table {table} did not arrive as it was: nothing was copied")]
    CopyDiffers {
        /// The table.
        table: &'static str,
    },
    /// As many jobs wait as may.
    #[error("{} jobs wait already", .0.waiting)]
    QueueFull(Full),
    /// The lease of a worker is over.
    #[error("job {0} was given to another worker")]
    LeaseOver(i64),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// A password could not be hashed.
    #[error("cannot hash the password: {0}")]
    Hash(#[source] argon2::password_hash::Error),
    /// The bucket of the files cannot be read or written.
    #[error(transparent)]
    Bucket(#[from] BucketError),
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

    /// Returns true for a fault that may pass by itself: a full disk, a locked database, a folder that is not mounted, too
    /// many open files. The same may then be tried again.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Busy(_)
            | Self::NoFolder { .. }
            | Self::FilesMissing { .. }
            | Self::OtherFolder { .. } => true,
            Self::Write { source, .. } | Self::Files { source, .. } => is_passing_io(source),
            Self::Bucket(e) => e.is_passing(),
            // Of PostgreSQL: the server went away, or ended what stood in the way of others.
            Self::Database(QueryError::DatabaseError(
                DatabaseErrorKind::ClosedConnection
                | DatabaseErrorKind::UnableToSendCommand
                | DatabaseErrorKind::SerializationFailure
                | DatabaseErrorKind::ReadOnlyTransaction,
                _,
            )) => true,
            Self::Database(QueryError::DatabaseError(_, info)) => {
                // SQLite's texts for BUSY, LOCKED, FULL, IOERR, CANTOPEN and READONLY, for which diesel has no codes.
                [
                    "is locked",
                    "disk is full",
                    "disk I/O error",
                    "unable to open database file",
                    "readonly database",
                    // And PostgreSQL's for what diesel has no kinds of.
                    "connection closed",
                    "terminating connection",
                    "communicating with the server",
                    "the database system is",
                    "lock timeout",
                    "deadlock detected",
                    "No space left on device",
                ]
                .iter()
                .any(|text| info.message().contains(text))
            }
            // A connection of the pool that could not be opened, for one of the same reasons, or one that was lost in a transaction.
            Self::Database(
                QueryError::BrokenTransactionManager
                | QueryError::RollbackErrorOnCommit { .. }
                | QueryError::NotInTransaction,
            ) => true,
            _ => false,
        }
    }

    /// Returns true when the disk is full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Write { source, .. }
            | Self::Files { source, .. }
            | Self::Bucket(BucketError::File { source, .. }) => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            // SQLite's text for SQLITE_FULL, for which diesel has no code.
            Self::Database(QueryError::DatabaseError(DatabaseErrorKind::Unknown, info)) => {
                let texts = ["disk is full", "No space left on device"];
                texts.iter().any(|text| info.message().contains(text))
            }
            _ => false,
        }
    }
}

/// Returns true for an error of the operating system that may pass by itself.
pub(super) fn is_passing_io(e: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    let kind = matches!(
        e.kind(),
        Kind::StorageFull
            | Kind::QuotaExceeded
            | Kind::ReadOnlyFilesystem
            | Kind::StaleNetworkFileHandle
            | Kind::ResourceBusy
            | Kind::Interrupted
            | Kind::TimedOut
            | Kind::OutOfMemory
    );
    let mut codes = system::TOO_MANY_FILES.iter().chain(system::DISK_FAILED);
    // What was asked of the database while a file was written.
    let of_rows = e.get_ref().and_then(|e| e.downcast_ref::<StoreError>());
    kind || codes.any(|code| code_of(e) == Some(*code))
        || of_rows.is_some_and(StoreError::is_passing)
}

/// Returns the code of the operating system, also of an error that was given the name of a file.
fn code_of(e: &io::Error) -> Option<i32> {
    e.raw_os_error()
        .or_else(|| e.source()?.downcast_ref().and_then(code_of))
}

/// Returns the beginning of a name that may be too long for a message.
pub(super) fn shortened(name: &str) -> String {
    const SHOWN: usize = 80;
    match name.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}
