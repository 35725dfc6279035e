//! From matches to tracks: which corners are one point, and where it lies.

use std::collections::BTreeMap;

use nalgebra::{Matrix3, Point3, Vector3};

use crate::{
    bundle::{Cameras, Observation, Track},
    camera::center,
};

/// What ties a view to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ties {
    /// Observations that a view has at least.
    pub(crate) observations: usize,
    /// Points that two views share at least, if they hold together: a pose has six numbers, and some points are wrong.
    pub(crate) shared: usize,
}

/// Steps that move a point to where its observations meet. The first one comes from the rays and is close.
const STEPS: usize = 10;

/// A corner in one view, as a number of all corners.
pub(crate) type Corner = usize;

/// Sets of corners that are one point (union-find).
pub(crate) struct Sets {
    parents: Vec<Corner>,
}

impl Sets {
    /// Returns `count` sets of one corner each.
    pub(crate) fn new(count: usize) -> Self {
        Self {
            parents: (0..count).collect(),
        }
    }

    fn root(&mut self, mut corner: Corner) -> Corner {
        while self.parents[corner] != corner {
            // Every other one is linked to the one above: paths halve.
            self.parents[corner] = self.parents[self.parents[corner]];
            corner = self.parents[corner];
        }
        corner
    }

    /// Makes one set of two. The smaller number is the root, whatever the order of the calls.
    pub(crate) fn join(&mut self, a: Corner, b: Corner) {
        let (a, b) = (self.root(a), self.root(b));
        self.parents[a.max(b)] = a.min(b);
    }

    /// Returns the tracks of the sets: the observations of each that has one in at least two views. A view in which a set has two
    /// corners that are further apart than `same_px` contradicts itself and is left out of it.
    pub(crate) fn tracks(mut self, corners: &[Observation], same_px: f64) -> Vec<Vec<Observation>> {
        let mut sets: BTreeMap<Corner, BTreeMap<usize, Vec<Observation>>> = BTreeMap::new();
        for (corner, seen) in corners.iter().enumerate() {
            let views = sets.entry(self.root(corner)).or_default();
            views.entry(seen.view).or_default().push(*seen);
        }
        let one = |all: Vec<Observation>| {
            let first = all[0];
            let same = |seen: &Observation| (seen.pixel - first.pixel).norm() <= same_px;
            all.iter().all(same).then_some(first)
        };
        let tracks = sets.into_values();
        let tracks = tracks.map(|views| views.into_values().filter_map(one).collect::<Vec<_>>());
        tracks.filter(|seen| seen.len() >= 2).collect()
    }
}

/// Returns the point that is nearest to the rays of its observations, moved to where the squares of their errors in pixels are
/// smallest; `None` where the rays do not meet in front of every camera.
pub fn triangulate(cameras: &Cameras, seen: &[Observation]) -> Option<Point3<f64>> {
    let (mut matrix, mut right) = (Matrix3::zeros(), Vector3::zeros());
    for Observation { view, pixel } in seen {
        let pose = &cameras.poses[*view];
        let ray = pose.rotation.inverse() * cameras.lens(*view).ray(pixel).normalize();
        let across = Matrix3::identity() - ray * ray.transpose();
        matrix += across;
        right += across * center(pose).coords;
    }
    let mut point = Point3::from(matrix.try_inverse()? * right);
    let mut cost = cost_of(cameras, &point, seen)?;
    for _ in 0..STEPS {
        let (mut matrix, mut right) = (Matrix3::zeros(), Vector3::zeros());
        for Observation { view, pixel } in seen {
            let pose = &cameras.poses[*view];
            let projection = cameras.lens(*view).projection(&(pose * point))?;
            let by_point = projection.by_point * pose.rotation.to_rotation_matrix().matrix();
            matrix += by_point.transpose() * by_point;
            right -= by_point.transpose() * (projection.pixel - pixel);
        }
        let next = point + matrix.try_inverse()? * right;
        match cost_of(cameras, &next, seen) {
            Some(lower) if lower < cost => (point, cost) = (next, lower),
            _ => break,
        }
    }
    Some(point)
}

/// Returns the sum of the squares of the errors, pixels squared.
fn cost_of(cameras: &Cameras, point: &Point3<f64>, seen: &[Observation]) -> Option<f64> {
    let errors = seen.iter().map(|seen| cameras.error(point, seen).powi(2));
    Some(errors.sum::<f64>()).filter(|cost| cost.is_finite())
}

