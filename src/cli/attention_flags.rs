//! How frames attend to each other, as flags that the commands share that reconstruct.

use serde::Serialize;
use vggt_model::anchors::AnchorSchedule;

use super::{UsageError, scene_flags::is_false};
use crate::pipeline::{AnchorCacheType, Attention, AttentionOptions};

/// One flag for each option of [`AttentionOptions`].
///
/// Serializes to the options that were given, by name; one that was not given keeps its default, here or on the server.
#[derive(Debug, Clone, Default, clap::Args, Serialize)]
#[command(next_help_heading = "Many frames")]
pub(super) struct AttentionFlags {
    /// Which frames the frames attend to: all, as the network was trained, or a few anchors, so that time grows with the number of
    /// frames and memory does not; auto is all for up to 60 frames that fit into memory [default: auto]
    #[arg(long, value_enum, value_name = "HOW", hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    attention: Option<Attention>,
    /// Number of anchors [default: 40, fewer where memory is short]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true,
        hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    anchors: Option<u32>,
    /// For experts: the anchors, counted from 0, as in 0,9,3,7 [default: those that are least like each other]
    #[arg(
        long,
        value_name = "I,...",
        value_delimiter = ',',
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    anchor_frames: Option<Vec<usize>>,
    /// For experts: global blocks below LOCAL run within each frame, those below SAMPLED see every STRIDE-th row and column of
    /// the anchors [default: 2,9,2 of 24 blocks]
    #[arg(long, value_name = "LOCAL,SAMPLED,STRIDE", hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    anchor_schedule: Option<AnchorSchedule>,
    /// For experts: what the anchors' keys and values are kept in; f32 takes twice the memory [default: f16 on the CPU]
    #[arg(long, value_enum, value_name = "TYPE", hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    anchor_cache: Option<AnchorCacheType>,
    /// Leave out photos that seem to show something else than the first one
    #[arg(long, hide_short_help = true)]
    #[serde(skip_serializing_if = "is_false")]
    drop_unrelated: bool,
}

impl AttentionFlags {
    /// Returns the options.
    ///
    /// # Errors
    /// When they contradict each other.
    pub(super) fn options(&self) -> anyhow::Result<AttentionOptions> {
        let options = AttentionOptions {
            attention: self.attention.unwrap_or_default(),
            anchors: self.anchors.map(|n| n as usize),
            anchor_frames: self.anchor_frames.clone(),
            anchor_schedule: self.anchor_schedule,
            anchor_cache: self.anchor_cache,
            drop_unrelated: self.drop_unrelated,
        };
        options.check().map_err(|e| UsageError(e.to_string()))?;
        Ok(options)
    }
}
