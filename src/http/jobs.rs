//! A user's jobs: listed, looked at, renamed, published, cancelled and removed.

use std::cmp::Reverse;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    auth::Caller,
    blocking,
    input::{Input, Key},
    problem::{Code, Problem},
    resumable::UploadKey,
};
use crate::{
    jobs::{ChangeError, JobChange, JobOptions, JobState, JobStatus, Jobs, ListedJob, OwnJob},
    store::{Draft, DraftFile, GlbFile, StoreError},
};

/// Most jobs of a page, and how many it has by default.
const PAGE_MAX: u32 = 1000;
const PAGE: u32 = 100;

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum JobStateName {
    /// Its files are being uploaded; it waits for its start.
    Uploading,
    /// It waits.
    Queued,
    /// It runs.
    Running,
    /// It has a result.
    Done,
    /// It ended without one.
    Failed,
    /// Its user or the operator cancelled it.
    Cancelled,
}

/// A job.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Job {
    /// Its number, never given twice.
    pub(super) id: i64,
    state: JobStateName,
    /// Name of its result; empty for one that is uploading and was given none.
    name: String,
    /// Jobs that run before it, the running one included; of one that is queued.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<u64>,
    /// What is being done; of one that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
    /// How much of the whole is done; of one that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    fraction: Option<f32>,
    /// Estimate of the remaining time, once there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    seconds_left: Option<f32>,
    /// Whether `preview.glb` is there; of one that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    has_preview: Option<bool>,
    /// Why it ended without a result; of one that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What is to be known of it: objects with `kind`, `text`, and values that belong to the kind.
    #[schema(value_type = Vec<Object>)]
    warnings: Vec<Map<String, Value>>,
    /// Its result; of one that is done, unless that was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<ResultFile>,
    /// How many meters a unit of its result is, where its user has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    meters_per_unit: Option<f64>,
    /// The options that it runs with; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    options: Option<JobOptions>,
    /// Its files; of one that is uploading.
    #[serde(skip_serializing_if = "Option::is_none")]
    uploads: Option<Vec<Upload>>,
    /// When it is removed unless bytes arrive; of one that is uploading.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// When it was submitted; of one that is uploading, when it was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
}

/// A file of a job that is uploading.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Upload {
    /// Where its parts go.
    url: String,
    /// Its name.
    name: String,
    /// Bytes that are on the disk.
    offset: u64,
    /// Bytes in all.
    length: u64,
}

/// The result of a job.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ResultFile {
    /// What the TCP port calls it.
    hash: String,
    /// Bytes of the GLB.
    size: u64,
    /// Whether everybody who knows the hash may read it.
    public: bool,
}

/// A page of jobs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobPage {
    /// Newest first.
    jobs: Vec<Job>,
    /// What to ask for as `before` to get the next page; null: there is none.
    next: Option<i64>,
}

/// Which jobs are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageRequest {
    /// Only jobs that were submitted before this one.
    before: Option<i64>,
    /// Most jobs of the page, 100 by default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// What a `DELETE` is to do.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Removal {
    /// Only cancels: a job that has ended, perhaps just now, stays with its result and is returned.
    #[serde(default)]
    only_cancel: bool,
}

/// What is to be changed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    /// Another name for the result.
    #[serde(default)]
    name: Option<String>,
    /// Whether everybody who knows the hash of the result may read it.
    #[serde(default)]
    public: Option<bool>,
    /// How many meters a unit of the result is, which puts every file that is made of it into meters; null: nobody knows.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<f64>)]
    meters_per_unit: Option<Option<f64>>,
}

/// Tells a field that is null from one that is missing.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<f64>>, D::Error> {
    Option::deserialize(value).map(Some)
}

impl From<GlbFile> for ResultFile {
    fn from(glb: GlbFile) -> Self {
        Self {
            hash: glb.hashed_name,
            size: glb.file_size,
            public: glb.is_public,
        }
    }
}

