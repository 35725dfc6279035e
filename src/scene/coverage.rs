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
    use super::*;
    use crate::scene::{FramesInMemory, SceneOptions, build_from, testing};

    /// Two frames of 8 x 4 pixels; the confidence rises along the rows.
    fn frames() -> FramesInMemory {
        testing::frames([2, 4, 8], |_| [0.0; 3], |i| 1.0 + (i % 8) as f32)
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
