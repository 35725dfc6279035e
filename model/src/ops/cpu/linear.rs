//! Linear layers: the product with the norm before it and the epilogue behind it.

use candle_core::Result;

use super::{
    Isa, Shared,
    arithmetic::Int16,
    collect_into_uninit,
    epilogue::{self, Bias, BiasGelu, BiasResidual},
    gemm,
    layer_norm::{self, Norm},
    weights::{QuantizedColumns, Weights},
};

/// A linear layer whose operands have been checked against each other.
pub(crate) struct Linear<'a> {
    /// The input, [rows, depth].
    pub(crate) x: gemm::Matrix<'a>,
    /// Normalizes the rows of the input.
    pub(crate) norm: Option<Norm<'a>>,
    /// [n, depth]
    pub(crate) weights: Weights<'a>,
    /// The same in 16-bit integers, to multiply in these.
    pub(crate) quantized: Option<QuantizedColumns<'a>>,
    /// `[n]`
    pub(crate) bias: &'a [f32],
    /// What follows the bias.
    pub(crate) epilogue: Epilogue<'a>,
}

/// Whether rows of `depth` elements can be multiplied in integers.
pub(crate) fn integers_take(depth: usize) -> bool {
    Int16::takes(depth)
}

/// Whether `rows` such rows are worth it: a few take as long as it takes to fetch the weights.
pub(crate) fn is_for_integers(rows: usize, depth: usize) -> bool {
    rows > gemm::FEW && integers_take(depth)
}

/// What happens to the output y of a linear layer.
pub(crate) enum Epilogue<'a> {
    /// y
    None,
    /// gelu(y)
    Gelu,
    /// residual + gamma y
    Residual {
        /// `[n]`
        gamma: &'a [f32],
        /// [rows, n]
        residual: &'a [f32],
    },
}

impl Linear<'_> {
    /// Returns epilogue(norm(x) weightsᵀ + bias), [rows, n].
    ///
    /// # Panics
    /// When the operands do not fit each other.
    pub(crate) fn run(&self, isa: Isa) -> Result<Vec<f32>> {
        let depth = self.x.depth;
        match self.norm {
            None => self.with_prologue(isa, gemm::Prepare::Plain),
            Some(norm) => {
                let moments = &layer_norm::moments(isa, self.x.data, depth, norm.eps);
                let prepare = gemm::Prepare::Norm {
                    moments,
                    weight: norm.weight,
                    bias: norm.bias,
                };
                self.with_prologue(isa, prepare)
            }
        }
    }

    /// Allocates the output.
    fn with_prologue(&self, isa: Isa, prepare: gemm::Prepare<'_>) -> Result<Vec<f32>> {
        let size = (self.x.data.len() / self.x.depth, self.bias.len());
        // SAFETY: the product writes every element, and reads none before.
        unsafe {
            collect_into_uninit(size.0 * size.1, |out| {
                self.with_epilogue(isa, size, prepare, out);
                Ok(())
            })
        }
    }

    /// Chooses the epilogue as a type, so that each one has an inner loop of its own.
    fn with_epilogue(
        &self,
        isa: Isa,
        (m, n): (usize, usize),
        prepare: gemm::Prepare<'_>,
        out: Shared<'_, f32>,
    ) {
        let bias = self.bias;
        match self.epilogue {
            Epilogue::None => self.multiply(isa, (m, n), prepare, &Bias(bias), out),
            Epilogue::Gelu => self.multiply(isa, (m, n), prepare, &BiasGelu(bias), out),
            Epilogue::Residual { gamma, residual } => {
                assert_eq!(gamma.len(), n, "gamma is [{n}]");
                assert_eq!(residual.len(), m * n, "the residual is [{m}, {n}]");
                let epilogue = BiasResidual {
                    bias,
                    gamma,
                    residual,
                };
                self.multiply(isa, (m, n), prepare, &epilogue, out);
            }
        }
    }

    /// Multiplies, in integers where the weights are there in them.
    fn multiply<E: epilogue::Epilogue>(
        &self,
        isa: Isa,
        size: (usize, usize),
        prepare: gemm::Prepare<'_>,
        epilogue: &E,
        out: Shared<'_, f32>,
    ) {
        let left = (&self.x, prepare);
        match self.quantized {
            Some(weights) => {
                gemm::gemm(isa, size, left, weights, epilogue, out);
            }
            None => gemm::gemm(isa, size, left, self.weights, epilogue, out),
        }
    }
}
