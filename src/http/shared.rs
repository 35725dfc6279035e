//! What people without a login see under a link: points, cameras and frames at the network's size. Never originals, their metadata,
//! their names, or the GLB.

use axum::{
    Json,
    extract::{FromRequestParts, Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderName, header, request::Parts},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    App,
    artifacts::{Format, Wanted, check, send_made},
    blocking,
    pages::{self, wants_page},
    problem::{Code, Problem},
    stills::{self, frame_of, thumbnail_of},
};
use crate::jobs::{Artifact, MadeOf, Still};

/// The same address has a page and JSON.
const VARY: (HeaderName, &str) = (header::VARY, "accept");

/// Longest secret that is looked for; those of links are shorter.
const SECRET_MAX: usize = 64;

/// A result as its link shows it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SharedScene {
    /// Name of the scene.
    name: String,
    /// Number of frames.
    frames: usize,
    /// Width of the frames as the network saw them, with padding.
    width: usize,
    /// Height of the same.
    height: usize,
    /// When the link ends; null: when it is removed.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// What a link leads to, and what stands behind it in the path.
#[derive(Debug)]
pub(super) struct Shown {
    of: MadeOf,
    expires_at: Option<Timestamp>,
    rest: String,
}

impl FromRequestParts<App> for Shown {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let none = || Problem::new(Code::NotFound, "there is no such link, or it has ended");
        let path = Path::<Vec<(String, String)>>::from_request_parts(parts, app).await;
        let Path(path) = path.map_err(|_| none())?;
        let mut parts = path.into_iter().map(|(_, value)| value);
        let secret = parts.next().filter(|secret| secret.len() <= SECRET_MAX);
        let (secret, store) = (secret.ok_or_else(none)?, app.store.clone());
        let found = blocking(move || store.shared_by(&secret)).await??;
        let shared = found.ok_or_else(none)?;
        let (store, glb) = (app.store.clone(), shared.glb.clone());
        let meters_per_unit = blocking(move || store.meters_per_unit(&glb)).await??;
        Ok(Self {
            of: MadeOf {
                meters_per_unit,
                glb: shared.glb,
                options_json: shared.options_json,
            },
            expires_at: shared.expires_at,
            rest: parts.next().unwrap_or_default(),
        })
    }
}

/// Returns what a link leads to; to a browser, the page that shows it.
#[utoipa::path(get, path = "/s/{link}", operation_id = "get_shared", tag = "shared",
    params(("link" = String, Path, description = "The secret of the link")), responses(
    (status = 200, description = "The scene", body = SharedScene),
    (status = 404, description = "`not_found`: there is no such link, or it has ended",
        body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`not_kept`: what the pictures would be made of is not kept any more",
        body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn about(
    State(app): State<App>,
    headers: HeaderMap,
    shown: Result<Shown, Problem>,
) -> Result<Response, Problem> {
    // Somebody follows the link in a browser. The page asks again, for the JSON.
    if wants_page(&headers) {
        return Ok(([VARY], pages::app().await).into_response());
    }
    let shown = shown?;
    let (jobs, glb) = (app.jobs.clone(), shown.of.glb.clone());
    let (frames, (height, width)) = blocking(move || jobs.frames_of(&glb)).await??;
    let name = shown.of.glb.original_name;
    let scene = SharedScene {
        name: name.strip_suffix(".glb").unwrap_or(&name).to_owned(),
        frames,
        width,
        height,
        expires_at: shown.expires_at,
    };
    Ok(([VARY], Json(scene)).into_response())
}

/// Sends the `points`, the `cameras.json` or the `scene.jpg` of a result, as `/api/v1/jobs/{id}/artifacts/{format}` does, without the
/// names of the photos.
#[utoipa::path(get, path = "/s/{link}/{format}", operation_id = "get_shared_file", tag = "shared",
    params(
        ("link" = String, Path, description = "The secret of the link"),
        ("format" = String, Path, description = "`points`, `cameras.json` or `scene.jpg`"),
        Wanted,
        ("Range" = Option<String>, Header, description = "One range of bytes"),
        ("If-None-Match" = Option<String>, Header, description = "ETags that the client has"),
    ), responses(
    (status = 200, description = "The file", body = Vec<u8>, content_type = "application/octet-stream",
        headers(("ETag" = String, description = "Changes when the bytes do"))),
    (status = 206, description = "The part that was asked for", body = Vec<u8>, content_type = "application/octet-stream"),
    (status = 304, description = "The client has it"),
    (status = 404, description = "`not_found`: there is no such link, or it does not show this",
        body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`not_kept`: what the file would be made of is not kept any more",
        body = Problem, content_type = "application/problem+json"),
    (status = 416, description = "`range_not_satisfiable`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`busy`: too many files are being made", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn file(
    State(app): State<App>,
    shown: Shown,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(wanted) = wanted.map_err(|e| Problem::new(Code::BadRequest, e.body_text()))?;
    let (format, artifact) = match shown.rest.as_str() {
        "points" => (Format::Points, Artifact::Points(wanted.points())),
        "cameras.json" => (Format::Cameras, Artifact::UnnamedCameras),
        "scene.jpg" => (Format::Picture, Artifact::Picture),
        _ => return Err(not_shown()),
    };
    check(format, &wanted)?;
    send_made(&app, shown.of, artifact, (format, None), &headers).await
}

fn not_shown() -> Problem {
    Problem::new(Code::NotFound, "the link does not show this")
}

/// Sends a frame of a result as the network saw it, without padding.
#[utoipa::path(get, path = "/s/{link}/frames/{file}", operation_id = "get_shared_frame", tag = "shared",
    params(
        ("link" = String, Path, description = "The secret of the link"),
        ("file" = String, Path, description = "`{i}.jpg`; frames count from 0"),
        ("If-None-Match" = Option<String>, Header, description = "ETags that the client has"),
    ), responses(
    (status = 200, description = "The picture", body = Vec<u8>, content_type = "image/jpeg",
        headers(("ETag" = String, description = "Changes when the bytes do"))),
    (status = 304, description = "The client has it"),
    (status = 404, description = "`not_found`: there is no such link or frame", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`not_kept`: the frames are not kept any more",
        body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn frame(
    State(app): State<App>,
    shown: Shown,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    match frame_of(&shown.rest)? {
        (Still::Photo, index) => {
            stills::send(&app, shown.of, (Still::Photo, index), &headers).await
        }
        _ => Err(not_shown()),
    }
}

/// Sends a frame of a result, at most 160 pixels wide and high.
#[utoipa::path(get, path = "/s/{link}/thumbnails/{file}", operation_id = "get_shared_thumbnail", tag = "shared",
    params(
        ("link" = String, Path, description = "The secret of the link"),
        ("file" = String, Path, description = "`{i}.jpg`; frames count from 0"),
        ("If-None-Match" = Option<String>, Header, description = "ETags that the client has"),
    ), responses(
    (status = 200, description = "The picture", body = Vec<u8>, content_type = "image/jpeg",
        headers(("ETag" = String, description = "Changes when the bytes do"))),
    (status = 304, description = "The client has it"),
    (status = 404, description = "`not_found`: there is no such link or frame", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`not_kept`: the frames are not kept any more",
        body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn thumbnail(
    State(app): State<App>,
    shown: Shown,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let index = thumbnail_of(&shown.rest)?;
    stills::send(&app, shown.of, (Still::Thumbnail, index), &headers).await
}
