//! Frames that seem to show something else than the first one.

use vggt_model::anchors::{FrameSimilarity, unrelated_scores};

use crate::pipeline::{PipelineError, Spool, Warning};

/// Scores below this are of something else. Source: RobustVGGT, whose example uses 0.3.
const LEAST_SCORE: f32 = 0.4;

/// Frames below which a score says nothing: the least share of attention counts as 0 among any frames.
const LEAST_FRAMES: usize = 4;

/// Returns the frames that seem to show something else, in rising order; the first is never among them.
///
/// # Errors
/// When the spool cannot be read.
pub(in crate::pipeline) fn unrelated(spool: &Spool) -> Result<Vec<usize>, PipelineError> {
    if spool.count() < LEAST_FRAMES {
        return Ok(Vec::new());
    }
    let frames: Vec<FrameSimilarity> = (0..spool.count())
        .map(|frame| spool.similarity(frame))
        .collect::<Result<_, _>>()?;
    let scores = unrelated_scores(&frames);
    tracing::debug!("how much each frame is like the first: {scores:.2?}");
    let low = scores.iter().enumerate().skip(1);
    Ok(low
        .filter(|(_, score)| **score < LEAST_SCORE)
        .map(|(frame, _)| frame)
        .collect())
}

/// Names them in a warning; `dropped` says that they are left out.
pub(in crate::pipeline) fn warning_of(spool: &Spool, frames: &[usize], dropped: bool) -> Warning {
    let names = &spool.decoded().names;
    let named = frames.iter().filter_map(|frame| names.get(*frame).cloned());
    Warning::Unrelated {
        names: named.collect(),
        dropped,
    }
}
