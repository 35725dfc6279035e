//! The files of a job's result: its GLB, and what is made of it when it is asked for.

use std::sync::Arc;

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::HeaderMap,
    response::Response,
};
use serde::Deserialize;
use tokio::sync::Semaphore;
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    auth::Caller,
    blocking,
    download::{self, Download, send},
    input::KeyAnd,
    jobs::no_such_job,
    problem::{Code, Problem},
    range::is_known,
};
use crate::{
    jobs::{Artifact, ArtifactError, JobState, MadeFile, MadeOf},
    store::{GlbFile, Store, StoreError},
    web,
};

/// Requests that may wait for a file to be made; each waits for those before it.
const WAITING_MAX: usize = 16;

/// Pictures that are drawn at the same time, some megabytes each.
const DRAWING_MAX: usize = 4;

/// A file of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[schema(as = ArtifactFormat)]
pub(super) enum Format {
    /// The scene as binary glTF.
    #[serde(rename = "glb")]
    Glb,
    /// The scene as far as it is, while the job runs: that of the anchors, once there is one.
    #[serde(rename = "preview.glb")]
    Preview,
    /// The points with confidence as binary PLY.
    #[serde(rename = "ply")]
    Ply,
    /// A page that draws the scene, without any other file.
    #[serde(rename = "html")]
    Html,
    /// Cameras, points and images for COLMAP and trainers of splats.
    #[serde(rename = "colmap.zip")]
    Colmap,
    /// The same as nerfstudio reads it.
    #[serde(rename = "nerfstudio.zip")]
    Nerfstudio,
    /// The network's outputs, all frames in one tensor each.
    #[serde(rename = "safetensors")]
    Safetensors,
    /// Depth maps in 16-bit gray and in colors.
    #[serde(rename = "depth.zip")]
    Depth,
    /// Points as viewers draw them: little-endian, 20 bytes each.
    #[serde(rename = "points")]
    Points,
    /// The cameras, in the pixels of `frames/{i}.jpg`.
    #[serde(rename = "cameras.json")]
    Cameras,
    /// A picture of the points, for lists.
    #[serde(rename = "scene.jpg")]
    Picture,
}

/// More about the file.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Most points, taken evenly; of `points`.
    #[param(minimum = 1)]
    max_points: Option<u32>,
}

impl Wanted {
    pub(super) fn points(&self) -> Option<usize> {
        self.max_points.map(|max| max as usize)
    }
}

impl Format {
    /// What the pipeline makes; `None` for what the job left.
    fn artifact(self, wanted: &Wanted) -> Option<Artifact> {
        Some(match self {
            Self::Glb | Self::Preview => return None,
            Self::Ply => Artifact::Ply,
            Self::Html => Artifact::Html,
            Self::Colmap => Artifact::ColmapZip,
            Self::Nerfstudio => Artifact::NerfstudioZip,
            Self::Safetensors => Artifact::Safetensors,
            Self::Depth => Artifact::DepthZip,
            Self::Points => Artifact::Points(wanted.points()),
            Self::Cameras => Artifact::Cameras,
            Self::Picture => Artifact::Picture,
        })
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Glb | Self::Preview => "model/gltf-binary",
            Self::Html => "text/html; charset=utf-8",
            Self::Colmap | Self::Nerfstudio | Self::Depth => "application/zip",
            Self::Ply | Self::Safetensors | Self::Points => "application/octet-stream",
            Self::Cameras => "application/json",
            Self::Picture => "image/jpeg",
        }
    }

    /// What stands behind the scene's name.
    fn ending(self) -> &'static str {
        match self {
            Self::Glb => ".glb",
            Self::Preview => "_preview.glb",
            Self::Ply => ".ply",
            Self::Html => ".html",
            Self::Colmap => "_colmap.zip",
            Self::Nerfstudio => "_nerfstudio.zip",
            Self::Safetensors => ".safetensors",
            Self::Depth => "_depth.zip",
            Self::Points => ".points",
            Self::Cameras => "_cameras.json",
            Self::Picture => ".jpg",
        }
    }

    fn name(self, original: &str) -> String {
        let stem = original.strip_suffix(".glb").unwrap_or(original);
        format!("{stem}{}", self.ending())
    }
}

