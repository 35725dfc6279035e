//! Taking jobs, keeping them, and taking them away from workers that are gone.

use std::{thread, time::Duration};

use diesel::{
    connection::SimpleConnection,
    prelude::*,
    sql_types::{Array, BigInt, Bool, Double, Integer, Nullable, Text},
};

use super::{
    JobSize, Lease,
    presence::{has_ended_here, is_present},
};
use crate::store::{
    Job, Store, StoreError,
    connection::AnyConnection,
    job_control::{DIED, MAX_DEATHS, keep_input},
    random::random,
    time::{column, now},
};

/// A worker without a connection to the database that has not prolonged a lease for so many seconds is gone; they do so every three.
const SILENT_S: f64 = 10.0;

/// How often a claim is tried again when others hold locks on what it could take.
const TRIES: u32 = 20;

/// The order in which jobs are taken. VIPs' are first, deaths of workers count against a job, and every five minutes that it has waited
/// count for it, so that nobody waits forever. Of the same rank, users take turns.
pub(super) const RANK: &str =
    "j.priority - j.deaths + floor(extract(epoch FROM now() - j.queued_at) / 300)";

/// Which jobs a worker may take now: `$1` at most so many of a user, `$2` those of VIPs alone, `$3` of these sizes.
const CLAIMABLE: &str = "FROM jobs j JOIN job_turns t ON t.user_id = j.user_id \
    WHERE j.state = 'queued' AND (j.not_before IS NULL OR j.not_before <= now()) \
    AND t.running < $1 AND (NOT $2 OR j.priority > 0) AND j.size = ANY($3)";

/// What a worker takes.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Its name.
    pub worker: String,
    /// For how long.
    pub lease: Duration,
    /// At most so many jobs of a user run at the same time.
    pub running_per_user: u32,
    /// Only jobs of VIPs.
    pub only_vip: bool,
    /// Of these sizes.
    pub sizes: Vec<JobSize>,
}

/// A job that a worker has taken.
#[derive(Debug)]
pub struct Claimed {
    /// Its row.
    pub job: Job,
    /// The right to write what becomes of it.
    pub lease: Lease,
    /// Number of this attempt, counting from 1.
    pub token: i64,
    /// A connection waits for it.
    pub tied: bool,
    /// Of its input files; 0 where that is not known.
    pub input_bytes: u64,
}

/// A job that was taken away from its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaped {
    /// The job.
    pub id: i64,
    /// The worker, where one is known.
    pub worker: Option<String>,
    /// It has failed: this was the last of its attempts.
    pub failed: bool,
}

#[derive(QueryableByName)]
struct Taken {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = BigInt)]
    token: i64,
    #[diesel(sql_type = Bool)]
    tied: bool,
    #[diesel(sql_type = BigInt)]
    input_bytes: i64,
}

#[derive(QueryableByName)]
struct ReapedRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Nullable<Text>)]
    worker: Option<String>,
    #[diesel(sql_type = Bool)]
    failed: bool,
}

