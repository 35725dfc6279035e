//! Layer normalization.

use candle_core::{CudaStorage, Layout, Result, Tensor, backend::BackendStorage};

use super::super::{
    LayerNormCall,
    device::{Input, Operands, Parameter, Queue},
    layer_norm,
};

/// Parameters of a LayerNorm.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Norm<'a> {
    /// `[C]`
    pub(in crate::ops) weight: &'a Tensor,
    /// `[C]`
    pub(in crate::ops) bias: &'a Tensor,
    /// Added to the variance.
    pub(in crate::ops) eps: f32,
}

impl Norm<'_> {
    /// Normalizes x, contiguous, [..., C]. The result is contiguous as well.
    pub(in crate::ops) fn run(&self, x: &CudaStorage, layout: &Layout) -> Result<CudaStorage> {
        let (queue, dtype) = (Queue::of(x), x.dtype());
        let c = layout.dims().last().copied().unwrap_or(0);
        let rows = layout.shape().elem_count() / c.max(1);
        let mut out = queue.uninit(layout.shape(), dtype)?;
        let operands = Operands {
            parameters: [self.weight, self.bias].map(|t| Parameter::new(t, c, dtype)),
            inputs: [Input {
                storage: x,
                layout,
                dtype,
            }],
            outputs: [&mut out],
        };
        queue.launch(operands, |at| {
            let ([weight, bias], [x], [out]) = (at.parameters, at.inputs, at.outputs);
            layer_norm(LayerNormCall {
                dtype,
                size: (rows, c),
                eps: self.eps,
                x,
                weight,
                bias,
                out,
            })
        })?;
        Ok(out)
    }
}
