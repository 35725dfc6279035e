//! Control of the jobs in the table `jobs`: deaths of the process, further tries, cancellation, and what the operator asks
//! for. A running server follows the rows, so each of these may come from another process.

use std::{collections::HashSet, time::Duration};

use diesel::prelude::*;
use jiff::{SignedDuration, Timestamp};

use super::{
    Job, JobOutcome, Store, StoreError,
    connection::{AnyConnection, columns},
    jobs::{CANCELLED, FAILED, JobRow, PENDING, QUEUED, RUNNING},
    queue::Lease,
    schema::{jobs, kept_inputs, users},
    time::{column, now, parse_time},
    users::ACTIVE,
};

/// Deaths of the process in a row while a job ran that end the job. A first one may be the machine's, a second one chance.
pub const MAX_DEATHS: u32 = 3;

/// The reason of a job that failed by [`MAX_DEATHS`].
pub(super) const DIED: &str = "the server died three times while it ran this job";

/// How long the input files of a job that ended through no fault of its input are kept for the operator. A day, so that
/// somebody has seen it by then.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Only those of this user.
    pub user_id: Option<i32>,
    /// Only those in this state: `queued`, `running`, `done`, `failed` or `cancelled`.
    pub state: Option<String>,
    /// At most so many, the newest.
    pub limit: Option<u32>,
}

/// A job that has not ended, as a running server follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingJob {
    /// The primary key.
    pub id: i64,
    /// Not before this time. Set when a job waits for another try, and when the operator asked for one.
    pub next_try_at: Option<Timestamp>,
    /// How often a passing fault has stopped it.
    pub tries: u32,
    /// False when the user was disabled.
    pub active: bool,
}

/// Input files of a job that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptInput {
    /// The job.
    pub id: i64,
    /// User who owns it.
    pub user_id: i32,
    /// Folder of the input files; [`Store::job_dir`] resolves it.
    pub dir: String,
    /// True when they are kept no longer.
    pub expired: bool,
}

impl Store {
    /// Counts a death for each job that is marked as running, queues it again, and fails it at the third in a row. Returns
    /// the failed ones. For the start of a server: no other process runs jobs then.
    ///
    /// # Errors
    /// When the rows cannot be written; none is changed then.
    pub fn count_deaths(&self) -> Result<Vec<Job>, StoreError> {
        self.connection()?.write(|conn| {
            let running = || jobs::table.filter(jobs::state.eq(RUNNING));
            diesel::update(running())
                .set(jobs::deaths.eq(jobs::deaths + 1))
                .execute(conn)?;
            let often = running().filter(jobs::deaths.ge(MAX_DEATHS as i32));
            let time = now();
            let failed: Vec<JobRow> = diesel::update(often)
                .set((
                    jobs::state.eq(FAILED),
                    jobs::reason.eq(DIED),
                    jobs::finished_at.eq(column(time)),
                ))
                .returning(columns::<JobRow>())
                .get_results(conn)?;
            let failed: Vec<Job> = failed.into_iter().map(Job::from).collect();
            for job in &failed {
                keep_input(conn, job.id, time)?;
            }
            diesel::update(running())
                .set(jobs::state.eq(QUEUED))
                .execute(conn)?;
            Ok(failed)
        })
    }

    /// Queues every job that has not ended and forgets deaths of the process. For a clean stop of the server.
    ///
    /// # Errors
    /// When the rows cannot be written.
    pub fn stop_jobs_cleanly(&self) -> Result<(), StoreError> {
        let pending = jobs::table.filter(jobs::state.eq_any(PENDING));
        let changed = pending.filter(jobs::state.eq(RUNNING).or(jobs::deaths.ne(0)));
        diesel::update(changed)
            .set((jobs::state.eq(QUEUED), jobs::deaths.eq(0)))
            .execute(&mut *self.connection()?)?;
        Ok(())
    }

    /// Notes that a job came further than before: earlier deaths of the process do not count any more.
    ///
    /// # Errors
    /// When the row cannot be written.
    pub fn note_progress(&self, lease: impl Into<Lease>) -> Result<(), StoreError> {
        let lease = lease.into();
        let died = jobs::table.find(lease.job).filter(jobs::deaths.ne(0));
        self.connection()?.with_lease(lease, |conn| {
            diesel::update(died).set(jobs::deaths.eq(0)).execute(conn)
        })?;
        Ok(())
    }

