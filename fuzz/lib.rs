//! The module `protocol` of `vggt` and the container reader of its HEIC and AVIF images, and nothing else of it.

#[path = "../src/protocol/mod.rs"]
pub mod protocol;

#[allow(
    dead_code,
    unexpected_cfgs,
    reason = "decoding is left out, and so is its feature"
)]
#[path = "heif.rs"]
pub mod heif;
