//! `vggt export`: pictures or a video in, a GLB, PLY or COLMAP model out.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context;
use candle_core::{Device, Tensor};
use serde_json::json;
use vggt_model::{ForwardOptions, Predictions, demo};

use super::{
    UsageError,
    fetch::DownloadBar,
    model_args::ModelArgs,
    save_to_db::{Destination, SaveArgs},
    terminal::StageBars,
};
use crate::{
    frames::{PreprocessMode, SkyNetwork, VideoLimits, is_picture},
    glb::{self, ColorSpace, GlbError, GlbOptions},
    hub::Hub,
    pipeline::{
        Format, FrameLimit, Network, ReadOptions, SavedFrames, Source, Stage, Watcher,
        WriteOptions, load_predictions, read_frames, save_depth, save_predictions, sky_mask,
        write_scene,
    },
    scene::{self, FrameFilter, PredictionMode, Provenance, Scene, SceneOptions},
    store::GlbRow,
};

/// The sky network of the Python demo.
const SKY_REPO: &str = "JianyuanWang/skyseg";
const SKY_FILE: &str = "skyseg.onnx";

/// Flags may be spelled with underscores too, as in the older script: --conf_thres, --show_cam, ...
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Picture files, or one folder or video
    #[arg(value_name = "FILE", conflicts_with_all = ["images_dir", "video_path", "from_predictions"])]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    scene: SceneArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    save: SaveArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// What goes in.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Input")]
struct InputArgs {
    /// A folder of pictures, taken by name, or a video file
    #[arg(long, value_name = "DIR", conflicts_with_all = ["video_path", "from_predictions"])]
    images_dir: Option<PathBuf>,
    /// A video file
    #[arg(long, value_name = "FILE", conflicts_with = "from_predictions")]
    video_path: Option<PathBuf>,
    /// Saved predictions: export again without running the network
    #[arg(long, value_name = "FILE", conflicts_with_all = ["demo", "checkpoint", "save_predictions", "query_points"])]
    from_predictions: Option<PathBuf>,
    /// Frames to take from each second of a video
    #[arg(long, default_value_t = 1.0)]
    fps: f64,
    /// Take at most this many frames, evenly [default: as many as fit into memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_frames: Option<u32>,
    /// How pictures are brought to the network's size: crop, or pad to a square
    #[arg(long, default_value = "crop", value_parser = parse_mode)]
    preprocess: PreprocessMode,
    /// Refuse videos longer than this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = VideoLimits::default().max_duration_s)]
    max_video_seconds: f64,
    /// Refuse videos with more pixels in a frame
    #[arg(long, value_name = "N", default_value_t = VideoLimits::default().max_pixels)]
    max_video_pixels: u64,
    /// Give up a video that takes longer than this many seconds to decode
    #[arg(long, value_name = "SECONDS", default_value_t = VideoLimits::default().max_wall_time.as_secs())]
    max_decode_seconds: u64,
}

/// What is shown.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Scene")]
struct SceneArgs {
    /// Percent of the points to drop, least confident first [default: 3, with --demo 10]
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true)]
    conf_thres: Option<f32>,
    /// "Pointmap Regression" or "Depthmap and Camera" [default: the former, with --demo the latter]
    #[arg(long, value_name = "NAME")]
    prediction_mode: Option<PredictionMode>,
    /// All, or the number of one frame, as in "3" or "3: name.png"
    #[arg(long, value_name = "FRAME", default_value = "All")]
    frame_filter: FrameFilter,
    /// Drop points that are black
    #[arg(long)]
    mask_black_bg: bool,
    /// Drop points that are white
    #[arg(long)]
    mask_white_bg: bool,
    /// Drop points that are sky (downloads a small network once)
    #[arg(long)]
    mask_sky: bool,
    /// The sky network, an ONNX file [default: skyseg.onnx from the hub's JianyuanWang/skyseg]
    #[arg(long, value_name = "FILE", requires = "mask_sky")]
    sky_network: Option<PathBuf>,
    /// Show the cameras
    #[arg(long)]
    show_cam: bool,
    /// Keep at most this many points, evenly
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_points: Option<u32>,
}

