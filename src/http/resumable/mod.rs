//! Jobs that are made empty, and files that arrive in parts: tus 1.0 (<https://tus.io/protocols/resumable-upload>) with its extensions
//! creation, expiration, checksum and termination.
//!
//! A job is made by `POST /api/v1/jobs` with a JSON body, gets its files here, and is queued by `POST /api/v1/jobs/{id}/start`.

mod arriving;
mod draft;
mod headers;
mod part;
mod uploads;

use axum::{
    extract::{FromRequestParts, Path},
    http::{HeaderValue, StatusCode, request::Parts},
    middleware::map_response,
    response::Response,
};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) use self::{
    arriving::Arriving,
    draft::{DraftRequest, create as create_draft},
};
use super::{
    App,
    files::FilesError,
    problem::{Code, Problem},
    upload::{not_taken, over_quota, refused as not_kept},
};
use crate::{jobs::DraftError, store::StoreError};

/// The version of tus.
const VERSION: &str = "1.0.0";

/// Its extensions that there are.
const EXTENSIONS: &str = "creation,expiration,checksum,termination";

/// The checksums that are known. SHA-1 is the one that every server has to know.
const CHECKSUMS: &str = "sha1,sha256";

/// The routes of uploads, whose answers tell the version, and the start of a job.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(uploads::options, uploads::create))
        .routes(routes!(uploads::head, part::patch, uploads::remove))
        .layer(map_response(with_version))
        .routes(routes!(draft::start))
}

async fn with_version(mut response: Response) -> Response {
    let version = HeaderValue::from_static(VERSION);
    let is_other = response.status() == StatusCode::PRECONDITION_FAILED;
    let headers = response.headers_mut();
    if is_other {
        headers.insert("tus-version", version.clone());
    }
    headers.insert("tus-resumable", version);
    response
}

/// The numbers in `/api/v1/jobs/{id}/uploads/{number}`. What is not a number names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct UploadKey {
    job: i64,
    number: i32,
}

impl UploadKey {
    pub(super) fn path(job: i64, number: i32) -> String {
        format!("/api/v1/jobs/{job}/uploads/{number}")
    }
}

impl FromRequestParts<App> for UploadKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, app).await;
        let numbers = path.ok().and_then(|Path((job, number))| {
            let (job, number): (i64, i32) = (job.parse().ok()?, number.parse().ok()?);
            (job >= 0 && number >= 0).then_some(Self { job, number })
        });
        numbers.ok_or_else(no_such_upload)
    }
}

fn no_such_upload() -> Problem {
    let detail =
        "you have no such upload: it was removed, its job was started, or its time is over";
    Problem::new(Code::NotFound, detail)
}

/// Words why a draft or a file is not taken.
fn refused(e: DraftError) -> Problem {
    match e {
        DraftError::NoDraft => Problem::new(Code::NotFound, e),
        DraftError::NoFile => no_such_upload(),
        DraftError::Locked => Problem::new(Code::Locked, e),
        DraftError::Offset { .. } => Problem::new(Code::OffsetMismatch, e),
        DraftError::Beyond { .. } | DraftError::TooLong(_) => Problem::new(Code::TooLarge, e),
        DraftError::TooMany(_) | DraftError::Option(_) => Problem::new(Code::BadRequest, e),
        DraftError::Incomplete(_) => Problem::new(Code::Incomplete, e),
        DraftError::Changed => Problem::new(Code::Conflict, e),
        DraftError::Quota(e) => over_quota(e),
        DraftError::Submit(e) => not_taken(e),
        DraftError::Disk(e) => not_kept(FilesError::Disk(e)),
        DraftError::Store(e @ StoreError::TooManyDrafts(_)) => {
            Problem::new(Code::TooManyUploads, e)
        }
        DraftError::Store(e) => e.into(),
    }
}
