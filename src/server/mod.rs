//! The service: sockets in front of [`crate::protocol`], [`crate::store`] and [`crate::jobs`].
//!
//! With the client the only async module. A connection is one task that reads a request, answers it and reads the next.
//! Blocking work (disk, database, passwords) runs on other threads, and a connection holds no lock or permit but its own
//! while it waits for its peer. The entry point is [`serve`].

mod answers;
mod connection;
mod limits;
mod login_guard;
mod reconstruct;
mod session;
mod upload;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

use self::{limits::Addresses, login_guard::LoginGuard, session::Session};
pub use self::{limits::Limits, login_guard::LoginSettings};
use crate::{jobs::Jobs, store::Store};

/// Maximum number of passwords that are checked concurrently; more wait without a thread.
const LOGINS_AT_ONCE: usize = 4;

/// Pause after a failure to accept a connection, mostly for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time for the last replies at shutdown.
const LAST_REPLIES: Duration = Duration::from_secs(5);

/// Maximum number of addresses whose last login is remembered; the oldest are dropped first.
const REMEMBERED_ADDRESSES: usize = 10_000;

/// Settings of the service.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Limits per peer.
    pub limits: Limits,
    /// Rate limit for failed logins.
    pub login: LoginSettings,
    /// How long a new connection inherits the last login of its address; `None`: never.
    pub session_by_address: Option<Duration>,
    /// Serves a file to everybody who knows its hash.
    pub open_get: bool,
    /// Time for the running job to finish at shutdown.
    pub grace: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            login: LoginSettings::default(),
            session_by_address: None,
            open_get: false,
            grace: Duration::from_secs(30),
        }
    }
}

/// State that all connections share.
#[derive(Debug)]
struct Shared {
    settings: ServerSettings,
    store: Store,
    jobs: Jobs,
    guard: LoginGuard,
    logins: Semaphore,
    by_address: LastLogins,
}

/// Serves until `stop` completes; then accepts no more connections, lets the running job and the replies finish within the
/// grace period, and returns.
pub async fn serve(
    listener: TcpListener,
    settings: ServerSettings,
    store: Store,
    jobs: Jobs,
    stop: impl Future<Output = ()>,
) {
    let max = settings.limits.connections;
    let per_address = settings.limits.connections_per_address;
    let grace = settings.grace;
    let shared = Arc::new(Shared {
        guard: LoginGuard::new(settings.login.clone()),
        logins: Semaphore::new(LOGINS_AT_ONCE),
        by_address: LastLogins::default(),
        settings,
        store,
        jobs: jobs.clone(),
    });
    let places = Arc::new(Semaphore::new(max));
    let addresses = Arc::new(Addresses::default());
    let (stopping, stopped) = watch::channel(false);

    tokio::pin!(stop);
    loop {
        let (stream, address) = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener) => accepted,
        };
        // There is no request yet to answer with an error, so the connection is closed.
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!(%address, "refused a connection: {max} are open (--max_connections)");
            continue;
        };
        let ip = address.ip().to_canonical();
        let Some(counted) = addresses.enter(ip, per_address) else {
            tracing::warn!(%address, "refused a connection: {per_address} of this address are open (--max_connections_per_address)");
            continue;
        };
        let session = Session::new(shared.clone(), stream, ip);
        let stopped = stopped.clone();
        tokio::spawn(async move {
            session.run(stopped).await;
            drop((place, counted));
        });
    }
    drop(listener);
    tracing::info!(
        "stopping: no more connections, {} s for what runs",
        grace.as_secs()
    );
    stopping.send_replace(true);
    if tokio::task::spawn_blocking(move || jobs.shutdown(grace))
        .await
        .is_err()
    {
        tracing::error!("the queue could not be closed");
    }
    let all = places.acquire_many(max as u32);
    if tokio::time::timeout(LAST_REPLIES, all).await.is_err() {
        tracing::warn!("some connections were cut off");
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(e) => {
                tracing::warn!("cannot accept a connection: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The last login from each address.
#[derive(Debug, Default)]
struct LastLogins(Mutex<HashMap<IpAddr, (i32, Instant)>>);

impl LastLogins {
    fn note(&self, address: IpAddr, user_id: i32) {
        let mut logins = self.lock();
        if logins.len() >= REMEMBERED_ADDRESSES && !logins.contains_key(&address) {
            let oldest = logins.iter().min_by_key(|(_, (_, time))| *time);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                logins.remove(&oldest);
            }
        }
        logins.insert(address, (user_id, Instant::now()));
    }

    fn forget(&self, address: IpAddr) {
        self.lock().remove(&address);
    }

    fn of(&self, address: IpAddr, within: Duration) -> Option<i32> {
        let (user_id, time) = *self.lock().get(&address)?;
        (time.elapsed() < within).then_some(user_id)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, (i32, Instant)>> {
        // Every operation is one call: the map is consistent after a panic elsewhere.
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}
