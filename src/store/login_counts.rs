//! The table `login_counts`: recent logins of accounts and addresses, for all servers of one PostgreSQL database.
//!
//! What follows from the counts is not known here: a caller changes them while nobody else can.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Integer, Text},
};

use super::{Store, StoreError, last_logins};

/// Microseconds since 1970 by the clock of the database. Not that of the transaction, which may have waited for a row.
pub(super) const CLOCK: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// Most rows, three kinds of as many as a process remembers of each; those with the fewest failures are removed first.
const REMEMBERED: i64 = 30_000;

/// Rows that one statement removes: few milliseconds.
const BATCH: i64 = 1000;

/// Writes between two looks at the number of rows.
const EVERY: u32 = 256;

/// A time that never comes: some 30 years.
const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);

/// Recent logins under one key. Times are relative to now, by the clock of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginCount {
    /// Failed logins.
    pub failed: u32,
    /// Logins that are being checked.
    pub checking: u32,
    /// Time since the last failed one.
    pub since_failed: Duration,
    /// Time since the last check began.
    pub since_started: Duration,
    /// Time until the next one may be checked.
    pub wait: Duration,
    /// Time after which the row is removed.
    pub keep: Duration,
}

/// Counts of logins that several servers share.
#[derive(Debug, Clone)]
pub struct LoginCounts(Store);

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = Integer)]
    failed: i32,
    #[diesel(sql_type = Integer)]
    checking: i32,
    #[diesel(sql_type = BigInt)]
    failed_at: i64,
    #[diesel(sql_type = BigInt)]
    started_at: i64,
    #[diesel(sql_type = BigInt)]
    not_before: i64,
    #[diesel(sql_type = BigInt)]
    expires_at: i64,
    #[diesel(sql_type = BigInt)]
    now: i64,
}

impl CountRow {
    fn count(&self) -> Option<LoginCount> {
        let since = |time: i64| duration(self.now.saturating_sub(time));
        let until = |time: i64| duration(time.saturating_sub(self.now));
        (self.expires_at > self.now).then(|| LoginCount {
            failed: self.failed.try_into().unwrap_or(0),
            checking: self.checking.try_into().unwrap_or(0),
            since_failed: since(self.failed_at),
            since_started: since(self.started_at),
            wait: until(self.not_before),
            keep: until(self.expires_at),
        })
    }
}

/// The columns of rows that are to be written.
#[derive(Default)]
struct Columns {
    keys: Vec<String>,
    failed: Vec<i32>,
    checking: Vec<i32>,
    failed_at: Vec<i64>,
    started_at: Vec<i64>,
    not_before: Vec<i64>,
    expires_at: Vec<i64>,
}

impl Columns {
    fn add(&mut self, key: String, count: &LoginCount, now: i64) {
        let before = |age: Duration| now.saturating_sub(micros(age));
        let after = |wait: Duration| now.saturating_add(micros(wait));
        self.keys.push(key);
        self.failed
            .push(count.failed.try_into().unwrap_or(i32::MAX));
        self.checking
            .push(count.checking.try_into().unwrap_or(i32::MAX));
        self.failed_at.push(before(count.since_failed));
        self.started_at.push(before(count.since_started));
        self.not_before.push(after(count.wait));
        self.expires_at.push(after(count.keep));
    }
}

/// Reads the rows of some keys and locks them until the end of the transaction, in the order of the keys: two servers cannot wait
/// for each other. Rows that are not there are made.
fn lock_rows() -> String {
    format!(
        "INSERT INTO login_counts (key, failed, checking, failed_at, started_at, not_before, expires_at) \
         SELECT key, 0, 0, 0, 0, 0, 0 FROM unnest($1) AS key \
         ON CONFLICT (key) DO UPDATE SET failed = login_counts.failed \
         RETURNING key, failed, checking, failed_at, started_at, not_before, expires_at, {CLOCK} AS now"
    )
}

const WRITE: &str = "UPDATE login_counts AS old SET failed = new.failed, checking = new.checking, failed_at = new.failed_at, \
    started_at = new.started_at, not_before = new.not_before, expires_at = new.expires_at \
    FROM unnest($1, $2, $3, $4, $5, $6, $7) AS new (key, failed, checking, failed_at, started_at, not_before, expires_at) \
    WHERE old.key = new.key";

