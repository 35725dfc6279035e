//! A body that has to arrive, and that nobody collects: time and memory of an upload.

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, Bytes};
use futures_util::Stream;
use http_body::Body as _;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::peers::{Limits, Pace};

/// Bytes that the parser of a multipart body may hold without passing anything on: many times the head of a part.
const HELD_MAX: u64 = 1 << 20;

/// Bytes after which the parser has to pass something on before it gets more. It takes all that is ready before that; mostly that is
/// one piece, as much as the connection's buffer has.
const READY_MAX: u64 = 256 << 10;

/// What the reader and the body tell each other.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Bytes that have arrived.
    arrived: AtomicU64,
    /// Those of them after which the reader last got something.
    passed_on: AtomicU64,
    /// True once the peer was too slow.
    late: AtomicBool,
    /// True once the parser held too much.
    held_too_much: AtomicBool,
    /// True once nobody wants the rest.
    is_discarded: AtomicBool,
    /// True once nobody waits for the rest either.
    is_given_up: AtomicBool,
    /// When bytes last arrived, in milliseconds since `begun`.
    last: AtomicU64,
    begun: Begun,
}

/// The beginning of a body.
#[derive(Debug)]
struct Begun(Instant);

impl Default for Begun {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Begun {
    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Progress {
    /// Returns for how long nothing has arrived.
    pub(super) fn silence(&self) -> Duration {
        let ms = self.begun.elapsed_ms();
        Duration::from_millis(ms.saturating_sub(self.last.load(Relaxed)))
    }

    /// From now on nobody waits for the body.
    pub(super) fn give_up(&self) {
        self.is_given_up.store(true, Relaxed);
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Relaxed)
    }

    /// Notes that the parser has passed something on.
    pub(super) fn passed_on(&self) {
        self.passed_on.store(self.arrived(), Relaxed);
    }

    /// From now on the body is read and thrown away.
    pub(super) fn discard(&self) {
        self.is_discarded.store(true, Relaxed);
    }

    pub(super) fn arrived(&self) -> u64 {
        self.arrived.load(Relaxed)
    }

    /// Bytes that have arrived and that the reader has not got.
    fn held(&self) -> u64 {
        self.arrived().saturating_sub(self.passed_on.load(Relaxed))
    }

    pub(super) fn is_late(&self) -> bool {
        self.late.load(Relaxed)
    }

    pub(super) fn held_too_much(&self) -> bool {
        self.held_too_much.load(Relaxed)
    }
}

/// A body as a stream that fails when the peer stalls or is slower than the minimum rate, or when its reader collects it.
pub(super) struct Paced {
    body: Body,
    pace: Pace,
    wait: Pin<Box<Sleep>>,
    is_waiting: bool,
    /// True once the parser of a multipart body has got a lot and has not passed it on: the next time nothing is ready for it.
    rests: bool,
    progress: Arc<Progress>,
}

impl fmt::Debug for Paced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Paced")
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl Paced {
    pub(super) fn new(body: Body, limits: &Limits) -> (Self, Arc<Progress>) {
        let progress = Arc::<Progress>::default();
        let pace = Pace::new(limits);
        let paced = Self {
            body,
            wait: Box::pin(sleep_until(pace.deadline())),
            pace,
            is_waiting: false,
            rests: false,
            progress: progress.clone(),
        };
        (paced, progress)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                if !self.is_waiting {
                    // From now on: while the piece before was written, nobody waited for the peer.
                    self.wait.as_mut().reset(self.pace.deadline());
                    self.is_waiting = true;
                }
                ready!(self.wait.as_mut().poll(cx));
                self.progress.late.store(true, Relaxed);
                return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
            };
            self.is_waiting = false;
            match frame {
                None => return Poll::Ready(None),
                Some(Err(e)) => return Poll::Ready(Some(Err(io::Error::other(e)))),
                Some(Ok(frame)) => {
                    // Trailers are nobody's.
                    let Ok(piece) = frame.into_data() else {
                        continue;
                    };
                    self.pace.received(piece.len());
                    if self.progress.is_discarded.load(Relaxed) {
                        continue;
                    }
                    return Poll::Ready(Some(self.counted(piece)));
                }
            }
        }
    }

    fn counted(&self, piece: Bytes) -> io::Result<Bytes> {
        let Progress {
            arrived,
            passed_on,
            last,
            begun,
            ..
        } = &*self.progress;
        last.store(begun.elapsed_ms(), Relaxed);
        let all = arrived.fetch_add(piece.len() as u64, Relaxed) + piece.len() as u64;
        if all - passed_on.load(Relaxed) > HELD_MAX {
            self.progress.held_too_much.store(true, Relaxed);
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(piece)
    }
}

impl Stream for Paced {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.rests) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let piece = ready!(self.poll_piece(cx));
        self.rests = self.progress.held() >= READY_MAX;
        Poll::Ready(piece)
    }
}

/// Returns a time that no peer is waited for beyond, for a body that is read to its end and thrown away.
pub(super) fn linger(limits: &Limits) -> Instant {
    crate::peers::later(Instant::now(), limits.stall)
}
