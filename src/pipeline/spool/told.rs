//! Warnings of the decoding, kept with the frames, so that a run that takes them from a spool reports them too.

use serde::{Deserialize, Serialize};

use super::super::{SkippedImages, Warning};
use crate::frames::ImageNote;

/// A warning as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Told {
    /// [`Warning::FramesThinned`].
    Thinned {
        /// Frames that are used.
        used: usize,
        /// Frames of the source.
        available: usize,
        /// Whether those that are used are spread evenly over all.
        #[serde(default = "yes")]
        evenly: bool,
    },
    /// [`Warning::ImagesSkipped`].
    Skipped(SkippedImages),
    /// [`Warning::Cropped`].
    Cropped {
        /// Name of the one that loses most.
        name: String,
        /// Share of its height that it loses, in percent.
        percent: u8,
        /// Number of frames that lose something.
        frames: usize,
    },
    /// Any other, in its words.
    Text(String),
}

/// As all were that earlier versions kept.
fn yes() -> bool {
    true
}

impl From<&Warning> for Told {
    fn from(warning: &Warning) -> Self {
        match warning {
            Warning::FramesThinned {
                used,
                available,
                evenly,
            } => Self::Thinned {
                used: *used,
                available: *available,
                evenly: *evenly,
            },
            Warning::ImagesSkipped(images) => Self::Skipped(images.clone()),
            Warning::Cropped {
                name,
                percent,
                frames,
            } => Self::Cropped {
                name: name.clone(),
                percent: *percent,
                frames: *frames,
            },
            other => Self::Text(other.to_string()),
        }
    }
}

impl From<Told> for Warning {
    fn from(told: Told) -> Self {
        match told {
            Told::Thinned {
                used,
                available,
                evenly,
            } => Self::FramesThinned {
                used,
                available,
                evenly,
            },
            Told::Skipped(images) => Self::ImagesSkipped(images),
            Told::Cropped {
                name,
                percent,
                frames,
            } => Self::Cropped {
                name,
                percent,
                frames,
            },
            Told::Text(text) => Self::Repeated(text),
        }
    }
}

/// Returns true for a warning that tells of the memory that was free: with more of it, the frames would be others.
pub(super) fn depends_on_memory(warning: &Warning) -> bool {
    matches!(
        warning,
        Warning::RetriedWithFewer { .. }
            | Warning::Image {
                note: ImageNote::Scaled { .. },
                ..
            }
    )
}
