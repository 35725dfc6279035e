//! y = x Wᵀ + b, with W read where it lies and with what comes before and after in the same pass.

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, backend::BackendStorage};

#[cfg(feature = "cuda")]
use super::cuda::{
    self, Epilogue,
    device::{self, Queue},
};
use super::{
    LayerNorm,
    cpu::{
        self, Isa, Shared, Vector,
        arithmetic::{Arithmetic, Exact, Int16},
        gemm, math,
    },
    gelu,
    version::Version,
};
use crate::{
    precision::Precision,
    weights::{MappedMatrix, MatrixSlice, VarBuilder},
};

/// A linear layer. On the CPU the matrix is read from the mapped file, as F32, F16 or BF16: no copy of it is ever made.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Weight,
    /// `[out]`
    bias: Tensor,
    precision: Precision,
}

#[derive(Debug, Clone)]
enum Weight {
    /// [out, in], in the mapped file.
    Mapped(MappedMatrix),
    /// [out, in], owned by the device.
    Owned(Tensor),
}

/// What a layer is joined with, so that no tensor is written and read again in between.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fusion<'a> {
    /// Normalises the input.
    pub norm: Option<&'a LayerNorm>,
    /// Takes the output.
    pub then: Then<'a>,
}

/// What happens to the output y of a layer.
#[derive(Debug, Clone, Copy, Default)]
pub enum Then<'a> {
    /// y
    #[default]
    Nothing,
    /// gelu(y), in its exact form
    Gelu,
    /// residual + gamma y: the end of a transformer's branch.
    Residual {
        /// `[out]`
        gamma: &'a Tensor,
        /// [..., out]
        residual: &'a Tensor,
    },
}

impl Linear {
    /// Reads `weight` [out, in] and `bias` `[out]`.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn new(c_in: usize, c_out: usize, vb: &VarBuilder) -> crate::Result<Self> {
        Self::named(c_in, c_out, ("weight", "bias"), vb)
    }

    /// As [`Linear::new`] for parameters with other names, such as `in_proj_weight`.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn named(
        c_in: usize,
        c_out: usize,
        (weight, bias): (&str, &str),
        vb: &VarBuilder,
    ) -> crate::Result<Self> {
        // Only the fast version reads halves and unowned numbers.
        let mapped = match Isa::best() {
            Some(_) => vb.mapped_matrix((c_out, c_in), weight)?,
            None => None,
        };
        let weight = match mapped {
            Some(mapped) => Weight::Mapped(mapped),
            None => Weight::Owned(vb.get((c_out, c_in), weight)?),
        };
        Ok(Self {
            weight,
            bias: vb.get(c_out, bias)?,
            precision: vb.precision(),
        })
    }

    /// A layer with given parameters. `weight` [out, in], `bias` `[out]`.
    pub fn from_tensors(weight: Tensor, bias: Tensor) -> Self {
        Self {
            weight: Weight::Owned(weight),
            bias,
            precision: Precision::Exact,
        }
    }

    /// The rows `start .. start + len` of the output alone, sharing the parameters.
    ///
    /// # Errors
    /// When the range is not inside the output.
    pub fn narrow(&self, start: usize, len: usize) -> Result<Self> {
        let weight = match &self.weight {
            Weight::Mapped(m) => Weight::Mapped(m.narrow_rows(start, len)?),
            Weight::Owned(t) => Weight::Owned(t.narrow(0, start, len)?),
        };
        Ok(Self {
            weight,
            bias: self.bias.narrow(0, start, len)?,
            precision: self.precision,
        })
    }

    /// [..., in] -> [..., out].
    ///
    /// # Errors
    /// When the shape does not fit or the device fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_fused(x, Fusion::default())
    }

    /// then(layer(norm(x))). [..., in] -> [..., out].
    ///
    /// # Errors
    /// When a shape does not fit or the device fails.
    pub fn forward_fused(&self, x: &Tensor, fusion: Fusion<'_>) -> Result<Tensor> {
        match (&self.weight, Version::of(x)) {
            (_, Some(version)) => x.contiguous()?.apply_op1_no_bwd(&Fused {
                linear: self,
                fusion,
                version,
            }),
            (Weight::Owned(weight), None) => self.plain(x, weight, fusion),
            (Weight::Mapped(_), None) => bail!("mapped weights are for F32 on the CPU"),
        }
    }

    /// The definition.
    // PyTorch: F.linear(F.layer_norm(x), weight, bias), then F.gelu(y) or residual + gamma * y
    fn plain(&self, x: &Tensor, weight: &Tensor, fusion: Fusion<'_>) -> Result<Tensor> {
        let x = match fusion.norm {
            Some(norm) => norm.plain(x)?,
            None => x.clone(),
        };
        let mut shape = x.dims().to_vec();
        let c_in = x.dim(D::Minus1)?;
        let rows = x.elem_count() / c_in.max(1);
        if let Some(last) = shape.last_mut() {
            *last = weight.dim(0)?;
        }
        // One large product instead of a product for each batch entry.
        let y = x
            .contiguous()?
            .reshape((rows, c_in))?
            .matmul(&weight.t()?)?
            .reshape(shape)?
            .broadcast_add(&self.bias)?;
        match fusion.then {
            Then::Nothing => Ok(y),
            Then::Gelu => gelu(&y),
            Then::Residual { gamma, residual } => residual + y.broadcast_mul(gamma)?,
        }
    }
}

