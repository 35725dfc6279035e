//! y = x Wᵀ + b, with W read where it lies and with what comes before and after in the same pass.

mod weight;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};

#[cfg(feature = "cuda")]
use super::cuda;
use super::{
    Epilogue, LayerNorm,
    backend::Backend,
    cpu::{
        self, Isa, gemm,
        linear::{integers_take, is_for_integers},
        weights::Weights,
    },
    gelu,
};
use crate::{precision::Precision, weights::VarBuilder};
use weight::{Elements, Weight, of_mapped};

/// A linear layer. On the CPU the matrix is read from the mapped file, as F32, F16 or BF16; a copy of it is made only to multiply
/// in 16-bit integers.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Weight,
    /// `[out]`
    bias: Tensor,
    precision: Precision,
}

/// What a layer is fused with, so that no tensor is written and read again in between.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fusion<'a> {
    /// Normalizes the input.
    pub norm: Option<&'a LayerNorm>,
    /// What happens to the output.
    pub epilogue: Epilogue<'a>,
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
        // Only the CPU backend reads half precision and memory that no tensor owns.
        let mapped = match Isa::best() {
            Some(_) => vb.mapped_matrix((c_out, c_in), weight)?,
            None => None,
        };
        let elements = match mapped {
            Some(mapped) => Elements::Mapped(mapped),
            None => Elements::Owned(vb.get((c_out, c_in), weight)?),
        };
        let weight = Weight::new(elements);
        // Now rather than in the first pass, so that what is free after loading is free for passes.
        if let (Precision::Fast, Some(isa)) = (vb.precision(), Isa::best())
            && vb.device().is_cpu()
            && integers_take(c_in)
        {
            weight.quantized(isa)?;
        }
        Ok(Self {
            weight,
            bias: vb.get(c_out, bias)?,
            precision: vb.precision(),
        })
    }

    /// A layer with given parameters. `weight` [out, in], `bias` `[out]`.
    pub fn from_tensors(weight: Tensor, bias: Tensor) -> Self {
        Self {
            weight: Weight::new(Elements::Owned(weight)),
            bias,
            precision: Precision::Exact,
        }
    }

    /// The rows `start .. start + len` of the output alone, sharing the parameters.
    ///
    /// # Errors
    /// When the range is not inside the output.
    pub fn narrow(&self, start: usize, len: usize) -> Result<Self> {
        Ok(Self {
            weight: self.weight.narrow(start, len)?,
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

    /// epilogue(layer(norm(x))). [..., in] -> [..., out].
    ///
    /// # Errors
    /// When a shape does not fit or the device fails.
    pub fn forward_fused(&self, x: &Tensor, fusion: Fusion<'_>) -> Result<Tensor> {
        self.check(x, fusion)?;
        match (self.weight.elements(), Backend::of(x)) {
            (_, Some(backend)) => x.contiguous()?.apply_op1_no_bwd(&Fused {
                linear: self,
                fusion,
                backend,
            }),
            (Elements::Owned(weight), None) => self.reference(x, weight, fusion),
            (Elements::Mapped(_), None) => bail!("mapped weights are for F32 on the CPU"),
        }
    }

    /// Returns the number of output and input channels.
    fn channels(&self) -> Result<(usize, usize)> {
        self.weight.size()
    }

    /// Refuses shapes that do not fit, for every backend.
    fn check(&self, x: &Tensor, fusion: Fusion<'_>) -> Result<()> {
        let (n, depth) = self.channels()?;
        if depth == 0 || x.dims().last() != Some(&depth) {
            bail!("linear expects {depth} channels, got {:?}", x.dims())
        }
        let bias = self.bias.elem_count();
        if bias != n {
            bail!("linear of {n} channels expects as many biases, got {bias}")
        }
        if let Some(norm) = fusion.norm {
            norm.check(depth)?;
        }
        if let Epilogue::Residual { gamma, residual } = fusion.epilogue {
            let len = x.elem_count() / depth * n;
            if gamma.elem_count() != n || residual.elem_count() != len {
                let (gamma, residual) = (gamma.dims(), residual.dims());
                bail!("gamma {gamma:?} and residual {residual:?} do not fit {n} channels")
            }
        }
        Ok(())
    }

    /// The reference implementation.
    // PyTorch: F.linear(F.layer_norm(x), weight, bias), then F.gelu(y) or residual + gamma * y
    fn reference(&self, x: &Tensor, weight: &Tensor, fusion: Fusion<'_>) -> Result<Tensor> {
        let x = match fusion.norm {
            Some(norm) => norm.reference(x)?,
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
        match fusion.epilogue {
            Epilogue::None => Ok(y),
            Epilogue::Gelu => gelu(&y),
            Epilogue::Residual { gamma, residual } => residual + y.broadcast_mul(gamma)?,
        }
    }
}

/// A layer on a backend. Its operands were checked.
struct Fused<'a> {
    linear: &'a Linear,
    fusion: Fusion<'a>,
    backend: Backend,
}

impl Fused<'_> {
    /// Returns the shape of the output.
    fn shape(&self, layout: &Layout) -> Result<Shape> {
        let mut dims = layout.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = self.linear.channels()?.0;
        }
        Ok(Shape::from(dims))
    }

    fn on_cpu(&self, isa: Isa, x: gemm::Matrix<'_>, weights: Weights<'_>) -> Result<Vec<f32>> {
        let bias = cpu::slice_of(&self.linear.bias)?;
        let norm = self.fusion.norm.map(LayerNorm::slices).transpose()?;
        let residual = match self.fusion.epilogue {
            Epilogue::Residual { gamma, residual } => Some((gamma, residual.contiguous()?)),
            _ => None,
        };
        let residual = match &residual {
            Some((gamma, residual)) => Some((cpu::slice_of(gamma)?, cpu::slice_of(residual)?)),
            None => None,
        };
        let epilogue = match (self.fusion.epilogue, &residual) {
            (Epilogue::Gelu, _) => cpu::linear::Epilogue::Gelu,
            (_, Some((gamma, residual))) => cpu::linear::Epilogue::Residual { gamma, residual },
            _ => cpu::linear::Epilogue::None,
        };
        let rows = x.data.len() / x.depth;
        let weight = &self.linear.weight;
        let quantized = match self.linear.precision {
            Precision::Fast if is_for_integers(rows, x.depth) => Some(weight.quantized(isa)?),
            _ => None,
        };
        let linear = cpu::linear::Linear {
            x,
            norm: norm.as_ref().map(|norm| norm.parameters()),
            weights,
            quantized: quantized.as_deref().map(|whole| weight.columns(whole)),
            bias: &bias,
            epilogue,
        };
        linear.run(isa)
    }
}

