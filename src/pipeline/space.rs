//! How large files become, before they are written.

use super::{DATASET_POINTS, Format};
use crate::{
    glb::DEFAULT_POINTS,
    ply::{PlyKind, SPLAT_BYTES},
};

/// Bytes of one pixel in saved predictions: image, depth, confidence, points from depth, points and their confidence, all F32.
pub const PREDICTION_BYTES: u64 = 4 * (3 + 1 + 1 + 3 + 3 + 1);

/// Bytes of one pixel in depth images, 16-bit gray and color, before compression.
pub const DEPTH_BYTES: u64 = 2 + 3;

/// Bytes of a point in both forms of a COLMAP model, about.
const COLMAP_POINT_BYTES: u64 = 200;

/// Returns the size of a scene with all `pixels` kept, up to the limit on points, in bytes.
pub fn scene_bytes(format: Format, ply: PlyKind, pixels: u64, max_points: Option<usize>) -> u64 {
    let splats = ply == PlyKind::Splats;
    let default = match format {
        Format::Ply if splats => DATASET_POINTS as u64,
        Format::Glb | Format::Html => DEFAULT_POINTS as u64,
        Format::Ply => u64::MAX,
        Format::Colmap | Format::Nerfstudio => DATASET_POINTS as u64,
    };
    let points = pixels.min(max_points.map_or(default, |limit| limit as u64));
    match format {
        Format::Glb => 20 * points,
        Format::Html => 20 * points * 4 / 3,
        Format::Ply if splats => SPLAT_BYTES as u64 * points,
        Format::Ply => 19 * points,
        Format::Colmap | Format::Nerfstudio if splats => {
            (COLMAP_POINT_BYTES + SPLAT_BYTES as u64) * points
        }
        Format::Colmap | Format::Nerfstudio => COLMAP_POINT_BYTES * points,
    }
}
