//! What the network is doing, for whoever watches, and the way to stop it.

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

/// Told of every step; the one way out of a running forward pass.
pub trait Observer {
    /// `done` of `total` steps of `stage` are finished. Answering `false` ends the pass with [`Error::Cancelled`].
    fn step(&mut self, stage: Stage, done: usize, total: usize) -> bool;
}

impl dyn Observer + '_ {
    /// Reports a step and turns a refusal into the error that ends the pass.
    pub(crate) fn report(&mut self, stage: Stage, done: usize, total: usize) -> Result<()> {
        if self.step(stage, done, total) {
            Ok(())
        } else {
            Err(Error::Cancelled)
        }
    }
}

/// Watches nothing and never stops the pass.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn step(&mut self, _: Stage, _: usize, _: usize) -> bool {
        true
    }
}
