//! Dense prediction: a feature pyramid from four of the aggregator's layers. Port of vggt/heads/dpt_head.py.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::{
    head_act::{Activation, activate_head},
    utils::uv_embed,
};
use crate::{
    aggregator::AggregatedTokens,
    config::Config,
    error::Result,
    kept::Kept,
    ops::{
        Conv2d, Conv2dConfig, ConvFusion, ConvTranspose2d, LayerNorm, Positions,
        bilinear_align_corners,
    },
    progress::{Observer, Stage},
    weights::VarBuilder,
};

/// Of the norm over the tokens.
const EPS: f32 = 1e-5;

/// A 1 x 1 convolution.
const POINTWISE: Conv2dConfig = Conv2dConfig {
    stride: 1,
    padding: 0,
};

/// A 3 x 3 convolution whose result is as large as its input.
const SAME: Conv2dConfig = Conv2dConfig {
    stride: 1,
    padding: 1,
};

/// A 3 x 3 convolution that halves its input.
const HALVE: Conv2dConfig = Conv2dConfig {
    stride: 2,
    padding: 1,
};

/// Channels before the last 1 x 1 convolution. Origin: upstream's head_features_2.
const HEAD_FEATURES: usize = 32;

/// The pyramid that the depth, point and track heads share.
#[derive(Debug)]
pub struct DptFeatures {
    norm: LayerNorm,
    projects: [Conv2d; 4],
    resize_layers: ResizeLayers,
    scratch: Scratch,
    intermediate_layer_idx: [usize; 4],
    patch_size: usize,
    /// Pixels of the image per pixel of the result.
    down_ratio: usize,
    /// Channels of the levels and of the result.
    channels: ([usize; 4], usize),
    /// Whether positions are added, once to each level and once to the result.
    pos_embed: bool,
    /// The positions of the last frame's size: the frames of a pass have one.
    positions: Kept<(usize, usize), PositionTables>,
}

/// What is added to the maps of a frame.
#[derive(Debug)]
struct PositionTables {
    /// Of the levels. [1, H / patch, W / patch, C]
    levels: [Tensor; 4],
    /// Of the result.
    result: Positions,
}

/// To 4, 2, 1 and 1/2 times the patch grid.
#[derive(Debug)]
struct ResizeLayers {
    up4: ConvTranspose2d,
    up2: ConvTranspose2d,
    down2: Conv2d,
}

/// The fusion, coarse to fine.
#[derive(Debug)]
struct Scratch {
    layer_rn: [Conv2d; 4],
    refinenet: [FeatureFusionBlock; 4],
    output_conv1: Conv2d,
}

/// What one head's pyramid is like.
#[derive(Debug, Clone, Copy)]
pub struct DptFeaturesConfig {
    /// Channels of the fused levels.
    pub features: usize,
    /// Channels of the result.
    pub c_out: usize,
    /// Pixels of the image per pixel of the result.
    pub down_ratio: usize,
    /// Whether positions are added, once to each level and once to the result.
    pub pos_embed: bool,
}

impl DptFeatures {
    /// Reads the pyramid's parameters.
    ///
    /// # Errors
    /// When one is missing or misshapen.
    pub fn new(config: &Config, pyramid: DptFeaturesConfig, vb: &VarBuilder) -> Result<Self> {
        let DptFeaturesConfig {
            features,
            c_out,
            down_ratio,
            pos_embed,
        } = pyramid;
        let c = 2 * config.embed_dim;
        let out = config.dpt_head.out_channels;
        let project = |i: usize| Conv2d::new((c, out[i]), 1, POINTWISE, &vb.pp("projects").pp(i));
        let resize = vb.pp("resize_layers");
        let scratch = vb.pp("scratch");
        let layer_rn = |i: usize| {
            let vb = scratch.pp(format!("layer{}_rn", i + 1));
            Conv2d::no_bias((out[i], features), 3, SAME, &vb)
        };
        let refinenet = |i: usize| {
            // The coarsest level has nothing below it to add.
            let has_residual = i < 3;
            FeatureFusionBlock::new(
                features,
                has_residual,
                &scratch.pp(format!("refinenet{}", i + 1)),
            )
        };
        Ok(Self {
            norm: LayerNorm::new(c, EPS, &vb.pp("norm"))?,
            projects: [project(0)?, project(1)?, project(2)?, project(3)?],
            resize_layers: ResizeLayers {
                up4: ConvTranspose2d::new((out[0], out[0]), 4, &resize.pp(0))?,
                up2: ConvTranspose2d::new((out[1], out[1]), 2, &resize.pp(1))?,
                down2: Conv2d::new((out[3], out[3]), 3, HALVE, &resize.pp(3))?,
            },
            scratch: Scratch {
                layer_rn: [layer_rn(0)?, layer_rn(1)?, layer_rn(2)?, layer_rn(3)?],
                refinenet: [refinenet(0)?, refinenet(1)?, refinenet(2)?, refinenet(3)?],
                output_conv1: Conv2d::new((features, c_out), 3, SAME, &scratch.pp("output_conv1"))?,
            },
            intermediate_layer_idx: config.dpt_head.intermediate_layer_idx,
            patch_size: config.patch_size,
            down_ratio,
            channels: (out, c_out),
            pos_embed,
            positions: Kept::new(),
        })
    }

