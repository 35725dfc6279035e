//! The table `jobs`: jobs that survive a crash.

use std::time::{SystemTime, UNIX_EPOCH};

use diesel::{dsl::sql, prelude::*, sql_types::Bool};
use jiff::Timestamp;

use super::{
    Store, StoreError,
    connection::{AnyConnection, columns},
    drafts,
    glb_files::{check_original_name, no_such_user},
    job_warnings,
    queue::{Admission, Lease, check_places},
    schema::{jobs, kept_inputs},
    time::{column, now, parse_time},
};

/// Maximum number of listed jobs of a user, newest first.
const SHOWN: i64 = 1000;

/// Values of the column for the states of a job that has not ended.
pub(super) const QUEUED: &str = "queued";
pub(super) const RUNNING: &str = "running";
pub(super) const PENDING: [&str; 2] = [QUEUED, RUNNING];
/// Values of the column for the states of a job that has ended.
pub(super) const DONE: &str = "done";
pub(super) const FAILED: &str = "failed";
pub(super) const CANCELLED: &str = "cancelled";

/// Kind of a job's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    /// Images.
    Images,
    /// A video.
    Video,
}

impl JobKind {
    fn column(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Video => "video",
        }
    }

    /// Returns the original name of a result made at `made_at`, as the older service named it: `images_<unix>.glb`.
    pub fn original_name(self, made_at: SystemTime) -> String {
        // A clock before 1970 is wrong, but must not lose a result.
        let unix = made_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("{}_{}.glb", self.column(), unix.as_secs())
    }
}

/// A job to be stored before it is acknowledged.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// User who owns the job.
    pub user_id: i32,
    /// Kind of the input.
    pub kind: JobKind,
    /// Original name of the result.
    pub original_name: String,
    /// Options, in the form in which the queue reads them back.
    pub options_json: String,
    /// Hex SHA-256 of inputs, options and weights.
    pub input_key: String,
    /// Folder of the input files, relative to [`Store::jobs_dir`].
    pub dir: String,
    /// What it is queued with, where other processes may take it.
    pub admission: Admission,
    /// The result, of a job that is done at once.
    pub hash: Option<String>,
}

/// State of a stored job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredJobState {
    /// Waiting.
    Queued,
    /// Running; after a crash it runs again.
    Running,
    /// Ended with a file.
    Done {
        /// `hashed_name` of the file, which may have been deleted since.
        hash: String,
    },
    /// Ended without a file.
    Failed {
        /// Reason.
        reason: String,
    },
    /// Cancelled.
    Cancelled,
}

impl StoredJobState {
    /// Returns the state in one word, as the column holds it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued => QUEUED,
            Self::Running => RUNNING,
            Self::Done { .. } => DONE,
            Self::Failed { .. } => FAILED,
            Self::Cancelled => CANCELLED,
        }
    }

    /// Returns true once the state is final.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// Outcome of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobOutcome {
    /// With a stored file, such as one of [`Store::cached_result`].
    Done {
        /// `hashed_name` of the file.
        hash: String,
    },
    /// Without a file.
    Failed {
        /// Reason.
        reason: String,
    },
    /// Cancelled.
    Cancelled,
}

/// A stored job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The primary key, never reused.
    pub id: i64,
    /// User who owns the job.
    pub user_id: i32,
    /// Kind of the input.
    pub kind: JobKind,
    /// Original name of the result.
    pub original_name: String,
    /// Options as they were stored.
    pub options_json: String,
    /// Hex SHA-256 of inputs, options and weights.
    pub input_key: String,
    /// Folder of the input files; [`Store::job_dir`] resolves it.
    pub dir: String,
    /// State.
    pub state: StoredJobState,
    /// Time of submission.
    pub created_at: Option<Timestamp>,
    /// Time at which it last started.
    pub started_at: Option<Timestamp>,
    /// Time at which it ended.
    pub finished_at: Option<Timestamp>,
    /// How often the process died while the job ran, in a row.
    pub deaths: u32,
    /// How often a passing fault, such as a full disk, has stopped it.
    pub tries: u32,
    /// Of a queued job: not before this time.
    pub next_try_at: Option<Timestamp>,
    /// Why it failed or was cancelled, or what stopped it the last time.
    pub reason: Option<String>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = jobs)]