    /// Queues a job that a passing fault stopped again, for another try after `pause`. Returns true if it had not ended.
    ///
    /// # Errors
    /// When the row cannot be written.
    pub fn defer_job(
        &self,
        lease: impl Into<Lease>,
        tries: u32,
        pause: Duration,
        fault: &str,
    ) -> Result<bool, StoreError> {
        let (lease, time) = (lease.into(), now());
        let id = lease.job;
        let next = SignedDuration::try_from(pause)
            .ok()
            .and_then(|pause| time.checked_add(pause).ok());
        let changed = self.connection()?.with_lease(lease, |conn| {
            if lease.token.is_some() {
                conn.give_back(id, Some(pause))?;
            }
            diesel::update(jobs::table.find(id).filter(jobs::state.eq_any(PENDING)))
                .set((
                    jobs::state.eq(QUEUED),
                    jobs::deaths.eq(0),
                    jobs::tries.eq(i32::try_from(tries).unwrap_or(i32::MAX)),
                    jobs::next_try_at.eq(column(next.unwrap_or(time))),
                    jobs::reason.eq(fault),
                ))
                .execute(conn)
        })?;
        Ok(changed > 0)
    }

    /// Cancels a job and returns true if it had not ended. `why` is shown to the operator. With `keep` its input files may
    /// be used by [`Store::retry_job`] for a day.
    ///
    /// # Errors
    /// When the row cannot be written.
    pub fn cancel_job(&self, id: i64, why: &str, keep: bool) -> Result<bool, StoreError> {
        self.end_job(id.into(), CANCELLED, why, keep)
    }

    /// Fails a job and returns true if it had not ended; `keep` as for [`Store::cancel_job`].
    ///
    /// # Errors
    /// When the row cannot be written.
    pub fn fail_job(
        &self,
        lease: impl Into<Lease>,
        reason: &str,
        keep: bool,
    ) -> Result<bool, StoreError> {
        let lease = lease.into();
        if keep {
            return self.end_job(lease, FAILED, reason, true);
        }
        let reason = reason.to_owned();
        self.finish_job(lease, &JobOutcome::Failed { reason })
    }

    fn end_job(
        &self,
        lease: Lease,
        state: &str,
        why: &str,
        keep: bool,
    ) -> Result<bool, StoreError> {
        let (id, time) = (lease.job, now());
        self.connection()?.write(|conn| {
            if !conn.holds(lease)? {
                return Ok(false);
            }
            let changed = diesel::update(jobs::table.find(id).filter(jobs::state.eq_any(PENDING)))
                .set((
                    jobs::state.eq(state),
                    jobs::reason.eq(why),
                    jobs::next_try_at.eq(None::<String>),
                    jobs::finished_at.eq(column(time)),
                ))
                .execute(conn)?;
            if keep && changed > 0 {
                keep_input(conn, id, time)?;
            }
            Ok(changed > 0)
        })
    }

    /// Queues a job again that failed or was cancelled, or ends the pause of one that waits for another try. Its deaths and
    /// tries are forgotten.
    ///
    /// # Errors
    /// When there is no such job, it runs or is done, or its input files are gone.
    pub fn retry_job(&self, id: i64) -> Result<(), StoreError> {
        let job = self.job(id)?.ok_or(StoreError::UnknownJob(id))?;
        let state = job.state.name();
        if !matches!(state, QUEUED | FAILED | CANCELLED) {
            return Err(StoreError::JobState {
                id,
                what: "retry",
                state,
            });
        }
        if self.location_of_inputs(&job.dir)?.is_none() {
            return Err(StoreError::JobInputGone(id));
        }
        let changed = self.connection()?.write(|conn| {
            // Only from the state that was looked at: a server may have taken it up in the meantime.
            let unchanged = jobs::table.find(id).filter(jobs::state.eq(state));
            let changed = diesel::update(unchanged)
                .set((
                    jobs::state.eq(QUEUED),
                    jobs::deaths.eq(0),
                    jobs::tries.eq(0),
                    // Tells a running server that the row is not one that it is about to queue itself.
                    jobs::next_try_at.eq(column(now())),
                    jobs::reason.eq(None::<String>),
                    jobs::started_at.eq(None::<String>),
                    jobs::finished_at.eq(None::<String>),
                ))
                .execute(conn)?;
            if changed > 0 {
                conn.give_back(id, None)?;
            }
            diesel::delete(kept_inputs::table.find(id)).execute(conn)?;
            Ok::<_, StoreError>(changed)
        })?;
        if changed == 0 {
            return Err(StoreError::JobState {
                id,
                what: "retry",
                state: "being changed by the server",
            });
        }
        Ok(())
    }