/// What comes out.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
struct OutputArgs {
    /// A file, or a folder that gets a file with a name that tells the options [default: scene.glb]
    #[arg(long, short, value_name = "PATH")]
    out: Option<PathBuf>,
    /// glb, ply or colmap [default: by the ending of --out, else glb]
    #[arg(long)]
    format: Option<Format>,
    /// GLB positions as F32 (plain) or as 16-bit integers (quantized)
    #[arg(long, value_name = "KIND", default_value = "plain", value_parser = ["plain", "quantized"])]
    glb: String,
    /// GLB colours: linear, which viewers show as in the photo, or srgb, the photo's bytes as the older service wrote them
    #[arg(long, default_value = "linear")]
    color_space: ColorSpace,
    /// Also save everything the network predicted
    #[arg(long, value_name = "FILE.safetensors")]
    save_predictions: Option<PathBuf>,
    /// Also write a 16-bit and a coloured picture of each depth map into this folder
    #[arg(long, value_name = "DIR")]
    save_depth: Option<PathBuf>,
    /// Follow these points of the first frame, "x,y;x,y" in pixels of the network's picture; needs --save_predictions
    #[arg(long, value_name = "POINTS", requires = "save_predictions", value_parser = parse_points)]
    query_points: Option<Points>,
    /// Print one JSON object that sums up what was done
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone)]
struct Points(Vec<f32>);

fn parse_mode(s: &str) -> Result<PreprocessMode, String> {
    match s {
        "crop" => Ok(PreprocessMode::Crop),
        "pad" => Ok(PreprocessMode::Pad),
        _ => Err(format!(
            "{s:?} is no way to preprocess; it takes crop or pad"
        )),
    }
}

fn parse_points(s: &str) -> Result<Points, String> {
    let bad = || format!("{s:?} are no points; it takes \"x,y;x,y\"");
    let mut values = Vec::new();
    for point in s.split(';').filter(|p| !p.trim().is_empty()) {
        let (x, y) = point.split_once(',').ok_or_else(bad)?;
        for v in [x, y] {
            let v: f32 = v.trim().parse().map_err(|_| bad())?;
            if !v.is_finite() {
                return Err(bad());
            }
            values.push(v);
        }
    }
    if values.is_empty() {
        return Err(bad());
    }
    Ok(Points(values))
}

/// What the network made, or what was saved of it, and where it came from.
struct Made {
    predictions: Predictions,
    frames: SavedFrames,
    network: Option<Network>,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let start = Instant::now();
    args.model.set_threads()?;
    let options = args.scene.options(args.model.demo);
    options.check().map_err(|e| UsageError(e.to_string()))?;
    let (out, format) = args.output.target(&options)?;
    let destination = args.destination(format)?;
    // Whatever can be missing is looked for before the work that takes time.
    let sky = args.scene.sky_network(&args.model)?;

    let mut bars = StageBars::default();
    let made = match &args.input.from_predictions {
        Some(path) => {
            let (predictions, frames) = load_predictions(path)?;
            Made {
                predictions,
                frames,
                network: None,
            }
        }
        None => args.reconstruct(&mut bars)?,
    };
    let Made {
        predictions,
        frames,
        network,
    } = made;

