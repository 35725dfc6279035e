//! Predictions kept in a safetensors file, so that a scene can be exported again without running the network.
//!
//! Both directions go frame by frame: [`save_predictions`] writes one tensor after the other, and [`SavedPredictions`] reads a frame
//! from the file when it is asked for, so memory does not depend on the number of frames.
//!
//! The tensors' names and shapes are those of [`vggt_model::Predictions`]; `track`, `vis`, `conf` and `query_points` when points were
//! tracked. The metadata holds the names and placements of the frames (`vggt.frames`) and the weights (`vggt.weights`), as JSON.

mod load;
mod save;

use serde::{Deserialize, Serialize};

use crate::frames::Placement;

pub use load::{SavedPredictions, load_predictions};
pub use save::save_predictions;

/// Names, placements and weights that belong to predictions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SavedFrames {
    /// Name of each frame.
    pub names: Vec<String>,
    /// Where each frame lies in its original image; empty when it is not known.
    #[serde(default)]
    pub placements: Vec<Placement>,
    /// Number of frames of the source, where it is known.
    // The name in files predates the name here.
    #[serde(default, rename = "given")]
    pub available: Option<usize>,
    /// When each frame is shown in its video, in seconds; empty for photos.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seconds: Vec<f64>,
    /// Name of the weights.
    pub weights: String,
    /// SHA-256 of the weights file.
    #[serde(default)]
    pub weights_sha256: Option<String>,
}

/// Key of [`SavedFrames`] in the metadata of the file.
const FRAMES_KEY: &str = "vggt.frames";

/// Key of the unit in the metadata of the file.
const UNIT_KEY: &str = "vggt.unit";

/// Key of the world in the metadata of the file, where it is not the network's: JSON.
const WORLD_KEY: &str = "vggt.world";

/// Longest metadata that is read back, enough for ten thousand frames.
const MAX_METADATA: usize = 16 << 20;

/// Longest header of a safetensors file: the limit of the library.
const MAX_HEADER: u64 = 100_000_000;

/// Bytes before the header: its length, u64, little-endian.
const HEADER_START: u64 = 8;
