//! Guesses: places where another source of matches sees the points of a view. They are tried besides the corners, and views whose
//! predicted pose they contradict get a pose from them.

use std::collections::{BTreeSet, HashMap};

use nalgebra::{Matrix2, Vector2};
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    bundle::Observation,
    follow::{FollowOptions, Match, Scene, key},
    gray::Pyramid,
    resection::{State, resect},
    stopped::Stopped,
};

/// How far a guess may be off, pixels of the level on which it is tried. Photos are about 256 pixels long there, and track heads
/// are off by 2 % of the longer side at worst.
const RADIUS_PX: f64 = 6.0;
/// Guesses that are tried before the caller is asked whether to go on.
const BATCH: usize = 2048;

/// Where another source of matches, such as the track head of a network, sees a point of one view in another one: a place to search.
///
/// A guess may be wrong. It becomes a match only where the photos look the same around both places.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guess {
    /// The point, in the view that it was taken from.
    pub from: Observation,
    /// Where another view may show it.
    pub to: Observation,
}

/// What became of the guesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GuessReport {
    /// Guesses between different views that exist, at finite places inside their photos.
    pub tried: usize,
    /// Guesses that became matches in some round.
    pub found: usize,
    /// Views whose predicted pose most of their matches contradicted, and whose pose was estimated from these matches.
    pub resected_views: usize,
}

/// The guesses that can be tried, and what became of them.
pub(crate) struct Guesses {
    guesses: Vec<Guess>,
    /// The number of the point of each guess: guesses of one point start at the same place.
    points: Vec<usize>,
    is_found: Vec<bool>,
    resected: BTreeSet<usize>,
}

/// What came of guesses.
pub(crate) struct Guessed {
    pub(crate) matches: Vec<Match>,
    pub(crate) state: State,
}

impl Guesses {
    pub(crate) fn new(guesses: &[Guess], photos: &[Pyramid]) -> Self {
        let exists = |seen: &Observation| {
            let photo = photos.get(seen.view);
            // NaN is not inside.
            photo.is_some_and(|photo| photo.level(0).holds(&seen.pixel, 0.0))
        };
        let fine = |guess: &&Guess| {
            guess.from.view != guess.to.view && exists(&guess.from) && exists(&guess.to)
        };
        let guesses: Vec<Guess> = guesses.iter().filter(fine).copied().collect();
        let mut numbers = HashMap::new();
        let mut number = |guess: &Guess| {
            let next = numbers.len();
            *numbers.entry(key(&guess.from)).or_insert(next)
        };
        Self {
            points: guesses.iter().map(&mut number).collect(),
            is_found: vec![false; guesses.len()],
            resected: BTreeSet::new(),
            guesses,
        }
    }

    /// Returns the counts; `None` when there was nothing to try.
    pub(crate) fn report(&self) -> Option<GuessReport> {
        (!self.guesses.is_empty()).then(|| GuessReport {
            tried: self.guesses.len(),
            found: self.is_found.iter().filter(|found| **found).count(),
            resected_views: self.resected.len(),
        })
    }

    /// Tries the guesses of all points that have a guess from or to one of these views, and resects those of the views that need
    /// it. `options` are those of the corners, and `watch` can end the work.
    pub(crate) fn matches(
        &mut self,
        scene: &Scene<'_>,
        options: &FollowOptions,
        views: &[usize],
        watch: &mut dyn FnMut() -> Result<(), Stopped>,
    ) -> Result<Guessed, Stopped> {
        let chosen = self.touching(views);
        let mut places = self.places(scene, options, &chosen, watch)?;
        let matches = self.found(&chosen, &places);
        let (state, resected) = resect(scene, &matches, views, options.radius_px);
        if !resected.is_empty() {
            // The patches of these views are warped correctly only now.
            let is_touched = |n: &usize| {
                let Guess { from, to } = self.guesses[chosen[*n]];
                resected.contains(&from.view) || resected.contains(&to.view)
            };
            let again: Vec<usize> = (0..chosen.len()).filter(is_touched).collect();
            let numbers: Vec<usize> = again.iter().map(|n| chosen[*n]).collect();
            let found = self.places(&state.in_scene(scene), options, &numbers, watch)?;
            for (n, place) in again.into_iter().zip(found) {
                places[n] = place;
            }
        }
        for (n, place) in chosen.iter().zip(&places) {
            self.is_found[*n] |= place.is_some();
        }
        self.resected.extend(resected);
        Ok(Guessed {
            matches: self.found(&chosen, &places),
            state,
        })
    }

