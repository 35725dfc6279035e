//! Predictions read one frame at a time, which is all that a scene or a writer needs of them.

use std::borrow::Cow;

use candle_core::Tensor;
use vggt_model::{Predictions, preprocess::Placement};

use super::{PhotoArea, SceneError, Unit, World};

/// One of the network's outputs, or its input, for a single frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// sRGB values. [3, H, W], in [0, 1].
    Image,
    /// The camera as the network encodes it; only saved predictions hold it. `[9]`
    PoseEnc,
    /// Upstream's `extrinsic`: camera_from_world. [3, 4]
    Extrinsic,
    /// Pinhole intrinsics in pixels. [3, 3]
    Intrinsic,
    /// Depth along the camera's z axis. [H, W, 1]
    Depth,
    /// Confidence of the depth. [H, W]
    DepthConf,
    /// World points unprojected from the depth. [H, W, 3]
    WorldPointsFromDepth,
    /// World points of the point head. [H, W, 3]
    WorldPoints,
    /// Confidence of the point head. [H, W]
    WorldPointsConf,
}

impl Field {
    /// All fields.
    pub const ALL: [Self; 9] = [
        Self::Image,
        Self::PoseEnc,
        Self::Extrinsic,
        Self::Intrinsic,
        Self::Depth,
        Self::DepthConf,
        Self::WorldPointsFromDepth,
        Self::WorldPoints,
        Self::WorldPointsConf,
    ];

    /// Returns the name of the tensor in [`Predictions`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "images",
            Self::PoseEnc => "pose_enc",
            Self::Extrinsic => "extrinsic",
            Self::Intrinsic => "intrinsic",
            Self::Depth => "depth",
            Self::DepthConf => "depth_conf",
            Self::WorldPointsFromDepth => "world_points_from_depth",
            Self::WorldPoints => "world_points",
            Self::WorldPointsConf => "world_points_conf",
        }
    }

    /// Returns the shape of the tensor for frames of `height` x `width` pixels.
    pub fn shape(self, height: usize, width: usize) -> Vec<usize> {
        match self {
            Self::Image => vec![3, height, width],
            Self::PoseEnc => vec![9],
            Self::Extrinsic => vec![3, 4],
            Self::Intrinsic => vec![3, 3],
            Self::Depth => vec![height, width, 1],
            Self::DepthConf | Self::WorldPointsConf => vec![height, width],
            Self::WorldPointsFromDepth | Self::WorldPoints => vec![height, width, 3],
        }
    }
}

/// Predictions of a sequence of frames that are read one frame and one field at a time, as often as needed.
///
/// Scenes and writers make several passes: the first ones find thresholds and ranges over all frames, the others convert. None
/// holds more than one frame, so an implementation may keep the frames on disk.
pub trait PredictedFrames {
    /// Returns the number of frames, at least 1.
    fn count(&self) -> usize;

    /// Returns the height and width of each frame in pixels.
    fn size(&self) -> (usize, usize);

    /// Returns true when [`PredictedFrames::read`] can read `field`.
    fn has(&self, field: Field) -> bool;

    /// Reads `field` of the frame `index`, in the shape of [`Field::shape`].
    ///
    /// # Errors
    /// When the field is missing, has another shape or cannot be read.
    fn read(&self, index: usize, field: Field) -> Result<Tensor, SceneError>;

    /// Returns one flag for each pixel of the frame `index` in raster order: the confidence of pixels that are `false`
    /// counts as zero (the sky mask). `None` keeps all pixels.
    ///
    /// # Errors
    /// When the mask cannot be read.
    fn keep(&self, index: usize) -> Result<Option<Cow<'_, [bool]>>, SceneError>;

    /// Returns the pixels of the frame `index` that show the photo. The padding around it is not part of the scene.
    fn photo_area(&self, index: usize) -> PhotoArea;

    /// Returns the unit of depths, points and positions of cameras.
    fn unit(&self) -> Unit {
        Unit::Arbitrary
    }

