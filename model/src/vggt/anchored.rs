//! Passes over a few frames at a time, for any number of frames. See [`crate::anchors`].

use std::fs::File;

use candle_core::{DType, Device, Tensor};

use super::{ForwardOptions, Vggt};
use crate::{
    aggregator::{AggregatedTokens, AnchorCache, KeptTokens, normalize_images},
    anchors::{AnchorSchedule, FrameSimilarity},
    error::{Error, Result},
    geometry::pose_encoding_to_extri_intri,
    heads::DptHead,
    predictions::{Cameras, FrameResults},
    progress::Observer,
};

/// How anchors are run, see [`Vggt::anchors`].
#[derive(Debug)]
pub struct AnchorOptions {
    /// What the global blocks attend to.
    pub schedule: AnchorSchedule,
    /// What keys and values are kept in: F16 or F32 on the CPU, BF16, F16 or F32 on CUDA.
    pub dtype: DType,
    /// An empty file, of this program alone, in which the anchors' tokens wait for the heads; `None` keeps them in memory: for
    /// VGGT-1B and 40 frames of 518 x 294 pixels 1 GB.
    pub scratch: Option<File>,
}

/// What a pass over the anchors leaves.
#[derive(Debug)]
pub struct AnchorPass {
    /// What all other frames attend to.
    pub cache: AnchorCache,
    /// The anchors' tokens, for [`Vggt::results`].
    pub tokens: KeptTokens,
    /// How much each anchor is like the first frame.
    pub similarity: Vec<FrameSimilarity>,
}

impl Vggt {
    /// Returns the mean patch token of every frame, each token divided by its length, [S, C], for [`crate::anchors::choose`].
    /// Images [S, 3, h, w] in [0, 1], F32, which may be smaller than those of the other passes, see
    /// [`crate::anchors::described_size`].
    ///
    /// # Errors
    /// [`Error::Input`] when the shape does not fit; as [`Vggt::forward_with`].
    pub fn describe(&self, images: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        self.check_input(images, &ForwardOptions::default())?;
        self.watched(observer, |observer| {
            let images = images.to_device(&self.device)?;
            let images = normalize_images(&images)?.to_dtype(self.aggregator.dtype())?;
            let patches = self.aggregator.patch_embed().forward(&images, observer)?;
            let patches = patches.to_dtype(DType::F32)?;
            let length = patches.sqr()?.sum_keepdim(2)?.sqrt()?;
            let mean = patches.broadcast_div(&length)?.mean(1)?;
            Ok(mean.to_device(&Device::Cpu)?)
        })
    }

    /// Runs the network on the anchors, `images` [K, 3, H, W] in [0, 1], F32, of which the first is the first frame of the scene.
    ///
    /// # Errors
    /// [`Error::Input`] when the shape, the schedule or the type does not fit, [`Error::Scratch`] when the file cannot be
    /// written; as [`Vggt::forward_with`].
    pub fn anchors(
        &self,
        images: &Tensor,
        options: AnchorOptions,
        observer: &mut dyn Observer,
    ) -> Result<AnchorPass> {
        self.check_input(images, &ForwardOptions::default())?;
        options.schedule.check(&self.config)?;
        check_dtype(options.dtype, &self.device)?;
        let kept = (options.schedule, options.dtype);
        self.watched(observer, |observer| {
            let images = images.to_device(&self.device)?;
            let pass = self
                .aggregator
                .anchors(&images, kept, options.scratch, observer)?;
            let (cache, tokens, similarity) = pass;
            Ok(AnchorPass {
                cache,
                tokens,
                similarity,
            })
        })
    }

    /// Runs the network on frames that are not anchors, `images` [B, 3, H, W] in [0, 1], F32. A frame has the same results alone
    /// and beside others. With them comes how much each is like the first frame of the scene.
    ///
    /// # Errors
    /// [`Error::Input`] when the shape is not that of the anchors, [`Error::NoHead`] when the checkpoint lacks a head; as
    /// [`Vggt::forward_with`].
    pub fn frames(
        &self,
        images: &Tensor,
        cache: &AnchorCache,
        options: &ForwardOptions,
        observer: &mut dyn Observer,
    ) -> Result<(FrameResults, Vec<FrameSimilarity>)> {
        let (_, h, w) = self.check_input(images, options)?;
        self.watched(observer, |observer| {
            let images = images.to_device(&self.device)?;
            let (tokens, similarity) = self.aggregator.frames(&images, cache, observer)?;
            let results = self.frame_results(&tokens, (h, w), options, observer)?;
            Ok((results, similarity))
        })
    }

