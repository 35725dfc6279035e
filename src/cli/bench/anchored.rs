//! A pass with anchors: the frames are computed a few at a time, as `vggt export` does with long captures.

use std::time::Instant;

use candle_core::{Device, Tensor};
use vggt_model::{
    AnchorOptions, ForwardOptions, FrameResults,
    anchors::{AnchorSchedule, DEFAULT_ANCHORS},
};

use super::process::CpuSeconds;
use crate::pipeline::{Network, Watcher};

/// Flags of passes with anchors.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Anchors")]
pub(super) struct AnchorArgs {
    /// Have all frames attend to so many anchors, evenly spaced, instead of to each other
    #[arg(long, value_name = "K", num_args = 0..=1, default_missing_value = "40",
        value_parser = clap::value_parser!(u32).range(1..=4096), hide_short_help = true)]
    pub(super) anchors: Option<u32>,
    /// Frames that are computed at once, once the anchors are
    #[arg(long, value_name = "N", default_value_t = 4, requires = "anchors",
        value_parser = clap::value_parser!(u32).range(1..=4096), hide_short_help = true)]
    pub(super) batch: u32,
}

const _: () = assert!(DEFAULT_ANCHORS == 40, "the value of a bare --anchors");

/// What the parts of one pass took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parts {
    /// The pass over the anchors, and their heads.
    pub(super) anchors: Part,
    /// The passes over all other frames, and their heads.
    pub(super) frames: Part,
    /// The camera head.
    pub(super) cameras: Part,
    /// Anchors.
    pub(super) count: usize,
    /// Bytes of their keys and values.
    pub(super) cache_bytes: u64,
}

/// Seconds on the clock and of the processor.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Part {
    pub(super) seconds: f64,
    pub(super) cpu: f64,
}

/// Measures from one call to the next.
struct Lap(Instant, f64);

impl Lap {
    fn start() -> Self {
        Self(Instant::now(), cpu())
    }

    fn next(&mut self) -> Part {
        let now = Self::start();
        let part = Part {
            seconds: (now.0 - self.0).as_secs_f64(),
            cpu: now.1 - self.1,
        };
        *self = now;
        part
    }
}

fn cpu() -> f64 {
    CpuSeconds::now().map_or(f64::NAN, |cpu| cpu.user + cpu.system)
}

/// One pass over `images` [S, 3, H, W]. The results of a frame are dropped as soon as they are there.
///
/// # Errors
/// When the network fails.
pub(super) fn pass(
    network: &Network,
    images: &Tensor,
    args: &AnchorArgs,
    watcher: &mut dyn Watcher,
) -> anyhow::Result<Parts> {
    let (s, _, h, w) = images.dims4()?;
    let count = (args.anchors.unwrap_or(DEFAULT_ANCHORS as u32) as usize).min(s);
    let anchors: Vec<usize> = (0..count).map(|i| i * s / count).collect();
    let others: Vec<usize> = (0..s)
        .filter(|i| anchors.binary_search(i).is_err())
        .collect();
    let options = ForwardOptions {
        skip_points: !network.has_point_head(),
        ..ForwardOptions::default()
    };
    let mut tokens: Vec<Option<Tensor>> = vec![None; s];
    let mut keep = |frames: &[usize], results: FrameResults| -> anyhow::Result<()> {
        for (at, frame) in frames.iter().enumerate() {
            tokens[*frame] = Some(results.camera_tokens.narrow(0, at, 1)?);
        }
        Ok(())
    };
    let mut lap = Lap::start();
    let mut parts = Parts {
        count,
        ..Parts::default()
    };
    let anchor_options = AnchorOptions {
        schedule: AnchorSchedule::of(network.config()),
        dtype: network.cache_dtype(),
        scratch: Some(tempfile::tempfile()?),
    };
    let mut passed = network.anchors(&select(images, &anchors)?, anchor_options, watcher)?;
    parts.cache_bytes = passed.cache.bytes();
    for (index, frame) in anchors.iter().enumerate() {
        let of = (&mut passed, index);
        let results = network.results_of_anchor(of, (h, w), &options, watcher)?;
        keep(&[*frame], results)?;
    }
    parts.anchors = lap.next();
    for frames in others.chunks(args.batch as usize) {
        let images = select(images, frames)?;
        keep(
            frames,
            network.frames(&images, &passed, &options, watcher)?.0,
        )?;
    }
    parts.frames = lap.next();
    let tokens: Vec<Tensor> = tokens.into_iter().flatten().collect();
    network.cameras(&Tensor::cat(&tokens, 0)?, (h, w), watcher)?;
    parts.cameras = lap.next();
    Ok(parts)
}

fn select(images: &Tensor, frames: &[usize]) -> candle_core::Result<Tensor> {
    let frames: Vec<u32> = frames.iter().map(|frame| *frame as u32).collect();
    images.index_select(&Tensor::new(frames, &Device::Cpu)?, 0)
}
