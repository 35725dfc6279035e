//! Files that are made of a kept reconstruction, each one file: datasets and depth maps are archives.
//!
//! Everything is made from a finished [`Spool`](super::Spool), without the network and without the originals, so images in a
//! dataset have the size at which the network saw them, and its cameras are in their pixels.

mod archive;

use std::path::Path;

use serde_json::Value;

use super::{
    DATASET_POINTS, DEPTH_BYTES, DatasetImages, Format, PREDICTION_BYTES, PipelineError,
    Reconstruction, WriteOptions,
    cameras::cameras_of,
    save_depth, save_predictions, scene_bytes,
    stills::placements,
    write::{to_target, write_dataset, write_file},
};
use crate::{
    glb::{GlbOptions, Orientation, write as write_glb},
    html,
    output::{OutputRules, Target},
    points,
};

/// A file that is made of a reconstruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Artifact {
    /// The scene's points with confidence.
    Ply,
    /// A page that draws the scene.
    Html,
    /// Cameras, points and images for COLMAP and trainers of splats.
    ColmapZip,
    /// The same as nerfstudio reads it.
    NerfstudioZip,
    /// The network's outputs.
    Safetensors,
    /// Depth maps as images.
    DepthZip,
    /// Points for viewers; at most so many, evenly.
    Points(Option<usize>),
    /// Cameras of the frames at the network's size.
    Cameras,
    /// The same without the names of the photos, for people who may not know them.
    UnnamedCameras,
}

/// Bytes of a point in [`points`].
const POINT_BYTES: u64 = 20;

/// Bytes of a pixel in the images of a dataset: a JPEG of high quality has about one, twice on the way into the archive.
const IMAGE_BYTES: u64 = 2;

/// Returns the space in bytes that making `artifact` of so many frames takes at most, about.
pub fn artifact_space(artifact: Artifact, frames: usize, (height, width): (usize, usize)) -> u64 {
    let pixels = (frames * height * width) as u64;
    let dataset = |format| 2 * scene_bytes(format, pixels, None) + IMAGE_BYTES * pixels;
    match artifact {
        Artifact::Ply => scene_bytes(Format::Ply, pixels, None),
        Artifact::Html => scene_bytes(Format::Html, pixels, None),
        Artifact::ColmapZip => dataset(Format::Colmap),
        Artifact::NerfstudioZip => dataset(Format::Nerfstudio),
        Artifact::Safetensors => PREDICTION_BYTES * pixels,
        Artifact::DepthZip => 2 * DEPTH_BYTES * pixels,
        Artifact::Points(max) => POINT_BYTES * max.map_or(pixels, |max| pixels.min(max as u64)),
        Artifact::Cameras | Artifact::UnnamedCameras => 0,
    }
}

/// Writes `artifact` to the new file `path`; a folder beside it is used in between. `title` is what a page is called.
///
/// # Errors
/// When the frames cannot be read or something cannot be written.
pub fn make_artifact(
    made: &Reconstruction,
    artifact: Artifact,
    (path, title): (&Path, &str),
) -> Result<(), PipelineError> {
    let target = Target::replacing(path)?;
    let (scene, frames) = (&made.scene, &*made.predictions);
    match artifact {
        Artifact::Ply => ply(made, &target),
        Artifact::Html => page(made, &target, title),
        Artifact::Safetensors => save_predictions(&target, frames, None, &made.frames),
        Artifact::Points(max) => {
            let thinned = max.map(|max| scene.thinned(max));
            let scene = thinned.as_ref().unwrap_or(scene);
            to_target(&target, |out| Ok(points::write(scene, frames, out)?))?;
            Ok(())
        }
        Artifact::Cameras => {
            let cameras = cameras_of(made, &placements(frames))?;
            Ok(target.write(cameras.to_string().as_bytes())?)
        }
        Artifact::UnnamedCameras => {
            let cameras = without_names(cameras_of(made, &placements(frames))?);
            Ok(target.write(cameras.to_string().as_bytes())?)
        }
        Artifact::ColmapZip | Artifact::NerfstudioZip | Artifact::DepthZip => {
            let folder = path.with_extension("folder");
            match artifact {
                Artifact::ColmapZip => dataset(made, Format::Colmap, &folder)?,
                Artifact::NerfstudioZip => dataset(made, Format::Nerfstudio, &folder)?,
                _ => depth(made, &folder)?,
            }
            archive::write(&folder, path)?;
            Ok(std::fs::remove_dir_all(&folder)?)
        }
    }
}

fn ply(made: &Reconstruction, target: &Target) -> Result<(), PipelineError> {
    let (scene, frames) = (&made.scene, &*made.predictions);
    let (provenance, options) = (&made.provenance, options(&[]));
    write_file(scene, frames, provenance, &options, Format::Ply, target)?;
    Ok(())
}

fn page(made: &Reconstruction, target: &Target, title: &str) -> Result<(), PipelineError> {
    let (scene, frames) = (&made.scene, &*made.predictions);
    to_target(target, |out| {
        html::write(title, out, |page| {
            // The page begins at the origin and looks along z.
            let glb = GlbOptions {
                orientation: Orientation::Script,
                ..GlbOptions::default()
            };
            write_glb(scene, frames, &made.provenance, glb, page)?;
            Ok::<(), PipelineError>(())
        })
    })?;
    Ok(())
}

fn options(placements: &[crate::frames::Placement]) -> WriteOptions<'_> {
    WriteOptions {
        glb: GlbOptions::default(),
        placements,
        dataset_points: DATASET_POINTS,
    }
}

fn dataset(made: &Reconstruction, format: Format, folder: &Path) -> Result<(), PipelineError> {
    let rules = OutputRules::default();
    let (scene, frames) = (&made.scene, &*made.predictions);
    let images = DatasetImages::of_network(folder, &made.frames.names);
    let written = images.write_network(frames, &rules)?;
    let placements = placements(frames);
    let (provenance, options) = (&made.provenance, options(&placements));
    let images = (&images, written);
    write_dataset(scene, frames, provenance, &options, format, images, &rules)?;
    Ok(())
}

fn depth(made: &Reconstruction, folder: &Path) -> Result<(), PipelineError> {
    let (names, placements) = (&made.frames.names, &made.frames.placements);
    let (frames, rules) = (&*made.predictions, OutputRules::default());
    save_depth(folder, &rules, frames, names, placements)?;
    Ok(())
}

fn without_names(mut cameras: Value) -> Value {
    let all = cameras["cameras"].as_array_mut().into_iter().flatten();
    for camera in all.filter_map(Value::as_object_mut) {
        camera.remove("name");
    }
    cameras
}
