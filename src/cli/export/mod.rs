//! `vggt export`: images or a video in, a GLB, web page, PLY or COLMAP model out.

mod args;
mod summary;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::json;
use vggt_model::{Predictions, demo};

use super::{
    UsageError,
    inputs::{self, Inputs},
    model_args::ModelArgs,
    save_to_db::{Destination, SaveArgs},
    terminal::StageBars,
};
use crate::{
    frames::{PreprocessMode, SkyNetwork, VideoLimits},
    glb::{self, GlbOptions},
    pipeline::{
        Format, Network, PipelineError, ReadOptions, ReconstructOptions, Reconstruction,
        SavedFrames, Source, Stage, Watcher, WriteOptions, load_predictions, rebuild, reconstruct,
        save_depth, save_predictions, write_scene,
    },
    scene::{Provenance, Scene, SceneOptions},
    store::{GlbFile, JobKind},
};
use args::{InputArgs, OutputArgs, SceneArgs};
use summary::Summary;

/// Flags may be spelled with underscores too, as in the older script: --conf_thres, --show_cam, ...
#[derive(Debug, clap::Args)]
#[command(after_help = "Flags may be spelled with underscores too: --conf_thres, --show_cam, ...")]
pub(super) struct Args {
    /// Image files, or one folder or video
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

/// Input of an export: frames to reconstruct, or saved predictions.
enum Input {
    Frames(Source),
    Saved(Box<Predictions>, SavedFrames),
}

impl Input {
    fn is_of_demo(&self) -> bool {
        matches!(self, Self::Saved(_, frames) if frames.weights == demo::WEIGHTS_NAME)
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let start = Instant::now();
    args.model.set_threads()?;
    let input = args.input()?;
    let options = args.scene.options(args.model.demo || input.is_of_demo())?;
    let (out, format) = args.output.target(&options, args.scene.mask_sky)?;
    let destination = args.destination(&input, format)?;
    // Fails on missing folders and files before the long computation.
    args.output.check_folders(&out, format)?;
    let sky = args.scene.sky_network(&args.model)?;

    if options.show_cam && !format.holds_glb() {
        tracing::warn!(
            "--show_cam is for GLB and HTML: {} holds no shapes of cameras",
            format.name()
        );
    }

    let mut bars = StageBars::default();
    let reconstruct_options = args.reconstruct_options(options, format, sky.as_ref());
    let (network, made) = match input {
        Input::Saved(predictions, frames) => {
            let made = rebuild(*predictions, frames, &reconstruct_options, &mut bars)?;
            (None, made)
        }
        Input::Frames(source) => {
            let network = args.load_network(&source)?;
            if args.output.save_depth.is_some() {
                network.check_depth_head("--save_depth")?;
            }
            let made = reconstruct(&network, &source, &reconstruct_options, &mut bars);
            (Some(network), made.map_err(usage_error)?)
        }
    };
    let Reconstruction {
        frames,
        predictions,
        scene,
        provenance,
    } = &made;
    if scene.nothing_kept {
        tracing::warn!("no point passed the filters: the scene holds one white point");
    }
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
    let mut step_done = |bars: &mut StageBars| {
        written += 1;
        bars.step(Stage::Write, written, files);
    };
    let stored = match &destination {
        Some(to) => Some(store(to, scene, provenance, write_options.glb)?),
        None => None,
    };
    let (out, bytes) = match &stored {
        // --out asks for a second file.
        Some((row, path)) if args.output.out.is_none() => (path.clone(), row.file_size),
        _ => {
            let bytes = write_scene(scene, provenance, &write_options, &out)?;
            (out, bytes)
        }
    };
    step_done(&mut bars);
    if let Some(path) = &args.output.save_predictions {
        save_predictions(path, predictions, frames)?;
        step_done(&mut bars);
    }
    if let Some(dir) = &args.output.save_depth {
        save_depth(dir, &made.predicted_frames()?, &frames.names)?;
        step_done(&mut bars);
    }
    bars.finish();
    let summary = Summary {
        out: &out,
        stored: stored.as_ref(),
        format,
        bytes,
        scene,
        predictions,
        frames,
        network: network.as_ref(),
        skipped: bars.skipped(),
        seconds: start.elapsed(),
    };
    summary.print(args.output.json)
}

/// Marks errors that a change of the arguments fixes.
fn usage_error(e: PipelineError) -> anyhow::Error {
    match e {
        PipelineError::QueryPoint { .. } => UsageError(e.to_string()).into(),
        e => e.into(),
    }
}

/// Stores the GLB where the service would.
fn store(
    to: &Destination,
    scene: &Scene,
    provenance: &Provenance,
    options: GlbOptions,
) -> anyhow::Result<(GlbFile, PathBuf)> {
    to.store(|mut out| {
        glb::write(scene, provenance, options, &mut out)?;
        Ok(())
    })
}

impl Args {
    /// Opens the service's store; runs before the long computation, so that errors come early.
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

    fn load_network(&self, source: &Source) -> anyhow::Result<Network> {
        if self.model.demo && *source != Source::Demo {
            tracing::warn!(
                "the demo weights only know synthetic scenes of boxes, balls and cylinders: results on other images are meaningless"
            );
        }
        self.model.load(&self.model.source()?)
    }

    fn reconstruct_options<'a>(
        &self,
        scene: SceneOptions,
        format: Format,
        sky: Option<&'a SkyNetwork>,
    ) -> ReconstructOptions<'a> {
        ReconstructOptions {
            read: ReadOptions {
                mode: self.input.preprocess,
                fps: self.input.fps,
                image_limits: self.input.images.limits(),
                video_limits: VideoLimits {
                    max_duration_s: self.input.max_video_seconds,
                    max_pixels: self.input.max_video_pixels,
                    max_wall_time: Duration::from_secs(self.input.max_decode_seconds),
                },
            },
            max_frames: self.input.max_frames.map(|n| n as usize),
            // An explicit number is tried even if it is estimated not to fit.
            fit_memory: self.input.max_frames.is_none(),
            sky,
            all_heads: self.output.save_predictions.is_some(),
            query_points: self.output.query_points(),
            provenance: self.options_for_provenance(&scene, format),
            scene,
        }
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
        let of_paths = |paths: &[PathBuf]| -> anyhow::Result<Source> {
            Ok(match inputs::sort(paths)? {
                Inputs::Images(paths) => Source::Images(paths),
                Inputs::Folder(path) => Source::Folder(path),
                Inputs::Video(path) => Source::Video(path),
            })
        };
        match (
            &self.input.video_path,
            &self.input.images_dir,
            &self.inputs[..],
        ) {
            (Some(path), ..) => Ok(Source::Video(path.clone())),
            (_, Some(path), _) => of_paths(std::slice::from_ref(path)),
            (_, _, []) if self.model.demo => Ok(Source::Demo),
            (_, _, []) => Err(UsageError(
                "nothing to reconstruct: give image files, --images_dir, --video_path or --demo"
                    .to_owned(),
            )
            .into()),
            (_, _, paths) => of_paths(paths),
        }
    }

    /// Returns the options as the written file records them.
    fn options_for_provenance(&self, scene: &SceneOptions, format: Format) -> serde_json::Value {
        let mut options = json!(scene);
        options["mask_sky"] = json!(self.scene.mask_sky);
        if format.holds_glb() {
            options["color_space"] = json!(self.output.color_space.to_string());
        }
        options["preprocess"] = json!(match self.input.preprocess {
            PreprocessMode::Crop => "crop",
            PreprocessMode::Pad => "pad",
        });
        options
    }
}
