//! Images to patch tokens. Port of vggt/layers/patch_embed.py.

use candle_core::{Result, Tensor};

use crate::{ops::Linear, weights::VarBuilder};

/// Turns each patch of a image into a token.
#[derive(Debug)]
pub struct PatchEmbed {
    proj: Linear,
    patch_size: usize,
}

impl PatchEmbed {
    /// Reads `proj` [C, 3, patch, patch].
    ///
    /// # Errors
    /// When it is missing or misshapen.
    pub fn new(patch_size: usize, embed_dim: usize, vb: &VarBuilder) -> crate::Result<Self> {
        let vb = vb.pp("proj");
        let weight = vb.get((embed_dim, 3, patch_size, patch_size), "weight")?;
        let bias = vb.get(embed_dim, "bias")?;
        Ok(Self {
            proj: Linear::from_tensors(weight.flatten_from(1)?, bias),
            patch_size,
        })
    }

    /// [S, 3, H, W] -> [S, H/p W/p, C], patches row by row.
    ///
    /// # Errors
    /// When H or W is no multiple of the patch size or the device fails.
    // Differs from upstream: the patches do not overlap, so the convolution is one product of matrices.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let (s, channels, h, w) = images.dims4()?;
        let p = self.patch_size;
        let patches = images
            .reshape(vec![s, channels, h / p, p, w / p, p])?
            .permute(vec![0, 2, 4, 1, 3, 5])?
            .reshape((s, (h / p) * (w / p), channels * p * p))?;
        self.proj.forward(&patches)
    }
}
