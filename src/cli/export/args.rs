//! Arguments of `vggt export`, and what follows from them.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Map, Value};

use crate::{
    cli::{
        UsageError,
        attention_flags::AttentionFlags,
        choices::choices,
        decode_flags::DecodeFlags,
        fetch::DownloadBar,
        image_flags::{ImageFlags, parse_seconds},
        model_args::ModelArgs,
        output_error,
        scene_flags::SceneFlags,
        view::BrowserArgs,
    },
    frames::{ImageLimits, PreprocessMode, SkyNetwork, VideoLimits},
    glb::{ColorSpace, GlbEncoding, GlbOptions, Orientation},
    hub::Hub,
    output::{Place, extension, place},
    pipeline::{Format, METERS_PER_UNIT, Masks},
    ply::PlyKind,
    scene::{self, FrameFilter, PredictionMode, SceneError, SceneOptions},
    trajectory::TrajectoryFormat,
};

/// The sky network of the Python demo.
const SKY_REPO: &str = "JianyuanWang/skyseg";
const SKY_FILE: &str = "skyseg.onnx";

/// Endings of trajectories.
pub(super) const TRAJECTORY_ENDINGS: [&str; 3] = ["txt", "tum", "kitti"];

/// Input.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Input")]
pub(super) struct InputArgs {
    /// A folder of images, in natural order of their names, or a video file
    #[arg(long, value_name = "DIR", conflicts_with_all = ["video_path", "from_predictions"], hide_short_help = true)]
    pub(super) images_dir: Option<PathBuf>,
    /// A video file
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "from_predictions",
        hide_short_help = true
    )]
    pub(super) video_path: Option<PathBuf>,
    /// Saved predictions: export again without running the network
    #[arg(long, value_name = "FILE", conflicts_with_all = ["demo", "checkpoint", "save_predictions", "query_points"],
        hide_short_help = true)]
    pub(super) from_predictions: Option<PathBuf>,
    /// Frames to take from each second of a video
    #[arg(long, default_value_t = 1.0, value_parser = parse_rate, allow_negative_numbers = true)]
    pub(super) fps: f64,
    /// Take this many frames of a video instead: the sharpest and most different (decodes it twice)
    #[arg(long, value_name = "N", conflicts_with_all = ["fps", "from_predictions"],
        value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    pub(super) keyframes: Option<u32>,
    /// Take at most this many frames, evenly [default: 5000, and with --attention dense as many as fit into memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true,
        hide_short_help = true)]
    pub(super) max_frames: Option<u32>,
    /// How images are resized for the network: crop, or pad to a square
    #[arg(long, default_value = "crop", value_name = "HOW", value_parser = choices(&["crop", "pad"], parse_mode))]
    pub(super) preprocess: PreprocessMode,
    #[command(flatten)]
    pub(super) images: ImageFlags,
    /// Refuse videos longer than this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = VideoLimits::default().max_duration_s,
        value_parser = parse_seconds, allow_negative_numbers = true, hide_short_help = true)]
    pub(super) max_video_seconds: f64,
    /// Refuse videos with more pixels in a frame
    #[arg(long, value_name = "N", default_value_t = VideoLimits::default().max_pixels,
        value_parser = clap::value_parser!(u64).range(1..), allow_negative_numbers = true, hide_short_help = true)]
    pub(super) max_video_pixels: u64,
    /// Stop decoding after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = VideoLimits::default().max_wall_time.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..), allow_negative_numbers = true, hide_short_help = true)]
    pub(super) max_decode_seconds: u64,
    #[command(flatten)]
    pub(super) decode: DecodeFlags,
    /// Decode in a process of its own that can do nothing else, as the service does: for files of strangers
    #[arg(long, hide_short_help = true)]
    pub(super) isolate: bool,
}

/// Many frames.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Many frames")]
pub(super) struct ManyFramesArgs {
    #[command(flatten)]
    pub(super) attention: AttentionFlags,
    /// Write the anchors' scene to this GLB as soon as they are computed
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(super) preview: Option<PathBuf>,
}

