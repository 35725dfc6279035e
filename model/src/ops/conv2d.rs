//! Two-dimensional convolutions of the DPT heads, channels last.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

#[cfg(feature = "cuda")]
use super::{backend::Backend, cuda};
use super::{
    conv_bands::{MAX_COLUMNS, in_bands},
    cpu::{self, Isa, epilogue::BiasSkips},
};
use crate::weights::VarBuilder;

/// A convolution with a square kernel.
#[derive(Debug, Clone)]
pub struct Conv2d {
    weight: Weight,
    /// `[out]`
    bias: Tensor,
    kernel: usize,
    config: Conv2dConfig,
}

/// Stride and padding of a convolution, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// From one output to the next.
    pub stride: usize,
    /// Zeros around the map.
    pub padding: usize,
}

impl Default for Conv2dConfig {
    fn default() -> Self {
        Self {
            stride: 1,
            padding: 0,
        }
    }
}

/// The weights in the order in which the implementation that runs reads them.
#[derive(Debug, Clone)]
enum Weight {
    /// [out, in, kernel, kernel], for CUDA and the reference implementation.
    Unchanged(Tensor),
    /// [out, kernel, kernel, in], for the product of matrices.
    Product(Tensor),
    /// [3, 3, in, out], for Winograd's transformation.
    Winograd(Tensor),
}

/// What a convolution is fused with, so that no map is written and read again in between.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConvFusion<'a> {
    /// Takes max(x, 0) for x.
    pub relu_before: bool,
    /// Returns max(y, 0) for y.
    pub relu_after: bool,
    /// Adds max(s, 0) to the output. [B, H, W, out]
    pub skip_relu: Option<&'a Tensor>,
    /// Adds s to the output. [B, H, W, out]
    pub skip: Option<&'a Tensor>,
}

