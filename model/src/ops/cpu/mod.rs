//! The CPU implementations of the operations.
//!
//! One binary serves every machine. [`Isa::best`] says what the processor can do, an operation cuts its work into tiles,
//! and each tile goes through [`Isa::run`], which holds the code of that tile once for each instruction set. Where no set
//! fits, `best` returns `None` and the operation's reference implementation runs.
//!
//! ```text
//! linear attention conv2d ...   one file for each operation: cuts it into tasks; slices in, vectors out
//! gemm winograd flash           the algorithms that most of the time is spent in
//! arithmetic weights epilogue   what they are generic over: how products are computed, of what, what happens to their results
//! tile pack math                register tiles, the order in memory that they read, functions of vectors
//! simd                          one register of elements behind a trait, one file for each instruction set
//! isa slices scratch            dispatch, memory that threads share, memory that threads keep
//! ```
//!
//! A line uses only itself and the lines below it.
// This is the one place for pointers and intrinsics of the CPU: every unsafe function says what its caller must ensure, and
// the functions that the operations call are safe and assert the lengths that the loops rely on.
#![allow(
    unsafe_code,
    reason = "the only place for pointers and intrinsics of the CPU"
)]
#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(
        dead_code,
        reason = "without an instruction set of its own the reference implementations run"
    )
)]

pub(crate) mod arithmetic;
pub(crate) mod attention;
pub(crate) mod bilinear;
pub(crate) mod conv2d;
pub(crate) mod conv_transpose2d;
pub(crate) mod epilogue;
pub(crate) mod flash;
pub(crate) mod gelu;
pub(crate) mod gemm;
pub(crate) mod heads;
mod isa;
pub(crate) mod layer_norm;
pub(crate) mod linear;
mod math;
mod pack;
pub(crate) mod peak;
mod scratch;
mod simd;
mod slices;
mod tile;
pub(crate) mod weights;
mod winograd;

pub use isa::Isa;
use isa::Kernel;
use simd::Vector;
use slices::{Shared, collect_into_uninit};
pub(crate) use slices::{Slice, contiguous, slice_of};
