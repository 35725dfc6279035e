//! The service: sockets in front of [`crate::protocol`], [`crate::store`] and [`crate::jobs`].
//!
//! A connection is one task that reads a request, answers it and reads the next.
//! Blocking work (disk, database, passwords) runs on other threads, and a connection holds no lock or permit but its own
//! while it waits for its peer. The entry point is [`serve`].

mod answers;
mod connection;
mod inbox;
mod last_logins;
mod login_ledger;
mod proxy;
mod reconstruct;
mod session;
mod upload;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

pub use self::login_ledger::login_ledger;
use self::{connection::Connection, last_logins::LastLogins, session::Session};
use crate::{
    jobs::Jobs,
    metrics::Port,
    peers::{Block, Peers, Place},
    store::{SessionStamp, Store, User},
};

/// Pause after a failure to accept a connection, mostly for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time for the last replies at shutdown.
const LAST_REPLIES: Duration = Duration::from_secs(5);

/// Settings of the service.
#[derive(Debug, Clone)]
pub struct ServerSettings {
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
    peers: Arc<Peers>,
    store: Store,
    jobs: Jobs,
    by_address: LastLogins,
}

/// Serves until `stop` completes; then accepts no more connections, lets the running job and the replies finish within the
/// grace period, and returns.
pub async fn serve(
    listener: TcpListener,
    settings: ServerSettings,
    peers: Arc<Peers>,
    store: Store,
    jobs: Jobs,
    stop: impl Future<Output = ()>,
) {
    let grace = settings.grace;
    let shared = Arc::new(Shared {
        by_address: LastLogins::new(&store),
        settings,
        peers,
        store,
        jobs: jobs.clone(),
    });
    let (stopping, stopped) = watch::channel(false);
    // Closed once every connection has ended: each holds a sender, on which nothing is sent.
    let (alive, mut all_ended) = mpsc::channel::<()>(1);

    tokio::pin!(stop);
    loop {
        let (stream, address) = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener) => accepted,
        };
        let peer = address.ip().to_canonical();
        // There is no request yet to answer with an error, so the connection is closed.
        let place = match shared.peers.enter(peer) {
            Ok(place) => Arc::new(place),
            Err(e) => {
                tracing::warn!(%address, "refused a connection: {e}");
                continue;
            }
        };
        let (shared, stopped, alive) = (shared.clone(), stopped.clone(), alive.clone());
        tokio::spawn(async move {
            let _alive = alive;
            let talk = converse(shared, stream, peer, place.clone(), stopped);
            tokio::select! {
                () = talk => {}
                () = place.give_way() => {
                    tracing::debug!(%address, "connection ended: another one needs its place");
                }
            }
        });
    }
    drop((listener, alive));
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
    if tokio::time::timeout(LAST_REPLIES, all_ended.recv())
        .await
        .is_err()
    {
        tracing::warn!("some connections were cut off");
    }
}

/// Serves one connection to its end.
async fn converse(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: IpAddr,
    place: Arc<Place>,
    stopped: watch::Receiver<bool>,
) {
    let metrics = shared.peers.metrics.clone();
    let _open = metrics.connection(Port::Tcp);
    let mut connection = Connection::new(stream, shared.peers.limits.clone(), metrics.clone());
    let mut address = peer;
    if shared.peers.is_proxy(peer) {
        let told = match proxy::read_header(connection.inbox()).await {
            Ok(told) => told,
            Err(proxy::HeaderError::Closed) => return,
            Err(e) => {
                tracing::warn!(address = %peer, "refused a connection of a trusted proxy: {e}");
                return;
            }
        };
        if let Some(client) = told {
            address = client;
            if let Err(e) = place.belongs_to(Block::of(client)) {
                tracing::warn!(address = %client, "refused a connection: {e}");
                return;
            }
        }
    }
    let session = Session::new(shared, connection, address, place);
    session.run(stopped).await;
}

/// A user and what the login was.
#[derive(Debug, Clone)]
struct Login {
    user_id: i32,
    stamp: SessionStamp,
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

impl Login {
    fn of(user: &User) -> Self {
        Self {
            user_id: user.id,
            stamp: user.stamp.clone(),
        }
    }
}