impl Store {
    /// Takes the next job for a worker: VIPs' first, then those that have waited long, users taking turns. `None` when there is none.
    ///
    /// One statement locks the job and the count of its user, and passes over what others have locked, so that no two workers
    /// take the same job and no user has more running than allowed.
    ///
    /// # Errors
    /// When the database cannot be read or written, or is SQLite.
    pub fn claim_job(&self, claim: &Claim) -> Result<Option<Claimed>, StoreError> {
        let take = format!(
            "WITH next AS (SELECT j.id, j.user_id {CLAIMABLE} ORDER BY {RANK} DESC, t.turn, j.id LIMIT 1 \
             FOR NO KEY UPDATE OF j, t SKIP LOCKED), \
             turn AS (UPDATE job_turns SET turn = nextval('job_turn') FROM next WHERE job_turns.user_id = next.user_id) \
             UPDATE jobs SET state = 'running', worker = $4, token = token + 1, progress_json = NULL, \
             lease_until = clock_timestamp() + make_interval(secs => $5), started_at = $6, next_try_at = NULL, not_before = NULL \
             FROM next WHERE jobs.id = next.id RETURNING jobs.id, jobs.token, jobs.tied, jobs.input_bytes"
        );
        let is_any = format!("SELECT EXISTS (SELECT 1 {CLAIMABLE}) AS locked");
        let sizes: Vec<&str> = claim.sizes.iter().map(|size| size.as_str()).collect();
        let cap = i32::try_from(claim.running_per_user).unwrap_or(i32::MAX);
        for _ in 0..TRIES {
            let mut pooled = self.connection()?;
            let Some(conn) = pooled.shared() else {
                return Ok(None);
            };
            let taken: Option<Taken> = diesel::sql_query(&take)
                .bind::<Integer, _>(cap)
                .bind::<Bool, _>(claim.only_vip)
                .bind::<Array<Text>, _>(&sizes)
                .bind::<Text, _>(&claim.worker)
                .bind::<Double, _>(claim.lease.as_secs_f64())
                .bind::<Text, _>(column(now()))
                .get_result(conn)
                .optional()?;
            if let Some(taken) = taken {
                drop(pooled);
                return self.claimed(&taken);
            }
            let Locked { locked } = diesel::sql_query(&is_any)
                .bind::<Integer, _>(cap)
                .bind::<Bool, _>(claim.only_vip)
                .bind::<Array<Text>, _>(&sizes)
                .get_result(conn)?;
            if !locked {
                break;
            }
            drop(pooled);
            // Others had locked what there is; not all of them come back at the same moment.
            let [jitter] = random::<1>()?;
            thread::sleep(Duration::from_micros(2000 + 40 * u64::from(jitter)));
        }
        Ok(None)
    }

    fn claimed(&self, taken: &Taken) -> Result<Option<Claimed>, StoreError> {
        let Taken {
            id,
            token,
            tied,
            input_bytes,
        } = *taken;
        let lease = Lease {
            job: id,
            token: Some(token),
        };
        // Its user may have been removed in the meantime.
        let job = self.job(id)?;
        Ok(job.map(|job| Claimed {
            job,
            lease,
            token,
            tied,
            input_bytes: input_bytes.max(0).unsigned_abs(),
        }))
    }

