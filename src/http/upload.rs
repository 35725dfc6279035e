//! A job and its files in one request: `multipart/form-data`, written to disk as it arrives.

use std::{sync::Arc, time::SystemTime};

use axum::{
    Json,
    body::Body,
    extract::{FromRequest, Multipart, Request, State, multipart::Field},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use serde_json::{Map, Value};
use tokio::time::timeout_at;
use utoipa::ToSchema;

use super::{
    App,
    auth::Caller,
    behind::{Behind, Sink, written},
    blocking,
    files::{Files, FilesError, Received},
    jobs::{Job, no_such_job},
    paced::{Paced, Progress, linger},
    problem::{Code, Problem},
    resumable::{DraftRequest, create_draft},
};
use crate::{
    jobs::{self, BadOption, JobNames, JobOptions, JobRequest, QuotaError, SubmitError},
    store::User,
};

/// Maximum bytes of the options: names of thousands of images fit.
const OPTIONS_MAX: usize = 1 << 20;

/// Bytes of a request beside its files: the options, and the head of each part.
const BESIDE_FILES: u64 = 4 << 20;

/// The parts of a request that makes a job.
#[derive(ToSchema)]
#[allow(
    dead_code,
    reason = "describes the form; the parts are read one by one"
)]
pub(super) struct JobForm {
    /// One video, or images in order; repeated.
    #[schema(value_type = Vec<String>, format = Binary)]
    files: Vec<u8>,
    /// A JSON object with the options of the reconstruction, those that `vggt client` and the TCP port take.
    #[schema(value_type = Option<Object>)]
    options: Option<String>,
}

/// What was asked for beside the files.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) options: JobOptions,
    pub(super) names: JobNames,
}