pub(super) struct JobRow {
    id: i64,
    user_id: i32,
    kind: String,
    original_name: String,
    options_json: String,
    input_key: String,
    dir: String,
    state: String,
    hashed_name: Option<String>,
    reason: Option<String>,
    created_at: String,
    started_at: Option<String>,
    finished_at: Option<String>,
    deaths: i32,
    tries: i32,
    next_try_at: Option<String>,
}

#[derive(Insertable)]
#[diesel(table_name = jobs)]
struct NewJobRow<'a> {
    id: Option<i64>,
    user_id: i32,
    kind: &'a str,
    original_name: &'a str,
    options_json: &'a str,
    input_key: &'a str,
    dir: &'a str,
    created_at: String,
}

impl From<JobRow> for Job {
    fn from(row: JobRow) -> Self {
        let state = match row.state.as_str() {
            QUEUED => StoredJobState::Queued,
            RUNNING => StoredJobState::Running,
            DONE => StoredJobState::Done {
                hash: row.hashed_name.unwrap_or_default(),
            },
            CANCELLED => StoredJobState::Cancelled,
            // The table's CHECK leaves "failed".
            _ => StoredJobState::Failed {
                reason: row.reason.clone().unwrap_or_default(),
            },
        };
        let time = |text: Option<String>| text.as_deref().and_then(parse_time);
        Self {
            id: row.id,
            user_id: row.user_id,
            kind: if row.kind == JobKind::Video.column() {
                JobKind::Video
            } else {
                JobKind::Images
            },
            original_name: row.original_name,
            options_json: row.options_json,
            input_key: row.input_key,
            dir: row.dir,
            state,
            created_at: parse_time(&row.created_at),
            started_at: time(row.started_at),
            finished_at: time(row.finished_at),
            deaths: u32::try_from(row.deaths).unwrap_or(0),
            tries: u32::try_from(row.tries).unwrap_or(0),
            next_try_at: time(row.next_try_at),
            reason: row.reason,
        }
    }
}

/// Fails when a column is missing.
pub(super) fn probe(conn: &mut AnyConnection) -> QueryResult<()> {
    let all = jobs::table.select(JobRow::as_select());
    all.limit(0).load(conn)?;
    let kept = kept_inputs::table.limit(0);
    kept.load::<(i64, String)>(conn)?;
    job_warnings::probe(conn)?;
    drafts::probe(conn)
}

impl Store {
    /// Stores a job as queued, or as done where it has its result. Once this returns it is on the disk.
    ///
    /// # Errors
    /// When there is no such user, the name does not fit, there is no place among the jobs that wait, or the row cannot be written.
    pub fn add_job(&self, job: &NewJob) -> Result<Job, StoreError> {
        check_original_name(&job.original_name)?;
        let mut conn = self.connection()?;
        let row = conn.write(|conn| {
            check_places(conn, job.user_id, &job.admission)?;
            insert(conn, job, None).map_err(|e| no_such_user(e, job.user_id))
        })?;
        drop(conn);
        self.prune_after(row.id, row.user_id);
        Ok(row)
    }

