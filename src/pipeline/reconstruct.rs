//! The recipe: source -> frames -> network -> sky mask -> scene, with the provenance of the result.
//!
//! The command line, the worker and the benchmark call [`reconstruct`]; [`rebuild`](super::rebuild()) starts from saved predictions. A
//! scene and the writers read the predictions one frame at a time ([`PredictedFrames`]), so predictions that do
//! not fit into memory only need another implementation of that trait.

use std::{path::Path, sync::Arc};

use vggt_model::{ForwardOptions, Tracks};

use super::{
    Attention, AttentionOptions, Decoded, Fields, FrameLimit, KeepRefinement, MadeOf, Masks,
    Network, PipelineError, Placed, Placing, ReadOptions, SavedFrames, SkyNetwork, Source, Spool,
    Spooled, Spooling, Stamps, Warning, Watcher,
    attention::{AnchorScene, unrelated, warning_of},
    compute::Computation,
    followed::{follows, follows_corners, of_user, query_points},
    noting::Noting,
    rebuild::{Inputs, build, provenance_of, saved_frames},
    refinement::{Refined, RefinementOptions},
    source::spool_frames,
    spool::{Compared, Opened},
    spooled::Made,
};
use crate::{
    output,
    scene::{self, FrameFilter, PredictedFrames, PredictionMode, Provenance, Scene, SceneOptions},
};

/// Looks at the frames that a network is about to run on.
pub type CheckFrames<'a> = dyn Fn(&Decoded) -> Result<(), PipelineError> + 'a;

/// Options of a reconstruction.
#[derive(Clone)]
pub struct ReconstructOptions<'a> {
    /// How the frames are read.
    pub read: ReadOptions,
    /// Maximum number of frames, chosen evenly; `None` takes all.
    pub max_frames: Option<usize>,
    /// Takes only as many frames as are estimated to fit into memory.
    pub fit_memory: bool,
    /// What the scene shows.
    pub scene: SceneOptions,
    /// The sky network; `None` keeps the sky.
    pub sky: Option<&'a SkyNetwork>,
    /// A folder of masks that drop points; `None` masks nothing.
    pub masks: Option<&'a Masks>,
    /// Runs the point head even if the scene does not show its output, for predictions that are saved.
    pub all_heads: bool,
    /// Points (x, y) of the first frame to track, in pixels of the network's input.
    pub query_points: Vec<[f32; 2]>,
    /// Meters in a unit of the predictions, where that is known: the scene and all that is written of it are in meters then.
    pub meters_per_unit: Option<f64>,
    /// Refines the cameras with the photos, if asked for.
    pub refine: Option<RefinementOptions>,
    /// Whether the refinement is kept with the results.
    pub keep_refinement: KeepRefinement,
    /// What is known of where the scene is: cameras, lengths, positions.
    pub placing: Placing<'a>,
    /// The options as the provenance of the scene records them.
    pub provenance: serde_json::Value,
    /// Called with the frames before the network runs, so that a result that cannot be kept is not computed.
    pub before_network: Option<&'a CheckFrames<'a>>,
    /// Where the results are while the work goes on.
    pub spooling: Spooling<'a>,
    /// How the frames attend to each other.
    pub attention: AttentionOptions,
    /// Gets the anchors' scene while the other frames are computed, if there are anchors.
    pub preview: Option<&'a ShowPreview<'a>>,
}

/// Gets a scene, its frames, and what made it.
pub type ShowPreview<'a> =
    dyn Fn(&Scene, &dyn PredictedFrames, &Provenance) -> Result<(), PipelineError> + 'a;

impl Default for ReconstructOptions<'_> {
    fn default() -> Self {
        Self {
            read: ReadOptions::default(),
            max_frames: None,
            fit_memory: true,
            scene: SceneOptions::default(),
            sky: None,
            masks: None,
            all_heads: false,
            query_points: Vec::new(),
            meters_per_unit: None,
            refine: None,
            keep_refinement: KeepRefinement::default(),
            placing: Placing::default(),
            provenance: serde_json::Value::Null,
            before_network: None,
            spooling: Spooling::default(),
            attention: AttentionOptions::default(),
            preview: None,
        }
    }
}

/// A scene, and the predictions that it was built from.
pub struct Reconstruction {
    /// Names, placements and weights that belong to the predictions.
    pub frames: SavedFrames,
    /// Outputs of the network, with the mask and the placements of the frames: what the scene was built from, and what writes it.
    pub predictions: Box<dyn PredictedFrames + Send>,
    /// Where the query points went, when any were asked for.
    pub tracks: Option<Tracks>,
    /// What became of the refinement, if one was asked for.
    pub refined: Option<Refined>,
    /// Points and cameras.
    pub scene: Scene,
    /// How it was placed.
    pub placed: Placed,
    /// What made the scene.
    pub provenance: Provenance,
    /// The frames and results that it was built from; `None` for saved predictions.
    pub spooled: Option<Spooled>,
}

