//! `vggt export`: pictures or a video in, a GLB, a page, a PLY or COLMAP model out.

mod args;
mod summary;

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::json;
use vggt_model::{ForwardOptions, Predictions, demo};

use super::{
    UsageError,
    model_args::ModelArgs,
    save_to_db::{Destination, SaveArgs},
    terminal::StageBars,
};
use crate::{
    frames::{PreprocessMode, VideoLimits, is_picture},
    glb::{self, GlbOptions},
    pipeline::{
        Format, FrameLimit, Network, ReadOptions, SavedFrames, Source, Stage, Watcher,
        WriteOptions, load_predictions, predict_what_fits, read_frames, save_depth,
        save_predictions, sky_mask, write_scene,
    },
    scene::{self, FrameFilter, PredictionMode, Provenance, Scene, SceneOptions},
    store::{GlbRow, JobKind},
};
use args::{InputArgs, OutputArgs, SceneArgs};
use summary::Summary;

/// Flags may be spelled with underscores too, as in the older script: --conf_thres, --show_cam, ...
#[derive(Debug, clap::Args)]
#[command(after_help = "Flags may be spelled with underscores too: --conf_thres, --show_cam, ...")]
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

/// What is exported: frames to reconstruct, or what was made of them before.
enum Input {
    Frames(Source),
    Saved(Box<Predictions>, SavedFrames),
}

impl Input {
    fn is_of_demo(&self) -> bool {
        matches!(self, Self::Saved(_, frames) if frames.weights == demo::WEIGHTS_NAME)
    }
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
    let input = args.input()?;
    let options = args.scene.options(args.model.demo || input.is_of_demo());
    options.check().map_err(|e| UsageError(e.to_string()))?;
    let (out, format) = args.output.target(&options, args.scene.mask_sky)?;
    let destination = args.destination(&input, format)?;
    // Whatever can be missing is looked for before the work that takes time.
    args.output.check_folders(&out, format)?;
    let sky = args.scene.sky_network(&args.model)?;

    if options.show_cam && !format.holds_glb() {
        tracing::warn!(
            "--show_cam is for GLB and HTML: {} holds no shapes of cameras",
            format.name()
        );
    }

    let mut bars = StageBars::default();
    let made = match input {
        Input::Saved(predictions, frames) => Made {
            predictions: *predictions,
            frames,
            network: None,
        },
        Input::Frames(source) => args.reconstruct(&source, &options, &mut bars)?,
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
        args.told_options(&options, format),
    )
    .of(frames.given);
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
    to.store(|mut out| {
        glb::write(scene, provenance, options, &mut out)?;
        Ok(())
    })
}

impl Args {
    /// Where the service is to find the GLB, looked for before the work that takes time.
    fn destination(&self, input: &Input, format: Format) -> anyhow::Result<Option<Destination>> {
        let kind = match input {
            Input::Frames(Source::Video(_)) => JobKind::Video,
            _ => JobKind::Images,
        };
        let destination = self.save.destination(kind)?;
        if destination.is_some() && format != Format::Glb {
            return Err(UsageError(format!(
                "--save_to_db stores GLB files, not {}",
                format.name()
            ))
            .into());
        }
        Ok(destination)
    }

    fn reconstruct(
        &self,
        source: &Source,
        scene: &SceneOptions,
        bars: &mut StageBars,
    ) -> anyhow::Result<Made> {
        if self.model.demo && *source != Source::Demo {
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
        let frames = read_frames(source, &options, &limit, bars)?;
        let (s, _, height, width) = frames.images.dims4()?;
        scene.frame_filter.shown(s)?;
        tracing::debug!(
            "running the network on {s} frames of {width} x {height}, about {:.1} GB beside the weights",
            network.forward_bytes(s, height, width) as f64 / 1e9
        );
        let forward = ForwardOptions {
            // Nobody would see the point head's answer.
            skip_points: scene.prediction_mode == PredictionMode::DepthmapAndCamera
                && self.output.save_predictions.is_none(),
            query_points: self.output.query_points(height, width)?,
        };
        let (frames, predictions) = match scene.frame_filter {
            FrameFilter::All => predict_what_fits(&network, frames, &forward, bars)?,
            // Among fewer frames the number would stand for another one.
            FrameFilter::One(_) => {
                let predictions = network.predict(&frames.images, &forward, bars)?;
                (frames, predictions)
            }
        };
        Ok(Made {
            predictions,
            frames: SavedFrames {
                names: frames.names,
                placements: frames.placements,
                given: Some(frames.given),
                weights: network.name().to_owned(),
                weights_sha256: network.weights_sha256()?,
            },
            network: Some(network),
        })
    }

    fn input(&self) -> anyhow::Result<Input> {
        match &self.input.from_predictions {
            Some(path) => {
                let (predictions, frames) = load_predictions(path)?;
                Ok(Input::Saved(Box::new(predictions), frames))
            }
            None => Ok(Input::Frames(self.source()?)),
        }
    }

    fn source(&self) -> anyhow::Result<Source> {
        let of_path = |path: &PathBuf| -> anyhow::Result<Source> {
            let meta = fs::metadata(path)
                .with_context(|| format!("cannot read \"{}\"", path.display()))?;
            Ok(if meta.is_dir() {
                Source::Folder(path.clone())
            } else if is_picture(path) || image::ImageFormat::from_path(path).is_ok() {
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
    fn told_options(&self, scene: &SceneOptions, format: Format) -> serde_json::Value {
        let mut told = json!(scene);
        told["mask_sky"] = json!(self.scene.mask_sky);
        if format.holds_glb() {
            told["color_space"] = json!(self.output.color_space.to_string());
        }
        told["preprocess"] = json!(match self.input.preprocess {
            PreprocessMode::Crop => "crop",
            PreprocessMode::Pad => "pad",
        });
        told
    }
}
