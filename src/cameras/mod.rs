//! Files of known cameras: names, poses and lenses, as other programs write them.
//!
//! | what | pose | names |
//! |---|---|---|
//! | COLMAP model, text or binary | camera_from_world, OpenCV axes | of images |
//! | `transforms.json` of nerfstudio and instant-ngp | world_from_camera, OpenGL axes | `file_path` |
//! | table, `.csv`, with the header that `table.rs` has | camera_from_world, OpenCV axes | `name` |
//! | TUM trajectory, `.tum` or `.txt` | world_from_camera, OpenCV axes | times of a video, numbers of photos |
//!
//! What lives here: the readers, and which camera belongs to which frame ([`KnownCameras::of_frames`]). What does not: what is done
//! with the cameras. The entry point is [`read`].
//!
//! Lenses are in pixels of the photo as it is shown, upright, and pixel centers lie at half numbers: the middle of a photo is at
//! (width / 2, height / 2).
//!
//! Files are untrusted: they are read with limits, nothing is allocated by a number that a file claims, and errors name the line or
//! the record.

mod colmap;
mod colmap_binary;
mod colmap_text;
mod error;
mod lens;
mod lines;
mod matching;
mod table;
mod transforms;
mod tum;

use std::path::Path;

pub use error::CamerasError;
pub use lens::{KnownLens, LensError};

use crate::scene::{Affine, rotation};

/// Cameras that a file may have: a hundred hours of video at one frame in four seconds.
const MAX_CAMERAS: usize = 100_000;

/// Longest name of an image, bytes.
const MAX_NAME: usize = 4096;

/// One camera of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownCamera {
    /// The name of its image, as the file has it; the timestamp where the file has no names.
    pub name: String,
    /// Its lens, where the file has one.
    pub lens: Option<KnownLens>,
    /// Its pose, where the file has one: OpenCV axes, a rotation and a translation.
    pub camera_from_world: Option<Affine>,
}

/// How a file tells which frame a camera belongs to.
#[derive(Debug, Clone, PartialEq)]
enum Keys {
    Names,
    /// One time for each camera, seconds.
    Seconds(Vec<f64>),
}

/// The cameras of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownCameras {
    /// The format: `colmap`, `transforms`, `table` or `tum`.
    pub format: &'static str,
    /// The cameras, in the order of the file.
    pub cameras: Vec<KnownCamera>,
    keys: Keys,
}

impl KnownCameras {
    /// Returns cameras that are known by the names of their images.
    pub fn named(format: &'static str, cameras: Vec<KnownCamera>) -> Self {
        Self {
            format,
            cameras,
            keys: Keys::Names,
        }
    }
}

/// Reads cameras from a file or folder; its name tells the format.
///
/// # Errors
/// When it cannot be read, is of no known format or damaged, or has no camera or one that cannot be represented.
pub fn read(path: &Path) -> Result<KnownCameras, CamerasError> {
    let known = read_any(path)?;
    match known.cameras.is_empty() {
        true => Err(CamerasError::Empty {
            path: path.to_owned(),
        }),
        false => Ok(known),
    }
}

fn read_any(path: &Path) -> Result<KnownCameras, CamerasError> {
    let metadata = path.metadata().map_err(|e| CamerasError::io(path, e))?;
    if metadata.is_dir() {
        if let Some(model) = colmap::model_in(path) {
            return colmap::read(&model);
        }
        let document = path.join("transforms.json");
        return match document.is_file() {
            true => transforms::read(&document),
            false => Err(CamerasError::NoModel {
                path: path.to_owned(),
            }),
        };
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_ascii_lowercase();
    if let Some(folder) = path.parent().filter(|_| colmap::is_part(&name)) {
        return colmap::read(folder);
    }
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("json") => transforms::read(path),
        Some("csv") => table::read(path),
        Some("tum" | "txt") => tum::read(path),
        _ => Err(CamerasError::Unknown {
            path: path.to_owned(),
        }),
    }
}

/// Returns the rotation of a quaternion (w, x, y, z), normalized, then the translation.
fn pose(quaternion: [f64; 4], translation: [f64; 3]) -> Result<Affine, &'static str> {
    let norm = quaternion.iter().map(|x| x * x).sum::<f64>().sqrt();
    let finite = norm.is_finite() && translation.iter().all(|x| x.is_finite());
    if !finite || norm < 1e-6 {
        return Err("its pose holds NaN or infinity, or a quaternion of length 0");
    }
    Ok(rotation::affine(quaternion.map(|x| x / norm), translation))
}

/// Returns the inverse of a rotation and translation.
fn inverse(pose: &Affine) -> Affine {
    let m = &pose.0;
    let mut out = [[0.0; 4]; 3];
    for (r, row) in out.iter_mut().enumerate() {
        for c in 0..3 {
            row[c] = m[c][r];
        }
        row[3] = -(0..3).map(|c| m[c][r] * m[c][3]).sum::<f64>();
    }
    Affine(out)
}

#[cfg(test)]
mod tests;
