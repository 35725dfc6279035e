//! Files that are made of a kept reconstruction, each one file: datasets and depth maps are archives.
//!
//! Everything is made from a finished [`Spool`](super::Spool), without the network and without the originals, so images in a
//! dataset have the size at which the network saw them, and its cameras are in their pixels.

mod archive;

use std::path::Path;

use serde_json::{Value, json};

use super::{
    DATASET_POINTS, DEPTH_BYTES, DatasetImages, Format, PREDICTION_BYTES, PipelineError,
    Reconstruction, WriteOptions,
    cameras::cameras_of,
    page::write_page,
    rendering::rendering,
    save_depth, save_predictions, scene_bytes,
    stills::placements,
    write::{to_target, write_dataset, write_file},
};
use crate::{
    glb::GlbOptions,
    html::Page,
    output::{OutputRules, Target},
    ply::PlyKind,
    points,
};

/// A file that is made of a reconstruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Artifact {
    /// The scene as binary glTF: what the job left, unless lengths are in meters by now.
    Glb,
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
    /// A picture of the points.
    Picture,
}

impl Artifact {
    /// Whether its lengths are in meters where it is known how long something in the scene is. Viewers do that themselves, so that
    /// another scale needs no other points, and a picture has no lengths.
    pub fn has_scale(self) -> bool {
        !matches!(
            self,
            Self::Points(_) | Self::Cameras | Self::UnnamedCameras | Self::Picture
        )
    }
}

/// What is told of a reconstruction in the files that are made of it.
#[derive(Debug, Clone, Copy)]
pub struct ArtifactAbout<'a> {
    /// What a page is called.
    pub title: &'a str,
    /// How a GLB is encoded.
    pub glb: GlbOptions,
    /// How many meters a unit of the network is, for the descriptions of cameras.
    pub meters_per_unit: Option<f64>,
}

/// Bytes of a point in [`points`].
const POINT_BYTES: u64 = 20;

/// Bytes of a pixel in the images of a dataset: a JPEG of high quality has about one, twice on the way into the archive.
const IMAGE_BYTES: u64 = 2;

/// Returns the space in bytes that making `artifact` of so many frames takes at most, about.
pub fn artifact_space(artifact: Artifact, frames: usize, (height, width): (usize, usize)) -> u64 {
    let pixels = (frames * height * width) as u64;
    let bytes = |format| scene_bytes(format, PlyKind::Points, pixels, None);
    let dataset = |format| 2 * bytes(format) + IMAGE_BYTES * pixels;
    match artifact {
        Artifact::Glb => bytes(Format::Glb),
        Artifact::Ply => bytes(Format::Ply),
        Artifact::Html => bytes(Format::Html),
        Artifact::ColmapZip => dataset(Format::Colmap),
        Artifact::NerfstudioZip => dataset(Format::Nerfstudio),
        Artifact::Safetensors => PREDICTION_BYTES * pixels,
        Artifact::DepthZip => 2 * DEPTH_BYTES * pixels,
        Artifact::Points(max) => POINT_BYTES * max.map_or(pixels, |max| pixels.min(max as u64)),
        Artifact::Cameras | Artifact::UnnamedCameras | Artifact::Picture => 0,
    }
}

/// Writes `artifact` to the new file `path`; a folder beside it is used in between.
///
/// # Errors
/// When the frames cannot be read or something cannot be written.
pub fn make_artifact(
    made: &Reconstruction,
    artifact: Artifact,
    path: &Path,
    about: ArtifactAbout<'_>,
) -> Result<(), PipelineError> {
    let target = Target::replacing(path)?;
    let (scene, frames) = (&made.scene, &*made.predictions);
    match artifact {
        Artifact::Glb => one_file(made, about.glb, Format::Glb, &target),
        Artifact::Ply => one_file(made, about.glb, Format::Ply, &target),
        Artifact::Html => page(made, &target, about),
        Artifact::Safetensors => save_predictions(&target, frames, None, &made.frames),
        Artifact::Points(max) => {
            let thinned = max.map(|max| scene.thinned(max));
            let scene = thinned.as_ref().unwrap_or(scene);
            to_target(&target, |out| Ok(points::write(scene, frames, out)?))?;
            Ok(())
        }
        Artifact::Cameras => {
            let cameras = described_cameras(made, about)?;
            Ok(target.write(cameras.to_string().as_bytes())?)
        }
        Artifact::UnnamedCameras => {
            let cameras = without_names(described_cameras(made, about)?);
            Ok(target.write(cameras.to_string().as_bytes())?)
        }
        Artifact::Picture => Ok(target.write(&rendering(scene, frames)?)?),
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

fn one_file(
    made: &Reconstruction,
    glb: GlbOptions,
    format: Format,
    target: &Target,
) -> Result<(), PipelineError> {
    let (scene, frames) = (&made.scene, &*made.predictions);
    let provenance = &made.provenance;
    let options = WriteOptions {
        glb,
        ..options(made, &[])
    };
    write_file(scene, frames, provenance, &options, format, target)?;
    Ok(())
}

/// Returns the cameras in the pixels of the photos that viewers get, and the scale.
fn described_cameras(
    made: &Reconstruction,
    about: ArtifactAbout<'_>,
) -> Result<Value, PipelineError> {
    let mut cameras = cameras_of(made, &placements(&*made.predictions))?;
    cameras["meters_per_unit"] = json!(about.meters_per_unit);
    Ok(cameras)
}

fn page(
    made: &Reconstruction,
    target: &Target,
    about: ArtifactAbout<'_>,
) -> Result<(), PipelineError> {
    let (scene, frames) = (&made.scene, &*made.predictions);
    to_target(target, |out| {
        let page = Page {
            title: about.title,
            alive: None,
        };
        let (provenance, options) = (&made.provenance, GlbOptions::default());
        write_page(page, (scene, frames), provenance, options, out)?;
        Ok(())
    })?;
    Ok(())
}

fn options<'a>(
    made: &'a Reconstruction,
    placements: &'a [crate::frames::Placement],
) -> WriteOptions<'a> {
    WriteOptions {
        glb: GlbOptions::default(),
        ply: PlyKind::Points,
        placements,
        dataset_points: DATASET_POINTS,
        refined: made.refined.as_ref(),
    }
}

fn dataset(made: &Reconstruction, format: Format, folder: &Path) -> Result<(), PipelineError> {
    let rules = OutputRules::default();
    let (scene, frames) = (&made.scene, &*made.predictions);
    let images = DatasetImages::of_network(folder, &made.frames.names);
    let written = images.write_network(frames, &rules)?;
    let placements = placements(frames);
    let (provenance, options) = (&made.provenance, options(made, &placements));
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
