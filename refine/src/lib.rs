//! Bundle adjustment for feed-forward reconstructions: better cameras from predicted cameras, depth maps and photos.
//!
//! A network such as VGGT predicts a camera and a depth map for each photo. They are close, but rarely to the pixel. This crate
//! finds the same corners in several photos, with the predictions as a guide, and moves the cameras until the corners agree. It
//! needs no other network, but takes matches of one as guesses, and it refuses a result that the photos do not support.
//!
//! Pure: no files, no clock, no randomness. The same input gives the same result, to the bit, on any number of threads.
//!
//! ```text
//! module       contents                                  may use
//! refine       the whole: rounds from coarse to fine     judge, guesses, follow, lenses, tracks, bundle, similarity, view,
//!                                                        gray, camera, stopped
//! judge        whether the result may be used            tracks, bundle, similarity, camera
//! guesses      matches from elsewhere, verified          resection, follow, bundle, view, gray, camera, stopped
//! resection    poses from matches alone                  follow, similarity, bundle, camera
//! follow       corners found again in other views        tracks, bundle, view, corners, patch, gray, stopped
//! lenses       shared lenses, known focal lengths        tracks, bundle, view, camera
//! tracks       matches -> tracks and points              bundle, camera
//! view         photo, camera and depth of one view       bundle, gray, camera
//! bundle       bundle adjustment                         cholesky, camera
//! cholesky     mostly empty systems of equations         -
//! patch        small patches, found in other photos      gray
//! corners      places that look like no place beside     gray
//! gray         gray photos and their pyramids            -
//! similarity   robust alignment of cameras and points    camera
//! camera       poses and lenses                          -
//! stopped      the end of the work by the caller's wish  -
//! ```
//!
//! Conventions: a pose is camera_from_world with OpenCV axes (x right, y down, z forward). Pixels are those of the photo that the
//! caller gives, and their centers lie at half numbers, as in COLMAP.

pub mod bundle;
pub mod camera;
mod cholesky;
mod corners;
mod follow;
mod gray;
mod guesses;
mod judge;
mod lenses;
mod patch;
mod refine;
mod resection;
pub mod similarity;
mod stopped;
mod tracks;
mod view;

pub use bundle::{Observation, Track};
pub use camera::{Lens, Pose};
pub use corners::corners;
pub use gray::Gray;
pub use guesses::{Guess, GuessReport};
pub use judge::Refusal;
pub use refine::{Progress, RefineOptions, RefinedCamera, Refinement, Report, refine};
pub use stopped::Stopped;
pub use tracks::triangulate;
pub use view::{DepthMap, View};
