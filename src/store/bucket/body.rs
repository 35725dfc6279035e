//! The bodies of answers: limits in time, and lists that are lists.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::{BodyExt, Limited};
use hyper::{
    Method, Uri,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
};
use object_store::client::HttpError;
use tokio::time::{Sleep, sleep};

use super::{
    connection::{failed, innermost},
    error::{Failure, Verdict},
};

/// The longest page of a list: 1000 keys of 1 KB, with as much again around each.
const LONGEST_LIST: usize = 8 << 20;

/// A body that fails once the server is silent for too long. Time in which nobody reads it does not count.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) body: Incoming,
    pub(super) host: String,
    pub(super) limit: Duration,
    pub(super) waiting: Option<Pin<Box<Sleep>>>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.waiting = None;
            let host = &this.host;
            return Poll::Ready(frame.map(|frame| {
                frame.map_err(|e| {
                    let text = format!("{host} ended its answer early: {}", innermost(&e));
                    failed(Failure::new(host, Verdict::Passing, text))
                })
            }));
        }
        let limit = this.limit;
        let waiting = this.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        if waiting.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        this.waiting = None;
        let text = format!(
            "{} was silent for {} s in its answer",
            this.host,
            limit.as_secs_f32()
        );
        Poll::Ready(Some(Err(failed(Failure::new(
            &this.host,
            Verdict::Passing,
            text,
        )))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Returns whether a request is for a page of a list.
pub(super) fn is_list(method: &Method, uri: &Uri) -> bool {
    method == Method::GET
        && uri
            .query()
            .is_some_and(|query| query.contains("list-type=2"))
}

/// Reads a list and checks that it is one: `object_store` takes any document for a list without objects, and a list that goes on
/// without saying where for the last.
pub(super) async fn whole_list(host: &str, body: Watched) -> Result<Bytes, HttpError> {
    let strange = |what: &str| {
        failed(Failure::new(
            host,
            Verdict::Strange,
            format!("{host} {what}"),
        ))
    };
    let list = match Limited::new(body, LONGEST_LIST).collect().await {
        Ok(list) => list.to_bytes(),
        Err(e) => {
            return Err(match e.downcast::<HttpError>() {
                Ok(e) => *e,
                Err(_) => strange("sends a list that is too long"),
            });
        }
    };
    let has = |text: &str| {
        list.windows(text.len())
            .any(|bytes| bytes == text.as_bytes())
    };
    if !has("<ListBucketResult") {
        return Err(strange("answers without a list: it is no S3 server"));
    }
    if has("<IsTruncated>true<") && !has("<NextContinuationToken>") {
        return Err(strange(
            "does not say where its list goes on: it does not know ListObjectsV2",
        ));
    }
    Ok(list)
}