    /// Returns the job with this id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn job(&self, id: i64) -> Result<Option<Job>, StoreError> {
        let found = jobs::table.find(id).select(JobRow::as_select());
        let row: Option<JobRow> = found.first(&mut *self.connection()?).optional()?;
        Ok(row.map(Job::from))
    }

    /// Returns the jobs of a user, newest first, at most 1000.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn jobs_of(&self, user_id: i32) -> Result<Vec<Job>, StoreError> {
        let rows: Vec<JobRow> = jobs::table
            .filter(jobs::user_id.eq(user_id))
            .order(jobs::id.desc())
            .limit(SHOWN)
            .select(JobRow::as_select())
            .load(&mut *self.connection()?)?;
        Ok(rows.into_iter().map(Job::from).collect())
    }

    /// Returns at most `limit` jobs of a user, newest first, from those submitted before the job `before`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn page_of_jobs(
        &self,
        user_id: i32,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Job>, StoreError> {
        let mut conn = self.connection()?;
        // Those that a connection waits for have no number that their user knows.
        let listed = conn.sql("TRUE", "NOT tied");
        let rows: Vec<JobRow> = jobs::table
            .filter(jobs::user_id.eq(user_id))
            .filter(jobs::id.lt(before.unwrap_or(i64::MAX)))
            .filter(sql::<Bool>(listed))
            .order(jobs::id.desc())
            .limit(limit.into())
            .select(JobRow::as_select())
            .load(&mut *conn)?;
        Ok(rows.into_iter().map(Job::from).collect())
    }

    /// Returns the jobs that have not ended, oldest first: those to run after a start.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn pending_jobs(&self) -> Result<Vec<Job>, StoreError> {
        let rows: Vec<JobRow> = jobs::table
            .filter(jobs::state.eq_any(PENDING))
            .order(jobs::id)
            .select(JobRow::as_select())
            .load(&mut *self.connection()?)?;
        Ok(rows.into_iter().map(Job::from).collect())
    }

    /// Marks a job as running and returns true if it had not ended. One that was claimed runs already.
    ///
    /// # Errors
    /// When the row cannot be written.
    pub fn mark_running(&self, lease: impl Into<Lease>) -> Result<bool, StoreError> {
        let lease = lease.into();
        if lease.token.is_some() {
            return self.holds_lease(lease);
        }
        let id = lease.job;
        let pending = jobs::table.find(id).filter(jobs::state.eq_any(PENDING));
        let changed = diesel::update(pending)
            .set((
                jobs::state.eq(RUNNING),
                jobs::started_at.eq(column(now())),
                jobs::next_try_at.eq(None::<String>),
            ))
            .execute(&mut *self.connection()?)?;
        Ok(changed > 0)
    }

    /// Ends a job and returns true if this call ended it: it had not, and the lease holds. With a new file, [`Store::save_result`]
    /// does both at once.
    ///
    /// # Errors
    /// When the row cannot be written.
    pub fn finish_job(
        &self,
        lease: impl Into<Lease>,
        outcome: &JobOutcome,
    ) -> Result<bool, StoreError> {
        let lease = lease.into();
        let ended = self
            .connection()?
            .with_lease(lease, |conn| finish(conn, lease.job, outcome))?;
        Ok(ended)
    }
}

/// Inserts a job as queued, or as done, under `id` if that was given out already. In a transaction.
pub(super) fn insert(conn: &mut AnyConnection, job: &NewJob, id: Option<i64>) -> QueryResult<Job> {
    let new = NewJobRow {
        id,
        user_id: job.user_id,
        kind: job.kind.column(),
        original_name: &job.original_name,
        options_json: &job.options_json,
        input_key: &job.input_key,
        dir: &job.dir,
        created_at: column(now()),
    };
    let row: JobRow = diesel::insert_into(jobs::table)
        .values(&new)
        .returning(columns::<JobRow>())
        .get_result(conn)?;
    match &job.hash {
        Some(hash) => {
            let hash = hash.clone();
            finish(conn, row.id, &JobOutcome::Done { hash })?;
        }
        None => conn.admit(row.id, &job.admission)?,
    }
    Ok(row.into())
}

/// Ends a job with the file that is being stored.
pub(super) fn finish_with(
    conn: &mut AnyConnection,
    lease: Lease,
    hash: &str,
) -> Result<(), StoreError> {
    let outcome = JobOutcome::Done {
        hash: hash.to_owned(),
    };
    if conn.holds(lease)? && finish(conn, lease.job, &outcome)? {
        return Ok(());
    }
    let state = jobs::table.find(lease.job).select(jobs::state);
    let state: Option<String> = state.first(conn).optional()?;
    Err(match state {
        Some(state) if PENDING.contains(&state.as_str()) => StoreError::LeaseOver(lease.job),
        _ => StoreError::JobOver(lease.job),
    })
}

fn finish(conn: &mut AnyConnection, id: i64, outcome: &JobOutcome) -> QueryResult<bool> {
    let (state, hash, reason) = match outcome {
        JobOutcome::Done { hash } => (DONE, Some(hash), None),
        JobOutcome::Failed { reason } => (FAILED, None, Some(reason)),
        JobOutcome::Cancelled => (CANCELLED, None, None),
    };
    let pending = jobs::table.find(id).filter(jobs::state.eq_any(PENDING));
    let changed = diesel::update(pending)
        .set((
            jobs::state.eq(state),
            jobs::hashed_name.eq(hash),
            jobs::reason.eq(reason),
            jobs::finished_at.eq(column(now())),
        ))
        .execute(conn)?;
    Ok(changed > 0)
}
