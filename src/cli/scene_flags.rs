//! Flags of what a scene shows, shared by the commands that reconstruct.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::choices::choices;
use crate::scene::{PredictionMode, SceneError};

/// Percent of the points that `--quality best` drops: where demo_viser.py of VGGT's authors starts, for points from depth and cameras.
/// Their demo_gradio.py starts at 50.
const BEST_CONF_THRES: f32 = 25.0;

/// Defaults of the options for points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Quality {
    /// As the older script: point maps, and 3 % dropped; with the demo's weights depth and cameras, and 10 % dropped
    #[default]
    Standard,
    /// Points from depth and cameras, and the least confident 25 % dropped, as in the authors' demo
    Best,
}

/// One flag for each option of [`crate::scene::SceneOptions`] that every reconstruction has.
///
/// [`SceneFlags::given`] has the options that were given, by name; one that was not given keeps its default, here or on the server.
#[derive(Debug, Clone, Default, clap::Args, Serialize)]
#[command(next_help_heading = "Scene")]
pub(super) struct SceneFlags {
    /// Percent of the points to drop, least confident first [default: 3; 10 with the demo's weights, 25 with --quality
    /// best]
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    conf_thres: Option<f32>,
    /// Where points come from: the network's point maps, or its depth and cameras, which is usually better. Also takes the older
    /// script's names, "Pointmap Regression" and "Depthmap and Camera" [default: pointmap; depthmap with the demo's weights or
    /// --quality best]
    #[arg(long, value_name = "NAME", value_parser = choices(&["pointmap", "depthmap"], parse_mode))]
    #[serde(skip_serializing_if = "Option::is_none")]
    prediction_mode: Option<PredictionMode>,
    /// Defaults of the options for points: those of the older script, or what its authors recommend
    #[arg(long, value_enum, value_name = "WHICH", default_value_t)]
    #[serde(skip)]
    quality: Quality,
    /// Drop points that are black
    #[arg(long, hide_short_help = true)]
    #[serde(skip_serializing_if = "is_false")]
    mask_black_bg: bool,
    /// Drop points that are white
    #[arg(long, hide_short_help = true)]
    #[serde(skip_serializing_if = "is_false")]
    mask_white_bg: bool,
    /// Drop points at edges of things, which float between what is in front and what is behind
    #[arg(long, hide_short_help = true)]
    #[serde(skip_serializing_if = "is_false")]
    drop_edges: bool,
    /// Drop points that stand alone
    #[arg(long, hide_short_help = true)]
    #[serde(skip_serializing_if = "is_false")]
    drop_outliers: bool,
    /// Drop floating points: --drop-edges and --drop-outliers together
    #[arg(long)]
    #[serde(skip)]
    clean: bool,
    /// Show the cameras
    #[arg(long)]
    #[serde(skip_serializing_if = "is_false")]
    show_cam: bool,
    /// Keep at most this many points, evenly [default: 20 million in a GLB or page, 100 000 in a dataset, all in a PLY]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_points: Option<u32>,
}

/// Reads the names of the older script, and short ones.
fn parse_mode(text: &str) -> Result<PredictionMode, String> {
    match text {
        "pointmap" => Ok(PredictionMode::PointmapRegression),
        "depthmap" => Ok(PredictionMode::DepthmapAndCamera),
        _ => text.parse().map_err(|e: SceneError| e.to_string()),
    }
}

impl SceneFlags {
    /// Returns the options that were given, by name, and those that `--quality` and `--clean` stand for.
    pub(super) fn given(&self) -> serde_json::Result<Map<String, Value>> {
        let flags: Map<String, Value> = serde_json::from_value(serde_json::to_value(self)?)?;
        let mut given = Map::new();
        if self.quality == Quality::Best {
            given.insert("conf_thres".to_owned(), json!(BEST_CONF_THRES));
            let mode = json!(PredictionMode::DepthmapAndCamera);
            given.insert("prediction_mode".to_owned(), mode);
        }
        if self.clean {
            given.insert("drop_edges".to_owned(), true.into());
            given.insert("drop_outliers".to_owned(), true.into());
        }
        given.extend(flags);
        Ok(given)
    }

    /// Returns `--max-points`.
    pub(super) fn max_points(&self) -> Option<usize> {
        self.max_points.map(|n| n as usize)
    }
}

/// A flag that is not given leaves the default, which may be on.
#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde's skip_serializing_if calls"
)]
pub(super) fn is_false(flag: &bool) -> bool {
    !flag
}
