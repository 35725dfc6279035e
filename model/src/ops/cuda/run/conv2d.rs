//! Convolutions: candle's product, then one kernel for all that follows it.

use candle_core::{
    CpuStorage, CudaStorage, InplaceOp1, Layout, Result, Tensor, backend::BackendStorage, bail,
};

use super::super::{
    self as cuda,
    device::{Operands, Parameter, Queue},
};
use crate::ops::conv_bands::{MAX_COLUMNS, in_bands};

/// A convolution.
pub(in crate::ops) struct Conv2d<'a> {
    /// [out, in, kernel, kernel]
    pub(in crate::ops) weight: &'a Tensor,
    /// `[out]`
    pub(in crate::ops) bias: &'a Tensor,
    /// From one output to the next.
    pub(in crate::ops) stride: usize,
    /// Zeros around the map.
    pub(in crate::ops) padding: usize,
    /// Takes max(x, 0) for x.
    pub(in crate::ops) relu_before: bool,
    /// Returns max(y, 0) for y.
    pub(in crate::ops) relu_after: bool,
    /// Adds max(s, 0) to the output. [B, H', W', out]
    pub(in crate::ops) skip_relu: Option<&'a Tensor>,
    /// Adds s to the output. [B, H', W', out]
    pub(in crate::ops) skip: Option<&'a Tensor>,
}

impl Conv2d<'_> {
    /// [B, H, W, in] -> [B, H', W', out].
    pub(in crate::ops) fn run(&self, x: &Tensor) -> Result<Tensor> {
        let x = if self.relu_before {
            x.relu()?
        } else {
            x.clone()
        };
        let (b, h, w, c) = x.dims4()?;
        let kernel = self.weight.dim(3)?;
        let y = if (kernel, self.stride, self.padding) == (1, 1, 0) {
            // A product over the pixels as they lie.
            let x = x.contiguous()?.reshape((b * h * w, c))?;
            let y = x.matmul(&self.weight.flatten_from(1)?.t()?)?;
            y.reshape((b, h, w, self.weight.dim(0)?))?
        } else {
            let x = x.permute((0, 3, 1, 2))?.contiguous()?;
            let y = in_bands(&x, self.weight, self.padding, self.stride, MAX_COLUMNS)?;
            // A copy of its own in any case: what follows works in place.
            y.permute((0, 2, 3, 1))?.force_contiguous()?
        };
        let skip = |skip: Option<&Tensor>| skip.map(Tensor::contiguous).transpose();
        y.inplace_op1(&BiasSkips {
            bias: self.bias,
            skip_relu: skip(self.skip_relu)?,
            skip: skip(self.skip)?,
            relu: self.relu_after,
        })?;
        Ok(y)
    }
}

/// Bias, skips, ReLU, in place, channels last.
struct BiasSkips<'a> {
    bias: &'a Tensor,
    skip_relu: Option<Tensor>,
    skip: Option<Tensor>,
    relu: bool,
}

impl InplaceOp1 for BiasSkips<'_> {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        bail!("an operation for CUDA got a tensor on the CPU")
    }

    fn cuda_fwd(&self, y: &mut CudaStorage, layout: &Layout) -> Result<()> {
        let (queue, dtype) = (Queue::of(y), y.dtype());
        let n = self.bias.elem_count();
        let count = layout.shape().elem_count();
        if layout.contiguous_offsets() != Some((0, count)) || layout.dims().last() != Some(&n) {
            bail!("expected a contiguous map with {n} channels, got {layout:?}")
        }
        let [skip_relu, skip] = [&self.skip_relu, &self.skip].map(|skip| match skip {
            Some(skip) => Parameter::new(skip, count, dtype),
            None => Parameter::NONE,
        });
        let operands = Operands {
            parameters: [Parameter::new(self.bias, n, dtype), skip_relu, skip],
            inputs: [],
            outputs: [y],
        };
        queue.launch(operands, |at| {
            let ([bias, skip_relu, skip], [y]) = (at.parameters, at.outputs);
            let kind = cuda::Epilogue::Skip {
                skip_relu,
                skip,
                relu: self.relu,
            };
            cuda::epilogue(kind, dtype, (count / n.max(1), n), (y, bias))
        })
    }
}
