//! Predictions -> points and camera shapes. Pure: no files, no clock, no randomness.
//!
//! What lives here: the points that are kept ([`SceneOptions`]), their colors, the scale of the scene, the shapes that
//! stand for the cameras, and the transform that turns the scene upright for viewers. What does not: file formats. The
//! entry points are [`build`] for predictions in memory and [`build_from`] for frames that are read one at a time
//! ([`PredictedFrames`]).
//!
//! Port of `visual_util.py`, `predictions_to_glb`, with its steps in upstream's order.
//! Differs from upstream: points whose position or confidence is NaN or infinite are dropped before anything is
//! measured, where upstream lets them turn every threshold into NaN; pixels of the padding around a photo are dropped in
//! the same way; a frame filter that cannot be parsed is an error, where upstream silently shows all frames.

pub mod align;
pub mod camera;
mod coverage;
pub mod filter;
mod flat;
mod frames;
mod mask;
mod options;
mod photo;
mod point_cloud;
mod provenance;

use vggt_model::Predictions;

pub use align::Affine;
pub use camera::{CameraMesh, View};
pub use coverage::confident_and_even;
pub use frames::{Field, FramesInMemory, PredictedFrames};
pub use options::{FrameFilter, PredictionMode, SceneOptions, with_fields};
pub use photo::PhotoArea;
pub use point_cloud::PointCloud;
pub use provenance::{Provenance, VIEW_AXES, WORLD_AXES};

use point_cloud::Branch;

/// Errors in predictions or options.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SceneError {
    /// A tensor does not have the shape that the images imply.
    #[error("cannot read the predicted {name}: expected shape {expected:?}, got {found:?}")]
    Shape {
        /// Name of the tensor.
        name: &'static str,
        /// Expected shape.
        expected: Vec<usize>,
        /// Shape of the tensor.
        found: Vec<usize>,
    },
    /// A tensor cannot be read.
    #[error("cannot read the predicted {name}")]
    Tensor {
        /// Name of the tensor.
        name: &'static str,
        /// Error of the tensor library.
        #[source]
        source: candle_core::Error,
    },
    /// More pixels than a 32-bit index can count.
    #[error("cannot build a scene of {pixels} pixels: the limit is 4294967295")]
    TooManyPixels {
        /// Frames x height x width.
        pixels: usize,
    },
    /// The frame filter names a frame that does not exist.
    #[error("cannot show frame {frame} alone: frames are numbered 0 to {last}")]
    NoSuchFrame {
        /// Requested frame.
        frame: usize,
        /// Index of the last frame.
        last: usize,
    },
    /// The pose of a camera cannot be inverted.
    #[error(
        "cannot place the camera of frame {frame}: its extrinsic has no finite inverse, so the predictions are corrupt"
    )]
    Camera {
        /// Frame of the camera.
        frame: usize,
    },
    /// The value of an option cannot be parsed or is out of range.
    #[error("cannot use {value:?} as {option}: {expected}")]
    Option {
        /// Name of the option.
        option: String,
        /// Rejected value.
        value: String,
        /// Accepted values.
        expected: String,
    },
    /// There is no option of this name.
    #[error("cannot set {name:?}: the options are {known}")]
    UnknownOption {
        /// The name, shortened.
        name: String,
        /// Names of all options.
        known: String,
    },
}

/// Points and cameras, ready to be written.
///
/// Two spaces occur: *world* is the network's (OpenCV axes of the first frame's camera, roughly), and *view* is
/// the space that a viewer shows: `view = node_transform * world`.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The kept points, in world space. Never empty: see [`Scene::nothing_kept`].
    pub points: PointCloud,
    /// Shapes that stand for the cameras, in world space; empty unless [`SceneOptions::show_cam`].
    pub cameras: Vec<CameraMesh>,
    /// view_from_world: inv(extrinsic of the first shown frame) · diag(1, -1, -1, 1) · rot_y(180°).
    pub node_transform: Affine,
    /// Diagonal of the box between the 5th and 95th percentile of each axis, scene units; 1 if no point was kept.
    pub scale: f64,
    /// The shown frames with their cameras, in order.
    pub views: Vec<View>,
    /// Number of frames in the predictions, shown or not.
    pub frames: usize,
    /// Name of each of these frames; empty when they are not known.
    pub names: Vec<String>,
    /// True when no point passed the filters: [`Scene::points`] is then one white placeholder point at (1, 0, 0).
    pub nothing_kept: bool,
}