impl From<OwnJob> for Job {
    fn from(own: OwnJob) -> Self {
        let ListedJob {
            id,
            status: JobStatus { state, warnings },
            name,
            created_at,
            finished_at,
        } = own.job;
        let mut job = Self {
            id,
            state: JobStateName::Queued,
            name,
            place: None,
            stage: None,
            fraction: None,
            seconds_left: None,
            has_preview: None,
            reason: None,
            warnings,
            result: own.result.map(ResultFile::from),
            meters_per_unit: own.meters_per_unit,
            options: own.options,
            uploads: None,
            expires_at: None,
            created_at,
            finished_at,
        };
        match state {
            JobState::Queued { ahead } => job.place = Some(ahead as u64),
            JobState::Running {
                stage,
                fraction,
                seconds_left,
                preview,
            } => {
                job.state = JobStateName::Running;
                job.stage = Some(stage.to_owned());
                job.fraction = Some(fraction);
                job.seconds_left = seconds_left;
                job.has_preview = Some(preview.is_some());
            }
            JobState::Done { .. } => job.state = JobStateName::Done,
            JobState::Failed { reason } => {
                job.state = JobStateName::Failed;
                job.reason = Some(reason);
            }
            JobState::Cancelled => job.state = JobStateName::Cancelled,
        }
        job
    }
}

impl Job {
    /// Returns a job whose files are being uploaded.
    pub(super) fn uploading(draft: &Draft, name: Option<String>) -> Self {
        let upload = |file: &DraftFile| Upload {
            url: UploadKey::path(draft.id, file.number),
            name: file.name.clone(),
            offset: file.received,
            length: file.length,
        };
        Self {
            id: draft.id,
            state: JobStateName::Uploading,
            name: name.unwrap_or_default(),
            place: None,
            stage: None,
            fraction: None,
            seconds_left: None,
            has_preview: None,
            reason: None,
            warnings: Vec::new(),
            result: None,
            meters_per_unit: None,
            options: None,
            uploads: Some(draft.files.iter().map(upload).collect()),
            expires_at: draft.expires_at,
            created_at: draft.created_at,
            finished_at: None,
        }
    }
}

pub(super) fn no_such_job() -> Problem {
    Problem::new(Code::NotFound, "you have no such job")
}

/// Lists the user's jobs, newest first.
#[utoipa::path(get, path = "/api/v1/jobs", operation_id = "list_jobs", tag = "jobs", params(PageRequest),
    security(("bearer" = []), ("cookie" = [])), responses(
    (status = 200, description = "A page of jobs", body = JobPage),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    page: Result<Query<PageRequest>, QueryRejection>,
) -> Result<Json<JobPage>, Problem> {
    let Query(page) = page.map_err(|e| Problem::new(Code::BadRequest, e.body_text()))?;
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        let detail = format!("cannot use {limit} as limit: expected 1 to {PAGE_MAX}");
        return Err(Problem::new(Code::BadRequest, detail));
    }
    let jobs = app.jobs.clone();
    let user = caller.user.id;
    // One more tells whether there is another page.
    let found = blocking(move || page_of(&jobs, user, page.before, limit + 1)).await??;
    let more = found.len() > limit as usize;
    let jobs: Vec<Job> = found.into_iter().take(limit as usize).collect();
    let next = jobs.last().filter(|_| more).map(|job| job.id);
    Ok(Json(JobPage { jobs, next }))
}

