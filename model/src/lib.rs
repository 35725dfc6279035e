// The front page's example needs the bundled weights.
#![cfg_attr(any(not(doctest), feature = "demo"), doc = include_str!("../README.md"))]
//!
//! # Modules
//!
//! ```text
//! config       every dimension of the network, as JSON
//! weights      model.pt and .safetensors, mapped into memory and checked
//! convert      one weights file into another, tensor by tensor
//! preprocess   image files -> images [S, 3, H, W]; feature `image`
//! builder      weights -> a network that is ready to run
//! vggt         the whole network: images [S, 3, H, W] -> Predictions
//! aggregator   patch embedding, alternating frame and global attention
//! heads        camera, depth and point (DPT), track
//! layers       what the transformers are made of
//! ops          the operations all of them are made of, each with its definition
//! cuda         whether a CUDA device can be used, and opening it
//! memory       how much of it a pass takes
//! limits       how many frames CUDA's kernels can count
//! work         how much there is to compute
//! precision    exact or fast, for the linear layers and scores of the aggregator
//! demo         the bundled checkpoint and its scene; feature `demo`
//! geometry     pose encoding, rotations, unprojection
//! predictions  what comes out
//! progress     what is being done, for whoever watches
//! error        what can go wrong inside the network
//! ```
//!
//! Names are upstream's (`facebookresearch/vggt`) wherever it has one. `S` counts frames, `P` tokens of a frame, `C`
//! channels, `N` tokens or points; `H` and `W` are pixels. Comments that begin with `Differs from upstream` name every
//! place that does.

pub mod aggregator;
mod builder;
pub mod config;
pub mod convert;
pub mod cuda;
#[cfg(feature = "demo")]
pub mod demo;
pub mod error;
pub mod geometry;
pub mod heads;
pub mod layers;
pub mod limits;
pub mod memory;
// Public for the tests, the benchmarks and the check of a device; not a part of the interface.
#[doc(hidden)]
pub mod ops;
mod precision;
pub mod predictions;
#[cfg(feature = "image")]
pub mod preprocess;
pub mod progress;
pub mod vggt;
pub mod weights;
pub mod work;

pub use builder::VggtBuilder;
/// The tensor library, in the version whose types this crate takes and returns.
pub use candle_core;
pub use config::Config;
pub use error::{Error, Result};
pub use ops::{Isa, cuda::default_dtype, measured_peak};
pub use precision::Precision;
pub use predictions::{Predictions, Tracks};
pub use vggt::{ForwardOptions, Vggt, state_dict_keys};
pub use weights::Weights;
