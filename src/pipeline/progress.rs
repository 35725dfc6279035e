//! What is being done, on one typed stream: a bar on a terminal, messages in the service.

use std::ops::ControlFlow;

use vggt_model::progress as model;

/// A part of a reconstruction that takes noticeable time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Reading pictures or decoding a video, and bringing them to the network's size; counted in frames.
    Decode,
    /// A part of the network.
    Network(model::Stage),
    /// The sky network, counted in frames.
    Sky,
    /// Building the scene and writing files; counted in files.
    Write,
}

/// Told of every step; the one way to stop a reconstruction.
pub trait Watcher {
    /// `done` of `total` steps of `stage` are finished; a total of 0 is not known yet. Answering `false` ends the work
    /// with [`super::PipelineError::Cancelled`].
    fn step(&mut self, stage: Stage, done: usize, total: usize) -> bool;
}

/// Watches nothing and never stops the work.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Watcher for Silent {
    fn step(&mut self, _: Stage, _: usize, _: usize) -> bool {
        true
    }
}

/// A watcher as the network wants it.
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
