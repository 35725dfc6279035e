//! A scene -> a file, or a folder for COLMAP.

use std::{fs, io::Seek, path::Path, str::FromStr};

use super::PipelineError;
use crate::{
    atomic_file::AtomicFile,
    colmap::{self, OriginalImage},
    frames::Placement,
    glb::{self, GlbOptions},
    html, ply,
    scene::{Provenance, Scene},
};

/// File format of a scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Binary glTF.
    #[default]
    Glb,
    /// A page that draws the GLB inside it.
    Html,
    /// Binary PLY.
    Ply,
    /// A folder with a COLMAP model.
    Colmap,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "glb" => Ok(Self::Glb),
            "html" => Ok(Self::Html),
            "ply" => Ok(Self::Ply),
            "colmap" => Ok(Self::Colmap),
            _ => Err(format!(
                "invalid format {s:?}: expected glb, html, ply or colmap"
            )),
        }
    }
}

impl Format {
    /// Returns the extension of its files; COLMAP's folder has none.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Glb => "glb",
            Self::Html => "html",
            Self::Ply => "ply",
            Self::Colmap => "",
        }
    }

    /// Returns the name of the format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Glb => "glb",
            Self::Html => "html",
            Self::Ply => "ply",
            Self::Colmap => "colmap",
        }
    }

    /// Returns true when the written file contains a GLB, so that its options apply.
    pub fn holds_glb(self) -> bool {
        matches!(self, Self::Glb | Self::Html)
    }
}

/// How a scene is written.
#[derive(Debug, Clone)]
pub struct WriteOptions<'a> {
    /// File format.
    pub format: Format,
    /// How the GLB is encoded.
    pub glb: GlbOptions,
    /// Names of the frames.
    pub names: &'a [String],
    /// Where each frame lies in its original image; empty when it is not known.
    pub placements: &'a [Placement],
}

/// Writes `scene` to `out` and returns the number of bytes. Each file appears whole or not at all; COLMAP's go into the
/// folder `out`/sparse/0, where its programs look for them.
///
/// # Errors
/// When something cannot be written.
pub fn write_scene(
    scene: &Scene,
    provenance: &Provenance,
    options: &WriteOptions<'_>,
    out: &Path,
) -> Result<u64, PipelineError> {
    let bytes = match options.format {
        Format::Glb => {
            let mut file = AtomicFile::create(out)?;
            let bytes = glb::write(scene, provenance, options.glb, &mut file)?;
            file.commit()?;
            bytes
        }
        Format::Html => {
            let title = out.file_stem().unwrap_or_default().to_string_lossy();
            let mut file = AtomicFile::create(out)?;
            html::write(&title, &mut file, |page| {
                glb::write(scene, provenance, options.glb, page)?;
                Ok::<(), PipelineError>(())
            })?;
            let bytes = file.stream_position()?;
            file.commit()?;
            bytes
        }
        Format::Ply => {
            let mut file = AtomicFile::create(out)?;
            let bytes = ply::write(scene, provenance, &mut file)?;
            file.commit()?;
            bytes
        }
        Format::Colmap => {
            let images = original_images(scene, options);
            let model = colmap::Model::new(scene, &images)?;
            let dir = out.join("sparse/0");
            fs::create_dir_all(&dir)?;
            let mut bytes = 0;
            for part in colmap::ModelFile::ALL {
                let mut file = AtomicFile::create(dir.join(part.name()))?;
                model.write(part, provenance, &mut file)?;
                bytes += file.stream_position()?;
                file.commit()?;
            }
            bytes
        }
    };
    Ok(bytes)
}

fn original_images(scene: &Scene, options: &WriteOptions<'_>) -> Vec<OriginalImage> {
    let [width, height] = scene.points.image_size();
    (0..scene.frames)
        .map(|i| {
            // Without a placement the image has the size of the network's input.
            let placement = options.placements.get(i).copied().unwrap_or(Placement {
                source_width: width,
                source_height: height,
                scale_x: 1.0,
                scale_y: 1.0,
                offset_x: 0.0,
                offset_y: 0.0,
            });
            OriginalImage {
                name: options.names.get(i).cloned().unwrap_or_default(),
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
