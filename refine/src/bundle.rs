//! Bundle adjustment: poses, lenses and points that explain where corners were seen.
//!
//! Levenberg-Marquardt with the points eliminated (the Schur complement), and Cauchy's loss, under which a wrong observation pulls
//! less the further off it is. The seven freedoms of the whole (where, which way, how large) are held by the damping alone.

use nalgebra::{
    DVector, Matrix2x3, Matrix2x6, Matrix3, Matrix6x3, Point3, SMatrix, UnitQuaternion, Vector2,
    Vector3, Vector6,
};
use rayon::prelude::*;

use crate::{
    camera::{Lens, Pose},
    cholesky::{Places, Tiled},
};

/// Into how many parts the points are divided. Their sums are added in this order, so that the result is the same on any number of
/// threads.
const PARTS: usize = 8;
/// The distance that counts for a point that is not in front of a camera that saw it, pixels.
const BEHIND_PX: f64 = 1000.0;
/// First damping, in parts of the diagonal.
const FIRST_DAMPING: f64 = 1e-4;
/// What a step that succeeds leaves of the damping.
const CALMING: f64 = 0.2;
/// A damping above this ends the search: steps are too small to matter.
const LAST_DAMPING: f64 = 1e10;
/// Added to each diagonal, so that what nothing depends on stays where it is.
const FLOOR: f64 = 1e-9;

/// Where a point was seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// Index of the view.
    pub view: usize,
    /// Pixels; centers of pixels lie at half numbers.
    pub pixel: Vector2<f64>,
}

/// A point of the scene and where it was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    /// World space, scene units.
    pub position: Point3<f64>,
    /// At most one for each view, in the order of the views.
    pub observations: Vec<Observation>,
}

/// The cameras of all views.
#[derive(Debug, Clone, PartialEq)]
pub struct Cameras {
    /// camera_from_world of each view.
    pub poses: Vec<Pose>,
    /// Lenses, each of one or several views.
    pub lenses: Vec<Lens>,
    /// The lens of each view, as an index.
    pub lens_of: Vec<usize>,
}

/// What is known of focal lengths beforehand. It matters where the observations leave them open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FocalPrior {
    /// The focal length along x, pixels.
    pub focal: f64,
    /// Standard deviation of its logarithm: 0.1 for what is known to a tenth.
    pub sigma: f64,
    /// Scale of Cauchy's loss for its logarithm: what differs from it by far more hardly counts. Infinite for the square.
    pub loss: f64,
}

/// What is adjusted, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BundleOptions<'a> {
    /// Scale of Cauchy's loss, pixels: errors far above it hardly count.
    pub loss_px: f64,
    /// Adjusts the focal length of each lens; the ratio of its two focal lengths and the principal point stay.
    pub focal: bool,
    /// What is known of the focal length of each lens; empty for nothing. Each counts as much as all observations of the lens
    /// that are off by `loss_px` together.
    pub focal_priors: &'a [FocalPrior],
    /// Adjusts the radial distortion of each lens.
    pub k1: bool,
    /// Maximum number of steps.
    pub steps: usize,
    /// Ends when a step lowers the sum of the losses by less than this part of it.
    pub least_gain: f64,
}

impl Cameras {
    /// Returns the lens of a view.
    pub fn lens(&self, view: usize) -> &Lens {
        &self.lenses[self.lens_of[view]]
    }

    /// Returns where a view sees a point of the world; `None` when it is not in front of it.
    pub fn project(&self, view: usize, point: &Point3<f64>) -> Option<Vector2<f64>> {
        self.lens(view).project(&(self.poses[view] * point))
    }

    /// Returns the distance between an observation and the point's projection, pixels; infinite behind the camera.
    pub fn error(&self, point: &Point3<f64>, seen: &Observation) -> f64 {
        let projected = self.project(seen.view, point);
        projected.map_or(f64::INFINITY, |pixel| (pixel - seen.pixel).norm())
    }
}

