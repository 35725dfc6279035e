//! `vggt bench`: how long the network takes and how much memory, for one or more numbers of frames.

mod anchored;
mod measure;
mod process;
mod table;

use std::time::Instant;

use anyhow::bail;
use candle_core::{Device, Tensor};
use serde_json::{Map, Value, json};
use vggt_model::{
    Isa,
    anchors::AnchorSchedule,
    cost::{Card, aggregator, camera_head, dense_head, transformer_flops},
    measured_peak,
    progress::Stage,
};

use self::{
    anchored::{AnchorArgs, Parts},
    measure::{Measurement, Passes, Summary},
};
use super::model_args::ModelArgs;
use crate::cli::terminal::say;
use crate::pipeline::Network;

/// What the help says below the options.
const EXAMPLES: &str = "\
Examples:
  vggt bench --random --frames 1,10 --height 392    random weights of VGGT-1B's size
  vggt bench --demo --frames 8 --repeat 5 --json    a JSON object a line
  vggt bench --random --frames 100 --anchors        with 40 anchors";

/// Measures the network's speed and memory on made images, and prints a line of a table for each number of frames; with --json one
/// flat object a line, with more figures.
///
/// In JSON, `total` is the median time of a pass in seconds, `first` the time of the first pass with its start-up costs. On CUDA a pass
/// is timed from a synchronized start to the predictions on the host, and nothing waits in between; --stages adds passes that
/// wait for the device at the end of each stage. On the CPU stages are always timed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Number of frames; several, separated by commas, are measured one after the other in this process
    #[arg(long, value_name = "N,...", default_value = "1", value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=4096))]
    frames: Vec<u32>,
    /// Height of a frame in pixels, a multiple of the patch size
    #[arg(long, default_value_t = 518, value_parser = clap::value_parser!(u32).range(1..=16384))]
    height: u32,
    /// Width of a frame in pixels, a multiple of the patch size
    #[arg(long, default_value_t = 518, value_parser = clap::value_parser!(u32).range(1..=16384))]
    width: u32,
    /// Timed passes for each number of frames
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeat: u32,
    /// Passes before the timed ones, for each number of frames [default: 0 on the CPU, 1 on CUDA, whose first pass
    /// compiles and loads kernels]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000), hide_short_help = true)]
    warm_up: Option<u32>,
    /// On CUDA, also time every stage, in passes of their own that wait for the device after each stage
    #[arg(long, hide_short_help = true)]
    stages: bool,
    /// Print a flat JSON object a line instead of a table
    #[arg(long)]
    json: bool,
    /// Use random weights of the config's shapes instead of a checkpoint
    #[arg(long)]
    random: bool,
    #[command(flatten)]
    anchors: AnchorArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// The stages that are reported, with their names in the report.
const STAGES: [(&str, Stage); 6] = [
    ("patch_embed", Stage::PatchEmbed),
    ("frame_blocks", Stage::FrameBlocks),
    ("global_blocks", Stage::GlobalBlocks),
    ("camera", Stage::Camera),
    ("depth", Stage::Depth),
    ("point", Stage::Point),
];

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    args.model.set_threads()?;
    let source = if args.random {
        args.model.random_source()?
    } else {
        args.model.source()?
    };
    let start = Instant::now();
    let device = args.model.device.open()?;
    let open = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let network = args.model.load_on(&source, device)?;
    let load = start.elapsed().as_secs_f64();

    let on_cpu = network.device().is_cpu();
    let passes = Passes {
        warm_up: args.warm_up.unwrap_or(if on_cpu { 0 } else { 1 }),
        repeat: args.repeat,
        stages: args.stages || on_cpu,
    };
    let peak = || {
        let isa = Isa::best().filter(|_| on_cpu)?;
        Some(measured_peak(isa, network.precision()))
    };
    let mut machine = Machine {
        isa: Isa::best(),
        peak: peak(),
        device_asked: args.model.device.to_string(),
        open,
        load,
    };
    let mut failed = Vec::new();
    let mut headed = args.json;
    for frames in args.frames.iter().map(|n| *n as usize) {
        let size = [frames, args.height as usize, args.width as usize];
        // A size that does not fit must not cost the others their result.
        let measured = images(size)
            .map_err(anyhow::Error::from)
            .and_then(|images| measure::measure(&network, &images, &args.anchors, passes));
        // Again, since another program may have taken part of the processor the first time.
        machine.peak = machine.peak.zip(peak()).map(|(a, b)| a.max(b));
        let report = match measured {
            Ok(measured) => report(&network, &machine, passes, size, &measured),
            Err(e) => {
                network.return_device_memory();
                let why = format!("{e:#}");
                failed.push(format!("{frames} frames: {why}"));
                json!({ "frames": frames, "height": size[1], "width": size[2], "error": why })
            }
        };
        if args.json {
            say!("{report}");
            continue;
        }
        // What holds for all of them is known once one was measured.
        if !headed && report["error"].is_null() {
            say!("{}", table::heading(&report));
            headed = true;
        }
        say!("{}", table::row(&report));
    }
    match failed.len() {
        0 => Ok(()),
        _ => bail!("cannot measure {}", failed.join("; ")),
    }
}

/// What holds for every line of the report.
struct Machine {
    /// The instruction set of the CPU's fast operations.
    isa: Option<Isa>,
    /// Operations a second that the CPU was seen to reach with the instruction of the precision.
    peak: Option<f64>,
    /// `--device` as it was given.
    device_asked: String,
    /// Seconds to open the device.
    open: f64,
    /// Seconds to load the weights onto it.
    load: f64,
}

