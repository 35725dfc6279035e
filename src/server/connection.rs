//! A socket with patience: every wait on the peer ends.

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

/// Bytes between socket and disk, the one large buffer of a connection; it exists while it is used.
pub(super) const CHUNK: usize = 256 << 10;

/// Bytes of an idle connection: heads and small payloads.
const SMALL_BUFFER: usize = 8 << 10;

/// Bytes that a peer must take within the time of a stall.
const WRITE_PIECE: usize = 64 << 10;

/// The connection is of no use any more; the text is for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum Gone {
    /// Between two requests, as it should be.
    #[error("closed")]
    Closed,
    /// In the midst of a request.
    #[error("client gone")]
    Lost,
    /// Nothing came, or nothing was taken, for too long.
    #[error("too slow")]
    Slow,
    /// No request for too long.
    #[error("idle")]
    Idle,
    /// The payload could not be skipped.
    #[error("closed after a refused payload")]
    Refused,
    /// The server stops.
    #[error("shutdown")]
    Shutdown,
    /// A file that could not be read to its end, or a thread that failed.
    #[error("failed: {0}")]
    Failed(String),
}

impl From<io::Error> for Gone {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

/// One peer.
#[derive(Debug)]
pub(super) struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    limits: Limits,
    /// Bytes sent since the last [`Connection::take_sent`].
    sent: u64,
}

/// Runs `f` where blocking is allowed.
pub(super) async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Gone> {
    tokio::task::spawn_blocking(f)
        .await
        .map_err(|e| Gone::Failed(e.to_string()))
}

impl Connection {
    pub(super) fn new(stream: TcpStream, limits: Limits) -> Self {
        // Replies are written whole; without this the last piece of one waits for the peer.
        let _ = stream.set_nodelay(true);
        let (reader, writer) = stream.into_split();
        Self {
            reader: BufReader::with_capacity(SMALL_BUFFER, reader),
            writer,
            limits,
            sent: 0,
        }
    }

    /// The next request's head.
    pub(super) async fn head(
        &mut self,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<RequestHead, Gone> {
        let first = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return Err(Gone::Shutdown),
            first = timeout(self.limits.idle, self.reader.fill_buf()) => first,
        };
        match first {
            Err(_) => return Err(Gone::Idle),
            // A peer that resets an idle connection has closed it.
            Ok(Ok([]) | Err(_)) => return Err(Gone::Closed),
            Ok(Ok(_)) => {}
        }
        let mut head = [0; HEAD_LEN];
        timeout(self.limits.stall, self.reader.read_exact(&mut head))
            .await
            .map_err(|_| Gone::Slow)??;
        Ok(RequestHead::parse(head))
    }

    /// A whole small payload, in one span of patience.
    pub(super) async fn small_payload(&mut self, len: u32) -> Result<Vec<u8>, Gone> {
        let mut payload = vec![0; len as usize];
        timeout(self.limits.stall, self.reader.read_exact(&mut payload))
            .await
            .map_err(|_| Gone::Slow)??;
        Ok(payload)
    }

    /// Fills `buffer` with the next bytes of a payload.
    pub(super) async fn fill(&mut self, buffer: &mut [u8], pace: &mut Pace) -> Result<(), Gone> {
        let mut filled = 0;
        while filled < buffer.len() {
            let read = self.reader.read(&mut buffer[filled..]);
            match timeout_at(pace.deadline(), read).await {
                Err(_) => return Err(Gone::Slow),
                Ok(read) => match read? {
                    0 => return Err(Gone::Lost),
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

    /// Sends bytes; the peer must take each piece in time.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        for piece in bytes.chunks(WRITE_PIECE) {
            timeout(self.limits.stall, self.writer.write_all(piece))
                .await
                .map_err(|_| Gone::Slow)??;
            self.sent += piece.len() as u64;
        }
        Ok(())
    }

    /// Streams `len` bytes of a file.
    pub(super) async fn send_file(&mut self, mut file: File, len: u64) -> Result<(), Gone> {
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
            read.map_err(|e| Gone::Failed(format!("cannot read a stored file: {e}")))?;
            self.send(&buffer[..n]).await?;
            left -= n as u64;
        }
        Ok(())
    }

    /// Reads and throws away what is left of a refused payload; what is longer than the limit closes the connection, in
    /// good order where the peer lets it.
    pub(super) async fn skip(&mut self, len: u64) -> Result<(), Gone> {
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
        if keeps { Ok(()) } else { Err(Gone::Refused) }
    }

    /// Returns when the peer has closed its end; a peer that only says it will send no more cannot be told from one that is
    /// gone, and counts as such. A peer that has sent its next request already is taken to be there.
    pub(super) async fn closed(&mut self) {
        match self.reader.fill_buf().await {
            Ok(bytes) if !bytes.is_empty() => std::future::pending().await,
            _ => {}
        }
    }

    /// Bytes sent since this was asked last.
    pub(super) fn take_sent(&mut self) -> u64 {
        std::mem::take(&mut self.sent)
    }
}

/// How long since `start`, for logs.
pub(super) fn millis_since(start: Instant) -> u64 {
    start.elapsed().as_millis() as u64
}
