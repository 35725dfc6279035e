//! Passes over the network, and what they took.

use std::{collections::BTreeMap, time::Instant};

use anyhow::ensure;
use candle_core::{Device, Tensor};
use vggt_model::{
    ForwardOptions,
    cuda::{DeviceMemory, device_peak, reset_device_peak},
    progress::Stage,
};

use super::{
    anchored::{self, AnchorArgs, Parts},
    process::{CpuSeconds, peak_rss_bytes, reset_peak_rss},
};
use crate::pipeline::{self, Network, Silent, Watcher};

/// Which passes are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passes {
    /// Before the timed ones.
    pub(super) warm_up: u32,
    /// Timed ones; at least 1.
    pub(super) repeat: u32,
    /// Whether every stage is timed.
    pub(super) stages: bool,
}

/// What the passes over one size took.
#[derive(Debug)]
pub(super) struct Measurement {
    /// Seconds of the very first pass, with what it starts up: the driver's compilation, loading of kernels and libraries,
    /// growth of memory pools.
    pub(super) first: f64,
    /// Seconds of each timed pass.
    pub(super) totals: Vec<f64>,
    /// Parts of the last timed pass, where it was one with anchors.
    pub(super) parts: Option<Parts>,
    /// Median seconds of each stage, where stages were asked for.
    pub(super) stages: BTreeMap<Stage, f64>,
    /// Processor time of a timed pass.
    pub(super) cpu: Option<CpuSeconds>,
    pub(super) peak_rss_bytes: Option<u64>,
    pub(super) device_peak: Option<DeviceMemory>,
}

/// Median and range of some figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Summary {
    pub(super) min: f64,
    pub(super) median: f64,
    pub(super) max: f64,
}

impl Summary {
    /// Of `figures`, which are not empty; of an even number of them the median is the mean of the middle two.
    pub(super) fn of(figures: &[f64]) -> Self {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |i: usize| sorted.get(i).copied().unwrap_or(f64::NAN);
        let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
        Self {
            min: at(0),
            median: at(low).midpoint(at(high)),
            max: at(sorted.len().saturating_sub(1)),
        }
    }
}

/// Makes the passes over `images`.
///
/// # Errors
/// When the network fails or its output is not finite.
pub(super) fn measure(
    network: &Network,
    images: &Tensor,
    anchors: &AnchorArgs,
    passes: Passes,
) -> anyhow::Result<Measurement> {
    reset_peak_rss();
    reset_device_peak(network.device());
    // On the CPU a stage is done when it is reported, so that the timed passes can time stages as well.
    let in_timed = passes.stages && network.device().is_cpu();

    let mut first = None;
    for _ in 0..passes.warm_up {
        let seconds = pass((network, images, anchors), &mut Silent)?.0;
        first.get_or_insert(seconds);
    }
    let cpu_start = CpuSeconds::now();
    let mut totals = Vec::new();
    let mut parts = None;
    let mut stages: BTreeMap<Stage, Vec<f64>> = BTreeMap::new();
    for _ in 0..passes.repeat {
        let (seconds, of_pass) = match in_timed {
            true => staged_pass((network, images, anchors), &mut stages)?,
            false => pass((network, images, anchors), &mut Silent)?,
        };
        first.get_or_insert(seconds);
        totals.push(seconds);
        parts = of_pass;
    }
    let cpu = cpu_start
        .zip(CpuSeconds::now())
        .map(|(start, end)| end.per_pass_since(start, passes.repeat));
    if passes.stages && !in_timed {
        for _ in 0..passes.repeat {
            staged_pass((network, images, anchors), &mut stages)?;
        }
    }
    Ok(Measurement {
        first: first.unwrap_or_default(),
        totals,
        parts,
        stages: stages
            .into_iter()
            .map(|(stage, seconds)| (stage, Summary::of(&seconds).median))
            .collect(),
        cpu,
        peak_rss_bytes: peak_rss_bytes(),
        device_peak: device_peak(network.device()),
    })
}

/// What a pass runs on.
type Pass<'a> = (&'a Network, &'a Tensor, &'a AnchorArgs);

/// One pass, from a device that has nothing left to do to predictions on the host. Returns its seconds.
fn pass(
    (network, images, anchors): Pass<'_>,
    watcher: &mut dyn Watcher,
) -> anyhow::Result<(f64, Option<Parts>)> {
    network.synchronize()?;
    let start = Instant::now();
    if anchors.anchors.is_some() {
        let parts = anchored::pass(network, images, anchors, watcher)?;
        network.synchronize()?;
        return Ok((start.elapsed().as_secs_f64(), Some(parts)));
    }
    let options = ForwardOptions {
        skip_points: !network.has_point_head(),
        ..ForwardOptions::default()
    };
    let predictions = network.predict(images, &options, watcher)?;
    network.synchronize()?;
    let seconds = start.elapsed().as_secs_f64();
    if network.config().depth_head.is_some() {
        let depth: f32 = predictions.depth.mean_all()?.to_scalar()?;
        ensure!(
            depth.is_finite(),
            "the network produced NaN or infinity: its mean depth is {depth}"
        );
    }
    Ok((seconds, None))
}

/// As [`pass`], waiting for the device at the end of each stage. Adds the seconds of each stage to `stages`.
fn staged_pass(
    (network, images, anchors): Pass<'_>,
    stages: &mut BTreeMap<Stage, Vec<f64>>,
) -> anyhow::Result<(f64, Option<Parts>)> {
    network.synchronize()?;
    let mut watch = Stopwatch {
        device: network.device(),
        last: Instant::now(),
        seconds: BTreeMap::new(),
        failure: None,
    };
    let total = pass((network, images, anchors), &mut watch);
    // The device's own words say more than the cancelled pass.
    if let Some(failure) = watch.failure {
        return Err(failure.into());
    }
    for (stage, seconds) in watch.seconds {
        stages.entry(stage).or_default().push(seconds);
    }
    total
}

/// Adds the time since the last step to the stage that the step belongs to.
struct Stopwatch<'a> {
    device: &'a Device,
    last: Instant,
    seconds: BTreeMap<Stage, f64>,
    failure: Option<candle_core::Error>,
}

impl Watcher for Stopwatch<'_> {
    fn step(&mut self, stage: pipeline::Stage, done: usize, total: usize) -> bool {
        let pipeline::Stage::Network(stage) = stage else {
            return true;
        };
        // Frame and global blocks take turns, so each of them ends its stage; the others end with their last step.
        let alternates = matches!(stage, Stage::FrameBlocks | Stage::GlobalBlocks);
        if (alternates || done == total)
            && let Err(e) = self.device.synchronize()
        {
            self.failure = Some(e);
            return false;
        }
        let now = Instant::now();
        *self.seconds.entry(stage).or_default() += (now - self.last).as_secs_f64();
        self.last = now;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_two() {
        let summary = Summary::of(&[3.0, 1.0, 2.0]);
        assert_eq!((summary.min, summary.median, summary.max), (1.0, 2.0, 3.0));
        let summary = Summary::of(&[4.0, 1.0, 2.0, 3.0]);
        assert_eq!((summary.min, summary.median, summary.max), (1.0, 2.5, 4.0));
        assert_eq!(Summary::of(&[7.0]).median, 7.0);
    }
}
