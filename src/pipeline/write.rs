//! A scene -> a file, or a folder for COLMAP and nerfstudio.

use std::collections::HashMap;

use super::{
    DatasetImages, Format, PipelineError, Reconstruction, WrittenImages,
    dataset::{IMAGES, MODEL},
    page::write_page,
    refinement::{Refined, world_tracks},
};
use crate::{
    colmap::{self, OriginalImage},
    frames::Placement,
    glb::{self, GlbOptions, Thinned},
    html::Page,
    nerfstudio,
    output::{OutputError, OutputRules, Sink, Target},
    ply::{self, INITIAL_SPLATS, PlyKind},
    scene::{PredictedFrames, Provenance, Scene, confident_and_even},
    trajectory::{self, TrajectoryFormat},
};

/// Points of a dataset unless the user asks for another number: what splats are initialized from. More points slow the first
/// steps of training down and do not improve its result.
pub const DATASET_POINTS: usize = 100_000;

/// How a scene is written.
#[derive(Debug, Clone)]
pub struct WriteOptions<'a> {
    /// How a GLB is encoded.
    pub glb: GlbOptions,
    /// What a PLY holds, and whether a dataset has one of splats besides.
    pub ply: PlyKind,
    /// Where each frame lies in its original image; empty when it is not known.
    pub placements: &'a [Placement],
    /// Maximum number of points of a dataset, and of splats in a PLY.
    pub dataset_points: usize,
    /// What the cameras were refined with; a dataset holds its points and their tracks.
    pub refined: Option<&'a Refined>,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Size of all files in bytes.
    pub bytes: u64,
    /// Points in them.
    pub points: usize,
    /// Why a GLB holds fewer points than the scene.
    pub thinned: Option<Thinned>,
}

/// Writes `scene`, which was built from `frames`, as one file to `target`, atomically if it is a regular file.
///
/// # Errors
/// When the frames cannot be read or have changed, the file cannot be written, or `format` is a folder.
pub fn write_file(
    scene: &Scene,
    frames: &dyn PredictedFrames,
    provenance: &Provenance,
    options: &WriteOptions<'_>,
    format: Format,
    target: &Target,
) -> Result<Written, PipelineError> {
    let (mut points, mut thinned) = (scene.points.len(), None);
    let bytes = to_target(target, |out| {
        let mut of_glb = |written: glb::Written| {
            points = written.points;
            thinned = written.thinned;
        };
        match format {
            Format::Glb | Format::Colmap | Format::Nerfstudio => {
                of_glb(glb::write(scene, frames, provenance, options.glb, out)?);
            }
            Format::Html => {
                let title = target.path().file_stem().unwrap_or_default();
                let page = Page {
                    title: &title.to_string_lossy(),
                    alive: None,
                };
                let of = (scene, frames);
                of_glb(write_page(page, of, provenance, options.glb, out)?);
            }
            Format::Ply if options.ply == PlyKind::Splats => {
                let chosen =
                    confident_and_even(&scene.points.over(frames), options.dataset_points)?;
                ply::write_splats(&chosen, provenance, out)?;
                points = chosen.len();
            }
            Format::Ply => {
                ply::write(scene, frames, provenance, out)?;
            }
        }
        Ok(())
    })?;
    Ok(Written {
        bytes,
        points,
        thinned,
    })
}

