//! Binary PLY: a scene's points with their confidence, for tools that read no glTF.
//!
//! Little-endian, 19 bytes a point: `float x y z`, `uchar red green blue`, `float confidence`. Positions are in
//! view space, where a viewer shows the GLB's points too (`view = node_transform * world`); colors are sRGB, as
//! PLY readers expect. Cameras are not written. Comments tell where the points come from.
//!
//! [`write_splats`] writes another kind of PLY, for trainers of splats.

mod splats;

use std::io::{self, Write};

use crate::scene::{PointCloud, PredictedFrames, Provenance, Scene, SceneError};

pub use splats::{INITIAL_SPLATS, SPLAT_BYTES, write_splats};

/// What a PLY holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum PlyKind {
    /// All points, with colors and confidences
    #[default]
    Points,
    /// Gaussians to begin the training of splats with, in the world of COLMAP models
    Splats,
}

/// Points encoded between two writes.
const CHUNK: usize = 8192;

/// Bytes of one vertex.
const STRIDE: usize = 19;

/// Why a PLY file cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlyError {
    /// The points cannot be read.
    #[error(transparent)]
    Scene(#[from] SceneError),
    /// The writer failed.
    #[error("cannot write the PLY file")]
    Io(#[from] io::Error),
}

/// Writes the points of `scene`, which was built from `frames`, to `out` and returns the number of bytes written.
///
/// Reads one frame at a time.
///
/// # Errors
/// When `frames` cannot be read or have changed, or `out` fails.
pub fn write(
    scene: &Scene,
    frames: &dyn PredictedFrames,
    provenance: &Provenance,
    out: &mut impl Write,
) -> Result<u64, PlyError> {
    let count = scene.points.len();
    let comment = provenance.with_axes(scene.world.view_axes()).to_line();
    let header = write_header(count, &comment, out)?;
    scene.points.over(frames).for_each(|cloud| {
        let view = |position| scene.node_transform.apply_f32(position);
        write_points(cloud, view, out).map_err(PlyError::Io)
    })?;
    out.flush()?;
    Ok(header + (STRIDE * count) as u64)
}

/// Writes `points` as they are, in world space; returns the number of bytes written.
///
/// # Errors
/// When `out` fails.
pub fn write_world(
    points: &PointCloud,
    provenance: &Provenance,
    out: &mut impl Write,
) -> io::Result<u64> {
    let comment = provenance.in_world().to_line();
    let header = write_header(points.len(), &comment, out)?;
    write_points(points, |position| position, out)?;
    out.flush()?;
    Ok(header + (STRIDE * points.len()) as u64)
}

/// Writes the header and returns its length.
fn write_header(count: usize, comment: &str, out: &mut impl Write) -> io::Result<u64> {
    let properties = [
        ("float", "x"),
        ("float", "y"),
        ("float", "z"),
        ("uchar", "red"),
        ("uchar", "green"),
        ("uchar", "blue"),
        ("float", "confidence"),
    ];
    write_vertex_header(count, &[comment], &properties, out)
}

/// Writes the header of a file of vertices with these comments and properties, types and names; returns its length.
fn write_vertex_header(
    count: usize,
    comments: &[&str],
    properties: &[(&str, &str)],
    out: &mut impl Write,
) -> io::Result<u64> {
    let mut header = "ply\nformat binary_little_endian 1.0\n".to_owned();
    for comment in comments {
        header += &format!("comment {comment}\n");
    }
    header += &format!("element vertex {count}\n");
    for (kind, name) in properties {
        header += &format!("property {kind} {name}\n");
    }
    header += "end_header\n";
    out.write_all(header.as_bytes())?;
    Ok(header.len() as u64)
}

fn write_points(
    points: &PointCloud,
    place: impl Fn([f32; 3]) -> [f32; 3],
    out: &mut impl Write,
) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(STRIDE * CHUNK);
    for start in (0..points.len()).step_by(CHUNK) {
        bytes.clear();
        for i in start..(start + CHUNK).min(points.len()) {
            for x in place(points.positions[i]) {
                bytes.extend(x.to_le_bytes());
            }
            bytes.extend(points.colors[i]);
            bytes.extend(points.confidence[i].to_le_bytes());
        }
        out.write_all(&bytes)?;
    }
    Ok(())
}