/// Reads the frames of `source`, runs the network on them and builds the scene.
///
/// # Errors
/// When the source cannot be read, the network fails, the options do not fit the frames or the watcher stops the work.
pub fn reconstruct(
    network: &Network,
    source: &Source,
    options: &ReconstructOptions<'_>,
    watcher: &mut dyn Watcher,
) -> Result<Reconstruction, PipelineError> {
    check_heads(network, options)?;
    let watcher = &mut Noting::new(watcher);
    if network.is_demo() && *source != Source::Demo {
        watcher.warn(&Warning::DemoWeights);
    }
    let (spooled, tracks) = spooled(network, source, options, watcher)?;
    if !options.attention.drop_unrelated {
        let low = unrelated(&spooled.spool)?;
        if !low.is_empty() {
            watcher.warn(&warning_of(&spooled.spool, &low, false));
        }
    }
    let of_user = |tracks| of_user(tracks, options.query_points.len());
    let tracks_of_user = tracks.as_ref().map(of_user).transpose()?.flatten();
    let inputs = Inputs {
        tracks: tracks.filter(|_| follows_corners(options)),
        predictions: Box::new(spooled.spool.clone()),
        frames: saved_frames(&spooled.spool, network.name(), network.weights_sha256()?),
        source: Some(source),
        spool: Some(&spooled.spool),
    };
    let made = build(inputs, options, watcher)?;
    let provenance = provenance_of(made.provenance, &spooled.spool, &watcher.warnings);
    Ok(Reconstruction {
        tracks: tracks_of_user,
        spooled: Some(spooled),
        provenance,
        ..made
    })
}

/// Refuses what the weights have no head for, before anything is read.
fn check_heads(network: &Network, options: &ReconstructOptions<'_>) -> Result<(), PipelineError> {
    let lacks = |head, wanted_by| Err(vggt_model::Error::NoHead { head, wanted_by }.into());
    let from_depth = options.scene.prediction_mode == PredictionMode::DepthmapAndCamera;
    if from_depth {
        network.check_depth_head(DEPTH_MODE)?;
    } else if !network.has_point_head() {
        return lacks("point", POINT_MODE);
    }
    if options.all_heads {
        network.check_depth_head("a file of all predictions")?;
    }
    if follows(options) && network.config().track_head.is_none() {
        return lacks("track", "following points");
    }
    Ok(())
}

/// The prediction modes in errors about heads.
const DEPTH_MODE: &str = "the prediction mode \"Depthmap and Camera\"";
const POINT_MODE: &str = "the prediction mode \"Pointmap Regression\"";

/// Returns frames and results: from the cache, of a run that was interrupted, or new.
fn spooled(
    network: &Network,
    source: &Source,
    options: &ReconstructOptions<'_>,
    watcher: &mut dyn Watcher,
) -> Result<(Spooled, Option<Tracks>), PipelineError> {
    let spooling = &options.spooling;
    // The scene would not show the output of the point head, or there is none.
    let skips_points = options.scene.prediction_mode == PredictionMode::DepthmapAndCamera
        && !(options.all_heads && network.has_point_head());
    let made_of: Made = match spooling.needs_key() {
        true => MadeOf::new(
            network,
            source,
            &options.read,
            options.max_frames,
            &options.attention.key(),
        )?,
        false => None,
    };
    if let Some(spool) = cached(network, options, made_of.as_ref(), !skips_points) {
        spool.warnings().for_each(|warning| watcher.warn(&warning));
        check_frames(&spool, options)?;
        let spooled = Spooled {
            spool: Arc::new(spool),
            stamps: None,
            from_cache: true,
        };
        return Ok((spooled, None));
    }
    let (made_of, stamps) = made_of.unzip();
    let config = network.config();
    let fields = Fields {
        points: !skips_points,
        camera_tokens: 2 * config.embed_dim,
        compared: Some(Compared {
            patch_size: config.patch_size,
            heads: config.aggregator.num_heads,
        }),
    };
    let mut spool = frames(network, source, options, (made_of, fields), watcher)?;
    check_frames(&spool, options)?;
    let (height, width) = (spool.decoded().height, spool.decoded().width);
    let forward = ForwardOptions {
        // A spool that is there may keep more than is needed.
        skip_points: !spool.fields().points,
        query_points: query_points(options, &spool)?,
    };
    if forward.query_points.is_some() && spool.is_finished() {
        // Tracks are not kept.
        spool.forget_results()?;
    }
    let mut tracks = None;
    if !spool.is_finished() {
        require_space(&spool)?;
        tracing::debug!(
            "running the network on {} frames of {width} x {height}, about {:.1} GB in addition to the weights",
            spool.count(),
            network.forward_bytes(spool.count(), height, width) as f64 / 1e9
        );
        let mut computation = Computation {
            network,
            forward: &forward,
            tracks_are_optional: options.query_points.is_empty(),
            attention: &options.attention,
            // Among fewer frames the index would name another frame.
            may_thin: options.scene.frame_filter == FrameFilter::All,
            fits: !options.fit_memory,
            on_anchors: &mut |spool, anchors, watcher| {
                show_anchors(network, options, (spool, anchors), watcher)
            },
        };
        tracks = computation.run(&mut spool, watcher)?;
    }
    let spooled = Spooled {
        spool: Arc::new(spool),
        stamps,
        from_cache: false,
    };
    Ok((spooled, tracks))
}

