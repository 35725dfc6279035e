//! One pose for each frame, refined a few times. Port of vggt/heads/camera_head.py.

use candle_core::{D, Tensor};

use super::head_act::activate_pose;
use crate::{
    aggregator::AggregatedTokens,
    config::Config,
    error::Result,
    layers::{Block, BlockConfig, Mlp},
    ops::{LayerNorm, Linear, layer_norm},
    progress::{Observer, Stage},
    weights::VarBuilder,
};

/// Translation 3, quaternion 4, fields of view 2.
const TARGET_DIM: usize = 9;

/// Of the norms of this head.
const EPS: f32 = 1e-5;

/// Of the norm inside the adaptive modulation.
const ADALN_EPS: f32 = 1e-6;

/// Camera head: a small transformer over the frames' camera tokens.
#[derive(Debug)]
pub struct CameraHead {
    token_norm: LayerNorm,
    trunk: Vec<Block>,
    trunk_norm: LayerNorm,
    /// What stands in for the pose before the first refinement. [1, 1, 9]
    empty_pose_tokens: Tensor,
    embed_pose: Linear,
    pose_ln_modulation: Linear,
    pose_branch: Mlp,
    num_iterations: usize,
}

impl CameraHead {
    /// Reads the head's parameters.
    ///
    /// # Errors
    /// When one is missing or misshapen.
    pub fn new(config: &Config, vb: &VarBuilder) -> Result<Self> {
        let c = 2 * config.embed_dim;
        let head = &config.camera_head;
        let block = BlockConfig {
            dim: c,
            num_heads: head.num_heads,
            mlp_ratio: 4.0,
            qk_norm: false,
            eps: EPS,
        };
        Ok(Self {
            token_norm: LayerNorm::new(c, EPS, &vb.pp("token_norm"))?,
            trunk: (0..head.trunk_depth)
                .map(|i| Block::new(block, &vb.pp("trunk").pp(i)))
                .collect::<Result<_>>()?,
            trunk_norm: LayerNorm::new(c, EPS, &vb.pp("trunk_norm"))?,
            empty_pose_tokens: vb.get((1, 1, TARGET_DIM), "empty_pose_tokens")?,
            embed_pose: Linear::new(TARGET_DIM, c, &vb.pp("embed_pose"))?,
            // Index 0 of upstream's Sequential is the SiLU.
            pose_ln_modulation: Linear::new(c, 3 * c, &vb.pp("poseLN_modulation").pp(1))?,
            pose_branch: Mlp::new(c, c / 2, TARGET_DIM, &vb.pp("pose_branch"))?,
            num_iterations: head.num_iterations,
        })
    }

    /// The pose encoding after each refinement, the last one being the answer. Each [S, 9]: translation, quaternion
    /// (x, y, z, w), vertical and horizontal field of view in radians.
    ///
    /// # Errors
    /// When the device fails or the observer stops the pass.
    pub fn forward(
        &self,
        tokens: &AggregatedTokens,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Tensor>> {
        self.of_tokens(&tokens.last()?.narrow(1, 0, 1)?.squeeze(1)?, observer)
    }

    /// As [`CameraHead::forward`], from the camera tokens alone. [S, 2 C]
    ///
    /// # Errors
    /// When the device fails or the observer stops the pass.
    pub fn of_tokens(&self, camera: &Tensor, observer: &mut dyn Observer) -> Result<Vec<Tensor>> {
        let (s, c) = camera.dims2()?;
        // The frames are the sequence of this transformer: [1, S, 2 C]
        let pose_tokens = self.token_norm.forward(&camera.reshape((1, s, c))?)?;
        let normed = layer_norm(&pose_tokens, ADALN_EPS)?;
        let mut pose_enc: Option<Tensor> = None;
        let mut poses = Vec::with_capacity(self.num_iterations);
        for i in 0..self.num_iterations {
            let module_input = match &pose_enc {
                None => self
                    .embed_pose
                    .forward(&self.empty_pose_tokens.repeat((1, s, 1))?)?,
                Some(pose) => self.embed_pose.forward(pose)?,
            };
            let modulation = self.pose_ln_modulation.forward(&module_input.silu()?)?;
            let [shift, scale, gate] = [0, 1, 2].map(|k| modulation.narrow(D::Minus1, k * c, c));
            let modulated = ((&normed * (scale? + 1.0)?)? + shift?)?;
            let mut x = ((gate? * modulated)? + &pose_tokens)?;
            for block in &self.trunk {
                x = block.forward(&x, None)?;
            }
            let delta = self.pose_branch.forward(&self.trunk_norm.forward(&x)?)?;
            let pose = match pose_enc {
                None => delta,
                Some(pose) => (pose + delta)?,
            };
            poses.push(activate_pose(&pose.squeeze(0)?)?);
            pose_enc = Some(pose);
            observer.report(Stage::Camera, i + 1, self.num_iterations)?;
        }
        Ok(poses)
    }
}
