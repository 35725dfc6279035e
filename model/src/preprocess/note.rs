//! What a user should know of an image that was read.

use std::fmt;

/// Something that a user should know of an image that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageNote {
    /// The file is cut off: a part of the image is gray.
    Truncated {
        /// Share of the image that is missing, in percent, 1 to 99.
        missing_percent: u8,
    },
    /// The file is cut off: every part of the image is there, but without its finest detail or its color.
    TruncatedDetail,
    /// The file is a camera's RAW format, of which the largest JPEG preview was read.
    Preview {
        /// Name of the RAW format.
        format: &'static str,
        /// Width of the preview, in pixels, before orientation.
        width: u32,
        /// Height of the preview, in pixels, before orientation.
        height: u32,
    },
    /// The file holds several images, of which the first was read.
    FirstOfMany {
        /// What it holds: "pages" or "frames".
        what: &'static str,
    },
    /// The image was scaled down while it was decoded, to save memory.
    Scaled {
        /// Width in the file, in pixels, before orientation.
        width: u32,
        /// Height in the file, in pixels, before orientation.
        height: u32,
        /// Width of what was decoded, in pixels.
        to_width: u32,
        /// Height of what was decoded, in pixels.
        to_height: u32,
    },
}

impl fmt::Display for ImageNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { missing_percent } => write!(
                f,
                "the file is cut off: about {missing_percent} % of the image is missing and shows gray"
            ),
            Self::TruncatedDetail => {
                f.write_str("the file is cut off: the image lacks its finest detail or its color")
            }
            Self::Preview {
                format,
                width,
                height,
            } => write!(
                f,
                "{format} is a RAW format: using its embedded JPEG preview of {width} x {height} pixels"
            ),
            Self::FirstOfMany { what } => write!(f, "the file has several {what}: using the first"),
            Self::Scaled {
                width,
                height,
                to_width,
                to_height,
            } => write!(
                f,
                "the image of {width} x {height} pixels was decoded at {to_width} x {to_height} to save memory"
            ),
        }
    }
}

impl ImageNote {
    /// The note on a missing share, which may be anything between 0 and 1; `None` when nothing is missing.
    pub(super) fn missing(share: f64) -> Option<Self> {
        (share > 0.0).then(|| Self::Truncated {
            missing_percent: (share * 100.0).ceil().clamp(1.0, 99.0) as u8,
        })
    }
}
