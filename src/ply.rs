//! Binary PLY: a scene's points with their confidence, for tools that read no glTF.
//!
//! Little-endian, 19 bytes a point: `float x y z`, `uchar red green blue`, `float confidence`. Positions are in
//! view space, where a viewer shows the GLB's points too (`view = node_transform * world`); colors are sRGB, as
//! PLY readers expect. Cameras are not written. Comments tell where the points come from.

use std::io::{self, Write};

use crate::scene::{Affine, PointCloud, Provenance, Scene, VIEW_AXES, WORLD_AXES};

/// Points encoded between two writes.
const CHUNK: usize = 8192;

/// Bytes of one vertex.
const STRIDE: usize = 19;

/// Writes the points of `scene` to `out` and gives the number of bytes written.
///
/// # Errors
/// When `out` fails.
pub fn write(scene: &Scene, provenance: &Provenance, out: &mut impl Write) -> io::Result<u64> {
    let comment = provenance.with_axes(VIEW_AXES).to_line();
    write_points(&scene.points, Some(&scene.node_transform), &comment, out)
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
    let comment = provenance.with_axes(WORLD_AXES).to_line();
    write_points(points, None, &comment, out)
}

fn write_points(
    points: &PointCloud,
    transform: Option<&Affine>,
    comment: &str,
    out: &mut impl Write,
) -> io::Result<u64> {
    let header = format!(
        "ply\n\
         format binary_little_endian 1.0\n\
         comment {comment}\n\
         element vertex {}\n\
         property float x\n\
         property float y\n\
         property float z\n\
         property uchar red\n\
         property uchar green\n\
         property uchar blue\n\
         property float confidence\n\
         end_header\n",
        points.len(),
    );
    out.write_all(header.as_bytes())?;
    let mut bytes = Vec::with_capacity(STRIDE * CHUNK);
    for start in (0..points.len()).step_by(CHUNK) {
        bytes.clear();
        for i in start..(start + CHUNK).min(points.len()) {
            let position = points.positions[i];
            for x in transform.map_or(position, |t| t.apply_f32(position)) {
                bytes.extend(x.to_le_bytes());
            }
            bytes.extend(points.colors[i]);
            bytes.extend(points.confidence[i].to_le_bytes());
        }
        out.write_all(&bytes)?;
    }
    out.flush()?;
    Ok(header.len() as u64 + (STRIDE * points.len()) as u64)
}
