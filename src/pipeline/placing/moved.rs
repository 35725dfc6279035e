//! Frames in another world: turned, moved and scaled as a whole.

use std::borrow::Cow;

use candle_core::{DType, Device, Tensor};
use nalgebra::Similarity3;

use super::geometry::{affine, affine_of_similarity, pose, similar};
use crate::scene::{
    Affine, Field, Flat, PhotoArea, PredictedFrames, SceneError, Unit, World, camera::views,
    quaternion,
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

    fn points(&self, index: usize, field: Field) -> Result<Tensor, SceneError> {
        let (height, width) = self.size();
        let moved = affine_of_similarity(&self.similarity);
        let points = Flat::read_from(&*self.frames, index, field)?;
        let points = points.read();
        let points = points.values()?.chunks_exact(3);
        let moved: Vec<f32> = points
            .flat_map(|p| moved.apply_f32([p[0], p[1], p[2]]))
            .collect();
        Tensor::from_vec(moved, field.shape(height, width), &Device::Cpu).map_err(tensor(field))
    }

    fn depth(&self, index: usize) -> Result<Tensor, SceneError> {
        let depth = self.frames.read(index, Field::Depth)?;
        let scaled = || {
            depth
                .to_dtype(DType::F32)?
                .affine(self.similarity.scaling(), 0.0)
        };
        scaled().map_err(tensor(Field::Depth))
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

fn tensor(field: Field) -> impl FnOnce(candle_core::Error) -> SceneError {
    let name = field.name();
    move |source| SceneError::Tensor { name, source }
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
                let rows = self.camera(index)?.0;
                let values: Vec<f32> = rows.iter().flatten().map(|x| *x as f32).collect();
                Tensor::from_vec(values, (3, 4), &Device::Cpu).map_err(tensor(field))
            }
            Field::PoseEnc => self.pose_enc(index),
            Field::Depth => self.depth(index),
            Field::WorldPoints | Field::WorldPointsFromDepth => self.points(index, field),
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
