//! `vggt export`: images or a video in, a GLB, web page, PLY or COLMAP model out.

mod args;
mod outputs;
mod preview;
mod resume;
mod spool;
mod summary;
mod write;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::json;
use vggt_model::demo;

use super::{
    UsageError,
    inputs::{self, Inputs},
    model_args::ModelArgs,
    output_error,
    save_to_db::{Destination, SaveArgs},
    terminal::StageBars,
};
use crate::{
    frames::{PreprocessMode, SkyNetwork, VideoLimits},
    glb::{self, GlbOptions},
    pipeline::{
        Decoded, Decoding, Format, Network, PipelineError, ReadOptions, ReconstructOptions,
        Reconstruction, SavedFrames, SavedPredictions, ShowPreview, Source, Spooling,
        load_predictions, rebuild, reconstruct,
    },
    scene::{PredictedFrames, Provenance, Scene, SceneOptions},
    store::{GlbFile, JobKind},
};
use args::{InputArgs, ManyFramesArgs, OutputArgs, SceneArgs};
use outputs::Plan;
use spool::SpoolArgs;
use summary::Summary;
use write::{Writer, WrittenScene, tell_thinned};

/// What the help says below the options.
const EXAMPLES: &str = "\
Examples:
  vggt export photos/ --out room.html                  a page for any browser
  vggt export photos/ --quality best --out room.glb    points from depth
  vggt export clip.mp4 --format colmap --out model     a COLMAP dataset

`vggt export --help` lists all options. They may be spelled with underscores too: --conf_thres, --show_cam, ...";

/// Images or a video in; a GLB, web page, PLY or dataset out.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Image files, or one folder or video
    #[arg(value_name = "FILE", conflicts_with_all = ["images_dir", "video_path", "from_predictions"])]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    many: ManyFramesArgs,
    #[command(flatten)]
    scene: SceneArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    spool: SpoolArgs,
    #[command(flatten)]
    save: SaveArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// Frames that are taken unless another number is asked for: an hour and a half of walking at one frame a second.
const MAX_FRAMES: usize = 5000;

/// Input of an export: frames to reconstruct, or saved predictions.
enum Input {
    Frames(Source),
    Saved(Box<SavedPredictions>, SavedFrames),
}

