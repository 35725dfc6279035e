//! Warnings on their way to a watcher, noted.

use super::{Stage, StopFlag, Warning, Watcher, Work};

/// Notes the warnings that pass.
pub(super) struct Noting<'a> {
    inner: &'a mut dyn Watcher,
    pub(super) warnings: Vec<Warning>,
}

impl<'a> Noting<'a> {
    pub(super) fn new(inner: &'a mut dyn Watcher) -> Self {
        let warnings = Vec::new();
        Self { inner, warnings }
    }
}

impl Watcher for Noting<'_> {
    fn step(&mut self, stage: Stage, done: usize, total: usize) -> bool {
        self.inner.step(stage, done, total)
    }

    fn stop_flag(&self) -> Option<StopFlag> {
        self.inner.stop_flag()
    }

    fn kept_frame(&mut self) {
        self.inner.kept_frame();
    }

    fn begin(&mut self, work: &Work) {
        self.inner.begin(work);
    }

    fn warn(&mut self, warning: &Warning) {
        self.warnings.push(warning.clone());
        self.inner.warn(warning);
    }
}
