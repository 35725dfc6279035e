//! Why a reconstruction cannot be placed.

use vggt_refine::similarity::AlignError;

use crate::cameras::LensError;

/// Errors of known cameras, lengths and positions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlacingError {
    /// A lens does not fit its photo.
    #[error("cannot use the known camera {camera:?}: {source}")]
    Lens {
        /// Name of the camera.
        camera: String,
        /// Why.
        source: LensError,
    },
    /// The known poses give no alignment.
    #[error("cannot bring the network's cameras to the known ones: {0}")]
    Align(#[source] AlignError),
    /// There are no photos.
    #[error("cannot read what the photos note: videos, saved predictions and the demo hold none")]
    NoPhotos,
    /// No photo has a usable focal length.
    #[error(
        "cannot take focal lengths from the photos: none of {photos} notes one that is plausible"
    )]
    NoFocal {
        /// How many there are.
        photos: usize,
    },
    /// There is no such frame.
    #[error("cannot find the photo {name:?} of a measured length: {why}")]
    Frame {
        /// The name or number as given.
        name: String,
        /// Why.
        why: String,
    },
    /// A point outside of its photo.
    #[error("cannot measure at {x},{y} of {name:?}: the photo has {width} x {height} pixels")]
    Outside {
        /// Column.
        x: f64,
        /// Row.
        y: f64,
        /// Name of the frame.
        name: String,
        /// Width of the photo.
        width: u32,
        /// Height of the photo.
        height: u32,
    },
    /// A point in the part of the photo that the network did not see.
    #[error(
        "cannot measure at {x},{y} of {name:?}: the network did not see this part of the photo, which was cropped away"
    )]
    Cropped {
        /// Column.
        x: f64,
        /// Row.
        y: f64,
        /// Name of the frame.
        name: String,
    },
    /// A point without a usable depth.
    #[error("cannot measure at {x},{y} of {name:?}: there is no depth, or it is masked")]
    NoDepth {
        /// Column.
        x: f64,
        /// Row.
        y: f64,
        /// Name of the frame.
        name: String,
    },
    /// Both ends are the same point.
    #[error("cannot measure the length {number}: both ends are the same point")]
    NoLength {
        /// Which, from 1.
        number: usize,
    },
    /// A scale that nothing has.
    #[error(
        "cannot use the measured length: a unit would be {meters} meters long, and 1e-6 to 1e6 are possible"
    )]
    Scale {
        /// Meters in a unit.
        meters: f64,
    },
    /// Too few photos note where they were taken.
    #[error(
        "cannot place the scene on the Earth: {found} of {photos} photos note a position, and at least {needed} are needed"
    )]
    TooFewPositions {
        /// How many do.
        found: usize,
        /// How many there are.
        photos: usize,
        /// How many are needed.
        needed: usize,
    },
    /// The noted positions do not say where the cameras are.
    #[error("cannot place the scene on the Earth: {0}")]
    Gps(#[source] AlignError),
    /// The noted positions are too inaccurate for a scene of this size.
    #[error(
        "cannot place the scene on the Earth: the noted positions are off by {error_m:.1} m, and the cameras are only {extent_m:.1} m apart"
    )]
    Inaccurate {
        /// Median distance, meters.
        error_m: f64,
        /// Extent of the positions, meters.
        extent_m: f64,
    },
    /// The cameras do not tell where up is.
    #[error(
        "cannot level the scene: the cameras are turned every way, so that none of them tells where up is"
    )]
    NoUp,
}
