//! Frames in meters, where somebody knows how long something in the scene is.

use std::{borrow::Cow, ops::RangeInclusive};

use candle_core::{DType, Tensor};

use crate::scene::{Field, PhotoArea, PredictedFrames, SceneError, Unit, World};

/// How small and how large a unit of a scene may be, in meters: from an insect on a turntable to a mountain seen from the air.
pub const METERS_PER_UNIT: RangeInclusive<f64> = 1e-6..=1e6;

/// Frames whose lengths are multiplied: depths, points, and the positions of cameras.
pub struct ScaledFrames {
    frames: Box<dyn PredictedFrames + Send>,
    meters_per_unit: f64,
}

impl ScaledFrames {
    /// Wraps `frames`, in which a length of 1 is `meters_per_unit` long.
    pub fn new(frames: Box<dyn PredictedFrames + Send>, meters_per_unit: f64) -> Self {
        Self {
            frames,
            meters_per_unit,
        }
    }

    fn scaled(&self, field: Field, values: &Tensor) -> candle_core::Result<Tensor> {
        let factor = self.meters_per_unit;
        let values = values.to_dtype(DType::F32)?;
        match field {
            Field::Depth | Field::WorldPointsFromDepth | Field::WorldPoints => values * factor,
            // The translation is the last column.
            Field::Extrinsic => {
                let [rotation, translation] = [values.narrow(1, 0, 3)?, values.narrow(1, 3, 1)?];
                Tensor::cat(&[rotation, (translation * factor)?], 1)
            }
            // Three numbers of translation, then a quaternion and the field of view.
            Field::PoseEnc => {
                let [translation, rest] = [values.narrow(0, 0, 3)?, values.narrow(0, 3, 6)?];
                Tensor::cat(&[(translation * factor)?, rest], 0)
            }
            Field::Image | Field::Intrinsic | Field::DepthConf | Field::WorldPointsConf => {
                Ok(values)
            }
        }
    }
}

impl PredictedFrames for ScaledFrames {
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
        let values = self.frames.read(index, field)?;
        let name = field.name();
        let scaled = self.scaled(field, &values);
        scaled.map_err(|source| SceneError::Tensor { name, source })
    }

    fn keep(&self, index: usize) -> Result<Option<Cow<'_, [bool]>>, SceneError> {
        self.frames.keep(index)
    }

    fn photo_area(&self, index: usize) -> PhotoArea {
        self.frames.photo_area(index)
    }

    fn unit(&self) -> Unit {
        Unit::Meters
    }

    fn world(&self) -> World {
        self.frames.world()
    }
}
