//! Points that stand alone: the filter `drop_outliers`.
//!
//! The statistical outlier removal of PCL and Open3D, with a bounded memory. The neighbors of a point are looked for in a sample of
//! the scene, its at most [`SAMPLE`] points thinned evenly over the frames and over each frame's image:
//!
//! - `d(p)` is the mean distance of the point `p` to the [`NEIGHBORS`] points of the sample that are nearest to it. `p` itself, if it
//!   is in the sample, is not one of them. Where there are fewer, the mean is over those; with none it is 0.
//! - The limit is the mean of `d` over the sample plus [`SIGMAS`] standard deviations of it (that of a sample, `n - 1`).
//! - A point is an outlier if `d(p)` is above the limit.
//!
//! Of a scene of at most [`SAMPLE`] points, these are exactly the outliers that PCL finds.

use super::{
    Neighbors,
    neighbors::{Neighbor, squared_distance},
};

/// Points of the sample: its tree has 1.3 MB, which the caches of processors hold.
pub(crate) const SAMPLE: usize = 100_000;

/// Neighbors of a point; the number in Open3D's documentation. PCL's tutorial takes 50, which costs more and differs little.
const NEIGHBORS: usize = 20;

/// Standard deviations above the mean; the number in Open3D's documentation.
const SIGMAS: f64 = 2.0;

/// Decides which points are outliers of a scene.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outliers {
    sample: Neighbors,
    /// The largest mean distance that is kept, scene units.
    limit: f64,
}

impl Outliers {
    /// Takes the sample of a scene, finite points, and finds the limit.
    pub(crate) fn of_sample(points: Vec<[f32; 3]>) -> Self {
        let sample = Neighbors::new(points);
        let mut found = Vec::with_capacity(NEIGHBORS + 1);
        let distances = sample.points().iter().map(|point| {
            sample.nearest(*point, NEIGHBORS + 1, &mut found);
            mean_distance(&found)
        });
        let limit = limit(&distances.collect::<Vec<f64>>());
        Self { sample, limit }
    }

    /// Returns a test of one point after the other, which is fastest if each lies near the one before.
    pub(crate) fn test(&self) -> OutlierTest<'_> {
        OutlierTest {
            outliers: self,
            found: Vec::with_capacity(NEIGHBORS + 1),
        }
    }
}

/// A test of one point after the other.
pub(crate) struct OutlierTest<'a> {
    outliers: &'a Outliers,
    /// The neighbors of the last point that was looked up.
    found: Vec<Neighbor>,
}

impl OutlierTest<'_> {
    /// Returns whether a point is an outlier.
    pub(crate) fn is_outlier(&mut self, point: [f32; 3]) -> bool {
        if self.is_near_the_last(point) {
            return false;
        }
        let Outliers { sample, limit } = self.outliers;
        sample.nearest(point, NEIGHBORS + 1, &mut self.found);
        mean_distance(&self.found) > *limit
    }

    /// Returns true when the neighbors of the last point show that this one is none, which takes a hundredth of the time of looking
    /// up its own: no other points of the sample have a smaller mean distance than its nearest ones.
    fn is_near_the_last(&self, point: [f32; 3]) -> bool {
        // So that rounding never decides otherwise than the mean over its own neighbors.
        const MARGIN: f64 = 1.0 + 1e-9;
        if self.found.len() <= NEIGHBORS {
            return false;
        }
        let (mut sum, mut largest, mut is_sampled) = (0.0, 0.0_f64, false);
        for (_, neighbor) in &self.found {
            let distance = squared_distance(point, *neighbor).sqrt();
            is_sampled |= distance == 0.0;
            sum += distance;
            largest = largest.max(distance);
        }
        if !is_sampled {
            sum -= largest;
        }
        sum / NEIGHBORS as f64 * MARGIN <= self.outliers.limit
    }
}

/// Returns the mean distance of the nearest points of a sample, of which one more than [`NEIGHBORS`] were looked for: one at no
/// distance is the point itself.
fn mean_distance(found: &[Neighbor]) -> f64 {
    let itself = usize::from(found.first().is_some_and(|(squared, _)| *squared == 0.0));
    let others = &found[itself..];
    let others = &others[..others.len().min(NEIGHBORS)];
    let sum: f64 = others.iter().map(|(squared, _)| squared.sqrt()).sum();
    sum / others.len().max(1) as f64
}

