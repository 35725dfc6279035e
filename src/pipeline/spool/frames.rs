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

    fn points_from_depth(&self, index: usize) -> Result<Tensor, SceneError> {
        let cameras = self.cameras.as_ref();
        let cameras = cameras.ok_or_else(|| missing(self, Field::WorldPointsFromDepth))?;
        let of = |all: &Tensor| {
            let camera = all.get(index);
            camera.map_err(tensor(Field::WorldPointsFromDepth))
        };
        self.points_through(index, (of(&cameras.extrinsic)?, of(&cameras.intrinsic)?))
    }

    /// The depth of a frame through a camera: extrinsic [3, 4], intrinsic [3, 3]. The pixels do not depend on each other, so
    /// this has the same bits as all frames at once.
    pub(in super::super) fn points_through(
        &self,
        index: usize,
        (extrinsic, intrinsic): (Tensor, Tensor),
    ) -> Result<Tensor, SceneError> {
        let depth = self.result(index, Field::Depth)?;
        let points = || {
            let camera = (extrinsic.unsqueeze(0)?, intrinsic.unsqueeze(0)?);
            let depth = depth.unsqueeze(0)?;
            unproject_depth_map_to_point_map(&depth, &camera.0, &camera.1)?.squeeze(0)
        };
        points().map_err(tensor(Field::WorldPointsFromDepth))
    }

    /// Whether a field can be read before the cameras are known.
    pub(in super::super) fn has_kept(&self, field: Field) -> bool {
        field == Field::Image || self.column(field).is_some()
    }

    /// Reads a field that does not depend on the cameras.
    pub(in super::super) fn read_kept(
        &self,
        index: usize,
        field: Field,
    ) -> Result<Tensor, SceneError> {
        if field != Field::Image {
            return self.result(index, field);
        }
        let image = self.images([index]).map_err(|e| SceneError::Read {
            name: field.name(),
            frame: index,
            source: std::io::Error::other(e),
        })?;
        image.squeeze(0).map_err(tensor(field))
    }

    /// Returns the pixels of a frame that show the photo.
    pub(in super::super) fn photo_area_of(&self, index: usize) -> PhotoArea {
        let (height, width) = (self.decoded.height, self.decoded.width);
        match self.decoded.placements.get(index) {
            Some(placement) => PhotoArea::new(placement, height, width),
            None => PhotoArea::whole(height, width),
        }
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
            Field::PoseEnc | Field::Extrinsic | Field::Intrinsic | Field::WorldPointsFromDepth => {
                self.cameras.is_some()
            }
            _ => self.has_kept(field),
        }
    }

    fn read(&self, index: usize, field: Field) -> Result<Tensor, SceneError> {
        let of_camera = |all: &Tensor| all.get(index).map_err(tensor(field));
        match (field, &self.cameras) {
            (Field::PoseEnc, Some(cameras)) => of_camera(&cameras.pose_enc),
            (Field::Extrinsic, Some(cameras)) => of_camera(&cameras.extrinsic),
            (Field::Intrinsic, Some(cameras)) => of_camera(&cameras.intrinsic),
            (Field::WorldPointsFromDepth, _) => self.points_from_depth(index),
            _ => self.read_kept(index, field),
        }
    }

    fn keep(&self, _: usize) -> Result<Option<Cow<'_, [bool]>>, SceneError> {
        // The mask is not of the network; who needs it adds it.
        Ok(None)
    }

    fn photo_area(&self, index: usize) -> PhotoArea {
        self.photo_area_of(index)
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
