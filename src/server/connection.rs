//! A connection with timeouts: every wait on the peer ends.

use std::{
    fs::File,
    io::{self, Read},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use super::limits::{Limits, Pace};
use crate::protocol::{HEAD_LEN, RequestHead};

/// Size of the buffer between socket and disk, which exists only during a transfer.
pub(super) const CHUNK: usize = 256 << 10;

/// Size of the buffer of an idle connection, for heads and small payloads.
const SMALL_BUFFER: usize = 8 << 10;

/// Bytes that a peer must accept within the stall timeout.
const WRITE_PIECE: usize = 64 << 10;

/// Why a connection ends; the text is for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum Disconnect {
    /// Closed by the peer between two requests.
    #[error("closed")]
    Closed,
    /// Closed by the peer during a request.
    #[error("client gone")]
    Lost,
    /// The peer sent or accepted nothing for too long.
    #[error("too slow")]
    Slow,
    /// The peer sent no request for too long.
    #[error("idle")]
    Idle,
    /// The payload of a rejected request was too long to skip.
    #[error("closed after a refused payload")]
    Refused,
    /// The server is stopping.
    #[error("shutdown")]
    Shutdown,
    /// A file could not be read to its end, or a thread failed.
    #[error("failed: {0}")]
    Failed(String),
}

impl From<io::Error> for Disconnect {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

/// The connection to one peer.
#[derive(Debug)]
pub(super) struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    limits: Limits,
    /// Bytes sent since the last [`Connection::take_sent`].
    sent: u64,
}

/// Runs `f` on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Disconnect> {
    tokio::task::spawn_blocking(f)
        .await
        .map_err(|e| Disconnect::Failed(e.to_string()))
}

impl Connection {
    pub(super) fn new(stream: TcpStream, limits: Limits) -> Self {
        // Replies are written as a whole; Nagle's algorithm would delay the last segment of each.
        let _ = stream.set_nodelay(true);
        let (reader, writer) = stream.into_split();
        Self {
            reader: BufReader::with_capacity(SMALL_BUFFER, reader),
            writer,
            limits,
            sent: 0,
        }
    }

    /// Reads the head of the next request.
    pub(super) async fn head(
        &mut self,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<RequestHead, Disconnect> {
        let first = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return Err(Disconnect::Shutdown),
            first = timeout(self.limits.idle, self.reader.fill_buf()) => first,
        };
        match first {
            Err(_) => return Err(Disconnect::Idle),
            // A peer that resets an idle connection has closed it.
            Ok(Ok([]) | Err(_)) => return Err(Disconnect::Closed),
            Ok(Ok(_)) => {}
        }
        let mut head = [0; HEAD_LEN];
        timeout(self.limits.stall, self.reader.read_exact(&mut head))
            .await
            .map_err(|_| Disconnect::Slow)??;
        Ok(RequestHead::parse(head))
    }

    /// Reads a whole small payload within one timeout.
    pub(super) async fn small_payload(&mut self, len: u32) -> Result<Vec<u8>, Disconnect> {
        let mut payload = vec![0; len as usize];
        timeout(self.limits.stall, self.reader.read_exact(&mut payload))
            .await
            .map_err(|_| Disconnect::Slow)??;
        Ok(payload)
    }

    /// Fills `buffer` with the next bytes of a payload.
    pub(super) async fn fill(
        &mut self,
        buffer: &mut [u8],
        pace: &mut Pace,
    ) -> Result<(), Disconnect> {
        let mut filled = 0;
        while filled < buffer.len() {
            let read = self.reader.read(&mut buffer[filled..]);
            match timeout_at(pace.deadline(), read).await {
                Err(_) => return Err(Disconnect::Slow),
                Ok(read) => match read? {
                    0 => return Err(Disconnect::Lost),
                    n => {
                        pace.received(n);
                        filled += n;
                    }
                },
            }
        }
        Ok(())
    }

    pub(super) fn pace(&self) -> Pace {
        Pace::new(&self.limits)
    }

    /// Sends bytes; the peer must accept each chunk within the stall timeout.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Disconnect> {
        for piece in bytes.chunks(WRITE_PIECE) {
            timeout(self.limits.stall, self.writer.write_all(piece))
                .await
                .map_err(|_| Disconnect::Slow)??;
            self.sent += piece.len() as u64;
        }
        Ok(())
    }

    /// Streams `len` bytes of a file.
    pub(super) async fn send_file(&mut self, mut file: File, len: u64) -> Result<(), Disconnect> {
        let mut buffer = vec![0; CHUNK.min(len as usize)];
        let mut left = len;
        while left > 0 {
            let n = (buffer.len() as u64).min(left) as usize;
            let read;
            (file, buffer, read) = blocking(move || {
                let read = file.read_exact(&mut buffer[..n]);
                (file, buffer, read)
            })
            .await?;
            read.map_err(|e| Disconnect::Failed(format!("cannot read a stored file: {e}")))?;
            self.send(&buffer[..n]).await?;
            left -= n as u64;
        }
        Ok(())
    }

    /// Reads and discards the rest of a rejected payload. One that is longer than the limit closes the connection, after
    /// the reply where the peer reads it.
    pub(super) async fn skip(&mut self, len: u64) -> Result<(), Disconnect> {
        let keeps = len <= self.limits.drain_bytes;
        if !keeps {
            // The peer reads the reply and then the end, even while it still sends.
            let _ = self.writer.shutdown().await;
        }
        let mut left = len.min(self.limits.drain_bytes);
        let mut pace = self.pace();
        let mut buffer = vec![0; (CHUNK as u64).min(left) as usize];
        while left > 0 {
            let n = (buffer.len() as u64).min(left) as usize;
            self.fill(&mut buffer[..n], &mut pace).await?;
            left -= n as u64;
        }
        if keeps {
            Ok(())
        } else {
            Err(Disconnect::Refused)
        }
    }

    /// Returns when the peer has closed its end. A peer that has only shut down its sending side counts as gone, since the
    /// two look the same. A peer that has already sent its next request counts as connected.
    pub(super) async fn closed(&mut self) {
        match self.reader.fill_buf().await {
            Ok(bytes) if !bytes.is_empty() => std::future::pending().await,
            _ => {}
        }
    }

    /// Returns the bytes sent since the last call.
    pub(super) fn take_sent(&mut self) -> u64 {
        std::mem::take(&mut self.sent)
    }
}

/// Returns the milliseconds since `start`.
pub(super) fn millis_since(start: Instant) -> u64 {
    start.elapsed().as_millis() as u64
}
