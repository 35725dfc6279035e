//! Passes over some frames at a time, see `vggt_model::anchors`.

use candle_core::{DType, Tensor};
use vggt_model::{
    AnchorOptions, AnchorPass, Cameras, ForwardOptions, FrameResults,
    anchors::{AnchorSchedule, FrameSimilarity},
    cost::{Anchored, Engine},
};

use super::Network;
use crate::pipeline::{PipelineError, Watcher, progress::NetworkSteps};

impl Network {
    /// Returns the mean patch token of each of the images [S, 3, h, w] in [0, 1], by which anchors are chosen. [S, C]
    ///
    /// # Errors
    /// As [`Network::predict`].
    pub fn describe(
        &self,
        images: &Tensor,
        watcher: &mut dyn Watcher,
    ) -> Result<Tensor, PipelineError> {
        let done = self.model.describe(images, &mut NetworkSteps(watcher));
        self.passed(done, images)
    }

    /// Runs the network on the anchors, images [K, 3, H, W] in [0, 1], the first frame of the scene first.
    ///
    /// # Errors
    /// As [`Network::predict`], and when the schedule does not fit the network.
    pub fn anchors(
        &self,
        images: &Tensor,
        options: AnchorOptions,
        watcher: &mut dyn Watcher,
    ) -> Result<AnchorPass, PipelineError> {
        let steps = &mut NetworkSteps(watcher);
        let done = self.model.anchors(images, options, steps);
        self.passed(done, images)
    }

    /// Runs the heads on the tokens of one anchor, `index` among the anchors, for frames of `size`, (H, W) in pixels.
    ///
    /// # Errors
    /// As [`Network::predict`].
    pub fn results_of_anchor(
        &self,
        (pass, index): (&mut AnchorPass, usize),
        size: (usize, usize),
        options: &ForwardOptions,
        watcher: &mut dyn Watcher,
    ) -> Result<FrameResults, PipelineError> {
        let tokens = pass.tokens.frame(index)?;
        let steps = &mut NetworkSteps(watcher);
        let done = self.model.results(&tokens, size, options, steps);
        self.check_intact()?;
        Ok(done?)
    }

    /// Runs the network on frames that attend to the anchors, images [B, 3, H, W] in [0, 1].
    ///
    /// # Errors
    /// As [`Network::predict`].
    pub fn frames(
        &self,
        images: &Tensor,
        pass: &AnchorPass,
        options: &ForwardOptions,
        watcher: &mut dyn Watcher,
    ) -> Result<(FrameResults, Vec<FrameSimilarity>), PipelineError> {
        let steps = &mut NetworkSteps(watcher);
        let done = self.model.frames(images, &pass.cache, options, steps);
        self.passed(done, images)
    }

    /// Returns the cameras of all frames of `size`, (H, W), from their camera tokens [S, 2 C].
    ///
    /// # Errors
    /// As [`Network::predict`].
    pub fn cameras(
        &self,
        camera_tokens: &Tensor,
        size: (usize, usize),
        watcher: &mut dyn Watcher,
    ) -> Result<Cameras, PipelineError> {
        let steps = &mut NetworkSteps(watcher);
        let done = self.model.cameras(camera_tokens, size, steps);
        self.check_intact()?;
        Ok(done?)
    }

    /// Returns the type in which keys and values of anchors are kept unless another one is asked for: half of F32 on the CPU, and
    /// what a device computes in.
    #[must_use]
    pub fn cache_dtype(&self) -> DType {
        if self.device.is_cpu() {
            DType::F16
        } else {
            self.dtype
        }
    }

    /// Returns what passes with so many anchors cost, for frames of `size`, (H, W).
    #[must_use]
    pub fn anchored_cost(
        &self,
        size: (usize, usize),
        anchors: usize,
        (schedule, cache_dtype): (AnchorSchedule, DType),
    ) -> Anchored<'_> {
        Anchored {
            config: self.config(),
            size,
            anchors,
            schedule,
            dtype: self.dtype,
            cache_dtype,
            engine: Engine::of(&self.device),
        }
    }
}
