//! Follows query points of the first frame through all frames. Port of vggt/heads/track_head.py.

use candle_core::Tensor;

use super::{
    dpt_head::{DptFeatures, DptFeaturesConfig},
    track_modules::BaseTrackerPredictor,
};
use crate::{
    aggregator::AggregatedTokens,
    config::{Config, TrackHeadConfig},
    error::{Error, Result},
    progress::Observer,
    weights::VarBuilder,
};

/// Track head: a DPT feature map of half the size, and a tracker on it.
#[derive(Debug)]
pub struct TrackHead {
    feature_extractor: DptFeatures,
    tracker: BaseTrackerPredictor,
    stride: usize,
    corr_levels: usize,
}

/// Where the points went.
#[derive(Debug, Clone)]
pub struct TrackPrediction {
    /// (x, y) in pixels of the H x W frame. [S, N, 2]
    pub track: Tensor,
    /// How likely each point is visible, in [0, 1]. [S, N]
    pub vis: Tensor,
    /// How sure the network is of the position, in [0, 1]. [S, N]
    pub conf: Tensor,
}

impl TrackHead {
    /// Reads the head's parameters.
    ///
    /// # Errors
    /// When one is missing or misshapen.
    pub fn new(config: &Config, head: &TrackHeadConfig, vb: &VarBuilder) -> Result<Self> {
        let c = head.features;
        Ok(Self {
            feature_extractor: DptFeatures::new(
                config,
                DptFeaturesConfig {
                    features: c,
                    c_out: c,
                    down_ratio: head.stride,
                    pos_embed: false,
                },
                &vb.pp("feature_extractor"),
            )?,
            tracker: BaseTrackerPredictor::new(head, &vb.pp("tracker"))?,
            stride: head.stride,
            corr_levels: head.corr_levels,
        })
    }

    /// The feature maps the tracker works on. [S, C, H / stride, W / stride]
    ///
    /// # Errors
    /// When the device fails.
    pub fn feature_maps(
        &self,
        tokens: &AggregatedTokens,
        (s, h, w): (usize, usize, usize),
    ) -> Result<Tensor> {
        let maps = (0..s)
            .map(|i| self.feature_extractor.frame(tokens, i, (h, w)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&maps, 0)?.permute((0, 3, 1, 2))?.contiguous()?)
    }

    /// Follows `query_points`, (x, y) in pixels of the first frame. [N, 2]
    ///
    /// # Errors
    /// As [`TrackHead::feature_maps`] and [`TrackHead::follow`].
    pub fn forward(
        &self,
        tokens: &AggregatedTokens,
        size: (usize, usize, usize),
        query_points: &Tensor,
        observer: &mut dyn Observer,
    ) -> Result<TrackPrediction> {
        self.check_size(size)?;
        let maps = self.feature_maps(tokens, size)?;
        self.follow(&maps, query_points, observer)
    }

    /// Follows `query_points` [N, 2] through the frames that `maps` [S, C, H / stride, W / stride] were made of.
    ///
    /// # Errors
    /// When the maps are too small for the correlation pyramid, the device fails or the observer stops the pass.
    pub fn follow(
        &self,
        maps: &Tensor,
        query_points: &Tensor,
        observer: &mut dyn Observer,
    ) -> Result<TrackPrediction> {
        let (s, _, h, w) = maps.dims4()?;
        self.check_size((s, h * self.stride, w * self.stride))?;
        self.tracker.forward(query_points, maps, observer)
    }

    fn check_size(&self, (_, h, w): (usize, usize, usize)) -> Result<()> {
        let smallest = self.stride << (self.corr_levels - 1);
        if h.min(w) < smallest {
            return Err(Error::Input(format!(
                "tracking needs frames of at least {smallest} pixels a side, these have {w} x {h}"
            )));
        }
        Ok(())
    }
}