/// Sends a file of a job that is done, or a part of it. What is not the GLB is made of what is kept beside it when it is asked for
/// the first time, which takes seconds to minutes; the network does not run.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/artifacts/{format}", operation_id = "get_artifact", tag = "artifacts",
    security(("bearer" = []), ("cookie" = [])),
    params(
        ("id" = i64, Path, description = "The job's number"),
        ("format" = Format, Path, description = "Which file"),
        Wanted,
        ("Range" = Option<String>, Header, description = "One range of bytes"),
        ("If-Range" = Option<String>, Header, description = "The ETag that the part has to belong to"),
        ("If-None-Match" = Option<String>, Header, description = "ETags that the client has"),
    ),
    responses(
    (status = 200, description = "The file", body = Vec<u8>, content_type = "application/octet-stream",
        headers(("ETag" = String, description = "Changes when the bytes do"))),
    (status = 206, description = "The part that was asked for", body = Vec<u8>, content_type = "application/octet-stream"),
    (status = 304, description = "The client has it"),
    (status = 404, description = "`not_found`: the user has no such job, its result was deleted, or there is no such format",
        body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`conflict`: the job is not done; `not_kept`: what the file would be made of is not kept",
        body = Problem, content_type = "application/problem+json"),
    (status = 416, description = "`range_not_satisfiable`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`busy`: too many files are being made", body = Problem, content_type = "application/problem+json"),
    (status = 507, description = "`disk_full`", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    KeyAnd(id, format): KeyAnd,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let format = named(&format)?;
    let Query(wanted) = wanted.map_err(|e| Problem::new(Code::BadRequest, e.body_text()))?;
    check(format, &wanted)?;
    let user = caller.user.id;
    let download = match format.artifact(&wanted) {
        Some(artifact) => {
            let of = result_of(&app, user, id).await?;
            let name = format.name(&of.glb.original_name);
            return send_made(&app, of, artifact, (format, Some(name)), &headers).await;
        }
        None if format == Format::Glb => {
            let (of, store) = (result_of(&app, user, id).await?, app.store.clone());
            match of.meters_per_unit {
                None => blocking(move || glb(&store, &of.glb)).await??,
                Some(_) => {
                    let name = format.name(&of.glb.original_name);
                    let named = (format, Some(name));
                    return send_made(&app, of, Artifact::Glb, named, &headers).await;
                }
            }
        }
        None => preview(&app, user, id).await?,
    };
    send(&headers, download).await
}

fn named(format: &str) -> Result<Format, Problem> {
    let value = serde_json::Value::from(format);
    serde_json::from_value(value).map_err(|_| {
        let detail = format!("there is no format {format:?}; /api/v1/openapi.json lists them");
        Problem::new(Code::NotFound, detail)
    })
}

pub(super) fn check(format: Format, wanted: &Wanted) -> Result<(), Problem> {
    match wanted.max_points {
        Some(0) => Err(Problem::new(
            Code::BadRequest,
            "cannot use 0 as max_points: expected a number of points, at least 1",
        )),
        Some(_) if format != Format::Points => Err(Problem::new(
            Code::BadRequest,
            "max_points belongs to the format points",
        )),
        _ if format == Format::Html && !web::is_built() => {
            Err(Problem::new(Code::NotFound, web::MISSING))
        }
        _ => Ok(()),
    }
}

/// Returns the result of a job of the user.
pub(super) async fn result_of(app: &App, user: i32, id: i64) -> Result<MadeOf, Problem> {
    let jobs = app.jobs.clone();
    let found = blocking(move || {
        if let Some(of) = jobs.made_of(user, id)? {
            return Ok(of);
        }
        if jobs.draft(user, id)?.is_some() {
            return Err(Problem::new(Code::Conflict, "the job was not started"));
        }
        let found = jobs.find(user, id)?.ok_or_else(no_such_job)?;
        Err(without_result(&found.job.status.state))
    });
    found.await?
}

fn without_result(state: &JobState) -> Problem {
    match state {
        JobState::Done { .. } => Problem::new(Code::NotFound, "the result of the job was deleted"),
        _ => Problem::new(Code::Conflict, "the job is not done"),
    }
}

fn glb(store: &Store, row: &GlbFile) -> Result<Download, Problem> {
    let (file, _) = store.open_glb(row).map_err(|e| {
        tracing::error!("cannot send the file of {}: {e}", row.hashed_name);
        match e {
            StoreError::Bucket(e) if e.is_passing() => Problem::from(StoreError::Bucket(e)),
            _ => Problem::new(Code::NotFound, "the file of the result is missing"),
        }
    })?;
    Ok(Download {
        file,
        // A result never changes, and no other has its hash.
        tag: row.hashed_name.clone(),
        content_type: Format::Glb.content_type(),
        name: Some(Format::Glb.name(&row.original_name)),
    })
}

async fn preview(app: &App, user: i32, id: i64) -> Result<Download, Problem> {
    let jobs = app.jobs.clone();
    let found = blocking(move || {
        let found = jobs.find(user, id)?.ok_or_else(no_such_job)?;
        let none = || Problem::new(Code::Conflict, "the job has no preview now");
        let JobState::Running {
            preview: Some(hash),
            ..
        } = &found.job.status.state
        else {
            return Err(none());
        };
        let file = jobs.preview(user, hash)?.ok_or_else(none)?;
        Ok(Download {
            file,
            tag: hash.clone(),
            content_type: Format::Preview.content_type(),
            name: Some(Format::Preview.name(&found.job.name)),
        })
    });
    found.await?
}

/// Sends a file that is made of a result; what the client has already is not made for it.
pub(super) async fn send_made(
    app: &App,
    of: MadeOf,
    artifact: Artifact,
    (format, name): (Format, Option<String>),
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let etag = format!("\"{}\"", app.jobs.artifact_tag(&of, artifact));
    if is_known(headers, &etag) {
        return Ok(download::unchanged(&etag));
    }
    let made = made(app, of, artifact).await?;
    send(headers, download(made, format, name)).await
}

/// Returns a file that is made of a result, now unless it is there.
async fn made(app: &App, of: MadeOf, artifact: Artifact) -> Result<MadeFile, Problem> {
    let (jobs, wanted) = (app.jobs.clone(), of.clone());
    if let Some(made) = blocking(move || jobs.made_artifact(&wanted, artifact)).await? {
        return Ok(made);
    }
    let busy = || Problem::new(Code::Busy, "too many files are being made; try again later");
    let Workplaces {
        waiting, making, ..
    } = &app.workplaces;
    let waiting = waiting.clone().try_acquire_owned().map_err(|_| busy())?;
    let making = making.clone().acquire_owned().await.map_err(|_| busy())?;
    let jobs = app.jobs.clone();
    let made = blocking(move || {
        // Held until the end, also when the client has gone: else clients that come and go would take all threads.
        let _places = (waiting, making);
        jobs.make_artifact(&of, artifact)
    });
    let made = made.await?;
    made.map_err(Problem::from)
}

/// How many requests work on files of results at the same time.
#[derive(Debug)]
pub(super) struct Workplaces {
    /// Those that wait for a file to be made.
    waiting: Arc<Semaphore>,
    /// The one for which it is made.
    making: Arc<Semaphore>,
    /// Those for which a picture is drawn.
    pub(super) drawing: Arc<Semaphore>,
}

impl Default for Workplaces {
    fn default() -> Self {
        Self {
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            making: Arc::new(Semaphore::new(1)),
            drawing: Arc::new(Semaphore::new(DRAWING_MAX)),
        }
    }
}

fn download(made: MadeFile, format: Format, name: Option<String>) -> Download {
    Download {
        file: made.file,
        tag: made.tag,
        content_type: format.content_type(),
        name,
    }
}

impl From<ArtifactError> for Problem {
    fn from(e: ArtifactError) -> Self {
        match e {
            ArtifactError::NotKept => Self::new(Code::NotKept, e),
            ArtifactError::NoFrame { .. } => Self::new(Code::NotFound, e),
            ArtifactError::DiskFull => Self::new(Code::DiskFull, e),
            ArtifactError::Passing(_) => Self::new(Code::NotReady, e),
            ArtifactError::Store(e) => e.into(),
            // Its cause is in the log.
            e => {
                tracing::error!("cannot make a file of a result: {e}");
                Self::internal()
            }
        }
    }
}
