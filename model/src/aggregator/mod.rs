//! Alternating attention within each frame and across all frames. Port of vggt/models/aggregator.py.
//!
//! [`Aggregator::forward`] has every frame attend to all frames, as upstream does. [`Aggregator::anchors`] and
//! [`Aggregator::frames`] have every frame attend to a few anchors, see `anchored`.

mod anchored;
mod tokens;

use std::collections::BTreeMap;

use candle_core::{D, DType, Device, Tensor};

use crate::{
    anchors::{FrameSimilarity, Grid},
    config::Config,
    error::Result,
    layers::{Block, BlockConfig, DinoVisionTransformer, RotaryPositionEmbedding2D},
    ops::RopeTable,
    progress::{Observer, Stage},
    weights::VarBuilder,
};
pub use anchored::AnchorCache;
pub use tokens::{AggregatedTokens, KeptTokens};

/// Mean and standard deviation of ImageNet's colors, which the trunk was trained with.
const RESNET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const RESNET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Epsilon of the blocks' norms; the trunk's is 1e-6.
const EPS: f32 = 1e-5;

/// The trunk and the alternating-attention transformer.
#[derive(Debug)]
pub struct Aggregator {
    patch_embed: DinoVisionTransformer,
    /// Slot 0 for the first frame, slot 1 for all others. [1, 2, 1, C]
    camera_token: Tensor,
    /// Slots as above. [1, 2, R, C]
    register_token: Tensor,
    frame_blocks: Vec<Block>,
    global_blocks: Vec<Block>,
    rope: RotaryPositionEmbedding2D,
    head_dim: usize,
    patch_size: usize,
    kept_layers: Vec<usize>,
}

impl Aggregator {
    /// Reads the parameters of the trunk and all blocks.
    ///
    /// # Errors
    /// When one is missing or misshapen.
    pub fn new(config: &Config, vb: &VarBuilder) -> Result<Self> {
        let c = config.embed_dim;
        let aggregator = &config.aggregator;
        let block = BlockConfig {
            dim: c,
            num_heads: aggregator.num_heads,
            mlp_ratio: aggregator.mlp_ratio,
            qk_norm: aggregator.qk_norm,
            eps: EPS,
        };
        let blocks = |name: &str| {
            (0..aggregator.depth)
                .map(|i| Block::new(block, &vb.pp(name).pp(i)))
                .collect::<Result<Vec<_>>>()
        };
        Ok(Self {
            patch_embed: DinoVisionTransformer::new(config, &vb.pp("patch_embed"))?,
            camera_token: vb.get((1, 2, 1, c), "camera_token")?,
            register_token: vb.get((1, 2, aggregator.num_register_tokens, c), "register_token")?,
            frame_blocks: blocks("frame_blocks")?,
            global_blocks: blocks("global_blocks")?,
            rope: RotaryPositionEmbedding2D {
                frequency: aggregator.rope_freq,
            },
            head_dim: c / aggregator.num_heads,
            patch_size: config.patch_size,
            kept_layers: config.kept_layers(),
        })
    }

    /// Images in [0, 1], [S, 3, H, W], F32 -> the tokens of the tapped layers.
    ///
    /// # Errors
    /// When the device fails or the observer stops the pass.
    pub fn forward(
        &self,
        images: &Tensor,
        observer: &mut dyn Observer,
    ) -> Result<AggregatedTokens> {
        Ok(self.forward_and(images, observer, |_, _, _| Ok(()))?.0)
    }

    /// As [`Aggregator::forward`], with how much each frame is like the first one.
    ///
    /// # Errors
    /// As [`Aggregator::forward`].
    pub fn forward_compared(
        &self,
        images: &Tensor,
        observer: &mut dyn Observer,
    ) -> Result<(AggregatedTokens, Vec<FrameSimilarity>)> {
        let grid = self.grid(images)?;
        let compare = |of_frame: &Tensor, tokens: &Tensor, rope: &RopeTable| {
            self.compared((of_frame, tokens), grid, rope)
        };
        self.forward_and(images, observer, compare)
    }

