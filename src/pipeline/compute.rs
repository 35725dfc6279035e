//! Frames in a spool -> the network's results in the same spool.
//!
//! Every frame attends to all frames in one pass, or a few frames at a time to anchors, see `attention`. Results go to
//! [`Spool::put`] frame by frame, the cameras to [`Spool::finish`]; what is in the spool already is not computed again.

use candle_core::Tensor;
use vggt_model::{ForwardOptions, Tracks};

use super::{
    AttentionOptions, FrameOutputs, Network, PipelineError, Spool, Warning, Watcher, Work,
    attention::{Anchored, Anchors, OnAnchors, Plan, plan, unrelated, warning_of},
    predict_what_fits,
    retry::Compared,
    seconds_on_cpu,
    source::{all_frames, evenly},
};

/// How the frames are computed.
pub(super) struct Computation<'a> {
    pub(super) network: &'a Network,
    pub(super) forward: &'a ForwardOptions,
    /// Points are followed only where every frame attends to all frames anyway.
    pub(super) tracks_are_optional: bool,
    pub(super) attention: &'a AttentionOptions,
    /// Frames may be left out for lack of memory.
    pub(super) may_thin: bool,
    /// The number of frames was chosen by memory already, or must not be.
    pub(super) fits: bool,
    /// Gets the anchors' results while the others are missing.
    pub(super) on_anchors: &'a mut OnAnchors<'a>,
}

/// Operations from which the time of a pass is estimated before its start: some ten seconds on two cores.
const WORTH_TELLING: u64 = 1_000_000_000_000;

impl Computation<'_> {
    /// Computes what is missing in the spool; returns the tracks of the query points.
    ///
    /// # Errors
    /// When the options do not fit the frames, the network fails, the watcher stopped it, or the spool cannot be written.
    pub(super) fn run(
        &mut self,
        spool: &mut Spool,
        watcher: &mut dyn Watcher,
    ) -> Result<Option<Tracks>, PipelineError> {
        let tracks = self.pass(spool, watcher)?;
        if !self.attention.drop_unrelated {
            return Ok(tracks);
        }
        let low = unrelated(spool)?;
        if low.is_empty() {
            return Ok(tracks);
        }
        // Without them, and only once: of the frames that are left some are always the least alike.
        let warning = warning_of(spool, &low, true);
        watcher.warn(&warning);
        spool.tell(&warning);
        let kept: Vec<usize> = (0..spool.count())
            .filter(|frame| low.binary_search(frame).is_err())
            .collect();
        spool.select(&kept)?;
        self.pass(spool, watcher)
    }

    fn pass(
        &mut self,
        spool: &mut Spool,
        watcher: &mut dyn Watcher,
    ) -> Result<Option<Tracks>, PipelineError> {
        let size = (spool.decoded().height, spool.decoded().width);
        let frames = (spool.count(), size);
        let tracks = self.forward.query_points.is_some() && !self.tracks_are_optional;
        let may_thin = self.may_thin && !self.fits;
        let plan = plan(self.network, self.attention, frames, (tracks, may_thin))?;
        watcher.begin(&self.work(&plan, frames));
        match plan {
            Plan::Dense(used) => {
                if used < spool.count() {
                    let decoded = spool.decoded();
                    let available = match decoded.keyframes {
                        // The others of the video were not asked for.
                        Some(_) => spool.count(),
                        None => decoded.available,
                    };
                    let thinned = Warning::FramesThinned {
                        used,
                        available,
                        evenly: true,
                    };
                    watcher.warn(&thinned);
                    spool.tell(&thinned);
                    spool.select(&evenly(spool.count(), used).collect::<Vec<_>>())?;
                }
                self.dense(spool, watcher)
            }
            Plan::Anchors(anchors) => {
                self.anchored(spool, &anchors, watcher)?;
                Ok(None)
            }
        }
    }

    /// What is going to happen, and how long it will take.
    fn work(&self, plan: &Plan, (count, size): (usize, (usize, usize))) -> Work {
        let network = self.network;
        let flops = plan.flops(network, (count, size));
        let on_cpu = network.device().is_cpu();
        let is_long = flops >= WORTH_TELLING;
        Work {
            frames: match plan {
                Plan::Dense(used) => *used,
                Plan::Anchors(_) => count,
            },
            size,
            anchors: match plan {
                Plan::Dense(_) => None,
                Plan::Anchors(anchors) => Some(anchors.count()),
            },
            device: network.device_name(),
            threads: on_cpu.then(rayon::current_num_threads),
            memory_bytes: network.weights_bytes() + plan.bytes(network, size),
            seconds: match on_cpu && is_long {
                true => seconds_on_cpu(flops, network.precision()),
                false => None,
            },
            is_long,
        }
    }

    fn anchored(
        &mut self,
        spool: &mut Spool,
        anchors: &Anchors,
        watcher: &mut dyn Watcher,
    ) -> Result<(), PipelineError> {
        let forward = ForwardOptions {
            query_points: None,
            ..self.forward.clone()
        };
        if self.forward.query_points.is_some() {
            tracing::info!(
                "no points are followed for the refinement: the frames attend to anchors, and points need all frames"
            );
        }
        let mut anchored = Anchored {
            network: self.network,
            forward: &forward,
            on_anchors: &mut *self.on_anchors,
        };
        anchored.run(spool, anchors, watcher)
    }

    fn dense(
        &self,
        spool: &mut Spool,
        watcher: &mut dyn Watcher,
    ) -> Result<Option<Tracks>, PipelineError> {
        let frames = all_frames(spool)?;
        let compared = match self.may_thin {
            true => {
                let of = frames.names.len();
                let (used, compared) =
                    predict_what_fits(self.network, frames, self.forward, watcher)?;
                let used = used.names.len();
                if used < of {
                    let chosen: Vec<usize> = evenly(of, used).collect();
                    spool.select(&chosen)?;
                }
                compared
            }
            false => self
                .network
                .predict_compared(&frames.images, self.forward, watcher)?,
        };
        keep(spool, &compared)?;
        Ok(compared.0.tracks)
    }
}

/// Writes the predictions of a dense pass frame by frame.
fn keep(spool: &mut Spool, (p, similarity): &Compared) -> Result<(), PipelineError> {
    let points = p.world_points.as_ref().zip(p.world_points_conf.as_ref());
    for frame in 0..spool.count() {
        let of = |tensor: &Tensor| tensor.get(frame);
        let points = match points {
            Some((points, conf)) => Some((of(points)?, of(conf)?)),
            None => None,
        };
        let results = FrameOutputs {
            depth: Some(of(&p.depth)?),
            depth_conf: Some(of(&p.depth_conf)?),
            points,
            camera_tokens: None,
            similarity: similarity.get(frame).cloned(),
        };
        spool.put(frame, &results)?;
    }
    Ok(spool.finish(&p.pose_enc, &p.extrinsic, &p.intrinsic)?)
}
