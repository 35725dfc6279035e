//! A finished spool as a sequence of predicted frames.

use std::{borrow::Cow, sync::Arc};

use candle_core::{Device, Tensor};
use vggt_model::geometry::unproject_depth_map_to_point_map;

use super::{Spool, column::Column};
use crate::scene::{Field, PhotoArea, PredictedFrames, SceneError};

impl Spool {
    fn column(&self, field: Field) -> Option<&Column> {
        let name = field.name();
        self.results.iter().find(|column| column.name == name)
    }

    fn result(&self, index: usize, field: Field) -> Result<Tensor, SceneError> {
        let Some(column) = self.column(field) else {
            return Err(missing(self, field));
        };
        let values = column.values(index).map_err(|source| SceneError::Read {
            name: field.name(),
            frame: index,
            source,
        })?;
        let shape = field.shape(self.decoded.height, self.decoded.width);
        Tensor::from_vec(values, shape, &Device::Cpu).map_err(tensor(field))
    }

    /// One frame of the depth through its camera. The pixels do not depend on each other, so this has the same bits as all
    /// frames at once.
    fn points_from_depth(&self, index: usize) -> Result<Tensor, SceneError> {
        let depth = self.result(index, Field::Depth)?;
        let cameras = self.cameras.as_ref();
        let cameras = cameras.ok_or_else(|| missing(self, Field::WorldPointsFromDepth))?;
        let points = || {
            let extrinsic = cameras.extrinsic.narrow(0, index, 1)?;
            let intrinsic = cameras.intrinsic.narrow(0, index, 1)?;
            let points =
                unproject_depth_map_to_point_map(&depth.unsqueeze(0)?, &extrinsic, &intrinsic)?;
            points.squeeze(0)
        };
        points().map_err(tensor(Field::WorldPointsFromDepth))
    }
}

impl PredictedFrames for Arc<Spool> {
    fn count(&self) -> usize {
        Spool::count(self)
    }

    fn size(&self) -> (usize, usize) {
        (self.decoded.height, self.decoded.width)
    }

    fn has(&self, field: Field) -> bool {
        match field {
            Field::Image => true,
            Field::Depth | Field::DepthConf | Field::WorldPoints | Field::WorldPointsConf => {
                self.column(field).is_some()
            }
            _ => self.cameras.is_some(),
        }
    }

    fn read(&self, index: usize, field: Field) -> Result<Tensor, SceneError> {
        let of_camera = |all: &Tensor| all.get(index).map_err(tensor(field));
        match (field, &self.cameras) {
            (Field::Image, _) => {
                let image = self.images([index]).map_err(|e| SceneError::Read {
                    name: field.name(),
                    frame: index,
                    source: std::io::Error::other(e),
                })?;
                image.squeeze(0).map_err(tensor(field))
            }
            (Field::PoseEnc, Some(cameras)) => of_camera(&cameras.pose_enc),
            (Field::Extrinsic, Some(cameras)) => of_camera(&cameras.extrinsic),
            (Field::Intrinsic, Some(cameras)) => of_camera(&cameras.intrinsic),
            (Field::WorldPointsFromDepth, _) => self.points_from_depth(index),
            _ => self.result(index, field),
        }
    }

    fn keep(&self, _: usize) -> Result<Option<Cow<'_, [bool]>>, SceneError> {
        // The mask is not of the network; who needs it adds it.
        Ok(None)
    }

    fn photo_area(&self, index: usize) -> PhotoArea {
        let (height, width) = (self.decoded.height, self.decoded.width);
        match self.decoded.placements.get(index) {
            Some(placement) => PhotoArea::new(placement, height, width),
            None => PhotoArea::whole(height, width),
        }
    }
}

fn missing(spool: &Spool, field: Field) -> SceneError {
    let mut expected = vec![spool.count()];
    expected.extend(field.shape(spool.decoded.height, spool.decoded.width));
    SceneError::Shape {
        name: field.name(),
        expected,
        found: Vec::new(),
    }
}

fn tensor(field: Field) -> impl FnOnce(candle_core::Error) -> SceneError {
    let name = field.name();
    move |source| SceneError::Tensor { name, source }
}