    /// Runs all blocks, and `last` on what goes into the last global block and comes out of it, both [S, P, C].
    fn forward_and<T: Default>(
        &self,
        images: &Tensor,
        observer: &mut dyn Observer,
        last: impl Fn(&Tensor, &Tensor, &RopeTable) -> Result<T>,
    ) -> Result<(AggregatedTokens, T)> {
        let mut tokens = self.embed(images, true, observer)?;
        let (s, p, c) = tokens.dims3()?;
        let patch_start_idx = self.patch_start_idx()?;
        let rope = self.rope(self.grid(images)?, 1, images.device())?;

        let depth = self.frame_blocks.len();
        let mut layers = BTreeMap::new();
        let mut of_last = T::default();
        for (i, (frame, global)) in self
            .frame_blocks
            .iter()
            .zip(&self.global_blocks)
            .enumerate()
        {
            let of_frame = frame.forward(&tokens, Some(&rope))?;
            observer.report(Stage::FrameBlocks, i + 1, depth)?;
            let all = of_frame.reshape((1, s * p, c))?;
            tokens = global.forward(&all, Some(&rope))?.reshape((s, p, c))?;
            observer.report(Stage::GlobalBlocks, i + 1, depth)?;
            if self.kept_layers.contains(&i) {
                let both = Tensor::cat(&[&of_frame, &tokens], D::Minus1)?;
                layers.insert(i, both.to_dtype(DType::F32)?);
            }
            if i + 1 == depth {
                of_last = last(&of_frame, &tokens, &rope)?;
            }
        }
        let tokens = AggregatedTokens::from_layers(layers, patch_start_idx);
        Ok((tokens, of_last))
    }

    /// Images in [0, 1], [S, 3, H, W], F32 -> the tokens that the blocks take, [S, P, C]. `with_first`: the first image is the
    /// first frame of the scene, which defines its coordinates.
    fn embed(
        &self,
        images: &Tensor,
        with_first: bool,
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        let s = images.dim(0)?;
        let dtype = self.camera_token.dtype();
        let images = normalize_images(images)?.to_dtype(dtype)?;
        let patches = self.patch_embed.forward(&images, observer)?;
        let camera = slice_expand_and_flatten(&self.camera_token, s, with_first)?;
        let register = slice_expand_and_flatten(&self.register_token, s, with_first)?;
        Ok(Tensor::cat(&[&camera, &register, &patches], 1)?)
    }

    /// The type that the transformer computes in.
    pub(crate) fn dtype(&self) -> DType {
        self.camera_token.dtype()
    }

    /// The places of a frame's tokens.
    fn grid(&self, images: &Tensor) -> Result<Grid> {
        let (_, _, h, w) = images.dims4()?;
        Ok(Grid {
            special: self.patch_start_idx()?,
            rows: h / self.patch_size,
            columns: w / self.patch_size,
        })
    }

    fn patch_start_idx(&self) -> Result<usize> {
        Ok(1 + self.register_token.dim(2)?)
    }

    /// Rotations of every `stride`th place of a frame.
    // The same places in every frame, for one frame and for all. F32 in any case: q and k are rotated before they are rounded, as
    // upstream's are.
    fn rope(&self, grid: Grid, stride: usize, device: &Device) -> Result<RopeTable> {
        let positions = grid.positions(stride);
        let table = self
            .rope
            .table(&positions, self.head_dim, DType::F32, device);
        Ok(table?)
    }

    /// The trunk.
    pub fn patch_embed(&self) -> &DinoVisionTransformer {
        &self.patch_embed
    }
}

/// Images in [0, 1] to the colors the trunk was trained on. [S, 3, H, W]
///
/// # Errors
/// When the shape does not fit or the device fails.
pub fn normalize_images(images: &Tensor) -> Result<Tensor> {
    let channel = |values: &[f32; 3]| Tensor::new(values, images.device())?.reshape((1, 3, 1, 1));
    Ok(images
        .broadcast_sub(&channel(&RESNET_MEAN)?)?
        .broadcast_div(&channel(&RESNET_STD)?)?)
}

/// [1, 2, X, C] -> [S, X, C]: slot 0 for the first frame of the scene, if it is among them, slot 1 for all others.
fn slice_expand_and_flatten(token: &Tensor, s: usize, with_first: bool) -> Result<Tensor> {
    let token = token.squeeze(0)?;
    let others = token.narrow(0, 1, 1)?;
    if !with_first {
        return Ok(others.repeat((s, 1, 1))?);
    }
    let first = token.narrow(0, 0, 1)?;
    if s == 1 {
        return Ok(first);
    }
    Ok(Tensor::cat(&[&first, &others.repeat((s - 1, 1, 1))?], 0)?)
}
