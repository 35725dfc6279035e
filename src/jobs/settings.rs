//! What a worker may take, and what a user may ask of a job.

use std::path::PathBuf;

use candle_core::DType;
use serde::{Deserialize, Deserializer, Serialize, de};
use vggt_model::Precision;

use crate::pipeline::{GlbOptions, PredictionMode, SceneOptions, VideoLimits};

/// How jobs are queued and run.
#[derive(Debug, Clone)]
pub struct JobSettings {
    /// Jobs that may wait in all.
    pub queue: usize,
    /// Jobs of one user that may wait.
    pub queue_per_user: usize,
    /// Whether the same input, options and weights of the same user give the stored result.
    pub cache: bool,
    /// Whether the network is loaded at the start instead of with the first job.
    pub preload: bool,
    /// The type of the transformer; `None`: F32 on the CPU, BF16 on CUDA.
    pub dtype: Option<DType>,
    /// How the transformer multiplies.
    pub precision: Precision,
    /// Frames of one job, at most; `None`: as many as fit into memory.
    pub max_frames: Option<usize>,
    /// What a video may be.
    pub video_limits: VideoLimits,
    /// The sky network, an ONNX file; without it `mask_sky` is refused.
    pub sky_network: Option<PathBuf>,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self {
            queue: 16,
            queue_per_user: 4,
            cache: true,
            preload: false,
            dtype: None,
            precision: Precision::Exact,
            max_frames: None,
            video_limits: VideoLimits::default(),
            sky_network: None,
        }
    }
}

/// Why options cannot be used; the text says which one and what it takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadOption(String);

/// How one job is made. As JSON it lives in the job's row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobOptions {
    /// Percent of the points to drop, in [0, 100].
    pub conf_thres: f32,
    /// Which geometry is shown.
    #[serde(deserialize_with = "mode")]
    pub prediction_mode: PredictionMode,
    /// Frames taken from each second of a video.
    pub fps: f64,
    /// Drops black points.
    pub mask_black_bg: bool,
    /// Drops white points.
    pub mask_white_bg: bool,
    /// Drops the sky.
    pub mask_sky: bool,
    /// Adds the cameras.
    pub show_cam: bool,
    /// Keeps at most this many points.
    pub max_points: Option<u32>,
    /// Stores positions in 16 bits an axis.
    pub quantized: bool,
}

impl Default for JobOptions {
    /// The service's: what the older one did.
    fn default() -> Self {
        let scene = SceneOptions::default();
        Self {
            conf_thres: scene.conf_thres,
            prediction_mode: scene.prediction_mode,
            fps: 0.4,
            mask_black_bg: false,
            mask_white_bg: false,
            mask_sky: false,
            show_cam: false,
            max_points: None,
            quantized: false,
        }
    }
}

fn mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PredictionMode, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(de::Error::custom)
}

impl JobOptions {
    /// Tells whether every value is in its range and can be had on this server.
    ///
    /// # Errors
    /// Names the first value that is not.
    pub fn check(&self, settings: &JobSettings) -> Result<(), BadOption> {
        self.scene().check().map_err(|e| BadOption(e.to_string()))?;
        if !(self.fps.is_finite() && self.fps > 0.0) {
            return Err(BadOption(format!(
                "cannot use {} as fps: it takes frames per second, above 0",
                self.fps
            )));
        }
        if self.mask_sky && settings.sky_network.is_none() {
            return Err(BadOption(
                "cannot use true as mask_sky: this server runs without a sky network".to_owned(),
            ));
        }
        Ok(())
    }

    /// Chooses the geometry by the name a user knows it by.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn set_prediction_mode(&mut self, name: &str) -> Result<(), BadOption> {
        self.prediction_mode = name
            .parse::<PredictionMode>()
            .map_err(|e| BadOption(e.to_string()))?;
        Ok(())
    }

    pub(super) fn scene(&self) -> SceneOptions {
        SceneOptions {
            conf_thres: self.conf_thres,
            prediction_mode: self.prediction_mode,
            mask_black_bg: self.mask_black_bg,
            mask_white_bg: self.mask_white_bg,
            show_cam: self.show_cam,
            max_points: self.max_points.map(|n| n as usize),
            ..SceneOptions::default()
        }
    }

    pub(super) fn glb(&self) -> GlbOptions {
        GlbOptions {
            quantized: self.quantized,
            ..GlbOptions::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_the_way_through_a_row() {
        let options = JobOptions {
            prediction_mode: PredictionMode::DepthmapAndCamera,
            max_points: Some(7),
            conf_thres: 12.5,
            ..JobOptions::default()
        };
        let json = serde_json::to_string(&options).unwrap();
        assert_eq!(
            serde_json::from_str::<JobOptions>(&json).unwrap(),
            options,
            "{json}"
        );
    }

    #[test]
    fn what_cannot_be_had_is_refused_by_name() {
        let settings = JobSettings::default();
        assert!(JobOptions::default().check(&settings).is_ok());
        let with = |change: fn(&mut JobOptions)| {
            let mut options = JobOptions::default();
            change(&mut options);
            options
        };
        let bad = [
            ("fps", with(|o| o.fps = 0.0)),
            ("mask_sky", with(|o| o.mask_sky = true)),
            ("conf_thres", with(|o| o.conf_thres = 101.0)),
            ("max_points", with(|o| o.max_points = Some(0))),
        ];
        for (name, options) in bad {
            let e = options.check(&settings).unwrap_err().to_string();
            assert!(e.contains(name), "{e}");
        }
    }
}
