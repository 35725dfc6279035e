//! Two-dimensional convolutions of the DPT heads, channels last.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, InplaceOp1, backend::BackendStorage};

use super::cpu::{
    self, Isa, Shared, Vector,
    arithmetic::Exact,
    gemm::{self, Epilogue},
    winograd,
};
#[cfg(feature = "cuda")]
use super::{
    cuda::{
        self,
        device::{self, Operand, Queue},
    },
    version::Version,
};
use crate::weights::VarBuilder;

/// A convolution with a square kernel.
#[derive(Debug, Clone)]
pub struct Conv2d {
    weight: Weight,
    /// `[out]`
    bias: Tensor,
    kernel: usize,
    stride: usize,
    padding: usize,
}

/// The weights in the order in which the version that runs reads them.
#[derive(Debug, Clone)]
enum Weight {
    /// [out, in, kernel, kernel], for the plain version.
    Plain(Tensor),
    /// [out, kernel, kernel, in], for the product of matrices.
    Product(Tensor),
    /// [3, 3, in, out], for Winograd's transformation.
    Winograd(Tensor),
}

/// What a convolution is joined with, so that no map is written and read again in between.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConvFusion<'a> {
    /// Takes max(x, 0) for x.
    pub relu_before: bool,
    /// Gives max(y, 0) for y.
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
        geometry: (usize, usize),
        vb: &VarBuilder,
    ) -> crate::Result<Self> {
        let weight = vb.get((c_out, c_in, kernel, kernel), "weight")?;
        Ok(Self::from_tensors(
            weight,
            vb.get(c_out, "bias")?,
            geometry,
        )?)
    }

    /// As [`Conv2d::new`] without a bias.
    ///
    /// # Errors
    /// When the weight is missing or has another shape.
    pub fn no_bias(
        (c_in, c_out): (usize, usize),
        kernel: usize,
        geometry: (usize, usize),
        vb: &VarBuilder,
    ) -> crate::Result<Self> {
        let weight = vb.get((c_out, c_in, kernel, kernel), "weight")?;
        let bias = Tensor::zeros(c_out, weight.dtype(), weight.device())?;
        Ok(Self::from_tensors(weight, bias, geometry)?)
    }

    /// A convolution with given parameters. `weight` [out, in, kernel, kernel], `bias` `[out]`.
    ///
    /// # Errors
    /// When the shape does not fit or the device fails.
    pub fn from_tensors(
        weight: Tensor,
        bias: Tensor,
        (stride, padding): (usize, usize),
    ) -> Result<Self> {
        let (_, _, kernel, _) = weight.dims4()?;
        let fast = weight.device().is_cpu() && weight.dtype() == DType::F32;
        let weight = match Isa::best() {
            Some(_) if fast && (kernel, stride, padding) == (3, 1, 1) => {
                Weight::Winograd(weight.permute((2, 3, 1, 0))?.contiguous()?)
            }
            Some(_) if fast => Weight::Product(weight.permute((0, 2, 3, 1))?.contiguous()?),
            _ => Weight::Plain(weight),
        };
        Ok(Self {
            weight,
            bias,
            kernel,
            stride,
            padding,
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
        match (&self.weight, Isa::best()) {
            #[cfg(feature = "cuda")]
            (Weight::Plain(weight), _) if matches!(Version::of(x), Some(Version::Cuda)) => {
                self.on_cuda(x, weight, fusion)
            }
            (Weight::Plain(weight), _) => self.plain(x, weight, fusion),
            (_, Some(isa)) => x.contiguous()?.apply_op1_no_bwd(&Fused {
                conv: self,
                fusion,
                isa,
            }),
            (_, None) => bail!("weights were laid out for another processor"),
        }
    }

    /// The definition. `weight` [out, in, kernel, kernel]
    // PyTorch: nn.Conv2d, channels last
    fn plain(&self, x: &Tensor, weight: &Tensor, fusion: ConvFusion<'_>) -> Result<Tensor> {
        let x = if fusion.relu_before {
            x.relu()?
        } else {
            x.clone()
        };
        let x = x.permute((0, 3, 1, 2))?.contiguous()?;
        let y = in_bands(&x, weight, self.padding, self.stride, MAX_COLUMNS)?;
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

#[cfg(feature = "cuda")]
impl Conv2d {
    /// The CUDA version: candle's product, then one kernel for all that follows it.
    fn on_cuda(&self, x: &Tensor, weight: &Tensor, fusion: ConvFusion<'_>) -> Result<Tensor> {
        let x = if fusion.relu_before {
            x.relu()?
        } else {
            x.clone()
        };
        let (b, h, w, c) = x.dims4()?;
        let y = if (self.kernel, self.stride, self.padding) == (1, 1, 0) {
            // A product over the places as they lie.
            let x = x.contiguous()?.reshape((b * h * w, c))?;
            let y = x.matmul(&weight.flatten_from(1)?.t()?)?;
            y.reshape((b, h, w, weight.dim(0)?))?
        } else {
            let x = x.permute((0, 3, 1, 2))?.contiguous()?;
            let y = in_bands(&x, weight, self.padding, self.stride, MAX_COLUMNS)?;
            // A copy of its own in any case: what follows works in place.
            y.permute((0, 2, 3, 1))?.force_contiguous()?
        };
        let skip = |skip: Option<&Tensor>| skip.map(Tensor::contiguous).transpose();
        y.inplace_op1(&AfterOnCuda {
            bias: &self.bias,
            skip_relu: skip(fusion.skip_relu)?,
            skip: skip(fusion.skip)?,
            relu: fusion.relu_after,
        })?;
        Ok(y)
    }
}

/// Bias, skips, ReLU, in place, channels last.
#[cfg(feature = "cuda")]
struct AfterOnCuda<'a> {
    bias: &'a Tensor,
    skip_relu: Option<Tensor>,
    skip: Option<Tensor>,
    relu: bool,
}

#[cfg(feature = "cuda")]
impl InplaceOp1 for AfterOnCuda<'_> {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        bail!("an operation for CUDA got a tensor of the CPU")
    }

    fn cuda_fwd(&self, y: &mut CudaStorage, layout: &Layout) -> Result<()> {
        let (queue, dtype) = (Queue::of(y), y.dtype());
        let n = self.bias.elem_count();
        let count = layout.shape().elem_count();
        if layout.contiguous_offsets() != Some((0, count)) || layout.dims().last() != Some(&n) {
            bail!("{n} channels do not follow {layout:?}")
        }
        let bias = device::hold(self.bias);
        let skips = [&self.skip_relu, &self.skip].map(|skip| skip.as_ref().map(device::hold));
        let skip = |i: usize| match &skips[i] {
            Some(skip) => queue.parameter(skip, count, dtype),
            None => Ok(Operand::none()),
        };
        let (bias, skip_relu, skip) = (queue.parameter(&bias, n, dtype)?, skip(0)?, skip(1)?);
        let y = queue.output(y)?;
        let kind = cuda::Epilogue::Skip {
            skip_relu: skip_relu.address,
            skip: skip.address,
            relu: self.relu,
        };
        let size = (count / n.max(1), n);
        let call = cuda::epilogue(kind, dtype, size, (y.address, bias.address))?;
        // SAFETY: the operands are alive, and were measured against rows and columns.
        #[allow(unsafe_code)]
        unsafe {
            queue.launch(&call)
        }
    }
}

