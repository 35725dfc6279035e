//! Progress and warnings on one typed stream: a bar on a terminal, messages in the service.

use std::fmt;

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use vggt_model::progress as model;
pub use vggt_model::progress::StopFlag;

use super::Work;
use crate::frames::{ImageNote, SkippedFiles};

/// A part of a reconstruction that takes noticeable time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Reading images or decoding a video, and resizing for the network; counted in frames.
    Decode,
    /// A part of the network.
    Network(model::Stage),
    /// Describing the frames to choose anchors among them, counted in frames.
    Describe,
    /// Running the network on some frames at a time, counted in frames.
    Frames,
    /// The sky network, counted in frames.
    Sky,
    /// Refining the cameras, counted in frames, each once for every round.
    Refine,
    /// Building the scene and writing files; counted in files.
    Write,
}

/// Something that a user should know of a reconstruction that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// Frames were left out because all of them are estimated not to fit into memory.
    FramesThinned {
        /// Frames that are used.
        used: usize,
        /// Frames of the source.
        available: usize,
        /// Whether those that are used are spread evenly over all.
        evenly: bool,
    },
    /// The network ran out of memory and runs again on fewer frames.
    RetriedWithFewer {
        /// The error of the first pass.
        error: String,
        /// Frames that are used now.
        used: usize,
        /// Frames of the first pass.
        of: usize,
    },
    /// Frames seem to show something else than the first one.
    Unrelated {
        /// Their names.
        names: Vec<String>,
        /// Whether they were left out.
        dropped: bool,
    },
    /// The anchors do not cover the capture.
    AnchorsFar {
        /// Anchors.
        anchors: usize,
        /// The largest distance of a frame to its nearest anchor, in hundredths.
        distance_percent: u32,
    },
    /// The video was decoded only in part, or with errors.
    Video(String),
    /// Files of the folder are not used.
    ImagesSkipped(SkippedImages),
    /// There is something to know of one or more images.
    Image {
        /// Name of the first.
        name: String,
        /// What there is to know of it.
        note: ImageNote,
        /// Number of further images of which the same kind of thing is to be known.
        others: usize,
    },
    /// Frames are taller than wide, and lose their top and bottom.
    Cropped {
        /// Name of the one that loses most.
        name: String,
        /// Share of its height that it loses, in percent.
        percent: u8,
        /// Number of frames that lose something.
        frames: usize,
    },
    /// Frames have no mask, where others have one.
    WithoutMask {
        /// Their names.
        names: Vec<String>,
        /// Number of all frames.
        frames: usize,
    },
    /// The cameras were not refined.
    NotRefined {
        /// Why not, as a sentence.
        why: String,
    },
    /// Some frames keep the pose that the network predicted, relative to the others, which were refined.
    PosesKept {
        /// Their names.
        names: Vec<String>,
    },
    /// Known poses are far from where the photos say that the cameras stood. They are used all the same.
    KnownOutliers {
        /// Names of their frames.
        names: Vec<String>,
    },
    /// Distortion of known lenses is left out.
    Distorted {
        /// How far it moves a corner of the network's image, pixels, rounded up.
        pixels: u32,
    },
    /// Measured lengths do not agree on the scale.
    LengthsDisagree {
        /// How much larger the largest scale is than the smallest, percent.
        percent: u32,
    },
    /// The cameras were hardly held level, so that up is uncertain.
    NotLevel {
        /// Their median roll, degrees.
        degrees: u32,
    },
    /// The weights are the demo's, and the frames are not.
    DemoWeights,
    /// A warning of the run whose frames are used again, in its words.
    Repeated(String),
}

/// How many images of a folder are used, and why the others are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedImages {
    /// Images that are used.
    pub used: usize,
    /// Images that could be used, but were left out for the sake of time or memory.
    pub left_out: usize,
    /// Files that cannot be used.
    pub skipped: SkippedFiles,
}

impl SkippedImages {
    /// Returns the number of files that were found, companions of photos not among them.
    #[must_use]
    pub fn found(&self) -> usize {
        self.used + self.left_out + self.skipped.0.len()
    }
}