/// What the scene shows.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Scene")]
pub(super) struct SceneArgs {
    #[command(flatten)]
    flags: SceneFlags,
    /// All frames, or the index of one, as in "3" or "3: name.png"
    #[arg(
        long,
        value_name = "FRAME",
        default_value = "All",
        hide_short_help = true
    )]
    pub(super) frame_filter: FrameFilter,
    /// How many meters a unit of the network's result is, as the viewer tells it once a length was measured: every output is in
    /// meters then [default: not known, lengths are relative]
    #[arg(long, value_name = "X", value_parser = parse_scale, allow_negative_numbers = true, hide_short_help = true)]
    pub(super) meters_per_unit: Option<f64>,
    /// Drop points that are sky (downloads a small network once)
    #[arg(long)]
    pub(super) mask_sky: bool,
    /// A folder with a mask for each picture: white keeps points, black (0) drops them, as in COLMAP. Of NAME.jpg it is NAME_mask.png,
    /// NAME.mask.png, mask_NAME.png, NAME.jpg.png or NAME.png, upright, with the proportions of the picture
    #[arg(long, value_name = "DIR", conflicts_with = "isolate")]
    pub(super) masks: Option<PathBuf>,
    /// The sky network, an ONNX file [default: skyseg.onnx from the hub's JianyuanWang/skyseg]
    #[arg(
        long,
        value_name = "FILE",
        requires = "mask_sky",
        hide_short_help = true
    )]
    pub(super) sky_network: Option<PathBuf>,
}

/// Output.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArgs {
    /// A file (.glb, .html, .ply), a folder, in which the file name lists the options, or - for standard output; may be
    /// given several times [default: scene.glb]
    #[arg(long, short, value_name = "PATH")]
    pub(super) out: Vec<PathBuf>,
    /// What is written: html is a page that shows the points in any browser; colmap and nerfstudio are datasets in a folder
    /// [default: by the ending of --out, else glb]
    #[arg(long, value_parser = choices(&["glb", "html", "ply", "colmap", "nerfstudio"], |s| s.parse::<Format>()))]
    pub(super) format: Option<Format>,
    /// Replace existing files that vggt did not write; inputs are never replaced
    #[arg(long, hide_short_help = true)]
    pub(super) overwrite: bool,
    /// GLB positions as F32 (plain) or as 16-bit integers (quantized)
    #[arg(
        long,
        value_name = "KIND",
        value_enum,
        default_value_t,
        hide_short_help = true
    )]
    pub(super) glb: GlbEncoding,
    /// PLY with all points, or with Gaussians to begin the training of splats with; a dataset then also has them, as init.ply
    #[arg(
        long,
        value_name = "KIND",
        value_enum,
        default_value_t,
        hide_short_help = true
    )]
    pub(super) ply: PlyKind,
    /// GLB colors: linear, which viewers show as in the image, or srgb, the bytes of the image as the older service wrote them
    #[arg(long, default_value = "linear", value_name = "SPACE", hide_short_help = true,
        value_parser = choices(&["linear", "srgb"], |s| s.parse::<ColorSpace>().map_err(|e| e.to_string())))]
    pub(super) color_space: ColorSpace,
    /// Which way a GLB faces; a page finds the first photo itself
    #[arg(
        long,
        value_name = "WHICH",
        value_enum,
        default_value_t,
        hide_short_help = true
    )]
    pub(super) orient: Orientation,
    /// Also save everything the network predicted
    #[arg(long, value_name = "FILE.safetensors")]
    pub(super) save_predictions: Option<PathBuf>,
    /// Also write a 16-bit and a color image of each depth map into this folder
    #[arg(long, value_name = "DIR")]
    pub(super) save_depth: Option<PathBuf>,
    /// Also write the poses of the cameras as a trajectory (.txt, .tum, .kitti), as evo reads it
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(super) save_trajectory: Option<PathBuf>,
    /// Format of the trajectory [default: kitti for .kitti, else tum]
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        requires = "save_trajectory",
        hide_short_help = true
    )]
    pub(super) trajectory_format: Option<TrajectoryFormat>,
    /// Track these points of the first frame, "x,y;x,y" in pixels of the network's input; needs --save-predictions, and weights
    /// with a track head: facebook/VGGT-1B has one, facebook/VGGT-1B-Commercial and --demo have none
    #[arg(long, value_name = "POINTS", requires = "save_predictions", value_parser = parse_points, hide_short_help = true)]
    pub(super) query_points: Option<Points>,
    /// Then show the scene in the browser, as `vggt view` does; ends when the tab is closed
    #[arg(long)]
    pub(super) open: bool,
    #[command(flatten)]
    pub(super) browser: BrowserArgs,
    /// Print the summary as one JSON object; `--json full` adds cameras: poses and intrinsics
    #[arg(
        long,
        value_name = "DETAIL",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "summary",
        overrides_with = "json"
    )]
    pub(super) json: Option<JsonDetail>,
}