    let keep = match &sky {
        Some(sky) => Some(sky_mask(sky, &predictions.images, &mut bars)?),
        None => None,
    };
    let scene = scene::build(&predictions, keep.as_deref(), &options)?;
    if scene.nothing_kept {
        tracing::warn!("no point passed the filters: the scene holds one white point");
    }
    let provenance = Provenance::new(
        frames.weights.clone(),
        frames.weights_sha256.clone(),
        scene.frames,
        args.told_options(&options),
    );
    let write_options = WriteOptions {
        format,
        glb: args.output.glb_options(),
        names: &frames.names,
        placements: &frames.placements,
    };
    let files = 1
        + usize::from(args.output.save_predictions.is_some())
        + usize::from(args.output.save_depth.is_some());
    let mut written = 0;
    let mut wrote = |bars: &mut StageBars| {
        written += 1;
        bars.step(Stage::Write, written, files);
    };
    let stored = match &destination {
        Some(to) => Some(store(to, &scene, &provenance, write_options.glb)?),
        None => None,
    };
    let (out, bytes) = match &stored {
        // The file of --out is a second one then.
        Some((row, path)) if args.output.out.is_none() => (path.clone(), row.file_size),
        _ => {
            let bytes = write_scene(&scene, &provenance, &write_options, &out)?;
            (out, bytes)
        }
    };
    wrote(&mut bars);
    if let Some(path) = &args.output.save_predictions {
        save_predictions(path, &predictions, &frames)?;
        wrote(&mut bars);
    }
    if let Some(dir) = &args.output.save_depth {
        save_depth(dir, &predictions, &frames.names)?;
        wrote(&mut bars);
    }
    bars.finish();
    let summary = Summary {
        out: &out,
        stored: stored.as_ref(),
        format,
        bytes,
        scene: &scene,
        predictions: &predictions,
        frames: &frames,
        network: network.as_ref(),
        seconds: start.elapsed(),
    };
    summary.print(args.output.json)
}

/// Stores the GLB where the service would.
fn store(
    to: &Destination,
    scene: &Scene,
    provenance: &Provenance,
    options: GlbOptions,
) -> anyhow::Result<(GlbRow, PathBuf)> {
    to.store(
        |mut out| match glb::write(scene, provenance, options, &mut out) {
            Ok(_) => Ok(()),
            Err(GlbError::Io(e)) => Err(e),
            Err(e) => Err(io::Error::other(e)),
        },
    )
}

impl Args {
    /// Where the service is to find the GLB, looked for before the work that takes time.
    fn destination(&self, format: Format) -> anyhow::Result<Option<Destination>> {
        let video = self.input.video_path.is_some()
            || matches!(&self.inputs[..], [path] if path.is_file() && !is_picture(path));
        let destination = self.save.destination(video)?;
        if destination.is_some() && format != Format::Glb {
            return Err(UsageError(format!(
                "--save_to_db stores GLB files, not {}",
                format.name()
            ))
            .into());
        }
        Ok(destination)
    }

    fn reconstruct(&self, bars: &mut StageBars) -> anyhow::Result<Made> {
        let source = self.source()?;
        if self.model.demo && source != Source::Demo {
            tracing::warn!(
                "the demo weights only know made scenes of boxes, balls and cylinders: on other pictures their answer means nothing"
            );
        }
        let network = self.model.load(&self.model.source()?)?;
        let config = network.config();
        let options = ReadOptions {
            mode: self.input.preprocess,
            img_size: config.img_size,
            patch_size: config.patch_size,
            fps: self.input.fps,
            video_limits: VideoLimits {
                max_duration_s: self.input.max_video_seconds,
                max_pixels: self.input.max_video_pixels,
                max_wall_time: Duration::from_secs(self.input.max_decode_seconds),
            },
            ..ReadOptions::default()
        };
        let ask = |h: usize, w: usize| network.frames_that_fit(h, w).unwrap_or(usize::MAX);
        let limit = match self.input.max_frames {
            Some(n) => FrameLimit::Given(n as usize),
            None => FrameLimit::Fitting(&ask),
        };
        let frames = read_frames(&source, &options, &limit, bars)?;
        let (s, _, height, width) = frames.images.dims4()?;
        tracing::debug!(
            "running the network on {s} frames of {width} x {height}, about {:.1} GB beside the weights",
            network.forward_bytes(s, height, width) as f64 / 1e9
        );
        let forward = ForwardOptions {
            skip_points: false,
            query_points: self.output.query_points(height, width)?,
        };
        let predictions = network.predict(&frames.images, &forward, bars)?;
        Ok(Made {
            predictions,
            frames: SavedFrames {
                names: frames.names,
                placements: frames.placements,
                weights: network.name().to_owned(),
                weights_sha256: network.weights_sha256()?,
            },
            network: Some(network),
        })
    }