    /// The features of one frame of H x W pixels, channels last as everything in this head.
    /// [1, H / down_ratio, W / down_ratio, C]
    ///
    /// # Errors
    /// When the device fails.
    // Differs from upstream: one frame at a time instead of eight. The frames do not speak to each other here, and the
    // feature maps of one frame alone are larger than everything else at that time.
    pub fn frame(
        &self,
        tokens: &AggregatedTokens,
        frame: usize,
        (h, w): (usize, usize),
    ) -> Result<Tensor> {
        let grid = (h / self.patch_size, w / self.patch_size);
        let positions = self.positions((h, w), tokens.last()?.device())?;
        let level = |i: usize| -> Result<Tensor> {
            let layer = tokens.layer(self.intermediate_layer_idx[i])?;
            let start = tokens.patch_start_idx;
            let x = layer.get(frame)?.narrow(0, start, layer.dim(1)? - start)?;
            let x = self.norm.forward(&x)?.reshape((1, grid.0, grid.1, ()))?;
            let positions = ConvFusion {
                skip: positions.as_ref().map(|tables| &tables.levels[i]),
                ..ConvFusion::default()
            };
            let x = self.projects[i].forward_fused(&x, positions)?;
            let x = match i {
                0 => self.resize_layers.up4.forward(&x)?,
                1 => self.resize_layers.up2.forward(&x)?,
                2 => x,
                _ => self.resize_layers.down2.forward(&x)?,
            };
            Ok(self.scratch.layer_rn[i].forward(&x)?)
        };
        let levels = [level(0)?, level(1)?, level(2)?, level(3)?];
        let [fuse1, fuse2, fuse3, fuse4] = &self.scratch.refinenet;
        let size = |x: &Tensor| -> Result<(usize, usize)> { Ok((x.dim(1)?, x.dim(2)?)) };
        let x = fuse4.forward(&levels[3], None, size(&levels[2])?)?;
        let x = fuse3.forward(&x, Some(&levels[2]), size(&levels[1])?)?;
        let x = fuse2.forward(&x, Some(&levels[1]), size(&levels[0])?)?;
        let (rows, columns) = size(&levels[0])?;
        let x = fuse1.forward(&x, Some(&levels[0]), (2 * rows, 2 * columns))?;
        drop(levels);
        let x = self.scratch.output_conv1.forward(&x)?;
        let size = (h / self.down_ratio, w / self.down_ratio);
        let positions = positions.as_ref().map(|tables| &tables.result);
        Ok(bilinear_align_corners(&x, size, positions)?)
    }

    /// The positions of frames of `size`, made for the first of them.
    fn positions(
        &self,
        size: (usize, usize),
        device: &Device,
    ) -> candle_core::Result<Option<Arc<PositionTables>>> {
        if !self.pos_embed {
            return Ok(None);
        }
        let (h, w) = size;
        let aspect_ratio = w as f64 / h as f64;
        let embed = |size, c| uv_embed(size, c, aspect_ratio, device);
        let grid = (h / self.patch_size, w / self.patch_size);
        let level = |i: usize| embed(grid, self.channels.0[i])?.whole();
        let make = || {
            Ok(PositionTables {
                levels: [level(0)?, level(1)?, level(2)?, level(3)?],
                result: embed((h / self.down_ratio, w / self.down_ratio), self.channels.1)?,
            })
        };
        self.positions.get_or_make(size, make).map(Some)
    }
}

/// Adds a finer level to the fused features and doubles their size.
#[derive(Debug)]
struct FeatureFusionBlock {
    res_conf_unit1: Option<ResidualConvUnit>,
    res_conf_unit2: ResidualConvUnit,
    out_conv: Conv2d,
}

