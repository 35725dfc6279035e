//! Register tiles: the innermost loops of the products, which everything above is built to feed.

pub(crate) mod flash;
pub(crate) mod gemm;
