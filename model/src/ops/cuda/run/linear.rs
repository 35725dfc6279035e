//! Linear layers: cuBLAS' product, between the kernels of the norm and of the epilogue.

use candle_core::{CudaStorage, Layout, Result, Shape, Tensor, backend::BackendStorage, bail};

use super::{
    super::{
        self as cuda,
        device::{Operands, Parameter, Queue},
    },
    Norm,
};
use crate::ops::Epilogue;

/// A linear layer.
pub(in crate::ops) struct Linear<'a> {
    /// [out, in]
    pub(in crate::ops) weight: &'a Tensor,
    /// `[out]`
    pub(in crate::ops) bias: &'a Tensor,
    /// Normalizes the input.
    pub(in crate::ops) norm: Option<Norm<'a>>,
    /// What happens to the output.
    pub(in crate::ops) epilogue: Epilogue<'a>,
}

impl Linear<'_> {
    /// Returns epilogue(norm(x) weightᵀ + bias), of `shape` [..., out], for x, contiguous, [..., in].
    pub(in crate::ops) fn run(
        &self,
        x: &CudaStorage,
        layout: &Layout,
        shape: &Shape,
    ) -> Result<CudaStorage> {
        let (n, depth) = self.weight.dims2()?;
        let rows = layout.shape().elem_count() / depth.max(1);
        if rows * n == 0 {
            return Queue::of(x).uninit(shape, x.dtype());
        }
        let mut y = match self.norm {
            None => product(x, layout.start_offset(), rows, self.weight)?,
            Some(norm) => product(&norm.run(x, layout)?, 0, rows, self.weight)?,
        };
        self.finish(&mut y, (rows, n))?;
        Ok(y)
    }

    /// Adds the bias and applies what comes after it, in place. y [rows, n]
    fn finish(&self, y: &mut CudaStorage, (rows, n): (usize, usize)) -> Result<()> {
        let (queue, dtype) = (Queue::of(y), y.dtype());
        let contiguous;
        let [gamma, residual] = match self.epilogue {
            Epilogue::Residual { gamma, residual } => {
                contiguous = residual.contiguous()?;
                [
                    Parameter::new(gamma, n, dtype),
                    Parameter::new(&contiguous, rows * n, dtype),
                ]
            }
            Epilogue::None | Epilogue::Gelu => [Parameter::NONE; 2],
        };
        let operands = Operands {
            parameters: [Parameter::new(self.bias, n, dtype), gamma, residual],
            inputs: [],
            outputs: [y],
        };
        queue.launch(operands, |at| {
            let ([bias, gamma, residual], [y]) = (at.parameters, at.outputs);
            let kind = match self.epilogue {
                Epilogue::None => cuda::Epilogue::Bias,
                Epilogue::Gelu => cuda::Epilogue::Gelu,
                Epilogue::Residual { .. } => cuda::Epilogue::Residual { gamma, residual },
            };
            cuda::epilogue(kind, dtype, (rows, n), (y, bias))
        })
    }
}

/// Returns x Wᵀ by cuBLAS, with `rows` contiguous rows of x from `offset` and W [out, in]. [rows, out]
fn product(x: &CudaStorage, offset: usize, rows: usize, weight: &Tensor) -> Result<CudaStorage> {
    let (n, depth) = weight.dims2()?;
    let (storage, layout) = weight.storage_and_layout();
    let candle_core::Storage::Cuda(weight) = &*storage else {
        bail!("the weights are on another device")
    };
    let left = Layout::contiguous_with_offset((rows, depth), offset);
    x.matmul(weight, (1, rows, n, depth), &left, &layout.transpose(0, 1)?)
}
