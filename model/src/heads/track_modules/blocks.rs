//! The update transformer and the correlation pyramid. Port of vggt/heads/track_modules/blocks.py.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::{
    modules::{AttnBlock, CrossAttnBlock, EPS},
    utils::grid_sample_position,
};
use crate::{
    config::TrackHeadConfig,
    ops::{LayerNorm, Linear},
    weights::VarBuilder,
};

/// Attention along time for each point, and across points through a few virtual tracks.
#[derive(Debug)]
pub(super) struct EfficientUpdateFormer {
    input_norm: LayerNorm,
    input_transform: Linear,
    /// [1, V, 1, C]
    virtual_tracks: Tensor,
    time_blocks: Vec<AttnBlock>,
    space_virtual_blocks: Vec<AttnBlock>,
    space_point2virtual_blocks: Vec<CrossAttnBlock>,
    space_virtual2point_blocks: Vec<CrossAttnBlock>,
    output_norm: LayerNorm,
    flow_head: Linear,
}

impl EfficientUpdateFormer {
    /// Reads the transformer's parameters.
    ///
    /// # Errors
    /// When one is missing or misshapen.
    pub(super) fn new(
        head: &TrackHeadConfig,
        (c_in, c_out): (usize, usize),
        vb: &VarBuilder,
    ) -> crate::Result<Self> {
        let c = head.hidden_size;
        let heads = TrackHeadConfig::NUM_HEADS;
        let attn = |name: &str| {
            (0..head.depth)
                .map(|i| AttnBlock::new(c, heads, &vb.pp(name).pp(i)))
                .collect::<crate::Result<Vec<_>>>()
        };
        let cross = |name: &str| {
            (0..head.depth)
                .map(|i| CrossAttnBlock::new(c, heads, &vb.pp(name).pp(i)))
                .collect::<crate::Result<Vec<_>>>()
        };
        Ok(Self {
            input_norm: LayerNorm::new(c_in, EPS, &vb.pp("input_norm"))?,
            input_transform: Linear::new(c_in, c, &vb.pp("input_transform"))?,
            // Upstream's spelling, which the checkpoint keeps.
            virtual_tracks: vb.get(
                (1, TrackHeadConfig::NUM_VIRTUAL_TRACKS, 1, c),
                "virual_tracks",
            )?,
            time_blocks: attn("time_blocks")?,
            space_virtual_blocks: attn("space_virtual_blocks")?,
            space_point2virtual_blocks: cross("space_point2virtual_blocks")?,
            space_virtual2point_blocks: cross("space_virtual2point_blocks")?,
            output_norm: LayerNorm::new(c, EPS, &vb.pp("output_norm"))?,
            flow_head: Linear::new(c, c_out, &vb.pp("flow_head"))?,
        })
    }

    /// x [N, S, C'] -> what to add to positions and features [N, S, 2 + C].
    ///
    /// # Errors
    /// When the device fails.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let init_tokens = self.input_transform.forward(&self.input_norm.forward(x)?)?;
        let (n, s, _) = init_tokens.dims3()?;
        let virtual_tracks = self.virtual_tracks.squeeze(0)?.repeat((1, s, 1))?;
        // [N + V, S, C]
        let mut tokens = Tensor::cat(&[&init_tokens, &virtual_tracks], 0)?;
        let v = virtual_tracks.dim(0)?;
        for (i, time) in self.time_blocks.iter().enumerate() {
            tokens = time.forward(&tokens)?;
            let space = tokens.transpose(0, 1)?.contiguous()?;
            let points = space.narrow(1, 0, n)?;
            let virtuals = space.narrow(1, n, v)?;
            let virtuals = self.space_virtual2point_blocks[i].forward(&virtuals, &points)?;
            let virtuals = self.space_virtual_blocks[i].forward(&virtuals)?;
            let points = self.space_point2virtual_blocks[i].forward(&points, &virtuals)?;
            tokens = Tensor::cat(&[&points, &virtuals], 1)?
                .transpose(0, 1)?
                .contiguous()?;
        }
        let tokens = (tokens.narrow(0, 0, n)? + init_tokens)?;
        self.flow_head.forward(&self.output_norm.forward(&tokens)?)
    }
}

/// Feature maps at several sizes, to be compared with the features of points.
#[derive(Debug)]
pub(super) struct CorrBlock {
    levels: Vec<Level>,
    radius: usize,
    channels: usize,
}

/// Farther outside of a map than any window reaches, in pixels.
const FAR: f32 = 1e6;

/// One size of the feature maps, channels last. [S, H, W, C]
#[derive(Debug)]
struct Level {
    maps: Vec<f32>,
    h: usize,
    w: usize,
}

