//! A socket whose peer has to take what it is sent.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

use crate::{metrics::Metrics, peers::later};

/// Bytes that the kernel keeps for the peer of a stream of events: many events. Its own buffer grows to megabytes, which takes an hour of
/// events to fill: until then nobody notices that they are not read.
const NARROW: usize = 4 << 10;

/// A socket on which a write fails when the peer takes nothing for too long. What it sends is limited elsewhere.
#[derive(Debug)]
pub(super) struct Patient {
    stream: TcpStream,
    stall: Duration,
    /// Runs while the peer takes nothing.
    wait: Option<Pin<Box<Sleep>>>,
    /// Turns true before a stream of events.
    wants_narrow: Arc<AtomicBool>,
    is_narrow: bool,
    metrics: Arc<Metrics>,
}

impl Patient {
    pub(super) fn new(
        stream: TcpStream,
        stall: Duration,
        wants_narrow: Arc<AtomicBool>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            stream,
            stall,
            wait: None,
            wants_narrow,
            is_narrow: false,
            metrics,
        }
    }

    fn narrow(&mut self) {
        if !self.is_narrow && self.wants_narrow.load(Relaxed) {
            self.is_narrow = true;
            // Where the system has no such option, its buffer is larger.
            let _ = SockRef::from(&self.stream).set_send_buffer_size(NARROW);
        }
    }

    fn in_time(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = &written {
            let sent = *written.as_ref().unwrap_or(&0);
            self.metrics.http.sent.add(sent as u64);
        }
        if written.is_ready() {
            self.wait = None;
            return written;
        }
        let stall = self.stall;
        let wait = self
            .wait
            .get_or_insert_with(|| Box::pin(sleep_until(later(Instant::now(), stall))));
        ready!(wait.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let received = buf.filled().len().saturating_sub(before);
        self.metrics.http.received.add(received as u64);
        read
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.narrow();
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.in_time(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.narrow();
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