/// Moves cameras and points until no step makes the sum of the losses smaller; returns the number of steps that did.
///
/// Views without observations stay where they are.
pub fn adjust(cameras: &mut Cameras, tracks: &mut [Track], options: &BundleOptions<'_>) -> usize {
    let layout = Layout::new(cameras, tracks, options);
    let total_cost = |cameras: &Cameras, tracks: &[Track]| {
        cost_of_tracks(cameras, tracks, options.loss_px) + layout.cost_of_priors(cameras)
    };
    let mut cost = total_cost(cameras, tracks);
    let (mut damping, mut growth, mut taken) = (FIRST_DAMPING, 2.0, 0);
    let mut equations = Equations::new(cameras, tracks, &layout, options);
    for step in 1..=options.steps {
        let tried = equations.solve(damping).map(|solution| {
            let cameras = layout.moved(cameras, &solution.cameras);
            let mut points = tracks.to_vec();
            for (track, by) in points.iter_mut().zip(&solution.points) {
                track.position += by;
            }
            (total_cost(&cameras, &points), cameras, points)
        });
        let Some((next, moved, points)) = tried.filter(|(next, ..)| *next < cost) else {
            damping *= growth;
            growth *= 2.0;
            if damping > LAST_DAMPING {
                break;
            }
            continue;
        };
        let gain = (cost - next) / cost;
        *cameras = moved;
        tracks.clone_from_slice(&points);
        (cost, growth) = (next, 2.0);
        damping *= CALMING;
        taken += 1;
        if gain < options.least_gain || step == options.steps {
            break;
        }
        equations = Equations::new(cameras, tracks, &layout, options);
    }
    taken
}

/// Returns the sum of the losses of all observations, pixels squared.
fn cost_of_tracks(cameras: &Cameras, tracks: &[Track], loss_px: f64) -> f64 {
    let square = loss_px * loss_px;
    let of_track = |track: &Track| -> f64 {
        let errors = track.observations.iter();
        let errors = errors.map(|seen| cameras.error(&track.position, seen).min(BEHIND_PX));
        errors
            .map(|error| square * (error * error / square).ln_1p())
            .sum()
    };
    let parts = tracks.par_chunks(tracks.len().div_ceil(PARTS).max(1));
    let sums: Vec<f64> = parts.map(|part| part.iter().map(of_track).sum()).collect();
    sums.iter().sum()
}

/// Where the parameters of each view and lens stand in the vector of all.
struct Layout {
    /// Six for each view that is seen by some point: turn and shift of the camera's axes.
    poses: Vec<Option<usize>>,
    /// Two for each lens: logarithm of the focal length, and k1.
    lenses: Vec<Option<usize>>,
    size: usize,
    /// What is known of the focal length of each lens.
    priors: Vec<WeighedPrior>,
}

impl Layout {
    fn new(cameras: &Cameras, tracks: &[Track], options: &BundleOptions<'_>) -> Self {
        let mut used = vec![false; cameras.poses.len()];
        for seen in tracks.iter().flat_map(|track| &track.observations) {
            used[seen.view] = true;
        }
        let mut layout = Self {
            poses: vec![None; cameras.poses.len()],
            lenses: vec![None; cameras.lenses.len()],
            size: 0,
            priors: priors(cameras, tracks, options),
        };
        let views = (0..used.len()).filter(|view| used[*view]);
        // A lens stands behind the last view that has it: beside it if that is the only one, at the end if it is shared by all.
        let last: Vec<_> = (0..cameras.lenses.len())
            .map(|lens| views.clone().rfind(|view| cameras.lens_of[*view] == lens))
            .collect();
        let mut places = Places::default();
        for view in views.clone() {
            layout.poses[view] = Some(places.next(6));
            let lens = cameras.lens_of[view];
            if last[lens] == Some(view) && (options.focal || options.k1) {
                layout.lenses[lens] = Some(places.next(2));
            }
        }
        layout.size = places.rows();
        layout
    }

    /// Returns the sum of what the priors of focal lengths cost, pixels squared.
    fn cost_of_priors(&self, cameras: &Cameras) -> f64 {
        let lenses = cameras.lenses.iter().zip(&self.priors);
        lenses.map(|(lens, prior)| prior.cost(lens.focal[0])).sum()
    }

    /// Returns the cameras after a step.
    fn moved(&self, cameras: &Cameras, step: &DVector<f64>) -> Cameras {
        let mut moved = cameras.clone();
        for (pose, at) in moved.poses.iter_mut().zip(&self.poses) {
            let Some(at) = *at else { continue };
            let turn = Vector3::new(step[at], step[at + 1], step[at + 2]);
            let shift = Vector3::new(step[at + 3], step[at + 4], step[at + 5]);
            let turn = UnitQuaternion::from_scaled_axis(turn);
            let shift = turn * pose.translation.vector + shift;
            // Rounding accumulates over the steps.
            let rotation = UnitQuaternion::new_normalize(*(turn * pose.rotation).quaternion());
            *pose = Pose::from_parts(shift.into(), rotation);
        }
        for (lens, at) in moved.lenses.iter_mut().zip(&self.lenses) {
            let Some(at) = *at else { continue };
            lens.focal = lens.focal.map(|focal| focal * step[at].exp());
            lens.k1 += step[at + 1];
        }
        moved
    }
}