/// Returns the results of an earlier run.
fn cached(
    network: &Network,
    options: &ReconstructOptions<'_>,
    made_of: Option<&(MadeOf, Stamps)>,
    points: bool,
) -> Option<Spool> {
    let (made_of, _) = made_of?;
    // Tracks are not kept. Whoever asks to go on gets what is there.
    let cache = options.spooling.cache.filter(|_| !follows(options))?;
    let spool = cache.find(made_of, points, |spool| {
        let decoded = spool.decoded();
        let fitting = || network.frames_that_fit(decoded.height, decoded.width);
        // With more memory than then, there would be more frames.
        let more_fit = |used| options.fit_memory && fitting().is_none_or(|now| now > used);
        !spool.limited_by_memory().is_some_and(more_fit)
    })?;
    let folder = spool.folder().unwrap_or(Path::new("")).display();
    tracing::info!("taken from the cache: \"{folder}\" (--no-cache computes anew)");
    Some(spool)
}

/// Returns a spool with all frames: one that is there, or a new one.
fn frames(
    network: &Network,
    source: &Source,
    options: &ReconstructOptions<'_>,
    (made_of, fields): (Option<MadeOf>, Fields),
    watcher: &mut dyn Watcher,
) -> Result<Spool, PipelineError> {
    let spooling = &options.spooling;
    let opened = spooling.place.open(made_of.unwrap_or_default(), fields)?;
    if let (Some(claimed), Some(folder)) = (spooling.claimed, opened.folder()) {
        claimed(folder);
    }
    let incoming = match opened {
        Opened::Incoming(incoming) => *incoming,
        Opened::Spool(spool) => {
            let folder = spool.folder().unwrap_or(Path::new("")).display();
            let (all, left) = (spool.count(), spool.missing().len());
            tracing::info!(
                "going on with \"{folder}\": {} of {all} frames are done",
                all - left
            );
            spool.warnings().for_each(|warning| watcher.warn(&warning));
            return Ok(*spool);
        }
    };
    let fitting = |h: usize, w: usize| network.frames_that_fit(h, w).unwrap_or(usize::MAX);
    let limit = FrameLimit {
        max: options.max_frames,
        // Otherwise what does not fit attends to anchors, or is left out once all frames are known.
        fitting: match options.fit_memory && options.attention.attention == Attention::Dense {
            true => Some(&fitting),
            false => None,
        },
    };
    let config = network.config();
    spool_frames(source, &options.read, config, &limit, incoming, watcher)
}

/// Shows the scene of the anchors, if somebody wants to see it.
fn show_anchors(
    network: &Network,
    options: &ReconstructOptions<'_>,
    anchors: (&Spool, &[usize]),
    watcher: &mut dyn Watcher,
) -> Result<(), PipelineError> {
    let Some(show) = options.preview else {
        return Ok(());
    };
    let scene_options = SceneOptions {
        frame_filter: FrameFilter::All,
        ..options.scene.clone()
    };
    let frames = AnchorScene::new(network, anchors, watcher)?;
    let scene = scene::build_from(&frames, &scene_options)?;
    let provenance = Provenance::new(
        network.name(),
        network.weights_sha256()?,
        scene.frames,
        options.provenance.clone(),
    );
    show(&scene, &frames, &provenance)
}

/// Checks what depends on the frames before the long computation.
fn check_frames(spool: &Spool, options: &ReconstructOptions<'_>) -> Result<(), PipelineError> {
    options.scene.frame_filter.shown(spool.count())?;
    if let Some(masks) = options.masks {
        let decoded = spool.decoded();
        let size = (decoded.height, decoded.width);
        masks.read(&decoded.names, &decoded.placements, size)?;
    }
    options
        .before_network
        .map_or(Ok(()), |check| check(spool.decoded()))
}

/// Checks that the results fit on the disk of a spool.
fn require_space(spool: &Spool) -> Result<(), PipelineError> {
    match spool.folder() {
        Some(folder) => Ok(output::require_space(folder, spool.bytes_to_come())?),
        None => Ok(()),
    }
}