impl Scene {
    /// Returns the scene with other points and without shapes of cameras.
    #[must_use]
    pub fn with_points(&self, points: PointCloud) -> Self {
        Self {
            points,
            cameras: Vec::new(),
            node_transform: self.node_transform,
            scale: self.scale,
            views: self.views.clone(),
            frames: self.frames,
            names: self.names.clone(),
            nothing_kept: self.nothing_kept,
        }
    }

    /// Returns the scene with at most `limit` points, evenly, and all else as it is.
    #[must_use]
    pub fn thinned(&self, limit: usize) -> Self {
        let mut scene = self.clone();
        scene.points.thin(limit);
        scene
    }

    /// Returns the name of a frame, or its number where names are not known.
    pub fn name(&self, frame: usize) -> String {
        match self.names.get(frame) {
            Some(name) => name.clone(),
            None => format!("frame {frame}"),
        }
    }
}

/// Builds the scene that `options` describe from predictions that are in memory.
///
/// `keep` is one flag per pixel, [S, H, W] in raster order; the confidence of pixels that are `false` counts as
/// zero (the sky mask).
///
/// # Errors
/// As [`build_from`], and when the mask does not have one flag for each pixel.
pub fn build(
    predictions: &Predictions,
    keep: Option<&[bool]>,
    options: &SceneOptions,
) -> Result<Scene, SceneError> {
    options.check()?;
    build_from(&FramesInMemory::new(predictions, keep)?, options)
}

/// Builds the scene that `options` describe, reading one frame at a time.
///
/// # Errors
/// When a tensor does not have the shape of the images, an option is out of range, or a needed camera is not finite.
pub fn build_from(
    frames: &dyn PredictedFrames,
    options: &SceneOptions,
) -> Result<Scene, SceneError> {
    options.check()?;
    let count = frames.count();
    let (height, width) = frames.size();
    let shown = options.frame_filter.shown(count)?;
    let branch = branch(frames, options.prediction_mode);
    let mut points = point_cloud::gather(frames, branch, shown.clone(), options)?;
    let nothing_kept = points.is_empty();
    let scale = if nothing_kept {
        points = PointCloud::single_white(width, height);
        1.0
    } else {
        filter::scale(&points.positions)
    };
    if let Some(limit) = options.max_points {
        points.thin(limit);
    }

    let views = camera::views(frames, shown)?;
    let cameras = if options.show_cam {
        camera::meshes(&views, scale)?
    } else {
        Vec::new()
    };
    let node_transform = align::node_transform(&views[0])?;
    Ok(Scene {
        points,
        cameras,
        node_transform,
        scale,
        views,
        frames: count,
        names: Vec::new(),
        nothing_kept,
    })
}

/// Returns the fields that `mode` shows; depth where the point head did not run.
fn branch(frames: &dyn PredictedFrames, mode: PredictionMode) -> Branch {
    match mode {
        PredictionMode::PointmapRegression if frames.has(Field::WorldPoints) => {
            return Branch {
                positions: Field::WorldPoints,
                confidence: Some(Field::WorldPointsConf).filter(|field| frames.has(*field)),
            };
        }
        PredictionMode::PointmapRegression => {
            tracing::warn!("the predictions have no world_points: showing depth and cameras");
        }
        PredictionMode::DepthmapAndCamera => {}
    }
    Branch {
        positions: Field::WorldPointsFromDepth,
        confidence: Some(Field::DepthConf),
    }
}