/// The joined versions.
struct Fused<'a> {
    linear: &'a Linear,
    fusion: Fusion<'a>,
    version: Version,
}

impl CustomOp1 for Fused<'_> {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = cpu::contiguous(storage, layout)?;
        let mut shape = layout.dims().to_vec();
        let out = match &self.linear.weight {
            Weight::Mapped(m) => {
                let weights = match m.numbers() {
                    MatrixSlice::F32(w) => gemm::Weights::F32(w),
                    MatrixSlice::F16(w) => gemm::Weights::F16(w),
                    MatrixSlice::BF16(w) => gemm::Weights::Bf16(w),
                };
                self.normed(x, &mut shape, (m.rows(), m.columns()), weights)
            }
            Weight::Owned(w) => {
                let size = w.dims2()?;
                cpu::with_numbers(w, |w| {
                    self.normed(x, &mut shape, size, gemm::Weights::F32(w))
                })
            }
        }?;
        Ok((CpuStorage::F32(out), Shape::from(shape)))
    }

    // The product is cuBLAS'; norm and epilogue are kernels before and after it.
    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let Weight::Owned(weight) = &self.linear.weight else {
            bail!("mapped weights are for F32 on the CPU")
        };
        let (n, depth) = weight.dims2()?;
        let mut shape = layout.dims().to_vec();
        match shape.last_mut() {
            Some(last) if *last == depth && depth > 0 => *last = n,
            _ => bail!("linear takes {depth} channels, got {shape:?}"),
        }
        let rows = layout.shape().elem_count() / depth;
        if rows * n == 0 {
            let none = Queue::of(x).unwritten(&Shape::from(shape.clone()), x.dtype())?;
            return Ok((none, Shape::from(shape)));
        }
        let mut y = match self.fusion.norm {
            None => product(x, layout.start_offset(), rows, weight)?,
            Some(norm) => product(&norm.on_cuda(x, layout)?, 0, rows, weight)?,
        };
        self.finish_on_cuda(&mut y, (rows, n))?;
        Ok((y, Shape::from(shape)))
    }
}

/// x Wᵀ by cuBLAS, with `rows` contiguous rows of x from `offset` and W [out, in]. [rows, out]
#[cfg(feature = "cuda")]
fn product(x: &CudaStorage, offset: usize, rows: usize, weight: &Tensor) -> Result<CudaStorage> {
    let (n, depth) = weight.dims2()?;
    let (storage, layout) = weight.storage_and_layout();
    let candle_core::Storage::Cuda(weight) = &*storage else {
        bail!("the weights are on another device")
    };
    let left = Layout::contiguous_with_offset((rows, depth), offset);
    x.matmul(weight, (1, rows, n, depth), &left, &layout.transpose(0, 1)?)
}