    /// Prolongs a lease, and records how far the job is. Returns false when the lease is over: the job was cancelled, or given to
    /// another worker.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn renew_lease(
        &self,
        lease: Lease,
        time: Duration,
        progress: Option<&str>,
    ) -> Result<bool, StoreError> {
        let mut conn = self.connection()?;
        let (Some(token), Some(conn)) = (lease.token, conn.shared()) else {
            return Ok(true);
        };
        let renewed = conn.transaction(|conn| {
            // What is lost of it when the database dies is no loss.
            conn.batch_execute("SET LOCAL synchronous_commit = off")?;
            diesel::sql_query(
                "UPDATE jobs SET lease_until = clock_timestamp() + make_interval(secs => $3), \
                 progress_json = COALESCE($4, progress_json) WHERE id = $1 AND token = $2 AND state = 'running'",
            )
            .bind::<BigInt, _>(lease.job)
            .bind::<BigInt, _>(token)
            .bind::<Double, _>(time.as_secs_f64())
            .bind::<Nullable<Text>, _>(progress)
            .execute(conn)
        });
        Ok(renewed? > 0)
    }

    /// Returns whether a lease still holds.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn holds_lease(&self, lease: Lease) -> Result<bool, StoreError> {
        let mut conn = self.connection()?;
        let (Some(token), Some(conn)) = (lease.token, conn.shared()) else {
            return Ok(true);
        };
        let found = diesel::sql_query(
            "SELECT id FROM jobs WHERE id = $1 AND token = $2 AND state = 'running'",
        )
        .bind::<BigInt, _>(lease.job)
        .bind::<BigInt, _>(token)
        .execute(conn)?;
        Ok(found > 0)
    }

    /// Queues a job again whose worker stops, through no fault of the job. Nothing happens when the lease is over.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn release_job(&self, lease: Lease) -> Result<(), StoreError> {
        self.connection()?.with_lease(lease, |conn| {
            conn.give_back(lease.job, None)?;
            let Some(conn) = conn.shared() else {
                return Ok(());
            };
            diesel::sql_query("UPDATE jobs SET state = 'queued', deaths = 0 WHERE id = $1")
                .bind::<BigInt, _>(lease.job)
                .execute(conn)
                .map(|_| ())
        })?;
        Ok(())
    }

    /// Takes jobs away from workers that are gone, and queues them again; fails those of which this was the third in a row. Gone is a
    /// worker on this machine that has ended, and, unless `only_here`, one whose lease is over, or that has no connection and has not
    /// prolonged its lease for a while. No lease is longer than twice `longest` from now on: the clock of the database may have been set back.
    ///
    /// # Errors
    /// When the database cannot be written; nothing is changed then.
    pub fn reap_jobs(&self, longest: Duration, only_here: bool) -> Result<Vec<Reaped>, StoreError> {
        let mut pooled = self.connection()?;
        let Some(conn) = pooled.shared() else {
            return Ok(Vec::new());
        };
        let running: Vec<Holder> = diesel::sql_query(format!(
            "SELECT worker, {} AS present, \
             bool_or(lease_until IS NULL OR lease_until < clock_timestamp()) AS over, \
             bool_or(lease_until < clock_timestamp() + make_interval(secs => $1 - {SILENT_S})) AS silent, \
             bool_or(lease_until > clock_timestamp() + make_interval(secs => 2 * $1)) AS long \
             FROM jobs WHERE state = 'running' GROUP BY worker",
            is_present("worker")
        ))
        .bind::<Double, _>(longest.as_secs_f64())
        .load(conn)?;
        if running.iter().any(|holder| holder.long == Some(true)) {
            diesel::sql_query(
                "UPDATE jobs SET lease_until = clock_timestamp() + make_interval(secs => $1) \
                 WHERE state = 'running' AND lease_until > clock_timestamp() + make_interval(secs => 2 * $1)",
            )
            .bind::<Double, _>(longest.as_secs_f64())
            .execute(conn)?;
        }
        let is_gone = |holder: &&Holder| {
            let name = holder.worker.as_deref().unwrap_or_default();
            let silent = holder.silent == Some(true) && !only_here;
            !holder.present && (silent || has_ended_here(name))
        };
        let gone = running.iter().filter(is_gone);
        let gone: Vec<String> = gone.filter_map(|holder| holder.worker.clone()).collect();
        let is_over = |holder: &Holder| holder.over == Some(true) && !only_here;
        if gone.is_empty() && !running.iter().any(is_over) {
            return Ok(Vec::new());
        }
        let reap = "WITH over AS (SELECT id, worker FROM jobs WHERE state = 'running' \
             AND ($5 AND (lease_until IS NULL OR lease_until < clock_timestamp()) OR worker = ANY($4)) \
             FOR NO KEY UPDATE SKIP LOCKED) \
             UPDATE jobs SET deaths = deaths + 1, token = token + 1, worker = NULL, lease_until = NULL, progress_json = NULL, \
             state = CASE WHEN deaths + 1 < $1 THEN 'queued' ELSE 'failed' END, \
             reason = CASE WHEN deaths + 1 < $1 THEN reason ELSE $2 END, \
             finished_at = CASE WHEN deaths + 1 < $1 THEN NULL ELSE $3 END \
             FROM over WHERE jobs.id = over.id RETURNING jobs.id, over.worker, jobs.state = 'failed' AS failed";
        let time = now();
        pooled.write(|conn: &mut AnyConnection| {
            let Some(pg) = conn.shared() else {
                return Ok(Vec::new());
            };
            let rows: Vec<ReapedRow> = diesel::sql_query(reap)
                .bind::<Integer, _>(MAX_DEATHS as i32)
                .bind::<Text, _>(DIED)
                .bind::<Text, _>(column(time))
                .bind::<Array<Text>, _>(&gone)
                .bind::<Bool, _>(!only_here)
                .load(pg)?;
            for row in rows.iter().filter(|row| row.failed) {
                keep_input(conn, row.id, time)?;
            }
            let reaped = rows.into_iter().map(|row| Reaped {
                id: row.id,
                worker: row.worker,
                failed: row.failed,
            });
            Ok(reaped.collect())
        })
    }
}

/// Who has running jobs.
#[derive(QueryableByName)]
struct Holder {
    #[diesel(sql_type = Nullable<Text>)]
    worker: Option<String>,
    #[diesel(sql_type = Bool)]
    present: bool,
    #[diesel(sql_type = Nullable<Bool>)]
    over: Option<bool>,
    #[diesel(sql_type = Nullable<Bool>)]
    silent: Option<bool>,
    #[diesel(sql_type = Nullable<Bool>)]
    long: Option<bool>,
}

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}
