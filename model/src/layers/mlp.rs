//! Two linear layers with a GELU between. Port of vggt/layers/mlp.py.

use candle_core::{D, Result, Tensor};

use crate::{
    ops::{self, Linear},
    weights::VarBuilder,
};

/// fc2(gelu(fc1(x))).
#[derive(Debug)]
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

/// Tokens that go through at once: bounds the hidden layer, four times as wide as the tokens, for long sequences.
const CHUNK: usize = 8192;

impl Mlp {
    /// Reads `fc1` and `fc2`.
    ///
    /// # Errors
    /// When a parameter is missing or misshapen.
    pub fn new(c_in: usize, hidden: usize, c_out: usize, vb: &VarBuilder) -> crate::Result<Self> {
        Ok(Self {
            fc1: Linear::new(c_in, hidden, &vb.pp("fc1"))?,
            fc2: Linear::new(hidden, c_out, &vb.pp("fc2"))?,
        })
    }

    /// [..., C] -> [..., C'].
    ///
    /// # Errors
    /// When the shape does not fit or the device fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.in_chunks(x, CHUNK)
    }

    fn in_chunks(&self, x: &Tensor, chunk: usize) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        let rows = shape.iter().product::<usize>() / x.dim(D::Minus1)?.max(1);
        if rows <= chunk {
            return self.whole(x);
        }
        let flat = x.reshape((rows, ()))?;
        let parts = (0..rows)
            .step_by(chunk)
            .map(|start| self.whole(&flat.narrow(0, start, chunk.min(rows - start))?))
            .collect::<Result<Vec<_>>>()?;
        let out = Tensor::cat(&parts, 0)?;
        if let Some(last) = shape.last_mut() {
            *last = out.dim(1)?;
        }
        out.reshape(shape)
    }

    fn whole(&self, x: &Tensor) -> Result<Tensor> {
        self.fc2.forward(&ops::gelu(&self.fc1.forward(x)?)?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn cutting_the_tokens_changes_nothing() {
        let vb = VarBuilder::random(3, DType::F32, &Device::Cpu);
        let mlp = Mlp::new(8, 32, 6, &vb).unwrap();
        let x = Tensor::randn(0f32, 1.0, (3, 7, 8), &Device::Cpu).unwrap();
        let (whole, cut) = (mlp.forward(&x).unwrap(), mlp.in_chunks(&x, 4).unwrap());
        assert_eq!(cut.dims(), [3, 7, 6]);
        let worst = (cut - whole).unwrap().abs().unwrap().max_all().unwrap();
        assert!(worst.to_scalar::<f32>().unwrap() < 1e-6);
    }
}
