//! What a peer has sent and nobody has read yet.

use std::{io, sync::Arc};

use tokio::{
    io::{AsyncReadExt, Interest},
    net::tcp::OwnedReadHalf,
};

use crate::metrics::Metrics;

/// Size of the buffer of an idle connection, for heads and small payloads.
const SMALL: usize = 8 << 10;

/// Bytes that are read ahead while a peer waits for an answer, to notice that it has closed behind them: a whole small
/// request.
const AHEAD_MAX: usize = 64 << 10;

/// The receiving half of a connection with a buffer.
#[derive(Debug)]
pub(super) struct Inbox {
    half: OwnedReadHalf,
    buffer: Vec<u8>,
    /// The first unread byte of the buffer.
    start: usize,
    /// True once the peer has closed its sending side.
    ended: bool,
    metrics: Arc<Metrics>,
}

impl Inbox {
    pub(super) fn new(half: OwnedReadHalf, metrics: Arc<Metrics>) -> Self {
        Self {
            half,
            buffer: Vec::new(),
            start: 0,
            ended: false,
            metrics,
        }
    }

    /// Waits until there is a byte to read; false at the end.
    pub(super) async fn has_more(&mut self) -> io::Result<bool> {
        Ok(!self.unread().is_empty() || self.read_ahead().await? > 0)
    }

    /// Reads at least one byte; 0 at the end.
    pub(super) async fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.unread().is_empty() && out.len() >= SMALL && !self.ended {
            let n = self.half.read(out).await?;
            self.received(n);
            return Ok(n);
        }
        if !self.has_more().await? {
            return Ok(0);
        }
        let n = out.len().min(self.unread().len());
        out[..n].copy_from_slice(&self.unread()[..n]);
        self.start += n;
        Ok(n)
    }

    pub(super) async fn read_exact(&mut self, out: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < out.len() {
            match self.read(&mut out[filled..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => filled += n,
            }
        }
        Ok(())
    }

    /// Reads ahead until the peer has closed its sending side or enough is buffered; fails when the connection is reset.
    pub(super) async fn until_end(&mut self) -> io::Result<()> {
        while !self.ended && self.unread().len() < AHEAD_MAX {
            self.read_ahead().await?;
        }
        Ok(())
    }

    /// Returns when the connection is reset, or its peer has not answered keepalive probes.
    pub(super) async fn reset(&self) {
        // An error here is one of the runtime, which is stopping.
        while let Ok(ready) = self.half.ready(Interest::ERROR).await {
            if ready.is_error() {
                return;
            }
        }
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Adds what has arrived to the buffer. Loses nothing when it is dropped half-way.
    async fn read_ahead(&mut self) -> io::Result<usize> {
        if self.ended {
            return Ok(0);
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.is_empty() {
            self.buffer.shrink_to(SMALL);
        }
        self.buffer.reserve(SMALL);
        let n = self.half.read_buf(&mut self.buffer).await?;
        self.received(n);
        Ok(n)
    }

    fn received(&mut self, n: usize) {
        self.ended = n == 0;
        self.metrics.tcp.received.add(n as u64);
    }
}
