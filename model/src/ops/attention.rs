//! Scaled dot-product attention.

use candle_core::{D, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

/// Scores held at once, in numbers: 64 MiB in F32. Bounds the memory of global attention, whose full matrix would be
/// `N x N` for each head; the rows are independent, so cutting them changes no number.
const MAX_SCORES: usize = 1 << 24;

/// softmax(q kᵀ / sqrt(D)) v. q [B, heads, M, D], k and v [B, heads, N, D] -> [B, heads, M, D].
///
/// # Errors
/// When the shapes do not fit or the device fails.
// PyTorch: F.scaled_dot_product_attention(q, k, v)
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    in_rows(q, k, v, MAX_SCORES)
}

/// The definition, some rows of the scores at a time.
fn in_rows(q: &Tensor, k: &Tensor, v: &Tensor, max_scores: usize) -> Result<Tensor> {
    let (b, heads, m, d) = q.dims4()?;
    let n = k.dim(2)?;
    // Scaling q instead of the scores costs D numbers a row instead of N.
    let q = (q * (1.0 / (d as f64).sqrt()))?;
    let v = v.contiguous()?;
    let rows = (max_scores / (heads * n).max(1)).clamp(1, m.max(1));
    let mut out = Vec::with_capacity(b);
    for i in 0..b {
        let (q, k, v) = (q.get(i)?, k.get(i)?, v.get(i)?);
        let k = k.transpose(D::Minus2, D::Minus1)?;
        let mut parts = Vec::with_capacity(m.div_ceil(rows));
        for start in (0..m).step_by(rows) {
            let q = q.narrow(1, start, rows.min(m - start))?;
            let scores = q.contiguous()?.matmul(&k)?;
            parts.push(softmax_last_dim(&scores)?.matmul(&v)?);
        }
        out.push(if parts.len() == 1 {
            parts.swap_remove(0)
        } else {
            Tensor::cat(&parts, 1)?
        });
    }
    Tensor::stack(&out, 0)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn cutting_the_rows_changes_nothing() {
        let random = |n| Tensor::randn(0f32, 1.0, (2, 3, n, 8), &Device::Cpu).unwrap();
        let (q, k, v) = (random(13), random(17), random(17));
        let whole = in_rows(&q, &k, &v, usize::MAX).unwrap();
        for max_scores in [1, 3 * 17 * 5, 3 * 17 * 12] {
            let cut = in_rows(&q, &k, &v, max_scores).unwrap();
            let worst = (&cut - &whole).unwrap().abs().unwrap().max_all().unwrap();
            // Another number of rows may take another kernel, whose sums run in another order.
            assert!(worst.to_scalar::<f32>().unwrap() < 1e-6, "{max_scores}");
        }
    }
}
