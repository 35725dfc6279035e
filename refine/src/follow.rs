//! Corners of one view, found again in others where the predictions say they should be.

use std::collections::HashMap;

use nalgebra::{Matrix2, Point3, Vector2};
use rayon::prelude::*;

use crate::{
    bundle::{Cameras, Observation},
    corners::corners,
    gray::Pyramid,
    patch::Patch,
    stopped::Stopped,
    tracks::Sets,
    view::{DepthMap, Sighting, sighting},
};

/// Points of a grid that tell how much of a view another one sees.
const GRID: [usize; 2] = [8, 6];
/// A partner sees at least this part of a view.
const LEAST_OVERLAP: f64 = 0.25;
/// Depths of two views agree for the choice of partners when they differ by less than this part.
const SAME_SURFACE: f64 = 0.25;
/// How far a patch may move after whole pixels have been tried, pixels of its level.
const REACH: f64 = 1.5;
/// Views that are followed before the caller is asked whether to go on.
const BATCH: usize = 8;
/// Levels between two photos whose patches are compared at different sizes, at most.
const MOST_LEVELS: f64 = 1.6;

/// Two places, in different views, that show one point.
pub(crate) type Match = (Observation, Observation);

/// Photos, depths and cameras as they are known at the moment.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) photos: &'a [Pyramid],
    pub(crate) depths: &'a [DepthMap],
    /// What each depth map is multiplied by.
    pub(crate) depth_factors: &'a [f64],
    pub(crate) cameras: &'a Cameras,
}

/// How corners are followed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FollowOptions {
    /// Corners of each view.
    pub(crate) corners: usize,
    /// Level on which corners are chosen and end; 0 is the photo itself.
    pub(crate) last_level: usize,
    /// Level on which they are searched.
    pub(crate) first_level: usize,
    /// How far the predictions may be off, pixels of the photo.
    pub(crate) radius_px: f64,
    /// Views in which the corners of one are searched.
    pub(crate) partners: usize,
    /// ZNCC on the last level.
    pub(crate) least_score: f32,
    /// How much worse the second best place must be.
    pub(crate) least_lead: f32,
    /// The way back must end this close to where it began, pixels of the last level.
    pub(crate) back_px: f64,
    /// Depths of two views may differ by this part.
    pub(crate) depth_tolerance: f64,
    /// Corners of one view that are this close are one, pixels of the last level.
    pub(crate) same_px: f64,
}

