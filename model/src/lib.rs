// The front page's example needs the bundled weights.
#![cfg_attr(any(not(doctest), feature = "demo"), doc = include_str!("../README.md"))]
//!
//! # Modules
//!
//! ```text
//! module       contents                                          may use
//! check        every operation against its definition, for doctor cost, layers, ops, precision
//! builder      weights -> a network that is ready to run         config, error, ops, precision, vggt, weights
//! vggt         the whole network: images -> Predictions          aggregator, anchors, config, error, geometry, heads,
//!                                                                limits, precision, predictions, progress, weights
//! heads        camera, depth and point (DPT), track              aggregator, config, error, kept, layers, ops,
//!                                                                progress, weights
//! aggregator   patch embedding, frame and global attention       anchors, config, error, layers, ops, progress, weights
//! anchors      the few frames that many frames attend to         config, error
//! cost         memory, operations and time of a pass, computed   anchors, config, layers, ops
//! cuda         whether a CUDA device can be used, opening it,    ops
//!              its memory
//! layers       what the transformers consist of                  config, error, ops, precision, progress, weights
//! ops          the operations that all of them consist of        error, kept, precision, stop, weights
//! demo         the bundled checkpoint and its scene              config, error, preprocess, weights
//! preprocess   image files -> images [S, 3, H, W]                config
//! limits       how many frames CUDA kernels can count            config, error
//! convert      one weights file into another, tensor by tensor   weights
//! config       every dimension of the network, as JSON           error
//! progress     reports of the steps of a pass, and its end       error, stop
//! error        what can go wrong inside the network              weights
//! weights      model.pt and .safetensors, mapped and checked     precision
//! geometry     pose encoding, rotations, unprojection            -
//! predictions  the results of a pass                             -
//! precision    exact or fast, for layers and attention           -
//! stop         a flag that ends a running pass                   -
//! kept         a value that is made once for a key               -
//! ```
//!
//! A module uses only modules below it.
//!
//! Data flows one way: file -> [`weights`] -> [`ops`] and [`layers`] -> [`Vggt`]; images [S, 3, H, W] -> [`aggregator`] ->
//! tokens -> [`heads`] -> [`Predictions`], from which [`geometry`] computes points and cameras. Progress flows back through
//! [`progress`].
//!
//! Names are upstream's (`facebookresearch/vggt`) wherever it has one. `S` counts frames, `P` tokens of a frame, `C`
//! channels, `N` tokens or points; `H` and `W` are pixels. Comments that begin with `Differs from upstream` name every
//! place that does.

pub mod aggregator;
pub mod anchors;
mod builder;
#[doc(hidden)]
pub mod check;
pub mod config;
pub mod convert;
pub mod cost;
pub mod cuda;
#[cfg(feature = "demo")]
pub mod demo;
pub mod error;
pub mod geometry;
pub mod heads;
mod kept;
pub mod layers;
pub mod limits;
// Public for the tests, the benchmarks and the check of a device; not a part of the interface.
#[doc(hidden)]
pub mod ops;
mod precision;
pub mod predictions;
#[cfg(feature = "image")]
pub mod preprocess;
pub mod progress;
mod stop;
pub mod vggt;
pub mod weights;

pub use builder::VggtBuilder;
/// The tensor library, in the version whose types this crate takes and returns.
pub use candle_core;
pub use config::Config;
pub use error::{Error, Result};
pub use ops::{Isa, cuda::default_dtype, measured_peak};
pub use precision::Precision;
pub use predictions::{Cameras, FrameResults, Predictions, Tracks};
pub use vggt::{AnchorOptions, AnchorPass, ForwardOptions, Vggt, state_dict_keys};
pub use weights::Weights;
