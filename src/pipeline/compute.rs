//! Frames in a spool -> the network's results in the same spool.
//!
//! [`compute`] is where another way to attend joins: it computes what [`Spool::missing`] names, in batches, hands each frame's
//! results to [`Spool::put`] as they arrive, and ends with [`Spool::finish`].

use candle_core::Tensor;
use vggt_model::{ForwardOptions, Predictions, Tracks};

use super::{
    FrameOutputs, Network, PipelineError, Spool, Watcher, predict_what_fits,
    source::{all_frames, evenly},
};

/// How the frames are computed.
pub(super) struct Computation<'a> {
    pub(super) network: &'a Network,
    pub(super) forward: &'a ForwardOptions,
    /// When the memory of a device does not suffice, half of the frames may do.
    pub(super) may_thin: bool,
}

impl Computation<'_> {
    /// Computes what is missing in the spool; returns the tracks of the query points.
    ///
    /// # Errors
    /// When the network fails, the watcher stopped it, or the spool cannot be written.
    pub(super) fn run(
        &self,
        spool: &mut Spool,
        watcher: &mut dyn Watcher,
    ) -> Result<Option<Tracks>, PipelineError> {
        let frames = all_frames(spool)?;
        let predictions = match self.may_thin {
            true => {
                let of = frames.names.len();
                let (used, predictions) =
                    predict_what_fits(self.network, frames, self.forward, watcher)?;
                let used = used.names.len();
                if used < of {
                    let chosen: Vec<usize> = evenly(of, used).collect();
                    spool.select(&chosen)?;
                }
                predictions
            }
            false => self
                .network
                .predict(&frames.images, self.forward, watcher)?,
        };
        keep(spool, &predictions)?;
        Ok(predictions.tracks)
    }
}

/// Writes the predictions of a dense pass frame by frame.
fn keep(spool: &mut Spool, p: &Predictions) -> Result<(), PipelineError> {
    let points = p.world_points.as_ref().zip(p.world_points_conf.as_ref());
    for frame in 0..spool.count() {
        let of = |tensor: &Tensor| tensor.get(frame);
        let points = match points {
            Some((points, conf)) => Some((of(points)?, of(conf)?)),
            None => None,
        };
        let results = FrameOutputs {
            depth: of(&p.depth)?,
            depth_conf: of(&p.depth_conf)?,
            points,
            camera_tokens: None,
        };
        spool.put(frame, &results)?;
    }
    Ok(spool.finish(&p.pose_enc, &p.extrinsic, &p.intrinsic)?)
}
