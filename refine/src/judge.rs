//! Whether refined cameras may be used.

use std::collections::BTreeMap;

use nalgebra::{Point3, Vector3};
use serde::Serialize;

use crate::{
    bundle::{Cameras, Track},
    camera::center,
    similarity::{align, rotation_about_origin},
    tracks::{counts, median},
};

/// Fewest points that a result may rest on.
const FEWEST_TRACKS: usize = 100;
/// A camera that turned by more than this, relative to the others, is not a better version of the predicted one, degrees.
const MOST_TURNED_DEG: f64 = 45.0;
/// Nor is one that moved by more than this part of the extent of all.
const MOST_SHIFTED: f64 = 0.5;
/// Fewest points that two views share for a look at their parallax.
const SHARED: usize = 20;
/// A rotation alone must explain what two views see this many times worse than cameras that move do, or there is no parallax.
const PARALLAX: f64 = 3.0;
/// And at least so badly, pixels.
const PARALLAX_PX: f64 = 2.0;
/// With more than this many nearly parallel tracks for each other one, the camera turned and hardly moved.
const MOST_NARROW: usize = 4;
/// Planes that are tried through three points.
const PLANES: usize = 300;
/// Points lie in one plane when 19 of 20 are closer to it than this part of their extent.
const FLAT: f64 = 0.02;
const MOST_IN_PLANE: f64 = 0.95;
/// The median error of an accepted result is below this, pixels: more than blur and noise explain comes from wrong matches.
const LARGEST_MEDIAN_PX: f64 = 1.5;

/// Why the predicted cameras are kept.
#[derive(Debug, Clone, PartialEq, Serialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Refusal {
    /// The photos do not overlap, are blurred or plain, or the prediction is too far off for a search around it.
    #[error(
        "too few corners were found again in other photos: {tracks} points in {refined_views} of {views} photos"
    )]
    FewTracks {
        /// Points that were found.
        tracks: usize,
        /// Views that they are in.
        refined_views: usize,
        /// All views.
        views: usize,
    },
    /// The camera only turned, so that depths are guesses and positions of cameras as well.
    #[error("the camera hardly moved: a turn alone explains the photos to {rotation_px:.1} pixels")]
    NoParallax {
        /// Median error of the better part of the pairs when cameras only turn, pixels.
        rotation_px: f64,
    },
    /// All points lie in one plane, which leaves the focal length and the tilt of the cameras open.
    #[error("all points lie in one plane, which does not determine the cameras")]
    Plane,
    /// The refined cameras do not fit the photos better.
    #[error(
        "the refined cameras do not fit the photos better: {after_px:.2} pixels, and {before_px:.2} before"
    )]
    NotBetter {
        /// Median error with the predicted cameras, pixels.
        before_px: f64,
        /// Median error with the refined ones.
        after_px: f64,
    },
    /// Too many cameras went elsewhere.
    #[error(
        "{moved} of {refined_views} cameras moved unreasonably far, by up to {most_deg:.0} degrees"
    )]
    Moved {
        /// Cameras that moved too far.
        moved: usize,
        /// Cameras that were refined.
        refined_views: usize,
        /// The largest turn relative to the others, degrees.
        most_deg: f64,
    },
}

/// Decides whether the `refined` cameras may replace the `predicted` ones. They rest on the tracks that are `wide`; the rays of the
/// `narrow` ones are nearly parallel. `medians` are the errors before and after, pixels.
///
/// # Errors
/// Tells why not.
pub(crate) fn judge(
    (predicted, refined): (&Cameras, &Cameras),
    (wide, narrow): (&[Track], &[Track]),
    medians: (Option<f64>, Option<f64>),
) -> Result<(), Refusal> {
    let views = refined.poses.len();
    let counts = counts(wide, views);
    let seen: Vec<usize> = (0..views).filter(|view| counts[*view] > 0).collect();
    if narrow.len() > FEWEST_TRACKS.max(MOST_NARROW * wide.len()) {
        return Err(Refusal::NoParallax {
            rotation_px: error_of_turns(refined, narrow),
        });
    }
    let few = wide.len() < FEWEST_TRACKS || seen.len() < 2 || 2 * seen.len() < views;
    let (Some(before_px), Some(after_px), false) = (medians.0, medians.1, few) else {
        return Err(Refusal::FewTracks {
            tracks: wide.len(),
            refined_views: seen.len(),
            views,
        });
    };
    if after_px >= before_px || after_px > LARGEST_MEDIAN_PX {
        return Err(Refusal::NotBetter {
            before_px,
            after_px,
        });
    }
    let rotation_px = error_of_turns(refined, wide);
    if rotation_px < PARALLAX_PX.max(PARALLAX * after_px) {
        return Err(Refusal::NoParallax { rotation_px });
    }
    if in_one_plane(wide) {
        return Err(Refusal::Plane);
    }
    check_moves(predicted, refined, &seen)
}

