//! Readings on a fixed schedule.

use std::{
    fs, io,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    Curve, GpuState, MonitorError, Stats,
    cpu::{MachineTime, ProcessTime},
    gpu::{Gpu, GpuReading},
    memory,
};

/// Time from one sample to the next, that of the older script.
pub const PERIOD: Duration = Duration::from_millis(100);

/// Bytes of the GB in which memory is given: 10^9, as the unit says; the GiB of other tools is 7 % more.
const BYTES_PER_GB: f64 = 1e9;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Load of the CPUs in percent: of all together for a machine, of one for a process.
    Cpu,
    /// Mean load of all GPUs in percent.
    Gpu,
    /// Memory in use on all GPUs, in GB.
    Vram,
    /// Memory in use on the machine, or resident memory of the process, in GB.
    Ram,
}

impl Metric {
    /// Every metric, in the order of [`Sample::values`].
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Gpu, Self::Vram, Self::Ram];

    /// Name for people: `CPU`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Gpu => "GPU",
            Self::Vram => "VRAM",
            Self::Ram => "RAM",
        }
    }

    /// Unit for people: `%` or `GB`.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Cpu | Self::Gpu => "%",
            Self::Vram | Self::Ram => "GB",
        }
    }

    /// Name for programs, with the unit: `cpu_percent`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Cpu => "cpu_percent",
            Self::Gpu => "gpu_percent",
            Self::Vram => "vram_gb",
            Self::Ram => "ram_gb",
        }
    }

    /// Decimals worth printing: a tenth of a percent, a megabyte.
    pub fn decimals(self) -> usize {
        match self {
            Self::Cpu | Self::Gpu => 1,
            Self::Vram | Self::Ram => 3,
        }
    }
}

/// All metrics at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    /// Time since the session's start.
    pub seconds: f64,
    /// One value for each of [`Metric::ALL`], in its unit.
    pub values: [f64; 4],
}

impl Sample {
    /// The value of one metric.
    pub fn get(&self, metric: Metric) -> f64 {
        self.values[metric as usize]
    }
}

/// The source of readings: the machine with its GPUs, or one process.
#[derive(Debug)]
pub struct Sampler {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Machine { last: MachineTime, gpu: Gpu },
    Process { pid: u32, last: ProcessTime },
}

impl Sampler {
    /// Readings of the whole machine.
    ///
    /// # Errors
    /// Where there is no `/proc`.
    pub fn machine() -> Result<Self, MonitorError> {
        let last = machine_time()?;
        let gpu = Gpu::open();
        Ok(Self {
            source: Source::Machine { last, gpu },
        })
    }

    /// Readings of one process with all its threads, without its children.
    ///
    /// # Errors
    /// [`MonitorError::NoProcess`] where none of that number runs.
    pub fn process(pid: u32) -> Result<Self, MonitorError> {
        let last = process_time(pid)?.ok_or(MonitorError::NoProcess(pid))?;
        Ok(Self {
            source: Source::Process { pid, last },
        })
    }

    /// The metrics that this source has: all of a machine, CPU and RAM of a process.
    pub fn metrics(&self) -> &'static [Metric] {
        match self.source {
            Source::Machine { .. } => &Metric::ALL,
            Source::Process { .. } => &[Metric::Cpu, Metric::Ram],
        }
    }

    /// Whether GPU figures are measured; `None` for a process, which has none.
    pub fn gpu_state(&self) -> Option<GpuState> {
        match &self.source {
            Source::Machine { gpu, .. } => Some(gpu.state()),
            Source::Process { .. } => None,
        }
    }

    /// Values of all metrics since the last reading; `None` once the process has ended.
    fn read(&mut self) -> Result<Option<[f64; 4]>, MonitorError> {
        let (cpu, gpu, ram_bytes) = match &mut self.source {
            Source::Machine { last, gpu } => {
                let now = machine_time()?;
                let cpu = now.percent_since(std::mem::replace(last, now));
                let path = "/proc/meminfo";
                let ram = memory::used_bytes(&read(path)?)
                    .ok_or_else(|| missing("memory in use", path))?;
                (cpu, gpu.read(), ram)
            }
            Source::Process { pid, last } => {
                let Some(now) = process_time(*pid)? else {
                    return Ok(None);
                };
                let Some(status) = read_of_process(&format!("/proc/{pid}/status"))? else {
                    return Ok(None);
                };
                let cpu = now.percent_since(std::mem::replace(last, now));
                let ram = memory::resident_bytes(&status).unwrap_or(0);
                (cpu, GpuReading::default(), ram)
            }
        };
        let vram_gb = gpu.used_bytes as f64 / BYTES_PER_GB;
        let ram_gb = ram_bytes as f64 / BYTES_PER_GB;
        Ok(Some([cpu, gpu.percent, vram_gb, ram_gb]))
    }
}

fn machine_time() -> Result<MachineTime, MonitorError> {
    let path = "/proc/stat";
    MachineTime::parse(&read(path)?).ok_or_else(|| missing("CPU times", path))
}

fn process_time(pid: u32) -> Result<Option<ProcessTime>, MonitorError> {
    let path = format!("/proc/{pid}/stat");
    let Some(stat) = read_of_process(&path)? else {
        return Ok(None);
    };
    ProcessTime::parse(&stat, Instant::now()).ok_or_else(|| missing("CPU times", &path))
}

