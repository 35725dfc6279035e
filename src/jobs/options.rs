//! Options of a job: one type for requests, replies, rows and the provenance of the result.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::settings::JobSettings;
use crate::pipeline::{
    AttentionOptions, GlbEncoding, GlbOptions, RefinementOptions, SceneOptions, with_fields,
};

/// Why options cannot be used; the text names the option and the accepted values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadOption(String);

impl BadOption {
    pub(super) fn new(why: String) -> Self {
        Self(why)
    }
}

/// Options of one job. As JSON they are the fields of command 11's table, each with its value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobOptions {
    /// What the scene shows.
    #[serde(flatten, serialize_with = "without_frame_filter")]
    pub scene: SceneOptions,
    /// How the frames attend to each other.
    #[serde(flatten)]
    pub attention: AttentionOptions,
    /// Frames to take from each second of a video.
    pub fps: f64,
    /// Takes so many of the sharpest and most different frames of a video instead.
    pub keyframes: Option<usize>,
    /// Drops the sky.
    pub mask_sky: bool,
    /// Refines the cameras with the photos.
    pub refine: bool,
    /// Encoding of the GLB.
    #[serde(rename = "format")]
    pub encoding: GlbEncoding,
}

impl Default for JobOptions {
    /// Returns the defaults of the service, which are those of the Python service.
    fn default() -> Self {
        Self {
            scene: SceneOptions::default(),
            attention: AttentionOptions::default(),
            fps: 0.4,
            keyframes: None,
            mask_sky: false,
            refine: false,
            encoding: GlbEncoding::default(),
        }
    }
}

/// A job always shows all frames: the wire has no field for a filter.
fn without_frame_filter<S: Serializer>(
    scene: &SceneOptions,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut fields = serde_json::to_value(scene).map_err(serde::ser::Error::custom)?;
    if let Value::Object(fields) = &mut fields {
        fields.remove("frame_filter");
    }
    fields.serialize(serializer)
}

impl JobOptions {
    /// Returns the options with the fields of a request.
    ///
    /// # Errors
    /// When there is no such option, or a value is of the wrong type.
    pub fn with_request(&self, fields: &Map<String, Value>) -> Result<Self, BadOption> {
        with_fields(self, fields).map_err(|e| BadOption(e.to_string()))
    }

    /// Reads the options of a job's row. Fields that are missing take the default, so that rows of older versions stay
    /// readable.
    ///
    /// # Errors
    /// When the text is not the JSON of options.
    pub fn from_row(text: &str) -> Result<Self, serde_json::Error> {
        let mut fields: Map<String, Value> = serde_json::from_str(text)?;
        // Version 0.1.0 wrote a bool here.
        if let Some(Value::Bool(quantized)) = fields.remove("quantized") {
            let encoding = if quantized {
                GlbEncoding::Quantized
            } else {
                GlbEncoding::Plain
            };
            fields.insert("format".to_owned(), serde_json::to_value(encoding)?);
        }
        serde_json::from_value(Value::Object(fields))
    }

    /// Checks that every value is in its range and available on this server.
    ///
    /// # Errors
    /// Names the first value that is not.
    pub fn check(&self, settings: &JobSettings) -> Result<(), BadOption> {
        self.scene.check().map_err(|e| BadOption(e.to_string()))?;
        let attention = self.attention.check();
        attention.map_err(|e| BadOption(e.to_string()))?;
        if !(self.fps.is_finite() && self.fps > 0.0) {
            return Err(BadOption(format!(
                "cannot use {} as fps: expected frames per second, above 0",
                self.fps
            )));
        }
        if self.keyframes == Some(0) {
            return Err(BadOption(
                "cannot use 0 as keyframes: expected a number of frames, at least 1".to_owned(),
            ));
        }
        if self.mask_sky && settings.sky_network.is_none() {
            return Err(BadOption(
                "cannot use true as mask_sky: this server runs without a sky network".to_owned(),
            ));
        }
        Ok(())
    }

