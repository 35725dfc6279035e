//! The recipe: source -> frames -> network -> sky mask -> scene, with the provenance of the result.
//!
//! The command line, the worker and the benchmark call [`reconstruct`]; [`rebuild`] starts from saved predictions. A scene
//! and the writers read the predictions one frame at a time ([`PredictedFrames`]), so predictions that do
//! not fit into memory only need another implementation of that trait.

use candle_core::{Device, Tensor};
use vggt_model::{ForwardOptions, Predictions, Tracks};

use super::{
    FrameLimit, MaskedFrames, Network, PipelineError, ReadOptions, SavedFrames, SkyNetwork, Source,
    Watcher, predict_what_fits, read_frames,
};
use crate::{
    frames::Frames,
    scene::{
        self, FrameFilter, FramesInMemory, PredictedFrames, PredictionMode, Provenance, Scene,
        SceneOptions,
    },
};

/// Looks at the frames that a network is about to run on.
pub type CheckFrames<'a> = dyn Fn(&Frames) -> Result<(), PipelineError> + 'a;

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
    /// Runs the point head even if the scene does not show its output, for predictions that are saved.
    pub all_heads: bool,
    /// Points (x, y) of the first frame to track, in pixels of the network's input.
    pub query_points: Vec<[f32; 2]>,
    /// The options as the provenance of the scene records them.
    pub provenance: serde_json::Value,
    /// Called with the frames before the network runs, so that a result that cannot be kept is not computed.
    pub before_network: Option<&'a CheckFrames<'a>>,
}

impl Default for ReconstructOptions<'_> {
    fn default() -> Self {
        Self {
            read: ReadOptions::default(),
            max_frames: None,
            fit_memory: true,
            scene: SceneOptions::default(),
            sky: None,
            all_heads: false,
            query_points: Vec::new(),
            provenance: serde_json::Value::Null,
            before_network: None,
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
    /// Points and cameras.
    pub scene: Scene,
    /// What made the scene.
    pub provenance: Provenance,
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
    let (frames, predictions) = predict(network, source, options, watcher)?;
    let frames = SavedFrames {
        names: frames.names,
        placements: frames.placements,
        available: Some(frames.available),
        weights: network.name().to_owned(),
        weights_sha256: network.weights_sha256()?,
    };
    let tracks = predictions.tracks.clone();
    let in_memory = FramesInMemory::new(predictions, None)?;
    let predictions = Box::new(in_memory.with_placements(frames.placements.clone()));
    Ok(Reconstruction {
        tracks,
        ..rebuild(predictions, frames, options, watcher)?
    })
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
    let predictions = match options.sky {
        Some(sky) => Box::new(MaskedFrames::without_sky(predictions, sky, watcher)?),
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
    .with_frames_available(frames.available);
    Ok(Reconstruction {
        frames,
        predictions,
        tracks: None,
        scene,
        provenance,
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
    if !options.query_points.is_empty() && network.config().track_head.is_none() {
        return lacks("track", "following points");
    }
    Ok(())
}

/// The prediction modes in errors about heads.
const DEPTH_MODE: &str = "the prediction mode \"Depthmap and Camera\"";
const POINT_MODE: &str = "the prediction mode \"Pointmap Regression\"";

fn predict(
    network: &Network,
    source: &Source,
    options: &ReconstructOptions<'_>,
    watcher: &mut dyn Watcher,
) -> Result<(Frames, Predictions), PipelineError> {
    let fitting = |h: usize, w: usize| network.frames_that_fit(h, w).unwrap_or(usize::MAX);
    let limit = FrameLimit {
        max: options.max_frames,
        fitting: if options.fit_memory {
            Some(&fitting)
        } else {
            None
        },
    };
    let frames = read_frames(source, &options.read, network.config(), &limit, watcher)?;
    let (s, _, height, width) = frames.images.dims4()?;
    options.scene.frame_filter.shown(s)?;
    if let Some(check) = options.before_network {
        check(&frames)?;
    }
    tracing::debug!(
        "running the network on {s} frames of {width} x {height}, about {:.1} GB in addition to the weights",
        network.forward_bytes(s, height, width) as f64 / 1e9
    );
    let forward = ForwardOptions {
        // The scene would not show the output of the point head, or there is none.
        skip_points: options.scene.prediction_mode == PredictionMode::DepthmapAndCamera
            && !(options.all_heads && network.has_point_head()),
        query_points: query_points(&options.query_points, height, width)?,
    };
    match options.scene.frame_filter {
        FrameFilter::All => predict_what_fits(network, frames, &forward, watcher),
        // Among fewer frames the index would name another frame.
        FrameFilter::One(_) => {
            let predictions = network.predict(&frames.images, &forward, watcher)?;
            Ok((frames, predictions))
        }
    }
}

/// Points as the network takes them, [N, 2]; `None` when there are none.
fn query_points(
    points: &[[f32; 2]],
    height: usize,
    width: usize,
) -> Result<Option<Tensor>, PipelineError> {
    let inside = |[x, y]: &[f32; 2]| {
        (0.0..=(width - 1) as f32).contains(x) && (0.0..=(height - 1) as f32).contains(y)
    };
    if let Some(&[x, y]) = points.iter().find(|point| !inside(point)) {
        return Err(PipelineError::QueryPoint {
            x,
            y,
            width,
            height,
        });
    }
    if points.is_empty() {
        return Ok(None);
    }
    let shape = (points.len(), 2);
    Ok(Some(Tensor::from_slice(
        points.as_flattened(),
        shape,
        &Device::Cpu,
    )?))
}