    fn source(&self) -> anyhow::Result<Source> {
        let of_path = |path: &PathBuf| -> anyhow::Result<Source> {
            let meta = fs::metadata(path)
                .with_context(|| format!("cannot read \"{}\"", path.display()))?;
            Ok(if meta.is_dir() {
                Source::Folder(path.clone())
            } else if is_picture(path) {
                Source::Pictures(vec![path.clone()])
            } else {
                Source::Video(path.clone())
            })
        };
        match (
            &self.input.video_path,
            &self.input.images_dir,
            &self.inputs[..],
        ) {
            (Some(path), ..) => Ok(Source::Video(path.clone())),
            (_, Some(path), _) => of_path(path),
            (_, _, [path]) => of_path(path),
            (_, _, []) if self.model.demo => Ok(Source::Demo),
            (_, _, []) => Err(UsageError(
                "nothing to reconstruct: give picture files, --images_dir, --video_path or --demo"
                    .to_owned(),
            )
            .into()),
            (_, _, paths) => Ok(Source::Pictures(paths.to_vec())),
        }
    }

    /// The options as the written file tells them.
    fn told_options(&self, scene: &SceneOptions) -> serde_json::Value {
        let mut told = json!(scene);
        told["mask_sky"] = json!(self.scene.mask_sky);
        told["preprocess"] = json!(match self.input.preprocess {
            PreprocessMode::Crop => "crop",
            PreprocessMode::Pad => "pad",
        });
        told
    }
}

impl SceneArgs {
    fn options(&self, demo: bool) -> SceneOptions {
        let defaults = SceneOptions::default();
        // The demo's point head smears objects and its confidence is low on them; see its README.
        let (conf_thres, prediction_mode) = if demo {
            (10.0, PredictionMode::DepthmapAndCamera)
        } else {
            (defaults.conf_thres, defaults.prediction_mode)
        };
        SceneOptions {
            conf_thres: self.conf_thres.unwrap_or(conf_thres),
            prediction_mode: self.prediction_mode.unwrap_or(prediction_mode),
            frame_filter: self.frame_filter,
            mask_black_bg: self.mask_black_bg,
            mask_white_bg: self.mask_white_bg,
            show_cam: self.show_cam,
            max_points: self.max_points.map(|n| n as usize),
        }
    }

    fn sky_network(&self, model: &ModelArgs) -> anyhow::Result<Option<SkyNetwork>> {
        if !self.mask_sky {
            return Ok(None);
        }
        let path = match &self.sky_network {
            Some(path) => path.clone(),
            None => {
                let mut bar = DownloadBar::default();
                let file = Hub::new(model.hub())
                    .and_then(|hub| hub.file(SKY_REPO, SKY_FILE, &mut bar.progress()))
                    .context("--mask_sky needs the sky network")?;
                bar.finish();
                file
            }
        };
        Ok(Some(SkyNetwork::open(&path)?))
    }
}

impl OutputArgs {
    fn glb_options(&self) -> GlbOptions {
        GlbOptions {
            color_space: self.color_space,
            quantized: self.glb == "quantized",
        }
    }

    fn query_points(&self, height: usize, width: usize) -> anyhow::Result<Option<Tensor>> {
        let Some(Points(values)) = &self.query_points else {
            return Ok(None);
        };
        let inside = |p: &[f32]| {
            (0.0..=(width - 1) as f32).contains(&p[0])
                && (0.0..=(height - 1) as f32).contains(&p[1])
        };
        if let Some(p) = values.chunks_exact(2).find(|p| !inside(p)) {
            let why = format!(
                "query point {},{} lies outside of the network's picture of {width} x {height} pixels",
                p[0], p[1]
            );
            return Err(UsageError(why).into());
        }
        Ok(Some(Tensor::from_slice(
            values,
            (values.len() / 2, 2),
            &Device::Cpu,
        )?))
    }