impl CustomOp1 for Fused<'_> {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let isa = self.backend.isa()?;
        let x = gemm::Matrix {
            data: cpu::contiguous(storage, layout)?,
            depth: self.linear.channels()?.1,
        };
        let out = match self.linear.weight.elements() {
            Elements::Mapped(m) => self.on_cpu(isa, x, of_mapped(m)),
            Elements::Owned(w) => self.on_cpu(isa, x, Weights::F32(&cpu::slice_of(w)?)),
        }?;
        Ok((CpuStorage::F32(out), self.shape(layout)?))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let Elements::Owned(weight) = self.linear.weight.elements() else {
            bail!("mapped weights are for F32 on the CPU")
        };
        let linear = cuda::run::Linear {
            weight,
            bias: &self.linear.bias,
            norm: self.fusion.norm.map(LayerNorm::tensors),
            epilogue: self.fusion.epilogue,
        };
        let shape = self.shape(layout)?;
        Ok((linear.run(x, layout, &shape)?, shape))
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
    fn every_fusion_is_the_reference() {
        let edges = [[1, 1, 1], [3, 5, 7], [64, 130, 33], [0, 4, 4], [31, 9, 515]];
        let sizes = edges.into_iter().chain(random_sizes(8, [40, 70, 300]));
        for [m, n, k] in sizes {
            let x = random(&[2, m, k]);
            let linear = Linear::from_tensors(random(&[n, k]), random(&[n]));
            let norm = LayerNorm::from_tensors(random(&[k]), random(&[k]), 1e-5);
            let (gamma, residual) = (random(&[n]), random(&[2, m, n]));

            let weight = match linear.weight.elements() {
                Elements::Owned(w) => wide(w),
                Elements::Mapped(_) => unreachable!("made of tensors"),
            };
            let in_f64 = Linear::from_tensors(weight.clone(), wide(&linear.bias));
            let norm_in_f64 = norm.with_dtype(DType::F64).unwrap();
            let (wide_gamma, wide_residual) = (wide(&gamma), wide(&residual));
            for normed in [false, true] {
                let epilogues = [
                    (Epilogue::None, Epilogue::None),
                    (Epilogue::Gelu, Epilogue::Gelu),
                    (
                        Epilogue::Residual {
                            gamma: &gamma,
                            residual: &residual,
                        },
                        Epilogue::Residual {
                            gamma: &wide_gamma,
                            residual: &wide_residual,
                        },
                    ),
                ];
                for (epilogue, in_wide) in epilogues {
                    let fusion = Fusion {
                        norm: normed.then_some(&norm_in_f64),
                        epilogue: in_wide,
                    };
                    let exact = in_f64.reference(&wide(&x), &weight, fusion).unwrap();
                    let fusion = Fusion {
                        norm: normed.then_some(&norm),
                        epilogue,
                    };
                    for isa in Isa::all() {
                        let op = Fused {
                            linear: &linear,
                            fusion,
                            backend: Backend::Cpu(isa),
                        };
                        let ours = x.apply_op1_no_bwd(&op).unwrap();
                        let error = relative_error(&ours, &exact);
                        assert!(
                            error < 2e-6,
                            "{} {m} {n} {k} {epilogue:?}: {error:e}",
                            isa.name()
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn parts_of_a_layer_are_multiplied_in_integers_as_the_whole_is() {
        let (m, n, k) = (9, 96, 64);
        let x = random(&[m, k]);
        let layer = || Linear {
            precision: Precision::Fast,
            ..Linear::from_tensors(random(&[n, k]), random(&[n]))
        };
        let in_integers = |linear: &Linear, isa: Isa| {
            let op = Fused {
                linear,
                fusion: Fusion::default(),
                backend: Backend::Cpu(isa),
            };
            x.apply_op1_no_bwd(&op).unwrap()
        };
        for isa in Isa::all() {
            // A part that begins with a tile shares the whole's integers, whichever is asked for first; others have their own.
            for (first, len) in [(32, 32), (64, 32), (8, 40), (33, 1)] {
                for whole_first in [true, false] {
                    let whole = layer();
                    let part = whole.narrow(first, len).unwrap();
                    if whole_first {
                        in_integers(&whole, isa);
                    }
                    let ours = in_integers(&part, isa).to_vec2::<f32>().unwrap();
                    let all = in_integers(&whole, isa).narrow(1, first, len).unwrap();
                    assert_eq!(
                        ours,
                        all.to_vec2::<f32>().unwrap(),
                        "{} {first}",
                        isa.name()
                    );
                    // Halves of parts are parts.
                    if first == 32 {
                        let half = part.narrow(0, 16).unwrap();
                        let all = all.narrow(1, 0, 16).unwrap().to_vec2::<f32>().unwrap();
                        assert_eq!(in_integers(&half, isa).to_vec2::<f32>().unwrap(), all);
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
        let epilogue = Epilogue::Residual {
            gamma: &gamma,
            residual: &residual,
        };
        let fusion = Fusion {
            norm: None,
            epilogue,
        };
        assert!(linear.forward_fused(&random(&[2, 4]), fusion).is_err());
    }
}
