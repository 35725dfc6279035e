//! Bytes written on another thread while the next ones arrive.

use tokio::task::JoinHandle;

use super::{blocking, problem::Problem};

/// Bytes that are written at once: with two buffers an upload has as much memory as on the TCP port.
pub(super) const CHUNK: usize = 128 << 10;

/// Where bytes go. Blocks on the disk.
pub(super) trait Sink: Send + 'static {
    /// Takes the next bytes.
    fn take(&mut self, bytes: &[u8]) -> Result<(), Problem>;
}

/// A sink behind two buffers: one is written while the other is filled. That is all the memory that it takes.
#[derive(Debug)]
pub(super) struct Behind<S> {
    /// What has come since the last write.
    filled: Vec<u8>,
    state: State<S>,
}

#[derive(Debug)]
enum State<S> {
    /// Nothing is being written; with the other buffer, which is empty.
    Idle(S, Vec<u8>),
    Writing(JoinHandle<Written<S>>),
    /// The thread is gone, with the sink.
    Gone,
}

/// Whether the bytes were taken, and what was given to the thread; the buffer is empty again.
type Written<S> = (Result<(), Problem>, S, Vec<u8>);

impl<S: Sink> Behind<S> {
    pub(super) fn new(sink: S) -> Self {
        Self {
            filled: Vec::new(),
            state: State::Idle(sink, Vec::new()),
        }
    }

    /// Takes the next bytes, which may be written later.
    ///
    /// An error is that of a write before: then nothing more is written.
    pub(super) async fn push(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.filled.capacity() < CHUNK {
                self.filled.reserve_exact(CHUNK);
            }
            let (fits, after) = rest.split_at(rest.len().min(CHUNK - self.filled.len()));
            self.filled.extend_from_slice(fits);
            rest = after;
            if self.filled.len() == CHUNK {
                self.write().await?;
            }
        }
        Ok(())
    }

    /// Lets what has come be written, after what came before.
    async fn write(&mut self) -> Result<(), Problem> {
        let (written, mut sink, empty) = self.settle().await?;
        if let Err(problem) = written {
            self.filled.clear();
            self.state = State::Idle(sink, empty);
            return Err(problem);
        }
        let mut full = std::mem::replace(&mut self.filled, empty);
        self.state = State::Writing(tokio::task::spawn_blocking(move || {
            let taken = sink.take(&full);
            full.clear();
            (taken, sink, full)
        }));
        Ok(())
    }

    /// Waits for the last write. Returns what came of it, the sink, and the bytes that are not written yet: none after an error.
    pub(super) async fn end(mut self) -> Result<Written<S>, Problem> {
        let (written, sink, _) = self.settle().await?;
        if written.is_err() {
            self.filled.clear();
        }
        Ok((written, sink, self.filled))
    }

    async fn settle(&mut self) -> Result<Written<S>, Problem> {
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Idle(sink, empty) => Ok((Ok(()), sink, empty)),
            State::Writing(thread) => thread.await.map_err(|e| {
                tracing::error!("cannot answer an HTTP request: {e}");
                Problem::internal()
            }),
            State::Gone => Err(Problem::internal()),
        }
    }
}

/// Writes the last bytes and returns the sink.
pub(super) async fn written<S: Sink>(behind: Behind<S>) -> Result<S, Problem> {
    let (before, mut sink, rest) = behind.end().await?;
    before?;
    if rest.is_empty() {
        return Ok(sink);
    }
    blocking(move || sink.take(&rest).map(|()| sink)).await?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::problem::Code;

    /// Takes so many bytes.
    #[derive(Debug)]
    struct Up(usize, Vec<u8>);

    impl Sink for Up {
        fn take(&mut self, bytes: &[u8]) -> Result<(), Problem> {
            if self.1.len() + bytes.len() > self.0 {
                return Err(Problem::new(Code::DiskFull, "full"));
            }
            self.1.extend(bytes);
            Ok(())
        }
    }

    #[tokio::test]
    async fn bytes_arrive_in_order_whatever_the_pieces() {
        for piece in [1000, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let all: Vec<u8> = (0..4 * CHUNK).map(|i| (i % 251) as u8).collect();
            let mut behind = Behind::new(Up(usize::MAX, Vec::new()));
            for bytes in all.chunks(piece) {
                behind.push(bytes).await.unwrap();
            }
            assert!(written(behind).await.unwrap().1 == all, "{piece}");
        }
    }

    #[tokio::test]
    async fn nothing_is_written_after_an_error() {
        let mut behind = Behind::new(Up(CHUNK, Vec::new()));
        let bytes = vec![7; CHUNK];
        behind.push(&bytes).await.unwrap();
        behind.push(&bytes).await.unwrap();
        assert!(behind.push(&bytes).await.is_err());
        let (before, sink, rest) = behind.end().await.unwrap();
        assert!(before.is_ok() && rest.is_empty());
        assert_eq!(sink.1.len(), CHUNK);
        // The error may also be that of the last write.
        let mut behind = Behind::new(Up(CHUNK, Vec::new()));
        behind.push(&bytes).await.unwrap();
        behind.push(&bytes).await.unwrap();
        behind.push(b"more").await.unwrap();
        let (before, sink, rest) = behind.end().await.unwrap();
        assert!(before.is_err() && rest.is_empty());
        assert_eq!(sink.1.len(), CHUNK);
    }
}
