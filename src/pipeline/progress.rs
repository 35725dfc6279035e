//! Progress and warnings on one typed stream: a bar on a terminal, messages in the service.

use std::fmt;

use std::ops::ControlFlow;

use vggt_model::progress as model;

/// A part of a reconstruction that takes noticeable time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Reading images or decoding a video, and resizing for the network; counted in frames.
    Decode,
    /// A part of the network.
    Network(model::Stage),
    /// The sky network, counted in frames.
    Sky,
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
    /// The video was decoded only in part, or with errors.
    Video(String),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FramesThinned { used, available } => write!(
                f,
                "taking {used} of {available} frames, evenly: more do not fit into memory"
            ),
            Self::RetriedWithFewer { error, used, of } => write!(
                f,
                "{error}: running again with {used} of the {of} frames, evenly"
            ),
            Self::Video(text) => f.write_str(text),
        }
    }
}

/// Receives every step of a reconstruction, and can stop it.
pub trait Watcher {
    /// Reports that `done` of `total` steps of `stage` are finished; a total of 0 is not known yet. Returning `false` ends
    /// the work with [`super::PipelineError::Cancelled`].
    fn step(&mut self, stage: Stage, done: usize, total: usize) -> bool;

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
}
