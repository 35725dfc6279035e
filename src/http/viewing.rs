//! A page for one person on this machine: `vggt view`. Served as long as a tab shows it.

use std::{
    convert::Infallible,
    fs::File,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response, Sse, sse::Event},
    routing::get,
};
use futures_util::stream;
use tokio::{net::TcpListener, sync::watch};

use super::download::pieces;

/// What a page asks for as long as it is open, relative to the page itself.
pub const ALIVE: &str = "alive";

/// How long no tab may show the page before the server ends: a reload takes less.
const AWAY: Duration = Duration::from_secs(3);

/// Time between signs of life, by which a tab that was closed is noticed at the latest.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// The page, and how many tabs show it.
struct Viewing {
    page: File,
    len: u64,
    tabs: watch::Sender<Tabs>,
}

/// The tabs that show the page.
#[derive(Debug, Clone, Copy, Default)]
struct Tabs {
    open: usize,
    /// Whether there ever was one: the first may be gone before anybody looks.
    any: bool,
}

/// One tab.
struct Tab(Arc<Viewing>);

impl Tab {
    fn open(viewing: Arc<Viewing>) -> Self {
        viewing.tabs.send_modify(|tabs| {
            tabs.open += 1;
            tabs.any = true;
        });
        Self(viewing)
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        self.0.tabs.send_modify(|tabs| tabs.open -= 1);
    }
}

/// Serves `page` below `/{secret}/` until the last tab that showed it was closed. The page asks for [`ALIVE`].
///
/// # Errors
/// When the length of the page cannot be read, or the listener fails.
pub async fn view(listener: TcpListener, secret: &str, page: File) -> io::Result<()> {
    let viewing = Arc::new(Viewing {
        len: page.metadata()?.len(),
        page,
        tabs: watch::Sender::new(Tabs::default()),
    });
    let router = Router::new()
        .route(&format!("/{secret}/"), get(send))
        .route(&format!("/{secret}/{ALIVE}"), get(alive))
        .with_state(viewing.clone());
    let mut tabs = viewing.tabs.subscribe();
    let closed = async move {
        // The sender lives as long as this.
        let _ = tabs.wait_for(|tabs| tabs.any).await;
        loop {
            let _ = tabs.wait_for(|tabs| tabs.open == 0).await;
            let again = tabs.wait_for(|tabs| tabs.open > 0);
            if tokio::time::timeout(AWAY, again).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        served = axum::serve(listener, router) => served,
        () = closed => Ok(()),
    }
}

async fn send(State(viewing): State<Arc<Viewing>>) -> Result<Response, StatusCode> {
    let failed = |e: io::Error| {
        tracing::error!("cannot read the page: {e}");
        StatusCode::INTERNAL_SERVER_ERROR
    };
    let file = viewing.page.try_clone().map_err(failed)?;
    let body = Body::from_stream(pieces(file, 0, viewing.len));
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let length = [(header::CONTENT_LENGTH, viewing.len)];
    Ok((headers, length, body).into_response())
}

async fn alive(State(viewing): State<Arc<Viewing>>) -> impl IntoResponse {
    let tab = Tab::open(viewing);
    let beats = stream::unfold((tab, Instant::now()), |(tab, next)| async move {
        tokio::time::sleep_until(next.into()).await;
        let beat = Ok::<_, Infallible>(Event::default().comment("alive"));
        Some((beat, (tab, next + HEARTBEAT)))
    });
    ([(header::CACHE_CONTROL, "no-store")], Sse::new(beats))
}
