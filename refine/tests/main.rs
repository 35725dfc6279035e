//! Refinement through the crate's entry points.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "tests have no interface, and a failure ends them"
)]

mod bundle;
mod room;
mod support;
