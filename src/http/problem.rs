//! Errors as objects of RFC 9457, `application/problem+json`.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::store::StoreError;

/// The type of every error's body.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// Seconds after which a client may try again when the queue is full: some jobs take so long.
const RETRY_AFTER: &str = "30";

/// What went wrong, in one stable word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Code {
    /// The request cannot be understood.
    BadRequest,
    /// There is nothing under this path, or nothing of this user.
    NotFound,
    /// The path has other methods.
    MethodNotAllowed,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The body is too long.
    TooLarge,
    /// The body is of another type.
    UnsupportedMediaType,
    /// There is no session or token, or it has ended.
    NotLoggedIn,
    /// The name or the password is wrong.
    WrongLogin,
    /// Too many passwords were wrong; this one was not looked at.
    TooManyLogins,
    /// The request comes from a page of another origin.
    CrossSite,
    /// This is not for everybody.
    Forbidden,
    /// A named token may not do this.
    SessionRequired,
    /// The state of things does not allow it.
    Conflict,
    /// What the result was made of is not kept.
    NotKept,
    /// Files of the job have not arrived as a whole.
    Incomplete,
    /// The part does not begin where the upload ends.
    OffsetMismatch,
    /// The part has another checksum.
    ChecksumMismatch,
    /// Another request writes the upload.
    Locked,
    /// The client speaks another version of tus.
    TusVersion,
    /// The file has no such bytes.
    RangeNotSatisfiable,
    /// The length of the body is not announced.
    LengthRequired,
    /// Too many uploads of the user arrive at the same time.
    TooManyUploads,
    /// Too many event streams are open.
    TooManyEvents,
    /// The user holds as much as is allowed.
    QuotaExceeded,
    /// The queue is full, or the server stops.
    Busy,
    /// Something this service depends on is missing.
    NotReady,
    /// The disk is full.
    DiskFull,
    /// The fault is the server's.
    Internal,
    /// Any other status.
    Other,
}

impl Code {
    fn word(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::NotLoggedIn => "not_logged_in",
            Self::WrongLogin => "wrong_login",
            Self::TooManyLogins => "too_many_logins",
            Self::CrossSite => "cross_site",
            Self::Forbidden => "forbidden",
            Self::SessionRequired => "session_required",
            Self::Conflict => "conflict",
            Self::NotKept => "not_kept",
            Self::Incomplete => "incomplete",
            Self::OffsetMismatch => "offset_mismatch",
            Self::ChecksumMismatch => "checksum_mismatch",
            Self::Locked => "locked",
            Self::TusVersion => "tus_version",
            Self::RangeNotSatisfiable => "range_not_satisfiable",
            Self::LengthRequired => "length_required",
            Self::TooManyUploads => "too_many_uploads",
            Self::TooManyEvents => "too_many_events",
            Self::QuotaExceeded => "quota_exceeded",
            Self::Busy => "busy",
            Self::NotReady => "not_ready",
            Self::DiskFull => "disk_full",
            Self::Internal => "internal",
            Self::Other => "other",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::BadRequest | Self::Other => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotLoggedIn => StatusCode::UNAUTHORIZED,
            Self::WrongLogin => StatusCode::UNAUTHORIZED,
            Self::TooManyLogins => StatusCode::TOO_MANY_REQUESTS,
            Self::CrossSite => StatusCode::FORBIDDEN,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::SessionRequired => StatusCode::FORBIDDEN,
            Self::Conflict | Self::NotKept => StatusCode::CONFLICT,
            Self::Incomplete | Self::OffsetMismatch => StatusCode::CONFLICT,
            // The status that tus has for it, which HTTP does not know.
            Self::ChecksumMismatch => StatusCode::from_u16(460).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Locked => StatusCode::LOCKED,
            Self::TusVersion => StatusCode::PRECONDITION_FAILED,
            Self::RangeNotSatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::LengthRequired => StatusCode::LENGTH_REQUIRED,
            Self::TooManyUploads => StatusCode::TOO_MANY_REQUESTS,
            Self::TooManyEvents => StatusCode::TOO_MANY_REQUESTS,
            Self::QuotaExceeded => StatusCode::INSUFFICIENT_STORAGE,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotReady => StatusCode::SERVICE_UNAVAILABLE,
            Self::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns the code of an error that has only a status.
    fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::BAD_REQUEST => Self::BadRequest,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::REQUEST_TIMEOUT => Self::RequestTimeout,
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            StatusCode::INTERNAL_SERVER_ERROR => Self::Internal,
            _ => Self::Other,
        }
    }
}

/// An error as RFC 9457 has it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Problem {
    /// `urn:vggt:problem:` and the code.
    #[serde(rename = "type")]
    kind: String,
    /// The status in words.
    title: String,
    /// The status of the response.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What went wrong, in one stable word.
    code: Code,
    /// What was tried, and what helps.
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    /// What is missing, of `/ready`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<&'static str>,
}

impl Problem {
    pub(super) fn new(code: Code, detail: impl ToString) -> Self {
        Self::with_status(code.status(), code, detail)
    }

    fn with_status(status: StatusCode, code: Code, detail: impl ToString) -> Self {
        let title = match code {
            Code::ChecksumMismatch => "Checksum Mismatch",
            _ => status.canonical_reason().unwrap_or("Error"),
        };
        Self {
            kind: format!("urn:vggt:problem:{}", code.word()),
            title: title.to_owned(),
            status: status.as_u16(),
            code,
            detail: detail.to_string(),
            missing: Vec::new(),
        }
    }

    /// Returns that of a response that says no more than its status.
    pub(super) fn of_status(status: StatusCode) -> Self {
        let code = Code::of(status);
        let detail = match code {
            Code::NotFound => {
                "there is nothing under this path; /api/v1/openapi.json lists what there is"
            }
            Code::MethodNotAllowed => "the path takes the methods of the header Allow",
            _ => "",
        };
        Self::with_status(status, code, detail)
    }

    /// Returns the one whose cause is in the log.
    pub(super) fn internal() -> Self {
        Self::new(Code::Internal, "the server failed; its log has the cause")
    }

    /// Adds what is missing.
    #[must_use]
    pub(super) fn missing(self, missing: Vec<&'static str>) -> Self {
        Self { missing, ..self }
    }
}

impl From<StoreError> for Problem {
    fn from(e: StoreError) -> Self {
        // Details of the database are for the operator.
        tracing::error!("cannot answer an HTTP request: {e}");
        if e.is_disk_full() {
            return Self::new(Code::DiskFull, "the server's disk is full");
        }
        if e.is_passing() {
            return Self::new(
                Code::NotReady,
                "the server's database or disk failed; try again",
            );
        }
        Self::new(Code::Internal, "the server's database failed")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let kind = (header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        let mut response = (status, [kind], body).into_response();
        if self.code == Code::Busy {
            let wait = HeaderValue::from_static(RETRY_AFTER);
            response.headers_mut().insert(header::RETRY_AFTER, wait);
        }
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            let headers = response.headers_mut();
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
