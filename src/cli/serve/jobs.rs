//! The flags of the queue and its jobs.

use std::path::PathBuf;

use super::quota::QuotaArgs;
use crate::{
    cli::{
        image_flags::{ImageFlags, parse_seconds},
        model_args::ModelArgs,
    },
    frames::VideoLimits,
    jobs::JobSettings,
};

/// The queue and its jobs.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Jobs")]
pub(super) struct JobArgs {
    /// Load the network before the first job arrives
    #[arg(long)]
    preload: bool,
    /// Reconstruct again even if the same user sent the same before
    #[arg(long)]
    no_cache: bool,
    /// Maximum number of waiting jobs
    #[arg(long, value_name = "N", default_value_t = 16)]
    queue: u16,
    /// Maximum number of waiting jobs of one user
    #[arg(long, value_name = "N", default_value_t = 4)]
    queue_per_user: u16,
    /// Take at most this many frames of a job, evenly [default: as many as fit into memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_frames: Option<u32>,
    /// Refuse videos longer than this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = VideoLimits::default().max_duration_s,
        value_parser = parse_seconds, allow_negative_numbers = true)]
    max_video_seconds: f64,
    #[command(flatten)]
    images: ImageFlags,
    /// The sky network, an ONNX file, for jobs with the option mask_sky [default: such jobs are refused]
    #[arg(long, value_name = "FILE")]
    sky_network: Option<PathBuf>,
    #[command(flatten)]
    quotas: QuotaArgs,
}

impl JobArgs {
    pub(super) fn settings(&self, model: &ModelArgs) -> JobSettings {
        JobSettings {
            queue: self.queue.into(),
            queue_per_user: self.queue_per_user.into(),
            cache: !self.no_cache,
            preload: self.preload,
            dtype: model.dtype,
            precision: model.precision,
            max_frames: self.max_frames.map(|n| n as usize),
            image_limits: self.images.limits(),
            video_limits: VideoLimits {
                max_duration_s: self.max_video_seconds,
                ..VideoLimits::default()
            },
            sky_network: self.sky_network.clone(),
            quotas: self.quotas.settings(),
            ..JobSettings::default()
        }
    }
}
