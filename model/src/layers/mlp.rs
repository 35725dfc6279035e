//! Two linear layers with a GELU between. Port of vggt/layers/mlp.py.

use candle_core::{D, Result, Tensor};

use super::LayerScale;
use crate::{
    ops::{Epilogue, Fusion, LayerNorm, Linear},
    weights::VarBuilder,
};

/// fc2(gelu(fc1(x))).
#[derive(Debug)]
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    /// Number of tokens processed at once, which bounds the memory of the hidden layer for long sequences: it is four times as
    /// wide as a token. The cost model counts with it too.
    pub const CHUNK: usize = 8192;

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

    /// An MLP of given layers.
    pub fn from_layers(fc1: Linear, fc2: Linear) -> Self {
        Self { fc1, fc2 }
    }

    /// [..., C] -> [..., C'].
    ///
    /// # Errors
    /// When the shape does not fit or the device fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.whole(x, None, Epilogue::None)
    }

    /// The branch of a block: x + ls(mlp(norm(x))). [..., C] -> [..., C].
    ///
    /// # Errors
    /// When the shape does not fit or the device fails.
    pub fn forward_residual(
        &self,
        norm: &LayerNorm,
        x: &Tensor,
        ls: &LayerScale,
    ) -> Result<Tensor> {
        self.in_chunks(norm, x, ls, Self::CHUNK)
    }

    fn in_chunks(
        &self,
        norm: &LayerNorm,
        x: &Tensor,
        ls: &LayerScale,
        chunk: usize,
    ) -> Result<Tensor> {
        let flat = x.flatten_to(D::Minus2)?;
        let rows = flat.dim(0)?;
        if rows <= chunk {
            return self.whole(x, Some(norm), ls.residual(x));
        }
        // Of equal size. A rest of few rows would be multiplied in another order than they are beside others, and a frame have
        // other bits in another batch.
        let chunk = rows.div_ceil(rows.div_ceil(chunk));
        let parts = (0..rows)
            .step_by(chunk)
            .map(|start| {
                let x = flat.narrow(0, start, chunk.min(rows - start))?;
                self.whole(&x, Some(norm), ls.residual(&x))
            })
            .collect::<Result<Vec<_>>>()?;
        Tensor::cat(&parts, 0)?.reshape(x.shape())
    }

    fn whole(
        &self,
        x: &Tensor,
        norm: Option<&LayerNorm>,
        epilogue: Epilogue<'_>,
    ) -> Result<Tensor> {
        let gelu = Fusion {
            norm,
            epilogue: Epilogue::Gelu,
        };
        let hidden = self.fc1.forward_fused(x, gelu)?;
        self.fc2.forward_fused(
            &hidden,
            Fusion {
                norm: None,
                epilogue,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn cutting_the_tokens_changes_nothing() {
        let vb = VarBuilder::random(3, DType::F32, &Device::Cpu);
        let mlp = Mlp::new(8, 32, 8, &vb).unwrap();
        let norm = LayerNorm::new(8, 1e-5, &vb.pp("norm")).unwrap();
        let ls = LayerScale::new(8, &vb.pp("ls")).unwrap();
        let x = Tensor::randn(0f32, 1.0, (3, 7, 8), &Device::Cpu).unwrap();
        let whole = mlp.forward_residual(&norm, &x, &ls).unwrap();
        let cut = mlp.in_chunks(&norm, &x, &ls, 4).unwrap();
        assert_eq!(cut.dims(), [3, 7, 8]);
        let worst = (cut - whole).unwrap().abs().unwrap().max_all().unwrap();
        assert!(worst.to_scalar::<f32>().unwrap() < 1e-6);
    }
}
