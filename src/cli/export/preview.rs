//! The anchors' scene in a file, while the other frames are computed.

use super::outputs::Plan;
use crate::{
    glb::GlbOptions,
    pipeline::{DATASET_POINTS, Format, PipelineError, WriteOptions, write_file},
    ply::PlyKind,
    scene::{PredictedFrames, Provenance, Scene},
};

/// Writes the anchors' scene while the other frames are computed.
pub(super) fn write(
    plan: &Plan,
    (scene, frames, provenance): (&Scene, &dyn PredictedFrames, &Provenance),
    glb: GlbOptions,
) -> Result<(), PipelineError> {
    let Some(target) = &plan.preview else {
        return Ok(());
    };
    let options = WriteOptions {
        glb,
        ply: PlyKind::Points,
        placements: &[],
        dataset_points: DATASET_POINTS,
        refined: None,
    };
    let written = write_file(scene, frames, provenance, &options, Format::Glb, target)?;
    tracing::info!(
        "\"{}\" has the {} points of the anchors, as a preview",
        target.path().display(),
        written.points
    );
    Ok(())
}
