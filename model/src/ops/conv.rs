//! Two-dimensional convolutions of the DPT heads.

use candle_core::{Result, Tensor};

use crate::weights::VarBuilder;

/// A convolution with a square kernel.
#[derive(Debug, Clone)]
pub struct Conv2d {
    /// [out, in, kernel, kernel]
    weight: Tensor,
    /// [1, out, 1, 1]
    bias: Option<Tensor>,
    stride: usize,
    padding: usize,
}

impl Conv2d {
    /// Reads `weight` [out, in, kernel, kernel] and `bias` `[out]`.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn new(
        (c_in, c_out): (usize, usize),
        kernel: usize,
        (stride, padding): (usize, usize),
        vb: &VarBuilder,
    ) -> crate::Result<Self> {
        let bias = vb.get(c_out, "bias")?.reshape((1, c_out, 1, 1))?;
        Ok(Self {
            bias: Some(bias),
            ..Self::no_bias((c_in, c_out), kernel, (stride, padding), vb)?
        })
    }

    /// As [`Conv2d::new`], without a bias.
    ///
    /// # Errors
    /// When `weight` is missing or has another shape.
    pub fn no_bias(
        (c_in, c_out): (usize, usize),
        kernel: usize,
        (stride, padding): (usize, usize),
        vb: &VarBuilder,
    ) -> crate::Result<Self> {
        Ok(Self {
            weight: vb.get((c_out, c_in, kernel, kernel), "weight")?,
            bias: None,
            stride,
            padding,
        })
    }

    /// [B, in, H, W] -> [B, out, H', W'].
    ///
    /// # Errors
    /// When the shape does not fit or the device fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (c_out, c_in, kernel, _) = self.weight.dims4()?;
        let y = if kernel == 1 && self.stride == 1 {
            // A 1 x 1 convolution is a product of matrices: [out, in] x [in, H W].
            let (b, _, h, w) = x.dims4()?;
            let weight = self.weight.reshape((c_out, c_in))?.broadcast_left(b)?;
            let x = x.reshape((b, c_in, h * w))?;
            weight.contiguous()?.matmul(&x)?.reshape((b, c_out, h, w))?
        } else {
            in_bands(x, &self.weight, self.padding, self.stride, MAX_COLUMNS)?
        };
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// Numbers that candle's CPU convolution spreads its input into at once: 128 MiB in F32. The widest layer of VGGT-1B
/// would take 1.2 GiB for one frame of 518 x 518.
const MAX_COLUMNS: usize = 1 << 25;

/// The definition, some rows of the output at a time. x [B, in, H, W], weight [out, in, k, k].
fn in_bands(
    x: &Tensor,
    weight: &Tensor,
    padding: usize,
    stride: usize,
    max_columns: usize,
) -> Result<Tensor> {
    let (b, c_in, h, w) = x.dims4()?;
    let kernel = weight.dim(3)?;
    let rows = (h + 2 * padding - kernel) / stride + 1;
    let columns = (w + 2 * padding - kernel) / stride + 1;
    let per_row = b * c_in * kernel * kernel * columns;
    if rows * per_row <= max_columns {
        return x.conv2d(weight, padding, stride, 1, 1);
    }
    let padded = x
        .pad_with_zeros(2, padding, padding)?
        .pad_with_zeros(3, padding, padding)?;
    let band = (max_columns / per_row).max(1);
    let parts = (0..rows)
        .step_by(band)
        .map(|start| {
            let len = band.min(rows - start);
            let x = padded.narrow(2, start * stride, (len - 1) * stride + kernel)?;
            x.contiguous()?.conv2d(weight, 0, stride, 1, 1)
        })
        .collect::<Result<Vec<_>>>()?;
    Tensor::cat(&parts, 2)
}

/// A transposed convolution whose kernel is as wide as its stride, so that its output tiles do not overlap.
#[derive(Debug, Clone)]
pub struct ConvTranspose2d {
    /// [out k k, in]: one product of matrices gives every tile.
    weight: Tensor,
    /// [1, out, 1, 1]
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
        Ok(Self {
            weight: weight.reshape((c_in, c_out * kernel * kernel))?.t()?,
            bias: vb.get(c_out, "bias")?.reshape((1, c_out, 1, 1))?,
            kernel,
        })
    }

    /// [B, in, H, W] -> [B, out, kernel H, kernel W].
    ///
    /// # Errors
    /// When the shape does not fit or the device fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, c_in, h, w) = x.dims4()?;
        let k = self.kernel;
        let c_out = self.weight.dim(0)? / (k * k);
        let tiles = self
            .weight
            .broadcast_left(b)?
            .contiguous()?
            .matmul(&x.reshape((b, c_in, h * w))?)?;
        tiles
            .reshape(vec![b, c_out, k, k, h, w])?
            .permute(vec![0, 1, 4, 2, 5, 3])?
            .reshape((b, c_out, h * k, w * k))?
            .broadcast_add(&self.bias)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn cutting_the_rows_changes_nothing() {
        let random = |dims: (usize, usize, usize, usize)| {
            Tensor::randn(0f32, 1.0, dims, &Device::Cpu).unwrap()
        };
        let (x, weight) = (random((2, 3, 11, 6)), random((4, 3, 3, 3)));
        for stride in [1, 2] {
            let whole = x.conv2d(&weight, 1, stride, 1, 1).unwrap();
            for max_columns in [1, 700, 1000] {
                let cut = in_bands(&x, &weight, 1, stride, max_columns).unwrap();
                assert_eq!(cut.dims(), whole.dims());
                let worst = (cut - &whole).unwrap().abs().unwrap().max_all().unwrap();
                let worst = worst.to_scalar::<f32>().unwrap();
                assert!(worst < 1e-5, "{stride} {max_columns}: {worst}");
            }
        }
    }

    #[test]
    fn tiles_are_the_transposed_convolution() {
        let dev = Device::Cpu;
        let (c_in, c_out, k) = (5, 3, 4);
        let weight = Tensor::randn(0f32, 1.0, (c_in, c_out, k, k), &dev).unwrap();
        let x = Tensor::randn(0f32, 1.0, (2, c_in, 3, 7), &dev).unwrap();
        let ours = ConvTranspose2d {
            weight: weight.reshape((c_in, c_out * k * k)).unwrap().t().unwrap(),
            bias: Tensor::zeros((1, c_out, 1, 1), x.dtype(), &dev).unwrap(),
            kernel: k,
        }
        .forward(&x)
        .unwrap();
        let plain = x.conv_transpose2d(&weight, 0, 0, k, 1).unwrap();
        let worst = (ours - plain)
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!(worst < 1e-5, "{worst}");
    }
}
