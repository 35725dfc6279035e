//! One connection: its limits, and its end.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderMap, Request},
};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
};

use super::{App, patient::Patient, unread::Unread};
use crate::{
    metrics::Port,
    peers::{Block, Limits, Peers, Place},
};

/// Maximum bytes of a request's head: what nginx takes in all by default.
const HEAD_MAX: usize = 32 << 10;

/// Size of a connection's buffer, which holds a head and some of what follows.
const BUFFER: usize = 2 * HEAD_MAX;

/// Maximum number of a request's headers; hyper's own default.
const HEADERS_MAX: usize = 100;

/// Longest time for a head, a hundred years: a clock ends somewhat later.
const HEAD_TIME_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// What a request knows of its connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// The other end of the connection.
    pub(super) address: IpAddr,
    /// A proxy that is trusted to tell of its clients.
    is_proxy: bool,
    /// The connection itself is encrypted.
    is_tls: bool,
    pub(super) place: Arc<Place>,
    /// Read by the socket, see [`Patient`].
    is_narrow: Arc<AtomicBool>,
}

impl Peer {
    /// Returns the address of the client, which a trusted proxy tells in `X-Forwarded-For`: the last one that is not a trusted proxy
    /// itself, since those before it are the client's own words.
    pub(super) fn client(&self, headers: &HeaderMap, peers: &Peers) -> IpAddr {
        if !self.is_proxy {
            return self.address;
        }
        let lines = headers.get_all("x-forwarded-for").iter();
        let lines: Vec<&str> = lines.filter_map(|line| line.to_str().ok()).collect();
        let mut told = lines.iter().rev().flat_map(|line| line.rsplit(','));
        told.find_map(|text| {
            let Some(address) = address_of(text.trim()) else {
                // What cannot be read hides what stands before it.
                return Some(self.address);
            };
            (!peers.is_proxy(address)).then_some(address)
        })
        .unwrap_or(self.address)
    }

    /// From now on little is sent, now and then: what a peer does not read is not collected in the kernel for it.
    pub(super) fn expect_little(&self) {
        self.is_narrow.store(true, Relaxed);
    }

    /// As [`Peer::client`], and what of it counts.
    pub(super) fn block(&self, headers: &HeaderMap, peers: &Peers) -> Block {
        Block::of(self.client(headers, peers))
    }

    /// Returns true when the client speaks HTTPS, here or to a trusted proxy.
    pub(super) fn is_https(&self, headers: &HeaderMap) -> bool {
        if self.is_tls {
            return true;
        }
        let told = headers.get_all("x-forwarded-proto").iter().next_back();
        let told = told.and_then(|told| told.to_str().ok()).unwrap_or("");
        let nearest = told.rsplit(',').next().unwrap_or("").trim();
        self.is_proxy && nearest.eq_ignore_ascii_case("https")
    }

    /// Returns the name by which the client calls this service.
    pub(super) fn host<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let told = headers.get("x-forwarded-host").filter(|_| self.is_proxy);
        told.or_else(|| headers.get("host"))?.to_str().ok()
    }
}

/// Reads an address with or without a port.
fn address_of(text: &str) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().ok();
    let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address| address.to_canonical())
}

/// Answers the requests of one connection until it ends.
pub(super) async fn serve(
    stream: TcpStream,
    address: IpAddr,
    place: Arc<Place>,
    app: App,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    // Answers are written as a whole.
    let _ = stream.set_nodelay(true);
    let limits = &app.peers.limits;
    let peer = Peer {
        address,
        is_proxy: app.peers.is_proxy(address),
        is_tls: app.tls.is_some(),
        place: place.clone(),
        is_narrow: Arc::default(),
    };
    let metrics = &app.peers.metrics;
    let _open = metrics.connection(Port::Http);
    let is_narrow = peer.is_narrow.clone();
    let patient = |stream| Patient::new(stream, limits.stall, is_narrow, metrics.clone());
    let Some(tls) = &app.tls else {
        return answer(patient(stream), peer, limits, router, stopped).await;
    };
    let handshake = tls.accept(stream, limits.stall, patient);
    let accepted = tokio::select! {
        accepted = handshake => accepted,
        () = place.give_way() => return,
        _ = stopped.wait_for(|stopped| *stopped) => return,
    };
    match accepted {
        Ok(stream) => answer(stream, peer, limits, router, stopped).await,
        Err(e) => tracing::debug!(%address, "HTTPS connection ended: {e}"),
    }
}

/// Answers the requests that arrive on a stream until it ends.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    limits: &Limits,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let (address, place) = (peer.address, peer.place.clone());
    let router = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let unread = Unread::default();
        let answer = router.call(request.map(|body| unread.watch(body)));
        async move {
            let mut answer = answer.await?;
            unread.finish(answer.headers_mut()).await;
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Between two requests as well.
        .header_read_timeout(limits.stall.min(limits.idle).min(HEAD_TIME_MAX))
        .max_buf_size(BUFFER)
        .max_header_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = place.give_way() => {
            tracing::debug!(%address, "HTTP connection ended: another one needs its place");
            return;
        }
        () = async { let _ = stopped.wait_for(|stopped| *stopped).await; } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        tracing::debug!(%address, "HTTP connection ended: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::PeerSettings;

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let settings = PeerSettings {
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            ..PeerSettings::default()
        };
        let peers = Peers::new(settings, &[]);
        let address = peer.parse().unwrap();
        let peer = Peer {
            address,
            is_proxy: peers.is_proxy(address),
            is_tls: false,
            place: Arc::new(peers.enter(address).unwrap()),
            is_narrow: Arc::default(),
        };
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        peer.client(&headers, &peers).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_tells_the_address_of_its_client() {
        assert_eq!(client("192.0.2.1", &["192.0.2.9"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &["192.0.2.9"]), "192.0.2.9");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        // The client's own words come first.
        assert_eq!(client("10.0.0.1", &["127.0.0.1, 192.0.2.9"]), "192.0.2.9");
        assert_eq!(client("10.0.0.1", &["127.0.0.1", "192.0.2.9"]), "192.0.2.9");
        assert_eq!(client("10.0.0.1", &["192.0.2.9, 10.0.0.2"]), "192.0.2.9");
        assert_eq!(client("10.0.0.1", &["127.0.0.1, nonsense"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["[2001:db8::1]:4000"]), "2001:db8::1");
    }
}
