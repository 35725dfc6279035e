//! The computation with anchors: the frames are described, anchors chosen and run, then all other frames a few at a time.

use std::fs::File;

use candle_core::{DType, Tensor};
use vggt_model::{
    AnchorOptions, AnchorPass, ForwardOptions,
    anchors::{Choice, FrameSimilarity, choose, described_size},
};

use super::plan::{Anchors, Chosen};
use crate::pipeline::{
    FrameOutputs, Network, PipelineError, Spool, Stage, StopFlag, Warning, Watcher,
};

/// Frames that are described at once: small images, so that a device has enough to do.
const DESCRIBED: usize = 8;

/// Frames that are computed at once, if memory allows: the anchors' keys and values are packed once for all of them.
const ON_CPU: usize = 4;
const ON_DEVICE: usize = 16;

/// Distance to the nearest anchor from which the anchors do not cover the capture: the frame has no more in common with any of
/// them than with the mean of all frames.
const FAR: f32 = 1.0;

/// What a computation needs.
pub(in crate::pipeline) struct Anchored<'a> {
    pub(in crate::pipeline) network: &'a Network,
    pub(in crate::pipeline) forward: &'a ForwardOptions,
    /// Called once the anchors' results are there, while the others are missing.
    pub(in crate::pipeline) on_anchors: &'a mut OnAnchors<'a>,
}

/// Gets the spool and the anchors, in rising order.
pub(in crate::pipeline) type OnAnchors<'a> =
    dyn FnMut(&Spool, &[usize], &mut dyn Watcher) -> Result<(), PipelineError> + 'a;

impl Anchored<'_> {
    /// Computes what is missing in the spool.
    ///
    /// # Errors
    /// When the network fails, the watcher stopped it, or the spool cannot be written.
    pub(in crate::pipeline) fn run(
        &mut self,
        spool: &mut Spool,
        plan: &Anchors,
        watcher: &mut dyn Watcher,
    ) -> Result<(), PipelineError> {
        let chosen = match spool.chosen() {
            // Of the process that was interrupted.
            Some(chosen) => chosen.clone(),
            None => self.choose(spool, plan, watcher)?,
        };
        report_distance(&chosen, watcher);
        let missing = spool.missing();
        if !missing.is_empty() {
            let mut pass = self.anchors(spool, &chosen, watcher)?;
            self.keep_anchors(spool, &chosen, &mut pass, watcher)?;
            (self.on_anchors)(spool, &chosen.frames, watcher)?;
            self.others(spool, &pass, watcher)?;
        }
        let decoded = spool.decoded();
        let size = (decoded.height, decoded.width);
        let tokens = spool.camera_tokens()?;
        let cameras = self.network.cameras(&tokens, size, watcher)?;
        let (pose_enc, extrinsic, intrinsic) =
            (cameras.pose_enc, cameras.extrinsic, cameras.intrinsic);
        Ok(spool.finish(&pose_enc, &extrinsic, &intrinsic)?)
    }

    fn choose(
        &self,
        spool: &mut Spool,
        plan: &Anchors,
        watcher: &mut dyn Watcher,
    ) -> Result<Chosen, PipelineError> {
        let (frames, largest_distance) = match &plan.frames {
            Some(frames) => (frames.clone(), None),
            None => {
                let means = self.describe(spool, watcher)?;
                let Choice {
                    frames,
                    largest_distance,
                } = choose(&means, plan.count)?;
                (frames, Some(largest_distance))
            }
        };
        let chosen = Chosen {
            frames,
            schedule: plan.schedule.to_string(),
            cache: plan.cache.as_str().to_owned(),
            largest_distance,
            by_memory: plan.by_memory,
        };
        spool.choose(chosen.clone())?;
        Ok(chosen)
    }

    /// The frames' mean tokens. [S, C]
    fn describe(&self, spool: &Spool, watcher: &mut dyn Watcher) -> Result<Tensor, PipelineError> {
        let decoded = spool.decoded();
        let size = described_size(self.network.config(), (decoded.height, decoded.width));
        let count = spool.count();
        let mut means = Vec::new();
        for start in (0..count).step_by(DESCRIBED) {
            let frames = start..(start + DESCRIBED).min(count);
            let done = frames.start;
            let images = spool.small_images(frames, size)?;
            let steps = &mut Batch::new(watcher, Stage::Describe, (done, 0), count);
            means.push(self.network.describe(&images, steps)?);
        }
        watcher_step(watcher, Stage::Describe, count, count)?;
        Ok(Tensor::cat(&means, 0)?)
    }

    fn anchors(
        &self,
        spool: &Spool,
        chosen: &Chosen,
        watcher: &mut dyn Watcher,
    ) -> Result<AnchorPass, PipelineError> {
        let images = spool.images(chosen.frames.iter().copied())?;
        let options = AnchorOptions {
            schedule: chosen.schedule.parse()?,
            dtype: dtype_of(&chosen.cache)?,
            scratch: Some(scratch(spool)?),
        };
        let anchors = chosen.frames.len();
        let steps = &mut Batch::new(watcher, Stage::Frames, (0, anchors), spool.count());
        self.network.anchors(&images, options, steps)
    }

    /// Writes the anchors' results, as far as they are missing.
    fn keep_anchors(
        &self,
        spool: &mut Spool,
        chosen: &Chosen,
        pass: &mut AnchorPass,
        watcher: &mut dyn Watcher,
    ) -> Result<(), PipelineError> {
        let size = (spool.decoded().height, spool.decoded().width);
        let missing = spool.missing();
        let anchors = chosen.frames.len();
        for (index, frame) in chosen.frames.iter().enumerate() {
            if missing.binary_search(frame).is_err() {
                continue;
            }
            let similarity = pass.similarity.get(index).cloned();
            let steps = &mut Batch::new(watcher, Stage::Frames, (anchors, 0), spool.count());
            let of = (&mut *pass, index);
            let results = self
                .network
                .results_of_anchor(of, size, self.forward, steps)?;
            spool.put(*frame, &of_frame(&results, 0, similarity)?)?;
            watcher.kept_frame();
        }
        Ok(())
    }

    /// Computes all frames that are missing now.
    fn others(
        &self,
        spool: &mut Spool,
        pass: &AnchorPass,
        watcher: &mut dyn Watcher,
    ) -> Result<(), PipelineError> {
        let count = spool.count();
        let missing = spool.missing();
        let batch = self.batch(spool, pass);
        for frames in missing.chunks(batch) {
            let images = spool.images(frames.iter().copied())?;
            let done = count - spool.missing().len();
            let steps = &mut Batch::new(watcher, Stage::Frames, (done, frames.len()), count);
            let (results, similarity) = self.network.frames(&images, pass, self.forward, steps)?;
            for (at, frame) in frames.iter().enumerate() {
                let similarity = similarity.get(at).cloned();
                spool.put(*frame, &of_frame(&results, at, similarity)?)?;
                watcher.kept_frame();
            }
            watcher_step(watcher, Stage::Frames, done + frames.len(), count)?;
        }
        Ok(())
    }

    /// How many frames are computed at once.
    fn batch(&self, spool: &Spool, pass: &AnchorPass) -> usize {
        let most = match self.network.device().is_cpu() {
            true => ON_CPU,
            false => ON_DEVICE,
        };
        let size = (spool.decoded().height, spool.decoded().width);
        let kept = (pass.cache.schedule(), pass.cache.dtype());
        let cost = self.network.anchored_cost(size, pass.cache.frames(), kept);
        // The cache is in memory already.
        let available = self.network.memory_for_a_pass().unwrap_or(u64::MAX);
        let fits = |batch: &usize| cost.frames_bytes(*batch) <= available;
        (1..=most).rev().find(fits).unwrap_or(1)
    }
}

