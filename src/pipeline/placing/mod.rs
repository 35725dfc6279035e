//! Where a reconstruction is and how large: known cameras and lenses, lengths that somebody measured, GPS, and level ground.
//!
//! Two steps, so that refinement can run between them: [`with_cameras`] replaces cameras, [`in_world`] moves
//! the whole. Both wrap the frames, which stay on disk.

mod depth_factor;
mod error;
mod focal;
mod geometry;
mod gps;
mod known;
mod length;
mod level;
mod moved;
mod report;

use nalgebra::Similarity3;

pub use error::PlacingError;
pub use focal::FocalReport;
pub use gps::GpsReport;
pub use known::KnownReport;
pub use length::{LengthReport, MeasuredLength, PhotoPoint};
pub use level::LevelReport;
pub use report::Placed;

use super::{PipelineError, SavedFrames, ScaledFrames, Warning, Watcher};
use crate::{
    cameras::KnownCameras,
    frames::PhotoNotes,
    scene::{PredictedFrames, Unit, World, camera::views},
};
use moved::MovedFrames;

/// What is known of where a reconstruction is.
#[derive(Clone, Copy, Default)]
pub struct Placing<'a> {
    /// Cameras that replace the network's.
    pub cameras: Option<&'a KnownCameras>,
    /// Takes focal lengths from the notes of the photos.
    pub exif_focal: bool,
    /// Lengths in photos.
    pub lengths: &'a [MeasuredLength],
    /// Takes positions from the notes of the photos.
    pub gps: bool,
    /// Turns the world so that y is down.
    pub level: bool,
    /// What cameras and phones noted in the photos, by the names of frames.
    pub notes: Option<&'a PhotoNotes>,
}

/// Photos with a position that a place on the Earth needs.
pub const GPS_POSITIONS: usize = gps::NEEDED;

/// Frames, wherever they are.
type Frames = Box<dyn PredictedFrames + Send>;

/// Replaces cameras and lenses by known ones.
///
/// # Errors
/// When known cameras do not fit the frames.
pub(super) fn with_cameras(
    mut frames: Frames,
    saved: &SavedFrames,
    placing: &Placing<'_>,
    placed: &mut Placed,
    watcher: &mut dyn Watcher,
) -> Result<Frames, PipelineError> {
    if placing.exif_focal {
        let notes = placing.notes.ok_or(PlacingError::NoPhotos)?;
        let (corrected, report) = focal::with_noted_focal(frames, saved, notes)?;
        frames = corrected;
        tracing::info!("{report}");
        placed.focal = Some(report);
    }
    if let Some(known) = placing.cameras {
        let (corrected, report) = known::with_known_cameras(frames, saved, known)?;
        frames = Box::new(corrected);
        tracing::info!("{report}");
        if !report.outliers.is_empty() {
            let names = report.outliers.clone();
            watcher.warn(&Warning::KnownOutliers { names });
        }
        if report.is_distorted() {
            // A float that is not negative, rounded up to say at least so many.
            let pixels = report.distortion_pixels.ceil() as u32;
            watcher.warn(&Warning::Distorted { pixels });
        }
        placed.cameras = Some(report);
    }
    Ok(frames)
}

/// Moves, turns and scales the whole.
///
/// # Errors
/// When lengths cannot be measured, or positions give no place.
pub(super) fn in_world(
    mut frames: Frames,
    saved: &SavedFrames,
    placing: &Placing<'_>,
    placed: &mut Placed,
    watcher: &mut dyn Watcher,
) -> Result<Frames, PipelineError> {
    if !placing.lengths.is_empty() {
        let report = length::measure(&*frames, saved, placing.lengths)?;
        tracing::info!("{report}");
        if let Some(percent) = report.disagreement() {
            watcher.warn(&Warning::LengthsDisagree { percent });
        }
        frames = Box::new(ScaledFrames::new(frames, report.meters_per_unit));
        placed.lengths = Some(report);
    }
    if placing.gps {
        let notes = placing.notes.ok_or(PlacingError::NoPhotos)?;
        let (similarity, report) = gps::locate(&*frames, saved, notes)?;
        tracing::info!("{report}");
        let world = World::EastNorthUp {
            origin: report.origin,
        };
        frames = Box::new(MovedFrames::new(frames, similarity, world, Unit::Meters));
        placed.gps = Some(report);
    } else if placing.level {
        let (turn, report) = level::level(&views(&*frames, 0..frames.count())?)?;
        tracing::info!("{report}");
        if report.is_doubtful() {
            watcher.warn(&Warning::NotLevel {
                degrees: report.median_roll_deg.round() as u32,
            });
        }
        let similarity = Similarity3::from_parts(Default::default(), turn, 1.0);
        let unit = frames.unit();
        frames = Box::new(MovedFrames::new(frames, similarity, World::Level, unit));
        placed.level = Some(report);
    }
    Ok(frames)
}
