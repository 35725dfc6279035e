//! `/metrics`, for Prometheus.

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, header},
    response::IntoResponse,
};

use super::{
    App, blocking,
    connection::Peer,
    problem::{Code, Problem},
};
use crate::{metrics::Gauges, monitor};

/// The type of the text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Headers by which a proxy tells that it speaks for somebody else.
const FORWARDED: [&str; 5] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-real-ip",
];

/// Returns what the service counts, to this machine and the networks that its operator allows, and never through a proxy.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "health", responses(
    (status = 200, description = "The metrics, in the text format of Prometheus", body = String, content_type = "text/plain"),
    (status = 403, description = "`forbidden`: not for this address, or not through a proxy",
        body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn metrics(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let is_forwarded = FORWARDED.iter().any(|name| headers.contains_key(*name));
    if is_forwarded || !app.peers.may_read_metrics(peer.address) {
        let detail = "metrics are for this machine and for networks that the operator allows, without a proxy in between";
        return Err(Problem::new(Code::Forbidden, detail));
    }
    let text = blocking(move || {
        let load = app.jobs.load();
        let now = Gauges {
            waiting_vip: load.queued_vip,
            waiting: load.queued - load.queued_vip,
            running: load.running,
            uploads: app.jobs.uploads(),
            event_streams: app.peers.event_streams(),
            resident_bytes: monitor::own_resident_bytes(),
            disk: (app.store.disk_space()).map(|disk| (disk.free, disk.total)),
            gpus: app.gpus.get_or_init(monitor::GpuMemory::open).read(),
        };
        app.peers.metrics.to_text(&now)
    });
    Ok(([(header::CONTENT_TYPE, TEXT)], text.await?))
}