    /// Returns jobs with the names of their users, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn list_jobs(&self, filter: &JobFilter) -> Result<Vec<(Job, String)>, StoreError> {
        let mut query = jobs::table
            .inner_join(users::table.on(users::id.eq(jobs::user_id)))
            .order(jobs::id.desc())
            .select((JobRow::as_select(), users::username))
            .into_boxed();
        if let Some(user_id) = filter.user_id {
            query = query.filter(jobs::user_id.eq(user_id));
        }
        if let Some(state) = &filter.state {
            query = query.filter(jobs::state.eq(state.clone()));
        }
        if let Some(limit) = filter.limit {
            query = query.limit(limit.into());
        }
        let rows: Vec<(JobRow, String)> = query.load(&mut *self.connection()?)?;
        let job = |(row, name): (JobRow, String)| (row.into(), name);
        Ok(rows.into_iter().map(job).collect())
    }

    /// Returns what a running server follows of the jobs that have not ended.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn pending_now(&self) -> Result<Vec<PendingJob>, StoreError> {
        type Row = (i64, Option<String>, i32, Option<i32>);
        let rows: Vec<Row> = jobs::table
            .inner_join(users::table.on(users::id.eq(jobs::user_id)))
            .filter(jobs::state.eq_any(PENDING))
            .order(jobs::id)
            .select((jobs::id, jobs::next_try_at, jobs::tries, users::status))
            .load(&mut *self.connection()?)?;
        let pending = |(id, next, tries, status): Row| PendingJob {
            id,
            next_try_at: next.as_deref().and_then(parse_time),
            tries: u32::try_from(tries).unwrap_or(0),
            active: status == Some(ACTIVE),
        };
        Ok(rows.into_iter().map(pending).collect())
    }

    /// Returns which of these users exist and may log in.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn active_users(&self, ids: &[i32]) -> Result<HashSet<i32>, StoreError> {
        let active: Vec<i32> = users::table
            .filter(users::id.eq_any(ids))
            .filter(users::status.eq(ACTIVE))
            .select(users::id)
            .load(&mut *self.connection()?)?;
        Ok(active.into_iter().collect())
    }

    /// Returns the input files of jobs that have ended, newest job first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn kept_inputs(&self) -> Result<Vec<KeptInput>, StoreError> {
        type Row = (i64, i32, String, String);
        let rows: Vec<Row> = kept_inputs::table
            .inner_join(jobs::table.on(jobs::id.eq(kept_inputs::job_id)))
            .order(jobs::id.desc())
            .select((jobs::id, jobs::user_id, jobs::dir, kept_inputs::keep_until))
            .load(&mut *self.connection()?)?;
        let time = now();
        let kept = |(id, user_id, dir, until): Row| KeptInput {
            id,
            user_id,
            dir,
            expired: parse_time(&until).is_none_or(|until| until <= time),
        };
        Ok(rows.into_iter().map(kept).collect())
    }

    /// Returns true when the input files of this job, which has ended, are kept.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn is_input_kept(&self, id: i64) -> Result<bool, StoreError> {
        let found = kept_inputs::table.find(id).select(kept_inputs::job_id);
        let found: Option<i64> = found.first(&mut *self.connection()?).optional()?;
        Ok(found.is_some())
    }

    /// Notes that the input files of a job are not kept any more.
    ///
    /// # Errors
    /// When the row cannot be written.
    pub fn forget_input(&self, id: i64) -> Result<(), StoreError> {
        diesel::delete(kept_inputs::table.find(id)).execute(&mut *self.connection()?)?;
        Ok(())
    }
}

pub(super) fn keep_input(conn: &mut AnyConnection, id: i64, now: Timestamp) -> QueryResult<()> {
    diesel::delete(kept_inputs::table.find(id)).execute(conn)?;
    diesel::insert_into(kept_inputs::table)
        .values((
            kept_inputs::job_id.eq(id),
            kept_inputs::keep_until.eq(column(now + KEPT)),
        ))
        .execute(conn)
        .map(|_| ())
}
