//! The lock of a server on its database: of a session, so that it is free as soon as the server is gone.
//!
//! A connection can be lost while the server goes on, as when PostgreSQL is restarted. A thread takes the lock again then, and tells
//! the server if another one has been quicker.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use diesel::{prelude::*, r2d2::R2D2Connection, sql_types::Bool};

use super::{PgConnection, Server};
use crate::store::{Database, StoreError};

/// The number means "vgts".
const LOCK: &str = "SELECT pg_try_advisory_lock(1986491507) AS locked";

/// How long the lock of a process that was killed a moment ago may stay: until PostgreSQL sees its connection closed.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);

/// Time between two looks at the connection.
const LOOK: Duration = Duration::from_secs(2);

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

/// The lock. Free once this is dropped.
#[derive(Debug)]
pub(in crate::store) struct SessionLock {
    /// Dropped first, which ends the thread.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl SessionLock {
    /// Takes the lock; `None` while another server has it. `lost` is called if another one takes it later.
    ///
    /// # Errors
    /// When there is no connection or no thread.
    pub(in crate::store) fn take(
        server: &Server,
        lost: impl FnOnce() + Send + 'static,
    ) -> Result<Option<Self>, StoreError> {
        let Some(conn) = locked(server)? else {
            return Ok(None);
        };
        let (stop, stopped) = mpsc::channel();
        let server = server.clone();
        let thread = thread::Builder::new()
            .name("database lock".to_owned())
            .spawn(move || {
                if !keep(conn, &server, &stopped) {
                    lost();
                }
            })
            .map_err(StoreError::Thread)?;
        Ok(Some(Self {
            stop: Some(stop),
            thread: Some(thread),
        }))
    }
}

impl Drop for SessionLock {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic was reported by its hook.
            let _ = thread.join();
        }
    }
}

/// Holds the lock until it is stopped; returns false when another server has taken it.
fn keep(mut conn: PgConnection, server: &Server, stopped: &mpsc::Receiver<()>) -> bool {
    loop {
        if !matches!(stopped.recv_timeout(LOOK), Err(RecvTimeoutError::Timeout)) {
            return true;
        }
        if conn.ping().is_ok() {
            continue;
        }
        match locked(server) {
            Ok(Some(new)) => {
                tracing::info!("the connection to the database is there again");
                conn = new;
            }
            Ok(None) => return false,
            // The server is away: calls that ask for rows say so.
            Err(e) => tracing::debug!("{e}"),
        }
    }
}

/// Returns a connection that has the lock; `None` while another one has it.
fn locked(server: &Server) -> Result<Option<PgConnection>, StoreError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Open {
        path: Database::Postgres(server.clone()).to_path(),
        source,
    };
    let mut conn = PgConnection::open(server).map_err(|e| failed(e.into()))?;
    let start = Instant::now();
    loop {
        let found: Locked = diesel::sql_query(LOCK)
            .get_result(&mut conn)
            .map_err(|e| failed(e.into()))?;
        if found.locked || start.elapsed() > PATIENCE {
            return Ok(found.locked.then_some(conn));
        }
        thread::sleep(PAUSE);
    }
}