#[cfg(feature = "cuda")]
impl Fused<'_> {
    /// Bias and what comes after it, in place. y [rows, n]
    fn finish_on_cuda(&self, y: &mut CudaStorage, (rows, n): (usize, usize)) -> Result<()> {
        let (queue, dtype) = (Queue::of(y), y.dtype());
        let bias = device::hold(&self.linear.bias);
        let contiguous;
        let others = match self.fusion.then {
            Then::Residual { gamma, residual } => {
                contiguous = residual.contiguous()?;
                Some((device::hold(gamma), device::hold(&contiguous)))
            }
            _ => None,
        };
        let bias = queue.parameter(&bias, n, dtype)?;
        let others = match &others {
            Some((gamma, residual)) => Some((
                queue.parameter(gamma, n, dtype)?,
                queue.parameter(residual, rows * n, dtype)?,
            )),
            None => None,
        };
        let kind = match (self.fusion.then, &others) {
            (Then::Gelu, _) => Epilogue::Gelu,
            (_, Some((gamma, residual))) => Epilogue::Residual {
                gamma: gamma.address,
                residual: residual.address,
            },
            _ => Epilogue::Bias,
        };
        let y = queue.output(y)?;
        let call = cuda::epilogue(kind, dtype, (rows, n), (y.address, bias.address))?;
        // SAFETY: the operands are alive, and were measured against rows and columns.
        #[allow(unsafe_code)]
        unsafe {
            queue.launch(&call)
        }
    }
}

impl Fused<'_> {
    /// The left side: as it is or normalised. Sets the last dimension of `shape` to that of the output.
    fn normed(
        &self,
        x: &[f32],
        shape: &mut [usize],
        (n, depth): (usize, usize),
        weights: gemm::Weights<'_>,
    ) -> Result<Vec<f32>> {
        match shape.last_mut() {
            Some(last) if *last == depth && depth > 0 => *last = n,
            _ => bail!("linear takes {depth} channels, got {shape:?}"),
        }
        let left = gemm::Matrix { data: x, depth };
        match self.fusion.norm {
            None => self.multiplied(left, gemm::Prepare::Plain, n, weights),
            Some(norm) => norm.with_numbers(|weight, bias| {
                if weight.len() != depth || bias.len() != depth {
                    bail!("a norm of {} channels before {depth}", weight.len())
                }
                let moments = &norm.moments(self.version.isa()?, x, depth);
                let prepare = gemm::Prepare::Norm {
                    moments,
                    weight,
                    bias,
                };
                self.multiplied(left, prepare, n, weights)
            }),
        }
    }

    /// The arithmetic that the layer asks for and its depth allows.
    fn multiplied(
        &self,
        left: gemm::Matrix<'_>,
        prepare: gemm::Prepare<'_>,
        n: usize,
        weights: gemm::Weights<'_>,
    ) -> Result<Vec<f32>> {
        match self.linear.precision {
            Precision::Fast if Int16::takes(left.depth) => {
                self.finished::<Int16>(left, prepare, n, weights)
            }
            _ => self.finished::<Exact>(left, prepare, n, weights),
        }
    }

    /// The right side and what comes after.
    fn finished<A: Arithmetic>(
        &self,
        left: gemm::Matrix<'_>,
        prepare: gemm::Prepare<'_>,
        n: usize,
        weights: gemm::Weights<'_>,
    ) -> Result<Vec<f32>> {
        let m = left.data.len() / left.depth;
        let left = (&left, prepare);
        // SAFETY: the product writes every number, and the depth is not 0.
        #[allow(unsafe_code)]
        let out =
            unsafe { cpu::written(m * n, |out| self.finish::<A>(left, (m, n), weights, out)) };
        out
    }

    fn finish<A: Arithmetic>(
        &self,
        left: (&gemm::Matrix<'_>, gemm::Prepare<'_>),
        (m, n): (usize, usize),
        weights: gemm::Weights<'_>,
        out: Shared<'_, f32>,
    ) -> Result<()> {
        let isa = self.version.isa()?;
        cpu::with_numbers(&self.linear.bias, |bias| {
            if bias.len() != n {
                bail!("a bias of {} for {n} channels", bias.len())
            }
            match self.fusion.then {
                Then::Nothing => {
                    gemm::gemm::<A, _, _>(isa, (m, n), left, weights, &Bias(bias), out);
                }
                Then::Gelu => {
                    gemm::gemm::<A, _, _>(isa, (m, n), left, weights, &BiasGelu(bias), out);
                }
                Then::Residual { gamma, residual } => cpu::with_numbers(gamma, |gamma| {
                    cpu::with_numbers(&residual.contiguous()?, |residual| {
                        if gamma.len() != n || residual.len() != m * n {
                            bail!("gamma and residual do not fit [{m}, {n}]")
                        }
                        let then = BiasResidual {
                            bias,
                            gamma,
                            residual,
                        };
                        gemm::gemm::<A, _, _>(isa, (m, n), left, weights, &then, out);
                        Ok(())
                    })
                })?,
            }
            Ok(())
        })
    }
}

