//! y = x Wᵀ + b, with W read where it lies.

use candle_core::{CpuStorage, CustomOp1, D, Device, Layout, Result, Shape, Tensor, bail};

use crate::weights::{MappedMatrix, VarBuilder};

/// A linear layer. On the CPU an F32 matrix is multiplied in place, from the mapped file: no copy of it is ever made.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
}

#[derive(Debug, Clone)]
enum Weight {
    /// [out, in], in the mapped file.
    Mapped(MappedMatrix),
    /// [out, in], owned by the device.
    Owned(Tensor),
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
        let weight = match vb.mapped_matrix((c_out, c_in), weight)? {
            Some(mapped) => Weight::Mapped(mapped),
            None => Weight::Owned(vb.get((c_out, c_in), weight)?),
        };
        Ok(Self {
            weight,
            bias: Some(vb.get(c_out, bias)?),
        })
    }

    /// A layer with given parameters. `weight` [out, in], `bias` `[out]`.
    pub fn from_tensors(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self {
            weight: Weight::Owned(weight),
            bias,
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
        let bias = self.bias.as_ref().map(|b| b.narrow(0, start, len));
        Ok(Self {
            weight,
            bias: bias.transpose()?,
        })
    }

    /// [..., in] -> [..., out].
    ///
    /// # Errors
    /// When the shape does not fit or the device fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = match (&self.weight, x.device()) {
            (Weight::Mapped(m), Device::Cpu) => x
                .contiguous()?
                .apply_op1_no_bwd(&MatmulMapped { weight: m })?,
            (Weight::Mapped(_), _) => bail!("mapped weights are for the CPU"),
            (Weight::Owned(w), _) => plain(x, w)?,
        };
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// The definition.
// PyTorch: F.linear(x, w)
fn plain(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    let c_in = x.dim(D::Minus1)?;
    let rows = x.elem_count() / c_in.max(1);
    if let Some(last) = shape.last_mut() {
        *last = w.dim(0)?;
    }
    // One large product instead of a product for each batch entry.
    x.contiguous()?
        .reshape((rows, c_in))?
        .matmul(&w.t()?)?
        .reshape(shape)
}

struct MatmulMapped<'a> {
    weight: &'a MappedMatrix,
}

impl CustomOp1 for MatmulMapped<'_> {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (CpuStorage::F32(data), Some((start, end))) = (storage, layout.contiguous_offsets())
        else {
            bail!("linear takes contiguous F32")
        };
        let (n, k) = (self.weight.rows(), self.weight.columns());
        let mut shape = layout.dims().to_vec();
        match shape.last_mut() {
            Some(last) if *last == k => *last = n,
            _ => bail!("linear takes {k} channels, got {:?}", layout.dims()),
        }
        let x = &data[start..end];
        let out = matmul_transposed(x, self.weight.as_f32(), k);
        Ok((CpuStorage::F32(out), Shape::from(shape)))
    }
}

/// x wᵀ for row-major x [m, k] and w [n, k] -> [m, n].
#[allow(unsafe_code)]
fn matmul_transposed(x: &[f32], w: &[f32], k: usize) -> Vec<f32> {
    if k == 0 {
        return Vec::new();
    }
    let (m, n) = (x.len() / k, w.len() / k);
    let mut out = vec![0f32; m * n];
    // candle's own matmul calls the same routine with the same split, so that both give the same numbers.
    let threads = match rayon::current_num_threads() {
        1 => gemm::Parallelism::None,
        n => gemm::Parallelism::Rayon(n),
    };
    // SAFETY: the three slices hold exactly m k, k n and m n numbers for these sizes and strides (row stride 1, column
    // stride k reads w transposed), `out` is exclusive, and the routine writes every one of its places
    // (`read_dst` is false).
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            x.as_ptr(),
            1,
            k as isize,
            w.as_ptr(),
            k as isize,
            1,
            0f32,
            1f32,
            false,
            false,
            false,
            threads,
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mapped_product_is_the_plain_one() {
        for (m, n, k) in [(1, 1, 1), (3, 5, 7), (64, 130, 33), (0, 4, 4)] {
            let x = Tensor::randn(0f32, 1.0, (m, k), &Device::Cpu).unwrap();
            let w = Tensor::randn(0f32, 1.0, (n, k), &Device::Cpu).unwrap();
            let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let ours = matmul_transposed(&flat(&x), &flat(&w), k);
            for (a, b) in ours.iter().zip(flat(&plain(&x, &w).unwrap())) {
                assert!((a - b).abs() < 1e-4, "{m} {n} {k}: {a} {b}");
            }
            assert_eq!(ours.len(), m * n);
        }
    }
}
