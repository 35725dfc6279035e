//! The anchors' scene, while the other frames are computed.

use std::borrow::Cow;

use candle_core::Tensor;
use vggt_model::Cameras;

use crate::{
    pipeline::{Network, PipelineError, Spool, Stage, StopFlag, Watcher},
    scene::{Field, PhotoArea, PredictedFrames, SceneError},
};

/// The anchors of a spool that is not finished, with cameras that follow from them alone.
pub(in crate::pipeline) struct AnchorScene<'a> {
    spool: &'a Spool,
    anchors: &'a [usize],
    cameras: Cameras,
}

impl<'a> AnchorScene<'a> {
    /// Computes the cameras of the anchors, whose results are in the spool.
    ///
    /// # Errors
    /// When the network fails, the watcher stopped it, or the spool cannot be read.
    pub(in crate::pipeline) fn new(
        network: &Network,
        (spool, anchors): (&'a Spool, &'a [usize]),
        watcher: &mut dyn Watcher,
    ) -> Result<Self, PipelineError> {
        let tokens = spool.camera_tokens_of(anchors.iter().copied())?;
        let size = (spool.decoded().height, spool.decoded().width);
        Ok(Self {
            spool,
            anchors,
            cameras: network.cameras(&tokens, size, &mut Unreported(watcher))?,
        })
    }
}

/// Can be stopped, and does not report its steps: the cameras of all frames come at the end.
struct Unreported<'a>(&'a dyn Watcher);

impl Watcher for Unreported<'_> {
    fn step(&mut self, _: Stage, _: usize, _: usize) -> bool {
        !self.0.stop_flag().is_some_and(|flag| flag.is_stopped())
    }

    fn stop_flag(&self) -> Option<StopFlag> {
        self.0.stop_flag()
    }
}

impl PredictedFrames for AnchorScene<'_> {
    fn count(&self) -> usize {
        self.anchors.len()
    }

    fn size(&self) -> (usize, usize) {
        (self.spool.decoded().height, self.spool.decoded().width)
    }

    fn has(&self, field: Field) -> bool {
        match field {
            Field::PoseEnc | Field::Extrinsic | Field::Intrinsic | Field::WorldPointsFromDepth => {
                true
            }
            _ => self.spool.has_kept(field),
        }
    }

    fn read(&self, index: usize, field: Field) -> Result<Tensor, SceneError> {
        let of = |all: &Tensor| {
            all.get(index).map_err(|source| SceneError::Tensor {
                name: field.name(),
                source,
            })
        };
        match field {
            Field::PoseEnc => of(&self.cameras.pose_enc),
            Field::Extrinsic => of(&self.cameras.extrinsic),
            Field::Intrinsic => of(&self.cameras.intrinsic),
            Field::WorldPointsFromDepth => {
                let cameras = (of(&self.cameras.extrinsic)?, of(&self.cameras.intrinsic)?);
                self.spool.points_through(self.anchors[index], cameras)
            }
            _ => self.spool.read_kept(self.anchors[index], field),
        }
    }

    fn keep(&self, _: usize) -> Result<Option<Cow<'_, [bool]>>, SceneError> {
        Ok(None)
    }

    fn photo_area(&self, index: usize) -> PhotoArea {
        self.spool.photo_area_of(self.anchors[index])
    }
}
