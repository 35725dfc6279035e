//! Where a scene comes from, as every written file tells it.

use serde::Serialize;

/// What made a scene. Goes into GLB as `asset.extras`, into PLY and COLMAP as comments.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Provenance {
    /// Program and version, as `vggt 0.1.0`.
    pub generator: String,
    /// The weights' name: a repository or a file name, never a whole path of somebody's machine.
    pub weights: String,
    /// SHA-256 of the weights file, 64 hex digits, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights_sha256: Option<String>,
    /// How many frames the network saw.
    pub frames: usize,
    /// How many there were to take from, where it is known: more than `frames` when not all fitted into memory, or not all
    /// were wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames_given: Option<usize>,
    /// The options of the run, as the caller names them.
    pub options: serde_json::Value,
    /// What a length of 1 means: nothing in metres, since the network knows no scale.
    pub unit: &'static str,
}

impl Provenance {
    /// Provenance of this version of the program, in the network's arbitrary unit.
    #[must_use]
    pub fn new(
        weights: impl Into<String>,
        weights_sha256: Option<String>,
        frames: usize,
        options: serde_json::Value,
    ) -> Self {
        Self {
            generator: concat!("vggt ", env!("CARGO_PKG_VERSION")).to_owned(),
            weights: weights.into(),
            weights_sha256,
            frames,
            frames_given: None,
            options,
            unit: "arbitrary",
        }
    }

    /// The same, of so many frames that there were to take from.
    #[must_use]
    pub fn of(self, frames_given: Option<usize>) -> Self {
        Self {
            frames_given,
            ..self
        }
    }

    /// One line of JSON, for formats that only have comments.
    #[must_use]
    pub fn to_line(&self) -> String {
        // Strings, numbers and a `Value` always serialise; JSON escapes line breaks.
        serde_json::to_string(self).unwrap_or_default()
    }
}