    /// Returns the guesses of the points that have a guess from or to one of these views. A point needs the guesses in other views
    /// as well, because two views alone hold no point.
    fn touching(&self, views: &[usize]) -> Vec<usize> {
        let touches = |guess: &Guess| {
            [guess.from.view, guess.to.view]
                .iter()
                .any(|view| views.binary_search(view).is_ok())
        };
        let touched = self.guesses.iter().zip(&self.points);
        let touched: BTreeSet<usize> = touched
            .filter(|(guess, _)| touches(guess))
            .map(|(_, point)| *point)
            .collect();
        let is_chosen = |n: &usize| touched.contains(&self.points[*n]);
        (0..self.guesses.len()).filter(is_chosen).collect()
    }

    /// Returns where these guesses were found, pixels of the photo.
    fn places(
        &self,
        scene: &Scene<'_>,
        options: &FollowOptions,
        numbers: &[usize],
        watch: &mut dyn FnMut() -> Result<(), Stopped>,
    ) -> Result<Vec<Option<Vector2<f64>>>, Stopped> {
        let mut places = Vec::with_capacity(numbers.len());
        for batch in numbers.chunks(BATCH) {
            let found = batch.par_iter();
            places.par_extend(found.map(|n| place(scene, &self.guesses[*n], options)));
            watch()?;
        }
        Ok(places)
    }

    fn found(&self, numbers: &[usize], places: &[Option<Vector2<f64>>]) -> Vec<Match> {
        let pairs = numbers.iter().zip(places);
        let found = pairs.filter_map(|(n, place)| {
            let Guess { from, to } = self.guesses[*n];
            let pixel = (*place)?;
            Some((from, Observation { pixel, ..to }))
        });
        found.collect()
    }
}