    /// Returns the world that points and cameras are in.
    fn world(&self) -> World {
        World::Network
    }
}

/// The frames of [`Predictions`] that are in memory as a whole.
#[derive(Debug, Clone)]
pub struct FramesInMemory {
    predictions: Predictions,
    keep: Option<Vec<bool>>,
    placements: Vec<Placement>,
    frames: usize,
    height: usize,
    width: usize,
}

impl FramesInMemory {
    /// Wraps predictions and a mask of one flag for each pixel, [S, H, W] in raster order.
    ///
    /// Tensors are shared: a clone of predictions costs nothing.
    ///
    /// # Errors
    /// When there are no pixels, or the mask does not have one flag for each.
    pub fn new(predictions: Predictions, keep: Option<Vec<bool>>) -> Result<Self, SceneError> {
        let images = &predictions.images;
        let (frames, _, height, width) = images.dims4().map_err(|source| SceneError::Tensor {
            name: Field::Image.name(),
            source,
        })?;
        let pixels = frames.saturating_mul(height).saturating_mul(width);
        if pixels == 0 {
            return Err(SceneError::Shape {
                name: Field::Image.name(),
                expected: vec![1, 3, 1, 1],
                found: images.dims().to_vec(),
            });
        }
        if let Some(keep) = keep.as_ref().filter(|keep| keep.len() != pixels) {
            return Err(SceneError::Shape {
                name: "keep mask",
                expected: vec![frames, height, width],
                found: vec![keep.len()],
            });
        }
        Ok(Self {
            predictions,
            keep,
            placements: Vec::new(),
            frames,
            height,
            width,
        })
    }

    /// Sets where each frame lies in its photo; frames without a placement have no padding.
    #[must_use]
    pub fn with_placements(self, placements: Vec<Placement>) -> Self {
        Self { placements, ..self }
    }

    fn tensor(&self, field: Field) -> Option<&Tensor> {
        let p = &self.predictions;
        match field {
            Field::Image => Some(&p.images),
            Field::PoseEnc => Some(&p.pose_enc),
            Field::Extrinsic => Some(&p.extrinsic),
            Field::Intrinsic => Some(&p.intrinsic),
            Field::Depth => Some(&p.depth),
            Field::DepthConf => Some(&p.depth_conf),
            Field::WorldPointsFromDepth => Some(&p.world_points_from_depth),
            Field::WorldPoints => p.world_points.as_ref(),
            Field::WorldPointsConf => p.world_points_conf.as_ref(),
        }
    }
}

impl PredictedFrames for FramesInMemory {
    fn count(&self) -> usize {
        self.frames
    }

    fn size(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    fn has(&self, field: Field) -> bool {
        self.tensor(field).is_some()
    }

    fn read(&self, index: usize, field: Field) -> Result<Tensor, SceneError> {
        let name = field.name();
        let mut expected = vec![self.frames];
        expected.extend(field.shape(self.height, self.width));
        match self.tensor(field) {
            Some(tensor) if tensor.dims() == expected => tensor
                .get(index)
                .map_err(|source| SceneError::Tensor { name, source }),
            found => Err(SceneError::Shape {
                name,
                expected,
                found: found.map_or_else(Vec::new, |t| t.dims().to_vec()),
            }),
        }
    }

    fn keep(&self, index: usize) -> Result<Option<Cow<'_, [bool]>>, SceneError> {
        let plane = self.height * self.width;
        let of_frame = index * plane..(index + 1) * plane;
        let keep = self.keep.as_ref();
        Ok(keep.and_then(|keep| keep.get(of_frame)).map(Cow::Borrowed))
    }

    fn photo_area(&self, index: usize) -> PhotoArea {
        match self.placements.get(index) {
            Some(placement) => PhotoArea::new(placement, self.height, self.width),
            None => PhotoArea::whole(self.height, self.width),
        }
    }
}
