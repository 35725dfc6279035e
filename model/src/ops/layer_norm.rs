//! Layer normalisation over the last dimension.

use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor, bail};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, backend::BackendStorage};
use rayon::prelude::*;

#[cfg(feature = "cuda")]
use super::cuda::{
    self,
    device::{self, Queue},
};
use super::{
    cpu::{self, Isa, Kernel, Shared, Vector, gemm, math},
    version::Version,
};
use crate::weights::VarBuilder;

/// LayerNorm with a learned scale and shift.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

impl LayerNorm {
    /// Reads `weight` and `bias`, both `[C]`.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn new(c: usize, eps: f32, vb: &VarBuilder) -> crate::Result<Self> {
        Ok(Self {
            weight: vb.get(c, "weight")?,
            bias: vb.get(c, "bias")?,
            eps,
        })
    }

    /// A norm with given parameters, both `[C]`.
    pub fn from_tensors(weight: Tensor, bias: Tensor, eps: f32) -> Self {
        Self { weight, bias, eps }
    }

    /// Normalises [..., C].
    ///
    /// # Errors
    /// When the shape does not fit or the device fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match Version::of(x) {
            Some(version) => x.contiguous()?.apply_op1_no_bwd(&Fused {
                norm: self,
                version,
            }),
            None => self.plain(x),
        }
    }

    /// The definition.
    // PyTorch: F.layer_norm(x, (C,), weight, bias, eps)
    pub(super) fn plain(&self, x: &Tensor) -> Result<Tensor> {
        let c = x.dim(D::Minus1)? as f64;
        let mean = (x.sum_keepdim(D::Minus1)? / c)?;
        let centred = x.broadcast_sub(&mean)?;
        let variance = (centred.sqr()?.sum_keepdim(D::Minus1)? / c)?;
        centred
            .broadcast_div(&(variance + f64::from(self.eps))?.sqrt()?)?
            .broadcast_mul(&self.weight)?
            .broadcast_add(&self.bias)
    }

    #[cfg(test)]
    pub(super) fn with_dtype(&self, dtype: DType) -> Result<Self> {
        let to = |t: &Tensor| t.to_dtype(dtype);
        Ok(Self::from_tensors(
            to(&self.weight)?,
            to(&self.bias)?,
            self.eps,
        ))
    }

    /// Scale and shift in the memory of the device.
    #[cfg(feature = "cuda")]
    pub(super) fn held(&self) -> [device::Held<'_>; 2] {
        [&self.weight, &self.bias].map(device::hold)
    }

    /// Added to the variance.
    pub(super) fn eps(&self) -> f32 {
        self.eps
    }

    /// Scale and shift as numbers of the CPU.
    pub(super) fn with_numbers<R>(&self, f: impl FnOnce(&[f32], &[f32]) -> Result<R>) -> Result<R> {
        cpu::with_numbers(&self.weight, |weight| {
            cpu::with_numbers(&self.bias, |bias| f(weight, bias))
        })
    }

    /// Mean and 1 / standard deviation of each row of `x`, rows of `c` numbers.
    pub(super) fn moments(&self, isa: Isa, x: &[f32], c: usize) -> Vec<(f32, f32)> {
        x.par_chunks(ROWS * c)
            .flat_map_iter(|rows| {
                isa.run(Moments {
                    rows,
                    c,
                    eps: self.eps,
                })
            })
            .collect()
    }
}

/// Normalises [..., C] to mean 0 and variance 1, without a learned scale and shift.
///
/// # Errors
/// When the device fails.
pub fn layer_norm(x: &Tensor, eps: f32) -> Result<Tensor> {
    let c = x.dim(D::Minus1)?;
    let one = Tensor::ones(c, DType::F32, x.device())?.to_dtype(x.dtype())?;
    let bias = one.zeros_like()?;
    LayerNorm::from_tensors(one, bias, eps).forward(x)
}

/// Rows of a task.
const ROWS: usize = 16;

struct Fused<'a> {
    norm: &'a LayerNorm,
    version: Version,
}

