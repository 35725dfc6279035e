//! A connection with timeouts: every wait on the peer ends.

use std::{
    fmt::Display,
    fs::File,
    io::{self, Read},
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, tcp::OwnedWriteHalf},
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use super::inbox::Inbox;
use crate::{
    metrics::Metrics,
    peers::{DRAIN_BEFORE_LOGIN, Limits, Pace, later},
    protocol::{HEAD_LEN, RequestHead},
    store::{StoredBytes, StoredFile},
};

/// Size of the buffer between socket and disk, which exists only during a transfer.
pub(super) const CHUNK: usize = 256 << 10;

/// Bytes that a peer must accept within the stall timeout.
const WRITE_PIECE: usize = 64 << 10;

/// How long a refused payload is read on before the connection closes without a login, so that a quick peer reads the reply.
const LINGER: Duration = Duration::from_secs(5);

/// Silence after which the kernel asks whether the peer is still there, the pause between its questions, and their number.
/// A machine that is gone is noticed after a minute; a process that is gone answers the next question with a reset, where
/// its socket has closed for good (Linux keeps a half-closed one for another minute).
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// The same for a peer that has closed its sending side: its process may be gone.
const KEEPALIVE_HALF_CLOSED: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(5))
    .with_interval(Duration::from_secs(5))
    .with_retries(3);

/// How every answer that a peer may wait for begins: the high bytes of a length below 256. Sent early, one makes a peer that has
/// closed for good answer with a reset; one that has only closed its sending side reads it as the beginning of the answer.
const BEGIN: [u8; 3] = [0; 3];