impl Conv2d {
    /// Reads `weight` [out, in, kernel, kernel] and `bias` `[out]`.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn new(
        (c_in, c_out): (usize, usize),
        kernel: usize,
        config: Conv2dConfig,
        vb: &VarBuilder,
    ) -> crate::Result<Self> {
        let weight = vb.get((c_out, c_in, kernel, kernel), "weight")?;
        Ok(Self::from_tensors(weight, vb.get(c_out, "bias")?, config)?)
    }

    /// As [`Conv2d::new`] without a bias.
    ///
    /// # Errors
    /// When the weight is missing or has another shape.
    pub fn no_bias(
        (c_in, c_out): (usize, usize),
        kernel: usize,
        config: Conv2dConfig,
        vb: &VarBuilder,
    ) -> crate::Result<Self> {
        let weight = vb.get((c_out, c_in, kernel, kernel), "weight")?;
        let bias = Tensor::zeros(c_out, weight.dtype(), weight.device())?;
        Ok(Self::from_tensors(weight, bias, config)?)
    }

    /// A convolution with given parameters. `weight` [out, in, kernel, kernel], `bias` `[out]`.
    ///
    /// # Errors
    /// When the shape does not fit or the device fails.
    pub fn from_tensors(weight: Tensor, bias: Tensor, config: Conv2dConfig) -> Result<Self> {
        let (_, _, kernel, _) = weight.dims4()?;
        let Conv2dConfig { stride, padding } = config;
        let fast = weight.device().is_cpu() && weight.dtype() == DType::F32;
        let weight = match Isa::best() {
            Some(_) if fast && (kernel, stride, padding) == (3, 1, 1) => {
                Weight::Winograd(weight.permute((2, 3, 1, 0))?.contiguous()?)
            }
            Some(_) if fast => Weight::Product(weight.permute((0, 2, 3, 1))?.contiguous()?),
            _ => Weight::Unchanged(weight),
        };
        Ok(Self {
            weight,
            bias,
            kernel,
            config,
        })
    }

    /// [B, H, W, in] -> [B, H', W', out].
    ///
    /// # Errors
    /// When the shape does not fit or the device fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_fused(x, ConvFusion::default())
    }

    /// As [`Conv2d::forward`] with what comes before and after.
    ///
    /// # Errors
    /// When a shape does not fit or the device fails.
    pub fn forward_fused(&self, x: &Tensor, fusion: ConvFusion<'_>) -> Result<Tensor> {
        self.check(x, fusion)?;
        match (&self.weight, Isa::best()) {
            #[cfg(feature = "cuda")]
            (Weight::Unchanged(weight), _) if matches!(Backend::of(x), Some(Backend::Cuda)) => {
                let conv = cuda::run::Conv2d {
                    weight,
                    bias: &self.bias,
                    stride: self.config.stride,
                    padding: self.config.padding,
                    relu_before: fusion.relu_before,
                    relu_after: fusion.relu_after,
                    skip_relu: fusion.skip_relu,
                    skip: fusion.skip,
                };
                conv.run(x)
            }
            (Weight::Unchanged(weight), _) => self.reference(x, weight, fusion),
            (_, Some(isa)) => x.contiguous()?.apply_op1_no_bwd(&OnCpu {
                conv: self,
                fusion,
                isa,
            }),
            (_, None) => bail!("the weights were laid out for another processor"),
        }
    }

    /// Returns the number of input channels.
    fn c_in(&self) -> Result<usize> {
        match &self.weight {
            Weight::Unchanged(weight) => weight.dim(1),
            Weight::Product(weight) => weight.dim(3),
            Weight::Winograd(weight) => weight.dim(2),
        }
    }

    /// Returns the side of the result for a side of `n` pixels; `None` when the kernel does not fit.
    fn output_side(&self, n: usize) -> Option<usize> {
        let Conv2dConfig { stride, padding } = self.config;
        (n + 2 * padding)
            .checked_sub(self.kernel)
            .map(|n| n / stride + 1)
    }

    /// Returns the height and the width of the result for a map of `h` x `w`.
    fn output_size(&self, h: usize, w: usize) -> Result<(usize, usize)> {
        match (self.output_side(h), self.output_side(w)) {
            (Some(rows), Some(columns)) => Ok((rows, columns)),
            _ => {
                let kernel = self.kernel;
                bail!("a map of {h} x {w} is too small for a kernel of {kernel}")
            }
        }
    }

    /// Refuses shapes that do not fit, for every backend.
    fn check(&self, x: &Tensor, fusion: ConvFusion<'_>) -> Result<()> {
        let (b, h, w, c) = x.dims4()?;
        let c_in = self.c_in()?;
        if h * w * c == 0 || c != c_in {
            bail!("conv2d expects a map with {c_in} channels, got {h} x {w} with {c}")
        }
        let (rows, columns) = self.output_size(h, w)?;
        let len = b * rows * columns * self.bias.elem_count();
        for skip in [fusion.skip_relu, fusion.skip].into_iter().flatten() {
            if skip.elem_count() != len {
                let skip = skip.dims();
                bail!("a skip of {skip:?} does not fit a result of {rows} x {columns}")
            }
        }
        Ok(())
    }

    /// The reference implementation. `weight` [out, in, kernel, kernel]
    // PyTorch: nn.Conv2d, channels last
    fn reference(&self, x: &Tensor, weight: &Tensor, fusion: ConvFusion<'_>) -> Result<Tensor> {
        let x = if fusion.relu_before {
            x.relu()?
        } else {
            x.clone()
        };
        let x = x.permute((0, 3, 1, 2))?.contiguous()?;
        let Conv2dConfig { stride, padding } = self.config;
        let y = in_bands(&x, weight, padding, stride, MAX_COLUMNS)?;
        let mut y = y.permute((0, 2, 3, 1))?.broadcast_add(&self.bias)?;
        if let Some(skip) = fusion.skip_relu {
            y = (y + skip.relu()?)?;
        }
        if let Some(skip) = fusion.skip {
            y = (y + skip)?;
        }
        if fusion.relu_after { y.relu() } else { Ok(y) }
    }
}

/// A convolution on the CPU. Its operands were checked.
struct OnCpu<'a> {
    conv: &'a Conv2d,
    fusion: ConvFusion<'a>,
    isa: Isa,
}

