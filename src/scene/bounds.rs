//! Boxes around points.

/// The smallest and the largest value along each axis.
pub(crate) type Bounds = [[f32; 3]; 2];

/// Bounds of nothing.
pub(crate) const NO_BOUNDS: Bounds = [[f32::INFINITY; 3], [f32::NEG_INFINITY; 3]];

/// Returns `bounds`, grown to include `positions`.
pub(crate) fn bounds_with(bounds: Bounds, positions: &[[f32; 3]]) -> Bounds {
    positions.iter().fold(bounds, |[mut low, mut high], p| {
        for axis in 0..3 {
            low[axis] = low[axis].min(p[axis]);
            high[axis] = high[axis].max(p[axis]);
        }
        [low, high]
    })
}
