//! Jobs that workers of several processes take, in PostgreSQL: row locks are the queue.
//!
//! A worker gets a job for some time, the lease, and with it a number, the token. It has the lease prolonged while it works, and
//! everything that it writes about the job names the token. A job whose lease is over is given to another worker under another token:
//! what the first one writes from then on changes nothing, however late it wakes up.
//!
//! All times are those of the database's clock: the clocks of the machines may differ. SQLite has one process, which keeps the order of
//! its jobs in memory and needs no leases.

mod claim;
mod overview;
mod places;
mod presence;
mod size;

pub use self::{
    claim::{Claim, Claimed, Reaped},
    overview::{Load, Overview, RunningJob, WaitingJob, WorkerRow, WorkerState},
    places::{Full, Places},
    presence::process_name,
    size::JobSize,
};

pub(super) use self::presence::be_present;

use std::time::Duration;

use diesel::{
    prelude::*,
    sql_types::{BigInt, Bool, Double, Integer, Nullable, Text},
};

use super::{
    Store, StoreError,
    connection::AnyConnection,
    jobs::{PENDING, QUEUED},
    postgres::PgConnection,
};

/// The right to write what becomes of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The job.
    pub job: i64,
    /// `None`: there is only one process.
    pub(super) token: Option<i64>,
}

impl Lease {
    /// Returns true when there may be other processes.
    pub fn is_shared(&self) -> bool {
        self.token.is_some()
    }
}

/// That of the only process.
impl From<i64> for Lease {
    fn from(job: i64) -> Self {
        Self { job, token: None }
    }
}

/// What a job brings with it when it is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Admission {
    /// True for one of a VIP.
    pub vip: bool,
    /// How much memory it may need.
    pub size: JobSize,
    /// Size of its input files in bytes.
    pub input_bytes: u64,
    /// A connection waits for it.
    pub tied: bool,
    /// How many jobs may wait; `None` asks for no place.
    pub places: Option<Places>,
}

impl AnyConnection {
    /// Returns the connection if other processes may share the database, which those of SQLite do not.
    pub(super) fn shared(&mut self) -> Option<&mut PgConnection> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(conn) => Some(conn),
        }
    }

    /// Returns whether a lease still holds, and locks the job until the end of the transaction if so.
    pub(super) fn holds(&mut self, lease: Lease) -> QueryResult<bool> {
        let (Some(token), Some(conn)) = (lease.token, self.shared()) else {
            return Ok(true);
        };
        let found = diesel::sql_query(
            "SELECT id FROM jobs WHERE id = $1 AND token = $2 AND state = 'running' FOR NO KEY UPDATE",
        )
        .bind::<BigInt, _>(lease.job)
        .bind::<BigInt, _>(token)
        .execute(conn)?;
        Ok(found > 0)
    }

    /// Runs a transaction that changes a job, if the lease holds. Beside the writers' lock: it is the job that is locked.
    pub(super) fn with_lease<T: Default>(
        &mut self,
        lease: Lease,
        f: impl FnOnce(&mut Self) -> QueryResult<T>,
    ) -> QueryResult<T> {
        if lease.token.is_none() {
            return f(self);
        }
        self.transaction(|conn| match conn.holds(lease)? {
            true => f(conn),
            false => Ok(T::default()),
        })
    }

    /// Sets what a job brings with it; nothing where there is only one process.
    pub(super) fn admit(&mut self, id: i64, admission: &Admission) -> QueryResult<()> {
        let Some(conn) = self.shared() else {
            return Ok(());
        };
        diesel::sql_query(
            "UPDATE jobs SET priority = $2, size = $3, input_bytes = $4, tied = $5 WHERE id = $1",
        )
        .bind::<BigInt, _>(id)
        .bind::<Integer, _>(i32::from(admission.vip))
        .bind::<Text, _>(admission.size.as_str())
        .bind::<BigInt, _>(i64::try_from(admission.input_bytes).unwrap_or(i64::MAX))
        .bind::<Bool, _>(admission.tied)
        .execute(conn)
        .map(|_| ())
    }

    /// Takes a job away from its worker, in the transaction that queues it again: not before a pause, if there is one.
    pub(super) fn give_back(&mut self, id: i64, pause: Option<Duration>) -> QueryResult<()> {
        let Some(conn) = self.shared() else {
            return Ok(());
        };
        diesel::sql_query(
            "UPDATE jobs SET token = token + 1, worker = NULL, lease_until = NULL, progress_json = NULL, \
             queued_at = clock_timestamp(), not_before = clock_timestamp() + make_interval(secs => $2) WHERE id = $1",
        )
        .bind::<BigInt, _>(id)
        .bind::<Nullable<Double>, _>(pause.map(|pause| pause.as_secs_f64()))
        .execute(conn)
        .map(|_| ())
    }
}

impl Store {
    /// Returns true when other processes may work on the same jobs.
    pub fn is_shared(&self) -> bool {
        self.database.file().is_none()
    }

    /// Returns the size in bytes of the input files of a user's jobs that have not ended, and the number of these jobs; those of all
    /// processes that share the database.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn inputs_of(&self, user_id: i32) -> Result<(u64, usize), StoreError> {
        #[derive(QueryableByName)]
        struct Sum {
            #[diesel(sql_type = BigInt)]
            bytes: i64,
            #[diesel(sql_type = BigInt)]
            jobs: i64,
        }
        let mut conn = self.connection()?;
        let Some(conn) = conn.shared() else {
            return Ok((0, 0));
        };
        let sum: Sum = diesel::sql_query(format!(
            "SELECT COALESCE(SUM(input_bytes), 0)::BIGINT AS bytes, COUNT(*) AS jobs \
             FROM jobs WHERE user_id = $1 AND state IN ('{}', '{}')",
            PENDING[0], PENDING[1]
        ))
        .bind::<Integer, _>(user_id)
        .get_result(conn)?;
        let jobs = usize::try_from(sum.jobs).unwrap_or(0);
        Ok((sum.bytes.unsigned_abs(), jobs))
    }
}

/// Refuses a job for which there is no place, of those that wait in all processes.
pub(super) fn check_places(
    conn: &mut AnyConnection,
    user_id: i32,
    admission: &Admission,
) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Waiting {
        #[diesel(sql_type = Integer)]
        user_id: i32,
        #[diesel(sql_type = Integer)]
        priority: i32,
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    let (Some(places), Some(conn)) = (admission.places, conn.shared()) else {
        return Ok(());
    };
    let rows: Vec<Waiting> = diesel::sql_query(format!(
        "SELECT user_id, priority, COUNT(*) AS count FROM jobs WHERE state = '{QUEUED}' GROUP BY user_id, priority"
    ))
    .load(conn)?;
    let waiting = rows.iter().map(|row| {
        let count = usize::try_from(row.count).unwrap_or(0);
        (row.user_id, row.priority > 0, count)
    });
    let waiting: Vec<_> = waiting.collect();
    places
        .check(&waiting, user_id, admission.vip)
        .map_err(StoreError::QueueFull)
}
