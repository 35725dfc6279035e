//! Binary glTF 2.0: a scene becomes one GLB, streamed.
//!
//! What lives here: the document ([`gltf_json`]), the container around it and the bytes of the columns. What does
//! not: which points there are. The one door in is [`write()`].
//!
//! One root node carries `view_from_world`; below it lie the points (mode POINTS) and one mesh for each camera,
//! all unlit (`KHR_materials_unlit`). Bytes a point:
//!
//! | | linear colours (default) | `srgb` |
//! |---|---|---|
//! | positions F32 | 20 | 16 |
//! | `quantized` | 16 | 12 |
//!
//! glTF's COLOR_0 is linear light. Eight bits of it keep only 183 of the 256 sRGB codes and turn shadows into
//! bands, so linear colours are 16-bit; a three-component attribute would be padded to the same 8 bytes.

mod color;
mod columns;
mod container;
mod document;

use std::{fmt, io::Write, str::FromStr};

use crate::scene::{Provenance, Scene};

/// What can go wrong while a GLB is written.
#[derive(Debug, thiserror::Error)]
pub enum GlbError {
    /// The container counts bytes in 32 bits.
    #[error(
        "cannot write a GLB of {bytes} bytes: the format ends at 4294967295; use --max_points, or a higher --conf_thres"
    )]
    TooLarge {
        /// The size it would have.
        bytes: u64,
    },
    /// The document cannot be written as JSON.
    #[error("cannot write the GLB's document")]
    Document(#[source] serde_json::Error),
    /// The writer failed.
    #[error("cannot write the GLB")]
    Io(#[from] std::io::Error),
    /// An option's value cannot be read.
    #[error("cannot use {value:?} as color space: it takes \"linear\" or \"srgb\"")]
    ColorSpace {
        /// The value given.
        value: String,
    },
}

impl From<GlbError> for std::io::Error {
    /// For writers that know no other error: the writer's own comes back as it was.
    fn from(e: GlbError) -> Self {
        match e {
            GlbError::Io(e) => e,
            e => Self::other(e),
        }
    }
}

/// What the colours in a GLB mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ColorSpace {
    /// Linear light, as glTF demands: viewers show the photo's colours.
    #[default]
    Linear,
    /// The photo's sRGB bytes as they are, as the Python service writes them: viewers show them too pale.
    Srgb,
}

impl FromStr for ColorSpace {
    type Err = GlbError;

    fn from_str(s: &str) -> Result<Self, GlbError> {
        match s.to_ascii_lowercase().as_str() {
            "linear" => Ok(Self::Linear),
            "srgb" => Ok(Self::Srgb),
            _ => Err(GlbError::ColorSpace {
                value: s.to_owned(),
            }),
        }
    }
}

impl fmt::Display for ColorSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Linear => "linear",
            Self::Srgb => "srgb",
        })
    }
}

/// How a scene is put into a GLB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GlbOptions {
    /// What the colours mean.
    pub color_space: ColorSpace,
    /// Stores the points' positions in 16 bits an axis (`KHR_mesh_quantization`, which a viewer must know): each
    /// is off by at most 1/131070 of the cloud's extent along that axis.
    pub quantized: bool,
}

/// Writes `scene` to `out` and gives the number of bytes written.
///
/// Columns are encoded piece by piece: beside the scene itself this needs some hundred KiB.
///
/// # Errors
/// When the GLB would be 4 GiB or more (before anything is written), or when `out` fails.
pub fn write(
    scene: &Scene,
    provenance: &Provenance,
    options: GlbOptions,
    out: &mut impl Write,
) -> Result<u64, GlbError> {
    let layout = columns::Layout::of(scene, options);
    let document = document::json(scene, provenance, &layout)?;
    let size = container::write_head(&document, layout.total(), out)?;
    layout.write(scene, out)?;
    out.flush()?;
    Ok(size)
}
