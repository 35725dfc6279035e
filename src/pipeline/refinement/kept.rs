//! A refinement that is kept with the results it was made from: the files of a result, whenever they are made, have the same cameras.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Refined, RefinementOptions, ToRefine, refine};
use crate::{
    pipeline::{PipelineError, Spool, Watcher},
    scene::{PredictedFrames, camera},
};

/// Raised with every change that an older program would misread.
const VERSION: u32 = 1;

/// Whether a refinement is kept with the results that it was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeepRefinement {
    /// It is made anew each time.
    #[default]
    No,
    /// Takes one that is there, and keeps a new one.
    Keep,
    /// Takes the one that is there; without one there is an error, since another would have other cameras than the files before.
    OnlyKept,
}

/// The content of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    version: u32,
    options: RefinementOptions,
    /// SHA-256 of the predicted cameras.
    of: String,
    refined: Refined,
}

/// Refines the cameras of frames, or takes what is kept in their spool.
///
/// # Errors
/// When frames cannot be read, the watcher stops the work, or a result cannot be read or kept.
pub(in crate::pipeline) fn refined(
    of: ToRefine<'_>,
    keeping: Option<(&Spool, KeepRefinement)>,
    options: &RefinementOptions,
    watcher: &mut dyn Watcher,
) -> Result<Refined, PipelineError> {
    let Some((spool, keep)) = keeping.filter(|(_, keep)| *keep != KeepRefinement::No) else {
        return refine(of, options, watcher);
    };
    let sum = sum_of_cameras(of.frames)?;
    if let Some(kept) = find(spool, options, &sum)? {
        return Ok(kept);
    }
    if keep == KeepRefinement::OnlyKept {
        return Err(PipelineError::RefinementLost);
    }
    let kept = Kept {
        version: VERSION,
        options: *options,
        of: sum,
        refined: refine(of, options, watcher)?,
    };
    spool.keep_refinement(&serde_json::to_vec(&kept).map_err(std::io::Error::from)?)?;
    Ok(kept.refined)
}

/// Returns by what the predicted depths of a frame are multiplied in the files of a result whose refinement is kept in its spool: 1 where
/// the predicted cameras stayed.
///
/// # Errors
/// When the spool cannot be read, or holds no such refinement.
pub fn kept_depth_factor(
    spool: &Arc<Spool>,
    options: &RefinementOptions,
    frame: usize,
) -> Result<f64, PipelineError> {
    let kept = find(spool, options, &sum_of_cameras(spool)?)?;
    let kept = kept.ok_or(PipelineError::RefinementLost)?;
    Ok(kept
        .cameras
        .get(frame)
        .map_or(1.0, |camera| camera.depth_factor))
}

/// Returns the refinement that is kept in a spool, if it is of these cameras and was made with these options.
fn find(
    spool: &Spool,
    options: &RefinementOptions,
    of: &str,
) -> Result<Option<Refined>, PipelineError> {
    let Some(bytes) = spool.kept_refinement()? else {
        return Ok(None);
    };
    let kept: Kept = match serde_json::from_slice(&bytes) {
        Ok(kept) => kept,
        Err(e) => {
            tracing::debug!("a kept refinement is damaged: {e}");
            return Ok(None);
        }
    };
    let belongs = kept.version == VERSION && kept.options == *options && kept.of == of;
    Ok(belongs.then_some(kept.refined))
}

/// Returns the SHA-256 of the predicted cameras.
fn sum_of_cameras(frames: &dyn PredictedFrames) -> Result<String, PipelineError> {
    let mut hasher = Sha256::new();
    for view in camera::views(frames, 0..frames.count())? {
        let values = view.camera_from_world.0.as_flattened().iter();
        let values = values.chain(view.intrinsic.as_flattened());
        values.for_each(|value| hasher.update(value.to_le_bytes()));
    }
    let digest = hasher.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}
