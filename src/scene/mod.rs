//! From predictions to points and camera shapes, pure: no files, no clock, no randomness.
//!
//! What lives here: which points are kept ([`SceneOptions`]), their colours, the scene's scale, the shapes that
//! stand for the cameras, and the transform that turns the scene upright for viewers. What does not: any file
//! format. The one door in is [`build`].
//!
//! Port of `visual_util.py`, `predictions_to_glb`, in upstream's order of steps.
//! Differs from upstream: points whose position or confidence is NaN or infinite are dropped before anything is
//! measured, where upstream lets them turn every threshold into NaN; a frame filter that cannot be read is an
//! error, where upstream silently shows all frames.

pub mod align;
pub mod camera;
pub mod filter;
mod flat;
mod mask;
mod options;
mod point_cloud;
mod provenance;

use candle_core::Tensor;
use vggt_model::Predictions;

pub use align::Affine;
pub use camera::{CameraMesh, View};
pub use options::{FrameFilter, PredictionMode, SceneOptions};
pub use point_cloud::PointCloud;
pub use provenance::Provenance;

use flat::{Flat, Reading};
use point_cloud::{Branch, Columns};

/// What can be wrong with predictions or options. `found` and `value` are what was given.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// A tensor has another shape than the pictures demand.
    #[error(
        "cannot read the predicted {name}: its shape is {found:?}, the pictures demand {expected:?}"
    )]
    Shape {
        /// Which tensor.
        name: &'static str,
        /// What it should be.
        expected: Vec<usize>,
        /// What it is.
        found: Vec<usize>,
    },
    /// A tensor could not be read at all.
    #[error("cannot read the predicted {name}")]
    Tensor {
        /// Which tensor.
        name: &'static str,
        /// What candle said.
        #[source]
        source: candle_core::Error,
    },
    /// More pixels than a 32-bit index can count.
    #[error("cannot build a scene of {pixels} pixels: the limit is 4294967295; use fewer frames")]
    TooManyPixels {
        /// Frames x height x width.
        pixels: usize,
    },
    /// The frame filter names a frame that is not there.
    #[error("cannot show frame {frame} alone: frames are numbered 0 to {last}")]
    NoSuchFrame {
        /// The frame asked for.
        frame: usize,
        /// The last frame there is.
        last: usize,
    },
    /// A camera that cannot be placed.
    #[error(
        "cannot place the camera of frame {frame}: its extrinsic has no finite inverse, so the predictions are damaged"
    )]
    Camera {
        /// Whose camera.
        frame: usize,
    },
    /// An option's value cannot be read or is out of its range.
    #[error("cannot use {value:?} as {option}: {fix}")]
    Option {
        /// Which option.
        option: &'static str,
        /// The value given.
        value: String,
        /// What it takes.
        fix: &'static str,
    },
}

/// Points and cameras, ready to be written.
///
/// Two spaces occur: *world* is the network's (OpenCV axes of the first frame's camera, roughly), and *view* is
/// what a viewer shows: `view = node_transform * world`.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The kept points, in world space. Never empty: see [`Scene::nothing_kept`].
    pub points: PointCloud,
    /// Shapes that stand for the cameras, in world space; empty unless [`SceneOptions::show_cam`].
    pub cameras: Vec<CameraMesh>,
    /// view_from_world: inv(extrinsic of the first shown frame) · diag(1, -1, -1, 1) · rot_y(180°).
    pub node_transform: Affine,
    /// Diagonal of the box between the 5th and 95th percentile of each axis, scene units; 1 if nothing was kept.
    pub scale: f64,
    /// The shown frames with their cameras, in order.
    pub views: Vec<View>,
    /// How many frames the predictions hold, shown or not.
    pub frames: usize,
    /// True when no point passed: [`Scene::points`] is then one white point at (1, 0, 0) that no pixel made.
    pub nothing_kept: bool,
}

/// Builds the scene that `options` ask for.
///
/// `keep` is one flag per pixel, [S, H, W] in raster order; the confidence of pixels that are `false` counts as
/// zero (the sky mask).
///
/// # Errors
/// When a tensor's shape does not fit the pictures, an option is out of range, or a needed camera is not finite.
pub fn build(
    predictions: &Predictions,
    keep: Option<&[bool]>,
    options: &SceneOptions,
) -> Result<Scene, SceneError> {
    options.check()?;
    let (frames, height, width) = picture_shape(&predictions.images)?;
    let shown = options.frame_filter.shown(frames)?;
    let pixels = frames * height * width;
    if keep.is_some_and(|k| k.len() != pixels) {
        return Err(SceneError::Shape {
            name: "keep mask",
            expected: vec![frames, height, width],
            found: vec![keep.map_or(0, <[bool]>::len)],
        });
    }
    let images = Flat::new("images", &predictions.images, &[frames, 3, height, width])?;
    let (positions, confidence) = branch(predictions, options.prediction_mode)?;
    let positions = Flat::new(positions.0, positions.1, &[frames, height, width, 3])?;
    let confidence = confidence
        .map(|(name, t)| Flat::new(name, t, &[frames, height, width]))
        .transpose()?;

    let (images, positions) = (images.read(), positions.read());
    let confidence = confidence.as_ref().map(Flat::read);
    let columns = Columns {
        images: images.values()?,
        branch: Branch {
            positions: positions.values()?,
            confidence: confidence.as_ref().map(Reading::values).transpose()?,
        },
        keep,
        width,
        height,
    };
    let mut points = point_cloud::gather(&columns, shown.clone(), options);
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

    let views = camera::views(predictions, frames, shown)?;
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
        frames,
        nothing_kept,
    })
}

fn picture_shape(images: &Tensor) -> Result<(usize, usize, usize), SceneError> {
    let (frames, _, height, width) = images.dims4().map_err(|source| SceneError::Tensor {
        name: "images",
        source,
    })?;
    let pixels = frames.saturating_mul(height).saturating_mul(width);
    if pixels == 0 {
        return Err(SceneError::Shape {
            name: "images",
            expected: vec![1, 3, 1, 1],
            found: images.dims().to_vec(),
        });
    }
    if u32::try_from(pixels).is_err() {
        return Err(SceneError::TooManyPixels { pixels });
    }
    Ok((frames, height, width))
}

type Named<'a> = (&'static str, &'a Tensor);

/// Positions and confidence of the branch that `mode` names.
fn branch(
    predictions: &Predictions,
    mode: PredictionMode,
) -> Result<(Named<'_>, Option<Named<'_>>), SceneError> {
    let depth = (
        (
            "world_points_from_depth",
            &predictions.world_points_from_depth,
        ),
        Some(("depth_conf", &predictions.depth_conf)),
    );
    Ok(match (mode, &predictions.world_points) {
        (PredictionMode::DepthmapAndCamera, _) => depth,
        (PredictionMode::PointmapRegression, Some(points)) => (
            ("world_points", points),
            predictions
                .world_points_conf
                .as_ref()
                .map(|t| ("world_points_conf", t)),
        ),
        (PredictionMode::PointmapRegression, None) => {
            tracing::warn!("the predictions hold no world_points: showing depth and cameras");
            depth
        }
    })
}