/// Writes the cameras and points of a dataset of `format`, whose images have been written; `scene` was built from `frames`.
///
/// Holds the points that are written, at most [`WriteOptions::dataset_points`].
///
/// # Errors
/// When the frames cannot be read or have changed, or something cannot be written, or would replace a file that is not ours.
pub fn write_dataset(
    scene: &Scene,
    frames: &dyn PredictedFrames,
    provenance: &Provenance,
    options: &WriteOptions<'_>,
    format: Format,
    (images, mut written): (&DatasetImages, WrittenImages),
    rules: &OutputRules,
) -> Result<Written, PipelineError> {
    let folder = images.folder();
    let mut tracks = match options.refined {
        // nerfstudio has no place for them.
        Some(refined) if format == Format::Colmap => world_tracks(scene, frames, refined)?,
        _ => Vec::new(),
    };
    // Tracks come first; what the limit leaves is for points of single pixels, of which there is one at least.
    let most = options.dataset_points.max(1);
    tracks = evenly_thinned(tracks, most - 1);
    let points = confident_and_even(&scene.points.over(frames), most - tracks.len())?;
    let placements = written.placements(options.placements);
    let originals = original_images(scene, &placements, &images.names());
    let mut model = colmap::Model::new(scene, &points, &originals)?;
    if let Some(refined) = options.refined {
        model = model.with_distortion(&refined.k1).with_tracks(&tracks);
    }
    // All are checked before the first is written.
    let targets = dataset_files(format, options.ply).into_iter().map(|name| {
        let target = images.model_file(&name, rules)?;
        Ok((name, target))
    });
    let targets = targets.collect::<Result<HashMap<_, _>, OutputError>>()?;
    let mut bytes = 0;
    let mut write = |name: &str, f: &mut dyn FnMut(&mut Sink) -> Result<(), PipelineError>| {
        if let Some(target) = targets.get(name) {
            bytes += to_target(target, f)?;
            written.manifest.add_file(folder, name);
        }
        Ok::<(), PipelineError>(())
    };
    if format == Format::Nerfstudio {
        write(nerfstudio::POINTS, &mut |out| {
            ply::write_world(&points, provenance, out)?;
            Ok(())
        })?;
        write(nerfstudio::TRANSFORMS, &mut |out| {
            let text = nerfstudio::transforms(&model, IMAGES, provenance);
            Ok(std::io::Write::write_all(out, text.as_bytes())?)
        })?;
    } else {
        // They belong to the model that is replaced. Without leave to overwrite, none got past the check.
        for foreign in images.foreign().filter(|_| rules.overwrites()) {
            std::fs::remove_file(&foreign).map_err(|source| OutputError::Io {
                path: foreign,
                source,
            })?;
        }
        for part in colmap::ModelFile::ALL {
            write(&model_file(part), &mut |out| {
                Ok(model.write(part, provenance, out)?)
            })?;
        }
    }
    match options.ply {
        PlyKind::Splats => write(INITIAL_SPLATS, &mut |out| {
            ply::write_splats(&points, provenance, out)?;
            Ok(())
        })?,
        // Those of an earlier run would be taken before the new points.
        PlyKind::Points => images.remove_file(INITIAL_SPLATS)?,
    }
    written.manifest.write(folder, rules)?;
    Ok(Written {
        bytes: bytes + written.bytes,
        points: model.len(),
        thinned: None,
    })
}

/// Returns at most `limit` of some tracks, spread evenly over all.
fn evenly_thinned(tracks: Vec<colmap::Track>, limit: usize) -> Vec<colmap::Track> {
    let count = tracks.len();
    if count <= limit {
        return tracks;
    }
    let numbered = tracks.into_iter().enumerate();
    // One whenever the share that is due grows by a whole one.
    let is_due = |i: usize| (i + 1) * limit / count > i * limit / count;
    numbered
        .filter(|(i, _)| is_due(*i))
        .map(|(_, track)| track)
        .collect()
}

/// Returns the files of a dataset beside its images, relative to its folder.
pub fn dataset_files(format: Format, ply: PlyKind) -> Vec<String> {
    let mut files = match format {
        Format::Nerfstudio => [nerfstudio::POINTS, nerfstudio::TRANSFORMS]
            .map(str::to_owned)
            .to_vec(),
        _ => colmap::ModelFile::ALL.map(model_file).to_vec(),
    };
    if ply == PlyKind::Splats {
        files.push(INITIAL_SPLATS.to_owned());
    }
    files
}

fn model_file(part: colmap::ModelFile) -> String {
    format!("{MODEL}/{}", part.name())
}

/// Runs `write` on an open target and commits it; returns the number of bytes.
pub(super) fn to_target(
    target: &Target,
    mut write: impl FnMut(&mut Sink) -> Result<(), PipelineError>,
) -> Result<u64, PipelineError> {
    let mut sink = target.create()?;
    write(&mut sink).map_err(|e| e.at(target.path()))?;
    let bytes = sink.written();
    sink.commit()
        .map_err(|e| PipelineError::from(e).at(target.path()))?;
    Ok(bytes)
}

/// Writes the poses of the shown frames.
///
/// # Errors
/// When a camera is not finite, or the file cannot be written.
pub fn save_trajectory(
    target: &Target,
    made: &Reconstruction,
    format: TrajectoryFormat,
) -> Result<(), PipelineError> {
    let (scene, seconds) = (&made.scene, &made.frames.seconds);
    to_target(target, |out| {
        Ok(trajectory::write(
            scene,
            seconds,
            &made.provenance,
            format,
            out,
        )?)
    })?;
    Ok(())
}

/// Returns the original image of each frame under the name that it has in the dataset.
pub(super) fn original_images(
    scene: &Scene,
    placements: &[Placement],
    names: &[String],
) -> Vec<OriginalImage> {
    let [width, height] = scene.points.image_size();
    (0..scene.frames)
        .map(|i| {
            // Without a placement the image has the size of the network's input.
            let placement = placements.get(i).copied().unwrap_or(Placement {
                source_width: width,
                source_height: height,
                scale_x: 1.0,
                scale_y: 1.0,
                offset_x: 0.0,
                offset_y: 0.0,
            });
            OriginalImage {
                name: names.get(i).cloned().unwrap_or_default(),
                width: placement.source_width,
                height: placement.source_height,
                scale_x: placement.scale_x,
                scale_y: placement.scale_y,
                offset_x: placement.offset_x,
                offset_y: placement.offset_y,
            }
        })
        .collect()
}
