//! Bilinear resampling.

use candle_core::{CudaStorage, DType, Layout, Result, Shape};

use super::super::{
    BilinearCall, bilinear,
    device::{Input, Operands, Parameter, Queue},
};
use crate::ops::Positions;

/// Resamples x, contiguous, [B, H, W, C] in F32, to [B, to.0, to.1, C], and adds an embedding of the new positions.
pub(in crate::ops) fn resample(
    x: &CudaStorage,
    layout: &Layout,
    to: (usize, usize),
    positions: Option<&Positions>,
) -> Result<(CudaStorage, Shape)> {
    let queue = Queue::of(x);
    let (batch, h, w, c) = layout.shape().dims4()?;
    let shape = Shape::from((batch, to.0, to.1, c));
    let mut out = queue.uninit(&shape, DType::F32)?;
    let parameters = match positions {
        Some(p) => [
            Parameter::new(&p.columns, to.1 * (c / 2), DType::F32),
            Parameter::new(&p.rows, to.0 * (c / 2), DType::F32),
        ],
        None => [Parameter::NONE; 2],
    };
    let operands = Operands {
        parameters,
        inputs: [Input {
            storage: x,
            layout,
            dtype: DType::F32,
        }],
        outputs: [&mut out],
    };
    queue.launch(operands, |at| {
        let ([x], [out]) = (at.inputs, at.outputs);
        bilinear(BilinearCall {
            batch,
            from: (h, w),
            to,
            channels: c,
            x,
            out,
            positions: at.parameters,
        })
    })?;
    Ok((out, shape))
}