/// Compares the cameras with the predicted ones after the two sets were aligned.
fn check_moves(predicted: &Cameras, refined: &Cameras, seen: &[usize]) -> Result<(), Refusal> {
    let of = |cameras: &Cameras| {
        seen.iter()
            .map(|view| cameras.poses[*view])
            .collect::<Vec<_>>()
    };
    let (from, to) = (of(predicted), of(refined));
    let Ok(found) = align(&from, &to) else {
        // They all stand in one place, which the parallax excludes for the refined ones.
        return Err(Refusal::NoParallax { rotation_px: 0.0 });
    };
    let turn = found.similarity.isometry.rotation.inverse();
    let turns: Vec<f64> = from
        .iter()
        .zip(&to)
        .map(|(from, to)| (from.rotation * turn).angle_to(&to.rotation).to_degrees())
        .collect();
    let centers: Vec<Point3<f64>> = to.iter().map(center).collect();
    let extent = extent(&centers);
    let moved = turns.iter().zip(&found.distances);
    let moved = moved
        .filter(|(turn, distance)| **turn > MOST_TURNED_DEG || **distance > MOST_SHIFTED * extent)
        .count();
    match moved * 4 > seen.len() {
        true => Err(Refusal::Moved {
            moved,
            refined_views: seen.len(),
            most_deg: turns.into_iter().fold(0.0, f64::max),
        }),
        false => Ok(()),
    }
}

/// Returns the largest distance of a point from their middle, twice.
fn extent(points: &[Point3<f64>]) -> f64 {
    let sum: Vector3<f64> = points.iter().map(|point| point.coords).sum();
    let middle = sum / points.len().max(1) as f64;
    2.0 * points
        .iter()
        .map(|point| (point.coords - middle).norm())
        .fold(0.0, f64::max)
}

/// How two views see a point, in their own axes.
type Rays = (Vector3<f64>, Vector3<f64>);

/// Returns how far off a turn alone leaves what pairs of views see, pixels: the median of each pair's points, and of the pairs the
/// third quartile, since neighbors of a long path may be close to each other.
fn error_of_turns(cameras: &Cameras, tracks: &[Track]) -> f64 {
    let mut shared: BTreeMap<(usize, usize), Vec<Rays>> = BTreeMap::new();
    for track in tracks {
        for (n, a) in track.observations.iter().enumerate() {
            for b in &track.observations[n + 1..] {
                let ray = |seen: &crate::bundle::Observation| {
                    cameras.lens(seen.view).ray(&seen.pixel).normalize()
                };
                shared
                    .entry((a.view, b.view))
                    .or_default()
                    .push((ray(a), ray(b)));
            }
        }
    }
    let of_pair = |((_, to), rays): ((usize, usize), Vec<Rays>)| {
        let rotation = rotation_about_origin(&rays)?;
        let focal = cameras.lens(to).focal[0];
        let errors = rays.iter().map(|(a, b)| (rotation * a).angle(b) * focal);
        median(errors.collect())
    };
    let pairs = shared.into_iter().filter(|(_, rays)| rays.len() >= SHARED);
    let mut errors: Vec<f64> = pairs.filter_map(of_pair).collect();
    errors.sort_by(f64::total_cmp);
    errors.get(errors.len() * 3 / 4).copied().unwrap_or(0.0)
}

/// Returns whether nearly all points lie in one plane.
fn in_one_plane(tracks: &[Track]) -> bool {
    let points: Vec<Point3<f64>> = tracks.iter().map(|track| track.position).collect();
    let count = points.len();
    let middle = |axis: usize| median(points.iter().map(|point| point[axis]).collect());
    let middle = [0, 1, 2].map(|axis| middle(axis).unwrap_or_default());
    let middle = Point3::from(middle);
    // The median, which a few far points do not stretch.
    let spread = median(points.iter().map(|point| (point - middle).norm()).collect());
    let near = FLAT * 2.0 * spread.unwrap_or_default();
    let plane_through = |n: usize| {
        let corner = |k: usize| points[(n * 7919 + k * (count / 3) + n * k) % count];
        let normal = (corner(1) - corner(0)).cross(&(corner(2) - corner(0)));
        let normal = normal.try_normalize(0.0)?;
        let inside = points
            .iter()
            .filter(|point| normal.dot(&(*point - corner(0))).abs() < near);
        Some(inside.count())
    };
    let most = (0..PLANES).filter_map(plane_through).max().unwrap_or(0);
    most as f64 >= MOST_IN_PLANE * count as f64
}
