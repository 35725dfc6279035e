//! Log lines of the process that decodes, kept until the next answer takes them along.

use std::{
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

/// Bytes of lines between two answers, at most; what goes beyond is dropped.
const MAX_BYTES: usize = 16 << 10;

/// Lines between two answers, at most.
pub(super) const MAX_LINES: usize = 32;

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Takes what the log writes.
struct Keeper;

impl Write for Keeper {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() + line.len() <= MAX_BYTES {
            lines.extend_from_slice(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts keeping warnings.
pub(super) fn start() {
    // A second log of one process would be refused; the first goes on.
    let _ = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(|| Keeper)
        .with_ansi(false)
        .with_level(false)
        .with_target(false)
        .without_time()
        .try_init();
}

/// Returns the lines since the last time.
pub(super) fn take() -> Vec<String> {
    let lines = std::mem::take(&mut *LINES.lock().unwrap_or_else(PoisonError::into_inner));
    let text = String::from_utf8_lossy(&lines);
    text.lines().take(MAX_LINES).map(str::to_owned).collect()
}
