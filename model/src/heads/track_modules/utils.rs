//! Sampling and embeddings of the tracker. Port of vggt/heads/track_modules/utils.py.

use candle_core::{DType, Result, Tensor};

/// Reads `map` [C, H, W] bilinearly at `coords`, (x, y) in pixels, the border held beyond the edge. [N, 2] -> [N, C]
///
/// # Errors
/// When the device fails.
// PyTorch: F.grid_sample(map, align_corners=True, padding_mode="border")
pub(super) fn sample_features4d(map: &Tensor, coords: &[f32]) -> Result<Tensor> {
    let (c, h, w) = map.dims3()?;
    let last = map.permute((1, 2, 0))?.contiguous()?.reshape((h * w, c))?;
    let mut positions = [const { Vec::new() }; 4];
    let mut weights = [const { Vec::new() }; 4];
    for point in coords.chunks_exact(2) {
        let (x, y) = (axis(point[0], w), axis(point[1], h));
        for (k, (px, py)) in [(0, 0), (1, 0), (0, 1), (1, 1)].into_iter().enumerate() {
            positions[k].push((y.taps[py] * w + x.taps[px]) as u32);
            weights[k].push(x.weights[px] * y.weights[py]);
        }
    }
    let n = coords.len() / 2;
    let mut sum: Option<Tensor> = None;
    for (positions, weights) in positions.into_iter().zip(weights) {
        let positions = Tensor::from_vec(positions, n, map.device())?;
        let weights = Tensor::from_vec(weights, (n, 1), map.device())?.to_dtype(map.dtype())?;
        let part = last.index_select(&positions, 0)?.broadcast_mul(&weights)?;
        sum = Some(match sum {
            Some(sum) => (sum + part)?,
            None => part,
        });
    }
    match sum {
        Some(sum) => Ok(sum),
        None => Tensor::zeros((n, c), DType::F32, map.device()),
    }
}

/// Two neighboring positions and their weights.
struct Taps {
    taps: [usize; 2],
    weights: [f32; 2],
}

/// Where `F.grid_sample(align_corners=True)` reads when it is asked for position `x` among `n`: `x`, but for rounding.
// Upstream scales positions to [-1, 1] and PyTorch scales them back. The last digits that this costs are kept, because the
// tracker multiplies flows by up to a thousand before it takes their sine.
pub(super) fn grid_sample_position(x: f32, n: usize) -> f32 {
    let scale = (2.0 / (n.max(2) - 1) as f64) as f32;
    (x * scale - 1.0 + 1.0) * ((n - 1) as f32 / 2.0)
}

fn axis(x: f32, n: usize) -> Taps {
    let x = grid_sample_position(x, n).clamp(0.0, (n - 1) as f32);
    let low = (x as usize).min(n - 1);
    let t = x - low as f32;
    Taps {
        taps: [low, (low + 1).min(n - 1)],
        weights: [1.0 - t, t],
    }
}

/// Sines and cosines, alternating, of each coordinate: first of x, then of y. `c` channels each. [n, 2] -> [n, 2 c]
pub(super) fn get_2d_embedding(xy: &[f32], c: usize) -> Vec<f32> {
    let frequencies: Vec<f32> = (0..c / 2)
        .map(|i| (2 * i) as f32 * (1000.0 / c as f64) as f32)
        .collect();
    xy.iter()
        .flat_map(|v| {
            frequencies
                .iter()
                .flat_map(move |f| [(v * f).sin(), (v * f).cos()])
        })
        .collect()
}

/// The sine-cosine embedding of a grid of `h` x `w` positions, read bilinearly at `coords`. [n, 2] -> [n, c]
// get_2d_sincos_pos_embed and sample_features4d in one. Upstream fills the whole grid and reads it at a few points; its
// first half depends on x only and the second on y only, so that two taps on each axis give the same.
pub(super) fn sample_sincos_pos_embed(
    coords: &[f32],
    c: usize,
    (h, w): (usize, usize),
) -> Vec<f32> {
    let quarter = c / 4;
    let omega: Vec<f64> = (0..quarter)
        .map(|i| 1.0 / 10_000f64.powf(i as f64 / quarter as f64))
        .collect();
    let mut out = Vec::with_capacity(coords.len() / 2 * c);
    for point in coords.chunks_exact(2) {
        for (position, n) in [(point[0], w), (point[1], h)] {
            let Taps { taps, weights } = axis(position, n);
            for function in [f64::sin as fn(f64) -> f64, f64::cos] {
                out.extend(omega.iter().map(|o| {
                    let at = |i: usize| function(taps[i] as f64 * o) as f32 * weights[i];
                    at(0) + at(1)
                }));
            }
        }
    }
    out
}
