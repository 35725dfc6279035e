//! The files of a job's result, streamed from the disk.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header, response::Builder},
    response::{IntoResponse, Response},
};
use futures_util::stream;

use super::{
    App,
    auth::Caller,
    blocking,
    input::Key,
    jobs::no_such_job,
    problem::{Code, Problem},
    range::{Part, is_known, part_of},
};
use crate::{jobs::JobState, store::GlbFile};

/// Size of a piece that is read at once, as the TCP port has it.
const PIECE: u64 = 256 << 10;

/// Sends the GLB of a job that is done, or a part of it.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/artifacts/glb", operation_id = "get_glb", tag = "artifacts",
    security(("bearer" = []), ("cookie" = [])),
    params(
        ("id" = i64, Path, description = "The job's number"),
        ("Range" = Option<String>, Header, description = "One range of bytes"),
        ("If-Range" = Option<String>, Header, description = "The ETag that the part has to belong to"),
        ("If-None-Match" = Option<String>, Header, description = "ETags that the client has"),
    ),
    responses(
    (status = 200, description = "The GLB", body = Vec<u8>, content_type = "model/gltf-binary",
        headers(("ETag" = String, description = "Changes when the bytes do"))),
    (status = 206, description = "The part that was asked for", body = Vec<u8>, content_type = "model/gltf-binary"),
    (status = 304, description = "The client has it"),
    (status = 404, description = "`not_found`: the user has no such job, or its result was deleted",
        body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`conflict`: the job is not done", body = Problem, content_type = "application/problem+json"),
    (status = 416, description = "`range_not_satisfiable`", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn glb(
    State(app): State<App>,
    caller: Caller,
    Key(id): Key,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (jobs, store) = (app.jobs.clone(), app.store.clone());
    let opened = blocking(move || {
        let found = jobs.find(caller.user.id, id)?.ok_or_else(no_such_job)?;
        let Some(row) = found.result else {
            return Err(without_result(&found.job.status.state));
        };
        let (file, len) = store.open_glb(&row).map_err(|e| {
            tracing::error!("cannot send the file of {}: {e}", row.hashed_name);
            Problem::new(Code::NotFound, "the file of the result is missing")
        })?;
        Ok((row, file, len))
    });
    let (row, file, len) = opened.await??;
    send(&headers, &row, file, len.into()).await
}

fn without_result(state: &JobState) -> Problem {
    match state {
        JobState::Done { .. } => Problem::new(Code::NotFound, "the result of the job was deleted"),
        _ => Problem::new(Code::Conflict, "the job is not done"),
    }
}

async fn send(
    headers: &HeaderMap,
    row: &GlbFile,
    mut file: File,
    len: u64,
) -> Result<Response, Problem> {
    // A result never changes, and no other has its hash.
    let etag = format!("\"{}\"", row.hashed_name);
    let answer = Response::builder()
        .header(header::ETAG, &etag)
        // Asked for again with the tag each time: the result may be deleted.
        .header(header::CACHE_CONTROL, "private, no-cache");
    if is_known(headers, &etag) {
        return finished(answer.status(StatusCode::NOT_MODIFIED), Body::empty());
    }
    let (status, bytes) = match part_of(headers, &etag, len) {
        Part::Whole => (StatusCode::OK, 0..=len.saturating_sub(1)),
        Part::Bytes(bytes) => (StatusCode::PARTIAL_CONTENT, bytes),
        Part::None => {
            let problem = Problem::new(
                Code::RangeNotSatisfiable,
                format!("the file has {len} bytes"),
            );
            let total = [(header::CONTENT_RANGE, format!("bytes */{len}"))];
            return Ok((total, problem).into_response());
        }
    };
    let mut answer = answer
        .status(status)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CONTENT_TYPE, "model/gltf-binary")
        .header(header::CONTENT_DISPOSITION, disposition(&row.original_name))
        .header(header::CONTENT_LENGTH, bytes.end() - bytes.start() + 1);
    if status == StatusCode::PARTIAL_CONTENT {
        let (first, last) = (bytes.start(), bytes.end());
        answer = answer.header(header::CONTENT_RANGE, format!("bytes {first}-{last}/{len}"));
    }
    let (start, left) = (*bytes.start(), bytes.end() - bytes.start() + 1);
    let file = blocking(move || file.seek(SeekFrom::Start(start)).map(|_| file)).await?;
    let file = file.map_err(|e| {
        tracing::error!("cannot read a stored file: {e}");
        Problem::internal()
    })?;
    finished(answer, Body::from_stream(pieces(file, left)))
}

fn finished(answer: Builder, body: Body) -> Result<Response, Problem> {
    answer.body(body).map_err(|e| {
        tracing::error!("cannot answer an HTTP request: {e}");
        Problem::internal()
    })
}

/// The next bytes of a file, read on another thread one piece ahead at most.
fn pieces(file: File, left: u64) -> impl stream::Stream<Item = io::Result<Bytes>> {
    stream::try_unfold((file, left), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; left.min(PIECE) as usize];
            file.read_exact(&mut piece)?;
            Ok::<_, io::Error>((file, piece))
        });
        let (file, piece) = read.await.map_err(io::Error::other)?.inspect_err(|e| {
            tracing::error!("cannot read a stored file: {e}");
        })?;
        let left = left - piece.len() as u64;
        Ok(Some((Bytes::from(piece), (file, left))))
    })
}

/// Returns the header with which a browser stores a file under its name, in the forms that old and new browsers read (RFC 6266).
fn disposition(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " -_.".contains(c);
    let plain: String = name
        .chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect();
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let encoded = name.bytes().map(|b| match is_token(b) {
        true => char::from(b).to_string(),
        false => format!("%{b:02X}"),
    });
    let encoded: String = encoded.collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_breaks_out_of_no_header() {
        let header = disposition("K\u{fc}che \"1\"; x=\r\n\\.glb");
        assert_eq!(
            header,
            "attachment; filename=\"K_che _1__ x____.glb\"; \
             filename*=UTF-8''K%C3%BCche%20%221%22%3B%20x%3D%0D%0A%5C.glb"
        );
    }
}
