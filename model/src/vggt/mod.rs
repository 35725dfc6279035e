//! The whole network. Port of vggt/models/vggt.py.

mod anchored;

use candle_core::{DType, Device, Tensor};

use crate::{
    aggregator::{AggregatedTokens, Aggregator},
    anchors::FrameSimilarity,
    config::Config,
    error::{Error, Result},
    geometry::unproject_depth_map_to_point_map,
    heads::{Activation, CameraHead, DptHead, TrackHead},
    limits,
    precision::Precision,
    predictions::{Cameras, Predictions, Tracks},
    progress::{Observer, Silent, Stage},
    weights::{VarBuilder, Weights, record_keys},
};

pub use anchored::{AnchorOptions, AnchorPass};

/// VGGT, ready to run.
#[derive(Debug)]
pub struct Vggt {
    config: Config,
    device: Device,
    aggregator: Aggregator,
    camera_head: CameraHead,
    point_head: Option<DptHead>,
    depth_head: Option<DptHead>,
    track_head: Option<TrackHead>,
    /// The file in which some of the parameters are read where they lie.
    weights: Option<Weights>,
}

/// What a forward pass leaves out or adds, see [`Vggt::forward_with`].
#[derive(Debug, Clone, Default)]
pub struct ForwardOptions {
    /// Leaves the point head out: a third of the heads' time when only depth and cameras are wanted. Weights without a point
    /// head need it.
    pub skip_points: bool,
    /// Points of the first frame to follow, (x, y) in pixels. [N, 2], F32
    pub query_points: Option<Tensor>,
}

impl Vggt {
    /// Builds the network from the parameters that `vb` returns; [`Vggt::builder`] is the shorter way from a weights file.
    ///
    /// # Errors
    /// When a parameter is missing or misshapen.
    pub fn new(config: Config, vb: &VarBuilder) -> Result<Self> {
        // Upstream leaves autocast for the heads: their exponentials and small differences need the digits.
        let heads = vb.with_dtype(DType::F32).with_precision(Precision::Exact);
        let dense = |name: &str, channels, activation, stage| {
            DptHead::new(&config, channels, activation, stage, &heads.pp(name))
        };
        Ok(Self {
            device: vb.device().clone(),
            weights: vb.weights().cloned(),
            aggregator: Aggregator::new(&config, &vb.pp("aggregator"))?,
            camera_head: CameraHead::new(&config, &heads.pp("camera_head"))?,
            point_head: config
                .point_head
                .map(|_| dense("point_head", 3, Activation::InvLog, Stage::Point))
                .transpose()?,
            depth_head: config
                .depth_head
                .map(|_| dense("depth_head", 1, Activation::Exp, Stage::Depth))
                .transpose()?,
            track_head: config
                .track_head
                .as_ref()
                .map(|head| TrackHead::new(&config, head, &heads.pp("track_head")))
                .transpose()?,
            config,
        })
    }

    /// Runs the network on `images` [S, 3, H, W], RGB in [0, 1], F32, with H and W multiples of the patch size.
    ///
    /// This is [`Vggt::forward_with`] with [`ForwardOptions::default`] and without an observer.
    ///
    /// # Errors
    /// [`Error::Input`] when the shape does not fit, [`Error::Candle`] when the device fails, for example for lack of memory.
    pub fn forward(&self, images: &Tensor) -> Result<Predictions> {
        self.forward_with(images, &ForwardOptions::default(), &mut Silent)
    }

    /// Runs the network as [`Vggt::forward`] does, with options and with an observer of its progress.
    ///
    /// # Errors
    /// [`Error::Input`] when the shape does not fit or the device cannot count so many frames, [`Error::NoHead`] when the
    /// checkpoint has no head for what is asked,
    /// [`Error::Cancelled`] when the observer or its flag stops the pass, [`Error::Candle`] when the device fails.
    // Differs from upstream: one scene a pass, so no tensor has a batch dimension.
    pub fn forward_with(
        &self,
        images: &Tensor,
        options: &ForwardOptions,
        observer: &mut dyn Observer,
    ) -> Result<Predictions> {
        let size = self.check_input(images, options)?;
        self.check_heads(options)?;
        self.watched(observer, |observer| {
            let on_device = images.to_device(&self.device)?;
            let tokens = self.aggregator.forward(&on_device, observer)?;
            drop(on_device);
            self.run(&tokens, (images, size), options, observer)
        })
    }

    /// As [`Vggt::forward_with`], with how much each frame is like the first one, see [`crate::anchors::unrelated_scores`].
    ///
    /// # Errors
    /// As [`Vggt::forward_with`].
    pub fn forward_compared(
        &self,
        images: &Tensor,
        options: &ForwardOptions,
        observer: &mut dyn Observer,
    ) -> Result<(Predictions, Vec<FrameSimilarity>)> {
        let size = self.check_input(images, options)?;
        self.check_heads(options)?;
        self.watched(observer, |observer| {
            let on_device = images.to_device(&self.device)?;
            let compared = self.aggregator.forward_compared(&on_device, observer);
            let (tokens, similarity) = compared?;
            drop(on_device);
            let predictions = self.run(&tokens, (images, size), options, observer)?;
            Ok((predictions, similarity))
        })
    }

    /// Runs `pass`, whose operations look at the observer's flag.
    fn watched<T>(
        &self,
        observer: &mut dyn Observer,
        pass: impl FnOnce(&mut dyn Observer) -> Result<T>,
    ) -> Result<T> {
        let stop = observer.stop_flag().unwrap_or_default();
        match stop.watch(|| pass(observer)) {
            // Whatever error the stopped operation gave.
            Err(_) if stop.is_stopped() => Err(Error::Cancelled),
            done => done,
        }
    }

