//! Options of a scene, and how they are spelled as text and as JSON.

use std::{fmt, ops::Range, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned};
use serde_json::{Map, Value};

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

impl PredictionMode {
    const EXPECTED: &str = "expected \"Pointmap Regression\" (or \"Predicted Pointmap\") or \"Depthmap and Camera\" \
                            (or \"Depthmap and Camera Unprojection\")";
}

impl FromStr for PredictionMode {
    type Err = SceneError;

    /// Accepts the four names that older clients send, in any case.
    fn from_str(s: &str) -> Result<Self, SceneError> {
        match s.trim().to_ascii_lowercase().as_str() {
            "pointmap regression" | "predicted pointmap" => Ok(Self::PointmapRegression),
            "depthmap and camera" | "depthmap and camera unprojection" => {
                Ok(Self::DepthmapAndCamera)
            }
            _ => Err(SceneError::Option {
                option: "prediction_mode".to_owned(),
                value: s.to_owned(),
                expected: Self::EXPECTED.to_owned(),
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

impl<'de> Deserialize<'de> for PredictionMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| de::Error::custom(Self::EXPECTED))
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
    const EXPECTED: &str =
        "expected \"All\" or the index of a frame from 0, as in \"3\" or \"3: name.png\"";

    /// Returns the range of the shown frames, at least 1 of `frames`.
    ///
    /// # Errors
    /// [`SceneError::NoSuchFrame`] when the filter names a frame that does not exist.
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

    /// Accepts `All`, `3` and `3: name.png` (as in the menu of the Python demo).
    fn from_str(s: &str) -> Result<Self, SceneError> {
        let first = s.split(':').next().unwrap_or_default().trim();
        if first.eq_ignore_ascii_case("all") {
            return Ok(Self::All);
        }
        first
            .parse()
            .map(Self::One)
            .map_err(|_| SceneError::Option {
                option: "frame_filter".to_owned(),
                value: s.to_owned(),
                expected: Self::EXPECTED.to_owned(),
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

impl<'de> Deserialize<'de> for FrameFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| de::Error::custom(Self::EXPECTED))
    }
}

/// Which points a scene keeps, and whether it shows the cameras.
///
/// The names of the fields are the names of the options everywhere: flags, requests, replies, rows of jobs, provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
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
    /// Drops pixels at steps of the depth, whose points float between what is in front and what is behind.
    pub drop_edges: bool,
    /// Drops points that stand alone, in the sense of PCL's statistical outlier removal.
    pub drop_outliers: bool,
    /// Adds a shape for every shown camera.
    pub show_cam: bool,
    /// At most this many points, thinned evenly over the frames and over each frame's image, at least 1. The scale and the cameras
    /// stay the same. `None` leaves the number to the writer: a GLB has a default of its own.
    pub max_points: Option<usize>,
}

impl SceneOptions {
    /// Returns the defaults with the demo's weights, whose point head smears objects and whose confidence is low on them.
    #[must_use]
    pub fn of_demo() -> Self {
        Self {
            conf_thres: 10.0,
            prediction_mode: PredictionMode::DepthmapAndCamera,
            ..Self::default()
        }
    }
}

impl Default for SceneOptions {
    /// The service's defaults: 3 % dropped, the point head, all frames, no masks, no filters, no cameras, no limit.
    fn default() -> Self {
        Self {
            conf_thres: 3.0,
            prediction_mode: PredictionMode::default(),
            frame_filter: FrameFilter::default(),
            mask_black_bg: false,
            mask_white_bg: false,
            drop_edges: false,
            drop_outliers: false,
            show_cam: false,
            max_points: None,
        }
    }
}

impl SceneOptions {
    /// Checks that every value is in its range, so that a caller can refuse before the network runs.
    ///
    /// # Errors
    /// Names the first value that is out of range.
    pub fn check(&self) -> Result<(), SceneError> {
        if !(0.0..=100.0).contains(&self.conf_thres) {
            return Err(SceneError::Option {
                option: "conf_thres".to_owned(),
                value: self.conf_thres.to_string(),
                expected: "expected the percentage of points to drop, from 0 to 100".to_owned(),
            });
        }
        if self.max_points == Some(0) {
            return Err(SceneError::Option {
                option: "max_points".to_owned(),
                value: "0".to_owned(),
                expected: "expected at least 1 point".to_owned(),
            });
        }
        Ok(())
    }
}

/// Returns `options` with the fields of `changes` in place of its own. `null` keeps a field.
///
/// The known names are those that `options` serializes to: `deny_unknown_fields` does not work with flattened structs.
///
/// # Errors
/// [`SceneError::UnknownOption`] for a name that `options` does not have, [`SceneError::Option`] for a value of the wrong
/// type.
pub fn with_fields<T: Serialize + DeserializeOwned + Clone>(
    options: &T,
    changes: &Map<String, Value>,
) -> Result<T, SceneError> {
    let mut fields = match serde_json::to_value(options) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let mut changed = options.clone();
    for (name, value) in changes {
        if !fields.contains_key(name) {
            return Err(SceneError::UnknownOption {
                name: shortened(name),
                known: fields.keys().cloned().collect::<Vec<_>>().join(", "),
            });
        }
        if value.is_null() {
            continue;
        }
        fields.insert(name.clone(), value.clone());
        // One field at a time, so that the error belongs to this one: serde does not name the field.
        changed = serde_json::from_value(Value::Object(fields.clone())).map_err(|e| {
            SceneError::Option {
                option: name.clone(),
                value: shortened(&value.as_str().map_or(value.to_string(), str::to_owned)),
                expected: shortened(&e.to_string()),
            }
        })?;
    }
    Ok(changed)
}

/// Returns the beginning of a text that may be too long for a message.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 160;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn changed(changes: Value) -> Result<SceneOptions, SceneError> {
        let Value::Object(changes) = changes else {
            panic!("{changes} is not an object")
        };
        with_fields(&SceneOptions::default(), &changes)
    }

    #[test]
    fn fields_replace_the_defaults_and_null_keeps_them() {
        let changes = json!({"conf_thres": 12.5, "frame_filter": "2: a.png", "max_points": 7, "show_cam": null,
            "prediction_mode": "depthmap and camera unprojection"});
        let expected = SceneOptions {
            conf_thres: 12.5,
            prediction_mode: PredictionMode::DepthmapAndCamera,
            frame_filter: FrameFilter::One(2),
            max_points: Some(7),
            ..SceneOptions::default()
        };
        assert_eq!(changed(changes).unwrap(), expected);
    }

    #[test]
    fn an_unknown_field_is_refused_with_the_list_of_known_ones() {
        let e = changed(json!({"conf_threshold": 3}))
            .unwrap_err()
            .to_string();
        assert!(
            e.contains("conf_threshold") && e.contains("conf_thres,"),
            "{e}"
        );
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_by_name() {
        for (name, value) in [
            ("conf_thres", json!("3")),
            ("prediction_mode", json!("x")),
            ("frame_filter", json!(1.5)),
            ("max_points", json!(-1)),
            ("show_cam", json!(1)),
        ] {
            let e = changed(json!({"mask_black_bg": true, name: value}))
                .unwrap_err()
                .to_string();
            assert!(e.contains(name), "{e}");
        }
    }

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
