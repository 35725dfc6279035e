//! `vggt bench`: seconds for each part of the network and the memory it took.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use anyhow::ensure;
use candle_core::{Device, Tensor};
use serde_json::{Map, Value, json};
use vggt_model::{
    ForwardOptions, Isa, measured_peak,
    ops::cuda::work::{Card, aggregator},
    progress::Stage as NetworkStage,
    work::transformer_operations,
};

use super::model_args::ModelArgs;
use crate::pipeline::{Stage, Watcher};

/// Prints one flat JSON object: seconds for each stage, for loading and in all, the transformers' speed and its share of
/// what the processor can do, and the peak of resident memory.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Number of frames
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    frames: u32,
    /// Height of a frame in pixels, a multiple of the patch size
    #[arg(long, default_value_t = 518, value_parser = clap::value_parser!(u32).range(1..=16384))]
    height: u32,
    /// Width of a frame in pixels, a multiple of the patch size
    #[arg(long, default_value_t = 518, value_parser = clap::value_parser!(u32).range(1..=16384))]
    width: u32,
    /// Use random weights of the config's shapes instead of a checkpoint
    #[arg(long)]
    random: bool,
    #[command(flatten)]
    model: ModelArgs,
}

/// Adds the time since the last step to the stage that the step belongs to.
struct Stopwatch {
    last: Instant,
    seconds: BTreeMap<NetworkStage, Duration>,
}

impl Watcher for Stopwatch {
    fn step(&mut self, stage: Stage, _: usize, _: usize) -> bool {
        let now = Instant::now();
        if let Stage::Network(stage) = stage {
            *self.seconds.entry(stage).or_default() += now - self.last;
        }
        self.last = now;
        true
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    args.model.set_threads()?;
    let source = if args.random {
        args.model.random_source()?
    } else {
        args.model.source()?
    };
    let start = Instant::now();
    let network = args.model.load(&source)?;
    let load = start.elapsed();

    let isa = Isa::best();
    let peak = isa.map(measured_peak);
    let dims = [args.frames, 3, args.height, args.width].map(|n| n as usize);
    let images = noise(dims)?;
    let cpu_start = cpu_seconds();
    let start = Instant::now();
    let mut watch = Stopwatch {
        last: start,
        seconds: BTreeMap::new(),
    };
    let predictions = network.predict(&images, &ForwardOptions::default(), &mut watch)?;
    let total = start.elapsed();
    let cpu = cpu_start.zip(cpu_seconds());
    let depth: f32 = predictions.depth.mean_all()?.to_scalar()?;
    ensure!(
        depth.is_finite(),
        "the network gave numbers that are none: {depth}"
    );

    let mut report = Map::new();
    for (name, stage) in [
        ("patch_embed", NetworkStage::PatchEmbed),
        ("frame_blocks", NetworkStage::FrameBlocks),
        ("global_blocks", NetworkStage::GlobalBlocks),
        ("camera", NetworkStage::Camera),
        ("depth", NetworkStage::Depth),
        ("point", NetworkStage::Point),
    ] {
        let seconds = watch.seconds.get(&stage).copied().unwrap_or_default();
        report.insert(name.to_owned(), json!(seconds.as_secs_f64()));
    }
    report.insert("total".to_owned(), json!(total.as_secs_f64()));
    if let Some(((user, system), (user_end, system_end))) = cpu {
        report.insert("user".to_owned(), json!(user_end - user));
        report.insert("system".to_owned(), json!(system_end - system));
    }
    let blocks: f64 = ["patch_embed", "frame_blocks", "global_blocks"]
        .iter()
        .filter_map(|stage| report[*stage].as_f64())
        .sum();
    let size = (args.height as usize, args.width as usize);
    let operations = transformer_operations(network.config(), args.frames as usize, size) as f64;
    let speed = operations / blocks / 1e9;
    report.insert("transformer_gflop".to_owned(), json!(operations / 1e9));
    report.insert("transformer_gflop_per_s".to_owned(), json!(speed));
    if network.device_name() == "cpu" {
        let peak = peak.map(|peak| peak / 1e9);
        report.insert("peak_gflop_per_s".to_owned(), json!(peak));
        report.insert(
            "share_of_peak".to_owned(),
            json!(peak.map(|peak| speed / peak)),
        );
        report.insert(
            "instructions".to_owned(),
            json!(isa.map_or("plain", Isa::name)),
        );
    } else {
        // What the three stages above should take together on an H100: the table of model/kernels/README.md.
        let work = aggregator(
            network.config(),
            args.frames as usize,
            size,
            network.dtype(),
        );
        let seconds: f64 = work.iter().map(|op| Card::H100.seconds(op)).sum();
        report.insert("aggregator_on_h100_on_paper".to_owned(), json!(seconds));
    }
    report.insert("load".to_owned(), json!(load.as_secs_f64()));
    report.insert(
        "peak_rss_bytes".to_owned(),
        peak_rss_bytes().map_or(Value::Null, Value::from),
    );
    report.insert("frames".to_owned(), json!(args.frames));
    report.insert("height".to_owned(), json!(args.height));
    report.insert("width".to_owned(), json!(args.width));
    report.insert("weights".to_owned(), json!(network.name()));
    report.insert("device".to_owned(), json!(network.device_name()));
    report.insert("dtype".to_owned(), json!(network.dtype().as_str()));
    report.insert("precision".to_owned(), json!(network.precision().as_str()));
    report.insert("threads".to_owned(), json!(rayon::current_num_threads()));
    println!("{}", Value::Object(report));
    Ok(())
}

/// Pictures that are the same in every run and on every machine.
fn noise(dims: [usize; 4]) -> candle_core::Result<Tensor> {
    let mut state = 1u32;
    let numbers = (0..dims.iter().product())
        .map(|_| {
            // Numerical Recipes' generator; only the upper bits are used.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1u32 << 24) as f32
        })
        .collect();
    Tensor::from_vec(numbers, dims.to_vec(), &Device::Cpu)
}

/// User and system seconds that this process has had; `None` where the system does not say.
fn cpu_seconds() -> Option<(f64, f64)> {
    /// Linux counts in hundredths for user space whatever the kernel uses.
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name is in parentheses and may hold anything; utime and stime are the 12th and 13th behind it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || Some(fields.next()?.parse::<f64>().ok()? / TICKS);
    Some((next()?, next()?))
}

/// The most memory this process ever had resident; `None` where the system does not say.
fn peak_rss_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}