/// Makes a job of one video or of images; with a JSON body an empty one, whose files are uploaded in parts.
#[utoipa::path(post, path = "/api/v1/jobs", operation_id = "create_job", tag = "jobs", security(("bearer" = []), ("cookie" = [])),
    request_body(content((JobForm = "multipart/form-data"), (DraftRequest = "application/json"))), responses(
    (status = 201, description = "The job is on the disk, and runs in its turn or waits for its files", body = Job,
        headers(("Location" = String, description = "Where the job is"))),
    (status = 411, description = "`length_required`", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "`too_large`", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "`too_many_uploads` at the same time, or too many jobs that wait for their files",
        body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`busy`: the queue is full, or the server stops",
        body = Problem, content_type = "application/problem+json"),
    (status = 507, description = "`quota_exceeded` by the user, or `disk_full`", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn submit(
    State(app): State<App>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    if is_json(request.headers()) {
        return create_draft(app, caller, request).await;
    }
    let (parts, body) = request.into_parts();
    let (paced, progress) = Paced::new(body, &app.peers.limits);
    let length = content_length(&parts.headers)?;
    let admitted = admit(&app, &caller.user, length).await;
    let upload = match admitted {
        Ok(upload) => upload,
        Err(problem) => {
            drain(&app, Rest::Raw(paced), length, &progress).await;
            return Err(problem);
        }
    };
    let request = Request::from_parts(parts, Body::from_stream(paced));
    let multipart = Multipart::from_request(request, &()).await;
    let mut multipart = multipart.map_err(|e| {
        let detail = format!(
            "expected a body of type multipart/form-data or application/json: {}",
            e.body_text()
        );
        Problem::new(Code::UnsupportedMediaType, detail)
    })?;
    let received = receive(&app, &mut multipart, &progress).await;
    let (mut received, asked) = match received {
        Ok(received) => received,
        Err(problem) => {
            drain(&app, Rest::Parts(multipart), length, &progress).await;
            return Err(problem);
        }
    };
    received.folder.count(upload);
    let job = queue(&app, caller, received, asked).await?;
    let place = [(header::LOCATION, format!("/api/v1/jobs/{}", job.id))];
    Ok((StatusCode::CREATED, place, Json(job)).into_response())
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let essence = kind.split(';').next().unwrap_or("").trim();
    essence.eq_ignore_ascii_case("application/json")
}

pub(super) fn content_length(headers: &HeaderMap) -> Result<u64, Problem> {
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    length.ok_or_else(|| {
        let detail = "expected a header Content-Length: the space is counted before the upload";
        Problem::new(Code::LengthRequired, detail)
    })
}

/// Counts an upload before it is read.
async fn admit(app: &App, user: &Arc<User>, length: u64) -> Result<jobs::Upload, Problem> {
    let max = app.peers.limits.upload_bytes.saturating_add(BESIDE_FILES);
    if length > max {
        return Err(too_large(app));
    }
    let (jobs, user_id) = (app.jobs.clone(), user.id);
    let begun = blocking(move || jobs.begin_upload(user_id, length)).await?;
    begun.map_err(over_quota)
}

pub(super) fn over_quota(e: QuotaError) -> Problem {
    match e {
        QuotaError::Uploads { .. } => Problem::new(Code::TooManyUploads, e),
        QuotaError::Disk { .. } => Problem::new(Code::DiskFull, e),
        QuotaError::Store(e) => e.into(),
        e => Problem::new(Code::QuotaExceeded, e),
    }
}

fn too_large(app: &App) -> Problem {
    let max = app.peers.limits.upload_bytes;
    Problem::new(Code::TooLarge, format!("at most {max} bytes are taken"))
}

/// Reads all parts.
async fn receive(
    app: &App,
    multipart: &mut Multipart,
    progress: &Progress,
) -> Result<(Received, Asked), Problem> {
    let failed = |e: &dyn std::error::Error| broken(e, progress);
    let (store, images) = (app.store.clone(), app.peers.limits.images);
    let begun = blocking(move || Files::begin(&store, images)).await?;
    let mut files = begun.map_err(refused)?;
    let mut asked = None;
    let mut left = app.peers.limits.upload_bytes;
    loop {
        let field = multipart.next_field().await.map_err(|e| failed(&e))?;
        progress.passed_on();
        let Some(mut field) = field else { break };
        match field.name() {
            Some("files") => {
                let name = field.file_name().map(str::to_owned);
                files = on_disk(files, move |files| files.next(name.as_deref())).await?;
                files = copy(app, files, &mut field, &mut left, progress).await?;
            }
            Some("options") if asked.is_none() => {
                let text = text(&mut field, progress).await?;
                asked = Some(options(app, &text)?);
            }
            name => {
                let detail = format!(
                    "unexpected part {:?}: expected `files`, and `options` once at most",
                    name.unwrap_or_default()
                );
                return Err(Problem::new(Code::BadRequest, detail));
            }
        }
    }
    let received = blocking(move || files.finish()).await?.map_err(refused)?;
    let mut asked = match asked {
        Some(asked) => asked,
        None => options(app, "{}")?,
    };
    if asked.names.names.is_empty() {
        asked.names.names.clone_from(&received.names);
    }
    Ok((received, asked))
}

/// Calls `change` on a thread that may block.
async fn on_disk(
    mut files: Files,
    change: impl FnOnce(&mut Files) -> Result<(), FilesError> + Send + 'static,
) -> Result<Files, Problem> {
    let changed = blocking(move || change(&mut files).map(|()| files)).await?;
    changed.map_err(refused)
}

/// Writes one file, whatever its length.
async fn copy(
    app: &App,
    files: Files,
    field: &mut Field<'_>,
    left: &mut u64,
    progress: &Progress,
) -> Result<Files, Problem> {
    let mut behind = Behind::new(files);
    while let Some(chunk) = field.chunk().await.map_err(|e| broken(&e, progress))? {
        progress.passed_on();
        let rest = left.checked_sub(chunk.len() as u64);
        *left = rest.ok_or_else(|| too_large(app))?;
        behind.push(&chunk).await?;
    }
    progress.passed_on();
    written(behind).await
}

impl Sink for Files {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        Self::take(self, bytes).map_err(refused)
    }
}

async fn text(field: &mut Field<'_>, progress: &Progress) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|e| broken(&e, progress))? {
        progress.passed_on();
        if bytes.len() + chunk.len() > OPTIONS_MAX {
            let detail = format!("expected at most {OPTIONS_MAX} bytes of options");
            return Err(Problem::new(Code::TooLarge, detail));
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes)
        .map_err(|_| Problem::new(Code::BadRequest, "the options are not UTF-8"))
}

fn options(app: &App, text: &str) -> Result<Asked, Problem> {
    let fields = serde_json::from_str::<Map<String, Value>>(text);
    let fields = fields
        .map_err(|e| Problem::new(Code::BadRequest, format!("cannot use the options: {e}")))?;
    asked(app, fields)
}

/// Reads and checks options.
pub(super) fn asked(app: &App, mut fields: Map<String, Value>) -> Result<Asked, Problem> {
    let bad = |e: BadOption| Problem::new(Code::BadRequest, e);
    let settings = app.jobs.settings();
    let names = JobNames::take(&mut fields).map_err(bad)?;
    let options = settings.options.with_request(&fields).map_err(bad)?;
    options.check(settings).map_err(bad)?;
    Ok(Asked { options, names })
}

pub(super) fn refused(e: FilesError) -> Problem {
    match &e {
        FilesError::Disk(io) => {
            tracing::error!("cannot keep an upload: {e}");
            use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
            match io.kind() {
                StorageFull | QuotaExceeded | FileTooLarge => {
                    Problem::new(Code::DiskFull, "the server's disk is full")
                }
                _ => Problem::new(Code::NotReady, "the server could not keep the upload"),
            }
        }
        _ => Problem::new(Code::BadRequest, e),
    }
}

/// Words the failure of a body that did not arrive as it should.
pub(super) fn broken(e: &dyn std::error::Error, progress: &Progress) -> Problem {
    if progress.is_late() {
        let detail = "the body stalled or was too slow";
        return Problem::new(Code::RequestTimeout, detail);
    }
    if progress.held_too_much() {
        return Problem::new(Code::BadRequest, "the head of a part is too long");
    }
    Problem::new(Code::BadRequest, format!("cannot read the body: {e}"))
}

/// Queues the job.
async fn queue(
    app: &App,
    caller: Caller,
    received: Received,
    asked: Asked,
) -> Result<Job, Problem> {
    let (jobs, store) = (app.jobs.clone(), app.store.clone());
    let queued = blocking(move || {
        let Caller { user, .. } = caller;
        // The upload may have taken hours, in which the login may have ended.
        let user = store.user_of_session(user.id, &user.stamp)?;
        let user = user.ok_or_else(|| Problem::new(Code::NotLoggedIn, "log in first"))?;
        let Asked { options, names } = asked;
        let user_id = user.id;
        let id = jobs
            .submit_durable(JobRequest {
                original_name: names.original_name(received.kind, SystemTime::now()),
                names,
                user,
                kind: received.kind,
                folder: received.folder,
                input_sha256: received.sha256,
                options,
            })
            .map_err(not_taken)?;
        jobs.find(user_id, id)?.ok_or_else(no_such_job)
    });
    queued.await?.map(Job::from)
}

pub(super) fn not_taken(e: SubmitError) -> Problem {
    match e {
        SubmitError::Busy { .. } | SubmitError::TooManyOfOne { .. } | SubmitError::ShuttingDown => {
            Problem::new(Code::Busy, e)
        }
        SubmitError::Store(e) => e.into(),
        SubmitError::Input(e) => refused(FilesError::Disk(e)),
    }
}

/// What is left of a body.
pub(super) enum Rest {
    Raw(Paced),
    Parts(Multipart),
}

/// Reads on and throws away, so that a peer that sends first and reads then gets the answer. Not for long, and not what is too long.
pub(super) async fn drain(app: &App, mut rest: Rest, length: u64, progress: &Progress) {
    let limits = &app.peers.limits;
    let is_over = progress.is_late() || progress.is_given_up();
    if length.saturating_sub(progress.arrived()) > limits.drain_bytes || is_over {
        return;
    }
    progress.discard();
    let read = async {
        match &mut rest {
            Rest::Raw(body) => while body.next().await.is_some_and(|piece| piece.is_ok()) {},
            // Each call reads to the end of a body that has none any more.
            Rest::Parts(parts) => {
                while parts.next_field().await.is_ok_and(|part| part.is_some()) {}
            }
        }
    };
    let _ = timeout_at(linger(limits), read).await;
}
