//! The end of the work by the caller's wish.

/// The caller wanted no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the refinement was stopped")]
pub struct Stopped;
