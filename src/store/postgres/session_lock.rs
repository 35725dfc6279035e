//! The lock of a process on its database: of a session, so that it is free as soon as the process is gone.
//!
//! Services and workers share the database, and hear over the same connection when jobs wait; who copies or repairs it has it alone.
//! A connection can be lost while the process goes on, as when PostgreSQL is restarted. The lock is taken again then, and the process is
//! told if it cannot be had any more.

use std::{
    pin::pin,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use futures_util::{Stream, StreamExt};
use tokio::{sync::oneshot, task::JoinHandle, time};
use tokio_postgres::{AsyncMessage, Client, Error};

use super::{Server, open::SETTINGS};
use crate::store::{Bell, Database, StoreError, driver::driver, queue::be_present};

/// The number means "vgts".
const LOCK: &str = "SELECT pg_try_advisory_lock(1986491507)";
const SHARE: &str = "SELECT pg_try_advisory_lock_shared(1986491507)";

/// The channel is the one of the trigger `job_changed`.
const LISTEN: &str = "LISTEN vggt_jobs";

/// How long the lock of a process that was killed a moment ago may stay: until PostgreSQL sees its connection closed.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);

/// Time between two looks at the connection, and for an answer.
const LOOK: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(10);

/// How long the end of the connection is waited for.
const GOODBYE: Duration = Duration::from_secs(1);

/// Who else may have the database at the same time.
#[derive(Debug, Clone)]
pub(in crate::store) enum With {
    /// Nobody.
    Nobody,
    /// Others that share it; the bell rings whenever a job waits.
    Others(Arc<Bell>),
}

/// The lock. Free once this is dropped.
#[derive(Debug)]
pub(in crate::store) struct SessionLock {
    stop: Option<oneshot::Sender<()>>,
    over: mpsc::Receiver<()>,
}

impl SessionLock {
    /// Takes the lock; `None` while it cannot be had. `lost` is called if it is lost later and cannot be had again.
    ///
    /// # Errors
    /// When there is no connection.
    pub(in crate::store) fn take(
        server: &Server,
        with: With,
        lost: impl FnOnce() + Send + 'static,
    ) -> Result<Option<Self>, StoreError> {
        let driver = driver().map_err(StoreError::Thread)?;
        let server = server.clone();
        let (first, opened) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let (tell, over) = mpsc::channel();
        driver.spawn(async move {
            let session = Session::open(&server, &with).await;
            let (session, told) = match session {
                Ok(Some(session)) => (Some(session), Ok(true)),
                Ok(None) => (None, Ok(false)),
                Err(e) => (None, Err(e)),
            };
            let goes_on = first.send(told).is_ok();
            if let Some(session) = session.filter(|_| goes_on)
                && !keep(session, &server, &with, stopped).await
            {
                lost();
            }
            drop(tell);
        });
        // The task cannot end without an answer.
        let opened = opened.recv().unwrap_or(Ok(false))?;
        Ok(opened.then_some(Self {
            stop: Some(stop),
            over,
        }))
    }
}

impl Drop for SessionLock {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.over.recv_timeout(GOODBYE);
    }
}

/// Holds the lock until it is stopped; returns false when it cannot be had any more.
async fn keep(
    mut session: Session,
    server: &Server,
    with: &With,
    mut stopped: oneshot::Receiver<()>,
) -> bool {
    loop {
        // An error: the other end was dropped.
        if time::timeout(LOOK, &mut stopped).await.is_ok() {
            session.close().await;
            return true;
        }
        if session.is_alive().await {
            continue;
        }
        match Session::open(server, with).await {
            Ok(Some(new)) => {
                tracing::info!("the connection to the database is there again");
                session = new;
                with.ring();
            }
            Ok(None) => return false,
            // The server is away: calls that ask for rows say so.
            Err(e) => tracing::debug!("{e}"),
        }
    }
}

impl With {
    fn ring(&self) {
        if let Self::Others(bell) = self {
            bell.ring();
        }
    }
}

/// A connection that has the lock.
struct Session {
    client: Client,
    pump: JoinHandle<()>,
}

impl Session {
    /// Connects and takes the lock; `None` while it cannot be had.
    async fn open(server: &Server, with: &With) -> Result<Option<Self>, StoreError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Open {
            path: Database::Postgres(server.clone()).to_path(),
            source,
        };
        let with_too = with.clone();
        let (client, pump) = server
            .connect_and(move |messages| tokio::spawn(pump(messages, with_too)))
            .await
            .map_err(|e| failed(e.into()))?;
        let session = Self { client, pump };
        let taken = session.lock(with).await;
        Ok(taken.map_err(|e| failed(e.into()))?.then_some(session))
    }

    async fn lock(&self, with: &With) -> Result<bool, Error> {
        self.client.batch_execute(SETTINGS).await?;
        let lock = match with {
            With::Nobody => LOCK,
            With::Others(_) => SHARE,
        };
        let start = Instant::now();
        while !self.client.query_one(lock, &[]).await?.try_get(0)? {
            if start.elapsed() > PATIENCE {
                return Ok(false);
            }
            time::sleep(PAUSE).await;
        }
        if let With::Others(_) = with {
            self.client.batch_execute(&be_present()).await?;
            self.client.batch_execute(LISTEN).await?;
        }
        Ok(true)
    }

    async fn is_alive(&self) -> bool {
        let ping = self.client.batch_execute("");
        matches!(time::timeout(ANSWER, ping).await, Ok(Ok(())))
    }

    /// Ends the connection, which frees the lock.
    async fn close(self) {
        drop(self.client);
        let _ = time::timeout(GOODBYE, self.pump).await;
    }
}

/// Moves the bytes of a connection, and rings whenever a job waits.
async fn pump(messages: impl Stream<Item = Result<AsyncMessage, Error>>, with: With) {
    let mut messages = pin!(messages);
    while let Some(Ok(message)) = messages.next().await {
        if let AsyncMessage::Notification(_) = message {
            with.ring();
        }
    }
}
