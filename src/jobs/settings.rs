//! Settings of the queue and the worker.

use std::{path::PathBuf, sync::Arc, time::Duration};

use candle_core::DType;
use vggt_model::Precision;

use super::{fleet::FleetSettings, options::JobOptions, quota::QuotaSettings};
use crate::{
    metrics::Metrics,
    pipeline::{Decoding, ImageLimits, VideoLimits},
    store::Places,
};

/// How jobs are queued and run.
#[derive(Debug, Clone)]
pub struct JobSettings {
    /// Maximum number of waiting jobs.
    pub queue: usize,
    /// Number of further places that only VIPs may take.
    pub queue_vip: usize,
    /// Maximum number of waiting jobs of one user.
    pub queue_per_user: usize,
    /// Answers a job of the same user with the same input, options and weights with the stored result.
    pub cache: bool,
    /// Loads the network at the start instead of with the first job.
    pub preload: bool,
    /// Type of the transformer; `None`: F32 on the CPU, BF16 on CUDA.
    pub dtype: Option<DType>,
    /// Arithmetic of the transformer.
    pub precision: Precision,
    /// Maximum number of frames of one job, chosen evenly; `None`: all.
    pub max_frames: Option<usize>,
    /// How long one job may run; `None`: without an end.
    pub max_job_time: Option<Duration>,
    /// How long a job with a row is tried again after a fault that passes, such as a full disk: the sum of the pauses.
    pub retry_for: Duration,
    /// Limits of an image.
    pub image_limits: ImageLimits,
    /// Limits of a video.
    pub video_limits: VideoLimits,
    /// Where the files of jobs are decoded.
    pub decoding: Decoding,
    /// Time that decoding one job's files may take.
    pub max_decode_time: Duration,
    /// The sky network, an ONNX file; without it `mask_sky` is refused.
    pub sky_network: Option<PathBuf>,
    /// How much one user may hold.
    pub quotas: QuotaSettings,
    /// The options of a job that names none.
    pub options: JobOptions,
    /// Where jobs are counted.
    pub metrics: Arc<Metrics>,
    /// How often what is computed of a job is put into the bucket of the store, where it has one.
    pub save_progress_every: Duration,
    /// How this process works on the jobs of a shared database.
    pub fleet: FleetSettings,
}

impl JobSettings {
    pub(super) fn places(&self) -> Places {
        Places {
            all: self.queue,
            vip: self.queue_vip,
            per_user: self.queue_per_user,
        }
    }
}

impl Default for JobSettings {
    fn default() -> Self {
        Self {
            queue: 16,
            queue_vip: 8,
            queue_per_user: 4,
            cache: true,
            preload: false,
            dtype: None,
            precision: Precision::Exact,
            // More than the images of a request: a video of 20 minutes at the usual 0.4 frames a second.
            max_frames: Some(500),
            max_job_time: Some(Duration::from_secs(4 * 60 * 60)),
            retry_for: Duration::from_secs(40 * 60),
            image_limits: ImageLimits::default(),
            video_limits: VideoLimits::default(),
            decoding: Decoding::default(),
            max_decode_time: VideoLimits::default().max_wall_time,
            sky_network: None,
            quotas: QuotaSettings::default(),
            options: JobOptions::default(),
            metrics: Arc::default(),
            save_progress_every: Duration::from_secs(15),
            fleet: FleetSettings::default(),
        }
    }
}
