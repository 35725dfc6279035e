//! What a forward pass costs, computed from the config and the size of the input: memory, operations, time on a device.
//!
//! Nothing is measured here, and nothing runs. The constants that bound the network's own memory are those that it uses
//! ([`crate::layers`], [`crate::ops`]).

mod anchors;
mod flops;
mod memory;
mod roofline;

pub use anchors::Anchored;
pub use flops::transformer_flops;
pub use memory::{Engine, aggregator_bytes, forward_bytes, frames_that_fit};
pub use roofline::{Card, OpWork, Unit, aggregator, camera_head, dense_head};