impl CustomOp1 for Fused<'_> {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let isa = self.version.isa()?;
        let x = cpu::contiguous(storage, layout)?;
        let c = layout.dims().last().copied().unwrap_or(0);
        let write = |out: Shared<'_, f32>| {
            self.norm.with_numbers(|weight, bias| {
                if weight.len() != c || bias.len() != c || c == 0 {
                    bail!(
                        "layer_norm of {} channels, got {:?}",
                        weight.len(),
                        layout.dims()
                    )
                }
                x.par_chunks(ROWS * c).enumerate().for_each(|(i, rows)| {
                    // SAFETY: each task has rows of its own.
                    #[allow(unsafe_code)]
                    let out = unsafe { out.slice(i * ROWS * c, rows.len()) };
                    let moments = isa.run(Moments {
                        rows,
                        c,
                        eps: self.norm.eps,
                    });
                    let moments = &moments;
                    isa.run(Apply {
                        rows,
                        moments,
                        weight,
                        bias,
                        out,
                    });
                });
                Ok(())
            })
        };
        // SAFETY: every row is written.
        #[allow(unsafe_code)]
        let out = unsafe { cpu::written(x.len(), write)? };
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        Ok((self.norm.on_cuda(x, layout)?, layout.shape().clone()))
    }
}

#[cfg(feature = "cuda")]
impl LayerNorm {
    /// The CUDA version. `x` is contiguous, [..., C], and so is what it gives.
    pub(super) fn on_cuda(&self, x: &CudaStorage, layout: &Layout) -> Result<CudaStorage> {
        let (queue, dtype) = (Queue::of(x), x.dtype());
        let c = layout.dims().last().copied().unwrap_or(0);
        let mut out = queue.unwritten(layout.shape(), dtype)?;
        let (weight, bias) = (device::hold(&self.weight), device::hold(&self.bias));
        {
            let x = queue.input(x, layout, dtype)?;
            let weight = queue.parameter(&weight, c, dtype)?;
            let bias = queue.parameter(&bias, c, dtype)?;
            let to = queue.output(&mut out)?;
            let call = cuda::layer_norm(cuda::LayerNormCall {
                dtype,
                size: (layout.shape().elem_count() / c.max(1), c),
                eps: self.eps,
                x: x.address,
                weight: weight.address,
                bias: bias.address,
                out: to.address,
            })?;
            // SAFETY: the operands are alive and as long as the call's size, by which they were measured.
            #[allow(unsafe_code)]
            unsafe {
                queue.launch(&call)?;
            }
        }
        Ok(out)
    }
}

/// Mean and 1 / standard deviation of rows.
struct Moments<'a> {
    rows: &'a [f32],
    c: usize,
    eps: f32,
}

impl Kernel for Moments<'_> {
    type Output = Vec<(f32, f32)>;

    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn run<V: Vector>(self) -> Self::Output {
        let rows = self.rows.chunks_exact(self.c);
        let mut moments = Vec::with_capacity(rows.len());
        for row in rows {
            // SAFETY: passed on.
            moments.push(unsafe { math::moments::<V>(row, self.eps) });
        }
        moments
    }
}

/// Scales and shifts rows whose moments are known.
struct Apply<'a> {
    rows: &'a [f32],
    moments: &'a [(f32, f32)],
    weight: &'a [f32],
    bias: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn run<V: Vector>(self) {
        let c = self.weight.len();
        let out = Shared::new(self.out);
        for (i, (mean, rstd)) in self.moments.iter().enumerate() {
            let mut k = 0;
            while k < c {
                let n = V::LANES.min(c - k);
                // SAFETY: row i and its k below c are inside `rows` and `out`, which are equally long.
                unsafe {
                    let x = gemm::load::<V>(self.rows, i * c + k, n);
                    let x = (x - V::splat(*mean)) * V::splat(*rstd);
                    let weight = gemm::load::<V>(self.weight, k, n);
                    let y = x.mul_add(weight, gemm::load::<V>(self.bias, k, n));
                    y.store_first(out.at(i * c + k), n);
                }
                k += n;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{random, relative_error};

    #[test]
    fn the_vectorised_version_is_the_plain_one() {
        for (rows, c) in [(0, 4), (1, 1), (3, 5), (17, 64), (40, 1027)] {
            let x = (random(&[2, rows, c]) + 3.0).unwrap();
            let norm = LayerNorm::from_tensors(random(&[c]), random(&[c]), 1e-5);
            let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
            let exact = LayerNorm::from_tensors(wide(&norm.weight), wide(&norm.bias), 1e-5)
                .plain(&wide(&x))
                .unwrap();
            for isa in Isa::all() {
                let ours = x
                    .apply_op1_no_bwd(&Fused {
                        norm: &norm,
                        version: Version::Cpu(isa),
                    })
                    .unwrap();
                let error = relative_error(&ours, &exact);
                assert!(error < 2e-6, "{} {rows} {c}: {error:e}", isa.name());
            }
        }
    }

    #[test]
    fn other_channels_are_refused() {
        let norm = LayerNorm::from_tensors(random(&[4]), random(&[4]), 1e-5);
        assert!(norm.forward(&random(&[2, 5])).is_err());
    }
}