/// y + b
struct Bias<'a>(&'a [f32]);

/// gelu(y + b)
struct BiasGelu<'a>(&'a [f32]);

/// residual + gamma (y + b)
struct BiasResidual<'a> {
    bias: &'a [f32],
    gamma: &'a [f32],
    /// [rows, columns]
    residual: &'a [f32],
}

// SAFETY of the blocks below: the lengths were checked against the product's, inside which row and columns lie.
#[allow(unsafe_code)]
mod epilogues {
    use super::*;

    impl gemm::Epilogue for Bias<'_> {
        #[inline(always)]
        unsafe fn apply<V: Vector>(&self, x: V, _: usize, column: usize, n: usize) -> V {
            x + unsafe { gemm::load::<V>(self.0, column, n) }
        }
    }

    impl gemm::Epilogue for BiasGelu<'_> {
        #[inline(always)]
        unsafe fn apply<V: Vector>(&self, x: V, _: usize, column: usize, n: usize) -> V {
            unsafe { math::gelu(x + gemm::load::<V>(self.0, column, n)) }
        }
    }

    impl gemm::Epilogue for BiasResidual<'_> {
        #[inline(always)]
        unsafe fn apply<V: Vector>(&self, x: V, row: usize, column: usize, n: usize) -> V {
            let at = row * self.bias.len() + column;
            unsafe {
                let y = x + gemm::load::<V>(self.bias, column, n);
                let residual = gemm::load::<V>(self.residual, at, n);
                y.mul_add(gemm::load::<V>(self.gamma, column, n), residual)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::ops::testing::{random, random_sizes, relative_error};

    fn wide(t: &Tensor) -> Tensor {
        t.to_dtype(DType::F64).unwrap()
    }

    #[test]
    fn every_fusion_is_the_plain_one() {
        let edges = [[1, 1, 1], [3, 5, 7], [64, 130, 33], [0, 4, 4], [31, 9, 515]];
        let sizes = edges.into_iter().chain(random_sizes(8, [40, 70, 300]));
        for [m, n, k] in sizes {
            let x = random(&[2, m, k]);
            let linear = Linear::from_tensors(random(&[n, k]), random(&[n]));
            let norm = LayerNorm::from_tensors(random(&[k]), random(&[k]), 1e-5);
            let (gamma, residual) = (random(&[n]), random(&[2, m, n]));

            let weight = match &linear.weight {
                Weight::Owned(w) => wide(w),
                Weight::Mapped(_) => unreachable!("made of tensors"),
            };
            let in_f64 = Linear::from_tensors(weight.clone(), wide(&linear.bias));
            let norm_in_f64 = norm.with_dtype(DType::F64).unwrap();
            let (wide_gamma, wide_residual) = (wide(&gamma), wide(&residual));
            for normed in [false, true] {
                let thens = [
                    (Then::Nothing, Then::Nothing),
                    (Then::Gelu, Then::Gelu),
                    (
                        Then::Residual {
                            gamma: &gamma,
                            residual: &residual,
                        },
                        Then::Residual {
                            gamma: &wide_gamma,
                            residual: &wide_residual,
                        },
                    ),
                ];
                for (then, in_wide) in thens {
                    let fusion = Fusion {
                        norm: normed.then_some(&norm_in_f64),
                        then: in_wide,
                    };
                    let exact = in_f64.plain(&wide(&x), &weight, fusion).unwrap();
                    let fusion = Fusion {
                        norm: normed.then_some(&norm),
                        then,
                    };
                    for isa in Isa::all() {
                        let op = Fused {
                            linear: &linear,
                            fusion,
                            version: Version::Cpu(isa),
                        };
                        let ours = x.apply_op1_no_bwd(&op).unwrap();
                        let error = relative_error(&ours, &exact);
                        assert!(
                            error < 2e-6,
                            "{} {m} {n} {k} {then:?}: {error:e}",
                            isa.name()
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn other_channels_are_refused() {
        let linear = Linear::from_tensors(random(&[3, 4]), random(&[3]));
        assert!(linear.forward(&random(&[2, 5])).is_err());
        let gamma = random(&[2]);
        let residual = random(&[2, 3]);
        let then = Then::Residual {
            gamma: &gamma,
            residual: &residual,
        };
        let fusion = Fusion { norm: None, then };
        assert!(linear.forward_fused(&random(&[2, 4]), fusion).is_err());
    }
}
