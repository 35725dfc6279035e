//! Binary glTF 2.0: a scene becomes one GLB, streamed.
//!
//! What lives here: the document ([`gltf_json`]), the container around it and the bytes of the columns. What does
//! not: which points there are. The entry point is [`write()`].
//!
//! One root node carries `view_from_world`; below it lie the points (mode POINTS), one mesh for each camera if cameras are
//! shown, all unlit (`KHR_materials_unlit`), and for each frame a node with a glTF camera, named like the image: viewers
//! list them as points of view. Bytes per point:
//!
//! | | linear colors (default) | `srgb` |
//! |---|---|---|
//! | positions F32 | 20 | 16 |
//! | `quantized` | 16 | 12 |
//!
//! glTF's COLOR_0 is linear light. Eight bits of it keep only 183 of the 256 sRGB codes and turn shadows into
//! bands, so linear colors are 16-bit; a three-component attribute would be padded to the same 8 bytes.

mod cameras;
mod color;
mod columns;
mod container;
mod document;

use std::{fmt, io::Write, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::scene::{Provenance, Scene};

/// Why a GLB cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GlbError {
    /// The container counts bytes in 32 bits.
    #[error("cannot write a GLB of {bytes} bytes: the limit of the format is 4294967295")]
    TooLarge {
        /// Size that the GLB would have.
        bytes: u64,
    },
    /// The document cannot be serialized as JSON.
    #[error("cannot write the GLB's document")]
    Document(#[source] serde_json::Error),
    /// The writer failed.
    #[error("cannot write the GLB")]
    Io(#[from] std::io::Error),
    /// A color space of another name.
    #[error("invalid color space {value:?}: expected linear or srgb")]
    ColorSpace {
        /// Rejected value.
        value: String,
    },
}

impl From<GlbError> for std::io::Error {
    /// For writers that only return I/O errors: an error of the writer itself stays as it was.
    fn from(e: GlbError) -> Self {
        match e {
            GlbError::Io(e) => e,
            e => Self::other(e),
        }
    }
}

/// Meaning of the colors in a GLB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ColorSpace {
    /// Linear light, as glTF requires: viewers show the colors of the image.
    #[default]
    Linear,
    /// The sRGB bytes of the image unchanged, as the Python service writes them: viewers show them too pale.
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

/// How the positions of the points are stored: `plain` or `quantized` on the command line, `glb` or `glb_quantized` in
/// JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
pub enum GlbEncoding {
    /// As F32, which every viewer reads.
    #[default]
    #[serde(rename = "glb")]
    Plain,
    /// In 16 bits per axis (`KHR_mesh_quantization`, which the viewer must support): off by at most 1/131070 of the
    /// extent of the cloud along that axis.
    #[serde(rename = "glb_quantized")]
    Quantized,
}

/// How a scene is encoded as a GLB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GlbOptions {
    /// Meaning of the colors.
    pub color_space: ColorSpace,
    /// Storage of the positions.
    pub encoding: GlbEncoding,
}

impl GlbOptions {
    pub(crate) fn is_quantized(self) -> bool {
        self.encoding == GlbEncoding::Quantized
    }
}

/// Writes `scene` to `out` and returns the number of bytes written.
///
/// Columns are encoded in chunks: in addition to the scene this needs some hundred KiB.
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
