//! Limits of the process that every Unix has.

use std::{fs, io};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::decoder::protocol::Settings;

/// Bytes that the program itself takes, with FFmpeg's libraries and tables.
const PROGRAM: u64 = 64 << 20;

/// Bytes of a thread of FFmpeg: its stack, of which glibc reserves 8 MiB, twice, since decoders may start helpers.
const VIDEO_THREAD: u64 = 16 << 20;

/// Bytes of any other thread: a stack of 2 MiB, and what its allocator keeps.
const THREAD: u64 = 4 << 20;

/// Open files: standard ones, the stream, one file with its copies.
const FILES: u64 = 32;

/// Seconds of processor time between the signal that tells the limit and the end.
const LAST_SECONDS: u64 = 2;

/// Sets the limits; FFmpeg starts `video_threads` at most. Returns those that cannot be set.
pub(super) fn set(settings: &Settings, video_threads: usize) -> Vec<String> {
    let of_threads = |bytes: u64, count: usize| bytes.saturating_mul(count as u64);
    let memory = [
        PROGRAM,
        of_threads(VIDEO_THREAD, video_threads),
        of_threads(THREAD, settings.threads),
    ];
    let memory = memory
        .into_iter()
        .fold(settings.memory, u64::saturating_add);
    let cpu = settings.cpu_s;
    let limits = [
        // Private memory that can be written, counted when it is asked for; shared memory is refused by the filter of calls.
        // The limit on addresses would count what is only reserved.
        ("memory", Resource::Data, memory, memory),
        (
            "processor time",
            Resource::Cpu,
            cpu,
            cpu.saturating_add(LAST_SECONDS),
        ),
        ("files that are written", Resource::Fsize, 0, 0),
        ("core dumps", Resource::Core, 0, 0),
        ("open files", Resource::Nofile, FILES, FILES),
    ];
    let failed = |(what, resource, current, maximum)| {
        let e = lower(resource, current, maximum).err()?;
        Some(format!("a limit on {what} ({e})"))
    };
    limits.into_iter().filter_map(failed).collect()
}

/// Lowers a limit. One that is lower already stays as it is.
fn lower(resource: Resource, current: u64, maximum: u64) -> io::Result<()> {
    let least = |limit: u64, now: Option<u64>| Some(now.map_or(limit, |now| now.min(limit)));
    let now = getrlimit(resource);
    let limit = Rlimit {
        current: least(current, now.current),
        maximum: least(maximum, now.maximum),
    };
    Ok(setrlimit(resource, limit)?)
}

/// Has the kernel end this process before others when memory runs out.
pub(super) fn be_first_to_go() {
    // Without /proc it ends the largest one.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
}