/// Numbers that candle's CPU convolution spreads its input into at once: 128 MiB in F32. The widest layer of VGGT-1B
/// would take 1.2 GiB for one frame of 518 x 518.
pub(crate) const MAX_COLUMNS: usize = 1 << 25;

/// candle's convolution, some rows of the output at a time. x [B, in, H, W], weight [out, in, k, k].
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

/// The CPU version.
struct Fused<'a> {
    conv: &'a Conv2d,
    fusion: ConvFusion<'a>,
    isa: Isa,
}

impl CustomOp1 for Fused<'_> {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let conv = self.conv;
        let x = cpu::contiguous(storage, layout)?;
        let (b, h, w, c) = layout.shape().dims4()?;
        if h * w * c == 0 {
            bail!("a map of {h} x {w} with {c} channels")
        }
        let side = |n: usize| {
            (n + 2 * conv.padding)
                .checked_sub(conv.kernel)
                .map(|n| n / conv.stride + 1)
        };
        let (Some(rows), Some(columns)) = (side(h), side(w)) else {
            bail!(
                "a map of {h} x {w} is too small for a kernel of {}",
                conv.kernel
            )
        };
        let n = conv.bias.elem_count();
        let shape = Shape::from((b, rows, columns, n));
        let map = Map {
            x,
            size: (h, w, c),
            conv,
            columns,
        };
        let write = |out: Shared<'_, f32>| {
            self.with_after(out.len(), |after| {
                let len = rows * columns * n;
                for (i, x) in x.chunks_exact((h * w * c).max(1)).enumerate() {
                    let out = out.part(i * len, len);
                    let map = Map { x, ..map };
                    let after = After {
                        first: i * rows * columns,
                        ..after
                    };
                    self.one(map, (rows * columns, n), after, out)?;
                }
                Ok(())
            })
        };
        // SAFETY: both ways of multiplying write every number of every map.
        #[allow(unsafe_code)]
        let out = unsafe { cpu::written(shape.elem_count(), write)? };
        Ok((CpuStorage::F32(out), shape))
    }
}

