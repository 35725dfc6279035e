//! Focal lengths that photos note, as far as they can be believed.

use crate::frames::{PhotoNote, Placement};

/// Focal lengths that are believed, in parts of the network's.
const PLAUSIBLE: std::ops::RangeInclusive<f64> = 0.5..=2.0;

/// Fields of view along the longer side that are believed, degrees.
const PLAUSIBLE_FOV_DEG: std::ops::RangeInclusive<f64> = 10.0..=130.0;

/// A focal length that a photo notes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct NotedFocal {
    /// In pixels of the photo, upright.
    pub(super) pixels: f64,
    /// Whether it is about what the network sees.
    pub(super) is_plausible: bool,
}

/// Returns the focal length that a photo notes; `intrinsic` is the network's, in pixels of its own image.
pub(super) fn noted_focal(
    note: &PhotoNote,
    place: &Placement,
    intrinsic: &[[f64; 3]; 3],
) -> Option<NotedFocal> {
    let size = [place.source_width, place.source_height];
    let pixels = note.focal_pixels(size)?;
    let network = (intrinsic[0][0] / place.scale_x * intrinsic[1][1] / place.scale_y).sqrt();
    let longer = f64::from(size[0].max(size[1]));
    let fov_deg = 2.0 * (longer / 2.0 / pixels).atan().to_degrees();
    Some(NotedFocal {
        pixels,
        is_plausible: PLAUSIBLE.contains(&(pixels / network))
            && PLAUSIBLE_FOV_DEG.contains(&fov_deg),
    })
}
