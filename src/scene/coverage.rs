//! A few points for a whole scene: the most confident ones, spread evenly over the frames and over each frame's image.
//!
//! Trainers of splats start from some 100 000 points. The most confident points alone would leave out whole regions, since
//! confidence varies more between surfaces than within one.

use std::collections::HashMap;

use super::{PointCloud, SceneError, ScenePoints};

/// Returns at most `limit` points in their order: of each frame the same share, and in each frame the most confident point of
/// each cell of a grid over its image, then the second of each cell, until the share is used up.
///
/// Reads one frame at a time, and holds what is returned.
///
/// # Errors
/// As [`ScenePoints::for_each`].
pub fn confident_and_even(
    points: &ScenePoints<'_>,
    limit: usize,
) -> Result<PointCloud, SceneError> {
    let count = points.plan().len();
    if count <= limit {
        return points.collect();
    }
    // The shares of all frames add up to the limit: each is the difference of two rounded totals.
    let total = |points: usize| (points as u128 * limit as u128 / count as u128) as usize;
    let mut chosen = PointCloud::of_images(points.plan().image_size());
    chosen.reserve(limit);
    let mut start = 0;
    points.for_each(|of_frame| {
        let end = start + of_frame.len();
        let share = total(end) - total(start);
        start = end;
        chosen.extend_from(of_frame, chosen_of(of_frame, share).into_iter());
        Ok::<(), SceneError>(())
    })?;
    Ok(chosen)
}

/// Returns the indices of `share` points of one frame in rising order.
fn chosen_of(points: &PointCloud, share: usize) -> Vec<usize> {
    if share == 0 {
        return Vec::new();
    }
    // As many cells as points are wanted, if the points cover the image without holes.
    let side = (points.len() as f64 / share as f64).sqrt();
    let cell = |i: usize| points.pixel(i).map(|x| (f64::from(x) / side) as u32);
    let mut by_confidence: Vec<usize> = (0..points.len()).collect();
    by_confidence.sort_by(|a, b| {
        let confidence = |i: &usize| points.confidence[*i];
        confidence(b).total_cmp(&confidence(a)).then(a.cmp(b))
    });
    // The rank of each point in its cell, most confident first.
    let mut seen: HashMap<[u32; 2], u32> = HashMap::new();
    let mut ranked: Vec<(u32, usize)> = Vec::with_capacity(by_confidence.len());
    for i in by_confidence {
        let rank = seen.entry(cell(i)).or_default();
        ranked.push((*rank, i));
        *rank += 1;
    }
    // Stable: points of the same rank stay in the order of their confidence.
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.truncate(share);
    let mut chosen: Vec<usize> = ranked.into_iter().map(|(_, i)| i).collect();
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};
    use vggt_model::Predictions;

    use super::*;
    use crate::scene::{FramesInMemory, SceneOptions, build_from};

    const CPU: &Device = &Device::Cpu;

    /// Two frames of 8 x 4 pixels; the confidence rises along the rows.
    fn frames() -> FramesInMemory {
        let confidence: Vec<f32> = (0..64).map(|i| 1.0 + (i % 8) as f32).collect();
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, CPU).unwrap();
        let eye = |columns: usize| {
            let one = |i: usize| f32::from(u8::from(i % columns == i / columns));
            let values: Vec<f32> = (0..3 * columns).map(one).collect();
            let one = Tensor::from_vec(values, (1, 3, columns), CPU).unwrap();
            one.repeat((2, 1, 1)).unwrap()
        };
        let predictions = Predictions {
            images: zeros(&[2, 3, 4, 8]),
            pose_enc: zeros(&[2, 9]),
            extrinsic: eye(4),
            intrinsic: eye(3),
            depth: zeros(&[2, 4, 8, 1]),
            depth_conf: Tensor::from_vec(confidence, (2, 4, 8), CPU).unwrap(),
            world_points_from_depth: zeros(&[2, 4, 8, 3]),
            world_points: None,
            world_points_conf: None,
            tracks: None,
        };
        FramesInMemory::new(predictions, None).unwrap()
    }

    /// The pixels of the chosen points.
    fn chosen(limit: usize) -> Vec<u64> {
        let frames = frames();
        let options = SceneOptions {
            conf_thres: 0.0,
            ..SceneOptions::default()
        };
        let scene = build_from(&frames, &options).unwrap();
        let points = scene.points.over(&frames);
        confident_and_even(&points, limit).unwrap().source
    }

    #[test]
    fn the_most_confident_point_of_each_cell_is_chosen() {
        // 16 of 64 points: 8 of each frame, one of each cell of 2 x 2 pixels, and there the right column.
        let expected = [1, 3, 5, 7, 17, 19, 21, 23, 33, 35, 37, 39, 49, 51, 53, 55];
        assert_eq!(chosen(16), expected);
    }

    #[test]
    fn every_limit_is_met_exactly_and_a_large_one_keeps_all() {
        for limit in [1, 2, 7, 33, 63] {
            assert_eq!(chosen(limit).len(), limit);
        }
        assert_eq!(chosen(64).len(), 64);
        assert_eq!(chosen(1000).len(), 64);
    }
}
