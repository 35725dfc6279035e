//! The protocol room of `vggt`, and nothing else of it.

#[path = "../src/protocol/mod.rs"]
pub mod protocol;
