//! Alternating attention within each frame and across all frames. Port of vggt/models/aggregator.py.

use std::collections::BTreeMap;

use candle_core::{D, DType, Tensor};

use crate::{
    config::Config,
    error::{Error, Result},
    layers::{Block, BlockConfig, DinoVisionTransformer, RotaryPositionEmbedding2D},
    progress::{Observer, Stage},
    weights::VarBuilder,
};

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

/// What the heads read: the tokens after some of the aggregator's layers.
#[derive(Debug)]
pub struct AggregatedTokens {
    layers: BTreeMap<usize, Tensor>,
    /// Where the patches begin among a frame's tokens.
    pub patch_start_idx: usize,
}

impl AggregatedTokens {
    /// Tokens that were computed elsewhere, by layer. Each [S, P, 2 C].
    pub fn from_layers(
        layers: impl IntoIterator<Item = (usize, Tensor)>,
        patch_start_idx: usize,
    ) -> Self {
        Self {
            layers: layers.into_iter().collect(),
            patch_start_idx,
        }
    }

    /// Output of frame block `layer` and global block `layer` side by side. [S, P, 2 C], F32
    ///
    /// # Errors
    /// [`Error::Input`] when that layer was not kept.
    pub fn layer(&self, layer: usize) -> Result<&Tensor> {
        self.layers
            .get(&layer)
            .ok_or_else(|| Error::Input(format!("layer {layer} of the aggregator was not kept")))
    }

    /// The last layer. [S, P, 2 C]
    ///
    /// # Errors
    /// [`Error::Input`] when there is none.
    pub fn last(&self) -> Result<&Tensor> {
        let last = self.layers.values().next_back();
        last.ok_or_else(|| Error::Input("the aggregator kept no layer".to_owned()))
    }
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
        let (s, _, h, w) = images.dims4()?;
        let dtype = self.camera_token.dtype();
        let images = normalize_images(images)?.to_dtype(dtype)?;
        let patches = self.patch_embed.forward(&images, observer)?;
        let camera = slice_expand_and_flatten(&self.camera_token, s)?;
        let register = slice_expand_and_flatten(&self.register_token, s)?;
        let patch_start_idx = 1 + register.dim(1)?;
        let mut tokens = Tensor::cat(&[&camera, &register, &patches], 1)?;
        drop(patches);
        let (_, p, c) = tokens.dims3()?;

        let positions = positions(patch_start_idx, h / self.patch_size, w / self.patch_size);
        // The same places in every frame, for one frame and for all. F32 in any case: q and k are rotated before they are
        // rounded, as upstream's are.
        let rope = self
            .rope
            .table(&positions, self.head_dim, DType::F32, images.device())?;

        let depth = self.frame_blocks.len();
        let mut layers = BTreeMap::new();
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
        }
        Ok(AggregatedTokens {
            layers,
            patch_start_idx,
        })
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

/// [1, 2, X, C] -> [S, X, C]: slot 0 for the first frame, slot 1 for all others.
fn slice_expand_and_flatten(token: &Tensor, s: usize) -> Result<Tensor> {
    let token = token.squeeze(0)?;
    let first = token.narrow(0, 0, 1)?;
    if s == 1 {
        return Ok(first);
    }
    let others = token.narrow(0, 1, 1)?.repeat((s - 1, 1, 1))?;
    Ok(Tensor::cat(&[&first, &others], 0)?)
}

/// (row, column) of every token of a frame: 0 for the special tokens, patches count from 1.
fn positions(patch_start_idx: usize, rows: usize, columns: usize) -> Vec<(u32, u32)> {
    let special = std::iter::repeat_n((0, 0), patch_start_idx);
    let patches = (1..=rows as u32).flat_map(|y| (1..=columns as u32).map(move |x| (y, x)));
    special.chain(patches).collect()
}
