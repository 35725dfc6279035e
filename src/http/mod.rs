//! HTTP: what curl, load balancers and browsers speak, in front of the same [`crate::jobs`] and [`crate::store`] as the TCP port.
//!
//! Async. A connection is one task; blocking work runs on other threads. Every route is described in the OpenAPI document, which is
//! made from the handlers, and every error is an object of RFC 9457. The entry point is [`serve`].

mod artifacts;
mod auth;
mod behind;
mod connection;
mod cors;
mod download;
mod encoding;
mod events;
mod files;
mod finish;
mod health;
mod input;
mod jobs;
mod links;
mod metrics;
mod paced;
mod pages;
mod patient;
mod problem;
mod range;
mod rerun;
mod resumable;
mod routes;
mod service;
mod sessions;
mod setup;
mod shared;
mod stills;
mod tls;
mod tokens;
mod unread;
mod upload;
mod viewing;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use axum::Router;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, watch},
    task::JoinSet,
};

use self::{artifacts::Workplaces, cors::Origins, health::Readiness, problem::Problem};
pub use self::{
    cors::Origin,
    setup::Setup,
    tls::{Tls, TlsError},
    viewing::{ALIVE, view},
};
use crate::{jobs::Jobs, monitor::GpuMemory, peers::Peers, store::Store};

/// Pause after a failure to accept a connection, mostly for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a reader of metrics may take once the process stops.
const LAST_ANSWER: Duration = Duration::from_secs(2);

/// Settings of [`serve`].
#[derive(Debug, Default)]
pub struct HttpSettings {
    /// How long requests that run may go on after the stop.
    pub grace: Duration,
    /// The certificate; without one nothing is encrypted.
    pub tls: Option<Arc<Tls>>,
    /// Origins whose pages may use the API.
    pub origins: Vec<Origin>,
    /// The link that makes the first user.
    pub setup: Option<Setup>,
}

/// State that all requests share.
#[derive(Debug)]
struct Shared {
    peers: Arc<Peers>,
    store: Store,
    jobs: Jobs,
    /// What `/ready` last found, and when.
    ready: Mutex<Option<(Instant, Readiness)>>,
    workplaces: Workplaces,
    origins: Origins,
    setup: Option<Setup>,
    tls: Option<Arc<Tls>>,
    /// The GPUs, from the first look at the metrics on.
    gpus: OnceLock<GpuMemory>,
    /// Parts of uploads that arrive.
    arriving: resumable::Arriving,
    /// True once the server stops.
    stopped: watch::Receiver<bool>,
}

type App = Arc<Shared>;

/// Serves until `stopped` turns true; then accepts no more requests, lets those that run finish within the grace, and returns.
pub async fn serve(
    listener: TcpListener,
    settings: HttpSettings,
    peers: Arc<Peers>,
    store: Store,
    jobs: Jobs,
    mut stopped: watch::Receiver<bool>,
) {
    let grace = settings.grace;
    let app = state_of(settings, peers, store, jobs, stopped.clone());
    let router = routes::router(app.clone());
    accept_until(listener, app, router, grace, &mut stopped).await;
}

/// As [`serve`], for a process that takes no requests: only its health and its metrics.
pub async fn serve_metrics(
    listener: TcpListener,
    peers: Arc<Peers>,
    store: Store,
    jobs: Jobs,
    mut stopped: watch::Receiver<bool>,
) {
    let settings = HttpSettings::default();
    let app = state_of(settings, peers, store, jobs, stopped.clone());
    let router = routes::metrics_router(app.clone());
    accept_until(listener, app, router, LAST_ANSWER, &mut stopped).await;
}

fn state_of(
    settings: HttpSettings,
    peers: Arc<Peers>,
    store: Store,
    jobs: Jobs,
    stopped: watch::Receiver<bool>,
) -> App {
    Arc::new(Shared {
        peers,
        store,
        jobs,
        ready: Mutex::default(),
        workplaces: Workplaces::default(),
        origins: Origins(settings.origins),
        setup: settings.setup,
        tls: settings.tls,
        gpus: OnceLock::new(),
        arriving: resumable::Arriving::default(),
        stopped,
    })
}

async fn accept_until(
    listener: TcpListener,
    app: App,
    router: Router,
    grace: Duration,
    stopped: &mut watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let stop = stopped.clone();
    loop {
        let (stream, address) = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => break,
            // What has ended is forgotten.
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener) => accepted,
        };
        let peer = address.ip().to_canonical();
        let place = match app.peers.enter(peer) {
            Ok(place) => Arc::new(place),
            Err(e) => {
                tracing::warn!(%address, "refused an HTTP connection: {e}");
                continue;
            }
        };
        let serving = connection::serve(
            stream,
            peer,
            place,
            app.clone(),
            router.clone(),
            stop.clone(),
        );
        connections.spawn(serving);
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, all_ended).await.is_err() {
        tracing::warn!("some HTTP connections were cut off");
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(e) => {
                tracing::warn!("cannot accept an HTTP connection: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Runs `f` on a thread that may block.
async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(f).await.map_err(|e| {
        tracing::error!("cannot answer an HTTP request: {e}");
        Problem::internal()
    })
}
