//! The process that decodes and the stream to it, with the limits of one job.

use std::{
    fs::File,
    io,
    path::Path,
    sync::Once,
    time::{Duration, Instant},
};

use super::{
    Allowance, DecoderError, Worker, WorkerEnd, WorkerError,
    failure::{Asked, Failure, tidy},
    log::MAX_LINES,
    process::Process,
    protocol::{Reply, Request, Settings, Task},
    waiting::{GoOn, Stop, TICK, Waiting},
    wire,
};
use crate::{frames::FramesError, system::Channel};

/// How long the process may take to receive a request, which is a few hundred bytes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most seconds of processor time, 34 years: the kernel counts in nanoseconds, which must not overflow.
const MAX_CPU_S: u64 = 1 << 30;

/// A process that decodes, and the stream to it.
#[derive(Debug)]
pub(super) struct Link {
    /// `None` once it has ended.
    process: Option<Process>,
    stream: Channel,
    settings: Settings,
    /// `None`: so far away that the clock cannot express it.
    deadline: Option<Instant>,
    /// From the start to the deadline.
    pub(super) time: Duration,
    last_tick: Instant,
    greeted: bool,
}

impl Link {
    /// Starts the process.
    pub(super) fn start(worker: &Worker, allowance: &Allowance) -> Result<Self, WorkerError> {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let settings = Settings {
            memory: allowance.memory,
            // A fraction of a second is a second; all cores may be at work all the time.
            cpu_s: (allowance.time.as_secs().saturating_add(1))
                .saturating_mul(cores)
                .min(MAX_CPU_S),
            threads: rayon::current_num_threads(),
        };
        let (process, mut stream) = Process::start(worker.program()).map_err(WorkerError::Start)?;
        // A process that is gone already is noticed when its answer is awaited.
        let _ = wire::write(&mut stream, &settings);
        Self::over(stream, Some(process), settings, allowance.time).map_err(WorkerError::Start)
    }

    fn over(
        stream: Channel,
        process: Option<Process>,
        settings: Settings,
        time: Duration,
    ) -> io::Result<Self> {
        stream.set_read_timeout(Some(TICK))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let start = Instant::now();
        Ok(Self {
            process,
            stream,
            settings,
            deadline: start.checked_add(time),
            time,
            last_tick: start,
            greeted: false,
        })
    }

    /// Waits for the greeting, which is the answer to the settings.
    pub(super) fn greeting(
        &mut self,
        asked: &Asked<'_>,
        go_on: &mut GoOn<'_>,
    ) -> Result<(), DecoderError> {
        if self.greeted {
            return Ok(());
        }
        match self.any_reply(asked, go_on)? {
            Reply::Hello { version, .. } if version != env!("VGGT_VERSION") => {
                Err(WorkerError::Version {
                    found: tidy(&version),
                    own: env!("VGGT_VERSION"),
                }
                .into())
            }
            Reply::Hello { missing, .. } => {
                self.greeted = true;
                tell_once(&missing);
                Ok(())
            }
            _ => Err(self.wrong(asked, "no greeting")),
        }
    }