/// What is known of a focal length, weighed.
struct WeighedPrior {
    focal: f64,
    /// Pixels squared.
    weight: f64,
    /// Scale of Cauchy's loss.
    loss: f64,
}

impl WeighedPrior {
    /// Pixels squared.
    fn cost(&self, focal: f64) -> f64 {
        let off = (focal / self.focal).ln();
        match self.loss.is_finite() {
            true => self.weight * self.loss.powi(2) * (off / self.loss).powi(2).ln_1p(),
            false => self.weight * off.powi(2),
        }
    }

    /// Returns what the square of the logarithm weighs at this focal length, and by how much the logarithm is off.
    fn at(&self, focal: f64) -> (f64, f64) {
        let off = (focal / self.focal).ln();
        (self.weight / (1.0 + (off / self.loss).powi(2)), off)
    }
}

/// Returns the prior of each lens.
fn priors(cameras: &Cameras, tracks: &[Track], options: &BundleOptions<'_>) -> Vec<WeighedPrior> {
    let mut counts = vec![0.0; cameras.lenses.len()];
    for seen in tracks.iter().flat_map(|track| &track.observations) {
        counts[cameras.lens_of[seen.view]] += 1.0;
    }
    let prior = |(prior, count): (&FocalPrior, f64)| WeighedPrior {
        focal: prior.focal,
        weight: count * (options.loss_px / prior.sigma).powi(2),
        loss: prior.loss,
    };
    options.focal_priors.iter().zip(counts).map(prior).collect()
}

/// What one point says: its own block, and those that it shares with cameras.
struct PointEquations {
    own: Matrix3<f64>,
    right: Vector3<f64>,
    poses: Vec<(usize, Matrix6x3<f64>)>,
    lenses: Vec<(usize, SMatrix<f64, 2, 3>)>,
}

/// The normal equations at one state of cameras and points.
struct Equations {
    cameras: Tiled,
    right: DVector<f64>,
    points: Vec<PointEquations>,
}

/// How far everything moves.
struct Solution {
    cameras: DVector<f64>,
    points: Vec<Vector3<f64>>,
}

impl Equations {
    fn new(
        cameras: &Cameras,
        tracks: &[Track],
        layout: &Layout,
        options: &BundleOptions<'_>,
    ) -> Self {
        let parts = tracks.par_chunks(tracks.len().div_ceil(PARTS).max(1));
        let parts: Vec<Self> = parts
            .map(|tracks| {
                let mut part = Self {
                    cameras: Tiled::zeros(layout.size),
                    right: DVector::zeros(layout.size),
                    points: Vec::with_capacity(tracks.len()),
                };
                for track in tracks {
                    part.add(cameras, track, layout, options);
                }
                part
            })
            .collect();
        let mut all = Self {
            cameras: Tiled::zeros(layout.size),
            right: DVector::zeros(layout.size),
            points: Vec::with_capacity(tracks.len()),
        };
        for part in parts {
            all.cameras.add_all(&part.cameras);
            all.right += part.right;
            all.points.extend(part.points);
        }
        for (lens, prior) in layout.priors.iter().enumerate() {
            if let Some(at) = layout.lenses[lens].filter(|_| options.focal) {
                let (weight, off) = prior.at(cameras.lenses[lens].focal[0]);
                all.cameras
                    .add((at, at), &SMatrix::<f64, 1, 1>::new(weight));
                all.right[at] -= weight * off;
            }
        }
        all
    }

