//! Where a bilinear resampling reads.

/// The two neighbors of a position along one axis, and the weight of the second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tap {
    pub(super) low: usize,
    pub(super) high: usize,
    pub(super) t: f32,
}

/// Returns the taps of each of `to` positions along an axis of `from`.
pub(super) fn taps(from: usize, to: usize) -> Vec<Tap> {
    // PyTorch computes the scale and the position in the type of the data, F32.
    let scale = if to > 1 {
        (from - 1) as f32 / (to - 1) as f32
    } else {
        0.0
    };
    (0..to)
        .map(|i| {
            let position = scale * i as f32;
            let low = (position as usize).min(from - 1);
            let high = (low + 1).min(from - 1);
            let t = position - low as f32;
            Tap { low, high, t }
        })
        .collect()
}
