//! What waits, what runs, and who runs it.

use std::{collections::HashMap, time::Duration};

use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Bool, Double, Integer, Nullable, Text},
};

use super::claim::RANK;
use crate::store::{Store, StoreError};

/// Workers that have not been seen for so long are gone.
const GONE_S: f64 = 600.0;

/// Number of jobs, of all processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, QueryableByName)]
pub struct Load {
    /// Waiting jobs.
    #[diesel(sql_type = BigInt)]
    pub queued: i64,
    /// Those of them that are VIPs'.
    #[diesel(sql_type = BigInt)]
    pub queued_vip: i64,
    /// Running jobs.
    #[diesel(sql_type = BigInt)]
    pub running: i64,
}

/// A process that runs jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerRow {
    /// Its name, which no other has.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Name of the weights.
    pub model: String,
    /// Device: cpu or cuda:N.
    pub device: String,
    /// Which jobs it takes; empty: all.
    pub labels: String,
    /// At the same time.
    pub max_jobs: usize,
}

/// A process that runs jobs, as others see it.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct WorkerState {
    /// As in [`WorkerRow`], like the next ones.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Version of the program.
    #[diesel(sql_type = Text)]
    pub version: String,
    /// Name of the weights.
    #[diesel(sql_type = Text)]
    pub model: String,
    /// Device.
    #[diesel(sql_type = Text)]
    pub device: String,
    /// Which jobs it takes; empty: all.
    #[diesel(sql_type = Text)]
    pub labels: String,
    /// At the same time.
    #[diesel(sql_type = Integer)]
    pub max_jobs: i32,
    /// It takes no more.
    #[diesel(sql_type = Bool)]
    pub draining: bool,
    /// Seconds since it was last seen.
    #[diesel(sql_type = Double)]
    pub seen_s: f64,
    /// Seconds since its start.
    #[diesel(sql_type = Double)]
    pub up_s: f64,
    /// Jobs that it has.
    #[diesel(sql_type = BigInt)]
    pub running: i64,
}

/// A job that runs.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct RunningJob {
    /// Its number.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// Name of its user.
    #[diesel(sql_type = Text)]
    pub user: String,
    /// Size.
    #[diesel(sql_type = Text)]
    pub size: String,
    /// Who runs it.
    #[diesel(sql_type = Nullable<Text>)]
    pub worker: Option<String>,
    /// Number of times that it was taken or given back.
    #[diesel(sql_type = BigInt)]
    pub token: i64,
    /// Seconds for which the lease holds; negative once it is over.
    #[diesel(sql_type = Nullable<Double>)]
    pub lease_s: Option<f64>,
    /// How far it is, as JSON.
    #[diesel(sql_type = Nullable<Text>)]
    pub progress_json: Option<String>,
}

/// A job that waits.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct WaitingJob {
    /// Its number.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// Name of its user.
    #[diesel(sql_type = Text)]
    pub user: String,
    /// 1 of a VIP, else 0.
    #[diesel(sql_type = Integer)]
    pub priority: i32,
    /// Size.
    #[diesel(sql_type = Text)]
    pub size: String,
    /// Seconds for which it has waited.
    #[diesel(sql_type = Double)]
    pub waited_s: f64,
    /// Seconds until it may run, of one that waits for another try.
    #[diesel(sql_type = Nullable<Double>)]
    pub not_before_s: Option<f64>,
}

/// The queue as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Overview {
    /// Workers, by name.
    pub workers: Vec<WorkerState>,
    /// Running jobs, by number.
    pub running: Vec<RunningJob>,
    /// Waiting jobs in the order in which they run if no others arrive.
    pub waiting: Vec<WaitingJob>,
}

#[derive(QueryableByName)]
struct Ahead {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = BigInt)]
    ahead: i64,
}

#[derive(QueryableByName)]
struct ProgressRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    progress_json: String,
}

#[derive(QueryableByName)]
struct DirRow {
    #[diesel(sql_type = Text)]
    dir: String,
}

