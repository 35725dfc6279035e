//! Refines tracks from a first guess. Port of vggt/heads/track_modules/base_track_predictor.py.

use candle_core::{D, Tensor};

use super::{
    blocks::{CorrBlock, EfficientUpdateFormer},
    modules::EPS,
    utils::{get_2d_embedding, sample_features4d, sample_sincos_pos_embed},
};
use crate::{
    config::TrackHeadConfig,
    error::Result,
    heads::TrackPrediction,
    layers::Mlp,
    ops::{LayerNorm, Linear, gelu},
    progress::{Observer, Stage},
    weights::VarBuilder,
};

/// The tracker: compares each point's features with the maps around its track and moves the track, a few times over.
#[derive(Debug)]
pub(crate) struct BaseTrackerPredictor {
    corr_mlp: Mlp,
    /// Slot 0 for the query frame, slot 1 for all others. [1, 2, C']
    query_ref_token: Tensor,
    updateformer: EfficientUpdateFormer,
    fmap_norm: LayerNorm,
    /// Upstream's GroupNorm with one group on [rows, C], which is a LayerNorm.
    ffeat_norm: LayerNorm,
    ffeat_updater: Linear,
    vis_predictor: Linear,
    conf_predictor: Linear,
    head: TrackHeadConfig,
}

impl BaseTrackerPredictor {
    /// Reads the tracker's parameters.
    ///
    /// # Errors
    /// When one is missing or misshapen.
    pub(crate) fn new(head: &TrackHeadConfig, vb: &VarBuilder) -> Result<Self> {
        let c = head.features;
        let window = (2 * head.corr_radius + 1).pow(2);
        let transformer_dim = 3 * c + 4;
        // Index 0 of upstream's Sequential; the updater's GELU is index 1.
        let first = |name, c_out| Linear::new(c, c_out, &vb.pp(name).pp(0));
        Ok(Self {
            corr_mlp: Mlp::new(
                head.corr_levels * window,
                head.hidden_size,
                c,
                &vb.pp("corr_mlp"),
            )?,
            query_ref_token: vb.get((1, 2, transformer_dim), "query_ref_token")?,
            updateformer: EfficientUpdateFormer::new(
                head,
                (transformer_dim, c + 2),
                &vb.pp("updateformer"),
            )?,
            fmap_norm: LayerNorm::new(c, EPS, &vb.pp("fmap_norm"))?,
            ffeat_norm: LayerNorm::new(c, EPS, &vb.pp("ffeat_norm"))?,
            ffeat_updater: first("ffeat_updater", c)?,
            vis_predictor: first("vis_predictor", 1)?,
            conf_predictor: first("conf_predictor", 1)?,
            head: head.clone(),
        })
    }

    /// Follows `query_points` [N, 2] of the first frame through `maps` [S, C, H', W'].
    ///
    /// # Errors
    /// When the device fails or the observer stops the pass.
    // Positions are kept as plain numbers, since they only ever choose where to read; features stay tensors.
    pub(crate) fn forward(
        &self,
        query_points: &Tensor,
        maps: &Tensor,
        observer: &mut dyn Observer,
    ) -> Result<TrackPrediction> {
        let (n, _) = query_points.dims2()?;
        let (s, c, hh, ww) = maps.dims4()?;
        let device = maps.device();
        let stride = self.head.stride as f32;
        let maps = self
            .fmap_norm
            .forward(&maps.permute((0, 2, 3, 1))?)?
            .permute((0, 3, 1, 2))?
            .contiguous()?;

        let query: Vec<f32> = query_points.flatten_all()?.to_vec1::<f32>()?;
        let query: Vec<f32> = query.into_iter().map(|v| v / stride).collect();
        // [S, N, 2], every frame starting where the query frame looks.
        let mut coords = query.repeat(s);
        let query_feat = sample_features4d(&maps.get(0)?, &query)?;
        // [N, S, C]
        let mut track_feats = query_feat.unsqueeze(1)?.repeat((1, s, 1))?;

        let corr = CorrBlock::new(&maps, self.head.corr_levels, self.head.corr_radius)?;
        let transformer_dim = self.query_ref_token.dim(D::Minus1)?;
        let pos = sample_sincos_pos_embed(&query, transformer_dim, (hh, ww));
        let pos = Tensor::from_vec(pos, (n, 1, transformer_dim), device)?;
        let ref_token = {
            let first = self.query_ref_token.narrow(1, 0, 1)?;
            let others = self.query_ref_token.narrow(1, 1, 1)?;
            let mut tokens = vec![first];
            tokens.extend(std::iter::repeat_n(others, s - 1));
            Tensor::cat(&tokens, 1)?
        };

        for i in 0..self.head.iters {
            let features = track_feats.transpose(0, 1)?.contiguous()?;
            let features: Vec<f32> = features.flatten_all()?.to_vec1()?;
            let fcorrs = corr.corr_sample(&features, &coords, n);
            let fcorrs = Tensor::from_vec(fcorrs, (s, n, ()), device)?.transpose(0, 1)?;
            let fcorrs = self.corr_mlp.forward(&fcorrs.contiguous()?)?;

            let flows = flows(&coords, s, n);
            let flows_emb = get_2d_embedding(&flows, c / 2);
            let flows_emb = Tensor::from_vec(flows_emb, (n, s, c), device)?;
            let flows = Tensor::from_vec(flows, (n, s, 2), device)?;
            let flows = (flows / TrackHeadConfig::MAX_SCALE)?;

            let x = Tensor::cat(
                &[&flows_emb, &flows, &flows, &fcorrs, &track_feats],
                D::Minus1,
            )?;
            let x = x.broadcast_add(&pos)?.broadcast_add(&ref_token)?;
            let delta = self.updateformer.forward(&x)?;
            let delta_feats = self.ffeat_norm.forward(&delta.narrow(D::Minus1, 2, c)?)?;
            track_feats = (gelu(&self.ffeat_updater.forward(&delta_feats)?)? + track_feats)?;

            let moves: Vec<f32> = delta
                .narrow(D::Minus1, 0, 2)?
                .transpose(0, 1)?
                .flatten_all()?
                .to_vec1()?;
            // The query frame stays as it was asked for.
            for (position, step) in coords.iter_mut().zip(&moves).skip(2 * n) {
                *position += step;
            }
            observer.report(Stage::Track, i + 1, self.head.iters)?;
        }

        let by_frame = track_feats.transpose(0, 1)?.contiguous()?;
        let probability = |head: &Linear| -> Result<Tensor> {
            Ok(candle_nn::ops::sigmoid(
                &head.forward(&by_frame)?.squeeze(D::Minus1)?,
            )?)
        };
        let track = coords.into_iter().map(|v| v * stride).collect();
        Ok(TrackPrediction {
            track: Tensor::from_vec(track, (s, n, 2), device)?,
            vis: probability(&self.vis_predictor)?,
            conf: probability(&self.conf_predictor)?,
        })
    }
}

/// How far each track is from where it began: [S, N, 2] -> [N, S, 2]
fn flows(coords: &[f32], s: usize, n: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(coords.len());
    for point in 0..n {
        for frame in 0..s {
            for axis in 0..2 {
                out.push(coords[(frame * n + point) * 2 + axis] - coords[point * 2 + axis]);
            }
        }
    }
    out
}
