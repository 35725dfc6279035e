//! Transposed convolutions of the DPT heads.

use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, bail};

use super::cpu::{self, Isa, gemm};
use crate::weights::VarBuilder;

/// A transposed convolution whose kernel is as wide as its stride, so that its output tiles do not overlap.
#[derive(Debug, Clone)]
pub struct ConvTranspose2d {
    /// [k k out, in]: one product of matrices gives every tile.
    weight: Tensor,
    /// `[out]`
    bias: Tensor,
    kernel: usize,
}

impl ConvTranspose2d {
    /// Reads `weight` [in, out, kernel, kernel] and `bias` `[out]`.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn new(
        (c_in, c_out): (usize, usize),
        kernel: usize,
        vb: &VarBuilder,
    ) -> crate::Result<Self> {
        let weight = vb.get((c_in, c_out, kernel, kernel), "weight")?;
        Ok(Self::from_tensors(&weight, vb.get(c_out, "bias")?)?)
    }

    /// A convolution with given parameters. `weight` [in, out, kernel, kernel], `bias` `[out]`.
    ///
    /// # Errors
    /// When the shape does not fit or the device fails.
    pub fn from_tensors(weight: &Tensor, bias: Tensor) -> Result<Self> {
        let (c_in, _, kernel, _) = weight.dims4()?;
        let weight = weight.permute((2, 3, 1, 0))?.reshape(((), c_in))?;
        Ok(Self {
            weight,
            bias,
            kernel,
        })
    }

    /// [B, H, W, in] -> [B, kernel H, kernel W, out].
    ///
    /// # Errors
    /// When the shape does not fit or the device fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (depth, c_in) = (self.weight.dim(1)?, x.dims4()?.3);
        if depth != c_in || depth == 0 {
            bail!("conv_transpose2d expects {depth} channels, got {c_in}")
        }
        match (x.device(), Isa::best()) {
            (Device::Cpu, Some(isa)) if x.dtype() == DType::F32 => {
                x.contiguous()?.apply_op1_no_bwd(&OnCpu { op: self, isa })
            }
            _ => self.reference(x),
        }
    }

    /// The reference implementation.
    // PyTorch: nn.ConvTranspose2d(c_in, c_out, k, stride=k), channels last
    fn reference(&self, x: &Tensor) -> Result<Tensor> {
        let (b, h, w, c_in) = x.dims4()?;
        let k = self.kernel;
        let c_out = self.bias.elem_count();
        x.contiguous()?
            .reshape((b * h * w, c_in))?
            .matmul(&self.weight.t()?)?
            .reshape(vec![b, h, w, k, k, c_out])?
            .permute(vec![0, 1, 3, 2, 4, 5])?
            .reshape((b, h * k, w * k, c_out))?
            .broadcast_add(&self.bias)
    }
}

/// A transposed convolution on the CPU. Its operands were checked.
struct OnCpu<'a> {
    op: &'a ConvTranspose2d,
    isa: Isa,
}

impl CustomOp1 for OnCpu<'_> {
    fn name(&self) -> &'static str {
        "conv_transpose2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, h, w, c_in) = layout.shape().dims4()?;
        let k = self.op.kernel;
        let (weight, bias) = (
            cpu::slice_of(&self.op.weight)?,
            cpu::slice_of(&self.op.bias)?,
        );
        let op = cpu::conv_transpose2d::ConvTranspose2d {
            x: gemm::Matrix {
                data: cpu::contiguous(storage, layout)?,
                depth: c_in,
            },
            width: w,
            kernel: k,
            weight: &weight,
            bias: &bias,
        };
        let out = op.run(self.isa)?;
        Ok((CpuStorage::F32(out), (b, h * k, w * k, bias.len()).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{random, relative_error};

    #[test]
    fn every_implementation_is_candles_transposed_convolution() {
        for (c_in, c_out, k, h, w) in [(5, 3, 4, 3, 7), (16, 20, 2, 5, 1), (1, 1, 1, 2, 2)] {
            let weight = random(&[c_in, c_out, k, k]);
            let bias = random(&[c_out]);
            let x = random(&[2, h, w, c_in]);
            let exact = x
                .permute((0, 3, 1, 2))
                .unwrap()
                .contiguous()
                .unwrap()
                .conv_transpose2d(&weight, 0, 0, k, 1)
                .unwrap()
                .permute((0, 2, 3, 1))
                .unwrap()
                .broadcast_add(&bias)
                .unwrap();
            let op = ConvTranspose2d::from_tensors(&weight, bias).unwrap();
            assert!(relative_error(&op.reference(&x).unwrap(), &exact) < 2e-6);
            for isa in Isa::all() {
                let ours = x.apply_op1_no_bwd(&OnCpu { op: &op, isa }).unwrap();
                assert!(relative_error(&ours, &exact) < 2e-6, "{}", isa.name());
            }
        }
    }
}
