//! What every answer has: headers that keep browsers from guessing, an object for every error, and a line in the log.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    App,
    connection::Peer,
    cors::Origins,
    problem::{PROBLEM_JSON, Problem},
};

/// Headers of every answer that does not set them itself. Nothing here is a page: what a browser takes for one may load and run nothing,
/// and no page of another origin may read it (without CORS) or frame it.
const HEADERS: [(&str, &str); 7] = [
    ("x-content-type-options", "nosniff"),
    (
        "content-security-policy",
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
    // A link that somebody published is not to be found by its words.
    ("x-robots-tag", "noindex"),
];

/// The type of a form that is shown again with what was wrong.
const HTML: &str = "text/html; charset=utf-8";

/// Paths that machines ask for again and again.
const QUIET: [&str; 3] = ["/health", "/ready", "/metrics"];

/// Who has asked, for the log; empty until that is known.
#[derive(Debug, Clone, Default)]
pub(super) struct UserName(Arc<OnceLock<String>>);

impl UserName {
    pub(super) fn set(&self, name: &str) {
        let _ = self.0.set(name.to_owned());
    }
}

/// Answers a request and completes the answer.
pub(super) async fn finish(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let start = Instant::now();
    let (method, path) = (request.method().clone(), shown(request.uri().path()));
    let peer = request.extensions().get::<Peer>();
    let address = peer.map(|peer| peer.client(request.headers(), &app.peers));
    let user = UserName::default();
    request.extensions_mut().insert(user.clone());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let origin = app.origins.of(request.headers()).cloned();
    let mut response = match app.origins.preflight(&request) {
        Some(allowed) => allowed,
        None => as_problem(next.run(request).await),
    };
    Origins::allow(origin, response.headers_mut());
    for (name, value) in HEADERS {
        let headers = response.headers_mut();
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    let user = user.0.get().map_or("-", String::as_str);
    let (status, took) = (response.status().as_u16(), start.elapsed());
    let duration_ms = took.as_millis() as u64;
    // Never the path itself, of which there are as many as peers invent.
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let metrics = &app.peers.metrics;
    metrics.request(route, method.as_str(), status, took);
    let address = address.map_or_else(|| "-".to_owned(), |address| address.to_string());
    if QUIET.contains(&path.as_str()) {
        tracing::debug!(
            user,
            duration_ms,
            address,
            "{method} {path} by {user}: {status}"
        );
    } else {
        tracing::info!(
            user,
            duration_ms,
            address,
            "{method} {path} by {user}: {status}"
        );
    }
    response
}

/// Returns a path as the log shows it: without a secret.
fn shown(path: &str) -> String {
    let mut prefixes = ["/s/", "/setup/"].into_iter();
    let found = prefixes.find_map(|prefix| Some((prefix, path.strip_prefix(prefix)?)));
    let Some((prefix, rest)) = found else {
        return path.to_owned();
    };
    let file = rest.find('/').map_or("", |slash| &rest[slash..]);
    format!("{prefix}...{file}")
}

/// Gives an error of axum, which is plain text or empty, its object.
fn as_problem(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    if status.is_success()
        || status.is_redirection()
        || kind.is_some_and(|kind| kind == PROBLEM_JSON || kind == HTML)
    {
        return response;
    }
    let allow = response.headers().get(header::ALLOW).cloned();
    let mut problem = Problem::of_status(status).into_response();
    if let Some(allow) = allow {
        problem.headers_mut().insert(header::ALLOW, allow);
    }
    problem
}

/// Answers a request whose handler panicked. The panic is in the log already.
pub(super) fn of_panic(_: Box<dyn std::any::Any + Send>) -> Response {
    Problem::internal().into_response()
}
