//! The flags of decoding, which is done in a process of its own.

use std::time::Duration;

use crate::{
    cli::decode_flags::DecodeFlags, frames::VideoLimits, jobs::JobSettings, pipeline::Decoding,
};

/// An hour of 1080p takes some 5 minutes on two cores, which other jobs can wait.
const MAX_DECODE_SECONDS: u64 = 600;

/// Decoding of images and videos.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Decoding")]
pub(super) struct DecodeArgs {
    /// Stop decoding the files of one job after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = MAX_DECODE_SECONDS,
        value_parser = clap::value_parser!(u64).range(1..), allow_negative_numbers = true, hide_short_help = true)]
    max_decode_seconds: u64,
    #[command(flatten)]
    flags: DecodeFlags,
    /// Decode in this process: a file that crashes a decoder or takes all memory then ends the service
    #[arg(long, hide_short_help = true)]
    no_isolate: bool,
}

impl DecodeArgs {
    /// Adds what these flags say, and tries the process that decodes.
    pub(super) fn settings(&self, of_jobs: JobSettings) -> anyhow::Result<JobSettings> {
        let max_decode_time = Duration::from_secs(self.max_decode_seconds);
        Ok(JobSettings {
            video_limits: VideoLimits {
                max_wall_time: max_decode_time,
                max_memory: self.flags.max_memory(),
                ..of_jobs.video_limits
            },
            decoding: match self.no_isolate {
                true => Decoding::Here,
                false => self.flags.isolated()?,
            },
            max_decode_time,
            ..of_jobs
        })
    }
}
