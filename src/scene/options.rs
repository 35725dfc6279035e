//! What a user may ask of a scene, and how it is spelled.

use std::{fmt, ops::Range, str::FromStr};

use serde::{Serialize, Serializer};

use super::SceneError;

/// Which of the network's two geometries is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PredictionMode {
    /// The point head's positions: "Pointmap Regression", "Predicted Pointmap".
    #[default]
    PointmapRegression,
    /// Depth unprojected through the cameras: "Depthmap and Camera", "Depthmap and Camera Unprojection".
    DepthmapAndCamera,
}

impl FromStr for PredictionMode {
    type Err = SceneError;

    /// Takes the four names that older clients send, in any case.
    fn from_str(s: &str) -> Result<Self, SceneError> {
        match s.trim().to_ascii_lowercase().as_str() {
            "pointmap regression" | "predicted pointmap" => Ok(Self::PointmapRegression),
            "depthmap and camera" | "depthmap and camera unprojection" => {
                Ok(Self::DepthmapAndCamera)
            }
            _ => Err(SceneError::Option {
                option: "prediction mode",
                value: s.to_owned(),
                fix: "it takes \"Pointmap Regression\" (or \"Predicted Pointmap\") or \"Depthmap and Camera\" \
                      (or \"Depthmap and Camera Unprojection\")",
            }),
        }
    }
}

impl fmt::Display for PredictionMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PointmapRegression => "Pointmap Regression",
            Self::DepthmapAndCamera => "Depthmap and Camera",
        })
    }
}

impl Serialize for PredictionMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Which frames are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FrameFilter {
    /// Every frame.
    #[default]
    All,
    /// One frame, counted from 0; the scene is then aligned to its camera.
    One(usize),
}

impl FrameFilter {
    /// Which of `frames` frames are shown, at least 1 of them.
    ///
    /// # Errors
    /// [`SceneError::NoSuchFrame`] when the filter names a frame that is not there.
    pub fn shown(self, frames: usize) -> Result<Range<usize>, SceneError> {
        match self {
            Self::All => Ok(0..frames),
            Self::One(frame) if frame < frames => Ok(frame..frame + 1),
            Self::One(frame) => Err(SceneError::NoSuchFrame {
                frame,
                last: frames.saturating_sub(1),
            }),
        }
    }
}

impl FromStr for FrameFilter {
    type Err = SceneError;

    /// Takes `All`, `3` and `3: name.png` (what the Python demo's menu shows).
    fn from_str(s: &str) -> Result<Self, SceneError> {
        let first = s.split(':').next().unwrap_or_default().trim();
        if first.eq_ignore_ascii_case("all") {
            return Ok(Self::All);
        }
        first
            .parse()
            .map(Self::One)
            .map_err(|_| SceneError::Option {
                option: "frame filter",
                value: s.to_owned(),
                fix: "it takes \"All\", or a frame's number from 0, as \"3\" or \"3: name.png\"",
            })
    }
}

impl fmt::Display for FrameFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("All"),
            Self::One(frame) => write!(f, "{frame}"),
        }
    }
}

impl Serialize for FrameFilter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Which points a scene keeps, and whether it shows the cameras.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SceneOptions {
    /// Percent of the points to drop, the least confident first, in [0, 100].
    pub conf_thres: f32,
    /// Which geometry is shown.
    pub prediction_mode: PredictionMode,
    /// Which frames are shown.
    pub frame_filter: FrameFilter,
    /// Drops points whose 8-bit r + g + b is below 16.
    pub mask_black_bg: bool,
    /// Drops points whose r, g and b are all above 240.
    pub mask_white_bg: bool,
    /// Adds a shape for every shown camera.
    pub show_cam: bool,
    /// At most this many points, thinned evenly over the scene, at least 1. The scale and the cameras stay the same.
    pub max_points: Option<usize>,
}

impl Default for SceneOptions {
    /// The service's defaults: 3 % dropped, the point head, all frames, no masks, no cameras, no limit.
    fn default() -> Self {
        Self {
            conf_thres: 3.0,
            prediction_mode: PredictionMode::default(),
            frame_filter: FrameFilter::default(),
            mask_black_bg: false,
            mask_white_bg: false,
            show_cam: false,
            max_points: None,
        }
    }
}

impl SceneOptions {
    /// Tells whether every value is in its range, so that a caller can refuse before the network runs.
    ///
    /// # Errors
    /// Names the first value that is not.
    pub fn check(&self) -> Result<(), SceneError> {
        if !(0.0..=100.0).contains(&self.conf_thres) {
            return Err(SceneError::Option {
                option: "conf_thres",
                value: self.conf_thres.to_string(),
                fix: "it is the percentage of points to drop, from 0 to 100",
            });
        }
        if self.max_points == Some(0) {
            return Err(SceneError::Option {
                option: "max_points",
                value: "0".to_owned(),
                fix: "a scene needs at least 1 point",
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_mode_is_known_in_any_case() {
        for name in [
            "Pointmap Regression",
            "PREDICTED pointmap",
            " predicted pointmap ",
        ] {
            assert_eq!(
                name.parse::<PredictionMode>().unwrap(),
                PredictionMode::PointmapRegression
            );
        }
        for name in ["Depthmap and Camera", "depthmap and camera unprojection"] {
            assert_eq!(
                name.parse::<PredictionMode>().unwrap(),
                PredictionMode::DepthmapAndCamera
            );
        }
        let message = "Depth".parse::<PredictionMode>().unwrap_err().to_string();
        assert!(
            message.contains("\"Depth\"") && message.contains("Pointmap Regression"),
            "{message}"
        );
    }

    #[test]
    fn a_frame_filter_is_all_or_a_number_with_or_without_a_name() {
        for (text, filter) in [
            ("All", FrameFilter::All),
            ("all", FrameFilter::All),
            ("3", FrameFilter::One(3)),
            ("3: a: b.png", FrameFilter::One(3)),
        ] {
            assert_eq!(text.parse::<FrameFilter>().unwrap(), filter, "{text}");
        }
        for text in ["", "-1", "b.png", "1.5: a.png"] {
            assert!(text.parse::<FrameFilter>().is_err(), "{text}");
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let with = |conf_thres, max_points| SceneOptions {
            conf_thres,
            max_points,
            ..SceneOptions::default()
        };
        assert!(with(100.0, Some(1)).check().is_ok());
        for options in [
            with(-1.0, None),
            with(100.5, None),
            with(f32::NAN, None),
            with(3.0, Some(0)),
        ] {
            assert!(options.check().is_err(), "{options:?}");
        }
    }
}