/// Returns the largest angle between two rays to the point of a track, radians.
pub(crate) fn ray_angle(cameras: &Cameras, track: &Track) -> f64 {
    let rays: Vec<Vector3<f64>> = track
        .observations
        .iter()
        .map(|seen| (track.position - center(&cameras.poses[seen.view])).normalize())
        .collect();
    let others = |i: usize| rays[i + 1..].iter().map(move |ray| (i, ray));
    let pairs = (0..rays.len()).flat_map(others);
    let smallest_cosine = pairs.map(|(i, ray)| rays[i].dot(ray)).fold(1.0, f64::min);
    smallest_cosine.clamp(-1.0, 1.0).acos()
}

/// Drops observations that are off by more than `limit_px`, then tracks that are seen by fewer than `least` views.
pub(crate) fn drop_outliers(
    cameras: &Cameras,
    tracks: &mut Vec<Track>,
    limit_px: f64,
    least: usize,
) {
    for track in tracks.iter_mut() {
        let position = track.position;
        let fine = |seen: &Observation| cameras.error(&position, seen) <= limit_px;
        track.observations.retain(fine);
    }
    tracks.retain(|track| track.observations.len() >= least);
}

/// Leaves out the observations of views that have too few, or that share too few points with the largest group of views that hold
/// together: what nothing ties to the others would drift.
pub(crate) fn keep_strong_views(tracks: &mut Vec<Track>, views: usize, least: usize, ties: Ties) {
    loop {
        let counts = counts(tracks, views);
        let group = largest_group(tracks, views, ties.shared);
        let keeps = |view: usize| counts[view] >= ties.observations && group[view];
        if (0..views).all(|view| counts[view] == 0 || keeps(view)) {
            return;
        }
        for track in tracks.iter_mut() {
            track.observations.retain(|seen| keeps(seen.view));
        }
        tracks.retain(|track| track.observations.len() >= least);
    }
}

/// Returns which views belong to the largest group in which each is tied to others by enough points.
fn largest_group(tracks: &[Track], views: usize, fewest_shared: usize) -> Vec<bool> {
    let mut shared: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for track in tracks {
        for (n, a) in track.observations.iter().enumerate() {
            for b in &track.observations[n + 1..] {
                *shared.entry((a.view, b.view)).or_default() += 1;
            }
        }
    }
    let mut groups = Sets::new(views);
    for ((a, b), count) in shared {
        if count >= fewest_shared {
            groups.join(a, b);
        }
    }
    let roots: Vec<usize> = (0..views).map(|view| groups.root(view)).collect();
    let mut sizes = vec![0; views];
    for root in &roots {
        sizes[*root] += 1;
    }
    // Of equal ones the first.
    let largest = (0..views).rev().max_by_key(|root| sizes[*root]);
    roots.iter().map(|root| Some(*root) == largest).collect()
}

/// Returns how many observations each view has.
pub(crate) fn counts(tracks: &[Track], views: usize) -> Vec<usize> {
    let mut counts = vec![0; views];
    for seen in tracks.iter().flat_map(|track| &track.observations) {
        counts[seen.view] += 1;
    }
    counts
}

/// Returns the median of the errors of all observations, pixels; `None` when there are none.
pub(crate) fn median_error(cameras: &Cameras, tracks: &[Track]) -> Option<f64> {
    let of_track = |track: &Track| {
        let position = track.position;
        let errors = track.observations.iter();
        errors
            .map(move |seen| cameras.error(&position, seen))
            .collect::<Vec<_>>()
    };
    median(tracks.iter().flat_map(of_track).collect())
}

/// Returns the middle value; of an even number the upper one of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let middle = values.len() / 2;
    Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use nalgebra::Vector2;

    use super::*;

    fn seen(view: usize, x: f64) -> Observation {
        let pixel = Vector2::new(x, 0.0);
        Observation { view, pixel }
    }

    #[test]
    fn corners_that_match_through_others_are_one_track() {
        let corners = [
            seen(0, 1.0),
            seen(1, 2.0),
            seen(2, 3.0),
            seen(1, 9.0),
            seen(2, 9.0),
            seen(0, 5.0),
        ];
        let mut sets = Sets::new(corners.len());
        sets.join(2, 1);
        sets.join(0, 1);
        sets.join(3, 4);
        let tracks = sets.tracks(&corners, 1.0);
        assert_eq!(
            tracks,
            [
                vec![corners[0], corners[1], corners[2]],
                vec![corners[3], corners[4]]
            ]
        );
    }

    #[test]
    fn a_view_that_contradicts_itself_is_left_out() {
        let corners = [
            seen(0, 1.0),
            seen(1, 2.0),
            seen(1, 2.5),
            seen(2, 3.0),
            seen(2, 30.0),
        ];
        let mut sets = Sets::new(corners.len());
        (1..5).for_each(|corner| sets.join(0, corner));
        let tracks = sets.tracks(&corners, 1.0);
        assert_eq!(tracks, [vec![corners[0], corners[1]]]);
    }
}
