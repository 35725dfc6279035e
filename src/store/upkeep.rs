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

/// How far apart the clocks of the processes of a database may be.
const CLOCKS: SignedDuration = SignedDuration::from_hours(1);

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

#[derive(QueryableByName)]
struct DatedGlb {
    #[diesel(sql_type = Text)]
    created_at: String,
    #[diesel(sql_type = Integer)]
    id: i32,
    #[diesel(sql_type = Text)]
    file_path: String,
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
                let mut since = None;
                loop {
                    let begun = now();
                    match store.tidy(&retention, since, &|| stopping.load(Relaxed)) {
                        Ok(removed) => {
                            since = Some(begun);
                            if let (results @ 1.., jobs) | (results, jobs @ 1..) = removed {
                                tracing::info!(
                                    "removed {results} results and the rows of {jobs} jobs whose time is over"
                                );
                            }
                        }
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
    /// and of rows of jobs. Users none of whose jobs have ended `since` then have no more rows than before, and are passed over.
    ///
    /// A result whose date is not written as this program writes it may stay for a day longer.
    ///
    /// # Errors
    /// When the database or the folder cannot be used; what was done stays done.
    pub fn tidy(
        &self,
        retention: &Retention,
        since: Option<Timestamp>,
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
        for user_id in self.users_with_many(retention.jobs_per_user, since)? {
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

    /// Users with more than `keep` rows of jobs, of those with jobs that have ended `since` then.
    fn users_with_many(&self, keep: u32, since: Option<Timestamp>) -> Result<Vec<i32>, StoreError> {
        let since = since.and_then(|since| since.checked_sub(CLOCKS).ok());
        let users: Vec<UserId> = match since {
            Some(since) => diesel::sql_query(
                "SELECT user_id FROM (SELECT DISTINCT user_id FROM jobs WHERE state NOT IN ('queued', 'running') \
                 AND coalesce(finished_at, created_at) >= $1) AS ended \
                 WHERE EXISTS (SELECT 1 FROM jobs WHERE user_id = ended.user_id LIMIT 1 OFFSET $2)",
            )
            .bind::<Text, _>(column(since))
            .bind::<BigInt, _>(i64::from(keep))
            .load(&mut *self.connection()?)?,
            None => diesel::sql_query("SELECT user_id FROM jobs GROUP BY user_id HAVING count(*) > $1")
                .bind::<BigInt, _>(i64::from(keep))
                .load(&mut *self.connection()?)?,
        };
        Ok(users.into_iter().map(|user| user.user_id).collect())
    }

    fn expire_results(
        &self,
        before: Timestamp,
        stop: &dyn Fn() -> bool,
    ) -> Result<usize, StoreError> {
        let (mut last, mut expired) = ((String::new(), i32::MIN), 0);
        while !stop() {
            // By the index, so that what is young is not read.
            let rows: Vec<DatedGlb> = diesel::sql_query(
                "SELECT created_at, id, file_path FROM glb_files \
                 WHERE created_at < $1 AND (created_at, id) > ($2, $3) ORDER BY created_at, id LIMIT $4",
            )
            .bind::<Text, _>(column(before))
            .bind::<Text, _>(&last.0)
            .bind::<Integer, _>(last.1)
            .bind::<BigInt, _>(BATCH)
            .load(&mut *self.connection()?)?;
            let Some(row) = rows.last() else { break };
            last = (row.created_at.clone(), row.id);
            // A file whose date cannot be read is kept.
            let is_old =
                |row: &DatedGlb| parse_time(&row.created_at).is_some_and(|time| time < before);
            let old: Vec<_> = rows.into_iter().filter(is_old).collect();
            if old.is_empty() {
                continue;
            }
            let ids: Vec<i32> = old.iter().map(|row| row.id).collect();
            let paths: Vec<String> = old.into_iter().map(|row| row.file_path).collect();
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
                 AND coalesce(finished_at, created_at) < $1 ORDER BY coalesce(finished_at, created_at) LIMIT $2)",
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
