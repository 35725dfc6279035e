//! Predictions kept in a safetensors file, so that a scene can be exported again without running the network.
//!
//! The tensors' names and shapes are those of [`Predictions`]; `track`, `vis`, `conf` and `query_points` when points were
//! tracked. The metadata holds the names and placements of the frames (`vggt.frames`) and the weights (`vggt.weights`), as JSON.

use std::{collections::HashMap, io::Read, path::Path};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use vggt_model::{Predictions, Tracks};

use super::PipelineError;
use crate::{
    frames::{Placement, open_regular},
    output::{MARK, Target},
    scene::WORLD_AXES,
};

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
    /// Name of the weights.
    pub weights: String,
    /// SHA-256 of the weights file.
    #[serde(default)]
    pub weights_sha256: Option<String>,
}

/// Key of [`SavedFrames`] in the metadata of the file.
const FRAMES_KEY: &str = "vggt.frames";

/// Longest metadata that is read back, enough for ten thousand frames.
const MAX_METADATA: usize = 16 << 20;

/// Writes predictions and their metadata; the file appears whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn save_predictions(
    target: &Target,
    predictions: &Predictions,
    frames: &SavedFrames,
) -> Result<(), PipelineError> {
    let p = predictions;
    let mut tensors = vec![
        ("images", &p.images),
        ("pose_enc", &p.pose_enc),
        ("extrinsic", &p.extrinsic),
        ("intrinsic", &p.intrinsic),
        ("depth", &p.depth),
        ("depth_conf", &p.depth_conf),
        ("world_points_from_depth", &p.world_points_from_depth),
    ];
    tensors.extend(p.world_points.iter().map(|t| ("world_points", t)));
    tensors.extend(p.world_points_conf.iter().map(|t| ("world_points_conf", t)));
    if let Some(tracks) = &p.tracks {
        tensors.extend([
            ("query_points", &tracks.query_points),
            ("track", &tracks.track),
            ("vis", &tracks.vis),
            ("conf", &tracks.conf),
        ]);
    }
    let failed = |why: String| PipelineError::Predictions {
        path: target.path().to_owned(),
        why,
    };
    let json = serde_json::to_string(frames).map_err(|e| failed(e.to_string()))?;
    let metadata = HashMap::from([
        (FRAMES_KEY.to_owned(), json),
        ("vggt.generator".to_owned(), MARK.to_owned()),
        ("vggt.axes".to_owned(), WORLD_AXES.to_owned()),
        ("vggt.unit".to_owned(), "arbitrary".to_owned()),
    ]);
    let bytes =
        safetensors::serialize(tensors, Some(metadata)).map_err(|e| failed(e.to_string()))?;
    Ok(target.write(&bytes)?)
}

/// Reads predictions of this program, or of another with the same names and shapes.
///
/// # Errors
/// When the file is not a safetensors file or a tensor is missing; the message names it.
pub fn load_predictions(path: &Path) -> Result<(Predictions, SavedFrames), PipelineError> {
    let failed = |why: String| PipelineError::Predictions {
        path: path.to_owned(),
        why,
    };
    let mut bytes = Vec::new();
    open_regular(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(|e| failed(e.to_string()))?;
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes)
        .map_err(|e| failed(format!("not a safetensors file: {e}")))?;
    let saved = header
        .metadata()
        .as_ref()
        .and_then(|m| m.get(FRAMES_KEY))
        .filter(|json| json.len() <= MAX_METADATA);
    let saved: Option<SavedFrames> = saved
        .map(|json| serde_json::from_str(json))
        .transpose()
        .map_err(|e| failed(format!("bad {FRAMES_KEY} in its metadata: {e}")))?;
    let mut tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
        .map_err(|e| failed(e.to_string()))?;
    drop(bytes);
    let mut take = |name: &str| tensors.remove(name);
    let missing = |name: &str| failed(format!("it has no tensor \"{name}\""));
    let mut need = |name: &str| take(name).ok_or_else(|| missing(name));
    let images = need("images")?;
    let predictions = Predictions {
        extrinsic: need("extrinsic")?,
        intrinsic: need("intrinsic")?,
        depth: need("depth")?,
        depth_conf: need("depth_conf")?,
        world_points_from_depth: need("world_points_from_depth")?,
        pose_enc: match take("pose_enc") {
            Some(pose_enc) => pose_enc,
            // No export needs it, and predictions of the Python service do not have it.
            None => Tensor::zeros((images.dim(0)?, 9), images.dtype(), images.device())?,
        },
        world_points: take("world_points"),
        world_points_conf: take("world_points_conf"),
        tracks: match (
            take("query_points"),
            take("track"),
            take("vis"),
            take("conf"),
        ) {
            (Some(query_points), Some(track), Some(vis), Some(conf)) => Some(Tracks {
                query_points,
                track,
                vis,
                conf,
            }),
            _ => None,
        },
        images,
    };
    let frames = predictions.images.dim(0)?;
    let saved = match saved {
        Some(saved) if saved.names.len() == frames => saved,
        Some(saved) => {
            return Err(failed(format!(
                "it names {} frames and holds {frames}",
                saved.names.len()
            )));
        }
        None => SavedFrames {
            names: (0..frames).map(|i| format!("frame_{i:06}.png")).collect(),
            placements: Vec::new(),
            available: None,
            weights: "unknown".to_owned(),
            weights_sha256: None,
        },
    };
    Ok((predictions, saved))
}