/// What `--json` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum JsonDetail {
    /// Files, counts and sizes.
    Summary,
    /// Also the cameras.
    Full,
}

#[derive(Debug, Clone)]
pub(super) struct Points(Vec<[f32; 2]>);

fn parse_mode(s: &str) -> Result<PreprocessMode, String> {
    match s {
        "crop" => Ok(PreprocessMode::Crop),
        "pad" => Ok(PreprocessMode::Pad),
        _ => Err(format!("invalid mode {s:?}: expected crop or pad")),
    }
}

fn parse_rate(s: &str) -> Result<f64, String> {
    match s.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(rate),
        _ => Err(format!("invalid rate {s:?}: expected a number above 0")),
    }
}

fn parse_scale(s: &str) -> Result<f64, String> {
    match s.parse::<f64>() {
        Ok(scale) if METERS_PER_UNIT.contains(&scale) => Ok(scale),
        _ => Err(format!(
            "invalid scale {s:?}: expected a number from 1e-6 to 1e6"
        )),
    }
}

fn parse_points(s: &str) -> Result<Points, String> {
    let bad = || format!("invalid points {s:?}: expected \"x,y;x,y\"");
    let coordinate = |text: &str| match text.trim().parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(bad()),
    };
    let mut points = Vec::new();
    for point in s.split(';').filter(|p| !p.trim().is_empty()) {
        let (x, y) = point.split_once(',').ok_or_else(bad)?;
        points.push([coordinate(x)?, coordinate(y)?]);
    }
    if points.is_empty() {
        return Err(bad());
    }
    Ok(Points(points))
}

impl SceneArgs {
    /// Returns the options: the flags, and for the rest the defaults, those of the demo weights where `demo`.
    pub(super) fn options(&self, demo: bool) -> anyhow::Result<SceneOptions> {
        let defaults = SceneOptions {
            frame_filter: self.frame_filter,
            ..match demo {
                true => SceneOptions::of_demo(),
                false => SceneOptions::default(),
            }
        };
        let usage = |e: SceneError| UsageError(e.to_string());
        let options = scene::with_fields(&defaults, &self.flags.given()?).map_err(usage)?;
        options.check().map_err(usage)?;
        Ok(options)
    }

    /// Returns the options that were given, by name, for a server, which has defaults of its own.
    pub(super) fn given(&self) -> anyhow::Result<Map<String, Value>> {
        let mut given = self.flags.given()?;
        if self.mask_sky {
            given.insert("mask_sky".to_owned(), true.into());
        }
        Ok(given)
    }

    /// Returns `--max-points`.
    pub(super) fn max_points(&self) -> Option<usize> {
        self.flags.max_points()
    }

    /// Opens the folder of `--masks`; `pictures` are no masks.
    pub(super) fn masks(
        &self,
        pictures: &[PathBuf],
        limits: ImageLimits,
    ) -> anyhow::Result<Option<Masks>> {
        let masks = self.masks.as_ref();
        let masks = masks.map(|folder| Masks::open(folder, pictures, limits));
        Ok(masks.transpose()?)
    }

    pub(super) fn sky_network(&self, model: &ModelArgs) -> anyhow::Result<Option<SkyNetwork>> {
        if !self.mask_sky {
            return Ok(None);
        }
        let path = match &self.sky_network {
            Some(path) => path.clone(),
            None => {
                let mut bar = DownloadBar::default();
                let file = Hub::new(model.hub()?)
                    .and_then(|hub| hub.file(SKY_REPO, SKY_FILE, &mut bar.progress()))
                    .context("--mask-sky needs the sky network (--sky-network FILE names one)")?;
                bar.finish();
                file
            }
        };
        Ok(Some(SkyNetwork::open(&path)?))
    }
}

impl OutputArgs {
    pub(super) fn glb_options(&self) -> GlbOptions {
        GlbOptions {
            color_space: self.color_space,
            encoding: self.glb,
            orientation: self.orient,
        }
    }