    /// Runs the heads on the tokens of images of `size`, (S, H, W), which were checked.
    fn run(
        &self,
        tokens: &AggregatedTokens,
        (images, size): (&Tensor, (usize, usize, usize)),
        options: &ForwardOptions,
        observer: &mut dyn Observer,
    ) -> Result<Predictions> {
        let (_, h, w) = size;
        let cpu = |t: &Tensor| t.to_device(&Device::Cpu);

        self.release_weights();
        let poses = self.camera_head.forward(tokens, observer)?;
        self.release_weights();
        let Cameras {
            pose_enc,
            extrinsic,
            intrinsic,
        } = self.cameras_of(poses.last(), (h, w))?;
        let (depth, depth_conf) = match &self.depth_head {
            Some(head) => {
                let (depth, conf) = head.forward(tokens, size, observer)?;
                (cpu(&depth)?, cpu(&conf)?)
            }
            None => unknown_depth(size)?,
        };
        let points = match &self.point_head {
            Some(head) if !options.skip_points => Some(head.forward(tokens, size, observer)?),
            _ => None,
        };
        let (world_points, world_points_conf) = match points {
            Some((points, conf)) => (Some(cpu(&points)?), Some(cpu(&conf)?)),
            None => (None, None),
        };
        let tracks = self.track(tokens, size, options, observer)?;
        let world_points_from_depth =
            unproject_depth_map_to_point_map(&depth, &extrinsic, &intrinsic)?;
        Ok(Predictions {
            images: cpu(images)?,
            pose_enc,
            extrinsic,
            intrinsic,
            depth,
            depth_conf,
            world_points,
            world_points_conf,
            world_points_from_depth,
            tracks,
        })
    }

    /// Gives the pages of the weights file back to the system, between stages of a pass: none reads those of another, which
    /// would stand in memory beside the maps of the heads. At the next pass they come back from the system's cache.
    fn release_weights(&self) {
        if let Some(weights) = &self.weights {
            weights.release_all();
        }
    }

    /// Checks that the checkpoint has the heads that `options` ask for.
    ///
    /// # Errors
    /// [`Error::NoHead`] when it lacks one.
    pub fn check_heads(&self, options: &ForwardOptions) -> Result<()> {
        let lacks = |head, wanted_by| Err(Error::NoHead { head, wanted_by });
        if options.query_points.is_some() && self.track_head.is_none() {
            return lacks("track", "following points");
        }
        if !options.skip_points && self.point_head.is_none() {
            return lacks("point", "a point map");
        }
        Ok(())
    }

    fn track(
        &self,
        tokens: &AggregatedTokens,
        size: (usize, usize, usize),
        options: &ForwardOptions,
        observer: &mut dyn Observer,
    ) -> Result<Option<Tracks>> {
        let (Some(head), Some(query_points)) = (&self.track_head, &options.query_points) else {
            return Ok(None);
        };
        let found = head.forward(tokens, size, query_points, observer)?;
        Ok(Some(Tracks {
            query_points: query_points.to_device(&Device::Cpu)?,
            track: found.track.to_device(&Device::Cpu)?,
            vis: found.vis.to_device(&Device::Cpu)?,
            conf: found.conf.to_device(&Device::Cpu)?,
        }))
    }

    /// S, H and W of a shape the network takes.
    fn check_input(
        &self,
        images: &Tensor,
        options: &ForwardOptions,
    ) -> Result<(usize, usize, usize)> {
        let p = self.config.patch_size;
        match images.dims() {
            &[s, 3, h, w]
                if s > 0
                    && h > 0
                    && w > 0
                    && h % p == 0
                    && w % p == 0
                    && images.dtype() == DType::F32 =>
            {
                let tracks = options.query_points.is_some();
                limits::check(&self.device, &self.config, (s, h, w), tracks)?;
                Ok((s, h, w))
            }
            dims => Err(Error::Input(format!(
                "expected F32 images [S, 3, H, W] with H and W multiples of {p}, got {:?} {dims:?}",
                images.dtype()
            ))),
        }
    }

    /// The dimensions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The trunk and the alternating-attention transformer.
    pub fn aggregator(&self) -> &Aggregator {
        &self.aggregator
    }

    /// The camera head.
    pub fn camera_head(&self) -> &CameraHead {
        &self.camera_head
    }

    /// The point head, if the checkpoint has one.
    pub fn point_head(&self) -> Option<&DptHead> {
        self.point_head.as_ref()
    }

    /// The depth head, if the checkpoint has one.
    pub fn depth_head(&self) -> Option<&DptHead> {
        self.depth_head.as_ref()
    }

    /// The track head, if the checkpoint has one.
    pub fn track_head(&self) -> Option<&TrackHead> {
        self.track_head.as_ref()
    }
}

/// Depth and confidence of a checkpoint without a depth head: not a number.
fn unknown_depth((s, h, w): (usize, usize, usize)) -> Result<(Tensor, Tensor)> {
    let unknown = |shape: &[usize]| Tensor::full(f32::NAN, shape, &Device::Cpu);
    Ok((unknown(&[s, h, w, 1])?, unknown(&[s, h, w])?))
}

/// Names and shapes of every parameter of a checkpoint with these dimensions.
///
/// # Errors
/// When the dimensions contradict each other.
pub fn state_dict_keys(config: &Config) -> Result<Vec<(String, Vec<usize>)>> {
    record_keys(|vb| Vggt::new(config.clone(), vb))
}
