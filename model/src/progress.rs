//! What the network is doing, for whoever watches, and the way to stop it.

/// A part of the forward pass that takes noticeable time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// The DINOv2 trunk, counted in its blocks.
    PatchEmbed,
    /// Alternating attention, counted in frame and global blocks.
    Aggregator,
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
    /// `done` of `total` steps of `stage` are finished. Answering `false` ends the pass with `Error::Cancelled`.
    fn step(&mut self, stage: Stage, done: usize, total: usize) -> bool;
}

/// Watches nothing and never stops the pass.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn step(&mut self, _: Stage, _: usize, _: usize) -> bool {
        true
    }
}
