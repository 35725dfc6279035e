//! COLMAP models: which files, and their camera models.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::{CamerasError, KnownCamera, KnownCameras, KnownLens, colmap_binary, colmap_text};
use crate::scene::Affine;

/// The camera models that are a pinhole with OpenCV's distortion: number, name and number of parameters.
/// COLMAP: src/colmap/sensor/models.h.
const MODELS: [(i32, &str, usize); 5] = [
    (0, "SIMPLE_PINHOLE", 3),
    (1, "PINHOLE", 4),
    (2, "SIMPLE_RADIAL", 4),
    (3, "RADIAL", 5),
    (4, "OPENCV", 8),
];

/// The other models of COLMAP, by number from 5.
const OTHERS: [&str; 7] = [
    "OPENCV_FISHEYE",
    "FULL_OPENCV",
    "FOV",
    "SIMPLE_RADIAL_FISHEYE",
    "RADIAL_FISHEYE",
    "THIN_PRISM_FISHEYE",
    "RAD_TAN_THIN_PRISM_FISHEYE",
];

/// A camera model that is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct CameraModel {
    name: &'static str,
    pub(super) parameters: usize,
}

/// An image of a model: its pose and the number of its camera.
pub(super) struct Image {
    pub(super) name: String,
    pub(super) camera: u32,
    pub(super) camera_from_world: Affine,
}

/// Returns whether a file of this name, in lower case, is a part of a model.
pub(super) fn is_part(name: &str) -> bool {
    let (stem, ending) = name.split_once('.').unwrap_or((name, ""));
    matches!(stem, "cameras" | "images" | "points3d") && matches!(ending, "bin" | "txt")
}

/// Returns the folder of a model: this one, or where datasets have it.
pub(super) fn model_in(folder: &Path) -> Option<PathBuf> {
    let places = ["", "sparse/0", "sparse"].map(|place| folder.join(place));
    places.into_iter().find(|place| {
        let has = |ending: &str| place.join(format!("images.{ending}")).is_file();
        has("bin") || has("txt")
    })
}

/// Reads the model in `folder`, the binary form where both are there, as COLMAP does.
pub(super) fn read(folder: &Path) -> Result<KnownCameras, CamerasError> {
    let has = |name: &str| folder.join(name).is_file();
    let binary = has("cameras.bin") && has("images.bin");
    let text = has("cameras.txt") && has("images.txt");
    if !(binary || text) {
        return Err(CamerasError::NoModel {
            path: folder.to_owned(),
        });
    }
    let (lenses, images) = match binary {
        true => (
            colmap_binary::cameras(&folder.join("cameras.bin"))?,
            colmap_binary::images(&folder.join("images.bin"))?,
        ),
        false => (
            colmap_text::cameras(&folder.join("cameras.txt"))?,
            colmap_text::images(&folder.join("images.txt"))?,
        ),
    };
    let cameras = images
        .into_iter()
        .map(|image| with_lens(image, &lenses, folder));
    let cameras = cameras.collect::<Result<_, _>>()?;
    Ok(KnownCameras::named("colmap", cameras))
}

fn with_lens(
    image: Image,
    lenses: &HashMap<u32, KnownLens>,
    folder: &Path,
) -> Result<KnownCamera, CamerasError> {
    let lens = lenses.get(&image.camera).copied().ok_or_else(|| {
        let why = format!("there is no camera {}", image.camera);
        CamerasError::content(folder, format!("image {:?}", image.name), why)
    })?;
    Ok(KnownCamera {
        name: image.name,
        lens: Some(lens),
        camera_from_world: Some(image.camera_from_world),
    })
}

impl CameraModel {
    /// Returns the model of this number.
    pub(super) fn numbered(number: i32) -> Result<Self, String> {
        let found = MODELS.iter().find(|(model, ..)| *model == number);
        found.map(Self::of).ok_or_else(|| {
            let other = usize::try_from(number.wrapping_sub(5)).ok();
            match other.and_then(|i| OTHERS.get(i)) {
                Some(name) => unsupported(name),
                None => format!("there is no camera model {number}"),
            }
        })
    }

    /// Returns the model of this name.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        let found = MODELS.iter().find(|(_, model, _)| *model == name);
        found
            .map(Self::of)
            .ok_or_else(|| match OTHERS.contains(&name) {
                true => unsupported(name),
                false => format!("there is no camera model {:?}", super::lines::short(name)),
            })
    }

    fn of(&(_, name, parameters): &(i32, &'static str, usize)) -> Self {
        Self { name, parameters }
    }

    /// Returns the lens with these parameters, as many as the model has.
    pub(super) fn lens(self, size: [f64; 2], p: &[f64]) -> Result<KnownLens, String> {
        let (focal, principal, distortion) = match (self.name, p) {
            ("SIMPLE_PINHOLE", &[f, cx, cy]) => ([f, f], [cx, cy], [0.0; 4]),
            ("PINHOLE", &[fx, fy, cx, cy]) => ([fx, fy], [cx, cy], [0.0; 4]),
            ("SIMPLE_RADIAL", &[f, cx, cy, k]) => ([f, f], [cx, cy], [k, 0.0, 0.0, 0.0]),
            ("RADIAL", &[f, cx, cy, k1, k2]) => ([f, f], [cx, cy], [k1, k2, 0.0, 0.0]),
            ("OPENCV", &[fx, fy, cx, cy, k1, k2, p1, p2]) => ([fx, fy], [cx, cy], [k1, k2, p1, p2]),
            (name, p) => return Err(format!("{name} has other than {} parameters", p.len())),
        };
        let finite = p.iter().chain(&size).all(|x| x.is_finite());
        if !finite || focal.iter().any(|f| *f <= 0.0) {
            return Err("its focal lengths must be positive and its numbers finite".to_owned());
        }
        Ok(KnownLens::Pixels {
            focal,
            principal: Some(principal),
            size: Some(size),
            distortion,
        })
    }
}

fn unsupported(model: &str) -> String {
    format!(
        "the camera model {model} cannot be used, since it is not a pinhole with two coefficients: undistort the images first \
         (colmap image_undistorter), and use the model that it writes"
    )
}
