//! The trunk that turns images into patch tokens: DINOv2 with registers. Port of vggt/layers/vision_transformer.py.

use candle_core::{DType, Tensor};

use super::{Block, BlockConfig, PatchEmbed, bicubic_antialias};
use crate::{
    config::Config,
    error::Result,
    ops::LayerNorm,
    progress::{Observer, Stage},
    weights::VarBuilder,
};

/// DINOv2's vision transformer with register tokens.
#[derive(Debug)]
pub struct DinoVisionTransformer {
    patch_embed: PatchEmbed,
    /// [1, 1, C]
    cls_token: Tensor,
    /// The class token's place first, then a square of patches. [1, 1 + M M, C]
    pos_embed: Tensor,
    /// [1, R, C]
    register_tokens: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    patch_size: usize,
}

/// Of the norms in the trunk. Origin: DINOv2; everywhere else it is 1e-5.
const EPS: f32 = 1e-6;

impl DinoVisionTransformer {
    /// Reads the trunk's parameters.
    ///
    /// # Errors
    /// When one is missing or misshapen.
    pub fn new(config: &Config, vb: &VarBuilder) -> Result<Self> {
        let c = config.embed_dim;
        let dino = &config.dino;
        let side = config.img_size / config.patch_size;
        let block = BlockConfig {
            dim: c,
            num_heads: dino.num_heads,
            mlp_ratio: dino.mlp_ratio,
            qk_norm: false,
            eps: EPS,
        };
        // Training hides patches behind this token; a forward pass never does.
        vb.expect((1, c), "mask_token")?;
        Ok(Self {
            patch_embed: PatchEmbed::new(config.patch_size, c, &vb.pp("patch_embed"))?,
            cls_token: vb.get((1, 1, c), "cls_token")?,
            pos_embed: vb.get((1, 1 + side * side, c), "pos_embed")?,
            register_tokens: vb.get((1, dino.num_register_tokens, c), "register_tokens")?,
            blocks: (0..dino.depth)
                .map(|i| Block::new(block, &vb.pp("blocks").pp(i)))
                .collect::<Result<_>>()?,
            norm: LayerNorm::new(c, EPS, &vb.pp("norm"))?,
            patch_size: config.patch_size,
        })
    }

    /// Normalized images [S, 3, H, W] -> normalized patch tokens [S, H/p W/p, C].
    ///
    /// # Errors
    /// When the device fails or the observer stops the pass.
    pub fn forward(&self, images: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        let (s, _, h, w) = images.dims4()?;
        let patches = self.patch_embed.forward(images)?;
        let pos_embed = self.pos_embed(h, w)?;
        let cls = (&self.cls_token + pos_embed.narrow(1, 0, 1)?)?;
        let patches = patches.broadcast_add(&pos_embed.narrow(1, 1, pos_embed.dim(1)? - 1)?)?;
        // The registers come after the position embedding: they have no place.
        let first = Tensor::cat(&[&cls, &self.register_tokens], 1)?;
        let first_len = first.dim(1)?;
        let first = first.repeat((s, 1, 1))?;
        let mut x = Tensor::cat(&[&first, &patches], 1)?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, None)?;
            observer.report(Stage::PatchEmbed, i + 1, self.blocks.len())?;
        }
        let patches = x.narrow(1, first_len, x.dim(1)? - first_len)?;
        Ok(self.norm.forward(&patches)?)
    }

    /// The position embedding for images of H x W pixels. [1, 1 + H/p W/p, C]
    ///
    /// # Errors
    /// When the device fails.
    pub fn pos_embed(&self, h: usize, w: usize) -> Result<Tensor> {
        let (_, n, c) = self.pos_embed.dims3()?;
        let (rows, columns) = (h / self.patch_size, w / self.patch_size);
        if rows == columns && rows * columns == n - 1 {
            return Ok(self.pos_embed.clone());
        }
        let side = (n - 1).isqrt();
        let pos_embed = self.pos_embed.to_dtype(DType::F32)?;
        let patches = pos_embed.narrow(1, 1, n - 1)?.reshape((side, side, c))?;
        let patches = bicubic_antialias(&patches, rows, columns)?;
        let patches = patches.reshape((1, rows * columns, c))?;
        let all = Tensor::cat(&[&pos_embed.narrow(1, 0, 1)?, &patches], 1)?;
        Ok(all.to_dtype(self.pos_embed.dtype())?)
    }
}
