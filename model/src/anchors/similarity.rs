//! Which photos show something else than the first one.
//!
//! Half of a frame's score is how much the first frame's patches attend to it in the last global block, half how alike the
//! features after that block are. Source: RobustVGGT (CVPR 2026), which reads both from a dense pass.
//!
//! As there, the attention is scaled by the least and the largest of all frames, the first among them. The program of its
//! authors scales the cosine likewise, so that some frame always has 0; here it is mapped from [-1, 1], so that a capture of one
//! scene has no low score.

use candle_core::{D, DType, Device, Tensor};

use crate::error::Result;

/// Rows and columns of patches from one query of the first frame to the next: a quarter of all queries gives the same mean, and
/// what is kept of each frame is 13 KB for VGGT-1B at 518 x 294.
pub(crate) const QUERY_STRIDE: usize = 2;

/// What is kept of a frame for its score.
#[derive(Debug, Clone)]
pub struct FrameSimilarity {
    /// For each head and each query of the first frame the logarithm of the sum of exponentials of its scores with all patches
    /// of this frame.
    pub attention: Vec<f32>,
    /// Mean cosine between the features of this frame's patches and of the first frame's, in [-1, 1].
    pub cosine: f32,
}

impl FrameSimilarity {
    /// Returns how many numbers [`FrameSimilarity::to_values`] gives for a network of this patch size and so many heads, and
    /// frames of `h` x `w` pixels.
    #[must_use]
    pub fn values((patch_size, heads): (usize, usize), (h, w): (usize, usize)) -> usize {
        let patches = |pixels: usize| (pixels / patch_size.max(1)).div_ceil(QUERY_STRIDE);
        heads * patches(h) * patches(w) + 1
    }

    /// Returns it as numbers, to be kept.
    #[must_use]
    pub fn to_values(&self) -> Vec<f32> {
        let mut values = self.attention.clone();
        values.push(self.cosine);
        values
    }

    /// Reads what [`FrameSimilarity::to_values`] gave; `None` for no values at all.
    #[must_use]
    pub fn of_values(mut values: Vec<f32>) -> Option<Self> {
        let cosine = values.pop()?;
        Some(Self {
            attention: values,
            cosine,
        })
    }
}

/// The first frame, as far as others are compared with it.
#[derive(Debug, Clone)]
pub(crate) struct FirstFrame {
    /// Queries of the last global block, normalized, rotated and scaled. [heads, Q, D]
    pub(crate) queries: Tensor,
    /// Mean of the features, each divided by its length. `[C]`
    pub(crate) feature: Tensor,
}

impl FirstFrame {
    /// Compares a frame: keys of its patches in the last global block [heads, N, D], and its features behind that [N, C].
    pub(crate) fn compare(&self, keys: &Tensor, features: &Tensor) -> Result<FrameSimilarity> {
        let scores = self.queries.matmul(&keys.transpose(1, 2)?.contiguous()?)?;
        let attention = scores.log_sum_exp(D::Minus1)?.flatten_all()?;
        let cosine = (mean_direction(features)? * &self.feature)?.sum_all()?;
        let f32_on_cpu = |t: &Tensor| t.to_dtype(DType::F32)?.to_device(&Device::Cpu);
        Ok(FrameSimilarity {
            attention: f32_on_cpu(&attention)?.to_vec1()?,
            cosine: f32_on_cpu(&cosine)?.to_scalar()?,
        })
    }
}

/// The mean of rows [N, C], each divided by its length. `[C]`
// The mean of the cosines of all pairs of two sets is the product of their mean directions.
pub(crate) fn mean_direction(rows: &Tensor) -> Result<Tensor> {
    let rows = rows.to_dtype(DType::F32)?;
    let length = rows.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
    Ok(rows.broadcast_div(&length)?.mean(0)?)
}

/// Returns the score of every frame, in [0, 1]: 1 is most like the first. Frames below 0.4 probably show something else.
#[must_use]
pub fn unrelated_scores(frames: &[FrameSimilarity]) -> Vec<f32> {
    let shares = attention_shares(frames);
    let [low, high] = [f64::min, f64::max].map(|pick| {
        let first = shares.first().copied().unwrap_or(0.0);
        shares.iter().copied().fold(first, pick)
    });
    let scaled = |share: f64| {
        if high > low {
            (share - low) / (high - low)
        } else {
            1.0
        }
    };
    let cosine = |frame: &FrameSimilarity| (f64::from(frame.cosine) + 1.0) / 2.0;
    let scores = frames.iter().zip(&shares);
    scores
        .map(|(frame, share)| (0.5 * scaled(*share) + 0.5 * cosine(frame)) as f32)
        .collect()
}

/// The mean share of its attention that the first frame gives to each frame.
fn attention_shares(frames: &[FrameSimilarity]) -> Vec<f64> {
    let queries = frames.iter().map(|f| f.attention.len()).min().unwrap_or(0);
    let mut shares = vec![0.0; frames.len()];
    for query in 0..queries {
        let of = |frame: &FrameSimilarity| f64::from(frame.attention[query]);
        let largest = frames.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = frames.iter().map(|f| (of(f) - largest).exp()).sum();
        for (share, frame) in shares.iter_mut().zip(frames) {
            *share += (of(frame) - largest).exp() / sum / queries as f64;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(attention: &[f32], cosine: f32) -> FrameSimilarity {
        FrameSimilarity {
            attention: attention.to_vec(),
            cosine,
        }
    }

    #[test]
    fn a_frame_that_is_not_attended_to_and_not_alike_has_a_low_score() {
        let frames = [
            frame(&[9.0, 9.0], 1.0),
            frame(&[8.9, 9.0], 0.8),
            frame(&[1.0, 0.0], -0.8),
        ];
        let scores = unrelated_scores(&frames);
        assert!((scores[0] - 1.0).abs() < 1e-6, "{scores:?}");
        assert!(scores[1] > 0.8 && scores[2] < 0.2, "{scores:?}");
    }

    #[test]
    fn scores_of_one_frame_and_of_none_are_defined() {
        assert_eq!(unrelated_scores(&[frame(&[1.0], 1.0)]), [1.0]);
        assert!(unrelated_scores(&[]).is_empty());
    }

    #[test]
    fn the_sum_of_shares_is_one() {
        let frames = [frame(&[3.0, -700.0], 0.0), frame(&[2.0, -701.0], 0.0)];
        let shares = attention_shares(&frames);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        // e : 1 for both queries.
        assert!((shares[0] - 1.0 / (1.0 + (-1f64).exp())).abs() < 1e-12);
    }
}