impl CustomOp1 for OnCpu<'_> {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, height, width, c_in) = layout.shape().dims4()?;
        let (rows, columns) = self.conv.output_size(height, width)?;
        let weight = match &self.conv.weight {
            Weight::Product(weight) | Weight::Winograd(weight) => cpu::slice_of(weight)?,
            Weight::Unchanged(_) => bail!("the weights were laid out for another processor"),
        };
        let weights = match &self.conv.weight {
            Weight::Winograd(_) => cpu::conv2d::Weights::Winograd(&weight),
            _ => cpu::conv2d::Weights::Product(&weight),
        };
        let bias = cpu::slice_of(&self.conv.bias)?;
        let contiguous = |skip: Option<&Tensor>| skip.map(Tensor::contiguous).transpose();
        let skips = [
            contiguous(self.fusion.skip_relu)?,
            contiguous(self.fusion.skip)?,
        ];
        let [skip_relu, skip] = skips
            .each_ref()
            .map(|skip| skip.as_ref().map(cpu::slice_of));
        let (skip_relu, skip) = (skip_relu.transpose()?, skip.transpose()?);
        let conv = cpu::conv2d::Conv2d {
            x: cpu::contiguous(storage, layout)?,
            batch,
            height,
            width,
            c_in,
            kernel: self.conv.kernel,
            stride: self.conv.config.stride,
            padding: self.conv.config.padding,
            rows,
            columns,
            relu_before: self.fusion.relu_before,
            weights,
            epilogue: BiasSkips {
                bias: &bias,
                skip_relu: skip_relu.as_deref(),
                skip: skip.as_deref(),
                relu: self.fusion.relu_after,
                first: 0,
            },
        };
        let out = conv.run(self.isa)?;
        let shape = Shape::from((batch, rows, columns, bias.len()));
        Ok((CpuStorage::F32(out), shape))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{random, random_sizes, relative_error};

    /// Every kind of convolution that the heads have, at odd sizes: kernel, stride, padding.
    const KINDS: [(usize, usize, usize); 4] = [(1, 1, 0), (3, 1, 1), (3, 2, 1), (2, 2, 0)];

    #[test]
    fn every_instruction_set_is_the_reference() {
        for (kernel, stride, padding) in KINDS {
            let edges = [
                [2, 2, 1, 1],
                [5, 7, 3, 5],
                [4, 8, 16, 32],
                [9, 3, 24, 40],
                [3, 21, 300, 2],
                [13, 14, 33, 129],
            ];
            let sizes = random_sizes(4, [8, 8, 40, 40]);
            // The smallest map that a kernel of 2 without padding takes.
            let sizes = sizes.into_iter().map(|[h, w, i, o]| [h + 1, w + 1, i, o]);
            for [h, w, c_in, c_out] in edges.into_iter().chain(sizes) {
                let weight = random(&[c_out, c_in, kernel, kernel]);
                let bias = random(&[c_out]);
                let config = Conv2dConfig { stride, padding };
                let conv = Conv2d::from_tensors(weight.clone(), bias.clone(), config).unwrap();
                let x = random(&[2, h, w, c_in]);
                let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
                let in_f64 = Conv2d::from_tensors(wide(&weight), wide(&bias), config).unwrap();
                let reference =
                    |fusion| in_f64.reference(&wide(&x), &wide(&weight), fusion).unwrap();
                let shape = reference(ConvFusion::default()).dims().to_vec();
                let (a, b) = (random(&shape), random(&shape));
                let (wide_a, wide_b) = (wide(&a), wide(&b));
                for (relu, skips) in [(false, false), (true, false), (false, true), (true, true)] {
                    let fusion = |a, b| ConvFusion {
                        relu_before: relu,
                        relu_after: relu && skips,
                        skip_relu: Some(a).filter(|_| skips),
                        skip: Some(b).filter(|_| skips),
                    };
                    let exact = reference(fusion(&wide_a, &wide_b));
                    for isa in Isa::all() {
                        let op = OnCpu {
                            conv: &conv,
                            fusion: fusion(&a, &b),
                            isa,
                        };
                        let ours = x.apply_op1_no_bwd(&op).unwrap();
                        let error = relative_error(&ours, &exact);
                        // Winograd's transformation costs a digit.
                        assert!(
                            error < 1e-5,
                            "{} {kernel} {stride} {h}x{w} {c_in}->{c_out} {relu} {skips}: {error:e}",
                            isa.name()
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn maps_that_do_not_fit_are_refused() {
        let conv = |kernel, stride, padding| {
            let config = Conv2dConfig { stride, padding };
            Conv2d::from_tensors(random(&[2, 3, kernel, kernel]), random(&[2]), config).unwrap()
        };
        assert!(conv(3, 1, 1).forward(&random(&[1, 4, 4, 5])).is_err());
        assert!(conv(1, 1, 0).forward(&random(&[1, 4, 4, 5])).is_err());
        assert!(conv(3, 2, 0).forward(&random(&[1, 2, 4, 3])).is_err());
        let skip = random(&[1, 4, 4, 3]);
        let fusion = ConvFusion {
            skip: Some(&skip),
            ..ConvFusion::default()
        };
        assert!(
            conv(3, 1, 1)
                .forward_fused(&random(&[1, 4, 4, 3]), fusion)
                .is_err()
        );
    }
}
