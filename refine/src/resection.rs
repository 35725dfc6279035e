//! Poses from matches alone, for views whose predicted pose most of their matches contradict.
//!
//! An adjustment does not pull such a view in: under its loss, matches that are far off hardly count. The depths at both ends of a
//! match give two places for its point, and a robust alignment of all of them gives the pose.

use nalgebra::Point3;
use rayon::prelude::*;

use crate::{
    bundle::Cameras,
    camera::Pose,
    follow::{Match, Scene},
    similarity::align_points,
};

/// Matches that must contradict the pose of a view before it is replaced. Of 12 matches at random places, 7 agree with one pose in
/// 1 of 700 cases: any three of them determine a pose, and each of the others agrees with it by chance in 1 of 66, which is the
/// part of a 4:3 photo that a circle with a radius of 6 % of its width takes.
const FEWEST_CONTRADICTIONS: usize = 12;

/// What matches change in a scene.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) cameras: Cameras,
    pub(crate) depth_factors: Vec<f64>,
}

impl State {
    /// Returns the scene in this state.
    pub(crate) fn in_scene<'a>(&'a self, scene: &Scene<'a>) -> Scene<'a> {
        Scene {
            cameras: &self.cameras,
            depth_factors: &self.depth_factors,
            ..*scene
        }
    }

    fn with(mut self, resection: &Resection) -> Self {
        self.cameras.poses[resection.view] = resection.pose;
        self.depth_factors[resection.view] = resection.depth_factor;
        self
    }
}

/// A pose that was estimated from matches.
struct Resection {
    view: usize,
    pose: Pose,
    depth_factor: f64,
}

/// Resects those of some views whose matches mostly contradict their pose: they are further than `radius_px` from where the
/// cameras put them. Returns the state after it, and the views.
pub(crate) fn resect(
    scene: &Scene<'_>,
    matches: &[Match],
    views: &[usize],
    radius_px: f64,
) -> (State, Vec<usize>) {
    let mut state = State {
        cameras: scene.cameras.clone(),
        depth_factors: scene.depth_factors.to_vec(),
    };
    let mut left = views.to_vec();
    let mut resected = Vec::new();
    // One after the other, because one wrong pose makes the matches of all its partners contradict.
    while let Some(best) = best_resection(scene, &state, (matches, &left), radius_px) {
        left.retain(|view| *view != best.view);
        resected.push(best.view);
        state = state.with(&best);
    }
    (state, resected)
}

/// Returns the resection after which the most matches agree with the cameras; `None` when no view needs one, or none succeeds.
fn best_resection(
    scene: &Scene<'_>,
    state: &State,
    (matches, views): (&[Match], &[usize]),
    radius_px: f64,
) -> Option<Resection> {
    let of_view = |view: usize| -> Vec<Match> {
        let touches = |(from, to): &&Match| from.view == view || to.view == view;
        matches.iter().filter(touches).copied().collect()
    };
    let found = views.par_iter().filter_map(|view| {
        let own = of_view(*view);
        let before = Agreement::new(&state.in_scene(scene), &own, radius_px);
        if before.contradicting < FEWEST_CONTRADICTIONS || before.is_fine() {
            return None;
        }
        let resection = resection(&state.in_scene(scene), *view, &own)?;
        let moved = state.clone().with(&resection);
        let after = Agreement::new(&moved.in_scene(scene), &own, radius_px);
        let gain = after.agreeing.saturating_sub(before.agreeing);
        after.is_fine().then_some((gain, resection))
    });
    let found: Vec<(usize, Resection)> = found.collect();
    // Of equal ones the last, because the first view often defines the world of the prediction.
    let best = found
        .into_iter()
        .max_by_key(|(gain, found)| (*gain, found.view));
    best.map(|(_, resection)| resection)
}

/// How many matches agree with the cameras.
struct Agreement {
    agreeing: usize,
    contradicting: usize,
}

impl Agreement {
    fn new(scene: &Scene<'_>, matches: &[Match], radius_px: f64) -> Self {
        let known = matches.iter();
        let known: Vec<bool> = known
            .filter_map(|found| agrees(scene, found, radius_px))
            .collect();
        let agreeing = known.iter().filter(|agrees| **agrees).count();
        Self {
            agreeing,
            contradicting: known.len() - agreeing,
        }
    }

    fn is_fine(&self) -> bool {
        self.agreeing > self.contradicting
    }
}

/// Returns whether the depth at one end of a match puts its point where the other end is; `None` where no depth is known.
fn agrees(scene: &Scene<'_>, (from, to): &Match, radius_px: f64) -> Option<bool> {
    let (point, seen) = match scene.point(from) {
        Some(point) => (point, to),
        None => (scene.point(to)?, from),
    };
    Some(scene.cameras.error(&point, seen) <= radius_px)
}

/// Estimates the pose of a view and the factor of its depths: they bring the points that its own depths give closest to those that
/// the depths of the other views give, whatever up to 40 % of the matches say.
fn resection(scene: &Scene<'_>, view: usize, matches: &[Match]) -> Option<Resection> {
    let points = matches.iter().filter_map(|(from, to)| {
        let (own, other) = match from.view == view {
            true => (from, to),
            false => (to, from),
        };
        Some((scene.point_in_view(own)?, scene.point(other)?))
    });
    let (own, others): (Vec<Point3<f64>>, Vec<Point3<f64>>) = points.unzip();
    let world = align_points(&own, &others).ok()?.similarity;
    Some(Resection {
        view,
        pose: world.isometry.inverse(),
        depth_factor: scene.depth_factors[view] * world.scaling(),
    })
}
