//! A job that is done, once more with other options: from what is kept of it, without the network.

use axum::{Json, extract::State, http::StatusCode, http::header, response::IntoResponse};
use serde_json::{Map, Value};

use super::{
    App,
    auth::Caller,
    blocking,
    input::{Input, Key},
    jobs::{Job, no_such_job},
    problem::{Code, Problem},
    upload::not_taken,
};
use crate::jobs::{JobNames, RerunError};

/// Makes a job that builds the scene of a job that is done with other options. What is left out stays as it was.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/rerun", operation_id = "rerun_job", tag = "jobs",
    security(("bearer" = []), ("cookie" = [])),
    params(("id" = i64, Path, description = "The number of a job that is done")),
    request_body(content = Object, content_type = "application/json",
        description = "The options that change, those that `vggt client rerun` and the TCP port take, and `name`; `{}` changes none"),
    responses(
    (status = 201, description = "The new job is on the disk and runs in its turn", body = Job,
        headers(("Location" = String, description = "Where the new job is"))),
    (status = 400, description = "`bad_request`: an option cannot be used, or needs the network",
        body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`not_found`: the user has no such job", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`conflict`: it has no result; `not_kept`: what its result was made of is not kept any more",
        body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`busy`: the queue is full, or the server stops",
        body = Problem, content_type = "application/problem+json"),
    (status = 507, description = "`disk_full`", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn rerun(
    State(app): State<App>,
    caller: Caller,
    Key(id): Key,
    Input(fields): Input<Map<String, Value>>,
) -> Result<impl IntoResponse, Problem> {
    let jobs = app.jobs.clone();
    let made = blocking(move || {
        let mut fields = fields;
        let bad = |e| Problem::new(Code::BadRequest, e);
        let names = JobNames::take(&mut fields).map_err(bad)?;
        let Caller { user, .. } = caller;
        let user_id = user.id;
        let user = std::sync::Arc::unwrap_or_clone(user);
        let new = jobs.rerun(user, id, &fields, names).map_err(refused)?;
        jobs.find(user_id, new)?.ok_or_else(no_such_job)
    });
    let job = Job::from(made.await??);
    let place = [(header::LOCATION, format!("/api/v1/jobs/{}", job.id))];
    Ok((StatusCode::CREATED, place, Json(job)))
}

fn refused(e: RerunError) -> Problem {
    match e {
        RerunError::NoJob => no_such_job(),
        RerunError::NotDone(_) => Problem::new(Code::Conflict, e),
        RerunError::NotKept(_) => Problem::new(Code::NotKept, e),
        RerunError::Option(_) => Problem::new(Code::BadRequest, e),
        RerunError::Submit(e) => not_taken(e),
    }
}
