//! What the two processes say to each other.
//!
//! First comes [`Settings`], answered by [`Reply::Hello`]. Then each [`Request`] comes with one open file, and is answered by
//! any number of [`Reply::Log`], [`Reply::Progress`] and [`Reply::Frame`], and one [`Reply::Size`], [`Reply::Done`] or
//! [`Reply::Failed`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{failure::Failure, note::Note};
use crate::frames::{
    DecodedImage, ImageLimits, Keyframes, Prepared, PreprocessError, PreprocessMode, VideoChoice,
    VideoLimits, VideoSummary, preprocess,
};

/// What becomes of the pixels of an image before they are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Resized for a network of this image and patch size.
    Network {
        /// How the image is made to fit.
        mode: PreprocessMode,
        /// Side of the network's input, in pixels.
        img_size: usize,
        /// Side of a patch, in pixels.
        patch_size: usize,
    },
    /// As they are.
    Whole,
}

impl Shape {
    /// Brings an image into this shape.
    ///
    /// # Errors
    /// When the network's sizes do not fit each other, or the image has no pixels.
    pub fn apply(self, image: DecodedImage) -> Result<DecodedImage, PreprocessError> {
        let Self::Network {
            mode,
            img_size,
            patch_size,
        } = self
        else {
            return Ok(image);
        };
        let (source_size, notes) = (image.source_size, image.notes.clone());
        let seconds = image.seconds;
        let Prepared { name, rgb, .. } = preprocess(image, mode, img_size, patch_size)?;
        Ok(DecodedImage {
            name,
            rgb,
            source_size,
            notes,
            seconds,
        })
    }
}

/// Limits of the process, sent once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settings {
    /// Bytes of memory for decoding.
    pub(super) memory: u64,
    /// Seconds of processor time, of all threads together.
    pub(super) cpu_s: u64,
    /// Threads beside those of FFmpeg.
    pub(super) threads: usize,
}

/// What is wanted of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Request {
    /// Name of the file, for errors and its ending.
    pub(super) name: String,
    pub(super) task: Task,
}

/// See [`Request`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Task {
    /// The image.
    Image { limits: Image, shape: Sizes },
    /// Width and height of the video's frames.
    VideoSize(Clip),
    /// Frames of the video.
    Video {
        limits: Clip,
        shape: Sizes,
        choice: Choice,
        max_frames: Option<usize>,
    },
}

/// [`VideoChoice`] on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Choice {
    Fps(Bits),
    Keyframes(usize),
    Numbers(Vec<u64>),
}

/// [`Shape`] on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sizes {
    /// Image and patch size; `None` leaves the pixels as they are.
    network: Option<(usize, usize)>,
    pad: bool,
}

/// [`ImageLimits`] on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Image {
    pixels: u64,
    side: u32,
    bytes: u64,
    memory: u64,
}

/// [`VideoLimits`] on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Clip {
    duration_s: Bits,
    pixels: u64,
    wall_time: Duration,
    memory: u64,
}

/// A number as its bits: JSON has no infinity, and its readers round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bits(u64);

/// What the process that decodes says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// It has locked itself in.
    Hello {
        version: String,
        /// What the kernel lacks for that.
        missing: Vec<String>,
    },
    /// A line for the log.
    Log(String),
    /// Frames of a video that were decoded, and their number if it is known.
    Progress { done: u64, total: u64 },
    /// Answer to [`Task::VideoSize`].
    Size { width: u32, height: u32 },
    /// A frame; its pixels follow, 8-bit RGB, row by row.
    Frame {
        /// Number of a video's frame.
        number: u64,
        width: u32,
        height: u32,
        source_width: u32,
        source_height: u32,
        notes: Vec<Note>,
        /// When the video shows it, in seconds.
        seconds: Option<Bits>,
    },
    /// There are no more frames.
    Done {
        thinned_from: Option<u64>,
        keyframes: Option<Keyframes>,
        warnings: Vec<String>,
    },
    /// The file cannot be decoded.
    Failed(Failure),
}

impl From<f64> for Bits {
    fn from(value: f64) -> Self {
        Self(value.to_bits())
    }
}

impl From<Bits> for f64 {
    fn from(bits: Bits) -> Self {
        Self::from_bits(bits.0)
    }
}

