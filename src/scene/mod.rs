//! Predictions -> points and camera shapes. Pure: no files, no clock, no randomness.
//!
//! What lives here: which points are kept ([`SceneOptions`]), their colors, the scale of the scene, the shapes that
//! stand for the cameras, and the transform that turns the scene upright for viewers. What does not: file formats. The
//! entry points are [`build`] for predictions in memory and [`build_from`] for frames that are read one at a time
//! ([`PredictedFrames`]).
//!
//! A [`Scene`] holds no points: it knows how many there are and by which rule ([`PointPlan`]). Whoever writes them makes them
//! from the same frames, one frame after the other ([`ScenePoints`]), so memory does not depend on the number of frames.
//!
//! Port of `visual_util.py`, `predictions_to_glb`, with its steps in upstream's order.
//! Differs from upstream: points whose position or confidence is NaN or infinite are dropped before anything is
//! measured, where upstream lets them turn every threshold into NaN; pixels of the padding around a photo are dropped in
//! the same way; a frame filter that cannot be parsed is an error, where upstream silently shows all frames.

pub mod align;
pub(crate) mod bounds;
pub mod camera;
mod coverage;
mod edges;
mod error;
pub mod filter;
mod flat;
mod frames;
mod geometry;
mod mask;
mod neighbors;
mod options;
mod outliers;
mod photo;
mod plan;
mod point_cloud;
mod points;
mod provenance;
pub(crate) mod ranks;
pub(crate) mod rotation;
mod rule;
#[cfg(test)]
pub(crate) mod testing;
mod thin;
mod unit;
mod world;

use vggt_model::Predictions;

pub use align::Affine;
pub use camera::{CameraMesh, View};
pub use coverage::confident_and_even;
pub use error::SceneError;
pub use frames::{Field, FramesInMemory, PredictedFrames};
pub use options::{FrameFilter, PredictionMode, SceneOptions, with_fields};
pub use photo::PhotoArea;
pub use plan::PointPlan;
pub use point_cloud::PointCloud;
pub use points::ScenePoints;
pub use provenance::{GLTF_AXES, Provenance, VIEW_AXES, WORLD_AXES};
pub use rotation::quaternion;
pub use unit::Unit;
pub use world::{Origin, World};

pub(crate) use flat::Flat;
pub(crate) use neighbors::Neighbors;

use geometry::Branch;

/// Which points, and cameras: ready to be written, together with the frames that it was built from.
///
/// Two spaces occur: *world* is the network's (OpenCV axes of the first frame's camera, roughly) or another [`World`], and *view* is
/// the space that a viewer shows: `view = node_transform * world`.
#[derive(Debug, Clone)]
pub struct Scene {
    /// Which points there are. Never empty: see [`Scene::nothing_kept`].
    pub points: PointPlan,
    /// Shapes that stand for the cameras, in world space; empty unless [`SceneOptions::show_cam`].
    pub cameras: Vec<CameraMesh>,
    /// view_from_world; in the network's world inv(extrinsic of the first shown frame) · diag(1, -1, -1, 1) · rot_y(180°).
    pub node_transform: Affine,
    /// Diagonal of the box between the 5th and 95th percentile of each axis, scene units; 1 if no point was kept.
    pub scale: f64,
    /// The shown frames with their cameras, in order.
    pub views: Vec<View>,
    /// The world that points and cameras are in.
    pub world: World,
    /// Number of frames in the predictions, shown or not.
    pub frames: usize,
    /// Name of each of these frames; empty when they are not known.
    pub names: Vec<String>,
    /// True when no point passed the filters: the scene then has one white placeholder point at (1, 0, 0).
    pub nothing_kept: bool,
}

impl Scene {
    /// Returns the scene with at most `limit` points, evenly, and all else as it is.
    #[must_use]
    pub fn thinned(&self, limit: usize) -> Self {
        let mut scene = self.clone();
        scene.points = scene.points.limited(limit);
        scene
    }

    /// gltf_from_world: the axes of the first shown frame's camera as glTF has them, x right, y up and z back; level, or those of
    /// the Earth, where the world is.
    pub fn gltf_from_world(&self) -> Affine {
        match self.views.first() {
            Some(first) => self.world.gltf_from_world(first),
            None => align::OPENGL_FROM_OPENCV,
        }
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
    let keep = keep.map(<[bool]>::to_vec);
    build_from(&FramesInMemory::new(predictions.clone(), keep)?, options)
}

/// Builds the scene that `options` describe, reading one frame at a time.
///
/// # Errors
/// When a frame cannot be read or changes meanwhile, a tensor does not have the shape of the images, an option is out of range,
/// or a needed camera is not finite.
pub fn build_from(
    frames: &dyn PredictedFrames,
    options: &SceneOptions,
) -> Result<Scene, SceneError> {
    options.check()?;
    let count = frames.count();
    let shown = options.frame_filter.shown(count)?;
    let branch = branch(frames, options.prediction_mode);
    let (points, scale) = PointPlan::new(frames, branch, shown.clone(), options)?;
    let views = camera::views(frames, shown)?;
    let cameras = if options.show_cam {
        camera::meshes(&views, scale)?
    } else {
        Vec::new()
    };
    let first = views
        .first()
        .ok_or(SceneError::NoSuchFrame { frame: 0, last: 0 })?;
    Ok(Scene {
        nothing_kept: points.kept() == 0,
        node_transform: frames.world().view_from_world(first)?,
        world: frames.world(),
        points,
        cameras,
        scale,
        views,
        frames: count,
        names: Vec::new(),
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