    /// Returns how cameras are refined, if they are. It is kept with the result, so that all its files have the same cameras.
    pub(super) fn refinement(&self) -> Option<RefinementOptions> {
        self.refine.then(RefinementOptions::default)
    }

    pub(super) fn glb(&self) -> GlbOptions {
        GlbOptions {
            encoding: self.encoding,
            ..GlbOptions::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pipeline::PredictionMode;

    #[test]
    fn options_survive_a_row() {
        let options = JobOptions {
            scene: SceneOptions {
                prediction_mode: PredictionMode::DepthmapAndCamera,
                max_points: Some(7),
                conf_thres: 12.1,
                ..SceneOptions::default()
            },
            encoding: GlbEncoding::Quantized,
            keyframes: Some(40),
            refine: true,
            ..JobOptions::default()
        };
        let json = serde_json::to_string(&options).unwrap();
        assert_eq!(JobOptions::from_row(&json).unwrap(), options, "{json}");
    }

    #[test]
    fn a_row_of_version_0_1_0_is_readable() {
        let row = r#"{"conf_thres":12.5,"prediction_mode":"Depthmap and Camera","fps":0.5,"mask_black_bg":false,
            "mask_white_bg":true,"mask_sky":false,"show_cam":false,"max_points":null,"quantized":true}"#;
        let expected = JobOptions {
            scene: SceneOptions {
                conf_thres: 12.5,
                prediction_mode: PredictionMode::DepthmapAndCamera,
                mask_white_bg: true,
                ..SceneOptions::default()
            },
            fps: 0.5,
            encoding: GlbEncoding::Quantized,
            ..JobOptions::default()
        };
        assert_eq!(JobOptions::from_row(row).unwrap(), expected);
    }

    #[test]
    fn a_request_names_what_it_changes_and_unknown_fields_are_refused() {
        let request = |fields: Value| match fields {
            Value::Object(fields) => JobOptions::default().with_request(&fields),
            other => panic!("{other}"),
        };
        let options = request(json!({"fps": 2, "format": "glb_quantized", "max_points": null}));
        let expected = JobOptions {
            fps: 2.0,
            encoding: GlbEncoding::Quantized,
            ..JobOptions::default()
        };
        assert_eq!(options.unwrap(), expected);
        for (bad, word) in [
            (json!({"conf_threshold": 3}), "conf_thres,"),
            (json!({"frame_filter": "1"}), "frame_filter"),
            (json!({"quantized": true}), "quantized"),
            (json!({"fps": "1"}), "fps"),
            (json!({"refine": "on"}), "refine"),
            (json!({"keyframes": 2.5}), "keyframes"),
            (json!({"keyframes": -1}), "keyframes"),
            (json!({"keyframes": "many"}), "keyframes"),
            (json!({"format": "ply"}), "format"),
            (json!({"prediction_mode": "x"}), "Pointmap Regression"),
        ] {
            let e = request(bad).unwrap_err().to_string();
            assert!(e.contains(word), "{e}");
        }
        // 1e39 is JSON, but not an F32.
        let settings = JobSettings::default();
        let infinite = request(json!({"conf_thres": 1e39})).and_then(|o| o.check(&settings));
        assert!(infinite.unwrap_err().to_string().contains("conf_thres"));
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let settings = JobSettings::default();
        assert!(JobOptions::default().check(&settings).is_ok());
        let with = |change: fn(&mut JobOptions)| {
            let mut options = JobOptions::default();
            change(&mut options);
            options
        };
        let bad = [
            ("fps", with(|o| o.fps = 0.0)),
            ("keyframes", with(|o| o.keyframes = Some(0))),
            ("mask_sky", with(|o| o.mask_sky = true)),
            ("conf_thres", with(|o| o.scene.conf_thres = 101.0)),
            ("max_points", with(|o| o.scene.max_points = Some(0))),
        ];
        for (name, options) in bad {
            let e = options.check(&settings).unwrap_err().to_string();
            assert!(e.contains(name), "{e}");
        }
    }
}
