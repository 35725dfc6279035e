//! Flags of the refinement of cameras.

use crate::{
    cli::choices::choices,
    pipeline::{LensSharing, RefinementOptions},
};

/// Whether something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Switch {
    On,
    Off,
}

/// How cameras are refined.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Cameras")]
pub(super) struct RefineFlags {
    /// Refine the cameras with corners that several photos show (bundle adjustment); the network's are kept where that is not
    /// better [default: on for colmap and nerfstudio datasets of photos or a video, unless --cameras is given; else off]
    #[arg(
        long,
        value_name = "SWITCH",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "on",
        overrides_with = "refine"
    )]
    refine: Option<Switch>,
    /// Which photos were taken with the same lens: auto (all frames of a video, and photos of one size and about the same focal
    /// length), shared (all photos of one size), single (each has its own), or fixed (focal lengths stay as predicted)
    #[arg(long, value_name = "WHICH", default_value = "auto", hide_short_help = true,
        value_parser = choices(&["auto", "shared", "single", "fixed"], |s| s.parse::<LensSharing>()))]
    refine_lens: LensSharing,
    /// Also refine the radial distortion of each lens; datasets then hold OPENCV cameras, which not every trainer reads
    #[arg(long, hide_short_help = true)]
    refine_k1: bool,
    /// Also look for matches where the network's track head sees corners of the first frame in the others: for cameras that are so
    /// far off that corners are not where they predict them. Needs weights with a track head, which takes time and memory of its
    /// own; results are not taken from the cache
    #[arg(long, hide_short_help = true)]
    refine_tracks: bool,
}

impl RefineFlags {
    /// Returns whether cameras are refined, where the command says so.
    pub(super) fn given(&self) -> Option<bool> {
        self.refine.map(|switch| switch == Switch::On)
    }

    /// Returns how cameras are refined, if they are; `by_default` where neither on nor off was asked for.
    pub(super) fn options(&self, by_default: bool) -> Option<RefinementOptions> {
        let is_on = self.given().unwrap_or(by_default);
        let flags = [
            ("--refine-lens", self.refine_lens != LensSharing::Auto),
            ("--refine-k1", self.refine_k1),
            ("--refine-tracks", self.refine_tracks),
        ];
        for (flag, _) in flags.iter().filter(|(_, given)| *given && !is_on) {
            tracing::warn!("{flag} has no effect: the cameras are not refined (--refine does)");
        }
        is_on.then_some(RefinementOptions {
            lenses: self.refine_lens,
            k1: self.refine_k1,
            track_head: self.refine_tracks,
        })
    }
}