/// Returns where the point of a guess is in the other view, pixels of the photo; `None` where the photos do not look the same.
fn place(scene: &Scene<'_>, guess: &Guess, options: &FollowOptions) -> Option<Vector2<f64>> {
    let views = (guess.from.view, guess.to.view);
    let (corner, around) = (&guess.from.pixel, &guess.to.pixel);
    let scale = f64::from(1 << options.first_level);
    let near = FollowOptions {
        radius_px: RADIUS_PX * scale,
        ..*options
    };
    let search = |warp: &Matrix2<f64>, depth: Option<f64>| {
        scene.find_around(views, corner, (around, warp, depth), &near)
    };
    let identity = Matrix2::identity();
    let Some(expected) = scene.expected(views, corner) else {
        return search(&identity, None);
    };
    if (expected.pixel - around).norm() <= options.radius_px {
        return search(&expected.warp, Some(expected.depth));
    }
    // One of the two is wrong. If it is the prediction, its depth says nothing, and its warp may be worse than none.
    search(&expected.warp, None).or_else(|| search(&identity, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bundle::Cameras,
        camera::{Lens, Pose},
        gray::Gray,
        view::DepthMap,
    };

    const SIDE: usize = 128;
    const LENS: Lens = Lens {
        focal: [100.0, 100.0],
        principal: [64.0, 64.0],
        k1: 0.0,
    };
    const OPTIONS: FollowOptions = FollowOptions {
        corners: 0,
        first_level: 0,
        last_level: 0,
        radius_px: 8.0,
        partners: 0,
        least_score: 0.8,
        least_lead: 0.1,
        back_px: 1.0,
        depth_tolerance: 0.25,
        same_px: 1.0,
    };

    /// A photo of brightness 0 to 1 with two gray levels of noise, which differs for each `seed`.
    fn photo(brightness: &dyn Fn(f64, f64) -> f64, seed: u64) -> Pyramid {
        let value = |i: usize| {
            let mut z = (i as u64 + (seed << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let noise = (z >> 11) as f64 / 2.0_f64.powi(53) - 0.5;
            let (x, y) = ((i % SIDE) as f64 + 0.5, (i / SIDE) as f64 + 0.5);
            // The standard deviation of a uniform distribution is 0.29 of its width.
            (40.0 + 170.0 * brightness(x, y) + 7.0 * noise) as u8
        };
        Pyramid::new(Gray::new(SIDE, SIDE, (0..SIDE * SIDE).map(value).collect()).unwrap())
    }

    fn seen(view: usize, x: f64, y: f64) -> Observation {
        let pixel = Vector2::new(x, y);
        Observation { view, pixel }
    }

    /// Tries guesses at a grid of places, off by some pixels, in two photos of the same; returns how many there are, and how many
    /// become matches.
    fn tried(brightness: &dyn Fn(f64, f64) -> f64, off: [f64; 2]) -> (usize, usize) {
        let photos = [photo(brightness, 1), photo(brightness, 2)];
        let depth = DepthMap {
            width: 1,
            height: 1,
            values: vec![2.0],
            scale: [1.0 / SIDE as f64; 2],
            offset: [0.0; 2],
        };
        let cameras = Cameras {
            poses: vec![Pose::identity(); 2],
            lenses: vec![LENS],
            lens_of: vec![0, 0],
        };
        let scene = Scene {
            photos: &photos,
            depths: &[depth.clone(), depth],
            depth_factors: &[1.0, 1.0],
            cameras: &cameras,
        };
        let grid = (24..104).step_by(5);
        let places = grid
            .clone()
            .flat_map(|y| grid.clone().map(move |x| (f64::from(x), f64::from(y))));
        let guesses: Vec<Guess> = places
            .map(|(x, y)| Guess {
                from: seen(0, x, y),
                to: seen(1, x + off[0], y + off[1]),
            })
            .collect();
        let mut guesses = Guesses::new(&guesses, &photos);
        let found = guesses
            .matches(&scene, &OPTIONS, &[0, 1], &mut || Ok(()))
            .unwrap();
        for (from, to) in &found.matches {
            let error = (to.pixel - from.pixel).norm();
            assert!(error < 0.3, "a match is off by {error} pixels");
        }
        let report = guesses.report().unwrap();
        assert_eq!(report.found, found.matches.len());
        (report.tried, report.found)
    }

    #[test]
    fn places_without_a_corner_never_match() {
        assert_eq!(tried(&|_, _| 0.5, [0.0, 0.0]), (256, 0));
        for (dx, dy) in [(1.0, 0.0), (0.6, 0.8), (0.96, 0.28)] {
            // Stripes 24 pixels wide, with edges from sharp to soft.
            for width in [0.7, 2.0, 6.0] {
                let stripes = |x: f64, y: f64| {
                    let across = (dx * x + dy * y).rem_euclid(48.0) - 24.0;
                    0.5 + 0.5 * ((12.0 - across.abs()) / width).tanh()
                };
                for along in [0.0, 3.0] {
                    assert_eq!(tried(&stripes, [-dy * along, dx * along]), (256, 0));
                }
            }
        }
    }

    #[test]
    fn places_with_texture_match_where_the_photos_agree() {
        let texture = |x: f64, y: f64| {
            let waves = (0.37 * x + 0.11 * y).sin()
                + (0.23 * y - 0.19 * x).cos()
                + (0.51 * y).sin() * (0.29 * x).cos();
            0.5 + 0.16 * waves
        };
        let (tried, found) = tried(&texture, [3.0, -2.0]);
        assert!(5 * found > 4 * tried, "{found} of {tried}");
    }
}
