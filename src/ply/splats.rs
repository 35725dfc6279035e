//! Splats to begin with: a Gaussian for each point, in the PLY form that trainers and viewers of 3D Gaussian splatting read.
//!
//! Little-endian, 68 bytes a splat, all `float`:
//!
//! | properties | what |
//! |---|---|
//! | `x y z` | center, world space, scene units |
//! | `nx ny nz` | 0; readers expect them |
//! | `f_dc_0 f_dc_1 f_dc_2` | color as the constant term of spherical harmonics: `(sRGB - 0.5) / 0.28209479` |
//! | `opacity` | logit of the opacity, which is 0.1 |
//! | `scale_0 scale_1 scale_2` | logarithm of the size, scene units: the RMS distance to the three nearest other points |
//! | `rot_0 rot_1 rot_2 rot_3` | rotation as a quaternion w x y z: none |
//!
//! These are the values that Inria's `GaussianModel.create_from_pcd` begins with. There are no `f_rest`, which are 0 at the beginning:
//! readers fill them up to their degree.

use std::io::{self, Write};

use super::{CHUNK, write_vertex_header};
use crate::scene::{Neighbors, PointCloud, Provenance};

/// Name of the file that a dataset has for trainers: brush takes an `init.ply` before all other PLY files in the folder.
pub const INITIAL_SPLATS: &str = "init.ply";

/// The properties of a splat, all of which are F32.
const PROPERTIES: [&str; 17] = [
    "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1",
    "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
];

/// Bytes of one splat.
pub const SPLAT_BYTES: usize = 4 * PROPERTIES.len();

/// 1 / (2 sqrt(pi)): the value of the constant spherical harmonic, upstream's `C0`.
const SH_C0: f64 = 0.282_094_791_773_878_14;

/// Opacity at the beginning of a training; Inria's and gsplat's.
const OPACITY: f64 = 0.1;

/// Neighbors whose distances set the size of a splat; Inria's and gsplat's.
const NEIGHBORS: usize = 3;

/// Smallest squared size of a splat, scene units; Inria's, so that points at the same place do not have a size of zero.
const MIN_SQUARED_SIZE: f64 = 1e-7;

/// Writes a splat for each of `points`, in world space; returns the number of bytes written.
///
/// Holds 13 bytes a point besides.
///
/// # Errors
/// When `out` fails.
pub fn write_splats(
    points: &PointCloud,
    provenance: &Provenance,
    out: &mut impl Write,
) -> io::Result<u64> {
    let comment = provenance.in_world().to_line();
    // By this, brush shows the scene upright: its `y` points down, as ours does.
    let comments = [comment.as_str(), "Vertical axis: y"];
    let properties = PROPERTIES.map(|name| ("float", name));
    let header = write_vertex_header(points.len(), &comments, &properties, out)?;
    let neighbors = Neighbors::new(points.positions.clone());
    let mut found = Vec::with_capacity(NEIGHBORS + 1);
    let mut bytes = Vec::with_capacity(SPLAT_BYTES * CHUNK);
    let opacity = (OPACITY / (1.0 - OPACITY)).ln() as f32;
    for start in (0..points.len()).step_by(CHUNK) {
        bytes.clear();
        for i in start..(start + CHUNK).min(points.len()) {
            let position = points.positions[i];
            // The nearest is the point itself, or another one at the same place.
            neighbors.nearest(position, NEIGHBORS + 1, &mut found);
            let squared = found.iter().skip(1).map(|(squared, _)| *squared);
            let scale = log_size(squared);
            let [r, g, b] = points.colors[i].map(harmonic);
            let [x, y, z] = position;
            let splat: [f32; PROPERTIES.len()] = [
                x, y, z, 0.0, 0.0, 0.0, r, g, b, opacity, scale, scale, scale, 1.0, 0.0, 0.0, 0.0,
            ];
            bytes.extend(splat.iter().flat_map(|value| value.to_le_bytes()));
        }
        out.write_all(&bytes)?;
    }
    out.flush()?;
    Ok(header + (SPLAT_BYTES * points.len()) as u64)
}

/// Returns the logarithm of the root mean square of distances, whose squares are given.
fn log_size(squared: impl Iterator<Item = f64>) -> f32 {
    let (count, sum) = squared.fold((0.0, 0.0), |(count, sum), s| (count + 1.0, sum + s));
    let mean: f64 = if count > 0.0 { sum / count } else { 0.0 };
    // PyTorch: torch.log(torch.sqrt(torch.clamp_min(distCUDA2(points), 0.0000001)))
    mean.max(MIN_SQUARED_SIZE).sqrt().ln() as f32
}

/// Returns the coefficient of the constant spherical harmonic for an sRGB value.
fn harmonic(value: u8) -> f32 {
    // PyTorch: RGB2SH(rgb) = (rgb - 0.5) / C0
    ((f64::from(value) / 255.0 - 0.5) / SH_C0) as f32
}