impl fmt::Display for SkippedImages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} images used", self.used, self.found())?;
        if self.left_out > 0 {
            write!(f, ", {} left out evenly", self.left_out)?;
        }
        write!(f, "; skipped: {}", self.skipped)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FramesThinned {
                used,
                available,
                evenly,
            } => {
                let evenly = if *evenly { ", evenly" } else { "" };
                write!(
                    f,
                    "taking {used} of {available} frames{evenly}: more do not fit into memory"
                )
            }
            Self::RetriedWithFewer { error, used, of } => write!(
                f,
                "{error}: running again with {used} of the {of} frames, evenly"
            ),
            Self::Unrelated { names, dropped } => {
                let (count, named) = (names.len(), some_of(names));
                match dropped {
                    true => write!(
                        f,
                        "{count} frames left out, since they seem to show something else than the first: {named}"
                    ),
                    false => write!(
                        f,
                        "{count} frames seem to show something else than the first: {named}"
                    ),
                }
            }
            Self::AnchorsFar {
                anchors,
                distance_percent,
            } => write!(
                f,
                "{anchors} anchors do not cover the capture: a frame is {:.2} away from the nearest one (0 is alike, 1 has \
                 nothing in common)",
                f64::from(*distance_percent) / 100.0
            ),
            Self::NotRefined { why } => {
                write!(f, "the cameras are as the network predicted them, not refined: {why}")
            }
            Self::PosesKept { names } => write!(
                f,
                "{} frames keep the pose that the network predicted, since too few corners in them were found in others: {}",
                names.len(),
                some_of(names)
            ),
            Self::KnownOutliers { names } => write!(
                f,
                "{} known poses are far from where the photos say that the cameras stood, and are used all the same: {}",
                names.len(),
                some_of(names)
            ),
            Self::Distorted { pixels } => write!(
                f,
                "the known lenses have distortion of up to {pixels} pixels at the corners of the network's image, which is left \
                 out: undistort the photos first"
            ),
            Self::LengthsDisagree { percent } => write!(
                f,
                "the measured lengths disagree by {percent} %: the median is taken"
            ),
            Self::NotLevel { degrees } => write!(
                f,
                "the cameras roll by {degrees} degrees in the median, so that up is uncertain"
            ),
            Self::Video(text) | Self::Repeated(text) => f.write_str(text),
            Self::DemoWeights => f.write_str(
                "the demo weights only know synthetic scenes of boxes, balls and cylinders: results on other images are \
                 meaningless",
            ),
            Self::ImagesSkipped(images) => images.fmt(f),
            Self::WithoutMask { names, frames } => write!(
                f,
                "{} of {frames} frames have no mask and are kept whole: {}",
                names.len(),
                some_of(names)
            ),
            Self::Image { name, note, others } => match others {
                0 => write!(f, "{name:?}: {note}"),
                1 => write!(f, "{name:?}: {note} (1 other image likewise)"),
                n => write!(f, "{name:?}: {note} ({n} other images likewise)"),
            },
            Self::Cropped {
                name,
                percent,
                frames,
            } => match frames {
                0 | 1 => write!(
                    f,
                    "{name:?} is cropped to a square: it loses {percent} % of its height"
                ),
                n => write!(
                    f,
                    "{n} frames are cropped to squares: {name:?} loses {percent} % of its height"
                ),
            },
        }
    }
}

/// Names that are listed in a warning.
const LISTED: usize = 5;

/// The first names, and how many others there are.
fn some_of(names: &[String]) -> String {
    let first: Vec<String> = names
        .iter()
        .take(LISTED)
        .map(|n| format!("{n:?}"))
        .collect();
    match names.len().saturating_sub(LISTED) {
        0 => first.join(", "),
        others => format!("{} and {others} more", first.join(", ")),
    }
}

/// Receives every step of a reconstruction, and can stop it.
pub trait Watcher {
    /// Reports that `done` of `total` steps of `stage` are finished; a total of 0 is not known yet. Returning `false` ends
    /// the work with [`super::PipelineError::Cancelled`].
    fn step(&mut self, stage: Stage, done: usize, total: usize) -> bool;

    /// Returns a flag that another thread sets to end the work within a step, with the same error. On a CUDA device only the
    /// steps end it.
    fn stop_flag(&self) -> Option<StopFlag> {
        None
    }

    /// Reports that the results of another frame are kept: who goes on after an interruption has them. By default does nothing.
    fn kept_frame(&mut self) {}

    /// Reports what the network is about to compute, after the frames were read; by default that goes to the log if it takes long.
    fn begin(&mut self, work: &Work) {
        if work.is_long {
            tracing::info!("{work}");
        }
    }

    /// Reports a warning; by default it goes to the log.
    fn warn(&mut self, warning: &Warning) {
        tracing::warn!("{warning}");
    }
}

/// Ignores progress and never stops the work.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Watcher for Silent {
    fn step(&mut self, _: Stage, _: usize, _: usize) -> bool {
        true
    }
}

/// Adapts a [`Watcher`] to the network's observer.
pub(super) struct NetworkSteps<'a>(pub(super) &'a mut dyn Watcher);

impl model::Observer for NetworkSteps<'_> {
    fn step(&mut self, stage: model::Stage, done: usize, total: usize) -> ControlFlow<()> {
        if self.0.step(Stage::Network(stage), done, total) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }

    fn stop_flag(&self) -> Option<StopFlag> {
        self.0.stop_flag()
    }
}
