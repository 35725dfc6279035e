//! What becomes of old results and old jobs, and the thread that sees to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::Duration,
};

use diesel::{
    prelude::*,
    sql_types::{BigInt, Integer, Text},
};
use jiff::{SignedDuration, Timestamp};

use super::{
    Store, StoreError,
    private::remove_left,
    removed::note,
    schema::glb_files,
    time::{column, now, parse_time},
};

/// Time between two rounds, in [`MINUTE`]s.
const PAUSE_MINUTES: usize = 60;

/// Time after which what could not be removed is tried again.
const MINUTE: Duration = Duration::from_secs(60);

/// Rows of one transaction: few milliseconds, so that nobody waits.
const BATCH: i64 = 200;

/// How many jobs' ids pass between two looks at the number of a user's rows.
const EVERY: i64 = 64;

/// How long results and rows of jobs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Days for which a result is kept; `None`: until its owner deletes it.
    pub result_days: Option<u32>,
    /// Days for which the row of a job that has ended is kept; `None`: for ever.
    pub job_days: Option<u32>,
    /// Maximum number of rows of a user's jobs that have ended.
    pub jobs_per_user: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            result_days: None,
            job_days: Some(30),
            // As many as a client can list.
            jobs_per_user: 1000,
        }
    }
}

/// The running thread. Ends when dropped, after its last transaction.
#[derive(Debug)]
#[must_use]
pub struct Upkeep {
    stop: Arc<AtomicBool>,
    wake: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            // A panic was reported by its hook.
            let _ = thread.join();
        }
    }
}

#[derive(QueryableByName)]
struct UserId {
    #[diesel(sql_type = Integer)]
    user_id: i32,
}

impl Store {
    /// Starts the thread that removes what is older than `retention`, now and every hour.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn start_upkeep(&self, retention: Retention) -> Result<Upkeep, StoreError> {
        self.jobs_per_user.store(retention.jobs_per_user, Relaxed);
        let stop = Arc::new(AtomicBool::new(false));
        let (wake, woken) = mpsc::channel();
        let (store, stopping) = (self.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name("upkeep".to_owned())
            .spawn(move || {
                loop {
                    match store.tidy(&retention, &|| stopping.load(Relaxed)) {
                        Ok((0, 0)) => {}
                        Ok((results, jobs)) => tracing::info!(
                            "removed {results} results and the rows of {jobs} jobs whose time is over"
                        ),
                        Err(e) => tracing::warn!("cannot remove what is old: {e}"),
                    }
                    for _ in 0..PAUSE_MINUTES {
                        let waited = woken.recv_timeout(MINUTE);
                        if !matches!(waited, Err(RecvTimeoutError::Timeout)) {
                            return;
                        }
                        remove_left();
                    }
                }
            })
            .map_err(StoreError::Thread)?;
        Ok(Upkeep {
            stop,
            wake: Some(wake),
            thread: Some(thread),
        })
    }

    /// Removes what is older than `retention` in small transactions, until `stop` says so, and returns the number of results
    /// and of rows of jobs.
    ///
    /// # Errors
    /// When the database or the folder cannot be used; what was done stays done.
    pub fn tidy(
        &self,
        retention: &Retention,
        stop: &dyn Fn() -> bool,
    ) -> Result<(usize, usize), StoreError> {
        self.guard()?;
        remove_left();
        self.sweep_bucket()?;
        self.finish_removals()?;
        self.tidy_logins();
        let results = match retention.result_days {
            Some(days) => self.expire_results(days_ago(days), stop)?,
            None => 0,
        };
        let mut jobs = 0;
        if let Some(days) = retention.job_days {
            jobs += self.prune_jobs_before(days_ago(days), stop)?;
        }
        let users: Vec<UserId> =
            diesel::sql_query("SELECT user_id FROM jobs GROUP BY user_id HAVING count(*) > $1")
                .bind::<BigInt, _>(i64::from(retention.jobs_per_user))
                .load(&mut *self.connection()?)?;
        for UserId { user_id } in users {
            if stop() {
                break;
            }
            jobs += self.prune_jobs_of(user_id, retention.jobs_per_user)?;
        }
        Ok((results, jobs))
    }

    /// Keeps the number of a user's rows bounded however quickly they come. To be called with each new job's id.
    pub(super) fn prune_after(&self, job: i64, user_id: i32) {
        if job % EVERY != 0 {
            return;
        }
        if let Err(e) = self.prune_jobs_of(user_id, self.jobs_per_user.load(Relaxed)) {
            tracing::warn!("cannot remove the rows of old jobs: {e}");
        }
    }

    fn expire_results(
        &self,
        before: Timestamp,
        stop: &dyn Fn() -> bool,
    ) -> Result<usize, StoreError> {
        let (mut last, mut expired) = (i32::MIN, 0);
        while !stop() {
            let rows: Vec<(i32, Option<String>, String)> = glb_files::table
                .filter(glb_files::id.gt(last))
                .order(glb_files::id)
                .limit(BATCH)
                .select((glb_files::id, glb_files::created_at, glb_files::file_path))
                .load(&mut *self.connection()?)?;
            let Some((id, ..)) = rows.last() else { break };
            last = *id;
            // A file whose date cannot be read is kept.
            let is_old = |time: &Option<String>| {
                let time = time.as_deref().and_then(parse_time);
                time.is_some_and(|time| time < before)
            };
            let old: Vec<_> = rows.into_iter().filter(|(_, at, _)| is_old(at)).collect();
            if old.is_empty() {
                continue;
            }
            let ids: Vec<i32> = old.iter().map(|(id, ..)| *id).collect();
            let paths: Vec<String> = old.into_iter().map(|(_, _, path)| path).collect();
            expired += self.connection()?.write(|conn| {
                for path in &paths {
                    note(conn, path)?;
                }
                diesel::delete(glb_files::table.filter(glb_files::id.eq_any(&ids))).execute(conn)
            })?;
            self.remove_noted(&paths);
        }
        Ok(expired)
    }

    fn prune_jobs_before(
        &self,
        before: Timestamp,
        stop: &dyn Fn() -> bool,
    ) -> Result<usize, StoreError> {
        let mut pruned = 0;
        while !stop() {
            let some = diesel::sql_query(
                "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE state NOT IN ('queued', 'running') \
                 AND coalesce(finished_at, created_at) < $1 ORDER BY id LIMIT $2)",
            )
            .bind::<Text, _>(column(before))
            .bind::<BigInt, _>(BATCH)
            .execute(&mut *self.connection()?)?;
            pruned += some;
            if some == 0 {
                break;
            }
        }
        Ok(pruned)
    }

    fn prune_jobs_of(&self, user_id: i32, keep: u32) -> Result<usize, StoreError> {
        let mut pruned = 0;
        loop {
            let some = diesel::sql_query(
                "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE user_id = $1 \
                 AND state NOT IN ('queued', 'running') ORDER BY id DESC LIMIT $2 OFFSET $3)",
            )
            .bind::<Integer, _>(user_id)
            .bind::<BigInt, _>(BATCH)
            .bind::<BigInt, _>(i64::from(keep))
            .execute(&mut *self.connection()?)?;
            pruned += some;
            if some == 0 {
                return Ok(pruned);
            }
        }
    }
}

fn days_ago(days: u32) -> Timestamp {
    let age = SignedDuration::from_hours(24 * i64::from(days));
    // Longer ago than a date can be: nothing is that old.
    now().checked_sub(age).unwrap_or(Timestamp::MIN)
}
