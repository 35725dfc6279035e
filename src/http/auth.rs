//! Who asks: the session's cookie or a bearer token, and that a cookie is not used by a page of another origin.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};

use super::{
    App, blocking,
    connection::Peer,
    finish::UserName,
    problem::{Code, Problem},
};
use crate::store::{AccessToken, User};

/// Name of the session's cookie.
pub(super) const COOKIE: &str = "vggt_session";

/// The user who asks, and by which session or token.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) user: Arc<User>,
    pub(super) token: AccessToken,
}

impl Caller {
    /// Returns an error for a named token: what it may not do, so that one that leaked cannot make others.
    pub(super) fn needs_session(&self) -> Result<(), Problem> {
        if self.token.name.is_some() {
            let detail = "a named token cannot do this: log in";
            return Err(Problem::new(Code::SessionRequired, detail));
        }
        Ok(())
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let headers = &parts.headers;
        let peer = parts.extensions.get::<Peer>();
        let peer = peer.ok_or_else(Problem::internal)?;
        // A browser adds the cookie by itself, but never this header.
        let (secret, by_cookie) = match headers.contains_key(header::AUTHORIZATION) {
            true => (bearer(headers), false),
            false => (cookie(headers), true),
        };
        let secret = secret.ok_or_else(not_logged_in)?.to_owned();
        if !parts.method.is_safe() {
            check_origin(app, peer, headers, by_cookie)?;
        }
        let store = app.store.clone();
        let found = blocking(move || store.user_of_secret(&secret)).await??;
        let (user, token) = found.ok_or_else(not_logged_in)?;
        peer.place.set_logged_in(true);
        if let Some(name) = parts.extensions.get::<UserName>() {
            name.set(&user.username);
        }
        Ok(Self {
            user: user.into(),
            token,
        })
    }
}

fn not_logged_in() -> Problem {
    let detail = "log in with POST /api/v1/sessions, or send a token as `Authorization: Bearer`";
    Problem::new(Code::NotLoggedIn, detail)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(secret.trim())
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';'));
    pairs.find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    })
}

/// Refuses a request that changes something and comes from a page of another origin. A browser tells where it comes from in
/// `Sec-Fetch-Site`, or, older ones, in `Origin`; with a cookie one of them must be there.
pub(super) fn check_origin(
    app: &App,
    peer: &Peer,
    headers: &HeaderMap,
    by_cookie: bool,
) -> Result<(), Problem> {
    // Such a page has no use of the cookie.
    if !by_cookie && app.origins.of(headers).is_some() {
        return Ok(());
    }
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    let is_own = match (text("sec-fetch-site"), text("origin")) {
        // "none" is the user's own doing, such as a bookmark.
        (Some(site), _) => ["same-origin", "none"].contains(&site),
        (None, Some(origin)) => is_origin_of(origin, peer.host(headers)),
        (None, None) => !by_cookie,
    };
    if is_own {
        return Ok(());
    }
    let detail = match by_cookie {
        true => {
            "with a cookie this needs a header Sec-Fetch-Site or Origin that names this service; programs send a token instead"
        }
        false => "this comes from a page of another origin",
    };
    Err(Problem::new(Code::CrossSite, detail))
}

fn is_origin_of(origin: &str, host: Option<&str>) -> bool {
    let Some((scheme, of)) = origin.split_once("://") else {
        return false;
    };
    ["http", "https"].contains(&scheme) && host.is_some_and(|host| host.eq_ignore_ascii_case(of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_compared_whole() {
        let own = |origin| is_origin_of(origin, Some("vggt.test:4568"));
        assert!(own("http://vggt.test:4568") && own("https://VGGT.test:4568"));
        for other in [
            "http://vggt.test",
            "http://vggt.test:4568.evil.test",
            "http://evil.test/vggt.test:4568",
            "null",
            "",
            "file://vggt.test:4568",
        ] {
            assert!(!own(other), "{other}");
        }
        assert!(!is_origin_of("http://vggt.test", None));
    }

    #[test]
    fn a_cookie_is_found_among_others_and_only_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(
            "cookie",
            "a=b; xvggt_session=1;vggt_session=two".parse().unwrap(),
        );
        assert_eq!(cookie(&headers), Some("two"));
        headers.clear();
        headers.append("cookie", "vggt_session2=1; vggt_session".parse().unwrap());
        assert_eq!(cookie(&headers), None);
    }
}
