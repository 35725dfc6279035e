//! Frames in another world: turned, moved and scaled as a whole.

use std::borrow::Cow;

use candle_core::{Device, Tensor};
use nalgebra::Similarity3;

use super::geometry::{affine, affine_of_similarity, pose, similar};
use crate::{
    pipeline::corrected::{matrix, moved_points, scaled_depth, tensor},
    scene::{
        Affine, Field, Flat, PhotoArea, PredictedFrames, SceneError, Unit, World, camera::views,
        quaternion,
    },
};

/// Frames that a similarity brought into another world. Lenses, with their distortion, and images stay.
pub(super) struct MovedFrames {
    frames: Box<dyn PredictedFrames + Send>,
    similarity: Similarity3<f64>,
    world: World,
    unit: Unit,
}

impl MovedFrames {
    /// Wraps `frames`; `similarity` is new_world_from_world.
    pub(super) fn new(
        frames: Box<dyn PredictedFrames + Send>,
        similarity: Similarity3<f64>,
        world: World,
        unit: Unit,
    ) -> Self {
        Self {
            frames,
            similarity,
            world,
            unit,
        }
    }

    fn camera(&self, index: usize) -> Result<Affine, SceneError> {
        let views = views(&*self.frames, index..index + 1)?;
        let view = views.first().ok_or(SceneError::Camera { frame: index })?;
        view.world_from_camera()?;
        Ok(affine(&similar(
            &self.similarity,
            &pose(&view.camera_from_world),
        )))
    }

    /// The new pose before what the encoding says of the lens.
    fn pose_enc(&self, index: usize) -> Result<Tensor, SceneError> {
        let field = Field::PoseEnc;
        let camera = self.camera(index)?;
        let before = Flat::read_from(&*self.frames, index, field)?;
        let before = before.read();
        let [.., vertical, horizontal] = *before.values()? else {
            return Err(SceneError::Camera { frame: index });
        };
        let [w, x, y, z] = quaternion(&camera);
        let [tx, ty, tz] = camera.0.map(|row| row[3]);
        let pose = [tx, ty, tz, x, y, z, w].map(|value| value as f32);
        let values = pose.into_iter().chain([vertical, horizontal]);
        Tensor::from_iter(values, &Device::Cpu).map_err(tensor(field))
    }
}

impl PredictedFrames for MovedFrames {
    fn count(&self) -> usize {
        self.frames.count()
    }

    fn size(&self) -> (usize, usize) {
        self.frames.size()
    }

    fn has(&self, field: Field) -> bool {
        self.frames.has(field)
    }

    fn read(&self, index: usize, field: Field) -> Result<Tensor, SceneError> {
        match field {
            Field::Extrinsic => {
                let pose = self.camera(index)?;
                matrix(&pose.0).map_err(tensor(field))
            }
            Field::PoseEnc => self.pose_enc(index),
            Field::Depth => scaled_depth(&*self.frames, index, self.similarity.scaling()),
            Field::WorldPoints | Field::WorldPointsFromDepth => {
                let world = affine_of_similarity(&self.similarity);
                moved_points(&*self.frames, index, field, &world)
            }
            Field::Image | Field::Intrinsic | Field::DepthConf | Field::WorldPointsConf => {
                self.frames.read(index, field)
            }
        }
    }

    fn keep(&self, index: usize) -> Result<Option<Cow<'_, [bool]>>, SceneError> {
        self.frames.keep(index)
    }

    fn photo_area(&self, index: usize) -> PhotoArea {
        self.frames.photo_area(index)
    }

    fn unit(&self) -> Unit {
        self.unit
    }

    fn world(&self) -> World {
        self.world
    }
}
