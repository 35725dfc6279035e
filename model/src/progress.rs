//! Progress of a forward pass, and the way to stop it.

use std::ops::ControlFlow;

pub use crate::stop::StopFlag;

use crate::error::{Error, Result};

/// A part of the forward pass that takes noticeable time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// The DINOv2 trunk, counted in its blocks.
    PatchEmbed,
    /// Attention within each frame, counted in blocks.
    FrameBlocks,
    /// Attention across all frames, counted in blocks.
    GlobalBlocks,
    /// Camera head, counted in refinements.
    Camera,
    /// Depth head, counted in frames.
    Depth,
    /// Point head, counted in frames.
    Point,
    /// Track head, counted in refinements.
    Track,
}

/// Receives every step of a forward pass, and can stop it.
///
/// Closures are observers:
///
/// ```
/// use std::ops::ControlFlow;
///
/// use vggt_model::progress::{Observer, Stage};
///
/// fn observer() -> impl Observer {
///     |stage: Stage, done: usize, total: usize| {
///         eprintln!("{stage:?}: {done} of {total}");
///         ControlFlow::Continue(())
///     }
/// }
/// # let _ = observer();
/// ```
pub trait Observer {
    /// Reports that `done` of `total` steps of `stage` are finished. Returning [`ControlFlow::Break`] ends the pass with
    /// [`Error::Cancelled`].
    fn step(&mut self, stage: Stage, done: usize, total: usize) -> ControlFlow<()>;

    /// Returns a flag that another thread sets to end the pass with [`Error::Cancelled`] without waiting for its next step.
    /// Asked once, when the pass begins. On CUDA only the steps end it.
    fn stop_flag(&self) -> Option<StopFlag> {
        None
    }
}

impl<F: FnMut(Stage, usize, usize) -> ControlFlow<()>> Observer for F {
    fn step(&mut self, stage: Stage, done: usize, total: usize) -> ControlFlow<()> {
        self(stage, done, total)
    }
}

impl dyn Observer + '_ {
    /// Reports a step and turns a refusal into the error that ends the pass.
    pub(crate) fn report(&mut self, stage: Stage, done: usize, total: usize) -> Result<()> {
        match self.step(stage, done, total) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        }
    }
}

/// Ignores progress and never stops the pass.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn step(&mut self, _: Stage, _: usize, _: usize) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
