//! The options of command 11.

use serde::{Deserialize, Serialize};

use super::ProtocolError;

/// How the next reconstruction on a connection is made. `None` takes the server's default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReconstructionOptions {
    /// Percent of the points to drop, in [0, 100].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conf_thres: Option<f32>,
    /// `Pointmap Regression` or `Depthmap and Camera`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prediction_mode: Option<String>,
    /// Frames taken from each second of a video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fps: Option<f64>,
    /// Drop black points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_black_bg: Option<bool>,
    /// Drop white points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_white_bg: Option<bool>,
    /// Drop the sky.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_sky: Option<bool>,
    /// Add the cameras.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub show_cam: Option<bool>,
    /// Keep at most this many points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_points: Option<u32>,
    /// Which GLB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<GlbFormat>,
}

/// How positions are stored in a GLB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GlbFormat {
    /// As F32, which every viewer reads.
    #[default]
    Glb,
    /// As 16-bit integers (KHR_mesh_quantization).
    GlbQuantized,
}

/// The fields of the table.
const FIELDS: [&str; 9] = [
    "conf_thres",
    "prediction_mode",
    "fps",
    "mask_black_bg",
    "mask_white_bg",
    "mask_sky",
    "show_cam",
    "max_points",
    "format",
];

impl ReconstructionOptions {
    /// Reads a request's options and refuses what is misspelt. (A reply's are read leniently: a newer server may have more.)
    ///
    /// Whether the values make sense is the server's to say.
    ///
    /// # Errors
    /// When it is no JSON object, a field is unknown or of the wrong type.
    pub fn parse(payload: &[u8]) -> Result<Self, ProtocolError> {
        let json = |e: serde_json::Error| ProtocolError::Json {
            what: "options",
            detail: e.to_string(),
        };
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(payload).map_err(json)?;
        if let Some(name) = object.keys().find(|key| !FIELDS.contains(&key.as_str())) {
            return Err(ProtocolError::UnknownOption {
                name: name.chars().take(FIELD_SHOWN).collect(),
                known: FIELDS.join(", "),
            });
        }
        let options: Self = serde_json::from_value(object.into()).map_err(json)?;
        // 1e39 is JSON, but no F32.
        if options.conf_thres.is_some_and(|v| !v.is_finite()) {
            return Err(ProtocolError::Json {
                what: "options",
                detail: "conf_thres is out of range".to_owned(),
            });
        }
        Ok(options)
    }
}

/// Characters of an unknown field that an error shows.
const FIELD_SHOWN: usize = 40;