/// Returns the mean of distances plus [`SIGMAS`] standard deviations.
fn limit(distances: &[f64]) -> f64 {
    let count = distances.len() as f64;
    let mean = distances.iter().sum::<f64>() / count.max(1.0);
    let squares: f64 = distances.iter().map(|d| (d - mean).powi(2)).sum();
    mean + SIGMAS * (squares / (count - 1.0).max(1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::neighbors::tests::scattered;

    /// The definition, without a tree: which of `points` are outliers of `sample`.
    fn outliers_of(points: &[[f32; 3]], sample: &[[f32; 3]]) -> Vec<bool> {
        let mean_to_nearest = |point: [f32; 3]| {
            let distances = sample.iter().map(|s| squared_distance(point, *s).sqrt());
            let mut distances: Vec<f64> = distances.collect();
            distances.sort_by(f64::total_cmp);
            if distances.first() == Some(&0.0) {
                distances.remove(0);
            }
            distances.truncate(20);
            distances.iter().sum::<f64>() / distances.len().max(1) as f64
        };
        let of_sample: Vec<f64> = sample.iter().map(|s| mean_to_nearest(*s)).collect();
        let count = of_sample.len() as f64;
        let mean = of_sample.iter().sum::<f64>() / count;
        let variance = of_sample
            .iter()
            .map(|d| (d - mean) * (d - mean))
            .sum::<f64>();
        let limit = mean + 2.0 * (variance / (count - 1.0)).sqrt();
        points.iter().map(|p| mean_to_nearest(*p) > limit).collect()
    }

    /// A wall with a few points in front of it.
    fn wall_and_floaters() -> Vec<[f32; 3]> {
        let mut points = scattered(900, 1);
        points.iter_mut().for_each(|p| p[2] *= 0.01);
        points.extend(scattered(9, 2).into_iter().map(|[x, y, z]| [x, y, z + 1.0]));
        points
    }

    #[test]
    fn the_outliers_are_those_of_the_definition() {
        let points = wall_and_floaters();
        for step in [1, 3] {
            let sample: Vec<[f32; 3]> = points.iter().step_by(step).copied().collect();
            let expected = outliers_of(&points, &sample);
            let found = Outliers::of_sample(sample);
            let mut test = found.test();
            let found: Vec<bool> = points.iter().map(|p| test.is_outlier(*p)).collect();
            assert_eq!(found, expected, "a sample of every {step}th point");
            assert!(found[900..].iter().all(|is_outlier| *is_outlier));
            let of_wall = found[..900]
                .iter()
                .filter(|is_outlier| **is_outlier)
                .count();
            assert!(of_wall < 40, "{of_wall} of the wall");
        }
    }

    #[test]
    fn the_order_of_the_points_decides_nothing() {
        let points = wall_and_floaters();
        let outliers = Outliers::of_sample(points.clone());
        let alone: Vec<bool> = points
            .iter()
            .map(|p| outliers.test().is_outlier(*p))
            .collect();
        let (mut forward, mut backward) = (outliers.test(), outliers.test());
        let there: Vec<bool> = points.iter().map(|p| forward.is_outlier(*p)).collect();
        let mut back: Vec<bool> = points
            .iter()
            .rev()
            .map(|p| backward.is_outlier(*p))
            .collect();
        back.reverse();
        assert_eq!((&there, &back), (&alone, &alone));
    }

    #[test]
    fn few_points_and_equal_points_have_no_outliers() {
        let two = vec![[0.0; 3], [1.0, 0.0, 0.0]];
        for points in [Vec::new(), vec![[1.0; 3]], two, vec![[3.0; 3]; 500]] {
            let outliers = Outliers::of_sample(points.clone());
            let mut test = outliers.test();
            assert!(
                !points.iter().any(|p| test.is_outlier(*p)),
                "{}",
                points.len()
            );
        }
    }

    #[test]
    fn a_point_at_the_end_of_the_numbers_is_an_outlier_and_no_error() {
        let mut points = scattered(200, 3);
        points.push([3e38, -3e38, 3e38]);
        let outliers = Outliers::of_sample(points.clone());
        let mut test = outliers.test();
        let found: Vec<usize> = (0..201).filter(|i| test.is_outlier(points[*i])).collect();
        assert_eq!(found, [200]);
    }
}