impl Fused<'_> {
    /// The numbers of the epilogue.
    fn with_after(&self, len: usize, f: impl FnOnce(After<'_>) -> Result<()>) -> Result<()> {
        cpu::with_numbers(&self.conv.bias, |bias| {
            with_skip(self.fusion.skip_relu, len, |skip_relu| {
                with_skip(self.fusion.skip, len, |skip| {
                    f(After {
                        bias,
                        skip_relu,
                        skip,
                        relu: self.fusion.relu_after,
                        first: 0,
                    })
                })
            })
        })
    }

    /// The convolution of one map.
    fn one(
        &self,
        map: Map<'_>,
        (m, n): (usize, usize),
        after: After<'_>,
        out: Shared<'_, f32>,
    ) -> Result<()> {
        let (h, w, c) = map.size;
        let prepare = match self.fusion.relu_before {
            true => gemm::Prepare::Relu,
            false => gemm::Prepare::Plain,
        };
        match &self.conv.weight {
            Weight::Winograd(weight) if weight.dims() == [3, 3, c, n] => {
                let relu = self.fusion.relu_before;
                cpu::with_numbers(weight, |weight| {
                    winograd::conv3x3(self.isa, (map.x, (h, w, c), relu), (weight, n), &after, out);
                    Ok(())
                })
            }
            Weight::Product(weight) if weight.dim(3)? == c && c > 0 => {
                cpu::with_numbers(weight, |weight| {
                    let weights = gemm::Weights::F32(weight);
                    if self.conv.kernel == 1 && self.conv.stride == 1 {
                        let left = gemm::Matrix {
                            data: map.x,
                            depth: c,
                        };
                        gemm::gemm::<Exact, _, _>(
                            self.isa,
                            (m, n),
                            (&left, prepare),
                            weights,
                            &after,
                            out,
                        );
                    } else {
                        gemm::gemm::<Exact, _, _>(
                            self.isa,
                            (m, n),
                            (&map, prepare),
                            weights,
                            &after,
                            out,
                        );
                    }
                    Ok(())
                })
            }
            _ => bail!("conv2d of other weights than a map of {c} channels asks for"),
        }
    }
}

fn with_skip<R>(
    skip: Option<&Tensor>,
    len: usize,
    f: impl FnOnce(Option<&[f32]>) -> Result<R>,
) -> Result<R> {
    match skip {
        None => f(None),
        Some(skip) => cpu::with_numbers(&skip.contiguous()?, |skip| {
            if skip.len() != len {
                bail!("a skip of {} numbers for {len}", skip.len())
            }
            f(Some(skip))
        }),
    }
}

/// One map as the left side of a product: a row holds what the kernel sees from one place, tap by tap.
#[derive(Clone, Copy)]
struct Map<'a> {
    /// [H, W, C]
    x: &'a [f32],
    size: (usize, usize, usize),
    conv: &'a Conv2d,
    /// Width of the result.
    columns: usize,
}

/// What a tap outside the map sees.
static ZEROS: [f32; gemm::KC] = [0.0; gemm::KC];

