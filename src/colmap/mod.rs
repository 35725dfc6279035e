//! COLMAP: cameras, images and 3D points in its text and binary forms, in the pixels of the original images.
//!
//! What lives here: the model ([`Model`]) and its two forms. What does not: folders and files. The caller opens
//! one file for each of [`ModelFile::ALL`], all in one folder, conventionally `sparse/0`; COLMAP and pycolmap read
//! the binary form when both are there.
//!
//! Conventions:
//! - World is the network's world, as in the predictions; poses are camera_from_world, as COLMAP has them.
//! - An image's number is the frame's number + 1. Frames whose lenses are the same to the bit share a camera, which has the number
//!   of the first; it is a PINHOLE, or OPENCV with k1 alone where distortion is known.
//! - The network unprojects whole pixel numbers, COLMAP's pixel centers lie at half numbers. A pixel's center
//!   (x, y) of the network's image is therefore (x + 0.5, y + 0.5) here, and the principal point moves along, so
//!   that every point projects to the center of the pixel that it was made from, in the original image.
//! - Points that several images show ([`Track`]) come first. Every other point has a track of one element, and points outside
//!   the original image (in its padding) are left out. The error is the mean distance between a point's projections and where its
//!   images show it; for the others that is the pixel that they come from: zero but for rounding with "Depthmap and Camera", and
//!   what the point head and the cameras disagree by with "Pointmap Regression".
//! - Images are named as given. The text form ends a name at the first blank, so there, and only there, blanks
//!   are written as `%20` and the like.

mod binary;
mod model;
mod original;
mod text;

pub use model::{Camera, Model, Track};
pub use original::{OriginalImage, check_names};

/// What can go wrong while a model is made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ColmapError {
    /// There must be one original image for each frame of the predictions.
    #[error("cannot name {frames} frames with {images} images: each frame needs one")]
    Count {
        /// Frames of the predictions.
        frames: usize,
        /// Images given.
        images: usize,
    },
    /// Two images have the same name, which COLMAP takes for the same image.
    #[error(
        "cannot tell images apart by the name {name:?}: two have it; rename one, or keep their folders in the names"
    )]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A name that COLMAP cannot read back.
    #[error("cannot write the image name {name:?}: it is empty or holds a NUL")]
    BadName {
        /// The name.
        name: String,
    },
    /// A camera that is not finite.
    #[error(
        "cannot write the camera of frame {frame}: it holds NaN or infinity, so the predictions are damaged"
    )]
    Camera {
        /// Whose camera.
        frame: usize,
    },
    /// A placement that cannot be undone.
    #[error(
        "cannot map pixels back into {name:?}: its size and scale must be positive and its offset finite"
    )]
    Placement {
        /// The image's name.
        name: String,
    },
}

/// The files of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelFile {
    /// `cameras.bin`
    CamerasBinary,
    /// `images.bin`
    ImagesBinary,
    /// `points3D.bin`
    PointsBinary,
    /// `cameras.txt`
    CamerasText,
    /// `images.txt`
    ImagesText,
    /// `points3D.txt`
    PointsText,
}

impl ModelFile {
    /// Every file that COLMAP expects in a model's folder, in both forms.
    pub const ALL: [Self; 6] = [
        Self::CamerasBinary,
        Self::ImagesBinary,
        Self::PointsBinary,
        Self::CamerasText,
        Self::ImagesText,
        Self::PointsText,
    ];

    /// The name that COLMAP looks for.
    pub fn name(self) -> &'static str {
        match self {
            Self::CamerasBinary => "cameras.bin",
            Self::ImagesBinary => "images.bin",
            Self::PointsBinary => "points3D.bin",
            Self::CamerasText => "cameras.txt",
            Self::ImagesText => "images.txt",
            Self::PointsText => "points3D.txt",
        }
    }
}
