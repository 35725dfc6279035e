//! A job that is made without its files, and its start.

use std::{
    fs::File,
    io::{self, Read},
};

use axum::{
    Json,
    extract::{FromRequest, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::refused;
use crate::{
    http::{
        App,
        auth::Caller,
        behind::CHUNK,
        blocking,
        files::{Content, FilesError},
        input::{Input, Key},
        jobs::{Job, no_such_job},
        problem::{Code, Problem},
        upload::{asked, refused as not_kept},
    },
    jobs::{DraftInput, Jobs},
    store::{Draft, Store},
};

/// A job to be made before its files.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct DraftRequest {
    /// The options of the reconstruction, those that `vggt client` and the TCP port take.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    options: Map<String, Value>,
}

/// Makes a job whose files are still to come.
pub(in crate::http) async fn create(
    app: App,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let Input(DraftRequest { options }) = Input::from_request(request, &app).await?;
    let asked = asked(&app, options)?;
    let jobs = app.jobs.clone();
    let made = blocking(move || {
        let draft = jobs.create_draft(caller.user.id, &asked.options, &asked.names);
        let draft = draft.map_err(refused)?;
        Ok::<_, Problem>(Job::uploading(&draft, jobs.name_of_draft(&draft)))
    });
    let job = made.await??;
    let place = [(header::LOCATION, format!("/api/v1/jobs/{}", job.id))];
    Ok((StatusCode::CREATED, place, Json(job)).into_response())
}

/// Queues a job that was made without its files, once all of them have arrived: one video, or images in the order in which their uploads
/// were made. A job that was started before is only returned, so that a request whose answer got lost may be repeated.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/start", operation_id = "start_job", tag = "uploads",
    security(("bearer" = []), ("cookie" = [])), params(("id" = i64, Path, description = "The job's number")), responses(
    (status = 200, description = "The job, which runs in its turn", body = Job),
    (status = 400, description = "`bad_request`: a video beside other files, or an option that the server does not take any more",
        body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`not_found`: the user has no such job", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`incomplete`: files are missing; `conflict`: they were changed meanwhile",
        body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`busy`: the queue is full, or the server stops; the files stay",
        body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::http) async fn start(
    State(app): State<App>,
    caller: Caller,
    Key(id): Key,
) -> Result<Json<Job>, Problem> {
    let (jobs, store) = (app.jobs.clone(), app.store.clone());
    let started = blocking(move || {
        let user = caller.user.id;
        let started = match jobs.draft(user, id)? {
            Some(draft) => queue(&jobs, &store, &caller, &draft),
            None => Ok(()),
        };
        // By another request if not by this one.
        match (jobs.find(user, id)?, started) {
            (Some(job), _) => Ok(job),
            (None, Err(problem)) => Err(problem),
            (None, Ok(())) => Err(no_such_job()),
        }
    });
    Ok(Json(started.await??.into()))
}

fn queue(jobs: &Jobs, store: &Store, caller: &Caller, draft: &Draft) -> Result<(), Problem> {
    let input = input_of(jobs, draft)?;
    // To read the files may have taken a while, in which the login may have ended.
    let user = store.user_of_session(caller.user.id, &caller.user.stamp)?;
    let user = user.ok_or_else(|| Problem::new(Code::NotLoggedIn, "log in first"))?;
    jobs.start_draft(user, draft, input).map_err(refused)
}

/// Reads all files, as [`super::super::files::Files`] does when they arrive at once.
fn input_of(jobs: &Jobs, draft: &Draft) -> Result<DraftInput, Problem> {
    let paths = jobs.draft_paths(draft).map_err(refused)?;
    let mut content = Content::new();
    let read = draft.files.iter().zip(&paths).try_for_each(|(file, path)| {
        let mut input = File::open(path)?;
        let (mut piece, mut len) = (Vec::with_capacity(CHUNK), 0);
        while read_piece(&mut input, &mut piece)? > 0 {
            match len {
                0 => drop(content.begin(&file.name, &piece)?),
                _ => content.take(&piece),
            }
            len += piece.len() as u64;
        }
        content.end(file.name.clone(), len);
        Ok::<_, FilesError>(())
    });
    let finished = read.and_then(|()| content.finish());
    let (kind, names, sha256) = finished.map_err(not_kept)?;
    Ok(DraftInput {
        kind,
        names,
        sha256,
    })
}

fn read_piece(input: &mut File, piece: &mut Vec<u8>) -> io::Result<usize> {
    piece.clear();
    input.by_ref().take(CHUNK as u64).read_to_end(piece)
}
