//! A few points for a whole scene: the most confident ones, spread evenly over the frames and over each frame's image.
//!
//! Trainers of splats start from some 100 000 points. The most confident points alone would leave out whole regions, since
//! confidence varies more between surfaces than within one.

use std::{collections::HashMap, ops::Range};

use super::PointCloud;

/// Returns the indices of at most `limit` points in rising order: of each frame the same share, and in each frame the most
/// confident point of each cell of a grid over its image, then the second of each cell, until the share is used up.
pub fn confident_and_even(points: &PointCloud, limit: usize) -> Vec<u32> {
    let count = points.len();
    if count <= limit {
        return (0..count as u32).collect();
    }
    let mut chosen = Vec::with_capacity(limit);
    let mut start = 0;
    while start < count {
        let frame = points.frame(start);
        let end = (start..count)
            .find(|i| points.frame(*i) != frame)
            .unwrap_or(count);
        // The shares of all frames add up to the limit: each is the difference of two rounded totals.
        let total = |points: usize| (points as u128 * limit as u128 / count as u128) as usize;
        chosen.extend(of_frame(points, start..end, total(end) - total(start)));
        start = end;
    }
    chosen
}

/// Returns `share` points of one frame in rising order.
fn of_frame(points: &PointCloud, range: Range<usize>, share: usize) -> Vec<u32> {
    if share == 0 {
        return Vec::new();
    }
    // As many cells as points are wanted, if the points cover the image without holes.
    let side = (range.len() as f64 / share as f64).sqrt();
    let cell = |i: usize| points.pixel(i).map(|x| (f64::from(x) / side) as u32);
    let mut by_confidence: Vec<u32> = range.map(|i| i as u32).collect();
    by_confidence.sort_by(|a, b| {
        let confidence = |i: &u32| points.confidence[*i as usize];
        confidence(b).total_cmp(&confidence(a)).then(a.cmp(b))
    });
    // The rank of each point in its cell, most confident first.
    let mut seen: HashMap<[u32; 2], u32> = HashMap::new();
    let mut ranked: Vec<(u32, u32)> = Vec::with_capacity(by_confidence.len());
    for i in by_confidence {
        let rank = seen.entry(cell(i as usize)).or_default();
        ranked.push((*rank, i));
        *rank += 1;
    }
    // Stable: points of the same rank stay in the order of their confidence.
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.truncate(share);
    let mut chosen: Vec<u32> = ranked.into_iter().map(|(_, i)| i).collect();
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two frames of 8 x 4 pixels; the confidence rises along the rows.
    fn cloud() -> PointCloud {
        let mut cloud = PointCloud::single_white(8, 4).select(&[]);
        for source in 0..64 {
            cloud.positions.push([source as f32; 3]);
            cloud.colors.push([0; 3]);
            cloud.confidence.push(1.0 + (source % 8) as f32);
            cloud.source.push(source);
        }
        cloud
    }

    #[test]
    fn the_most_confident_point_of_each_cell_is_chosen() {
        // 16 of 64 points: 8 of each frame, one of each cell of 2 x 2 pixels, and there the right column.
        let chosen = confident_and_even(&cloud(), 16);
        let expected = [1, 3, 5, 7, 17, 19, 21, 23, 33, 35, 37, 39, 49, 51, 53, 55];
        assert_eq!(chosen, expected);
    }

    #[test]
    fn every_limit_is_met_exactly_and_a_large_one_keeps_all() {
        let cloud = cloud();
        for limit in [1, 2, 7, 33, 63] {
            assert_eq!(confident_and_even(&cloud, limit).len(), limit);
        }
        assert_eq!(confident_and_even(&cloud, 64).len(), 64);
        assert_eq!(confident_and_even(&cloud, 1000).len(), 64);
    }
}
