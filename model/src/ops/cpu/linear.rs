//! Linear layers: the product with the norm before it and the epilogue behind it.

use candle_core::Result;

use super::{
    Isa, Shared,
    arithmetic::{Arithmetic, Exact, Int16},
    collect_into_uninit,
    epilogue::{Bias, BiasGelu, BiasResidual},
    gemm,
    layer_norm::{self, Norm},
};
use crate::precision::Precision;

/// A linear layer whose operands have been checked against each other.
pub(crate) struct Linear<'a> {
    /// The input, [rows, depth].
    pub(crate) x: gemm::Matrix<'a>,
    /// Normalizes the rows of the input.
    pub(crate) norm: Option<Norm<'a>>,
    /// [n, depth]
    pub(crate) weights: gemm::Weights<'a>,
    /// `[n]`
    pub(crate) bias: &'a [f32],
    /// What follows the bias.
    pub(crate) epilogue: Epilogue<'a>,
    /// How the layer multiplies, where its depth allows it.
    pub(crate) precision: Precision,
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

    /// Chooses the arithmetic that the layer asks for and its depth allows.
    fn with_prologue(&self, isa: Isa, prepare: gemm::Prepare<'_>) -> Result<Vec<f32>> {
        match self.precision {
            Precision::Fast if Int16::takes(self.x.depth) => {
                self.with_arithmetic::<Int16>(isa, prepare)
            }
            _ => self.with_arithmetic::<Exact>(isa, prepare),
        }
    }

    /// Allocates the output.
    fn with_arithmetic<A: Arithmetic>(
        &self,
        isa: Isa,
        prepare: gemm::Prepare<'_>,
    ) -> Result<Vec<f32>> {
        let size = (self.x.data.len() / self.x.depth, self.bias.len());
        // SAFETY: the product writes every element, and reads none before.
        unsafe {
            collect_into_uninit(size.0 * size.1, |out| {
                self.run_gemm::<A>(isa, size, prepare, out);
                Ok(())
            })
        }
    }

    /// Multiplies, with the epilogue as a type, so that each one has an inner loop of its own.
    fn run_gemm<A: Arithmetic>(
        &self,
        isa: Isa,
        (m, n): (usize, usize),
        prepare: gemm::Prepare<'_>,
        out: Shared<'_, f32>,
    ) {
        let left = (&self.x, prepare);
        let (weights, bias) = (self.weights, self.bias);
        match self.epilogue {
            Epilogue::None => {
                gemm::gemm::<A, _, _>(isa, (m, n), left, weights, &Bias(bias), out);
            }
            Epilogue::Gelu => {
                gemm::gemm::<A, _, _>(isa, (m, n), left, weights, &BiasGelu(bias), out);
            }
            Epilogue::Residual { gamma, residual } => {
                assert_eq!(gamma.len(), n, "gamma is [{n}]");
                assert_eq!(residual.len(), m * n, "the residual is [{m}, {n}]");
                let epilogue = BiasResidual {
                    bias,
                    gamma,
                    residual,
                };
                gemm::gemm::<A, _, _>(isa, (m, n), left, weights, &epilogue, out);
            }
        }
    }
}
