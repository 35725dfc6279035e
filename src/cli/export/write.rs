//! Writes everything that an export makes.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use super::outputs::{Plan, To};
use crate::{
    cli::{cure::of_thinned, terminal::StageBars},
    glb::{GlbOptions, Reason, Thinned},
    pipeline::{
        DATASET_POINTS, DatasetImages, Format, PipelineError, ReadOptions, Reconstruction, Source,
        Stage, Watcher, WriteOptions, save_depth, save_predictions, save_trajectory, write_dataset,
        write_file,
    },
    scene::Scene,
};

/// One written output of the scene.
pub(super) struct WrittenScene {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    pub(super) bytes: u64,
    pub(super) points: usize,
}

/// What is written, and how.
pub(super) struct Writer<'a> {
    pub(super) plan: &'a Plan,
    pub(super) made: &'a Reconstruction,
    /// Where the frames came from; `None` for saved predictions.
    pub(super) source: Option<&'a Source>,
    pub(super) read: &'a ReadOptions,
    pub(super) glb: GlbOptions,
    pub(super) max_points: Option<usize>,
}

impl Writer<'_> {
    /// Writes scenes, unless `skip_scenes`, then predictions and depth maps.
    pub(super) fn write(
        &self,
        skip_scenes: bool,
        bars: &mut StageBars,
    ) -> anyhow::Result<Vec<WrittenScene>> {
        let (plan, made) = (self.plan, self.made);
        let scenes = if skip_scenes { &[][..] } else { &plan.scenes };
        let total = scenes.len()
            + usize::from(plan.predictions.is_some())
            + usize::from(plan.depth.is_some())
            + usize::from(plan.trajectory.is_some());
        let mut done = 0;
        let mut step = |bars: &mut StageBars| {
            done += 1;
            bars.step(Stage::Write, done, total);
        };
        let mut written = Vec::with_capacity(scenes.len());
        for scene in scenes {
            written.push(self.scene(scene.format, &scene.to)?);
            step(bars);
        }
        if let Some(target) = &plan.predictions {
            save_predictions(
                target,
                &*made.predictions,
                made.tracks.as_ref(),
                &made.frames,
            )?;
            step(bars);
        }
        if let Some(dir) = &plan.depth {
            let (names, placements) = (&made.frames.names, &made.frames.placements);
            save_depth(dir, &plan.rules, &*made.predictions, names, placements)?;
            step(bars);
        }
        if let Some((target, format)) = &plan.trajectory {
            save_trajectory(target, made, *format)?;
            step(bars);
        }
        Ok(written)
    }

    fn scene(&self, format: Format, to: &To) -> Result<WrittenScene, PipelineError> {
        let made = self.made;
        let options = WriteOptions {
            glb: self.glb,
            ply: self.plan.ply,
            placements: &made.frames.placements,
            dataset_points: self.max_points.unwrap_or(DATASET_POINTS),
            refined: made.refined.as_ref(),
        };
        let written = match to {
            To::File(target) => {
                let scene = match self.plan.are_splats(format) {
                    true => Cow::Borrowed(&made.scene),
                    false => self.thinned(),
                };
                let frames = &*made.predictions;
                let provenance = &made.provenance;
                let written = write_file(&scene, frames, provenance, &options, format, target)?;
                if let Some(thinned) = written.thinned {
                    tell_thinned(target.path(), written.points, thinned);
                }
                if self.plan.are_splats(format) {
                    self.tell_chosen(target.path(), written.points);
                }
                Ok::<_, PipelineError>(written)
            }
            To::Folder(folder) => {
                let rules = &self.plan.rules;
                let images = DatasetImages::plan(folder, self.source, &made.frames.names);
                let copied = match images.are_missing() {
                    true => {
                        tracing::warn!(
                            "no images were written into \"{}\": saved predictions do not hold the photos; copy them there",
                            folder.join("images").display()
                        );
                        images.kept()
                    }
                    false => images.write(self.source, self.read, rules)?,
                };
                let (scene, frames) = (&made.scene, &*made.predictions);
                let images = (&images, copied);
                let provenance = &made.provenance;
                let written =
                    write_dataset(scene, frames, provenance, &options, format, images, rules)?;
                self.tell_chosen(folder, written.points);
                Ok(written)
            }
        }?;
        Ok(WrittenScene {
            path: to.path().to_owned(),
            format,
            bytes: written.bytes,
            points: written.points,
        })
    }

    /// Tells how many of the points a dataset or a file of splats has.
    fn tell_chosen(&self, path: &Path, points: usize) {
        let of = self.made.scene.points.len();
        if points < of && self.max_points.is_none() {
            tracing::info!(
                "{points} of {of} points in \"{}\", the most confident, spread evenly (--max-points sets another number)",
                path.display()
            );
        }
    }

    /// Returns the scene with at most `--max-points`: it was built with all of them if a dataset needs them.
    fn thinned(&self) -> Cow<'_, Scene> {
        let scene = &self.made.scene;
        match self
            .max_points
            .filter(|limit| scene.points.limit() != Some(*limit))
        {
            Some(limit) => Cow::Owned(scene.thinned(limit)),
            None => Cow::Borrowed(scene),
        }
    }
}

/// Tells that a GLB, alone or in a page, has fewer points than the scene.
pub(super) fn tell_thinned(path: &Path, points: usize, thinned: Thinned) {
    let (path, of, cure) = (path.display(), thinned.of, of_thinned(&thinned));
    match thinned.reason {
        Reason::Default => tracing::info!("{points} of {of} points in \"{path}\", evenly ({cure})"),
        Reason::Format => tracing::warn!("{points} of {of} points in \"{path}\", evenly ({cure})"),
    }
}
