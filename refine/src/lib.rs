//! Bundle adjustment for feed-forward reconstructions: better cameras from predicted cameras, depth maps and photos.
//!
//! A network such as VGGT predicts a camera and a depth map for each photo. They are close, but rarely to the pixel. This crate
//! finds the same corners in several photos, with the predictions as a guide, and moves the cameras until the corners agree. It
//! needs no other network, and it refuses a result that the photos do not support.
//!
//! Pure: no files, no clock, no randomness. The same input gives the same result, to the bit, on any number of threads.
//!
//! ```text
//! module       contents                                  may use
//! similarity   robust alignment of cameras and points    camera
//! camera       poses and lenses                          -
//! ```
//!
//! Conventions: a pose is camera_from_world with OpenCV axes (x right, y down, z forward). Pixels are those of the photo that the
//! caller gives, and their centers lie at half numbers, as in COLMAP.

pub mod camera;
pub mod similarity;

pub use camera::{Lens, Pose};
