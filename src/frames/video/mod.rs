//! A video file -> the frames that a rate or a maximum number selects.
//!
//! The file is decoded once, front to back; only chosen frames are converted, one at a time, and handed
//! on at once. `read` is the entry point, `plan` chooses, `clip` opens and decodes, `convert` makes RGB of a decoded frame.
//! FFmpeg sees bytes and nothing else: the file is opened here, so that no name is taken for an address,
//! and containers that could name other files (play lists, concatenations) are not among the permitted.
//!
//! Without the feature `video` every video is refused.

#[cfg(feature = "video")]
mod clip;
#[cfg(feature = "video")]
mod convert;
#[cfg(feature = "video")]
mod plan;
#[cfg(feature = "video")]
mod read;
#[cfg(not(feature = "video"))]
mod unsupported;

use std::time::Duration;

#[cfg(feature = "video")]
pub use read::{read_video, video_size};
#[cfg(not(feature = "video"))]
pub use unsupported::{read_video, video_size};

/// Limits of a video.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VideoLimits {
    /// Length of the clip in seconds, as the container declares it and as counted while decoding.
    pub max_duration_s: f64,
    /// Width times height of one frame, in pixels.
    pub max_pixels: u64,
    /// Time that reading and decoding may take, the caller's work on frames included.
    pub max_wall_time: Duration,
}

impl Default for VideoLimits {
    /// An hour of film, 8K frames (8192 x 4320, and either way up), half an hour of work.
    fn default() -> Self {
        Self {
            max_duration_s: 3600.0,
            max_pixels: 8192 * 4320,
            max_wall_time: Duration::from_secs(1800),
        }
    }
}

/// Progress of reading a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoProgress {
    /// Frames decoded so far, chosen or not.
    pub frames_read: u64,
    /// Frames in the file as far as the container says; it may be wrong.
    pub frames_total: Option<u64>,
    /// Frames chosen so far.
    pub frames_chosen: usize,
}

/// Summary of [`read_video`].
#[derive(Debug, Clone, PartialEq)]
pub struct VideoSummary {
    /// Frames per second of the source.
    pub source_fps: f64,
    /// Every so many-th frame is a candidate.
    pub interval: u64,
    /// Frames that were decoded.
    pub frames_read: u64,
    /// Numbers of the chosen frames, counting from 1.
    pub chosen: Vec<u64>,
    /// How many frames the rate alone would have chosen, when `max_frames` thinned them out.
    pub thinned_from: Option<u64>,
    /// Sentences for the user: damage, a missing rate, a clip too short for the rate.
    pub warnings: Vec<String>,
}