/// The waiting jobs with their place in the order: users take turns within a rank.
fn in_order() -> String {
    format!(
        "(SELECT id, row_number() OVER (ORDER BY rank DESC, nth, turn, id) - 1 AS place FROM \
         (SELECT j.id, {RANK} AS rank, t.turn, \
          row_number() OVER (PARTITION BY j.user_id, {RANK} ORDER BY j.id) AS nth \
          FROM jobs j JOIN job_turns t ON t.user_id = j.user_id WHERE j.state = 'queued') AS waiting)"
    )
}

impl Store {
    /// Returns the number of jobs.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn load_of_jobs(&self) -> Result<Load, StoreError> {
        let mut conn = self.connection()?;
        let Some(conn) = conn.shared() else {
            return Ok(Load::default());
        };
        let load = diesel::sql_query(
            "SELECT COUNT(*) FILTER (WHERE state = 'queued') AS queued, \
             COUNT(*) FILTER (WHERE state = 'queued' AND priority > 0) AS queued_vip, \
             COUNT(*) FILTER (WHERE state = 'running') AS running \
             FROM jobs WHERE state IN ('queued', 'running')",
        );
        Ok(load.get_result(conn)?)
    }

    /// Returns of these jobs, those that wait, how many run before each: those that run already, and those that wait before it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn jobs_ahead(&self, ids: &[i64]) -> Result<HashMap<i64, usize>, StoreError> {
        let mut conn = self.connection()?;
        let Some(conn) = conn.shared() else {
            return Ok(HashMap::new());
        };
        let rows: Vec<Ahead> = diesel::sql_query(format!(
            "SELECT id, place + (SELECT COUNT(*) FROM jobs WHERE state = 'running') AS ahead \
             FROM {} AS ordered WHERE id = ANY($1)",
            in_order()
        ))
        .bind::<Array<BigInt>, _>(ids)
        .load(conn)?;
        let ahead = rows.into_iter().map(|row| {
            let ahead = usize::try_from(row.ahead).unwrap_or(0);
            (row.id, ahead)
        });
        Ok(ahead.collect())
    }

    /// Returns how far these jobs are, as JSON, of those that run and have said so.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn progress_of(&self, ids: &[i64]) -> Result<HashMap<i64, String>, StoreError> {
        let mut conn = self.connection()?;
        let Some(conn) = conn.shared() else {
            return Ok(HashMap::new());
        };
        let rows: Vec<ProgressRow> = diesel::sql_query(
            "SELECT id, progress_json FROM jobs \
             WHERE id = ANY($1) AND state = 'running' AND progress_json IS NOT NULL",
        )
        .bind::<Array<BigInt>, _>(ids)
        .load(conn)?;
        Ok(rows.into_iter().map(|r| (r.id, r.progress_json)).collect())
    }

    /// Returns the folder of a running job of a user whose preview has this hash.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn dir_of_preview(&self, user_id: i32, hash: &str) -> Result<Option<String>, StoreError> {
        let mut conn = self.connection()?;
        let Some(conn) = conn.shared() else {
            return Ok(None);
        };
        let found: Option<DirRow> = diesel::sql_query(
            "SELECT dir FROM jobs WHERE user_id = $1 AND state = 'running' \
             AND progress_json::json ->> 'preview' = $2",
        )
        .bind::<Integer, _>(user_id)
        .bind::<Text, _>(hash)
        .get_result(conn)
        .optional()?;
        Ok(found.map(|row| row.dir))
    }

    /// Tells the others of a worker, and forgets workers that are gone.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn note_worker(&self, worker: &WorkerRow, draining: bool) -> Result<(), StoreError> {
        let mut conn = self.connection()?;
        let Some(conn) = conn.shared() else {
            return Ok(());
        };
        diesel::sql_query(
            "WITH gone AS (DELETE FROM workers WHERE name <> $1 AND seen_at < clock_timestamp() - make_interval(secs => $8)) \
             INSERT INTO workers (name, version, model, device, labels, max_jobs, draining) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT (name) DO UPDATE SET device = $4, draining = $7, seen_at = clock_timestamp()",
        )
        .bind::<Text, _>(&worker.name)
        .bind::<Text, _>(&worker.version)
        .bind::<Text, _>(&worker.model)
        .bind::<Text, _>(&worker.device)
        .bind::<Text, _>(&worker.labels)
        .bind::<Integer, _>(i32::try_from(worker.max_jobs).unwrap_or(i32::MAX))
        .bind::<Bool, _>(draining)
        .bind::<Double, _>(GONE_S)
        .execute(conn)?;
        Ok(())
    }

    /// Takes a worker off the list: it stops.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn forget_worker(&self, name: &str) -> Result<(), StoreError> {
        let mut conn = self.connection()?;
        let Some(conn) = conn.shared() else {
            return Ok(());
        };
        diesel::sql_query("DELETE FROM workers WHERE name = $1")
            .bind::<Text, _>(name)
            .execute(conn)?;
        Ok(())
    }

    /// Returns what waits, what runs, and who runs it, of at most `limit` jobs each.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn overview(&self, limit: u32) -> Result<Option<Overview>, StoreError> {
        let mut conn = self.connection()?;
        let Some(conn) = conn.shared() else {
            return Ok(None);
        };
        conn.transaction(|conn| {
            let workers = diesel::sql_query(
                "SELECT name, version, model, device, labels, max_jobs, draining, \
                 extract(epoch FROM now() - seen_at)::DOUBLE PRECISION AS seen_s, \
                 extract(epoch FROM now() - started_at)::DOUBLE PRECISION AS up_s, \
                 (SELECT COUNT(*) FROM jobs WHERE state = 'running' AND worker = workers.name) AS running \
                 FROM workers ORDER BY name",
            )
            .load(conn)?;
            let running = diesel::sql_query(
                "SELECT j.id, u.username AS user, j.size, j.worker, j.token, \
                 extract(epoch FROM j.lease_until - now())::DOUBLE PRECISION AS lease_s, j.progress_json \
                 FROM jobs j JOIN users u ON u.id = j.user_id WHERE j.state = 'running' ORDER BY j.id LIMIT $1",
            )
            .bind::<BigInt, _>(i64::from(limit))
            .load(conn)?;
            let waiting = diesel::sql_query(format!(
                "SELECT j.id, u.username AS user, j.priority, j.size, \
                 extract(epoch FROM now() - j.queued_at)::DOUBLE PRECISION AS waited_s, \
                 extract(epoch FROM NULLIF(GREATEST(j.not_before, now()), now()) - now())::DOUBLE PRECISION AS not_before_s \
                 FROM {} AS ordered JOIN jobs j ON j.id = ordered.id JOIN users u ON u.id = j.user_id \
                 ORDER BY ordered.place LIMIT $1",
                in_order()
            ))
            .bind::<BigInt, _>(i64::from(limit))
            .load(conn)?;
            Ok(Some(Overview {
                workers,
                running,
                waiting,
            }))
        })
    }

    /// Returns the age in seconds of the longest waiting job, for who watches the service.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn longest_wait(&self) -> Result<Option<Duration>, StoreError> {
        #[derive(QueryableByName)]
        struct Age {
            #[diesel(sql_type = Nullable<Double>)]
            seconds: Option<f64>,
        }
        let mut conn = self.connection()?;
        let Some(conn) = conn.shared() else {
            return Ok(None);
        };
        let age: Age = diesel::sql_query(
            "SELECT extract(epoch FROM clock_timestamp() - MIN(queued_at))::DOUBLE PRECISION AS seconds \
             FROM jobs WHERE state = 'queued'",
        )
        .get_result(conn)?;
        Ok(age
            .seconds
            .and_then(|s| Duration::try_from_secs_f64(s.max(0.0)).ok()))
    }
}
