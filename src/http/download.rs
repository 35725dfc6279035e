//! A file as an answer: whole or in part, streamed from the disk.

use std::{fs::File, io};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header, response::Builder},
    response::{IntoResponse, Response},
};
use futures_util::{TryStreamExt, stream};

use super::{
    problem::{Code, Problem},
    range::{Part, is_known, part_of},
};
use crate::{
    store::{StoredBytes, StoredFile},
    system,
};

/// Size of a piece that is read at once, as the TCP port has it.
const PIECE: u64 = 256 << 10;

/// Asked for again with the tag each time: the result may be deleted.
const CACHED: &str = "private, no-cache";

/// A file to be sent.
#[derive(Debug)]
pub(super) struct Download {
    pub(super) file: StoredFile,
    /// Differs where the bytes may differ.
    pub(super) tag: String,
    pub(super) content_type: &'static str,
    /// Under which a browser stores it; `None`: it is shown.
    pub(super) name: Option<String>,
}

/// Answers a request for a file.
pub(super) async fn send(headers: &HeaderMap, download: Download) -> Result<Response, Problem> {
    let Download { file, .. } = download;
    let len = file.len();
    let etag = format!("\"{}\"", download.tag);
    if is_known(headers, &etag) {
        return Ok(unchanged(&etag));
    }
    let answer = Response::builder()
        .header(header::ETAG, &etag)
        .header(header::CACHE_CONTROL, CACHED);
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
        .header(header::CONTENT_TYPE, download.content_type)
        .header(header::CONTENT_LENGTH, bytes.end() - bytes.start() + 1);
    if let Some(name) = &download.name {
        answer = answer.header(header::CONTENT_DISPOSITION, disposition(name));
    }
    if status == StatusCode::PARTIAL_CONTENT {
        let (first, last) = (bytes.start(), bytes.end());
        answer = answer.header(header::CONTENT_RANGE, format!("bytes {first}-{last}/{len}"));
    }
    let (start, left) = (*bytes.start(), bytes.end() - bytes.start() + 1);
    let bytes = match left {
        0 => return finished(answer, Body::empty()),
        left => file.bytes(start, left),
    };
    let bytes = bytes.map_err(|e| {
        tracing::error!("cannot read a stored file: {e}");
        Problem::internal()
    })?;
    finished(
        answer,
        match bytes {
            StoredBytes::Disk(file) => Body::from_stream(pieces(file, start, left)),
            StoredBytes::Bucket(reader) => Body::from_stream(reader.inspect_err(|e| {
                tracing::error!("cannot read a stored file: {e}");
            })),
        },
    )
}

/// Tells a client that it has the file with this ETag.
pub(super) fn unchanged(etag: &str) -> Response {
    let about = [(header::ETAG, etag), (header::CACHE_CONTROL, CACHED)];
    (StatusCode::NOT_MODIFIED, about).into_response()
}

fn finished(answer: Builder, body: Body) -> Result<Response, Problem> {
    answer.body(body).map_err(|e| {
        tracing::error!("cannot answer an HTTP request: {e}");
        Problem::internal()
    })
}

/// The `left` bytes of a file from `start` on, read on another thread one piece ahead at most.
pub(super) fn pieces(
    file: File,
    start: u64,
    left: u64,
) -> impl stream::Stream<Item = io::Result<Bytes>> {
    stream::try_unfold((file, start, left), |(file, start, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; left.min(PIECE) as usize];
            system::read_exact_at(&file, &mut piece, start)?;
            Ok::<_, io::Error>((file, piece))
        });
        let (file, piece) = read.await.map_err(io::Error::other)?.inspect_err(|e| {
            tracing::error!("cannot read a stored file: {e}");
        })?;
        let read = piece.len() as u64;
        Ok(Some((
            Bytes::from(piece),
            (file, start + read, left - read),
        )))
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