    /// Returns path and format of the trajectory, if one is asked for.
    pub(super) fn trajectory(&self) -> anyhow::Result<Option<(PathBuf, TrajectoryFormat)>> {
        let Some(path) = &self.save_trajectory else {
            return Ok(None);
        };
        let (path, by_ending) = match place(path, &TRAJECTORY_ENDINGS).map_err(output_error)? {
            Place::Folder => (path.join("trajectory.txt"), TrajectoryFormat::Tum),
            Place::File(ending) if ending == "kitti" => (path.clone(), TrajectoryFormat::Kitti),
            Place::File(_) | Place::Stream => (path.clone(), TrajectoryFormat::Tum),
        };
        Ok(Some((path, self.trajectory_format.unwrap_or(by_ending))))
    }

    /// Returns the points to track.
    pub(super) fn query_points(&self) -> Vec<[f32; 2]> {
        let points = self.query_points.as_ref();
        points.map_or_else(Vec::new, |Points(points)| points.clone())
    }

    /// Returns path and format of each output.
    ///
    /// # Errors
    /// A usage error: an unknown ending, or one that contradicts --format.
    pub(super) fn targets(
        &self,
        scene: &SceneOptions,
        mask_sky: bool,
    ) -> anyhow::Result<Vec<(PathBuf, Format)>> {
        if self.out.is_empty() {
            let format = self.format.unwrap_or_default();
            let name = match format.extension() {
                Some(extension) => format!("scene.{extension}"),
                None => format!("scene_{}", format.name()),
            };
            return Ok(vec![(PathBuf::from(name), format)]);
        }
        let target = |out: &PathBuf| self.target(out, self.format_of(out)?, scene, mask_sky);
        self.out.iter().map(target).collect()
    }

    /// Returns the format of one output: the one that its ending stands for, else --format.
    fn format_of(&self, out: &Path) -> anyhow::Result<Format> {
        let by_name = |out: &Path| {
            let format = Format::of_extension(&extension(out)?);
            format.filter(|_| !out.is_dir())
        };
        match (self.format, by_name(out)) {
            // With several outputs, --format is for those whose ending does not decide.
            (Some(format), Some(by_name_of_out))
                if format != by_name_of_out && !self.out.iter().any(|o| by_name(o).is_none()) =>
            {
                let why = format!(
                    "--out \"{}\" and --format {} contradict each other: the ending stands for {}",
                    out.display(),
                    format.name(),
                    by_name_of_out.name()
                );
                Err(UsageError(why).into())
            }
            (format, by_name) => Ok(by_name.or(format).unwrap_or_default()),
        }
    }

    fn target(
        &self,
        out: &Path,
        format: Format,
        scene: &SceneOptions,
        mask_sky: bool,
    ) -> anyhow::Result<(PathBuf, Format)> {
        if format.is_folder() {
            return Ok((out.to_owned(), format));
        }
        Ok(
            match place(out, &Format::extensions()).map_err(output_error)? {
                Place::Folder => (
                    out.join(self.descriptive_name(scene, format, mask_sky)),
                    format,
                ),
                Place::File(_) | Place::Stream => (out.to_owned(), format),
            },
        )
    }

    /// Returns a file name that lists the options: `scene_pointmap_conf3_frame2_cam.glb`.
    fn descriptive_name(&self, scene: &SceneOptions, format: Format, mask_sky: bool) -> String {
        let mut name = match scene.prediction_mode {
            PredictionMode::PointmapRegression => "scene_pointmap".to_owned(),
            PredictionMode::DepthmapAndCamera => "scene_depthmap".to_owned(),
        };
        name += &format!("_conf{}", scene.conf_thres);
        if let FrameFilter::One(frame) = scene.frame_filter {
            name += &format!("_frame{frame}");
        }
        if let Some(points) = scene.max_points {
            name += &format!("_max{points}");
        }
        let glb = format.holds_glb();
        for (set, word) in [
            (scene.mask_black_bg, "_noblack"),
            (scene.mask_white_bg, "_nowhite"),
            (mask_sky, "_nosky"),
            (scene.drop_edges, "_noedges"),
            (scene.drop_outliers, "_nooutliers"),
            (glb && scene.show_cam, "_cam"),
            (glb && self.glb == GlbEncoding::Quantized, "_quantized"),
            (glb && self.color_space == ColorSpace::Srgb, "_srgb"),
            (
                format == Format::Ply && self.ply == PlyKind::Splats,
                "_splats",
            ),
        ] {
            if set {
                name += word;
            }
        }
        format!("{name}.{}", format.extension().unwrap_or_default())
    }
}
