//! Binary glTF 2.0: a scene becomes one GLB, streamed.
//!
//! What lives here: the document ([`gltf_json`]), the container around it and the bytes of the columns. What does
//! not: which points there are. The entry point is [`write()`].
//!
//! Points are written as they are read, a frame at a time: memory does not depend on their number. Cameras and names of frames
//! are in the document, which is made as a whole.
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

use std::{borrow::Cow, fmt, io::Write, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::scene::{PointPlan, PredictedFrames, Provenance, Scene, SceneError};

/// Why a GLB cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GlbError {
    /// The container counts bytes in 32 bits, and not even a GLB of a single point would fit.
    #[error("cannot write a GLB of {bytes} bytes: the limit of the format is 4294967295")]
    TooLarge {
        /// Size that the GLB would have.
        bytes: u64,
    },
    /// The document cannot be serialized as JSON.
    #[error("cannot write the GLB's document")]
    Document(#[source] serde_json::Error),
    /// The points cannot be read.
    #[error(transparent)]
    Scene(#[from] SceneError),
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
            GlbError::Scene(SceneError::Read { ref source, .. }) => Self::new(source.kind(), e),
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

/// Which way the scene faces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Orientation {
    /// As the older script turned it: Babylon.js begins at the first photo, most other viewers behind the scene
    #[default]
    Script,
    /// As glTF has it: viewers that look along -Z (three.js, model-viewer, Blender) begin at the first photo
    Gltf,
}

/// How a scene is encoded as a GLB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GlbOptions {
    /// Meaning of the colors.
    pub color_space: ColorSpace,
    /// Storage of the positions.
    pub encoding: GlbEncoding,
    /// Which way the scene faces.
    pub orientation: Orientation,
}

impl GlbOptions {
    pub(crate) fn is_quantized(self) -> bool {
        self.encoding == GlbEncoding::Quantized
    }
}

/// Points of a GLB unless the options of the scene set a limit: viewers hold all of them in the memory of the graphics card,
/// where these take 400 MB, and hardly move above.
pub const DEFAULT_POINTS: usize = 20_000_000;

/// Length of the longest file: the container counts its bytes in 32 bits.
const MAX_BYTES: u64 = u32::MAX as u64;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Size of the GLB in bytes.
    pub bytes: u64,
    /// Points in it.
    pub points: usize,
    /// Why these are not all points of the scene.
    pub thinned: Option<Thinned>,
}

/// Why a GLB has fewer points than its scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thinned {
    /// Points of the scene.
    pub of: usize,
    /// Why.
    pub reason: Reason,
}

/// What limits the points of a GLB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// [`DEFAULT_POINTS`], since the options set no limit.
    Default,
    /// The format: more would be 4 GiB or more.
    Format,
}

/// Writes `scene`, which was built from `frames`, to `out`.
///
/// Reads one frame at a time, twice, and once more where points are thinned. A scene without a limit on its points is thinned to
/// [`DEFAULT_POINTS`], and every scene to what a GLB can hold, both evenly over the frames and over each frame's image.
///
/// # Errors
/// When `frames` cannot be read or have changed, when `out` fails, or when a GLB without any point would be 4 GiB or more (before
/// anything is written).
pub fn write(
    scene: &Scene,
    frames: &dyn PredictedFrames,
    provenance: &Provenance,
    options: GlbOptions,
    out: &mut impl Write,
) -> Result<Written, GlbError> {
    write_within(
        (DEFAULT_POINTS, MAX_BYTES),
        scene,
        frames,
        provenance,
        options,
        out,
    )
}

/// [`write()`] with other limits on points and bytes.
fn write_within(
    limits: (usize, u64),
    scene: &Scene,
    frames: &dyn PredictedFrames,
    provenance: &Provenance,
    options: GlbOptions,
    out: &mut impl Write,
) -> Result<Written, GlbError> {
    let (plan, reason) = fitting(limits, scene, provenance, options)?;
    let points = plan.over(frames);
    let layout = columns::Layout::of(scene, plan.len(), points.bounds()?, options);
    let document = document::json(scene, provenance, &layout)?;
    let bytes = container::write_head(&document, layout.total(), out)?;
    layout.write(scene, &points, out)?;
    out.flush()?;
    Ok(Written {
        bytes,
        points: plan.len(),
        thinned: reason.map(|reason| Thinned {
            of: scene.points.len(),
            reason,
        }),
    })
}

/// Returns which points of `scene` are written, and what limits them beside its options.
fn fitting<'a>(
    (default, max_bytes): (usize, u64),
    scene: &'a Scene,
    provenance: &Provenance,
    options: GlbOptions,
) -> Result<(Cow<'a, PointPlan>, Option<Reason>), GlbError> {
    /// The document changes by less than this when there are fewer points: it has their number and their bounds.
    const ROOM: u64 = 1024;
    let mut plan = Cow::Borrowed(&scene.points);
    let mut reason = None;
    if plan.limit().is_none() && plan.len() > default {
        plan = Cow::Owned(plan.limited(default));
        reason = Some(Reason::Default);
    }
    let layout = columns::Layout::of(scene, plan.len(), plan.bounds_of_kept(), options);
    let document = document::json(scene, provenance, &layout)?;
    let bytes = container::size(&document, layout.total());
    if bytes > max_bytes {
        let without_points = bytes - layout.bytes_per_point() * plan.len() as u64;
        let left = max_bytes.saturating_sub(without_points + ROOM);
        let points = (left / layout.bytes_per_point()) as usize;
        if points == 0 {
            return Err(GlbError::TooLarge { bytes });
        }
        plan = Cow::Owned(plan.limited(points));
        reason = Some(Reason::Format);
    }
    Ok((plan, reason))
}

#[cfg(test)]
mod tests;
