//! Where the results of an export go: decided and checked before the network runs.

use std::{
    collections::{HashMap, HashSet},
    io::IsTerminal,
    path::{Path, PathBuf},
};

use super::args::OutputArgs;
use crate::{
    cli::{output_error, view::check_available},
    output::{OutputError, OutputRules, Place, Target, disk_of, place, require_space},
    pipeline::{
        DEPTH_BYTES, DatasetImages, Format, PREDICTION_BYTES, Source, dataset_files, depth_files,
        scene_bytes,
    },
    ply::PlyKind,
    scene::SceneOptions,
    trajectory::TrajectoryFormat,
};

/// Everything that an export writes.
pub(super) struct Plan {
    pub(super) rules: OutputRules,
    pub(super) scenes: Vec<PlannedScene>,
    pub(super) predictions: Option<Target>,
    pub(super) depth: Option<PathBuf>,
    pub(super) trajectory: Option<(Target, TrajectoryFormat)>,
    /// Where the anchors' scene goes.
    pub(super) preview: Option<Target>,
    /// `--max-points`.
    max_points: Option<usize>,
    /// `--ply`.
    pub(super) ply: PlyKind,
}

/// One output of the scene.
pub(super) struct PlannedScene {
    pub(super) format: Format,
    pub(super) to: To,
}

/// A file, or the folder of a dataset.
pub(super) enum To {
    File(Target),
    Folder(PathBuf),
}

impl To {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::File(target) => target.path(),
            Self::Folder(path) => path,
        }
    }
}

impl PlannedScene {
    /// Returns true for binary data on its way to a terminal or a pipe.
    pub(super) fn is_standard_output(&self) -> bool {
        matches!(&self.to, To::File(target) if target.is_standard_output())
    }
}

impl Plan {
    /// Decides formats and paths, and refuses what cannot be written.
    ///
    /// # Errors
    /// A usage error, or an [`OutputError`].
    pub(super) fn new(
        args: &OutputArgs,
        scene: &SceneOptions,
        mask_sky: bool,
        (inputs, preview): (&[PathBuf], Option<&Path>),
    ) -> anyhow::Result<Self> {
        let rules = OutputRules::new(inputs, args.overwrite);
        let scenes = args.targets(scene, mask_sky)?;
        if args.open || scenes.iter().any(|(_, format)| *format == Format::Html) {
            check_available()?;
        }
        let scenes = scenes.into_iter().map(|(path, format)| {
            Ok(PlannedScene {
                format,
                to: match format.is_folder() {
                    true => {
                        rules.folder(&path)?;
                        let dataset = DatasetImages::plan(&path, None, &[]);
                        for file in dataset_files(format, args.ply) {
                            dataset.model_file(&file, &rules)?;
                        }
                        dataset.check_foreign(&rules)?;
                        To::Folder(path)
                    }
                    false => To::File(rules.file(&path)?),
                },
            })
        });
        let scenes = scenes.collect::<Result<Vec<_>, OutputError>>();
        let scenes = scenes.map_err(output_error)?;
        let predictions = args.save_predictions.as_deref().map(predictions_path);
        let predictions = match predictions {
            Some(path) => Some(rules.file(&path?).map_err(output_error)?),
            None => None,
        };
        if let Some(dir) = &args.save_depth {
            rules.folder(dir).map_err(output_error)?;
        }
        let trajectory = match args.trajectory()? {
            Some((path, format)) => Some((rules.file(&path).map_err(output_error)?, format)),
            None => None,
        };
        let preview = preview.map(|path| rules.file(path)).transpose();
        let preview = preview.map_err(output_error)?;
        let plan = Self {
            rules,
            scenes,
            predictions,
            depth: args.save_depth.clone(),
            trajectory,
            preview,
            max_points: scene.max_points,
            ply: args.ply,
        };
        plan.check_distinct().map_err(output_error)?;
        if plan.uses_standard_output() && std::io::stdout().is_terminal() {
            return Err(output_error(OutputError::Terminal));
        }
        Ok(plan)
    }

