//! What requests carry besides files: small JSON bodies, and the key of a job in a path.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{header, request::Parts},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::{
    App,
    problem::{Code, Problem},
};

/// Maximum bytes of a JSON body or a form. The longest is a login or the names of a job; a page of a browser sends less.
const JSON_MAX: usize = 64 << 10;

/// Longest life of a token or a link that ends, ten years.
const DAYS_MAX: u32 = 3650;

/// Returns when something ends that was asked for with `expires_in_days`; `None`: never.
pub(super) fn end_after(days: Option<u32>) -> Result<Option<Timestamp>, Problem> {
    match days {
        None => Ok(None),
        Some(days @ 1..=DAYS_MAX) => {
            let end = Timestamp::now() + SignedDuration::from_hours(24 * i64::from(days));
            Ok(Some(end))
        }
        Some(days) => Err(Problem::new(
            Code::BadRequest,
            format!("cannot use {days} as expires_in_days: expected 1 to {DAYS_MAX}"),
        )),
    }
}

/// A JSON body, which arrives within the stall timeout.
#[derive(Debug)]
pub(super) struct Input<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<App> for Input<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        // A form of another origin cannot send this type.
        let body = body(request, app, "application/json").await?;
        // An object: serde would take an array for one as well.
        let fields = serde_json::from_slice::<Map<String, Value>>(&body);
        let input = fields.and_then(|fields| serde_json::from_value(Value::Object(fields)));
        let input = input.map_err(|e| {
            Problem::new(
                Code::BadRequest,
                format!("cannot use the JSON of the body: {e}"),
            )
        })?;
        Ok(Self(input))
    }
}

/// The body of a form without files, which arrives within the stall timeout.
#[derive(Debug)]
pub(super) struct Form<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<App> for Form<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let body = body(request, app, "application/x-www-form-urlencoded").await?;
        let input = serde_urlencoded::from_bytes(&body).map_err(|e| {
            let detail = format!("cannot use the form of the body: {e}");
            Problem::new(Code::BadRequest, detail)
        })?;
        Ok(Self(input))
    }
}

/// Reads a small body of a type.
async fn body(request: Request, app: &App, expected: &str) -> Result<Bytes, Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let essence = kind.split(';').next().unwrap_or("").trim();
    if !essence.eq_ignore_ascii_case(expected) {
        let detail = format!("expected a body of type {expected}");
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    let body = Limited::new(request.into_body(), JSON_MAX).collect();
    match timeout(app.peers.limits.stall, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => {
            let detail = format!("expected at most {JSON_MAX} bytes");
            Err(Problem::new(Code::TooLarge, detail))
        }
        Ok(Err(_)) => Err(Problem::new(Code::BadRequest, "the body ended early")),
        Err(_) => Err(Problem::new(
            Code::RequestTimeout,
            "the body did not arrive in time",
        )),
    }
}

/// The number in a path such as `/api/v1/jobs/{id}`. What is not a number names nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key(pub(super) i64);

/// The number in a path, and what stands behind it, such as `/api/v1/jobs/{id}/artifacts/{format}`.
#[derive(Debug, Clone)]
pub(super) struct KeyAnd(pub(super) i64, pub(super) String);

impl FromRequestParts<App> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, app).await;
        let Path(text) = path.map_err(|_| names_nothing())?;
        number(&text).map(Self)
    }
}

impl FromRequestParts<App> for KeyAnd {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, app).await;
        let Path((text, rest)) = path.map_err(|_| names_nothing())?;
        Ok(Self(number(&text)?, rest))
    }
}

fn number(text: &str) -> Result<i64, Problem> {
    let number = text.parse().ok().filter(|number| *number >= 0);
    number.ok_or_else(names_nothing)
}

fn names_nothing() -> Problem {
    Problem::new(
        Code::NotFound,
        "the path names nothing: expected a number in it",
    )
}