impl Scene<'_> {
    /// Returns the point that a view shows at a pixel, in the axes of its camera; `None` where its depth is not known.
    pub(crate) fn point_in_view(&self, seen: &Observation) -> Option<Point3<f64>> {
        let depth = self.depths[seen.view].at(&seen.pixel)? * self.depth_factors[seen.view];
        let ray = self.cameras.lens(seen.view).ray(&seen.pixel);
        Some(Point3::from(ray * depth))
    }

    /// Returns the same point, world space.
    pub(crate) fn point(&self, seen: &Observation) -> Option<Point3<f64>> {
        let point = self.point_in_view(seen)?;
        Some(self.cameras.poses[seen.view].inverse() * point)
    }

    /// Returns the views in which the corners of `view` are searched: of those that see enough of it half that see most of it, and
    /// half evenly of the rest, which look from further away.
    fn partners(&self, view: usize, count: usize) -> Vec<usize> {
        let photo = self.photos[view].level(0);
        let size = [photo.width() as f64, photo.height() as f64];
        let points: Vec<Point3<f64>> = (0..GRID[0] * GRID[1])
            .filter_map(|i| {
                let part =
                    |i: usize, axis: usize| (i as f64 + 0.5) / GRID[axis] as f64 * size[axis];
                let pixel = Vector2::new(part(i % GRID[0], 0), part(i / GRID[0], 1));
                self.point(&Observation { view, pixel })
            })
            .collect();
        let sees = |other: usize, point: &Point3<f64>| {
            let inside = self.cameras.poses[other] * point;
            let pixel = self.cameras.lens(other).project(&inside);
            let depth = pixel.and_then(|pixel| self.depths[other].at(&pixel));
            depth.is_some_and(|depth| {
                (depth * self.depth_factors[other] / inside.z - 1.0).abs() < SAME_SURFACE
            })
        };
        let others = (0..self.photos.len()).filter(|other| *other != view);
        let mut overlaps: Vec<(usize, usize)> = others
            .map(|other| {
                (
                    points.iter().filter(|point| sees(other, point)).count(),
                    other,
                )
            })
            .filter(|(seen, _)| *seen as f64 >= LEAST_OVERLAP * points.len() as f64 && *seen > 0)
            .collect();
        overlaps.sort_by_key(|(seen, other)| (std::cmp::Reverse(*seen), *other));
        let near = overlaps.len().min(count.div_ceil(2));
        let rest = &overlaps[near..];
        let far = rest.len().min(count - count.div_ceil(2));
        let even = (0..far).map(|i| rest[i * rest.len() / far]);
        let chosen = overlaps[..near].iter().copied().chain(even);
        chosen.map(|(_, other)| other).collect()
    }

    /// Returns how view `to` sees the surface around a corner of view `from`, according to depths and cameras.
    pub(crate) fn expected(
        &self,
        (from, to): (usize, usize),
        corner: &Vector2<f64>,
    ) -> Option<Sighting> {
        let surface = self.depths[from].surface(corner)?;
        let factor = self.depth_factors[from];
        sighting(self.cameras, (from, to), (corner, &surface), factor)
    }

    /// Returns where a corner of view `from` is in view `to`, pixels of the photo.
    fn find(
        &self,
        views: (usize, usize),
        corner: &Vector2<f64>,
        options: &FollowOptions,
    ) -> Option<Vector2<f64>> {
        let expected = self.expected(views, corner)?;
        let around = (&expected.pixel, &expected.warp, Some(expected.depth));
        self.find_around(views, corner, around, options)
    }

    /// Returns where a corner of view `from` is in view `to` if it looks there as after `warp` and lies near a pixel of the photo,
    /// and, where a depth is given, at about this depth.
    pub(crate) fn find_around(
        &self,
        (from, to): (usize, usize),
        corner: &Vector2<f64>,
        (pixel, warp, expected_depth): (&Vector2<f64>, &Matrix2<f64>, Option<f64>),
        options: &FollowOptions,
    ) -> Option<Vector2<f64>> {
        let (photos, back) = ((&self.photos[from], &self.photos[to]), warp.try_inverse()?);
        let coarse = patch(photos.0, corner, &back, options.first_level)?;
        let scale = f64::from(1 << options.first_level.min(photos.1.len() - 1));
        let radius = (options.radius_px / scale).ceil() as usize;
        let level = photos.1.level(options.first_level);
        let found = coarse.search(level, &(pixel / scale), radius)?;
        if found.score < options.least_score - ROUGHER
            || found.second > found.score - options.least_lead
        {
            return None;
        }
        let (place, _) = coarse.follow(level, &found.at, REACH)?;
        let (place, score) = refined(photos, (corner, place * scale), &back, options)?;
        if score < options.least_score {
            return None;
        }
        // The surface that is there must be as deep as this one, as far as it is known.
        if let (Some(expected), Some(depth)) = (expected_depth, self.depths[to].at(&place)) {
            let difference = depth * self.depth_factors[to] / expected - 1.0;
            if difference.abs() > options.depth_tolerance {
                return None;
            }
        }
        // And the patch there must lead back.
        let swapped = (photos.1, photos.0);
        let start = corner + back * (found.at * scale - place);
        let (home, _) = refined(swapped, (&place, start), warp, options)?;
        let scale = f64::from(1 << options.last_level.min(photos.0.len() - 1));
        ((home - corner).norm() <= options.back_px * scale).then_some(place)
    }

    /// Follows the corners of these views, in ascending order, in all others and returns which are one point, together with what is
    /// `known` to match. `watch` hears how many views are done and can end it.
    pub(crate) fn follow(
        &self,
        options: &FollowOptions,
        views: &[usize],
        known: &[Match],
        watch: &mut dyn FnMut(usize) -> Result<(), Stopped>,
    ) -> Result<Vec<Vec<Observation>>, Stopped> {
        let size =
            |view: usize| f64::from(1 << options.last_level.min(self.photos[view].len() - 1));
        let mut own: Vec<Vec<Vector2<f64>>> = vec![Vec::new(); self.photos.len()];
        let found = views.par_iter().map(|view| {
            let level = self.photos[*view].level(options.last_level);
            let found = corners(level, options.corners).into_iter();
            found.map(|corner| corner * size(*view)).collect::<Vec<_>>()
        });
        let found: Vec<_> = found.collect();
        for (view, corners) in views.iter().zip(found) {
            own[*view] = corners;
        }
        let of_view = |view: usize| {
            let partners = self.partners(view, options.partners);
            let corners = own[view].iter().enumerate();
            let pairs =
                corners.flat_map(|(n, corner)| partners.iter().map(move |to| (n, corner, *to)));
            let found = pairs.filter_map(|(n, corner, view_to)| {
                let pixel = self.find((view, view_to), corner, options)?;
                Some((
                    n,
                    Observation {
                        view: view_to,
                        pixel,
                    },
                ))
            });
            found.collect::<Vec<_>>()
        };
        let mut matches = vec![Vec::new(); self.photos.len()];
        for (done, batch) in views.chunks(BATCH).enumerate() {
            let found: Vec<_> = batch.par_iter().map(|view| of_view(*view)).collect();
            for (view, found) in batch.iter().zip(found) {
                matches[*view] = found;
            }
            watch(done * BATCH + batch.len())?;
        }
        add(&mut own, &mut matches, known);
        let radius = |view: usize| options.same_px * size(view);
        Ok(joined(&own, &matches, &radius))
    }
}

/// On a coarser level the best whole pixel may score this much less than the place between pixels will.
const ROUGHER: f32 = 0.2;

