//! The time that reading a video may take.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use crate::frames::FramesError;

/// The end of the permitted time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    deadline: Option<Instant>,
    allowed: Duration,
}

impl Watch {
    pub(super) fn start(allowed: Duration) -> Self {
        Self {
            // None: so far away that the clock cannot express it.
            deadline: Instant::now().checked_add(allowed),
            allowed,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    pub(super) fn check(&self, path: &Path) -> Result<(), FramesError> {
        if self.is_over() {
            return Err(FramesError::VideoTooSlow {
                path: path.to_path_buf(),
                max_seconds: self.allowed.as_secs_f64(),
            });
        }
        Ok(())
    }
}
