//! What follows a linear layer in the same pass.

use candle_core::Tensor;

/// What happens to the output y of a layer.
#[derive(Debug, Clone, Copy, Default)]
pub enum Epilogue<'a> {
    /// y
    #[default]
    None,
    /// gelu(y), in its exact form
    Gelu,
    /// residual + gamma y: the end of a transformer's branch.
    Residual {
        /// `[out]`
        gamma: &'a Tensor,
        /// [..., out]
        residual: &'a Tensor,
    },
}