impl FeatureFusionBlock {
    fn new(features: usize, has_residual: bool, vb: &VarBuilder) -> Result<Self> {
        let unit = |name| ResidualConvUnit::new(features, &vb.pp(name));
        Ok(Self {
            res_conf_unit1: has_residual.then(|| unit("resConfUnit1")).transpose()?,
            res_conf_unit2: unit("resConfUnit2")?,
            out_conv: Conv2d::new((features, features), 1, POINTWISE, &vb.pp("out_conv"))?,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        finer: Option<&Tensor>,
        size: (usize, usize),
    ) -> candle_core::Result<Tensor> {
        let x = match (&self.res_conf_unit1, finer) {
            (Some(unit), Some(finer)) => unit.forward(finer, Some(x))?,
            _ => x.clone(),
        };
        let x = self.res_conf_unit2.forward(&x, None)?;
        // Differs from upstream: the 1 x 1 convolution comes before the resampling. Both are linear and the taps of
        // the resampling sum to one, so they commute; this way round it sees a quarter of the pixels.
        bilinear_align_corners(&self.out_conv.forward(&x)?, size, None)
    }
}

/// Two convolutions and a skip.
#[derive(Debug)]
struct ResidualConvUnit {
    conv1: Conv2d,
    conv2: Conv2d,
}

impl ResidualConvUnit {
    fn new(features: usize, vb: &VarBuilder) -> Result<Self> {
        let conv = |name| Conv2d::new((features, features), 3, SAME, &vb.pp(name));
        Ok(Self {
            conv1: conv("conv1")?,
            conv2: conv("conv2")?,
        })
    }

    /// conv2(relu(conv1(relu(x)))) + relu(x) + other.
    fn forward(&self, x: &Tensor, other: Option<&Tensor>) -> candle_core::Result<Tensor> {
        let first = ConvFusion {
            relu_before: true,
            relu_after: true,
            ..ConvFusion::default()
        };
        let second = ConvFusion {
            // Upstream's ReLU works in place, so that the skip carries relu(x) too.
            skip_relu: Some(x),
            skip: other,
            ..ConvFusion::default()
        };
        let y = self.conv1.forward_fused(x, first)?;
        self.conv2.forward_fused(&y, second)
    }
}

/// A depth or point head: values and their confidence for every pixel.
#[derive(Debug)]
pub struct DptHead {
    features: DptFeatures,
    output_conv2: (Conv2d, Conv2d),
    activation: Activation,
    stage: Stage,
}

impl DptHead {
    /// Reads the parameters of a head that gives `channels` values for each pixel.
    ///
    /// # Errors
    /// When one is missing or misshapen.
    pub fn new(
        config: &Config,
        channels: usize,
        activation: Activation,
        stage: Stage,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let features = config.dpt_head.features;
        let pyramid = DptFeaturesConfig {
            features,
            c_out: features / 2,
            down_ratio: 1,
            pos_embed: true,
        };
        let output = vb.pp("scratch").pp("output_conv2");
        Ok(Self {
            features: DptFeatures::new(config, pyramid, vb)?,
            // Index 1 of upstream's Sequential is the ReLU.
            output_conv2: (
                Conv2d::new((features / 2, HEAD_FEATURES), 3, SAME, &output.pp(0))?,
                Conv2d::new((HEAD_FEATURES, channels + 1), 1, POINTWISE, &output.pp(2))?,
            ),
            activation,
            stage,
        })
    }

    /// Values [S, H, W, channels] and confidence, 1 and up, [S, H, W].
    ///
    /// # Errors
    /// When the device fails or the observer stops the pass.
    pub fn forward(
        &self,
        tokens: &AggregatedTokens,
        (s, h, w): (usize, usize, usize),
        observer: &mut dyn Observer,
    ) -> Result<(Tensor, Tensor)> {
        let mut values = Vec::with_capacity(s);
        let mut conf = Vec::with_capacity(s);
        for i in 0..s {
            let x = self.features.frame(tokens, i, (h, w))?;
            let relu = ConvFusion {
                relu_after: true,
                ..ConvFusion::default()
            };
            let x = self.output_conv2.0.forward_fused(&x, relu)?;
            let x = self.output_conv2.1.forward(&x)?;
            let (v, c) = activate_head(&x, self.activation)?;
            values.push(v);
            conf.push(c);
            observer.report(self.stage, i + 1, s)?;
        }
        Ok((Tensor::cat(&values, 0)?, Tensor::cat(&conf, 0)?))
    }
}