impl LoginCounts {
    /// Lets `change` change the counts of some keys, each named once; `None` where nothing is noted. No other server reads or
    /// writes them in between.
    ///
    /// # Errors
    /// When the database cannot be read or written; nothing has changed then.
    pub fn change(
        &self,
        keys: &[String],
        change: &mut dyn FnMut(&mut [Option<LoginCount>]),
    ) -> Result<(), StoreError> {
        let mut sorted = keys.to_vec();
        sorted.sort();
        let mut conn = self.0.connection()?;
        conn.postgres()?.transaction::<_, StoreError, _>(|conn| {
            let rows: Vec<CountRow> = diesel::sql_query(lock_rows())
                .bind::<Array<Text>, _>(&sorted)
                .load(conn)?;
            // Of the row that was locked last.
            let now = rows.iter().map(|row| row.now).max().unwrap_or_default();
            let of = |key: &String| rows.iter().find(|row| row.key == *key);
            let found = keys.iter().map(|key| of(key).and_then(CountRow::count));
            let mut counts: Vec<_> = found.collect();
            change(&mut counts);
            let (mut kept, mut gone) = (Columns::default(), Vec::new());
            for (key, count) in keys.iter().cloned().zip(&counts) {
                match count {
                    Some(count) => kept.add(key, count, now),
                    None => gone.push(key),
                }
            }
            if !kept.keys.is_empty() {
                diesel::sql_query(WRITE)
                    .bind::<Array<Text>, _>(kept.keys)
                    .bind::<Array<Integer>, _>(kept.failed)
                    .bind::<Array<Integer>, _>(kept.checking)
                    .bind::<Array<BigInt>, _>(kept.failed_at)
                    .bind::<Array<BigInt>, _>(kept.started_at)
                    .bind::<Array<BigInt>, _>(kept.not_before)
                    .bind::<Array<BigInt>, _>(kept.expires_at)
                    .execute(conn)?;
            }
            if !gone.is_empty() {
                diesel::sql_query("DELETE FROM login_counts WHERE key = ANY($1)")
                    .bind::<Array<Text>, _>(gone)
                    .execute(conn)?;
            }
            Ok(())
        })?;
        drop(conn);
        self.0.tidy_logins_now_and_then();
        Ok(())
    }
}

impl Store {
    /// Returns the counts of logins where several servers share them: in PostgreSQL.
    pub fn login_counts(&self) -> Option<LoginCounts> {
        let is_server = self.database().file().is_none();
        is_server.then(|| LoginCounts(self.clone()))
    }

    /// Keeps the number of rows bounded however quickly they come. To be called after each one that was written.
    pub(super) fn tidy_logins_now_and_then(&self) {
        if self.login_writes.is_due() {
            self.tidy_logins();
        }
    }

    /// As [`Store::forget_old_logins`]; everything else goes on without it.
    pub(super) fn tidy_logins(&self) {
        if let Err(e) = self.forget_old_logins() {
            tracing::warn!("cannot remove what is known of old logins: {e}");
        }
    }

    /// Removes what is known of logins and not needed any more, where several servers share it.
    ///
    /// # Errors
    /// When the rows cannot be removed.
    pub fn forget_old_logins(&self) -> Result<(), StoreError> {
        if self.database().file().is_some() {
            return Ok(());
        }
        last_logins::forget_old(self)?;
        let mut conn = self.connection()?;
        let conn = conn.postgres()?;
        // Rows that another server writes at this moment are left to it: the two would wait for each other.
        let expired = format!(
            "DELETE FROM login_counts WHERE key IN (SELECT key FROM login_counts WHERE expires_at <= {CLOCK} \
             LIMIT {BATCH} FOR UPDATE SKIP LOCKED)"
        );
        diesel::sql_query(expired).execute(conn)?;
        let too_many = format!(
            "DELETE FROM login_counts WHERE key IN (SELECT key FROM login_counts ORDER BY failed DESC, failed_at DESC \
             OFFSET {REMEMBERED} LIMIT {BATCH} FOR UPDATE SKIP LOCKED)"
        );
        diesel::sql_query(too_many).execute(conn)?;
        Ok(())
    }
}

/// Counts what is written, so that the number of rows is looked at now and then, however quickly they come.
#[derive(Debug, Clone, Default)]
pub(super) struct LoginWrites(Arc<AtomicU32>);

impl LoginWrites {
    pub(super) fn is_due(&self) -> bool {
        self.0.fetch_add(1, Relaxed).is_multiple_of(EVERY)
    }
}

/// Returns a time in microseconds; one that no clock can show becomes one that never comes.
pub(super) fn micros(time: Duration) -> i64 {
    i64::try_from(time.min(FAR).as_micros()).unwrap_or(i64::MAX)
}

fn duration(micros: i64) -> Duration {
    Duration::from_micros(micros.try_into().unwrap_or(0))
}
