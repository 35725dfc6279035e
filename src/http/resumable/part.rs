//! A part of a file: what of it arrives is kept, however it ends.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use tokio::time::sleep;

use super::{
    UploadKey,
    arriving::{Arriving, RunningPart},
    headers::{self, Checksum},
    uploads::of_upload,
};
use crate::{
    http::{
        App,
        auth::Caller,
        behind::{Behind, Sink},
        blocking,
        paced::Paced,
        problem::{Code, Problem},
        upload::{Rest, broken, content_length, drain},
    },
    jobs::{DraftError, DraftWriter},
};

/// How often, and after which pause, a part waits for the end of the one before: 0.2 s in all, for what is being flushed.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// Appends a part to a file. Without a checksum, what has arrived of a part that breaks off is kept; HEAD tells how much that is.
#[utoipa::path(patch, path = "/api/v1/jobs/{id}/uploads/{number}", operation_id = "append_upload", tag = "uploads",
    security(("bearer" = []), ("cookie" = [])),
    request_body(content = Vec<u8>, content_type = "application/offset+octet-stream"),
    params(
        ("id" = i64, Path, description = "The job's number"),
        ("number" = i32, Path, description = "The upload's number"),
        ("Tus-Resumable" = String, Header, description = "`1.0.0`"),
        ("Upload-Offset" = u64, Header, description = "Where the part begins: the bytes that are there"),
        ("Upload-Checksum" = Option<String>, Header, description = "`sha1` or `sha256`, and the hash of the part in base64"),
    ),
    responses(
    (status = 204, description = "The part is on the disk", headers(
        ("Upload-Offset" = u64, description = "Where the next part begins"),
        ("Upload-Expires" = String, description = "When the job is removed unless bytes arrive"),
    )),
    (status = 400, description = "`bad_request`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`not_found`: the user has no such upload: it was removed, its job was started, or its time is over",
        body = Problem, content_type = "application/problem+json"),
    (status = 408, description = "`request_timeout`: the part stalled or was too slow",
        body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`offset_mismatch`", body = Problem, content_type = "application/problem+json"),
    (status = 412, description = "`tus_version`", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "`too_large`: the part goes beyond the length of the file",
        body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
    (status = 423, description = "`locked`: another part of the file arrives", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "`too_many_uploads` at the same time", body = Problem, content_type = "application/problem+json"),
    (status = 460, description = "`checksum_mismatch`: nothing of the part is kept",
        body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`busy`: the server stops", body = Problem, content_type = "application/problem+json"),
    (status = 507, description = "`disk_full`", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::http) async fn patch(
    State(app): State<App>,
    caller: Caller,
    key: UploadKey,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let (body, progress) = Paced::new(body, &app.peers.limits);
    // A body in chunks has none; it is taken as far as the file goes.
    let length = content_length(&parts.headers).ok();
    let opened = open(&app, &caller, key, &parts.headers, length).await;
    let (written, rest) = match opened {
        Ok(sink) => {
            // A task of its own, which keeps what has arrived even if the connection ends and takes this one along.
            let part = Arriving::begin(&app, caller.user.id, key, progress.clone());
            let receiving = receive(app.clone(), sink, body, part);
            let received = tokio::spawn(receiving).await;
            let (written, rest) = received.map_err(|e| {
                tracing::error!("cannot receive a part of an upload: {e}");
                Problem::internal()
            })?;
            (written, rest)
        }
        Err(problem) => (Err(problem), body),
    };
    let writer = match written {
        Ok(writer) => writer,
        Err(problem) => {
            let length = length.unwrap_or(u64::MAX);
            drain(&app, Rest::Raw(rest), length, &progress).await;
            return Err(problem);
        }
    };
    let offset = [("upload-offset", writer.received().to_string())];
    let mut response = (StatusCode::NO_CONTENT, offset).into_response();
    let expires = headers::expires(writer.expires_at());
    response.headers_mut().extend(expires);
    Ok(response)
}

async fn open(
    app: &App,
    caller: &Caller,
    key: UploadKey,
    given: &HeaderMap,
    length: Option<u64>,
) -> Result<PartSink, Problem> {
    headers::check_version(given)?;
    headers::check_octets(given)?;
    let offset = headers::offset(given)?;
    let checksum = headers::checksum(given)?;
    Arriving::end_silent(app, caller.user.id, key).await;
    let as_whole = checksum.is_some();
    for look in 0.. {
        let (jobs, user) = (app.jobs.clone(), caller.user.id);
        let opened = blocking(move || {
            let writer = jobs.write_draft(user, key.job, key.number, offset, as_whole)?;
            let all = writer.length();
            if length.is_some_and(|len| len > all.saturating_sub(offset)) {
                return Err(DraftError::Beyond { length: all });
            }
            Ok(writer)
        });
        match opened.await? {
            Ok(writer) => return Ok(PartSink { writer, checksum }),
            // A client that has just heard how far the part before came is not refused because that is about to end.
            Err(DraftError::Locked) if look < LOOKS => sleep(PAUSE).await,
            Err(e) => return Err(of_upload(e)),
        }
    }
    Err(of_upload(DraftError::Locked))
}

/// Where a part goes. Blocks on the disk.
#[derive(Debug)]
struct PartSink {
    writer: DraftWriter,
    checksum: Option<Checksum>,
}

impl Sink for PartSink {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        if let Some(checksum) = &mut self.checksum {
            checksum.update(bytes);
        }
        self.writer.take(bytes).map_err(of_upload)
    }
}

impl PartSink {
    /// Keeps the part, of which `bytes` are the last. One that broke off is kept as far as it came, unless it has a checksum.
    fn end(mut self, bytes: &[u8], arrived: Result<(), Problem>) -> Result<DraftWriter, Problem> {
        let taken = self.take(bytes);
        let arrived = arrived.and(taken);
        let Some(checksum) = self.checksum else {
            let kept = self.writer.commit().map_err(of_upload);
            arrived.and(kept)?;
            return Ok(self.writer);
        };
        let is_right = checksum.matches();
        if arrived.is_err() || !is_right {
            self.writer.undo();
        }
        arrived?;
        if !is_right {
            let detail = "the part has another checksum than Upload-Checksum; send it again";
            return Err(Problem::new(Code::ChecksumMismatch, detail));
        }
        self.writer.commit().map_err(of_upload)?;
        Ok(self.writer)
    }
}

/// Writes a part, whatever its length. Returns what is left of the body as well.
async fn receive(
    app: App,
    sink: PartSink,
    mut body: Paced,
    part: RunningPart,
) -> (Result<DraftWriter, Problem>, Paced) {
    let mut stopped = app.stopped.clone();
    let progress = part.progress();
    let mut behind = Behind::new(sink);
    let arrived = loop {
        let piece = tokio::select! {
            biased;
            // The rest is for the next process: a stop does not wait for it.
            _ = stopped.wait_for(|stopped| *stopped) => {
                progress.give_up();
                break Err(stopping());
            }
            () = part.asked_to_end() => {
                progress.give_up();
                break Err(Problem::new(Code::Locked, "another request goes on with the upload"));
            }
            piece = body.next() => piece,
        };
        progress.passed_on();
        match piece {
            Some(Ok(piece)) => {
                if let Err(problem) = behind.push(&piece).await {
                    break Err(problem);
                }
            }
            Some(Err(e)) => break Err(broken(&e, progress)),
            None => break Ok(()),
        }
    };
    let ended = end(behind, arrived).await;
    drop(part);
    (ended, body)
}

async fn end(
    behind: Behind<PartSink>,
    arrived: Result<(), Problem>,
) -> Result<DraftWriter, Problem> {
    let (written, sink, rest) = behind.end().await?;
    blocking(move || sink.end(&rest, arrived.and(written))).await?
}

fn stopping() -> Problem {
    let detail = "the server stops; go on with the upload when it is back";
    Problem::new(Code::Busy, detail)
}
