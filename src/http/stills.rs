//! Pictures of the frames of a result, at the size at which the network saw them.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::Response,
};

use super::{
    App,
    artifacts::result_of,
    auth::Caller,
    blocking,
    input::KeyAnd,
    problem::{Code, Problem},
    range::is_known,
};
use crate::jobs::{MadeOf, Still, StillFile};

/// The header that tells what the gray values of a depth map mean.
const SCALE: &str = "vggt-units-per-value";

/// Sends a frame of a job that is done as the network saw it, without padding: `{i}.jpg` the photo, `{i}.depth.png` its depth in
/// 16-bit gray (0: none; `depth = value * Vggt-Units-Per-Value`), `{i}.depth_color.png` its depth in colors.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/artifacts/frames/{file}", operation_id = "get_frame", tag = "artifacts",
    security(("bearer" = []), ("cookie" = [])),
    params(
        ("id" = i64, Path, description = "The job's number"),
        ("file" = String, Path, description = "`{i}.jpg`, `{i}.depth.png` or `{i}.depth_color.png`; frames count from 0"),
        ("If-None-Match" = Option<String>, Header, description = "ETags that the client has"),
    ),
    responses(
    (status = 200, description = "The picture", body = Vec<u8>, content_type = "image/jpeg",
        headers(("ETag" = String, description = "Changes when the bytes do"))),
    (status = 304, description = "The client has it"),
    (status = 404, description = "`not_found`: the user has no such job, or it has no such frame",
        body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`conflict`: the job is not done; `not_kept`: its frames are not kept",
        body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn frame(
    State(app): State<App>,
    caller: Caller,
    KeyAnd(id, file): KeyAnd,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (kind, index) = frame_of(&file)?;
    let of = result_of(&app, caller.user.id, id).await?;
    send(&app, of, (kind, index), &headers).await
}

/// Sends a frame of a job that is done, at most 160 pixels wide and high.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/artifacts/thumbnails/{file}", operation_id = "get_thumbnail", tag = "artifacts",
    security(("bearer" = []), ("cookie" = [])),
    params(
        ("id" = i64, Path, description = "The job's number"),
        ("file" = String, Path, description = "`{i}.jpg`; frames count from 0"),
        ("If-None-Match" = Option<String>, Header, description = "ETags that the client has"),
    ),
    responses(
    (status = 200, description = "The picture", body = Vec<u8>, content_type = "image/jpeg",
        headers(("ETag" = String, description = "Changes when the bytes do"))),
    (status = 304, description = "The client has it"),
    (status = 404, description = "`not_found`: the user has no such job, or it has no such frame",
        body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`conflict`: the job is not done; `not_kept`: its frames are not kept",
        body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn thumbnail(
    State(app): State<App>,
    caller: Caller,
    KeyAnd(id, file): KeyAnd,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let index = thumbnail_of(&file)?;
    let of = result_of(&app, caller.user.id, id).await?;
    send(&app, of, (Still::Thumbnail, index), &headers).await
}

/// Reads the name of a frame's picture.
pub(super) fn frame_of(file: &str) -> Result<(Still, usize), Problem> {
    let endings = [
        (".depth_color.png", Still::DepthColors),
        (".depth.png", Still::Depth),
        (".jpg", Still::Photo),
    ];
    let found = endings
        .into_iter()
        .find_map(|(ending, kind)| Some((kind, index(file.strip_suffix(ending)?)?)));
    found.ok_or_else(|| no_picture(file))
}

/// Reads the name of a thumbnail.
pub(super) fn thumbnail_of(file: &str) -> Result<usize, Problem> {
    let found = file.strip_suffix(".jpg").and_then(index);
    found.ok_or_else(|| no_picture(file))
}

fn index(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // One that is too large is beyond every scene.
    digits.then(|| text.parse().unwrap_or(usize::MAX))
}

fn no_picture(file: &str) -> Problem {
    Problem::new(Code::NotFound, format!("there is no picture {file:?}"))
}

/// Answers a request for a picture.
pub(super) async fn send(
    app: &App,
    of: MadeOf,
    (kind, index): (Still, usize),
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    // A result never changes; another version may draw it otherwise.
    let version = env!("CARGO_PKG_VERSION");
    let etag = format!("\"{}-{kind:?}-{index}-{version}\"", &of.glb.hashed_name);
    let mut answer = Response::builder()
        .header(header::ETAG, &etag)
        .header(header::CACHE_CONTROL, "private, no-cache");
    let body = match is_known(headers, &etag) {
        true => {
            answer = answer.status(StatusCode::NOT_MODIFIED);
            Body::empty()
        }
        false => {
            let place = app.workplaces.drawing.clone().acquire_owned().await;
            let place = place.map_err(|_| Problem::internal())?;
            let jobs = app.jobs.clone();
            let made = blocking(move || {
                // Held until the end, also when the client has gone.
                let _place = place;
                jobs.still(&of, kind, index)
            });
            let made = made.await??;
            let StillFile {
                bytes,
                units_per_value,
            } = made;
            answer = answer.header(header::CONTENT_TYPE, content_type(kind));
            if let Some(scale) = units_per_value {
                answer = answer.header(SCALE, scale.to_string());
            }
            Body::from(bytes)
        }
    };
    answer.body(body).map_err(|e| {
        tracing::error!("cannot answer an HTTP request: {e}");
        Problem::internal()
    })
}

fn content_type(kind: Still) -> &'static str {
    match kind {
        Still::Photo | Still::Thumbnail => "image/jpeg",
        Still::Depth | Still::DepthColors => "image/png",
    }
}
