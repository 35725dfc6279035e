//! The network's numbers and files.
#![allow(missing_docs, clippy::unwrap_used)]

mod convert;
mod demo;
mod heads64;
mod kernels;
mod parity;
mod shapes;
mod weights;
