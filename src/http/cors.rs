//! CORS: which pages of other origins may use the API. None, unless the operator lists them.
//!
//! They send a token, never the cookie: the answers do not allow credentials.

use std::str::FromStr;

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};

/// What pages may send.
const METHODS: &str = "GET, HEAD, POST, PATCH, DELETE";
const SENT: &str = "authorization, content-type, range, if-range, if-none-match, last-event-id, tus-resumable, upload-length, \
    upload-metadata, upload-offset, upload-checksum";

/// What pages may read of an answer beside its body.
const READ: &str = "accept-ranges, content-disposition, content-length, content-range, etag, location, retry-after, \
    tus-resumable, tus-version, tus-extension, tus-max-size, tus-checksum-algorithm, upload-expires, upload-length, upload-metadata, \
    upload-offset, vggt-units-per-value";

/// Seconds for which a browser remembers what is allowed; none keeps it longer than two hours.
const REMEMBERED: &str = "7200";

/// An origin: scheme, host, and a port unless it is the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a scheme and a host such as https://app.example.org, with a port if it has one, and no path";
        let (scheme, host) = text.split_once("://").ok_or(EXPECTED)?;
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
        let fine = !scheme.is_empty()
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            && !host.is_empty()
            && host.chars().all(is_host);
        match fine {
            // As browsers write it.
            true => Ok(Self(text.to_ascii_lowercase())),
            false => Err(EXPECTED),
        }
    }
}

/// The origins whose pages may use the API.
#[derive(Debug, Clone, Default)]
pub(super) struct Origins(pub(super) Vec<Origin>);

impl Origins {
    /// Returns the origin that a request comes from, if it is one of these.
    pub(super) fn of<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        let known = |listed: &Origin| listed.0.as_bytes() == origin.as_bytes();
        self.0.iter().any(known).then_some(origin)
    }

    /// Answers a browser that asks before it sends a request.
    pub(super) fn preflight(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        let asks = request.method() == Method::OPTIONS
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        self.of(headers).filter(|_| asks)?;
        let allowed = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, SENT),
            (header::ACCESS_CONTROL_MAX_AGE, REMEMBERED),
        ];
        Some((StatusCode::NO_CONTENT, allowed).into_response())
    }

    /// Lets the page read an answer to a request with `origin`, which is one of these.
    pub(super) fn allow(origin: Option<HeaderValue>, answer: &mut HeaderMap) {
        let Some(origin) = origin else { return };
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let exposed = HeaderValue::from_static(READ);
        answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        answer.append(header::VARY, HeaderValue::from_static("origin"));
        let cross: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
        answer.insert(cross, HeaderValue::from_static("cross-origin"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_no_path_and_no_pattern() {
        for good in [
            "https://app.example.org",
            "http://[::1]:3000",
            "capacitor://localhost",
        ] {
            assert_eq!(good.parse(), Ok(Origin(good.to_owned())));
        }
        assert_eq!(
            "HTTPS://App.test".parse(),
            Ok(Origin("https://app.test".to_owned()))
        );
        for bad in [
            "",
            "*",
            "null",
            "app.example.org",
            "https://",
            "https://a/",
            "https://*.a",
            "https://a b",
            "://a",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }
}