    /// Sends a request with its file.
    pub(super) fn ask(
        &mut self,
        path: &Path,
        task: Task,
        file: &File,
        asked: &Asked<'_>,
        go_on: &mut GoOn<'_>,
    ) -> Result<(), DecoderError> {
        self.greeting(asked, go_on)?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        let request = Request {
            name: name.to_string_lossy().into_owned(),
            task,
        };
        match wire::send(&mut self.stream, &request, file) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.ended(asked)),
        }
    }

    /// Returns the next reply that is not for the log.
    pub(super) fn reply(
        &mut self,
        asked: &Asked<'_>,
        go_on: &mut GoOn<'_>,
    ) -> Result<Reply, DecoderError> {
        for _ in 0..=MAX_LINES {
            match self.any_reply(asked, go_on)? {
                Reply::Log(line) => tracing::warn!("{}", tidy(&line)),
                Reply::Hello { .. } => return Err(self.wrong(asked, "a second greeting")),
                reply => return Ok(reply),
            }
        }
        Err(self.wrong(asked, "too many lines for the log"))
    }

    fn any_reply(
        &mut self,
        asked: &Asked<'_>,
        go_on: &mut GoOn<'_>,
    ) -> Result<Reply, DecoderError> {
        let read = self.reading(asked, go_on, |from| wire::read(from))?;
        read.ok_or_else(|| self.ended(asked))
    }

    /// Reads from the process until `read` has what it wants.
    pub(super) fn reading<T>(
        &mut self,
        asked: &Asked<'_>,
        go_on: &mut GoOn<'_>,
        read: impl FnOnce(&mut Waiting<'_, '_>) -> io::Result<T>,
    ) -> Result<T, DecoderError> {
        let mut waiting = Waiting {
            stream: &self.stream,
            deadline: self.deadline,
            last_tick: &mut self.last_tick,
            go_on,
            stopped: None,
        };
        let done = read(&mut waiting);
        let stopped = waiting.stopped;
        match (stopped, done) {
            (Some(Stop::Cancelled), _) => {
                self.process = None;
                Err(FramesError::Cancelled.into())
            }
            (Some(Stop::TimeOver), _) => {
                self.process = None;
                Err(self.too_slow(asked))
            }
            (None, Ok(value)) => Ok(value),
            (None, Err(e)) if e.kind() == io::ErrorKind::InvalidData => {
                Err(self.wrong(asked, "not a message"))
            }
            (None, Err(_)) => Err(self.ended(asked)),
        }
    }

    /// The error of a file that was asked for.
    pub(super) fn failed(&mut self, failure: Failure, asked: &Asked<'_>) -> DecoderError {
        match failure.told(asked) {
            // FFmpeg told what it met at the limit.
            FramesError::VideoOutOfMemory { .. } => WorkerError::Ended {
                name: name_of(asked),
                end: WorkerEnd::Memory {
                    mib: self.settings.memory >> 20,
                },
            }
            .into(),
            e => e.into(),
        }
    }

    fn too_slow(&self, asked: &Asked<'_>) -> DecoderError {
        FramesError::TooSlow {
            name: name_of(asked),
            max_seconds: self.time.as_secs_f64(),
        }
        .into()
    }

    /// The error of an answer that makes no sense; ends the process.
    pub(super) fn wrong(&mut self, asked: &Asked<'_>, why: &'static str) -> DecoderError {
        self.process = None;
        WorkerError::Answer {
            name: name_of(asked),
            why,
        }
        .into()
    }

    fn ended(&mut self, asked: &Asked<'_>) -> DecoderError {
        let end = match self.process.take() {
            Some(process) => process.end(&self.settings),
            None => WorkerEnd::Exit { code: 0 },
        };
        WorkerError::Ended {
            name: name_of(asked),
            end,
        }
        .into()
    }
}

/// Says what the kernel lacks to lock a process in: of the first one, since all are alike.
fn tell_once(missing: &[String]) {
    static TOLD: Once = Once::new();
    if missing.is_empty() {
        return;
    }
    let missing: Vec<String> = missing.iter().map(|text| tidy(text)).collect();
    TOLD.call_once(|| {
        tracing::warn!(
            "the process that decodes has its limits, but the kernel lacks {} to lock it in",
            missing.join(" and ")
        );
    });
}

fn name_of(asked: &Asked<'_>) -> String {
    let name = asked.path.file_name().unwrap_or(asked.path.as_os_str());
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
impl Link {
    /// To a process that a test stands in for.
    pub(super) fn of_test(stream: Channel, time: Duration) -> Self {
        let settings = Settings {
            memory: 1 << 30,
            cpu_s: 1,
            threads: 1,
        };
        Self::over(stream, None, settings, time).unwrap()
    }
}
