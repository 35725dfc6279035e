//! Resampling of the learned position embedding.

use candle_core::{Device, Result, Tensor};

/// Resamples [H, W, C] to [height, width, C] with antialiased bicubic filtering (a = -0.5).
///
/// # Errors
/// When the shape does not fit or the device fails.
// PyTorch: F.interpolate(x, size, mode="bicubic", antialias=True, align_corners=False)
pub fn bicubic_antialias(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (h, w, c) = x.dims3()?;
    let device = x.device();
    // The filter is separable: columns first, then rows, each a product with a small matrix.
    let columns = matrix(w, width, device)?.to_dtype(x.dtype())?;
    let x = columns
        .broadcast_left(h)?
        .contiguous()?
        .matmul(&x.contiguous()?)?;
    let rows = matrix(h, height, device)?.to_dtype(x.dtype())?;
    rows.matmul(&x.reshape((h, width * c))?)?
        .reshape((height, width, c))
}

/// The weights of every input place for every output place. [to, from]
fn matrix(from: usize, to: usize, device: &Device) -> Result<Tensor> {
    let scale = from as f64 / to as f64;
    // The filter widens when shrinking, which is the antialiasing.
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    let mut m = vec![0f32; to * from];
    for (i, row) in m.chunks_exact_mut(from).enumerate() {
        let center = scale * (i as f64 + 0.5);
        let start = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let weights: Vec<f64> = (start..end)
            .map(|j| cubic((j as f64 - center + 0.5) / stretch))
            .collect();
        let sum: f64 = weights.iter().sum();
        for (place, weight) in row[start..end].iter_mut().zip(weights) {
            *place = (weight / sum) as f32;
        }
    }
    Tensor::from_vec(m, (to, from), device)
}

/// Keys' cubic convolution kernel with a = -0.5.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}