/// Pauses before each of these bytes: at once, and later for a process that ends after it has closed its sending side.
/// Keepalive does the rest, a minute after such an end.
const PAUSES: [Duration; BEGIN.len()] = [
    Duration::ZERO,
    Duration::from_secs(5),
    Duration::from_secs(20),
];

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
    /// The peer did not log in in time.
    #[error("no login in time")]
    NoLogin,
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
    inbox: Inbox,
    writer: OwnedWriteHalf,
    limits: Limits,
    metrics: Arc<Metrics>,
    /// Bytes sent since the last [`Connection::take_sent`].
    sent: u64,
    /// Number of bytes of the next answer that have been sent.
    begun: usize,
    /// Time at which the next of them is due.
    next_byte: Option<Instant>,
    /// Time by which the peer must log in; `None` for one that is logged in.
    login_by: Option<Instant>,
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
    pub(super) fn new(stream: TcpStream, limits: Limits, metrics: Arc<Metrics>) -> Self {
        // Replies are written as a whole; Nagle's algorithm would delay the last segment of each.
        let _ = stream.set_nodelay(true);
        // Where the system has no such option, a peer that is gone is noticed when something is sent.
        let _ = SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE);
        let (half, writer) = stream.into_split();
        Self {
            inbox: Inbox::new(half, metrics.clone()),
            writer,
            limits,
            metrics,
            sent: 0,
            begun: 0,
            next_byte: None,
            login_by: None,
        }
    }

    /// Sets the time by which the peer must log in; `None` for one that is logged in.
    pub(super) fn set_login_by(&mut self, login_by: Option<Instant>) {
        self.login_by = login_by;
    }

    pub(super) fn login_by(&self) -> Option<Instant> {
        self.login_by
    }

    /// What arrives, for the header of a proxy.
    pub(super) fn inbox(&mut self) -> &mut Inbox {
        &mut self.inbox
    }

    /// Reads the head of the next request.
    pub(super) async fn head(
        &mut self,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<RequestHead, Disconnect> {
        let (until, late) = self.deadline(self.limits.idle, Disconnect::Idle);
        let first = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return Err(Disconnect::Shutdown),
            first = timeout_at(until, self.inbox.has_more()) => first,
        };
        match first {
            Err(_) => return Err(late),
            // A peer that resets an idle connection has closed it.
            Ok(Ok(false) | Err(_)) => return Err(Disconnect::Closed),
            Ok(Ok(true)) => {}
        }
        let mut head = [0; HEAD_LEN];
        self.read_exact(&mut head).await?;
        Ok(RequestHead::parse(head))
    }

    /// Reads a whole small payload within one timeout.
    pub(super) async fn small_payload(&mut self, len: u32) -> Result<Vec<u8>, Disconnect> {
        let mut payload = vec![0; len as usize];
        self.read_exact(&mut payload).await?;
        Ok(payload)
    }

    async fn read_exact(&mut self, bytes: &mut [u8]) -> Result<(), Disconnect> {
        let (until, late) = self.deadline(self.limits.stall, Disconnect::Slow);
        timeout_at(until, self.inbox.read_exact(bytes))
            .await
            .map_err(|_| late)??;
        Ok(())
    }

    /// Returns the end of a wait, and what it means when it comes. Before a login all waits together have one end.
    fn deadline(&self, wait: Duration, late: Disconnect) -> (Instant, Disconnect) {
        self.sooner(later(Instant::now(), wait), late)
    }

    fn sooner(&self, until: Instant, late: Disconnect) -> (Instant, Disconnect) {
        match self.login_by {
            Some(login_by) if login_by < until => (login_by, Disconnect::NoLogin),
            _ => (until, late),
        }
    }

    /// Fills `buffer` with the next bytes of a payload.
    pub(super) async fn fill(
        &mut self,
        buffer: &mut [u8],
        pace: &mut Pace,
    ) -> Result<(), Disconnect> {
        let mut filled = 0;
        while filled < buffer.len() {
            let (until, late) = self.sooner(pace.deadline(), Disconnect::Slow);
            let read = self.inbox.read(&mut buffer[filled..]);
            match timeout_at(until, read).await {
                Err(_) => return Err(late),
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
        let (begun, bytes) = bytes.split_at(self.begun.min(bytes.len()));
        if begun != &BEGIN[..self.begun] {
            return Err(Disconnect::Failed("an answer of another kind".to_owned()));
        }
        (self.begun, self.next_byte) = (0, None);
        for piece in bytes.chunks(WRITE_PIECE) {
            timeout(self.limits.stall, self.writer.write_all(piece))
                .await
                .map_err(|_| Disconnect::Slow)??;
            self.count_sent(piece.len() as u64);
        }
        Ok(())
    }

    /// Streams the `len` bytes of a file. Without a login it must be taken at the rate of an upload on average, so that nobody
    /// keeps a place with a byte now and then.
    pub(super) async fn send_file(&mut self, file: StoredFile, len: u64) -> Result<(), Disconnect> {
        let unreadable =
            |e: &dyn Display| Disconnect::Failed(format!("cannot read a stored file: {e}"));
        match file.bytes(0, len).map_err(|e| unreadable(&e))? {
            StoredBytes::Disk(file) => self.send_from_disk(file, len).await,
            StoredBytes::Bucket(mut reader) => {
                let mut pace = self.pace();
                while let Some(piece) = reader.next().await {
                    let piece = piece.map_err(|e| unreadable(&e))?;
                    self.send_paced(&piece, &mut pace).await?;
                }
                Ok(())
            }
        }
    }

    async fn send_from_disk(&mut self, mut file: File, len: u64) -> Result<(), Disconnect> {
        let mut buffer = vec![0; CHUNK.min(len as usize)];
        let mut left = len;
        let mut pace = self.pace();
        while left > 0 {
            let n = (buffer.len() as u64).min(left) as usize;
            let read;
            (file, buffer, read) = blocking(move || {
                let read = file.read_exact(&mut buffer[..n]);
                (file, buffer, read)
            })
            .await?;
            read.map_err(|e| Disconnect::Failed(format!("cannot read a stored file: {e}")))?;
            self.send_paced(&buffer[..n], &mut pace).await?;
            left -= n as u64;
        }
        Ok(())
    }

    async fn send_paced(&mut self, bytes: &[u8], pace: &mut Pace) -> Result<(), Disconnect> {
        if self.login_by.is_none() {
            return self.send(bytes).await;
        }
        let send = timeout_at(pace.deadline(), self.send(bytes));
        send.await.map_err(|_| Disconnect::Slow)??;
        pace.received(bytes.len());
        Ok(())
    }

    /// Reads and discards the rest of a rejected payload. One that is longer than the limit closes the connection, after
    /// the reply where the peer reads it.
    pub(super) async fn skip(&mut self, len: u64) -> Result<(), Disconnect> {
        let most = match self.login_by {
            Some(_) => self.limits.drain_bytes.min(DRAIN_BEFORE_LOGIN),
            None => self.limits.drain_bytes,
        };
        let keeps = len <= most;
        if !keeps {
            // The peer reads the reply and then the end, even while it still sends.
            let _ = self.writer.shutdown().await;
            if self.login_by.is_some() {
                let linger = later(Instant::now(), LINGER);
                self.login_by = self.login_by.map(|login_by| login_by.min(linger));
            }
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

    /// Returns when the peer is gone, while it waits for an answer that begins with a length: after a reset, when it does
    /// not answer keepalive probes, and soon after it has closed its connection, also behind bytes of further requests. A peer
    /// that has only closed its sending side is still there.
    ///
    /// TCP announces both in the same way. The first bytes of the answer, which are the same for all of them, are sent early to
    /// tell them apart: a connection that is closed answers with a reset. May be dropped and called again.
    pub(super) async fn gone(&mut self) {
        if self.inbox.until_end().await.is_err() {
            return;
        }
        while let Some(pause) = PAUSES.get(self.begun) {
            let due = later(Instant::now(), *pause);
            let due = *self.next_byte.get_or_insert(due);
            if timeout_at(due, self.inbox.reset()).await.is_ok() {
                return;
            }
            let sent = self.writer.write_all(&BEGIN[self.begun..][..1]);
            if !matches!(timeout(self.limits.stall, sent).await, Ok(Ok(()))) {
                return;
            }
            self.begun += 1;
            self.next_byte = None;
            self.count_sent(1);
            let _ = SockRef::from(self.writer.as_ref()).set_tcp_keepalive(&KEEPALIVE_HALF_CLOSED);
        }
        self.inbox.reset().await;
    }

    fn count_sent(&mut self, bytes: u64) {
        self.sent += bytes;
        self.metrics.tcp.sent.add(bytes);
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
