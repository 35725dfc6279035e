//! The operations the network is made of, one file each: a plain candle version that defines it, and where it pays a
//! CPU version beside it that is chosen inside. The network's own code does not know which one runs.

mod attention;
mod bilinear;
mod conv;
pub(crate) mod cpu;
mod gelu;
mod layer_norm;
mod linear;

pub use attention::attention;
pub use bilinear::bilinear_align_corners;
pub use conv::{Conv2d, ConvTranspose2d};
pub use gelu::gelu;
pub use layer_norm::{LayerNorm, layer_norm};
pub use linear::Linear;
