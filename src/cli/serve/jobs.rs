//! The flags of jobs.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use super::quota::QuotaArgs;
use crate::{
    cli::{
        image_flags::{ImageFlags, parse_seconds},
        model_args::ModelArgs,
    },
    frames::VideoLimits,
    jobs::{JobOptions, JobSettings},
    scene::SceneOptions,
};

/// Jobs.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Jobs")]
pub(super) struct JobArgs {
    /// Load the network before the first job arrives
    #[arg(long)]
    preload: bool,
    /// Take at most this many frames of a job, evenly; "off" takes all
    #[arg(long, value_name = "N", default_value_t = Limit(Some(500)))]
    max_frames: Limit,
    /// Refuse videos longer than this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = VideoLimits::default().max_duration_s,
        value_parser = parse_seconds, allow_negative_numbers = true, hide_short_help = true)]
    max_video_seconds: f64,
    #[command(flatten)]
    images: ImageFlags,
    /// The sky network, an ONNX file, for jobs with the option mask_sky [default: such jobs are refused]
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    sky_network: Option<PathBuf>,
    #[command(flatten)]
    quotas: QuotaArgs,
    /// Stop a job that runs for longer; "off" lets it run
    #[arg(long, value_name = "SECONDS", default_value_t = Limit(Some(14400)), hide_short_help = true)]
    max_job_seconds: Limit,
    /// How long to try a job of command 8 again that a passing fault stopped, such as a full disk; 0 fails it at once
    #[arg(
        long,
        value_name = "MINUTES",
        default_value_t = 40,
        hide_short_help = true
    )]
    retry_minutes: u32,
}

/// A limit that can be lifted: a number, or "off" or 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit(Option<u32>);

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self(None));
        }
        let number: u32 = text
            .parse()
            .map_err(|_| "expected a whole number, or \"off\"".to_owned())?;
        Ok(Self(Some(number).filter(|n| *n > 0)))
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => number.fmt(f),
            None => f.write_str("off"),
        }
    }
}

impl JobArgs {
    pub(super) fn settings(&self, model: &ModelArgs) -> JobSettings {
        JobSettings {
            preload: self.preload,
            dtype: model.dtype,
            precision: model.precision,
            max_frames: self.max_frames.0.map(|n| n as usize),
            max_job_time: (self.max_job_seconds.0).map(|n| Duration::from_secs(n.into())),
            retry_for: Duration::from_secs(u64::from(self.retry_minutes) * 60),
            image_limits: self.images.limits(),
            video_limits: VideoLimits {
                max_duration_s: self.max_video_seconds,
                ..VideoLimits::default()
            },
            sky_network: self.sky_network.clone(),
            quotas: self.quotas.settings(),
            options: match model.demo {
                true => JobOptions {
                    scene: SceneOptions::of_demo(),
                    ..JobOptions::default()
                },
                false => JobOptions::default(),
            },
            ..JobSettings::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_or_off() {
        assert_eq!("300".parse(), Ok(Limit(Some(300))));
        for off in ["off", "OFF", "0"] {
            assert_eq!(off.parse(), Ok(Limit(None)));
        }
        for bad in ["", "-1", "1.5", "many", "4294967296"] {
            assert!(bad.parse::<Limit>().is_err(), "{bad}");
        }
        assert_eq!(Limit(None).to_string().parse(), Ok(Limit(None)));
    }
}
