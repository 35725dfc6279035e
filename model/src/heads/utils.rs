//! The position embedding of the dense heads. Port of vggt/heads/utils.py.

use candle_core::{Device, Result, Tensor};

use crate::ops::Positions;

/// Base of the embedding's frequencies. Origin: upstream's default.
const OMEGA_0: f64 = 100.0;

/// What the embedding is multiplied with before it is added. Origin: DPTHead._apply_pos_embed.
const RATIO: f32 = 0.1;

/// The embedding of `c` channels that a DPT head adds to feature maps of height x width positions, made of a image whose
/// sides are as `aspect_ratio` = W / H.
///
/// # Errors
/// When the device fails.
// create_uv_grid and position_grid_to_embed in one: the grid is separable, so sines are taken for each row and column
// only.
pub(super) fn uv_embed(
    (height, width): (usize, usize),
    c: usize,
    aspect_ratio: f64,
    device: &Device,
) -> Result<Positions> {
    let diagonal = (aspect_ratio * aspect_ratio + 1.0).sqrt();
    let x = axis(width, aspect_ratio / diagonal, c / 2);
    let y = axis(height, 1.0 / diagonal, c / 2);
    Ok(Positions::new(
        Tensor::from_vec(x, (width, c / 2), device)?,
        Tensor::from_vec(y, (height, c / 2), device)?,
    ))
}

/// Sines, then cosines, of `n` positions spread evenly over [-span, span] less half a pixel on each side. [n, c]
fn axis(n: usize, span: f64, c: usize) -> Vec<f32> {
    let end = (span * (n as f64 - 1.0) / n as f64) as f32;
    let positions = linspace(-end, end, n);
    let half = c / 2;
    let omega = |i: usize| 1.0 / OMEGA_0.powf(i as f64 / half as f64);
    let mut out = Vec::with_capacity(n * c);
    for position in positions {
        for function in [f64::sin as fn(f64) -> f64, f64::cos] {
            out.extend((0..half).map(|i| function(f64::from(position) * omega(i)) as f32 * RATIO));
        }
    }
    out
}

/// `n` numbers from `start` to `end`, in the arithmetic of torch.linspace: from both ends towards the middle.
fn linspace(start: f32, end: f32, n: usize) -> Vec<f32> {
    if n == 1 {
        return vec![start];
    }
    let step = (end - start) / (n - 1) as f32;
    (0..n)
        .map(|i| {
            if i < n / 2 {
                start + step * i as f32
            } else {
                end - step * (n - 1 - i) as f32
            }
        })
        .collect()
}
