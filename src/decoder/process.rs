//! The process that decodes, as its parent has it: started, killed, and asked how it ended.

use std::{
    io::{self, PipeReader, Read},
    path::Path,
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use super::{WorkerEnd, protocol::Settings};
use crate::system::{self, Channel, Ending};

/// The hidden command of this program.
const COMMAND: &str = "decode-worker";

/// Where the dynamic linker looks for FFmpeg if it is not installed. The only variable that is passed on.
const LIBRARIES: &str = "LD_LIBRARY_PATH";

/// What Rust prints before it gives up, and what crates print that unwrap an allocation's error.
const OUT_OF_MEMORY: [&str; 2] = ["memory allocation of", "AllocError"];

/// Bytes of its standard error that are looked at.
const MAX_ERRORS: u64 = 4096;

/// How long a process whose end of the stream is closed may take to end.
const LAST_MOMENTS: Duration = Duration::from_secs(1);

/// A running process; killed when dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    errors: PipeReader,
}

impl Process {
    /// Starts `program`, and returns the stream to it, its standard input. It inherits nothing else but a pipe for its last
    /// words.
    pub(super) fn start(program: &Path) -> io::Result<(Self, Channel)> {
        let mut command = Command::new(program);
        command.arg(COMMAND).env_clear();
        if let Some(folders) = std::env::var_os(LIBRARIES) {
            command.env(LIBRARIES, folders);
        }
        let (child, errors, stream) = system::start_with_channel(&mut command, "vggt")?;
        Ok((Self { child, errors }, stream))
    }

    /// Returns how the process ended, whose end of the stream is closed.
    pub(super) fn end(mut self, settings: &Settings) -> WorkerEnd {
        let status = self.wait();
        let mut words = Vec::new();
        // An error is the end of what there is.
        let _ = self
            .errors
            .by_ref()
            .take(MAX_ERRORS)
            .read_to_end(&mut words);
        let words = String::from_utf8_lossy(&words);
        if !words.trim().is_empty() {
            tracing::debug!("the process that decodes said: {words:?}");
        }
        match status {
            Ok(status) => end_of(status, &words, settings),
            Err(_) => WorkerEnd::Exit { code: -1 },
        }
    }

    fn wait(&mut self) -> io::Result<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < LAST_MOMENTS {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, or does now: neither call waits.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn end_of(status: ExitStatus, words: &str, settings: &Settings) -> WorkerEnd {
    let memory = WorkerEnd::Memory {
        mib: settings.memory >> 20,
    };
    let cpu_time = WorkerEnd::CpuTime {
        seconds: settings.cpu_s,
    };
    let without_memory = OUT_OF_MEMORY.iter().any(|text| words.contains(text));
    match system::ending_of(status) {
        Ending::Exit(_) | Ending::Aborted(_) if without_memory => memory,
        Ending::Exit(code) => WorkerEnd::Exit { code },
        Ending::CpuTime => cpu_time,
        Ending::SystemCall => WorkerEnd::SystemCall,
        Ending::Killed => WorkerEnd::Killed,
        Ending::Aborted(signal) | Ending::Signal(signal) => WorkerEnd::Signal { signal },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn the_limit_that_ended_a_process_is_told() {
        let settings = Settings {
            memory: 64 << 20,
            cpu_s: 7,
            threads: 1,
        };
        let end = |status, words| end_of(ExitStatus::from_raw(status), words, &settings);
        assert_eq!(end(libc::SIGXCPU, ""), WorkerEnd::CpuTime { seconds: 7 });
        assert_eq!(end(libc::SIGSYS, ""), WorkerEnd::SystemCall);
        let words = "memory allocation of 400000000 bytes failed";
        assert_eq!(end(libc::SIGABRT, words), WorkerEnd::Memory { mib: 64 });
        assert_eq!(end(libc::SIGABRT, ""), WorkerEnd::Signal { signal: 6 });
        assert_eq!(end(libc::SIGSEGV, ""), WorkerEnd::Signal { signal: 11 });
        assert_eq!(end(libc::SIGKILL, ""), WorkerEnd::Killed);
        assert_eq!(end(101 << 8, ""), WorkerEnd::Exit { code: 101 });
        let words = "TryReserveError { kind: AllocError { .. } }";
        assert_eq!(end(101 << 8, words), WorkerEnd::Memory { mib: 64 });
    }

    #[test]
    fn a_program_that_ends_at_once_is_noticed() {
        let (process, mut stream) = Process::start(Path::new("/bin/false")).unwrap();
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap_or(0), 0);
        let settings = Settings {
            memory: 0,
            cpu_s: 1,
            threads: 1,
        };
        assert_eq!(process.end(&settings), WorkerEnd::Exit { code: 1 });
    }
}
