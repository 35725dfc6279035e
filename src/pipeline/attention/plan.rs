//! What fits the frames and the memory.

use candle_core::DType;
use serde::{Deserialize, Serialize};
use vggt_model::{
    anchors::{AnchorSchedule, DEFAULT_ANCHORS, DENSE_FRAMES, LEAST_ANCHORS},
    cost::transformer_flops,
};

use super::{Attention, AttentionOptions};
use crate::pipeline::{Network, PipelineError};

/// How the frames of a scene are computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pipeline) enum Plan {
    /// Every frame attends to all frames: to this many, chosen evenly, where not all fit into memory.
    Dense(usize),
    /// Every frame attends to anchors.
    Anchors(Anchors),
}

/// Anchors that are still to be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pipeline) struct Anchors {
    pub(super) count: usize,
    pub(super) frames: Option<Vec<usize>>,
    pub(super) schedule: AnchorSchedule,
    pub(super) cache: DType,
    /// Whether there would be more of them with more memory, or none.
    pub(super) by_memory: bool,
}

/// How the frames were computed, as a spool records it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::pipeline) struct Chosen {
    /// The anchors in rising order.
    pub(in crate::pipeline) frames: Vec<usize>,
    /// What the global blocks attend to, as text.
    pub(in crate::pipeline) schedule: String,
    /// The type in which keys and values are kept.
    pub(in crate::pipeline) cache: String,
    /// The largest distance of a frame to its nearest anchor, in [0, 2]; unknown where a user named the anchors.
    pub(in crate::pipeline) largest_distance: Option<f32>,
    /// Whether more memory would have given other anchors.
    pub(in crate::pipeline) by_memory: bool,
}

/// Anchors that were used, for the provenance of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttentionUsed {
    /// The anchors, counted from 0.
    anchors: Vec<usize>,
    /// `LOCAL,SAMPLED,STRIDE`.
    schedule: String,
    /// The type in which their keys and values were kept.
    cache: String,
}

impl From<&Chosen> for AttentionUsed {
    fn from(chosen: &Chosen) -> Self {
        Self {
            anchors: chosen.frames.clone(),
            schedule: chosen.schedule.clone(),
            cache: chosen.cache.clone(),
        }
    }
}

/// Decides how `count` frames of `size`, (H, W), are computed. `tracks`: points are followed through them, for which every frame
/// attends to all frames. `may_thin`: frames may be left out.
///
/// # Errors
/// [`PipelineError::Attention`] when the options do not fit the frames or the network.
pub(in crate::pipeline) fn plan(
    network: &Network,
    options: &AttentionOptions,
    (count, size): (usize, (usize, usize)),
    (tracks, may_thin): (bool, bool),
) -> Result<Plan, PipelineError> {
    options.check()?;
    let asked = options.asks_for_anchors();
    if tracks && asked {
        let why = "points are followed where every frame attends to all frames: leave out the options for anchors";
        return Err(PipelineError::Attention(why.to_owned()));
    }
    let fitting = network
        .frames_that_fit(size.0, size.1)
        .unwrap_or(usize::MAX);
    let dense = || Plan::Dense(if may_thin { count.min(fitting) } else { count });
    if tracks || options.attention == Attention::Dense || count < 2 {
        return Ok(dense());
    }
    if !asked && count <= DENSE_FRAMES && count <= fitting {
        return Ok(dense());
    }
    let anchors = Fit { network, size }.anchors(options, count)?;
    // Fewer would tell too little of the scene: then rather fewer frames, as long as the user does not insist.
    if !asked && anchors.count < LEAST_ANCHORS.min(count) {
        return Ok(dense());
    }
    Ok(Plan::Anchors(Anchors {
        by_memory: anchors.by_memory || (!asked && count <= DENSE_FRAMES),
        ..anchors
    }))
}

/// What fits into the memory that is free now.
struct Fit<'a> {
    network: &'a Network,
    size: (usize, usize),
}

impl Fit<'_> {
    fn anchors(&self, options: &AttentionOptions, count: usize) -> Result<Anchors, PipelineError> {
        let config = self.network.config();
        let default = AnchorSchedule::of(config);
        let schedule = options.anchor_schedule.unwrap_or(default);
        schedule.check(config).map_err(|e| match e {
            vggt_model::Error::Input(why) => PipelineError::Attention(why),
            e => e.into(),
        })?;
        let default = || self.network.cache_dtype();
        let cache = options.anchor_cache.map_or_else(default, DType::from);
        let anchors = |count, by_memory| Anchors {
            count,
            frames: None,
            schedule,
            cache,
            by_memory,
        };
        if let Some(frames) = &options.anchor_frames {
            if let Some(frame) = frames.iter().find(|frame| **frame >= count) {
                return Err(PipelineError::Attention(format!(
                    "cannot use frame {frame} as an anchor: there are {count} frames, counted from 0"
                )));
            }
            let mut frames = frames.clone();
            frames.sort_unstable();
            return Ok(Anchors {
                frames: Some(frames.clone()),
                ..anchors(frames.len(), false)
            });
        }
        let wanted = options.anchors.unwrap_or(DEFAULT_ANCHORS).min(count);
        // An explicit number is tried even if it is estimated not to fit.
        if options.anchors.is_some() {
            return Ok(anchors(wanted, false));
        }
        let fits = |count| self.fits(count, (schedule, cache));
        let most = (1..=wanted).rev().find(|count| fits(*count)).unwrap_or(0);
        Ok(anchors(most, most < wanted))
    }

    fn fits(&self, anchors: usize, kept: (AnchorSchedule, DType)) -> bool {
        let Some(available) = self.network.memory_for_a_pass() else {
            return true;
        };
        let cost = self.network.anchored_cost(self.size, anchors, kept);
        let peak = cost.anchors_bytes(false).max(cost.frames_bytes(1));
        cost.cache_bytes() + peak <= available
    }
}

impl Anchors {
    /// How many there are.
    pub(in crate::pipeline) fn count(&self) -> usize {
        self.count
    }
}

impl Plan {
    /// Operations of the transformers for `count` frames of `size`, (H, W).
    pub(in crate::pipeline) fn flops(
        &self,
        network: &Network,
        (count, size): (usize, (usize, usize)),
    ) -> u64 {
        match self {
            Self::Dense(frames) => transformer_flops(network.config(), *frames, size),
            Self::Anchors(anchors) => {
                let kept = (anchors.schedule, anchors.cache);
                let cost = network.anchored_cost(size, anchors.count, kept);
                let others = count.saturating_sub(anchors.count) as u64;
                cost.flops_of_anchors() + others * cost.flops_of_frame()
            }
        }
    }

    /// Upper estimate of the bytes that a pass over frames of `size` takes beside the weights.
    pub(in crate::pipeline) fn bytes(&self, network: &Network, size: (usize, usize)) -> u64 {
        match self {
            Self::Dense(frames) => network.forward_bytes(*frames, size.0, size.1),
            Self::Anchors(anchors) => {
                let kept = (anchors.schedule, anchors.cache);
                let cost = network.anchored_cost(size, anchors.count, kept);
                cost.cache_bytes() + cost.anchors_bytes(false).max(cost.frames_bytes(1))
            }
        }
    }
}
