//! Binary PLY: a scene's points with their confidence, for tools that read no glTF.
//!
//! Little-endian, 19 bytes a point: `float x y z`, `uchar red green blue`, `float confidence`. Positions are in
//! view space, where a viewer shows the GLB's points too (`view = node_transform * world`); colors are sRGB, as
//! PLY readers expect. Cameras are not written. Comments tell where the points come from.

use std::io::{self, Write};

use crate::scene::{Provenance, Scene};

/// Points encoded between two writes.
const CHUNK: usize = 8192;

/// Bytes of one vertex.
const STRIDE: usize = 19;

/// Writes the points of `scene` to `out` and gives the number of bytes written.
///
/// # Errors
/// When `out` fails.
pub fn write(scene: &Scene, provenance: &Provenance, out: &mut impl Write) -> io::Result<u64> {
    let points = &scene.points;
    let header = format!(
        "ply\n\
         format binary_little_endian 1.0\n\
         comment {}\n\
         element vertex {}\n\
         property float x\n\
         property float y\n\
         property float z\n\
         property uchar red\n\
         property uchar green\n\
         property uchar blue\n\
         property float confidence\n\
         end_header\n",
        provenance.to_line(),
        points.len(),
    );
    out.write_all(header.as_bytes())?;
    let mut bytes = Vec::with_capacity(STRIDE * CHUNK);
    for start in (0..points.len()).step_by(CHUNK) {
        bytes.clear();
        for i in start..(start + CHUNK).min(points.len()) {
            for x in scene.node_transform.apply_f32(points.positions[i]) {
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
