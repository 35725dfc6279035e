//! Which processes are there: each holds a lock of its own on its connection to the database for as long as it lives.

use std::{collections::HashSet, path::Path, sync::OnceLock};

use diesel::{
    prelude::*,
    sql_types::{Array, Text},
};

use crate::store::{Store, StoreError, random_hash};

/// Returns whether a process holds its lock; of a name in SQL. The number means "vgtp".
pub(super) fn is_present(name: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND classid::BIGINT = {CLASS} \
         AND objid::BIGINT = (hashtext({name}) & 2147483647) \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
    )
}

const CLASS: i32 = 1_986_491_504;

/// Returns the statement by which this process takes its lock.
pub(in crate::store) fn be_present() -> String {
    let name = process_name().replace('\'', "''");
    format!("SELECT pg_advisory_lock_shared({CLASS}, hashtext('{name}') & 2147483647)")
}

/// Returns the name of this process, which no other has: that of the machine, its number there, and some random digits.
pub fn process_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        // Without random numbers nothing else works either.
        let random = random_hash().unwrap_or_default();
        let random: String = random.chars().take(6).collect();
        format!("{}-{}-{random}", host(), std::process::id())
    })
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let kept = |c: &char| c.is_ascii_alphanumeric() || *c == '-' || *c == '.';
    let name: String = name.trim().chars().filter(kept).take(64).collect();
    match name.as_str() {
        "" => "host".to_owned(),
        _ => name,
    }
}

/// Returns true when a process of this name was on this machine and has ended.
pub(super) fn has_ended_here(name: &str) -> bool {
    let Some((of, pid)) = parsed(name) else {
        return false;
    };
    of == host() && name != process_name() && !Path::new(&format!("/proc/{pid}")).exists()
}

fn is_of_this_machine(name: &str) -> bool {
    parsed(name).is_some_and(|(of, _)| of == host())
}

/// Returns the machine of a process, and its number there.
fn parsed(name: &str) -> Option<(&str, u32)> {
    let mut parts = name.rsplitn(3, '-');
    let (_, pid, of) = (parts.next()?, parts.next()?, parts.next()?);
    Some((of, pid.parse().ok()?))
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    name: String,
}

impl Store {
    /// Returns those of these processes that have ended: on this machine, and the database has no connection of them.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(in crate::store) fn ended_here(
        &self,
        names: &[String],
    ) -> Result<HashSet<String>, StoreError> {
        let ended = names.iter().filter(|name| has_ended_here(name));
        let ended: Vec<String> = ended.cloned().collect();
        match self.database.file() {
            Some(_) => Ok(ended.into_iter().collect()),
            None => self.without_connection(ended),
        }
    }

    /// Returns those of these processes of other machines of which the database has no connection.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(in crate::store) fn absent(&self, names: &[String]) -> Result<HashSet<String>, StoreError> {
        let others = names.iter().filter(|name| !is_of_this_machine(name));
        self.without_connection(others.cloned().collect())
    }

    fn without_connection(&self, names: Vec<String>) -> Result<HashSet<String>, StoreError> {
        let mut conn = self.connection()?;
        let Some(conn) = conn.shared().filter(|_| !names.is_empty()) else {
            return Ok(HashSet::new());
        };
        let rows: Vec<Row> = diesel::sql_query(format!(
            "SELECT name FROM unnest($1) AS name WHERE NOT {}",
            is_present("name")
        ))
        .bind::<Array<Text>, _>(names)
        .load(conn)?;
        Ok(rows.into_iter().map(|row| row.name).collect())
    }

    /// Returns true when a process has running jobs that has ended on this machine, while the database still has a connection of it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn has_ended_workers(&self) -> Result<bool, StoreError> {
        let mut conn = self.connection()?;
        let Some(conn) = conn.shared() else {
            return Ok(false);
        };
        let rows: Vec<Row> = diesel::sql_query(format!(
            "SELECT DISTINCT worker AS name FROM jobs WHERE state = 'running' AND worker IS NOT NULL AND {}",
            is_present("worker")
        ))
        .load(conn)?;
        Ok(rows.iter().any(|row| has_ended_here(&row.name)))
    }

    /// Returns those of these folders of inputs whose jobs have ended, and whose files are not kept.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn dirs_of_ended(&self, dirs: &[String]) -> Result<HashSet<String>, StoreError> {
        let mut conn = self.connection()?;
        let Some(conn) = conn.shared().filter(|_| !dirs.is_empty()) else {
            return Ok(HashSet::new());
        };
        let rows: Vec<Row> = diesel::sql_query(
            "SELECT dir AS name FROM jobs WHERE dir = ANY($1) AND state IN ('done', 'failed', 'cancelled') \
             AND NOT EXISTS (SELECT 1 FROM kept_inputs WHERE job_id = jobs.id)",
        )
        .bind::<Array<Text>, _>(dirs)
        .load(conn)?;
        Ok(rows.into_iter().map(|row| row.name).collect())
    }
}
