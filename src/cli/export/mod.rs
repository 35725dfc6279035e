//! `vggt export`: images or a video in, a GLB, web page, PLY or COLMAP model out.

mod args;
mod batch;
mod one;
mod outputs;
mod place_flags;
mod preview;
mod refine_flags;
mod remote;
mod resume;
mod scenes;
mod spool;
mod summary;
mod watch;
mod write;

use std::{path::PathBuf, time::Duration};

use serde_json::json;
use vggt_model::demo;

use super::{
    KEYFRAMES_OF_IMAGES, UsageError,
    inputs::{self, Inputs},
    model_args::ModelArgs,
    save_to_db::{Destination, SaveArgs},
};
use crate::{
    frames::{PreprocessMode, SkyNetwork, VideoLimits},
    pipeline::{
        Decoding, Format, KeepRefinement, Masks, Network, ReadOptions, ReconstructOptions,
        SavedFrames, SavedPredictions, Source, Spooling, load_predictions,
    },
    scene::SceneOptions,
    store::JobKind,
};
use args::{InputArgs, ManyFramesArgs, OutputArgs, SceneArgs};
use batch::BatchArgs;
use one::Resident;
use outputs::Plan;
use place_flags::{Known, PlaceArgs};
use refine_flags::RefineFlags;
use remote::RemoteArgs;
use spool::SpoolArgs;

/// What the help says below the options.
const EXAMPLES: &str = "\
Examples:
  vggt export photos/ --out room.html                  a page for any browser
  vggt export photos/ --quality best --out room.glb    points from depth
  vggt export clip.mp4 --format colmap --out model     a COLMAP dataset
  vggt export --each 'scenes/*/' --out out/            many scenes, one after the other

`vggt export --help` lists all options. They may be spelled with underscores too: --conf_thres, --show_cam, ...";

/// Images or a video in; a GLB, web page, PLY or dataset out.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = EXAMPLES,
    // Of use only with --save-to-db.
    mut_args(|arg| match arg.get_id().as_str() {
        "db" | "out_root" | "scratch" => arg.hide_short_help(true),
        _ => arg,
    })
)]
pub(super) struct Args {
    /// Image files, or one folder or video
    #[arg(value_name = "FILE", conflicts_with_all = ["images_dir", "video_path", "from_predictions"])]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    many: ManyFramesArgs,
    #[command(flatten)]
    refine: RefineFlags,
    #[command(flatten)]
    scene: SceneArgs,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    batch: BatchArgs,
    #[command(flatten)]
    remote: RemoteArgs,
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
    if let Some(folder) = &args.batch.watch {
        return watch::run(&args, folder);
    }
    if !args.batch.each.is_empty() {
        return batch::run(&args);
    }
    if let Some(server) = args.remote.server() {
        return remote::export(&args, &server.log_in()?, None);
    }
    one::export(&args, None, None).inspect_err(|_| spool::failed(args.spool.resume.is_some()))
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
    fn input_files(&self, input: &Input, masks: Option<&Masks>) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = match input {
            Input::Frames(source) => source.files(),
            Input::Saved(..) => self.input.from_predictions.iter().cloned().collect(),
        };
        files.extend(masks.map(Masks::files).unwrap_or_default());
        files.extend(self.scene.sky_network.clone());
        files.extend(self.place.cameras.clone());
        files.extend(self.model.files());
        files
    }

    /// Opens the folder of masks.
    fn masks(&self, input: &Input) -> anyhow::Result<Option<Masks>> {
        let pictures = match input {
            Input::Frames(source) if self.scene.masks.is_some() => source.files(),
            _ => Vec::new(),
        };
        self.scene.masks(&pictures, self.input.images.limits())
    }

    fn load_network(&self) -> anyhow::Result<Network> {
        self.model.load(&self.model.source()?)
    }

    /// Returns true when the photos are at hand and the cameras are the network's.
    fn predicts_cameras(&self) -> bool {
        self.input.from_predictions.is_none() && self.place.cameras.is_none()
    }

    fn reconstruct_options<'a>(
        &'a self,
        scene: SceneOptions,
        plan: &Plan,
        (sky, masks, known): (Option<&'a SkyNetwork>, Option<&'a Masks>, &'a Known),
    ) -> anyhow::Result<ReconstructOptions<'a>> {
        Ok(ReconstructOptions {
            read: ReadOptions {
                mode: self.input.preprocess,
                fps: self.input.fps,
                keyframes: self.input.keyframes.map(|n| n as usize),
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
            masks,
            all_heads: self.output.save_predictions.is_some(),
            query_points: self.output.query_points(),
            meters_per_unit: self.scene.meters_per_unit,
            refine: self
                .refine
                .options(plan.has_dataset() && self.predicts_cameras()),
            keep_refinement: KeepRefinement::No,
            placing: self.place.placing(known),
            provenance: self.options_for_provenance(&scene, plan),
            scene: SceneOptions {
                // A dataset and splats choose their points by another rule; every writer thins for itself then.
                max_points: scene.max_points.filter(|_| !plan.chooses_by_confidence()),
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
        let source = self.given_source()?;
        if self.input.keyframes.is_some() && !matches!(source, Source::Video(_)) {
            return Err(UsageError(KEYFRAMES_OF_IMAGES.to_owned()).into());
        }
        Ok(source)
    }

    fn given_source(&self) -> anyhow::Result<Source> {
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
        if let Some(scale) = self.scene.meters_per_unit {
            options["meters_per_unit"] = json!(scale);
        }
        self.place.record(&mut options);
        options["mask_sky"] = json!(self.scene.mask_sky);
        if self.scene.masks.is_some() {
            options["masks"] = json!(true);
        }
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