/// Returns at most `limit` jobs, newest first, those that are uploading among them.
fn page_of(
    jobs: &Jobs,
    user: i32,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<Job>, StoreError> {
    // First, so that none is missing that is started in between.
    let mut drafts = jobs.drafts_of(user)?;
    let found = jobs.page_with_results(user, before, limit)?;
    drafts.retain(|draft| {
        let is_older = before.is_none_or(|before| draft.id < before);
        is_older && found.iter().all(|own| own.job.id != draft.id)
    });
    let drafts = drafts
        .iter()
        .map(|draft| Job::uploading(draft, jobs.name_of_draft(draft)));
    let mut all: Vec<Job> = drafts.chain(found.into_iter().map(Job::from)).collect();
    all.sort_by_key(|job| Reverse(job.id));
    all.truncate(limit as usize);
    Ok(all)
}

/// Returns how a job stands.
#[utoipa::path(get, path = "/api/v1/jobs/{id}", operation_id = "get_job", tag = "jobs", security(("bearer" = []), ("cookie" = [])),
    params(("id" = i64, Path, description = "The job's number")), responses(
    (status = 200, description = "The job", body = Job),
    (status = 404, description = "`not_found`: the user has no such job", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Key(id): Key,
) -> Result<Json<Job>, Problem> {
    let jobs = app.jobs.clone();
    let user = caller.user.id;
    let found = blocking(move || match jobs.draft(user, id)? {
        Some(draft) => Ok(Some(Job::uploading(&draft, jobs.name_of_draft(&draft)))),
        None => jobs.find(user, id).map(|found| found.map(Job::from)),
    });
    let found: Result<Option<Job>, StoreError> = found.await?;
    Ok(Json(found?.ok_or_else(no_such_job)?))
}

/// Renames the result of a job, sets its scale, or changes who may read it.
#[utoipa::path(patch, path = "/api/v1/jobs/{id}", operation_id = "change_job", tag = "jobs", request_body = Change,
    security(("bearer" = []), ("cookie" = [])),
    params(("id" = i64, Path, description = "The job's number")), responses(
    (status = 200, description = "The job as it is now", body = Job),
    (status = 404, description = "`not_found`: the user has no such job", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`conflict`: it has no result", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn change(
    State(app): State<App>,
    caller: Caller,
    Key(id): Key,
    Input(change): Input<Change>,
) -> Result<Json<Job>, Problem> {
    let jobs = app.jobs.clone();
    let Change {
        name,
        public,
        meters_per_unit,
    } = change;
    let change = JobChange {
        name,
        public,
        meters_per_unit,
    };
    let user = caller.user.id;
    let changed = blocking(move || match jobs.draft(user, id)? {
        Some(_) => Err(ChangeError::NoResult(id)),
        None => jobs.change(user, id, change),
    })
    .await?;
    let changed = changed.map_err(|e| match e {
        ChangeError::NoJob => no_such_job(),
        ChangeError::NoResult(_) => Problem::new(Code::Conflict, e),
        ChangeError::Value(e) => Problem::new(Code::BadRequest, e),
        ChangeError::Store(e) => e.into(),
    })?;
    Ok(Json(changed.into()))
}

/// Cancels a job that waits or runs; removes one that is uploading, or that has ended, with its result unless another job has the same.
#[utoipa::path(delete, path = "/api/v1/jobs/{id}", operation_id = "remove_job", tag = "jobs", security(("bearer" = []), ("cookie" = [])),
    params(("id" = i64, Path, description = "The job's number"), Removal), responses(
    (status = 200, description = "It was cancelled, or has ended and was to be cancelled only; it is still listed", body = Job),
    (status = 204, description = "It was removed"),
    (status = 404, description = "`not_found`: the user has no such job", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    Key(id): Key,
    removal: Result<Query<Removal>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(removal) = removal.map_err(|e| Problem::new(Code::BadRequest, e.body_text()))?;
    let (jobs, user) = (app.jobs.clone(), caller.user.id);
    let cancelled = blocking(move || {
        if jobs.discard_draft(user, id)? {
            return Ok(Ok(None));
        }
        let Some(found) = jobs.find(user, id)? else {
            return Ok(Err(no_such_job()));
        };
        if !found.job.status.state.is_final() {
            jobs.cancel(user, id)?;
            let found = jobs.find(user, id)?;
            return Ok(found.map(Some).ok_or_else(no_such_job));
        }
        if removal.only_cancel {
            return Ok(Ok(Some(found)));
        }
        match jobs.remove(user, id)? {
            true => Ok(Ok(None)),
            false => Ok(Err(no_such_job())),
        }
    });
    let cancelled: Result<_, StoreError> = cancelled.await?;
    Ok(match cancelled?? {
        Some(job) => Json(Job::from(job)).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}
