//! The web app: one page for all its addresses, and the files that it loads. Nothing here is secret, and nothing needs a login.

use std::{collections::HashMap, sync::LazyLock};

use axum::{
    extract::Path,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

use super::{
    problem::{Code, Problem},
    range::is_known,
};
use crate::web;

/// Addresses of the app: its script decides what each shows. Those of links, `/s/{link}`, are in [`super::shared`].
pub(super) const ADDRESSES: [&str; 5] = ["/", "/login", "/new", "/account", "/jobs/{id}"];

/// What the page may do: load and run what this service sends, show pictures that it made itself, and ask this service.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The files that the page loads, with their types.
const TYPES: [(&str, &str); 3] = [
    ("js", "text/javascript; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("svg", "image/svg+xml"),
];

/// The ETag of each file.
static TAGS: LazyLock<HashMap<&str, String>> = LazyLock::new(|| {
    let of_file = |name| Some((name, tag(web::file(name)?)));
    web::names().filter_map(of_file).collect()
});

fn tag(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hex: String = digest[..16].iter().map(|b| format!("{b:02x}")).collect();
    format!("\"{hex}\"")
}

/// Sends the page of the app.
pub(super) async fn app() -> Response {
    let kind = (header::CONTENT_TYPE, "text/html; charset=utf-8");
    let policy = (header::CONTENT_SECURITY_POLICY, POLICY);
    match web::text("index.html") {
        Some(page) => ([kind, policy], page).into_response(),
        None => (StatusCode::NOT_FOUND, [kind], without_app()).into_response(),
    }
}

fn without_app() -> String {
    let what = web::MISSING;
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>vggt</title>\n<h1>vggt</h1>\n\
         <p>This page is missing: {what}.\n\
         <p>The API is there, <a href=\"/api/v1/openapi.json\">/api/v1/openapi.json</a> describes it.\n</html>\n"
    )
}

/// Sends a file of the app.
pub(super) async fn asset(
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let none = || Problem::new(Code::NotFound, "the web app has no such file");
    let ending = name.rsplit('.').next().unwrap_or_default();
    let kind = TYPES.iter().find(|(known, _)| *known == ending);
    let (Some((_, kind)), Some(bytes), Some(tag)) =
        (kind, web::file(&name), TAGS.get(name.as_str()))
    else {
        return Err(none());
    };
    // Weak, since it may be compressed on its way. Asked for again with each page, which costs a line.
    let about = [
        (header::ETAG, format!("W/{tag}")),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
    ];
    Ok(match is_known(&headers, tag) {
        true => (StatusCode::NOT_MODIFIED, about).into_response(),
        false => (about, [(header::CONTENT_TYPE, *kind)], bytes).into_response(),
    })
}

/// Returns whether a request comes from a browser that wants something to show, not from a program or a script.
pub(super) fn wants_page(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT);
    accepted.is_some_and(|accepted| {
        let text = accepted.to_str().unwrap_or_default();
        text.split(',')
            .any(|kind| kind.trim().starts_with("text/html"))
    })
}