/// Results of one frame of a batch, as a spool takes them.
fn of_frame(
    results: &vggt_model::FrameResults,
    at: usize,
    similarity: Option<FrameSimilarity>,
) -> Result<FrameOutputs, PipelineError> {
    let of = |tensor: &Option<Tensor>| tensor.as_ref().map(|t| t.get(at)).transpose();
    let points = of(&results.world_points)?.zip(of(&results.world_points_conf)?);
    Ok(FrameOutputs {
        depth: of(&results.depth)?,
        depth_conf: of(&results.depth_conf)?,
        points,
        camera_tokens: Some(results.camera_tokens.get(at)?),
        similarity,
    })
}

/// A file that goes with this process, on the disk of the spool: a folder for temporary files may be in memory.
fn scratch(spool: &Spool) -> Result<File, PipelineError> {
    let made = match spool.folder() {
        Some(folder) => tempfile::tempfile_in(folder),
        None => tempfile::tempfile(),
    };
    Ok(made?)
}

fn dtype_of(name: &str) -> Result<DType, PipelineError> {
    name.parse::<DType>()
        .map_err(|_| PipelineError::Attention(format!("cannot keep keys and values as {name:?}")))
}

fn report_distance(chosen: &Chosen, watcher: &mut dyn Watcher) {
    let Some(distance) = chosen.largest_distance else {
        return;
    };
    tracing::debug!("the largest distance of a frame to its nearest anchor is {distance:.2}");
    if distance > FAR {
        watcher.warn(&Warning::AnchorsFar {
            anchors: chosen.frames.len(),
            distance_percent: (distance * 100.0).round() as u32,
        });
    }
}

fn watcher_step(
    watcher: &mut dyn Watcher,
    stage: Stage,
    done: usize,
    total: usize,
) -> Result<(), PipelineError> {
    match watcher.step(stage, done, total) {
        true => Ok(()),
        false => Err(PipelineError::Cancelled),
    }
}

/// Reports the blocks of a pass over some frames as part of all frames.
struct Batch<'a> {
    watcher: &'a mut dyn Watcher,
    stage: Stage,
    /// Frames before the pass, and in it.
    frames: (usize, usize),
    total: usize,
    /// The part of the pass that is done.
    part: f32,
}

impl<'a> Batch<'a> {
    fn new(
        watcher: &'a mut dyn Watcher,
        stage: Stage,
        frames: (usize, usize),
        total: usize,
    ) -> Self {
        Self {
            watcher,
            stage,
            frames,
            total,
            part: 0.0,
        }
    }
}

/// Share of the trunk in the time of a pass; the rest is the blocks'.
const TRUNK: f32 = 0.3;

impl Watcher for Batch<'_> {
    fn step(&mut self, stage: Stage, done: usize, total: usize) -> bool {
        use vggt_model::progress::Stage as Model;
        let of = done as f32 / total.max(1) as f32;
        let part = match stage {
            Stage::Network(Model::PatchEmbed) => TRUNK * of,
            Stage::Network(Model::FrameBlocks | Model::GlobalBlocks) => TRUNK + (1.0 - TRUNK) * of,
            _ => 1.0,
        };
        self.part = self.part.max(part);
        let done = self.frames.0 + (self.part * self.frames.1 as f32) as usize;
        self.watcher.step(self.stage, done, self.total)
    }

    fn stop_flag(&self) -> Option<StopFlag> {
        self.watcher.stop_flag()
    }

    fn kept_frame(&mut self) {
        self.watcher.kept_frame();
    }

    fn warn(&mut self, warning: &Warning) {
        self.watcher.warn(warning);
    }
}
