//! The rest of a body that its handler did not read.
//!
//! hyper closes the connection on which such a rest comes, without a word in the answer: the next request on it is lost, and perhaps the
//! answer as well, since the kernel resets a connection that is closed before all was read. So a short rest is read, and before
//! a long one the answer says that the connection ends.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, header},
};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::peers::DRAIN_BEFORE_LOGIN;

/// Longest rest that is read, as on the TCP port of a peer that is not logged in. A handler of uploads reads more by itself.
const REST_MAX: u64 = DRAIN_BEFORE_LOGIN;

/// Longest time for it: enough for what is on its way, and not much longer than a person waits for an answer.
const REST_TIME: Duration = Duration::from_secs(1);

/// A body whose handler gives back what it does not read.
#[derive(Debug)]
pub(super) struct Watched {
    body: Option<Incoming>,
    back: Unread,
}

/// What a handler did not read of its body.
#[derive(Debug, Clone, Default)]
pub(super) struct Unread(Arc<Mutex<Option<Incoming>>>);

impl Unread {
    pub(super) fn watch(&self, body: Incoming) -> Watched {
        Watched {
            body: Some(body),
            back: self.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Incoming>> {
        // Every change is one assignment.
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Reads a short rest and throws it away; returns false when there is more, or when it does not come.
    ///
    /// A client that waits for 100 Continue gets it here, unless its body is long.
    async fn is_over(&self) -> bool {
        let rest = self.lock().take();
        let Some(mut rest) = rest.filter(|rest| !rest.is_end_stream()) else {
            return true;
        };
        if rest.size_hint().lower() > REST_MAX {
            return false;
        }
        let read = async {
            let mut len = 0;
            while let Some(frame) = rest.frame().await {
                let data = frame.ok().and_then(|frame| frame.into_data().ok());
                len += data.map_or(0, |data| data.len() as u64);
                if len > REST_MAX {
                    return false;
                }
            }
            true
        };
        timeout(REST_TIME, read).await.unwrap_or(false)
    }

    /// As [`Unread::is_over`]; when it is not, the answer says that its connection ends.
    pub(super) async fn finish(&self, answer: &mut HeaderMap) {
        if !self.is_over().await {
            answer.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        *self.back.lock() = self.body.take();
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}