/// Text of a process's file; `None` when there is no such process (any more).
fn read_of_process(path: &str) -> Result<Option<String>, MonitorError> {
    /// What reading says when the process ends after the file was opened: "no such process".
    const ESRCH: i32 = 3;
    match fs::read(path) {
        // A program may call itself what it likes.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) if e.raw_os_error() == Some(ESRCH) => Ok(None),
        Err(source) => Err(unreadable(path, source)),
    }
}

fn read(path: &str) -> Result<String, MonitorError> {
    fs::read_to_string(path).map_err(|source| unreadable(path, source))
}

fn unreadable(path: &str, source: io::Error) -> MonitorError {
    MonitorError::Read {
        path: PathBuf::from(path),
        source,
    }
}

fn missing(what: &'static str, path: &str) -> MonitorError {
    MonitorError::Missing {
        what,
        path: PathBuf::from(path),
    }
}

/// How a session came to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum End {
    /// The watcher said so.
    #[default]
    Stopped,
    /// The time that was asked for is over.
    TimeUp,
    /// The process has ended.
    ProcessEnded,
}

/// One measurement from start to stop.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Session {
    /// Figures of each of [`Metric::ALL`].
    pub stats: [Stats; 4],
    /// The course.
    pub curve: Curve,
    /// Time from the start to the last sample.
    pub seconds: f64,
    /// Why it is over.
    pub end: End,
}

impl Session {
    /// Takes one more sample in.
    pub fn push(&mut self, sample: &Sample) {
        for (stats, value) in self.stats.iter_mut().zip(sample.values) {
            stats.push(value);
        }
        self.curve.push(sample);
        self.seconds = sample.seconds;
    }

    /// Figures of one metric.
    pub fn stats(&self, metric: Metric) -> &Stats {
        &self.stats[metric as usize]
    }

    /// Number of samples.
    pub fn samples(&self) -> u64 {
        self.stats[0].count()
    }
}

/// Who a recording reports to, and who ends it.
pub trait Watcher {
    /// Waits for that long, or less when the recording is to end. False ends it.
    fn wait(&mut self, time: Duration) -> bool;
    /// Sees each sample as it is taken. False ends the recording.
    fn sample(&mut self, sample: &Sample) -> bool;
}

/// Records one session: a sample at each multiple of [`PERIOD`] after the start, until the watcher ends it, `limit` is
/// over or the process has ended.
///
/// The multiples are those of one clock, so lateness does not add up; a sample that is late by a whole period is left out
/// rather than taken twice.
///
/// # Errors
/// When the source cannot be read.
pub fn record(
    sampler: &mut Sampler,
    limit: Option<Duration>,
    watcher: &mut dyn Watcher,
) -> Result<Session, MonitorError> {
    let mut session = Session::default();
    // CPU load is that since the last reading, which may be minutes ago.
    if sampler.read()?.is_none() {
        session.end = End::ProcessEnded;
        return Ok(session);
    }
    let start = Instant::now();
    let mut due = PERIOD;
    session.end = loop {
        if limit.is_some_and(|limit| due > limit) {
            break End::TimeUp;
        }
        if !watcher.wait(due.saturating_sub(start.elapsed())) {
            break End::Stopped;
        }
        let Some(values) = sampler.read()? else {
            break End::ProcessEnded;
        };
        let elapsed = start.elapsed();
        let sample = Sample {
            seconds: elapsed.as_secs_f64(),
            values,
        };
        session.push(&sample);
        if !watcher.sample(&sample) {
            break End::Stopped;
        }
        due = next_due(due, elapsed);
    };
    Ok(session)
}

/// The first multiple of [`PERIOD`] after both the last one and now.
fn next_due(due: Duration, elapsed: Duration) -> Duration {
    let periods = due.max(elapsed).as_nanos() / PERIOD.as_nanos() + 1;
    PERIOD.saturating_mul(u32::try_from(periods).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_does_not_add_up() {
        let ms = Duration::from_millis;
        assert_eq!(next_due(ms(100), ms(117)), ms(200));
        assert_eq!(next_due(ms(200), ms(299)), ms(300));
        // Late by more than a period: what was missed stays out.
        assert_eq!(next_due(ms(300), ms(655)), ms(700));
        // Woken early: no second sample for the same moment.
        assert_eq!(next_due(ms(700), ms(699)), ms(800));
    }

    /// Counts samples and never waits.
    struct Count(usize);

    impl Watcher for Count {
        fn wait(&mut self, _: Duration) -> bool {
            true
        }

        fn sample(&mut self, _: &Sample) -> bool {
            self.0 -= 1;
            self.0 > 0
        }
    }

    #[test]
    fn a_session_ends_when_its_watcher_says_so() {
        let mut sampler = Sampler::machine().unwrap();
        let session = record(&mut sampler, None, &mut Count(5)).unwrap();
        assert_eq!((session.samples(), session.end), (5, End::Stopped));
        assert!(session.stats(Metric::Ram).min() > 0.0);
        let cpu = session.stats(Metric::Cpu);
        assert!(cpu.min() >= 0.0 && cpu.max() <= 100.0, "{cpu:?}");
    }

    #[test]
    fn the_limit_counts_moments_that_were_due() {
        let mut sampler = Sampler::process(std::process::id()).unwrap();
        let session = record(&mut sampler, Some(3 * PERIOD), &mut Count(100)).unwrap();
        assert_eq!((session.samples(), session.end), (3, End::TimeUp));
    }

    #[test]
    fn an_unknown_process_is_named() {
        // Above the highest number that Linux gives (2^22).
        let e = Sampler::process(1 << 30).unwrap_err();
        assert!(e.to_string().contains("1073741824"), "{e}");
    }
}
