//! Focal lengths that cameras and phones note in photos.

use std::fmt;

use serde_json::{Value, json};

use super::{
    super::{PipelineError, SavedFrames},
    Frames, PlacingError,
    known::{placement, with_known_cameras},
};
use crate::{
    cameras::{KnownCamera, KnownCameras, KnownLens},
    frames::PhotoNotes,
    scene::camera::views,
};

/// Focal lengths that are believed, in parts of the network's.
const PLAUSIBLE: std::ops::RangeInclusive<f64> = 0.5..=2.0;

/// Fields of view along the longer side that are believed, degrees.
const PLAUSIBLE_FOV_DEG: std::ops::RangeInclusive<f64> = 10.0..=130.0;

/// Which focal lengths were taken from the photos.
#[derive(Debug, Clone, PartialEq)]
pub struct FocalReport {
    /// Frames.
    pub frames: usize,
    /// Photos that note a focal length.
    pub noted: usize,
    /// Those that are plausible, and replace the network's.
    pub used: usize,
    /// The used ones in parts of the network's, the median.
    pub focal_ratio: Option<f64>,
    /// What depths were multiplied by.
    pub depth_factor: f64,
}

impl FocalReport {
    /// Returns it as JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "noted": self.noted,
            "used": self.used,
            "focal_ratio": self.focal_ratio,
            "depth_factor": self.depth_factor,
        })
    }
}

impl fmt::Display for FocalReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            frames,
            noted,
            used,
            ..
        } = self;
        write!(
            f,
            "focal lengths: {noted} of {frames} photos note one, {used} are plausible"
        )?;
        match self.focal_ratio {
            Some(ratio) => write!(f, ", {ratio:.3} times the network's (median)"),
            None => Ok(()),
        }
    }
}

/// Replaces the network's focal lengths by those of the photos, where they are plausible; the principal point stays in the middle.
///
/// # Errors
/// When no photo has a plausible one, or a camera is damaged.
pub(super) fn with_noted_focal(
    frames: Frames,
    saved: &SavedFrames,
    notes: &PhotoNotes,
) -> Result<(Frames, FocalReport), PipelineError> {
    let views = views(&*frames, 0..frames.count())?;
    let (mut noted, mut cameras) = (0, Vec::new());
    for view in &views {
        let Some(name) = saved.names.get(view.frame) else {
            continue;
        };
        let place = placement(saved, view.frame, frames.size());
        let size = [place.source_width, place.source_height];
        let Some(focal) = notes.get(name).and_then(|note| note.focal_pixels(size)) else {
            continue;
        };
        noted += 1;
        let network =
            (view.intrinsic[0][0] / place.scale_x * view.intrinsic[1][1] / place.scale_y).sqrt();
        let longer = f64::from(size[0].max(size[1]));
        let fov_deg = 2.0 * (longer / 2.0 / focal).atan().to_degrees();
        if PLAUSIBLE.contains(&(focal / network)) && PLAUSIBLE_FOV_DEG.contains(&fov_deg) {
            cameras.push(KnownCamera {
                name: name.clone(),
                lens: Some(KnownLens::Pixels {
                    focal: [focal, focal],
                    principal: None,
                    size: None,
                    distortion: [0.0; 4],
                }),
                camera_from_world: None,
            });
        }
    }
    if cameras.is_empty() {
        return Err(PlacingError::NoFocal {
            photos: views.len(),
        }
        .into());
    }
    let known = KnownCameras::named("exif", cameras);
    let (corrected, report) = with_known_cameras(frames, saved, &known)?;
    let report = FocalReport {
        frames: views.len(),
        noted,
        used: report.lenses,
        focal_ratio: report.focal_ratio,
        depth_factor: report.depth_factor,
    };
    Ok((Box::new(corrected), report))
}
