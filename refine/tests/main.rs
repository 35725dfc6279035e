//! Refinement through the crate's entry points.
