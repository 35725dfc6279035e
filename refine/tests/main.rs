//! Refinement through the crate's entry points.

mod bundle;
mod room;
mod support;
