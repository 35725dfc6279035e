//! Bilinear resampling whose corners stay in place.

use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Resamples [B, C, H, W] to [B, C, height, width].
///
/// # Errors
/// When the shape does not fit or the device fails.
// PyTorch: F.interpolate(x, size, mode="bilinear", align_corners=True)
// candle's own upsample_bilinear2d is serial, and wrong for strided input when the size stays the same.
pub fn bilinear_align_corners(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    if (h, w) == (height, width) {
        return Ok(x.clone());
    }
    match x.device() {
        Device::Cpu if x.dtype() == DType::F32 => x
            .contiguous()?
            .apply_op1_no_bwd(&ParallelBilinear { height, width }),
        _ => plain(x, height, width),
    }
}

/// The two neighbours of every output place along one axis, and the weight of the second.
fn taps(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    // PyTorch computes the scale and the place in the type of the data, F32.
    let scale = if to > 1 {
        (from - 1) as f32 / (to - 1) as f32
    } else {
        0.0
    };
    (0..to)
        .map(|i| {
            let place = scale * i as f32;
            let low = (place as usize).min(from - 1);
            (low, (low + 1).min(from - 1), place - low as f32)
        })
        .collect()
}

/// The definition: one interpolation matrix for each axis.
fn plain(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    let matrix = |from: usize, to: usize| {
        let mut m = vec![0f32; to * from];
        for (i, (low, high, t)) in taps(from, to).into_iter().enumerate() {
            m[i * from + low] += 1.0 - t;
            m[i * from + high] += t;
        }
        Tensor::from_vec(m, (to, from), x.device())?.to_dtype(x.dtype())
    };
    let x = x.contiguous()?.reshape((b * c * h, w))?;
    let x = x.matmul(&matrix(w, width)?.t()?)?;
    let rows = matrix(h, height)?
        .broadcast_left(b * c)?
        .contiguous()?
        .matmul(&x.reshape((b * c, h, width))?)?;
    rows.reshape((b, c, height, width))
}

struct ParallelBilinear {
    height: usize,
    width: usize,
}

impl CustomOp1 for ParallelBilinear {
    fn name(&self) -> &'static str {
        "bilinear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (CpuStorage::F32(data), Some((start, end))) = (storage, layout.contiguous_offsets())
        else {
            bail!("bilinear takes contiguous F32")
        };
        let (b, c, h, w) = layout.shape().dims4()?;
        let (height, width) = (self.height, self.width);
        let (ys, xs) = (taps(h, height), taps(w, width));
        let mut out = vec![0f32; b * c * height * width];
        if !out.is_empty() {
            out.par_chunks_exact_mut(height * width)
                .zip(data[start..end].par_chunks_exact(h * w))
                .for_each(|(out, plane)| {
                    for (row, &(y0, y1, ty)) in out.chunks_exact_mut(width).zip(&ys) {
                        let (top, bottom) = (&plane[y0 * w..][..w], &plane[y1 * w..][..w]);
                        for (o, &(x0, x1, tx)) in row.iter_mut().zip(&xs) {
                            let a = top[x0] * (1.0 - tx) + top[x1] * tx;
                            let b = bottom[x0] * (1.0 - tx) + bottom[x1] * tx;
                            *o = a * (1.0 - ty) + b * ty;
                        }
                    }
                });
        }
        Ok((CpuStorage::F32(out), Shape::from((b, c, height, width))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parallel_version_is_the_plain_one() {
        for (h, w, height, width) in [(3, 5, 6, 10), (7, 1, 3, 4), (1, 1, 2, 2), (5, 4, 1, 9)] {
            let x = Tensor::randn(0f32, 1.0, (2, 3, w, h), &Device::Cpu).unwrap();
            let x = x.transpose(2, 3).unwrap();
            let a = bilinear_align_corners(&x, height, width).unwrap();
            let b = plain(&x, height, width).unwrap();
            let worst = (a - b).unwrap().abs().unwrap().max_all().unwrap();
            let worst = worst.to_scalar::<f32>().unwrap();
            assert!(worst < 1e-6, "{h}x{w} -> {height}x{width}: {worst}");
        }
    }
}
