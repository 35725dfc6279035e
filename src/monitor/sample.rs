//! Readings: all metrics at one moment, of the machine or of a process.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Instant,
};

use super::{
    GpuState, MonitorError,
    cpu::{MachineTime, ProcessTime},
    gpu::{Gpu, GpuReading},
    memory,
};

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
    Machine {
        last: MachineTime,
        gpu: Gpu,
    },
    Process {
        pid: u32,
        last: ProcessTime,
        /// Any process but a thread of the kernel's; it gives its memory back before it has quite ended.
        has_memory: bool,
    },
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
        let ram_bytes = process_memory(pid)?.ok_or(MonitorError::NoProcess(pid))?;
        let has_memory = ram_bytes.is_some();
        Ok(Self {
            source: Source::Process {
                pid,
                last,
                has_memory,
            },
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
    pub(super) fn read(&mut self) -> Result<Option<[f64; 4]>, MonitorError> {
        let (cpu, gpu, ram_bytes) = match &mut self.source {
            Source::Machine { last, gpu } => {
                let now = machine_time()?;
                let cpu = now.percent_since(std::mem::replace(last, now));
                let path = "/proc/meminfo";
                let ram = memory::used_bytes(&read(path)?)
                    .ok_or_else(|| missing("memory in use", path))?;
                (cpu, gpu.read(), ram)
            }
            Source::Process {
                pid,
                last,
                has_memory,
            } => {
                let (Some(now), Some(ram)) = (process_time(*pid)?, process_memory(*pid)?) else {
                    return Ok(None);
                };
                if ram.is_none() && *has_memory {
                    return Ok(None);
                }
                let cpu = now.percent_since(std::mem::replace(last, now));
                (cpu, GpuReading::default(), ram.unwrap_or(0))
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

/// Resident bytes, where it has memory of its own; `None` when there is no such process (any more).
fn process_memory(pid: u32) -> Result<Option<Option<u64>>, MonitorError> {
    let status = read_of_process(&format!("/proc/{pid}/status"))?;
    Ok(status.map(|status| memory::resident_bytes(&status)))
}

/// Text of a process's file; `None` when there is no such process (any more).
fn read_of_process(path: &str) -> Result<Option<String>, MonitorError> {
    /// What reading says when the process ends after the file was opened: "no such process".
    const ESRCH: i32 = 3;
    match fs::read(path) {
        // A program may call itself what it likes.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        // Where nothing is mounted, that a file is missing says nothing of the process.
        Err(e) if e.kind() == io::ErrorKind::NotFound && Path::new("/proc/stat").exists() => {
            Ok(None)
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_process_is_named() {
        // Above the highest number that Linux gives (2^22).
        let e = Sampler::process(1 << 30).unwrap_err();
        assert!(e.to_string().contains("1073741824"), "{e}");
    }
}