impl From<&VideoChoice> for Choice {
    fn from(choice: &VideoChoice) -> Self {
        match choice {
            VideoChoice::Fps(fps) => Self::Fps((*fps).into()),
            VideoChoice::Keyframes(n) => Self::Keyframes(*n),
            VideoChoice::Numbers(numbers) => Self::Numbers(numbers.clone()),
        }
    }
}

impl From<Choice> for VideoChoice {
    fn from(choice: Choice) -> Self {
        match choice {
            Choice::Fps(fps) => Self::Fps(fps.into()),
            Choice::Keyframes(n) => Self::Keyframes(n),
            Choice::Numbers(numbers) => Self::Numbers(numbers),
        }
    }
}

impl From<Shape> for Sizes {
    fn from(shape: Shape) -> Self {
        match shape {
            Shape::Whole => Self {
                network: None,
                pad: false,
            },
            Shape::Network {
                mode,
                img_size,
                patch_size,
            } => Self {
                network: Some((img_size, patch_size)),
                pad: mode == PreprocessMode::Pad,
            },
        }
    }
}

impl From<Sizes> for Shape {
    fn from(sizes: Sizes) -> Self {
        let mode = if sizes.pad {
            PreprocessMode::Pad
        } else {
            PreprocessMode::Crop
        };
        match sizes.network {
            None => Self::Whole,
            Some((img_size, patch_size)) => Self::Network {
                mode,
                img_size,
                patch_size,
            },
        }
    }
}

impl From<ImageLimits> for Image {
    fn from(limits: ImageLimits) -> Self {
        Self {
            pixels: limits.max_pixels,
            side: limits.max_side,
            bytes: limits.max_bytes,
            memory: limits.max_memory,
        }
    }
}

impl From<Image> for ImageLimits {
    fn from(limits: Image) -> Self {
        Self {
            max_pixels: limits.pixels,
            max_side: limits.side,
            max_bytes: limits.bytes,
            max_memory: limits.memory,
        }
    }
}

impl From<VideoLimits> for Clip {
    fn from(limits: VideoLimits) -> Self {
        Self {
            duration_s: limits.max_duration_s.into(),
            pixels: limits.max_pixels,
            wall_time: limits.max_wall_time,
            memory: limits.max_memory,
        }
    }
}

impl From<Clip> for VideoLimits {
    fn from(limits: Clip) -> Self {
        Self {
            max_duration_s: limits.duration_s.into(),
            max_pixels: limits.pixels,
            max_wall_time: limits.wall_time,
            max_memory: limits.memory,
        }
    }
}

impl From<VideoSummary> for Reply {
    fn from(summary: VideoSummary) -> Self {
        Self::Done {
            thinned_from: summary.thinned_from,
            keyframes: summary.keyframes,
            warnings: summary.warnings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_shapes_survive_the_way() {
        let images = ImageLimits {
            max_side: 7,
            ..ImageLimits::default()
        };
        assert_eq!(ImageLimits::from(Image::from(images)), images);
        let videos = VideoLimits {
            max_duration_s: f64::INFINITY,
            max_wall_time: Duration::MAX,
            ..VideoLimits::default()
        };
        let json = serde_json::to_string(&Clip::from(videos)).unwrap();
        let read: Clip = serde_json::from_str(&json).unwrap();
        assert_eq!(VideoLimits::from(read), videos);
        for mode in [PreprocessMode::Crop, PreprocessMode::Pad] {
            let shape = Shape::Network {
                mode,
                img_size: 518,
                patch_size: 14,
            };
            assert_eq!(Shape::from(Sizes::from(shape)), shape);
        }
        assert_eq!(Shape::from(Sizes::from(Shape::Whole)), Shape::Whole);
        // A rate that JSON readers round.
        let fps = 0.1_f64 + 0.2;
        let json = serde_json::to_string(&Bits::from(fps)).unwrap();
        let read: Bits = serde_json::from_str(&json).unwrap();
        assert_eq!(f64::from(read).to_bits(), fps.to_bits());
    }

    #[test]
    fn choices_survive_the_way() {
        for choice in [
            VideoChoice::Fps(0.1 + 0.2),
            VideoChoice::Keyframes(usize::MAX),
            VideoChoice::Numbers(vec![1, 7, 900]),
        ] {
            let json = serde_json::to_string(&Choice::from(&choice)).unwrap();
            let read: Choice = serde_json::from_str(&json).unwrap();
            assert_eq!(VideoChoice::from(read), choice);
        }
    }
}
