//! A bounded queue of lines and the thread that writes them, so that nobody waits for a full disk, or for a pipe that is not
//! read.
//!
//! `tracing-appender` does the same, but prints its own failures to standard output, counts what it drops without telling it
//! in the log, and gives up on the last lines after 100 ms.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError, SyncSender, TrySendError},
    },
    thread,
    time::{Duration, Instant},
};

/// Lines that wait at most: 4 MiB of the longest. More are dropped and counted.
const LINES: usize = 1024;

/// How often the thread tells what was dropped or folded.
const TICK: Duration = Duration::from_secs(1);

enum Item {
    Line(String),
    /// Answered when all lines before it have been written or dropped.
    Flush(mpsc::Sender<()>),
}

/// Passes lines to the thread; never blocks.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    items: SyncSender<Item>,
    lost: Arc<AtomicU64>,
}

impl Queue {
    /// Starts the thread, which writes to `out`. `more` is asked for further lines about once a second, and with `true` at
    /// each flush; it gets the number of lines that were lost, if any.
    ///
    /// # Errors
    /// When there is no thread.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        more: impl FnMut(bool, Option<u64>) -> Vec<String> + Send + 'static,
    ) -> io::Result<Self> {
        let (items, queue) = mpsc::sync_channel(LINES);
        let lost = Arc::<AtomicU64>::default();
        let mut writer = Writer {
            out,
            more,
            lost: lost.clone(),
            torn: false,
        };
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.run(&queue))?;
        Ok(Self { items, lost })
    }

    /// Appends a line, with its line break, or counts it as lost.
    pub(super) fn send(&self, line: String) {
        if self.items.try_send(Item::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything before is written, for `limit` at most.
    pub(super) fn flush(&self, limit: Duration) {
        const PAUSE: Duration = Duration::from_millis(5);
        let end = Instant::now() + limit;
        let (done, wait) = mpsc::channel();
        let mut item = Item::Flush(done);
        while let Err(TrySendError::Full(back)) = self.items.try_send(item) {
            if Instant::now() >= end {
                return;
            }
            item = back;
            thread::sleep(PAUSE);
        }
        let _ = wait.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

struct Writer<W, M> {
    out: W,
    more: M,
    lost: Arc<AtomicU64>,
    /// The last line was written in part.
    torn: bool,
}

impl<W: Write, M: FnMut(bool, Option<u64>) -> Vec<String>> Writer<W, M> {
    fn run(&mut self, queue: &mpsc::Receiver<Item>) {
        let mut told = Instant::now();
        loop {
            match queue.recv_timeout(TICK) {
                Ok(Item::Line(line)) => self.write(&line),
                Ok(Item::Flush(done)) => {
                    self.tell(true);
                    // The caller that waited may have given up.
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if told.elapsed() >= TICK {
                told = Instant::now();
                self.tell(false);
            }
        }
    }

    fn tell(&mut self, last: bool) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let lines = (self.more)(last, (lost > 0).then_some(lost));
        let failed = self.lost.load(Ordering::Relaxed);
        for line in lines {
            self.write(&line);
        }
        if lost > 0 && self.lost.load(Ordering::Relaxed) > failed {
            // Nobody has read the number: it is told again, without the lines that told it.
            self.lost.store(lost + failed, Ordering::Relaxed);
        }
    }

    /// Writes a line; one that cannot be written is counted. There is nobody to tell the error to.
    fn write(&mut self, line: &str) {
        let mut rest = line.as_bytes();
        let mut torn: &[u8] = if self.torn { b"\n" } else { b"" };
        if self.write_all(&mut torn).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.torn = false;
        if self.write_all(&mut rest).is_err() {
            self.torn = rest.len() < line.len();
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// As [`Write::write_all`]; `bytes` keeps what was not written.
    fn write_all(&mut self, bytes: &mut &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.out.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => *bytes = &bytes[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Takes so many bytes and then fails.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Write for Disk {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap();
            let n = buf.len().min(disk.1);
            if n == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            disk.1 -= n;
            disk.0.extend_from_slice(&buf[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn told(_: bool, lost: Option<u64>) -> Vec<String> {
        lost.map(|n| format!("lost {n}\n")).into_iter().collect()
    }

    #[test]
    fn a_full_disk_costs_lines_and_they_are_told_when_there_is_room() {
        let disk = Disk::default();
        disk.0.lock().unwrap().1 = 9;
        let queue = Queue::start(disk.clone(), told).unwrap();
        for i in 0..4 {
            queue.send(format!("line {i}\n"));
        }
        queue.flush(Duration::from_secs(10));
        queue.flush(Duration::from_secs(10));
        disk.0.lock().unwrap().1 = 1000;
        queue.send("again\n".to_owned());
        queue.flush(Duration::from_secs(10));
        let text = String::from_utf8(disk.0.lock().unwrap().0.clone()).unwrap();
        assert_eq!(text, "line 0\nli\nagain\nlost 3\n");
    }

    /// Blocks until it is told to go on, as a pipe that nobody reads.
    struct Pipe(mpsc::Receiver<()>, Disk);

    impl Write for Pipe {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.write(buf)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_a_pipe_that_is_not_read() {
        let disk = Disk::default();
        disk.0.lock().unwrap().1 = usize::MAX;
        let (go, blocked) = mpsc::channel();
        let queue = Queue::start(Pipe(blocked, disk.clone()), told).unwrap();
        for i in 0..5000 {
            queue.send(format!("line {i}\n"));
        }
        queue.flush(Duration::from_millis(1));
        drop(go);
        queue.flush(Duration::from_secs(60));
        let text = String::from_utf8(disk.0.lock().unwrap().0.clone()).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("line")).count();
        assert!(lines >= LINES, "{lines}");
        let lost: usize = text
            .lines()
            .filter_map(|line| line.strip_prefix("lost ")?.parse::<usize>().ok())
            .sum();
        assert_eq!(lines + lost, 5000);
    }
}