impl gemm::Rows for Map<'_> {
    fn depth(&self) -> usize {
        self.conv.kernel * self.conv.kernel * self.size.2
    }

    // Never beyond the channels of one tap.
    fn run(&self, k: usize) -> usize {
        gemm::KC.min(self.size.2 - k % self.size.2)
    }

    fn slice(&self, row: usize, k: usize, len: usize) -> &[f32] {
        let (h, w, c) = self.size;
        let (tap, channel) = (k / c, k % c);
        let place = |at: usize, tap: usize, n: usize| {
            (at * self.conv.stride + tap)
                .checked_sub(self.conv.padding)
                .filter(|at| *at < n)
        };
        let y = place(row / self.columns, tap / self.conv.kernel, h);
        let x = place(row % self.columns, tap % self.conv.kernel, w);
        match (y, x) {
            (Some(y), Some(x)) => &self.x[(y * w + x) * c + channel..][..len],
            _ => &ZEROS[..len],
        }
    }
}

/// Bias, skips, ReLU.
#[derive(Clone, Copy)]
struct After<'a> {
    bias: &'a [f32],
    skip_relu: Option<&'a [f32]>,
    skip: Option<&'a [f32]>,
    relu: bool,
    /// Row of the skips that row 0 of the product stands for.
    first: usize,
}

impl Epilogue for After<'_> {
    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn apply<V: Vector>(&self, x: V, row: usize, column: usize, n: usize) -> V {
        let at = (self.first + row) * self.bias.len() + column;
        // SAFETY: bias and skips were measured against the result, inside which row and columns lie.
        unsafe {
            let mut y = x + gemm::load::<V>(self.bias, column, n);
            if let Some(skip) = self.skip_relu {
                y = y + V::zero().max(gemm::load::<V>(skip, at, n));
            }
            if let Some(skip) = self.skip {
                y = y + gemm::load::<V>(skip, at, n);
            }
            if self.relu { V::zero().max(y) } else { y }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{random, random_sizes, relative_error};

    #[test]
    fn cutting_the_rows_changes_nothing() {
        let (x, weight) = (random(&[2, 3, 11, 6]), random(&[4, 3, 3, 3]));
        for stride in [1, 2] {
            let whole = x.conv2d(&weight, 1, stride, 1, 1).unwrap();
            for max_columns in [1, 700, 1000] {
                let cut = in_bands(&x, &weight, 1, stride, max_columns).unwrap();
                assert!(
                    relative_error(&cut, &whole) < 1e-6,
                    "{stride} {max_columns}"
                );
            }
        }
    }

    /// Every kind of convolution that the heads have, at odd sizes: kernel, stride, padding.
    const KINDS: [(usize, usize, usize); 4] = [(1, 1, 0), (3, 1, 1), (3, 2, 1), (2, 2, 0)];

    #[test]
    fn every_version_is_the_plain_one() {
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
                let conv =
                    Conv2d::from_tensors(weight.clone(), bias.clone(), (stride, padding)).unwrap();
                let x = random(&[2, h, w, c_in]);
                let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
                let in_f64 =
                    Conv2d::from_tensors(wide(&weight), wide(&bias), (stride, padding)).unwrap();
                let plain = |fusion| in_f64.plain(&wide(&x), &wide(&weight), fusion).unwrap();
                let shape = plain(ConvFusion::default()).dims().to_vec();
                let (a, b) = (random(&shape), random(&shape));
                let (wide_a, wide_b) = (wide(&a), wide(&b));
                for (relu, skips) in [(false, false), (true, false), (false, true), (true, true)] {
                    let fusion = |a, b| ConvFusion {
                        relu_before: relu,
                        relu_after: relu && skips,
                        skip_relu: Some(a).filter(|_| skips),
                        skip: Some(b).filter(|_| skips),
                    };
                    let exact = plain(fusion(&wide_a, &wide_b));
                    for isa in Isa::all() {
                        let op = Fused {
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
        let conv = |kernel, geometry| {
            Conv2d::from_tensors(random(&[2, 3, kernel, kernel]), random(&[2]), geometry).unwrap()
        };
        assert!(conv(3, (1, 1)).forward(&random(&[1, 4, 4, 5])).is_err());
        assert!(conv(1, (1, 0)).forward(&random(&[1, 4, 4, 5])).is_err());
        assert!(conv(3, (2, 0)).forward(&random(&[1, 2, 4, 3])).is_err());
        let skip = random(&[1, 4, 4, 3]);
        let fusion = ConvFusion {
            skip: Some(&skip),
            ..ConvFusion::default()
        };
        assert!(
            conv(3, (1, 1))
                .forward_fused(&random(&[1, 4, 4, 3]), fusion)
                .is_err()
        );
    }
}