/// One line.
fn report(
    network: &Network,
    machine: &Machine,
    passes: Passes,
    [frames, height, width]: [usize; 3],
    measured: &Measurement,
) -> Value {
    let mut report = Map::new();
    let mut put = |name: &str, value: Value| {
        report.insert(name.to_owned(), value);
    };
    // Seconds of the stages, where they were timed.
    let stage = |stage: Stage| measured.stages.get(&stage).copied();
    for (name, of) in STAGES {
        put(
            name,
            json!(passes.stages.then(|| stage(of).unwrap_or_default())),
        );
    }
    let total = Summary::of(&measured.totals);
    put("total", json!(total.median));
    put("total_min", json!(total.min));
    put("total_max", json!(total.max));
    put("totals", json!(measured.totals));
    put("first", json!(measured.first));
    put("repeat", json!(passes.repeat));
    put("warm_up", json!(passes.warm_up));
    if let Some(cpu) = measured.cpu {
        put("user", json!(cpu.user));
        put("system", json!(cpu.system));
    }

    let size = (height, width);
    let config = network.config();
    let flops = match &measured.parts {
        None => transformer_flops(config, frames, size),
        Some(parts) => put_parts(network, parts, (frames, size), &mut put),
    } as f64;
    let blocks: Option<f64> = [Stage::PatchEmbed, Stage::FrameBlocks, Stage::GlobalBlocks]
        .into_iter()
        .map(stage)
        .sum();
    let speed = blocks.map(|seconds| flops / seconds / 1e9);
    put("transformer_gflop", json!(flops / 1e9));
    put("transformer_gflop_per_s", json!(speed));
    if network.device().is_cpu() {
        let peak = machine.peak.map(|peak| peak / 1e9);
        let share = speed.zip(peak).map(|(speed, peak)| speed / peak);
        put("peak_gflop_per_s", json!(peak));
        put("share_of_peak", json!(share));
        put(
            "instructions",
            json!(machine.isa.map_or("plain", Isa::name)),
        );
        let instruction = machine.isa.map(|isa| isa.instruction(network.precision()));
        put("product_instruction", json!(instruction));
    } else {
        // The tables of model/kernels/README.md, for this size.
        let seconds = |work: &[_]| work.iter().map(|op| Card::H100.seconds(op)).sum::<f64>();
        let of_aggregator = aggregator(config, frames, size, network.dtype());
        let of_head = seconds(&dense_head(config, frames, size));
        put("aggregator_h100_estimate", json!(seconds(&of_aggregator)));
        put(
            "camera_h100_estimate",
            json!(seconds(&camera_head(config, frames))),
        );
        put("depth_h100_estimate", json!(of_head));
        put("point_h100_estimate", json!(of_head));
    }
    put("open", json!(machine.open));
    put("load", json!(machine.load));
    put("peak_rss_bytes", json!(measured.peak_rss_bytes));
    if let Some(peak) = measured.device_peak {
        put("peak_device_bytes", json!(peak.used_bytes));
        put("peak_device_reserved_bytes", json!(peak.reserved_bytes));
    }
    put("frames", json!(frames));
    put("height", json!(height));
    put("width", json!(width));
    put("weights", json!(network.name()));
    put("device", json!(network.device_name()));
    put("device_asked", json!(machine.device_asked));
    put("dtype", json!(network.dtype().as_str()));
    put("precision", json!(network.precision().as_str()));
    put("threads", json!(rayon::current_num_threads()));
    Value::Object(report)
}

/// Reports what the parts of a pass with anchors took; returns the operations of all of it.
fn put_parts(
    network: &Network,
    parts: &Parts,
    (frames, size): (usize, (usize, usize)),
    put: &mut impl FnMut(&str, Value),
) -> u64 {
    let schedule = AnchorSchedule::of(network.config());
    let kept = (schedule, network.cache_dtype());
    let cost = network.anchored_cost(size, parts.count, kept);
    let others = frames - parts.count;
    put("attention", json!("anchors"));
    put("anchors", json!(parts.count));
    put("anchor_cache_bytes", json!(parts.cache_bytes));
    for (name, part) in [
        ("anchors", parts.anchors),
        ("frames", parts.frames),
        ("cameras", parts.cameras),
    ] {
        put(&format!("part_{name}"), json!(part.seconds));
        put(&format!("part_{name}_cpu"), json!(part.cpu));
    }
    if others > 0 {
        let of_frame = parts.frames.cpu / others as f64;
        put("cpu_of_frame", json!(of_frame));
        put("gflop_of_frame", json!(cost.flops_of_frame() as f64 / 1e9));
    }
    cost.flops_of_anchors() + others as u64 * cost.flops_of_frame()
}

/// Noise that is the same in every run and on every machine. [S, 3, H, W] in [0, 1)
fn images([frames, height, width]: [usize; 3]) -> candle_core::Result<Tensor> {
    let dims = [frames, 3, height, width];
    let mut state = 1u32;
    let elements = (0..dims.iter().product())
        .map(|_| {
            // The generator of Numerical Recipes; only its upper bits are good.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1u32 << 24) as f32
        })
        .collect();
    Tensor::from_vec(elements, dims.to_vec(), &Device::Cpu)
}