    /// Where to write and as what.
    fn target(&self, scene: &SceneOptions) -> anyhow::Result<(PathBuf, Format)> {
        let ending = |path: &Path| match path.extension()?.to_str()? {
            "glb" => Some(Format::Glb),
            "ply" => Some(Format::Ply),
            _ => None,
        };
        let Some(out) = &self.out else {
            let format = self.format.unwrap_or_default();
            let name = match format {
                Format::Colmap => "scene_colmap".to_owned(),
                _ => format!("scene.{}", format.extension()),
            };
            return Ok((PathBuf::from(name), format));
        };
        let format = self.format.or_else(|| ending(out)).unwrap_or_default();
        let names_folder = out.as_os_str().to_string_lossy().ends_with('/');
        if format == Format::Colmap || !(names_folder || out.is_dir()) {
            return Ok((out.clone(), format));
        }
        fs::create_dir_all(out)
            .with_context(|| format!("cannot make the folder \"{}\"", out.display()))?;
        Ok((out.join(descriptive_name(scene, format)), format))
    }
}

/// A file name that tells the options apart: `scene_pointmap_conf3_frame2_cam.glb`.
fn descriptive_name(scene: &SceneOptions, format: Format) -> String {
    let mut name = match scene.prediction_mode {
        PredictionMode::PointmapRegression => "scene_pointmap".to_owned(),
        PredictionMode::DepthmapAndCamera => "scene_depthmap".to_owned(),
    };
    name += &format!("_conf{}", scene.conf_thres);
    if let FrameFilter::One(frame) = scene.frame_filter {
        name += &format!("_frame{frame}");
    }
    for (set, word) in [
        (scene.mask_black_bg, "_noblack"),
        (scene.mask_white_bg, "_nowhite"),
        (scene.show_cam, "_cam"),
    ] {
        if set {
            name += word;
        }
    }
    format!("{name}.{}", format.extension())
}

/// What was done, for a person or a script.
struct Summary<'a> {
    out: &'a Path,
    stored: Option<&'a (GlbRow, PathBuf)>,
    format: Format,
    bytes: u64,
    scene: &'a Scene,
    predictions: &'a Predictions,
    frames: &'a SavedFrames,
    network: Option<&'a Network>,
    seconds: Duration,
}

impl Summary<'_> {
    fn print(&self, as_json: bool) -> anyhow::Result<()> {
        let (s, _, height, width) = self.predictions.images.dims4()?;
        let points = self.scene.points.len();
        let seconds = self.seconds.as_secs_f64();
        if as_json {
            let mut summary = json!({
                "out": self.out.display().to_string(),
                "format": self.format.name(),
                "bytes": self.bytes,
                "points": points,
                "nothing_kept": self.scene.nothing_kept,
                "frames": s,
                "names": self.frames.names,
                "height": height,
                "width": width,
                "scene_scale": self.scene.scale,
                "weights": self.frames.weights,
                "weights_sha256": self.frames.weights_sha256,
                "device": self.network.map(Network::device_name),
                "dtype": self.network.map(|n| n.dtype().as_str()),
                "seconds": seconds,
            });
            if let Some((row, path)) = self.stored {
                summary["hash"] = json!(row.hashed_name);
                summary["stored"] = json!(path.display().to_string());
            }
            println!("{summary}");
        } else {
            println!(
                "{}: {points} points from {s} frames of {width} x {height}, {:.1} MB, {seconds:.1} s{}",
                self.out.display(),
                self.bytes as f64 / 1e6,
                if self.frames.weights == demo::WEIGHTS_NAME {
                    " (demo weights)"
                } else {
                    ""
                },
            );
            if let Some((row, path)) = self.stored {
                println!("hash: {}", row.hashed_name);
                println!("path: {}", path.display());
            }
        }
        Ok(())
    }
}
