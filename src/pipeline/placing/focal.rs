//! Focal lengths that cameras and phones note in photos.

use std::fmt;

use serde_json::{Value, json};

use super::{
    super::{PipelineError, SavedFrames, noted_focal::noted_focal},
    Frames, PlacingError,
    known::{placement, with_known_cameras},
};
use crate::{
    cameras::{KnownCamera, KnownCameras, KnownLens},
    frames::PhotoNotes,
    scene::camera::views,
};

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
        let noted_here = notes
            .get(name)
            .and_then(|note| noted_focal(note, &place, &view.intrinsic));
        let Some(found) = noted_here else {
            continue;
        };
        noted += 1;
        if found.is_plausible {
            cameras.push(KnownCamera {
                name: name.clone(),
                lens: Some(KnownLens::Pixels {
                    focal: [found.pixels; 2],
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
