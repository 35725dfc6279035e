//! What made a scene, as recorded in every written file.

use serde::Serialize;

use super::{Unit, World};

/// Axes of files in view space: GLB and PLY.
pub const VIEW_AXES: &str =
    "x left, y up, z forward, seen from the first shown frame's camera, which is at the origin";

/// Axes of a GLB that faces as glTF has it.
pub const GLTF_AXES: &str =
    "x right, y up, z back, seen from the first shown frame's camera, which is at the origin";

/// Axes of files in world space: COLMAP and saved predictions.
pub const WORLD_AXES: &str =
    "x right, y down, z forward (OpenCV), roughly those of the first frame's camera";

/// What made a scene. Written into GLB as `asset.extras`, into PLY and COLMAP as comments.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Provenance {
    /// Program and version, such as `vggt 0.1.0`.
    pub generator: String,
    /// Name of the weights: a repository or a file name, never a full path.
    pub weights: String,
    /// SHA-256 of the weights file, 64 hex digits, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights_sha256: Option<String>,
    /// Number of frames that the network saw.
    pub frames: usize,
    /// Number of frames of the source, where it is known: more than `frames` when some were left out.
    // The name in files predates the name here.
    #[serde(rename = "frames_given", skip_serializing_if = "Option::is_none")]
    pub frames_available: Option<usize>,
    /// What became of the frames of a video of which the sharpest and most different ones were taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyframes: Option<serde_json::Value>,
    /// Options of the run, as the caller names them.
    pub options: serde_json::Value,
    /// How the frames attended to each other, where it was not each to all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention: Option<serde_json::Value>,
    /// What became of the refinement of the cameras, where one was asked for; without names of files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refinement: Option<serde_json::Value>,
    /// Warnings of the run as JSON objects with a `kind` and numbers; without names of files, since others may see it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<serde_json::Value>,
    /// What a length of 1 stands for.
    pub unit: Unit,
    /// The world that positions are in, where it is not the network's.
    #[serde(skip_serializing_if = "World::is_network")]
    pub world: World,
    /// How the network's result was brought into that world.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placed: Option<serde_json::Value>,
    /// What is right, up and forward in the file, where its format sets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub axes: Option<&'static str>,
}

impl Provenance {
    /// Returns the provenance of this version of the program, in the network's arbitrary unit.
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
            frames_available: None,
            keyframes: None,
            options,
            attention: None,
            refinement: None,
            warnings: Vec::new(),
            unit: Unit::Arbitrary,
            world: World::Network,
            placed: None,
            axes: None,
        }
    }

    /// Sets the number of frames of the source.
    #[must_use]
    pub fn with_frames_available(self, frames_available: Option<usize>) -> Self {
        Self {
            frames_available,
            ..self
        }
    }

    /// Sets what became of the frames of a video; `None` where they were not chosen one by one.
    #[must_use]
    pub fn with_keyframes(self, keyframes: Option<serde_json::Value>) -> Self {
        Self { keyframes, ..self }
    }

    /// Sets what a length of 1 stands for.
    #[must_use]
    pub fn with_unit(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }

    /// Sets the world that positions are in, and how they came there; `None` where the network's result is as it was.
    #[must_use]
    pub fn with_world(self, world: World, placed: Option<serde_json::Value>) -> Self {
        Self {
            world,
            placed,
            ..self
        }
    }

    /// Sets the warnings of the run.
    #[must_use]
    pub fn with_warnings(self, warnings: Vec<serde_json::Value>) -> Self {
        Self { warnings, ..self }
    }

    /// Sets how the frames attended to each other; `None` stands for each to all.
    #[must_use]
    pub fn with_attention(self, attention: Option<serde_json::Value>) -> Self {
        Self { attention, ..self }
    }

    /// Sets what became of the refinement of the cameras; `None` where none was asked for.
    #[must_use]
    pub fn with_refinement(self, refinement: Option<serde_json::Value>) -> Self {
        Self { refinement, ..self }
    }

    /// Returns the provenance of a file in these axes.
    #[must_use]
    pub fn with_axes(&self, axes: &'static str) -> Self {
        Self {
            axes: Some(axes),
            ..self.clone()
        }
    }

    /// Returns the provenance of a file that holds positions as they are.
    #[must_use]
    pub fn in_world(&self) -> Self {
        self.with_axes(self.world.axes())
    }

    /// Returns one line of JSON, for formats that only have comments.
    pub fn to_line(&self) -> String {
        // Strings, numbers and a `Value` always serialize; JSON escapes line breaks.
        serde_json::to_string(self).unwrap_or_default()
    }
}
