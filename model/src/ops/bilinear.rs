//! Bilinear resampling whose corners stay in place.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};

#[cfg(feature = "cuda")]
use super::cuda;
use super::{Positions, backend::Backend, cpu, taps::taps};

/// Resamples [B, H, W, C] to [B, height, width, C], and adds an embedding of the new positions if there is one.
///
/// # Errors
/// When the shape does not fit or the device fails.
// PyTorch: F.interpolate(x, size, mode="bilinear", align_corners=True), channels last
// candle's own upsample_bilinear2d is serial, and wrong for strided input when the size stays the same.
pub fn bilinear_align_corners(
    x: &Tensor,
    (height, width): (usize, usize),
    positions: Option<&Positions>,
) -> Result<Tensor> {
    let (_, h, w, c) = x.dims4()?;
    if let Some(positions) = positions {
        positions.check((height, width), c)?;
    }
    if (h, w) == (height, width) {
        return match positions {
            Some(positions) => positions.add(x),
            None => Ok(x.clone()),
        };
    }
    match Backend::of(x) {
        // On both devices it is for the heads, which are F32.
        Some(backend) if x.dtype() == DType::F32 && h > 0 && w > 0 => {
            x.contiguous()?.apply_op1_no_bwd(&Fused {
                height,
                width,
                positions,
                backend,
            })
        }
        _ => {
            let y = reference(x, height, width)?;
            match positions {
                Some(positions) => positions.add(&y),
                None => Ok(y),
            }
        }
    }
}

/// The reference implementation: one interpolation matrix for each axis.
fn reference(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    let matrix = |from: usize, to: usize| {
        let mut m = vec![0f32; to * from];
        for (i, tap) in taps(from, to).into_iter().enumerate() {
            m[i * from + tap.low] += 1.0 - tap.t;
            m[i * from + tap.high] += tap.t;
        }
        Tensor::from_vec(m, (to, from), x.device())?.to_dtype(x.dtype())
    };
    let along = |matrix: Tensor, x: Tensor| {
        let batch = x.dim(0)?;
        matrix.broadcast_left(batch)?.contiguous()?.matmul(&x)
    };
    let x = along(matrix(w, width)?, x.contiguous()?.reshape((b * h, w, c))?)?;
    let x = along(matrix(h, height)?, x.reshape((b, h, width * c))?)?;
    x.reshape((b, height, width, c))
}

/// A resampling on a backend. Its operands were checked.
struct Fused<'a> {
    height: usize,
    width: usize,
    positions: Option<&'a Positions>,
    backend: Backend,
}

impl CustomOp1 for Fused<'_> {
    fn name(&self) -> &'static str {
        "bilinear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, h, w, c) = layout.shape().dims4()?;
        let positions = match self.positions {
            Some(p) => Some((cpu::slice_of(&p.columns)?, cpu::slice_of(&p.rows)?)),
            None => None,
        };
        let map = cpu::bilinear::Resampling {
            x: cpu::contiguous(storage, layout)?,
            batch,
            from: (h, w),
            to: (self.height, self.width),
            channels: c,
            positions: positions
                .as_ref()
                .map(|(columns, rows)| (&**columns, &**rows)),
        };
        let out = cpu::bilinear::resample(self.backend.isa()?, map)?;
        let shape = Shape::from((batch, self.height, self.width, c));
        Ok((CpuStorage::F32(out), shape))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::run::resample(x, layout, (self.height, self.width), self.positions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cpu::Isa;
    use crate::ops::testing::{random, relative_error};

    #[test]
    fn every_instruction_set_is_the_reference() {
        for (h, w, height, width, c) in [
            (3, 5, 6, 10, 3),
            (7, 1, 3, 4, 20),
            (1, 1, 2, 2, 16),
            (5, 4, 1, 9, 34),
            (6, 9, 4, 5, 8),
        ] {
            let x = random(&[2, w, h, c]).transpose(1, 2).unwrap();
            let exact = reference(&x.to_dtype(DType::F64).unwrap(), height, width).unwrap();
            for isa in Isa::all() {
                let op = Fused {
                    height,
                    width,
                    positions: None,
                    backend: Backend::Cpu(isa),
                };
                let ours = x.contiguous().unwrap().apply_op1_no_bwd(&op).unwrap();
                // The weights of the matrices are F32, as PyTorch's are.
                let error = relative_error(&ours, &exact);
                assert!(error < 1e-6, "{} {h}x{w}x{c}: {error:e}", isa.name());
            }
        }
    }

    #[test]
    fn positions_are_added_on_the_way() {
        for (c, size) in [(2, (3, 4)), (20, (7, 9)), (64, (5, 5))] {
            let x = random(&[1, 3, 4, c]);
            let positions = Positions::new(random(&[size.1, c / 2]), random(&[size.0, c / 2]));
            let apart = bilinear_align_corners(&x, size, None).unwrap();
            let apart = positions.add(&apart).unwrap();
            let ours = bilinear_align_corners(&x, size, Some(&positions)).unwrap();
            assert!(relative_error(&ours, &apart) < 1e-6, "{c}");
        }
    }

    #[test]
    fn positions_of_another_map_are_refused() {
        let positions = Positions::new(random(&[4, 2]), random(&[5, 2]));
        assert!(bilinear_align_corners(&random(&[1, 2, 2, 4]), (5, 5), Some(&positions)).is_err());
    }
}