    /// Returns true when standard output holds a result, so that it cannot hold the summary.
    pub(super) fn uses_standard_output(&self) -> bool {
        let predictions = self.predictions.as_ref();
        self.scenes.iter().any(PlannedScene::is_standard_output)
            || predictions.is_some_and(Target::is_standard_output)
            || (self.trajectory.iter()).any(|(target, _)| target.is_standard_output())
    }

    /// Returns true when an output is a dataset.
    pub(super) fn has_dataset(&self) -> bool {
        self.scenes.iter().any(|scene| scene.format.is_folder())
    }

    /// Returns true when an output takes the most confident points: a dataset, or splats.
    pub(super) fn chooses_by_confidence(&self) -> bool {
        let mut scenes = self.scenes.iter();
        scenes.any(|scene| scene.format.is_folder() || self.are_splats(scene.format))
    }

    /// Returns true when a file of this format holds splats.
    pub(super) fn are_splats(&self, format: Format) -> bool {
        format == Format::Ply && self.ply == PlyKind::Splats
    }

    fn check_distinct(&self) -> Result<(), OutputError> {
        let of_scenes = self.scenes.iter().map(|scene| match &scene.to {
            To::File(target) => (target.path(), target.identity()),
            To::Folder(path) => {
                let folder = path.canonicalize().or_else(|_| std::path::absolute(path));
                (path.as_path(), folder.unwrap_or_else(|_| path.clone()))
            }
        });
        let trajectory = self.trajectory.iter().map(|(target, _)| target);
        let files = self
            .predictions
            .iter()
            .chain(&self.preview)
            .chain(trajectory);
        let files = files.map(|t| (t.path(), t.identity()));
        let mut seen = HashSet::new();
        for (path, identity) in of_scenes.chain(files) {
            // Everything may be written to /dev/null.
            if !seen.insert(identity) && path != Path::new("/dev/null") {
                return Err(OutputError::Twice {
                    path: path.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Checks what depends on the frames: names of depth maps, and the space on the disks.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub(super) fn check_frames(
        &self,
        source: Option<&Source>,
        names: &[String],
        (height, width): (usize, usize),
    ) -> Result<(), OutputError> {
        for scene in &self.scenes {
            if let To::Folder(folder) = &scene.to {
                DatasetImages::plan(folder, source, names).check(&self.rules)?;
            }
        }
        if let Some(dir) = &self.depth {
            for file in depth_files(names) {
                self.rules.file(&dir.join(file))?;
            }
        }
        self.check_space((names.len() * height * width) as u64)
    }

    /// Checks the space on each disk, for the largest files that `pixels` can make.
    fn check_space(&self, pixels: u64) -> Result<(), OutputError> {
        let scenes = self.scenes.iter().filter_map(|scene| {
            let path = match &scene.to {
                To::File(target) => target.file()?,
                To::Folder(path) => path,
            };
            Some((
                path,
                scene_bytes(scene.format, self.ply, pixels, self.max_points),
            ))
        });
        let predictions = self
            .predictions
            .iter()
            .filter_map(|target| Some((target.file()?, PREDICTION_BYTES * pixels)));
        let depth = self
            .depth
            .iter()
            .map(|dir| (dir.as_path(), DEPTH_BYTES * pixels));
        let mut disks: HashMap<Option<u64>, (&Path, u64)> = HashMap::new();
        for (path, bytes) in scenes.chain(predictions).chain(depth) {
            disks.entry(disk_of(path)).or_insert((path, 0)).1 += bytes;
        }
        for (path, bytes) in disks.into_values() {
            require_space(path, bytes)?;
        }
        Ok(())
    }
}

/// Returns the file of `--save-predictions`.
fn predictions_path(path: &Path) -> anyhow::Result<PathBuf> {
    Ok(match place(path, &["safetensors"]).map_err(output_error)? {
        Place::Folder => path.join("predictions.safetensors"),
        Place::File(_) | Place::Stream => path.to_owned(),
    })
}