    /// Runs the heads on the tokens of some frames of `size`, (H, W) in pixels: all heads but those for cameras and tracks, which
    /// need all frames.
    ///
    /// # Errors
    /// [`Error::NoHead`] when the checkpoint lacks a head, [`Error::Input`] when tracks are asked for; as
    /// [`Vggt::forward_with`].
    pub fn results(
        &self,
        tokens: &AggregatedTokens,
        size: (usize, usize),
        options: &ForwardOptions,
        observer: &mut dyn Observer,
    ) -> Result<FrameResults> {
        self.watched(observer, |observer| {
            self.frame_results(tokens, size, options, observer)
        })
    }

    /// The cameras of all frames from their camera tokens [S, 2 C] in the order of the frames, for images of `size`, (H, W).
    ///
    /// # Errors
    /// When the shape does not fit; as [`Vggt::forward_with`].
    pub fn cameras(
        &self,
        camera_tokens: &Tensor,
        size: (usize, usize),
        observer: &mut dyn Observer,
    ) -> Result<Cameras> {
        self.watched(observer, |observer| {
            let tokens = camera_tokens.to_device(&self.device)?;
            let poses = self.camera_head.of_tokens(&tokens, observer)?;
            self.cameras_of(poses.last(), size)
        })
    }

    /// The last refinement of the camera head as cameras, on the CPU.
    pub(super) fn cameras_of(
        &self,
        pose_enc: Option<&Tensor>,
        size: (usize, usize),
    ) -> Result<Cameras> {
        let Some(pose_enc) = pose_enc else {
            let why = "camera_head.num_iterations is 0".to_owned();
            return Err(Error::Config(why));
        };
        let pose_enc = pose_enc.to_device(&Device::Cpu)?;
        let (extrinsic, intrinsic) = pose_encoding_to_extri_intri(&pose_enc, size)?;
        Ok(Cameras {
            pose_enc,
            extrinsic,
            intrinsic,
        })
    }

    fn frame_results(
        &self,
        tokens: &AggregatedTokens,
        (h, w): (usize, usize),
        options: &ForwardOptions,
        observer: &mut dyn Observer,
    ) -> Result<FrameResults> {
        self.check_heads(options)?;
        if options.query_points.is_some() {
            let why =
                "points are followed where every frame attends to all frames, not with anchors";
            return Err(Error::Input(why.to_owned()));
        }
        let camera_tokens = tokens.last()?.narrow(1, 0, 1)?.squeeze(1)?;
        let size = (camera_tokens.dim(0)?, h, w);
        let mut run = |head: Option<&DptHead>| -> Result<(Option<Tensor>, Option<Tensor>)> {
            let Some(head) = head else {
                return Ok((None, None));
            };
            let (values, conf) = head.forward(tokens, size, observer)?;
            let cpu = |t: Tensor| t.to_device(&Device::Cpu);
            Ok((Some(cpu(values)?), Some(cpu(conf)?)))
        };
        let (depth, depth_conf) = run(self.depth_head.as_ref())?;
        let points = self.point_head.as_ref().filter(|_| !options.skip_points);
        let (world_points, world_points_conf) = run(points)?;
        Ok(FrameResults {
            camera_tokens: camera_tokens.to_device(&Device::Cpu)?,
            depth,
            depth_conf,
            world_points,
            world_points_conf,
        })
    }
}

/// Refuses types in which keys and values are not kept on `device`.
fn check_dtype(dtype: DType, device: &Device) -> Result<()> {
    let known = match device {
        Device::Cpu => matches!(dtype, DType::F32 | DType::F16),
        _ => matches!(dtype, DType::F32 | DType::F16 | DType::BF16),
    };
    if known {
        return Ok(());
    }
    Err(Error::Input(format!(
        "keys and values of anchors cannot be kept as {} on this device",
        dtype.as_str()
    )))
}
