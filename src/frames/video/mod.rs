//! A video file -> the frames that a rate or a maximum number selects, or the sharpest and most different ones.
//!
//! The file is read twice, front to back: first its packets, without decoding, for the times at which frames are shown, then
//! with decoding; only chosen frames are converted, one at a time, and handed on at once. `read` is the entry point, `clip`
//! opens, `scan` reads the times, `timeline` keeps them, `rate` tells constant from variable rates, `plan` chooses, `decode`
//! decodes, and `convert` makes RGB of a decoded frame.
//!
//! For the sharpest and most different frames it is decoded once more before: `gray` makes a small image of every frame, `sketch`
//! what is remembered of it, `candidates` keeps a limited number, and `keyframes` chooses
//! among them, with `spread` for what is to be even in time.
//!
//! FFmpeg sees bytes and nothing else: the file is opened here, so that no name is taken for an address,
//! and containers that could name other files (play lists, concatenations) are not among the permitted.
//!
//! Without the feature `video` every video is refused.

#[cfg(feature = "video")]
mod candidates;
mod choice;
#[cfg(feature = "video")]
mod clip;
mod codecs;
#[cfg(feature = "video")]
mod color;
#[cfg(feature = "video")]
mod convert;
#[cfg(feature = "video")]
mod decode;
mod file;
#[cfg(feature = "video")]
mod gray;
#[cfg(feature = "video")]
mod keyframes;
#[cfg(feature = "video")]
mod memory;
#[cfg(feature = "video")]
mod plan;
#[cfg(feature = "video")]
mod rate;
#[cfg(feature = "video")]
mod read;
#[cfg(feature = "video")]
mod scan;
#[cfg(feature = "video")]
mod sketch;
#[cfg(feature = "video")]
mod spread;
#[cfg(feature = "video")]
mod timeline;
#[cfg(not(feature = "video"))]
mod unsupported;
#[cfg(feature = "video")]
mod watch;

use std::{sync::LazyLock, time::Duration};

pub use choice::{Keyframes, VideoChoice};
pub use codecs::video_codecs;
pub use file::{VideoFile, read_video, video_size};
#[cfg(feature = "video")]
pub use read::{read_video_file, video_file_size};
#[cfg(not(feature = "video"))]
pub use unsupported::{read_video_file, video_file_size};

/// Limits of a video.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VideoLimits {
    /// Length of the clip in seconds, as the container declares it and as counted while decoding.
    pub max_duration_s: f64,
    /// Width times height of one frame, in pixels.
    pub max_pixels: u64,
    /// Time that reading and decoding may take, the caller's work on frames included.
    pub max_wall_time: Duration,
    /// Memory that decoding takes, in bytes, estimated from the header.
    pub max_memory: u64,
}

impl Default for VideoLimits {
    /// An hour of film, 8K frames (8192 x 4320, and either way up), half an hour of work, 8 GiB of memory.
    fn default() -> Self {
        Self {
            max_duration_s: 3600.0,
            max_pixels: 8192 * 4320,
            max_wall_time: Duration::from_secs(1800),
            max_memory: DEFAULT_MEMORY,
        }
    }
}

/// 8K frames of 10 bits take some 4 GB with 16 threads.
const DEFAULT_MEMORY: u64 = 8 << 30;

/// Number of threads that decode a video. It is asked for once: the answer needs files that a process which has locked itself
/// in cannot open.
pub fn video_threads() -> usize {
    static THREADS: LazyLock<usize> = LazyLock::new(|| {
        std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, MAX_THREADS))
    });
    *THREADS
}

/// FFmpeg's own maximum.
const MAX_THREADS: usize = 16;

/// Progress of reading a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoProgress {
    /// Frames decoded so far, chosen or not; of a clip that is decoded twice, half of those of both passes.
    pub frames_read: u64,
    /// Frames that are shown, by the packets of the file; some may be damaged.
    pub frames_total: Option<u64>,
    /// Frames chosen so far.
    pub frames_chosen: usize,
}

/// Summary of [`read_video`].
#[derive(Debug, Clone, PartialEq)]
pub struct VideoSummary {
    /// Frames per second of the source; of a variable rate the average.
    pub source_fps: f64,
    /// Every so many-th frame is a candidate; with a variable or unknown rate on average, since times decide there.
    pub interval: u64,
    /// Frames that were decoded.
    pub frames_read: u64,
    /// Numbers of the chosen frames, counting from 1.
    pub chosen: Vec<u64>,
    /// How many frames the rate alone would have chosen, when `max_frames` thinned them out.
    pub thinned_from: Option<u64>,
    /// What became of all frames, with [`VideoChoice::Keyframes`].
    pub keyframes: Option<Keyframes>,
    /// Sentences for the user: damage, a missing rate, a clip too short for the rate, colors that cannot be right.
    pub warnings: Vec<String>,
}
