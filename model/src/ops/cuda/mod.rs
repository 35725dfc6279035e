//! The CUDA side of the operations: how the kernels of `model/kernels` are called, and under the feature `cuda` the calling.
//!
//! What a call looks like, that is kernel, grid, shared memory, arguments and what a kernel cannot take, is computed here
//! from shapes and addresses alone and compiled everywhere. The tests run the same calls on the CPU, where the kernels
//! compile as C++, so that a wrong grid or a swapped argument shows without a GPU.

mod attention;
mod bilinear;
mod call;
mod capability;
#[cfg(feature = "cuda-kernels")]
mod code;
#[cfg(feature = "cuda")]
mod device;
mod dtype;
mod epilogue;
mod heads;
mod layer_norm;
#[cfg(feature = "cuda")]
pub(super) mod run;
mod target;

pub use attention::{AttentionCall, HeadRows, MAX_DEPTH, attention};
pub use bilinear::{BilinearCall, bilinear};
pub use call::{Address, Arg, Call, Module};
pub use capability::ComputeCapability;
// For the tests, which run the kernels on a card without candle.
#[cfg(feature = "cuda-kernels")]
#[doc(hidden)]
pub use code::code;
#[cfg(feature = "cuda")]
pub(crate) use device::capability;
pub use dtype::{default_dtype, of_capability};
pub use epilogue::{Epilogue, epilogue};
pub use heads::{HeadNorm, HeadRotation, HeadsCall, heads};
pub use layer_norm::{LayerNormCall, layer_norm};
pub use target::Targets;
#[cfg(feature = "cuda")]
pub(crate) use target::{BUILT, of_candle};