/// Takes a patch around a corner as it looks on this level of the other photo, from the level on which it is about as large.
fn patch(
    photo: &Pyramid,
    corner: &Vector2<f64>,
    back: &Matrix2<f64>,
    level: usize,
) -> Option<Patch> {
    let larger = back.determinant().abs().sqrt().log2();
    if larger.abs() > MOST_LEVELS {
        return None;
    }
    // Casts saturate.
    let own = ((level as f64 + larger).round() as usize).min(photo.len() - 1);
    let scale = f64::from(1 << own);
    let warp = back * (f64::from(1 << level) / scale);
    Patch::new(photo.level(own), &(corner / scale), &warp)
}

/// Follows a patch from a place on the first level down to the last one; returns the place, pixels of the photo, and its score.
fn refined(
    (from, to): (&Pyramid, &Pyramid),
    (corner, start): (&Vector2<f64>, Vector2<f64>),
    back: &Matrix2<f64>,
    options: &FollowOptions,
) -> Option<(Vector2<f64>, f32)> {
    let first = options.first_level.min(to.len() - 1);
    let last = options.last_level.min(first);
    let mut found = (start, 0.0);
    for level in (last..=first).rev() {
        let scale = f64::from(1 << level);
        let patch = patch(from, corner, back, level)?;
        let (place, score) = patch.follow(to.level(level), &(found.0 / scale), REACH)?;
        found = (place * scale, score);
    }
    Some(found)
}

/// Returns the same for places that are the same, to the bit.
pub(crate) fn key(seen: &Observation) -> (usize, [u64; 2]) {
    (seen.view, [seen.pixel.x, seen.pixel.y].map(f64::to_bits))
}

/// Adds matches to those of the corners: where they start is a corner as well.
fn add(own: &mut [Vec<Vector2<f64>>], matches: &mut [Vec<(usize, Observation)>], known: &[Match]) {
    let mut numbers = HashMap::new();
    for (from, to) in known {
        let corners = &mut own[from.view];
        let number = numbers.entry(key(from)).or_insert_with(|| {
            corners.push(from.pixel);
            corners.len() - 1
        });
        matches[from.view].push((*number, *to));
    }
}

/// Joins what matches: a place that is close to a corner of its view is that corner, any other is a corner of its own.
fn joined(
    own: &[Vec<Vector2<f64>>],
    matches: &[Vec<(usize, Observation)>],
    radius: &dyn Fn(usize) -> f64,
) -> Vec<Vec<Observation>> {
    let mut all: Vec<Observation> = Vec::new();
    let mut nearby: Vec<Nearby> = (0..own.len())
        .map(|view| Nearby::new(radius(view)))
        .collect();
    let mut first = Vec::with_capacity(own.len());
    for (view, corners) in own.iter().enumerate() {
        first.push(all.len());
        for pixel in corners {
            nearby[view].insert(*pixel, all.len());
            all.push(Observation {
                view,
                pixel: *pixel,
            });
        }
    }
    let mut pairs = Vec::new();
    for (view, found) in matches.iter().enumerate() {
        for (corner, seen) in found {
            let near = nearby[seen.view].nearest(&seen.pixel, &all);
            let number = near.unwrap_or_else(|| {
                nearby[seen.view].insert(seen.pixel, all.len());
                all.push(*seen);
                all.len() - 1
            });
            pairs.push((first[view] + corner, number));
        }
    }
    let mut sets = Sets::new(all.len());
    pairs.into_iter().for_each(|(a, b)| sets.join(a, b));
    let widest = (0..own.len()).map(radius).fold(0.0, f64::max);
    sets.tracks(&all, 2.0 * widest)
}

/// Corners of one view by the cell in which they lie.
struct Nearby {
    radius: f64,
    cells: HashMap<(i64, i64), Vec<usize>>,
}

impl Nearby {
    fn new(radius: f64) -> Self {
        Self {
            radius,
            cells: HashMap::new(),
        }
    }

    fn cell(&self, pixel: &Vector2<f64>) -> (i64, i64) {
        (
            (pixel.x / self.radius).floor() as i64,
            (pixel.y / self.radius).floor() as i64,
        )
    }

    fn insert(&mut self, pixel: Vector2<f64>, number: usize) {
        self.cells
            .entry(self.cell(&pixel))
            .or_default()
            .push(number);
    }

    /// Returns the corner that is nearest to a place, if one is within the radius.
    fn nearest(&self, pixel: &Vector2<f64>, all: &[Observation]) -> Option<usize> {
        let (x, y) = self.cell(pixel);
        let cells = (-1..=1).flat_map(|j| (-1..=1).map(move |i| (x + i, y + j)));
        let corners = cells.filter_map(|cell| self.cells.get(&cell)).flatten();
        let distances = corners.map(|corner| ((all[*corner].pixel - pixel).norm(), *corner));
        let near = distances.filter(|(distance, _)| *distance <= self.radius);
        let nearest = near.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        nearest.map(|(_, corner)| corner)
    }
}
