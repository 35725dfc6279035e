//! Predictions -> scene, with the provenance of the result: what needs no network.
//!
//! [`rebuild`] starts from saved predictions, [`rebuild_kept`] from a finished spool; [`reconstruct()`](super::reconstruct()) ends here.

use std::sync::Arc;

use serde_json::Value;
use vggt_model::{Tracks, demo};

use super::{
    AttentionUsed, MaskedFrames, PipelineError, Placed, ReconstructOptions, Reconstruction,
    SavedFrames, ScaledFrames, Source, Spool, Spooled, Warning, Watcher,
    noting::Noting,
    placing,
    refinement::{Originals, ToRefine, refined},
};
use crate::scene::{self, PredictedFrames, Provenance};

/// Builds the scene from a finished spool. `weights` is their name.
///
/// # Errors
/// As [`rebuild`].
pub fn rebuild_kept(
    spool: impl Into<Arc<Spool>>,
    weights: &str,
    options: &ReconstructOptions<'_>,
    watcher: &mut dyn Watcher,
) -> Result<Reconstruction, PipelineError> {
    let (spool, watcher) = (spool.into(), &mut Noting::new(watcher));
    if weights == demo::WEIGHTS_NAME {
        watcher.warn(&Warning::DemoWeights);
    }
    spool.warnings().for_each(|warning| watcher.warn(&warning));
    let sha256 = spool.weights_sha256().map(str::to_owned);
    let inputs = Inputs {
        predictions: Box::new(spool.clone()),
        frames: saved_frames(&spool, weights, sha256),
        source: None,
        tracks: None,
        spool: Some(&spool),
    };
    let made = build(inputs, options, watcher)?;
    let provenance = provenance_of(made.provenance, &spool, &watcher.warnings);
    Ok(Reconstruction {
        spooled: Some(Spooled {
            spool,
            stamps: None,
            from_cache: true,
        }),
        provenance,
        ..made
    })
}

pub(super) fn saved_frames(
    spool: &Spool,
    weights: &str,
    weights_sha256: Option<String>,
) -> SavedFrames {
    let decoded = spool.decoded();
    SavedFrames {
        names: decoded.names.clone(),
        placements: decoded.placements.clone(),
        available: Some(decoded.available),
        seconds: decoded.seconds.clone(),
        weights: weights.to_owned(),
        weights_sha256,
    }
}

/// Adds how the frames attended to each other, and what there was to warn of.
pub(super) fn provenance_of(
    provenance: Provenance,
    spool: &Spool,
    warnings: &[Warning],
) -> Provenance {
    let used = spool.chosen();
    let used = used.and_then(|chosen| serde_json::to_value(AttentionUsed::from(chosen)).ok());
    let warnings = warnings.iter();
    let warnings = warnings.map(|warning| Value::Object(warning.numbers()));
    let keyframes = spool.decoded().keyframes;
    let keyframes = keyframes.and_then(|all| serde_json::to_value(all).ok());
    provenance
        .with_keyframes(keyframes)
        .with_attention(used)
        .with_warnings(warnings.collect())
}

/// Builds the scene from predictions that the network made before, read one frame at a time.
///
/// # Errors
/// When a frame cannot be read, the options do not fit the predictions, the sky network fails or the watcher stops the work.
pub fn rebuild(
    predictions: Box<dyn PredictedFrames + Send>,
    frames: SavedFrames,
    options: &ReconstructOptions<'_>,
    watcher: &mut dyn Watcher,
) -> Result<Reconstruction, PipelineError> {
    let inputs = Inputs {
        predictions,
        frames,
        source: None,
        tracks: None,
        spool: None,
    };
    build(inputs, options, watcher)
}

/// What a scene is built from.
pub(super) struct Inputs<'a> {
    pub(super) predictions: Box<dyn PredictedFrames + Send>,
    pub(super) frames: SavedFrames,
    /// The originals, where they are at hand.
    pub(super) source: Option<&'a Source>,
    /// Points that the track head followed for the refinement.
    pub(super) tracks: Option<Tracks>,
    /// Where the predictions are, and what is kept with them.
    pub(super) spool: Option<&'a Spool>,
}

/// Builds the scene.
pub(super) fn build(
    inputs: Inputs<'_>,
    options: &ReconstructOptions<'_>,
    watcher: &mut dyn Watcher,
) -> Result<Reconstruction, PipelineError> {
    let Inputs {
        predictions,
        frames,
        source,
        tracks,
        spool,
    } = inputs;
    let predictions = match options.sky {
        Some(sky) => Box::new(MaskedFrames::without_sky(predictions, sky, watcher)?),
        None => predictions,
    };
    let predictions = match options.masks {
        Some(masks) => {
            let of = (&frames.names[..], &frames.placements[..]);
            Box::new(MaskedFrames::with_masks(predictions, masks, of, watcher)?)
        }
        None => predictions,
    };
    let (placing, mut placed) = (&options.placing, Placed::default());
    let predictions = placing::with_cameras(predictions, &frames, placing, &mut placed, watcher)?;
    let refined = match &options.refine {
        Some(refinement) => {
            let originals = source.map(|source| Originals {
                source,
                read: &options.read,
                // Known lenses are better than what photos note.
                trust_notes: options.placing.cameras.is_none(),
            });
            let of = ToRefine {
                frames: &*predictions,
                about: &frames,
                originals,
                tracks: tracks.as_ref(),
            };
            let keeping = spool.map(|spool| (spool, options.keep_refinement));
            Some(refined(of, keeping, refinement, watcher)?)
        }
        None => None,
    };
    let predictions = match &refined {
        Some(refined) => {
            let warnings = refined.report.warnings();
            warnings.for_each(|warning| watcher.warn(&warning));
            refined.apply(predictions)
        }
        None => predictions,
    };
    let predictions = placing::in_world(predictions, &frames, placing, &mut placed, watcher)?;
    let predictions = match options.meters_per_unit {
        Some(scale) => Box::new(ScaledFrames::new(predictions, scale)),
        None => predictions,
    };
    let mut scene = scene::build_from(&*predictions, &options.scene)?;
    scene.names.clone_from(&frames.names);
    let provenance = Provenance::new(
        frames.weights.clone(),
        frames.weights_sha256.clone(),
        scene.frames,
        options.provenance.clone(),
    )
    .with_frames_available(frames.available)
    .with_unit(predictions.unit())
    .with_world(predictions.world(), placed.numbers());
    let told = refined.as_ref().map(|refined| refined.report.for_file());
    let told = told.and_then(|report| serde_json::to_value(report).ok());
    Ok(Reconstruction {
        frames,
        predictions,
        tracks: None,
        refined,
        scene,
        placed,
        provenance: provenance.with_refinement(told),
        spooled: None,
    })
}