    fn add(
        &mut self,
        cameras: &Cameras,
        track: &Track,
        layout: &Layout,
        options: &BundleOptions<'_>,
    ) {
        let mut point = PointEquations {
            own: Matrix3::zeros(),
            right: Vector3::zeros(),
            poses: Vec::with_capacity(track.observations.len()),
            lenses: Vec::new(),
        };
        for seen in &track.observations {
            let pose = &cameras.poses[seen.view];
            let inside = pose * track.position;
            let (Some(seen_at), Some(at)) = (
                cameras.lens(seen.view).projection(&inside),
                layout.poses[seen.view],
            ) else {
                continue;
            };
            let residual = seen_at.pixel - seen.pixel;
            // Cauchy's weight.
            let weight =
                1.0 / (1.0 + residual.norm_squared() / (options.loss_px * options.loss_px));
            let by_point: Matrix2x3<f64> =
                seen_at.by_point * pose.rotation.to_rotation_matrix().matrix();
            let mut by_pose = Matrix2x6::zeros();
            by_pose
                .fixed_columns_mut::<3>(0)
                .copy_from(&(-seen_at.by_point * inside.coords.cross_matrix()));
            by_pose
                .fixed_columns_mut::<3>(3)
                .copy_from(&seen_at.by_point);
            let weighted = by_pose.transpose() * weight;
            self.cameras.add((at, at), &(weighted * by_pose));
            let mut right = self.right.fixed_rows_mut::<6>(at);
            right -= weighted * residual;
            point.poses.push((at, weighted * by_point));
            point.own += by_point.transpose() * by_point * weight;
            point.right -= by_point.transpose() * residual * weight;

            let lens = cameras.lens_of[seen.view];
            let Some(lens_at) = layout.lenses[lens] else {
                continue;
            };
            let mut by_lens = seen_at.by_lens;
            if !options.focal {
                by_lens.fill_column(0, 0.0);
            }
            if !options.k1 {
                by_lens.fill_column(1, 0.0);
            }
            let weighted_lens = by_lens.transpose() * weight;
            self.cameras
                .add((lens_at, lens_at), &(weighted_lens * by_lens));
            self.cameras.add((at, lens_at), &(weighted * by_lens));
            let mut right = self.right.fixed_rows_mut::<2>(lens_at);
            right -= weighted_lens * residual;
            let shared = weighted_lens * by_point;
            match point.lenses.iter_mut().find(|(place, _)| *place == lens_at) {
                Some((_, block)) => *block += shared,
                None => point.lenses.push((lens_at, shared)),
            }
        }
        self.points.push(point);
    }

    /// Returns the damped step; `None` where there is none.
    fn solve(&self, damping: f64) -> Option<Solution> {
        let inverses: Vec<Matrix3<f64>> = self.points.iter().map(|p| p.inverse(damping)).collect();
        let numbers: Vec<usize> = (0..self.points.len()).collect();
        let parts = numbers.par_chunks(numbers.len().div_ceil(PARTS).max(1));
        let parts: Vec<_> = parts
            .map(|numbers| {
                let mut matrix = Tiled::zeros(self.right.len());
                let mut right = DVector::zeros(self.right.len());
                for &n in numbers {
                    self.points[n].eliminate(&inverses[n], &mut matrix, &mut right);
                }
                (matrix, right)
            })
            .collect();
        let (mut matrix, mut right) = (self.cameras.clone(), self.right.clone());
        matrix.on_diagonal(|x| *x += damping * *x + FLOOR);
        for (part, of_part) in &parts {
            matrix.add_all(part);
            right += of_part;
        }
        let cameras = matrix.solve(&right)?;
        let points = self.points.iter().zip(&inverses);
        let points = points
            .map(|(point, inverse)| point.step(inverse, &cameras))
            .collect();
        Some(Solution { cameras, points })
    }
}

impl PointEquations {
    /// The inverse of the damped own block. Of a point that nothing says anything of, zero: it stays.
    fn inverse(&self, damping: f64) -> Matrix3<f64> {
        let diagonal = self.own.diagonal() * damping + Vector3::repeat(FLOOR);
        let damped = self.own + Matrix3::from_diagonal(&diagonal);
        damped.try_inverse().unwrap_or_else(Matrix3::zeros)
    }

    /// Subtracts what the point takes from the cameras' equations when it is eliminated.
    fn eliminate(&self, inverse: &Matrix3<f64>, matrix: &mut Tiled, right: &mut DVector<f64>) {
        for (n, (at, block)) in self.poses.iter().enumerate() {
            let solved = block * inverse;
            let mut of_pose = right.fixed_rows_mut::<6>(*at);
            of_pose -= solved * self.right;
            // In the order of the views, so that these are below the diagonal.
            for (other, of_other) in &self.poses[..=n] {
                matrix.add((*at, *other), &-(solved * of_other.transpose()));
            }
            for (other, of_other) in &self.lenses {
                matrix.add((*at, *other), &-(solved * of_other.transpose()));
            }
        }
        for (n, (at, block)) in self.lenses.iter().enumerate() {
            let solved = block * inverse;
            let mut of_lens = right.fixed_rows_mut::<2>(*at);
            of_lens -= solved * self.right;
            for (other, of_other) in &self.lenses[..=n] {
                matrix.add((*at, *other), &-(solved * of_other.transpose()));
            }
        }
    }

    /// Returns how far the point moves when the cameras move so.
    fn step(&self, inverse: &Matrix3<f64>, cameras: &DVector<f64>) -> Vector3<f64> {
        let mut right = self.right;
        for (at, block) in &self.poses {
            right -= block.transpose() * Vector6::from(cameras.fixed_rows::<6>(*at));
        }
        for (at, block) in &self.lenses {
            right -= block.transpose() * Vector2::from(cameras.fixed_rows::<2>(*at));
        }
        inverse * right
    }
}