impl Input {
    fn is_of_demo(&self) -> bool {
        matches!(self, Self::Saved(_, frames) if frames.weights == demo::WEIGHTS_NAME)
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let args = match &args.spool.resume {
        Some(folder) => resume::arguments(folder)?,
        None => args,
    };
    export(&args).inspect_err(|_| spool::failed(args.spool.resume.is_some()))
}

fn export(args: &Args) -> anyhow::Result<()> {
    let start = Instant::now();
    args.model.set_threads()?;
    let input = args.input()?;
    let options = args.scene.options(args.model.demo || input.is_of_demo())?;
    // Fails on what cannot be read or written before the long computation.
    let plan = Plan::new(
        &args.output,
        &options,
        args.scene.mask_sky,
        (&args.input_files(&input), args.many.preview.as_deref()),
    )?;
    let destination = args.destination(&input, &plan)?;
    let sky = args.scene.sky_network(&args.model)?;
    warn_of_cameras(&options, &plan);

    let mut bars = StageBars::default();
    let source = match &input {
        Input::Frames(source) => Some(source.clone()),
        Input::Saved(..) => None,
    };
    let check_frames = |frames: &Decoded| {
        let size = (frames.height, frames.width);
        Ok(plan.check_frames(source.as_ref(), &frames.names, size)?)
    };
    let cache = args.spool.cache();
    let spooling = match &source {
        Some(source) => Spooling {
            place: args.spool.place(&plan, source),
            // Who asks to go on gets what is there.
            cache: cache.as_ref().filter(|_| args.spool.resume.is_none()),
            claimed: Some(&spool::claimed),
        },
        None => Spooling::default(),
    };
    let show = |scene: &Scene, frames: &dyn PredictedFrames, provenance: &Provenance| {
        preview::write(
            &plan,
            (scene, frames, provenance),
            args.output.glb_options(),
        )
    };
    let reconstruct_options = ReconstructOptions {
        preview: plan.preview.as_ref().map(|_| &show as &ShowPreview<'_>),
        before_network: Some(&check_frames),
        spooling,
        ..args.reconstruct_options(options, &plan, sky.as_ref())?
    };
    let (network, made) = match input {
        Input::Saved(predictions, frames) => {
            plan.check_frames(None, &frames.names, predictions.size())?;
            let made = rebuild(predictions, frames, &reconstruct_options, &mut bars)?;
            (None, made)
        }
        Input::Frames(source) => {
            let network = args.load_network()?;
            if args.output.save_depth.is_some() {
                network.check_depth_head("--save-depth")?;
            }
            let made = reconstruct(&network, &source, &reconstruct_options, &mut bars);
            (Some(network), made.map_err(usage_error)?)
        }
    };
    if made.scene.nothing_kept {
        tracing::warn!("no point passed the filters: the scene holds one white point");
    }
    let (stored, points) = match &destination {
        Some(to) => {
            let (row, path, points) = store(to, &made, args.output.glb_options())?;
            (Some((row, path)), points)
        }
        None => (None, 0),
    };
    let writer = Writer {
        plan: &plan,
        made: &made,
        source: source.as_ref(),
        read: &reconstruct_options.read,
        glb: args.output.glb_options(),
        max_points: args.scene.max_points(),
    };
    // With --save-to-db, --out asks for a second file.
    let skip_scenes = stored.is_some() && args.output.out.is_empty();
    let mut outputs = writer.write(skip_scenes, &mut bars)?;
    if let (true, Some((row, path))) = (skip_scenes, &stored) {
        outputs.push(WrittenScene {
            path: path.clone(),
            format: Format::Glb,
            bytes: row.file_size,
            points,
        });
    }
    spool::finished(made.spooled.as_ref(), cache.as_ref());
    bars.finish();
    let summary = Summary {
        outputs: &outputs,
        stored: stored.as_ref(),
        made: &made,
        network: network.as_ref(),
        skipped: bars.skipped(),
        seconds: start.elapsed(),
    };
    summary.print(args.output.json, plan.uses_standard_output())
}

fn warn_of_cameras(options: &SceneOptions, plan: &Plan) {
    let holds_none = plan.scenes.iter().find(|scene| !scene.format.holds_glb());
    if let Some(scene) = holds_none.filter(|_| options.show_cam) {
        tracing::warn!(
            "--show-cam is for GLB and HTML: {} holds no shapes of cameras",
            scene.format.name()
        );
    }
}

/// Marks errors that a change of the arguments fixes.
fn usage_error(e: PipelineError) -> anyhow::Error {
    match e {
        PipelineError::QueryPoint { .. } | PipelineError::Attention(_) => {
            UsageError(e.to_string()).into()
        }
        PipelineError::Output(e) => output_error(e),
        e => e.into(),
    }
}

/// Stores the GLB where the service would; also returns the number of points in it.
fn store(
    to: &Destination,
    made: &Reconstruction,
    options: GlbOptions,
) -> anyhow::Result<(GlbFile, PathBuf, usize)> {
    let mut written = None;
    let (row, path) = to.store(|mut out| {
        let (scene, frames) = (&made.scene, &*made.predictions);
        written = Some(glb::write(
            scene,
            frames,
            &made.provenance,
            options,
            &mut out,
        )?);
        Ok(())
    })?;
    let points = written.map_or(0, |written| written.points);
    if let Some(thinned) = written.and_then(|written| written.thinned) {
        tell_thinned(&path, points, thinned);
    }
    Ok((row, path, points))
}

impl Args {
    /// Opens the service's store; runs before the long computation, so that errors come early.
    fn destination(&self, input: &Input, plan: &Plan) -> anyhow::Result<Option<Destination>> {
        let kind = match input {
            Input::Frames(Source::Video(_)) => JobKind::Video,
            _ => JobKind::Images,
        };
        let destination = self.save.destination(kind)?;
        let other = plan.scenes.iter().find(|scene| scene.format != Format::Glb);
        if let Some(scene) = other.filter(|_| destination.is_some()) {
            return Err(UsageError(format!(
                "--save-to-db stores GLB files, not {}",
                scene.format.name()
            ))
            .into());
        }
        Ok(destination)
    }

    /// Returns the files that are read, which no output may replace.
    fn input_files(&self, input: &Input) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = match input {
            Input::Frames(source) => source.files(),
            Input::Saved(..) => self.input.from_predictions.iter().cloned().collect(),
        };
        files.extend(self.scene.sky_network.clone());
        files.extend(self.model.files());
        files
    }

    fn load_network(&self) -> anyhow::Result<Network> {
        self.model.load(&self.model.source()?)
    }

    fn reconstruct_options<'a>(
        &self,
        scene: SceneOptions,
        plan: &Plan,
        sky: Option<&'a SkyNetwork>,
    ) -> anyhow::Result<ReconstructOptions<'a>> {
        Ok(ReconstructOptions {
            read: ReadOptions {
                mode: self.input.preprocess,
                fps: self.input.fps,
                image_limits: self.input.images.limits(),
                video_limits: VideoLimits {
                    max_duration_s: self.input.max_video_seconds,
                    max_pixels: self.input.max_video_pixels,
                    max_wall_time: Duration::from_secs(self.input.max_decode_seconds),
                    max_memory: self.input.decode.max_memory(),
                },
                decoding: match self.input.isolate {
                    true => self.input.decode.isolated_once()?,
                    false => Decoding::Here,
                },
                max_time: Duration::from_secs(self.input.max_decode_seconds),
            },
            max_frames: Some(self.input.max_frames.map_or(MAX_FRAMES, |n| n as usize)),
            // An explicit number is tried even if it is estimated not to fit.
            fit_memory: self.input.max_frames.is_none(),
            attention: self.many.attention.options()?,
            sky,
            all_heads: self.output.save_predictions.is_some(),
            query_points: self.output.query_points(),
            provenance: self.options_for_provenance(&scene, plan),
            scene: SceneOptions {
                // A dataset chooses its points by another rule; every writer thins for itself then.
                max_points: scene.max_points.filter(|_| !plan.has_dataset()),
                ..scene
            },
            before_network: None,
            preview: None,
            spooling: Spooling::default(),
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
                "nothing to reconstruct: give image files, --images-dir, --video-path or --demo"
                    .to_owned(),
            )
            .into()),
            (_, _, paths) => of_paths(paths),
        }
    }

    /// Returns the options as the written file records them.
    fn options_for_provenance(&self, scene: &SceneOptions, plan: &Plan) -> serde_json::Value {
        let mut options = json!(scene);
        let given = json!(self.many.attention);
        for (name, value) in given.as_object().into_iter().flatten() {
            options[name] = value.clone();
        }
        options["mask_sky"] = json!(self.scene.mask_sky);
        if plan.scenes.iter().any(|scene| scene.format.holds_glb()) {
            options["color_space"] = json!(self.output.color_space.to_string());
        }
        options["preprocess"] = json!(match self.input.preprocess {
            PreprocessMode::Crop => "crop",
            PreprocessMode::Pad => "pad",
        });
        options
    }
}
