//! Percentiles: the confidence threshold and the size of a scene.

/// Points with a confidence at or below this are always dropped, whatever the percentile says; upstream's 1e-5.
pub const MIN_CONFIDENCE: f32 = 1e-5;

/// The percentiles between which a scene's box lies, so that outliers do not stretch it; upstream's.
pub(crate) const BOX_PERCENTILES: [f64; 2] = [5.0, 95.0];

/// Returns the length of the diagonal of a box, from the percentiles of each axis.
pub(crate) fn diagonal(axes: [[f32; 2]; 3]) -> f64 {
    let mut squared = 0.0;
    for [low, high] in axes {
        squared += (f64::from(high) - f64::from(low)).powi(2);
    }
    squared.sqrt()
}

/// Returns the rank of a percentile among values of which `last` is the highest rank; its fraction lies between neighbors.
pub(crate) fn rank(last: usize, percent: f64) -> f64 {
    // numpy: np.percentile(values, percent, method="linear")
    // Differs from upstream: numpy finds the rank of float32 values in float32, which past 2^24 values is off by
    // one or more ranks; this rank is exact.
    (last as f64 * percent / 100.0).min(last as f64)
}

/// Returns the value at `rank` between the values of the ranks below and above it.
pub(crate) fn interpolate(low: f32, high: f32, rank: f64) -> f32 {
    let part = rank.fract() as f32;
    // numpy interpolates from the nearer neighbor, so that both ends are exact.
    if part < 0.5 {
        low + (high - low) * part
    } else {
        high - (high - low) * (1.0 - part)
    }
}

/// Returns the value below which `percent` of `values` lie, interpolated linearly between neighbors; `None` without values.
///
/// The definition of a percentile, which the one over frames ([`super::ranks`]) is tested against. Reorders `values`.
#[cfg(test)]
pub(crate) fn percentile(values: &mut [f32], percent: f64) -> Option<f32> {
    let last = values.len().checked_sub(1)?;
    let rank = rank(last, percent);
    let (_, &mut low, above) = values.select_nth_unstable_by(rank as usize, f32::total_cmp);
    let high = above.iter().copied().min_by(f32::total_cmp).unwrap_or(low);
    Some(interpolate(low, high, rank))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_interpolated_between_its_neighbors() {
        // np.percentile([5, 1, 2, 10], [0, 25, 50, 90, 100])
        for (percent, expected) in [
            (0.0, 1.0),
            (25.0, 1.75),
            (50.0, 3.5),
            (90.0, 8.5),
            (100.0, 10.0),
        ] {
            let found = percentile(&mut [5.0, 1.0, 2.0, 10.0], percent).unwrap();
            assert_eq!(found, expected, "{percent} %");
        }
        assert_eq!(percentile(&mut [7.0], 5.0), Some(7.0));
        assert_eq!(percentile(&mut [], 5.0), None);
    }

    #[test]
    fn outliers_do_not_stretch_the_scale() {
        let mut values: Vec<f32> = (0..=100).map(|i| i as f32).collect();
        values[100] = 1e9;
        let axis = BOX_PERCENTILES.map(|p| percentile(&mut values, p).unwrap());
        assert_eq!(diagonal([axis, [0.0; 2], [0.0; 2]]), 90.0);
    }
}