impl CorrBlock {
    /// Halves `maps` [S, C, H, W] `num_levels - 1` times.
    ///
    /// # Errors
    /// When the device fails.
    pub(super) fn new(maps: &Tensor, num_levels: usize, radius: usize) -> Result<Self> {
        let mut maps = maps.clone();
        let mut levels = Vec::with_capacity(num_levels);
        for i in 0..num_levels {
            if i > 0 {
                // PyTorch: F.avg_pool2d(maps, kernel_size=2, stride=2)
                maps = maps.avg_pool2d(2)?;
            }
            let (_, _, h, w) = maps.dims4()?;
            let last = maps.permute((0, 2, 3, 1))?.contiguous()?;
            levels.push(Level {
                maps: last.flatten_all()?.to_vec1()?,
                h,
                w,
            });
        }
        Ok(Self {
            levels,
            radius,
            channels: maps.dim(1)?,
        })
    }

    /// Correlation of each point's features with a window around it at every level.
    ///
    /// `features` [S, N, C] and `coords` [S, N, 2], (x, y) in pixels of the first level -> [S, N, levels (2r+1)²],
    /// zero outside of the maps; within a window x runs slowest.
    // Differs from upstream: there every point is compared with every pixel and the window is then read bilinearly from
    // that S x N x H x W volume. Reading is linear, so only the pixels under the window are compared here.
    pub(super) fn corr_sample(&self, features: &[f32], coords: &[f32], n: usize) -> Vec<f32> {
        let c = self.channels;
        let side = 2 * self.radius + 1;
        let window = side * side;
        let mut out = vec![0f32; coords.len() / 2 * self.levels.len() * window];
        out.par_chunks_exact_mut(self.levels.len() * window)
            .enumerate()
            .for_each(|(i, out)| {
                let frame = i / n;
                let feature = &features[i * c..][..c];
                for (l, (level, out)) in self
                    .levels
                    .iter()
                    .zip(out.chunks_exact_mut(window))
                    .enumerate()
                {
                    let scale = (1u32 << l) as f32;
                    let center = (coords[2 * i] / scale, coords[2 * i + 1] / scale);
                    level.window(frame, feature, center, self.radius, out);
                }
            });
        out
    }
}

impl Level {
    fn window(
        &self,
        frame: usize,
        feature: &[f32],
        (x, y): (f32, f32),
        radius: usize,
        out: &mut [f32],
    ) {
        let c = feature.len();
        let side = 2 * radius + 1;
        let map = &self.maps[frame * self.h * self.w * c..][..self.h * self.w * c];
        let normalize = (c as f32).sqrt();
        let dot = |px: i64, py: i64| -> f32 {
            if px < 0 || py < 0 || px >= self.w as i64 || py >= self.h as i64 {
                return 0.0;
            }
            let pixel = &map[(py as usize * self.w + px as usize) * c..][..c];
            let sum: f32 = pixel.iter().zip(feature).map(|(a, b)| a * b).sum();
            sum / normalize
        };
        let positions = |center: f32, n: usize| -> Vec<f32> {
            // A point that left the image by far reads zeros; this keeps whole numbers in range.
            let center = center.clamp(-FAR, FAR);
            let offsets = (0..side).map(|i| i as f32 - radius as f32);
            offsets
                .map(|d| grid_sample_position(center + d, n))
                .collect()
        };
        let (xs, ys) = (positions(x, self.w), positions(y, self.h));
        // Places are a pixel apart but for rounding, so these pixels hold both taps of each.
        let (left, top) = (xs[0].floor() as i64, ys[0].floor() as i64);
        let wide = side + 2;
        // [x][y]
        let dots: Vec<f32> = (0..wide * wide)
            .map(|k| dot(left + (k / wide) as i64 - 1, top + (k % wide) as i64 - 1))
            .collect();
        for (k, out) in out.iter_mut().enumerate() {
            let (x, y) = (xs[k / side], ys[k % side]);
            let (x0, y0) = (x.floor(), y.floor());
            let (tx, ty) = (x - x0, y - y0);
            let at = |dx: i64, dy: i64| {
                let i = (x0 as i64 - left + 1 + dx).clamp(0, wide as i64 - 1) as usize;
                let j = (y0 as i64 - top + 1 + dy).clamp(0, wide as i64 - 1) as usize;
                dots[i * wide + j]
            };
            *out = at(0, 0) * ((1.0 - tx) * (1.0 - ty))
                + at(1, 0) * (tx * (1.0 - ty))
                + at(0, 1) * ((1.0 - tx) * ty)
                + at(1, 1) * (tx * ty);
        }
    }
}
