//! The results and files of the network.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "tests have no interface, and a failure ends them"
)]

mod anchors;
mod convert;
#[cfg(feature = "demo")]
mod demo;
mod heads64;
mod kernels;
mod parity;
mod shapes;
mod weights;

use std::path::PathBuf;

/// The folder of this crate. Cargo sets the variable when it runs tests; a test program that was built on another machine is
/// told by it where the data is.
pub(crate) fn crate_dir() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}
