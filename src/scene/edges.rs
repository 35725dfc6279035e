//! Pixels at steps of the depth: the filter `drop_edges`.
//!
//! Between a thing and what lies behind it the network blends the two depths, and the points of these pixels float in between.

use super::{
    SceneError,
    flat::Flat,
    frames::{Field, PredictedFrames},
};

/// The share of its depth by which the depths around a pixel may differ; what the demos of VGGT's successors take
/// (`depth_edge(depth, rtol=0.03)` of utils3d, in Pi3 and MoGe).
const TOLERANCE: f64 = 0.03;

/// Returns one flag for each pixel of the frame `index` in raster order: whether it lies at a step of the depth.
///
/// The depth is that of the shown positions along the axis of the frame's camera. A pixel lies at a step if the largest and the smallest
/// depth among its 3 x 3 neighbors differ by more than [`TOLERANCE`] of its own depth. Pixels without a finite position and those
/// outside of the photo have no depth; behind the camera there are no steps.
///
/// # Errors
/// When the frame cannot be read.
pub(crate) fn of_frame(
    frames: &dyn PredictedFrames,
    index: usize,
    positions: Field,
) -> Result<Vec<bool>, SceneError> {
    let (height, width) = frames.size();
    let photo = frames.photo_area(index).within(height, width);
    let pose = Flat::read_from(frames, index, Field::Extrinsic)?;
    let positions = Flat::read_from(frames, index, positions)?;
    let (pose, positions) = (pose.read(), positions.read());
    let (pose, positions) = (pose.values()?, positions.values()?);
    // The third row of camera_from_world [3, 4].
    let row = [8, 9, 10, 11].map(|i| f64::from(pose[i]));
    let mut depth = vec![f64::NAN; height * width];
    for y in photo.rows() {
        for x in photo.columns() {
            let p = &positions[3 * (y * width + x)..][..3];
            let terms = [0, 1, 2].map(|axis| row[axis] * f64::from(p[axis]));
            let z = terms.iter().sum::<f64>() + row[3];
            if z.is_finite() {
                depth[y * width + x] = z;
            }
        }
    }
    let around = |i: usize, length: usize| i.saturating_sub(1)..(i + 2).min(length);
    let mut edges = vec![false; height * width];
    for y in photo.rows() {
        for x in photo.columns() {
            let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
            for row in around(y, height) {
                for d in &depth[row * width..][around(x, width)] {
                    // NaN is neither.
                    low = low.min(*d);
                    high = high.max(*d);
                }
            }
            let own = depth[y * width + x];
            edges[y * width + x] = own > 0.0 && high - low > TOLERANCE * own;
        }
    }
    Ok(edges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::testing;

    const NONE: [usize; 0] = [];

    /// The columns of the second row that lie at a step, in a frame of 8 x 3 pixels with these depths in each row.
    fn at_steps(depths: [f32; 8]) -> Vec<usize> {
        let frames = testing::frames([1, 3, 8], |i| [i as f32, 5.0, depths[i % 8]], |_| 1.0);
        let edges = of_frame(&frames, 0, Field::WorldPointsFromDepth).unwrap();
        (0..8).filter(|x| edges[8 + x]).collect()
    }

    #[test]
    fn both_sides_of_a_step_are_edges_and_a_slope_is_none() {
        assert_eq!(at_steps([1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0]), [2, 3]);
        let slope = [1.0, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06, 1.07];
        assert_eq!(at_steps(slope), NONE);
        // A blend of two depths: the pixel between, and those beside it.
        assert_eq!(
            at_steps([1.0, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0]),
            [1, 2, 3]
        );
    }

    #[test]
    fn the_tolerance_is_a_share_of_the_depth() {
        // 2.9 % and 3.1 % of the smaller depth, which is what the pixel before the step compares with.
        let step = |high: f32| at_steps([1.0, 1.0, 1.0, 1.0, high, high, high, high]);
        assert_eq!(step(1.029), NONE);
        assert_eq!(step(1.0305), [3]);
        assert_eq!(step(1.032), [3, 4]);
        let deeper = |high: f32| at_steps([9.0, 9.0, 9.0, 9.0, high, high, high, high]);
        assert_eq!(deeper(9.26), NONE);
        assert_eq!(deeper(9.3), [3, 4]);
    }

    #[test]
    fn what_has_no_depth_makes_no_step() {
        let nan = f32::NAN;
        assert_eq!(
            at_steps([1.0, 1.0, nan, 1.0, 1.0, f32::INFINITY, 1.0, 1.0]),
            NONE
        );
        assert_eq!(
            at_steps([-1.0, -1.0, -2.0, -2.0, -2.0, -2.0, -2.0, -2.0]),
            NONE
        );
    }
}
