//! Robust alignment of two sets of cameras: rotation, translation and scale.

use nalgebra::{Matrix3, Point3, Rotation3, Similarity3, UnitQuaternion, Vector3};

use crate::camera::{Pose, center};

/// Samples that are tried as a start. With 30 % outliers one of ten triples is good, so that none of 500 is good in 1 of 10^70 cases.
const SAMPLES: usize = 500;
/// Rounds of choosing inliers and fitting them. The choice settles within a few.
const ROUNDS: usize = 20;
/// An inlier is off by at most this many times the median distance: 99 % of points with normal errors along three axes are nearer
/// than 2.2 times theirs, and outliers make the median larger.
const CUTOFF: f64 = 3.0;
/// Distances below this part of the extent are rounding, not errors.
const ROUNDING: f64 = 1e-9;
/// Points are taken for a line when their second direction is this much shorter than the first.
const LINE: f64 = 1e-3;

/// An alignment, and how well the cameras or points agree with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Alignment {
    /// target_from_source.
    pub similarity: Similarity3<f64>,
    /// Distance of each position from its target after the alignment, target units.
    pub distances: Vec<f64>,
    /// Which ones the alignment rests on; the others are off by far more than these.
    pub inliers: Vec<bool>,
}

/// Why there is no alignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AlignError {
    /// A scale needs two cameras, and a rotation without axes three points.
    #[error("cannot align {found} positions: at least {needed} are needed")]
    TooFew {
        /// How many there are.
        found: usize,
        /// How many there must be.
        needed: usize,
    },
    /// All positions of a set are the same, so that lengths cannot be compared.
    #[error("cannot align positions that are all the same: their distances give no scale")]
    NoBaseline,
    /// Points on a line leave the turn about it open.
    #[error("cannot align points on a line: the turn about it stays open")]
    Line,
    /// A number that is not finite.
    #[error("cannot align cameras: a pose or position holds NaN or infinity")]
    NotFinite,
}

/// Returns the similarity that brings the cameras of `source` closest to those of `target`, one for each, whatever up to 40 % of
/// them say.
///
/// # Errors
/// When there are fewer than two cameras, they all stand in one place, or a pose is not finite.
pub fn align(source: &[Pose], target: &[Pose]) -> Result<Alignment, AlignError> {
    let from: Vec<_> = source.iter().map(center).collect();
    let to: Vec<_> = target.iter().map(center).collect();
    check(&from, &to, 2)?;
    // target_from_source, as each camera has it.
    let pairs = source.iter().zip(target);
    let rotations: Vec<_> = pairs
        .map(|(source, target)| target.rotation.inverse() * source.rotation)
        .collect();
    if rotations.iter().any(|r| !r.coords.norm().is_finite()) {
        return Err(AlignError::NotFinite);
    }
    let start = median_rotation(&rotations);
    let sampled =
        |[i, j, _]: [usize; 3]| with_rotation(start, &[from[i], from[j]], &[to[i], to[j]]);
    let fitted = |inliers: &[bool]| {
        let (from, to) = (chosen(&from, inliers), chosen(&to, inliers));
        // Each camera says where its axes lead as well, so that cameras along a line have a rotation about it. The axes are as
        // long as the path is wide: a turn then weighs as much as the shift that it looks like.
        let ends = |poses: &[Pose], centers: &[Point3<f64>]| {
            let length = spread(centers);
            let mut ends = centers.to_vec();
            for (pose, at) in chosen(poses, inliers).iter().zip(centers) {
                let axes = [Vector3::x_axis(), Vector3::y_axis(), Vector3::z_axis()];
                let back = pose.rotation.inverse();
                ends.extend(axes.map(|axis| at + back * axis.into_inner() * length));
            }
            ends
        };
        let rotation = rotation_between(&ends(source, &from), &ends(target, &to))?;
        with_rotation(rotation, &from, &to)
    };
    robust(&from, &to, &sampled, &fitted).ok_or(AlignError::NoBaseline)
}

/// Returns the similarity that brings the points of `source` closest to those of `target`, one for each, whatever up to 40 % of
/// them say.
///
/// # Errors
/// When there are fewer than three points, they are all the same or on a line, or one is not finite.
pub fn align_points(
    source: &[Point3<f64>],
    target: &[Point3<f64>],
) -> Result<Alignment, AlignError> {
    check(source, target, 3)?;
    let fit = |from: &[Point3<f64>], to: &[Point3<f64>]| {
        if is_line(from) || is_line(to) {
            return None;
        }
        with_rotation(rotation_between(from, to)?, from, to)
    };
    let sampled = |at: [usize; 3]| fit(&at.map(|i| source[i]), &at.map(|i| target[i]));
    let fitted = |inliers: &[bool]| fit(&chosen(source, inliers), &chosen(target, inliers));
    robust(source, target, &sampled, &fitted).ok_or(AlignError::Line)
}

/// Returns how the world moved around some cameras: the turn in the middle of theirs, the change of their spread as the scale, and
/// the move of the first one exactly. What stands beside them and was not moved itself follows them.
pub(crate) fn follow(source: &[Pose], target: &[Pose]) -> Similarity3<f64> {
    let pairs = source.iter().zip(target);
    let turns: Vec<_> = pairs
        .map(|(from, to)| to.rotation.inverse() * from.rotation)
        .collect();
    let (Some(first), Some(to)) = (source.first(), target.first()) else {
        return Similarity3::identity();
    };
    let rotation = median_rotation(&turns);
    let centers = |poses: &[Pose]| poses.iter().map(center).collect::<Vec<_>>();
    let scale = spread(&centers(target)) / spread(&centers(source));
    let scale = if scale.is_finite() && scale > 0.0 {
        scale
    } else {
        1.0
    };
    let shift = center(to).coords - rotation * center(first).coords * scale;
    Similarity3::from_parts(shift.into(), rotation, scale)
}

/// Checks what both alignments need.
fn check(from: &[Point3<f64>], to: &[Point3<f64>], needed: usize) -> Result<(), AlignError> {
    let found = from.len().min(to.len());
    if found < needed || from.len() != to.len() {
        return Err(AlignError::TooFew { found, needed });
    }
    let coordinates = from.iter().chain(to).flat_map(|point| point.iter());
    if !coordinates.into_iter().all(|x| x.is_finite()) {
        return Err(AlignError::NotFinite);
    }
    let flat = |points: &[Point3<f64>]| {
        let largest = points.iter().map(|p| p.coords.amax()).fold(0.0, f64::max);
        spread(points) <= ROUNDING * largest
    };
    match flat(from) || flat(to) {
        true => Err(AlignError::NoBaseline),
        false => Ok(()),
    }
}

/// Fits inliers, from the sample whose median distance is the smallest.
fn robust(
    from: &[Point3<f64>],
    to: &[Point3<f64>],
    sampled: &dyn Fn([usize; 3]) -> Option<Similarity3<f64>>,
    fitted: &dyn Fn(&[bool]) -> Option<Similarity3<f64>>,
) -> Option<Alignment> {
    let distances = |similarity: &Similarity3<f64>| -> Vec<f64> {
        let pairs = from.iter().zip(to);
        pairs.map(|(a, b)| (similarity * a - b).norm()).collect()
    };
    let samples = (0..SAMPLES).filter_map(|n| sampled(triple(n, from.len())));
    let scored = samples.map(|similarity| (median(&distances(&similarity)), similarity));
    let (_, mut similarity) = scored.min_by(|a, b| a.0.total_cmp(&b.0))?;
    let rounding = ROUNDING * spread(to);
    let inliers_of = |distances: &[f64]| -> Vec<bool> {
        let limit = CUTOFF * median(distances) + rounding;
        distances.iter().map(|d| *d <= limit).collect()
    };
    let mut inliers = inliers_of(&distances(&similarity));
    for _ in 0..ROUNDS {
        similarity = fitted(&inliers).unwrap_or(similarity);
        let next = inliers_of(&distances(&similarity));
        if next == inliers {
            break;
        }
        inliers = next;
    }
    Some(Alignment {
        distances: distances(&similarity),
        similarity,
        inliers,
    })
}

/// Returns three different numbers below `count`, or two and a repetition; the same for the same `sample`.
fn triple(sample: usize, count: usize) -> [usize; 3] {
    // Steps that share no factor with most counts spread over all pairs.
    let first = sample % count;
    let step = |by: usize| 1 + (sample / count + by * sample) % (count - 1);
    let second = (first + step(7)) % count;
    let third = (0..count)
        .map(|k| (second + step(3) + k) % count)
        .find(|third| ![first, second].contains(third));
    [first, second, third.unwrap_or(first)]
}

fn chosen<T: Clone>(all: &[T], inliers: &[bool]) -> Vec<T> {
    let both = all.iter().zip(inliers);
    both.filter(|(_, inlier)| **inlier)
        .map(|(item, _)| item.clone())
        .collect()
}

fn centroid(points: &[Point3<f64>]) -> Vector3<f64> {
    points.iter().map(|p| p.coords).sum::<Vector3<f64>>() / points.len() as f64
}

/// Returns the root of the mean square distance from the centroid.
fn spread(points: &[Point3<f64>]) -> f64 {
    let middle = centroid(points);
    let squares = points.iter().map(|p| (p.coords - middle).norm_squared());
    (squares.sum::<f64>() / points.len() as f64).sqrt()
}

/// Returns true when the points lie on a line, or in one place.
fn is_line(points: &[Point3<f64>]) -> bool {
    let middle = centroid(points);
    let moment = |p: &Point3<f64>| (p.coords - middle) * (p.coords - middle).transpose();
    let moments: Matrix3<f64> = points.iter().map(moment).sum();
    let mut values: [f64; 3] = moments.symmetric_eigenvalues().into();
    values.sort_by(f64::total_cmp);
    // Squares of lengths.
    values[1] <= LINE * LINE * values[2]
}

/// Returns the rotation that brings points closest to others, about their centroids.
///
/// Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991.
fn rotation_between(from: &[Point3<f64>], to: &[Point3<f64>]) -> Option<UnitQuaternion<f64>> {
    let (middle, target) = (centroid(from), centroid(to));
    let both = from.iter().zip(to);
    let pairs = both.map(|(a, b)| (a.coords - middle, b.coords - target));
    rotation_about_origin(&pairs.collect::<Vec<_>>())
}

/// Returns the rotation that brings the first vector of each pair closest to the second.
pub(crate) fn rotation_about_origin(
    pairs: &[(Vector3<f64>, Vector3<f64>)],
) -> Option<UnitQuaternion<f64>> {
    let covariance: Matrix3<f64> = pairs.iter().map(|(a, b)| b * a.transpose()).sum();
    let svd = covariance.svd(true, true);
    let (u, v_t) = (svd.u?, svd.v_t?);
    let mut signs = Vector3::repeat(1.0);
    if (u * v_t).determinant() < 0.0 {
        // The direction in which the points are thinnest, so that a mirrored fit becomes a rotation.
        signs[svd.singular_values.imin()] = -1.0;
    }
    let rotation = u * Matrix3::from_diagonal(&signs) * v_t;
    let rotation =
        UnitQuaternion::from_rotation_matrix(&Rotation3::from_matrix_unchecked(rotation));
    rotation.coords.norm().is_finite().then_some(rotation)
}

/// Returns the similarity of this rotation that brings points closest to others; `None` where they give no scale.
fn with_rotation(
    rotation: UnitQuaternion<f64>,
    from: &[Point3<f64>],
    to: &[Point3<f64>],
) -> Option<Similarity3<f64>> {
    // The ratio of the spreads and not the least squares: it is the same in both directions, and noise does not shrink it.
    let scale = spread(to) / spread(from);
    if !(scale.is_finite() && scale > 0.0) {
        return None;
    }
    let shift = centroid(to) - rotation * centroid(from) * scale;
    Some(Similarity3::from_parts(shift.into(), rotation, scale))
}

/// Returns the rotation whose summed angles to all others are smallest: an outlier pulls no harder than any other.
///
/// Weiszfeld's algorithm on rotations: Hartley, Aftab and Trumpf, "L1 rotation averaging using the Weiszfeld algorithm", 2011.
fn median_rotation(rotations: &[UnitQuaternion<f64>]) -> UnitQuaternion<f64> {
    /// Angles below this count as this much, radians: a weight is their inverse.
    const SMALLEST: f64 = 1e-6;
    let cost = |middle: &UnitQuaternion<f64>| -> f64 {
        rotations.iter().map(|r| middle.angle_to(r)).sum()
    };
    // With hundreds of cameras some are as good a start as all.
    let starts = rotations.iter().step_by(rotations.len().div_ceil(SAMPLES));
    let best = starts.min_by(|a, b| cost(a).total_cmp(&cost(b)));
    let mut middle = best.copied().unwrap_or_default();
    for _ in 0..ROUNDS {
        let (mut sum, mut weights) = (Vector3::zeros(), 0.0);
        for rotation in rotations {
            let turn = (rotation * middle.inverse()).scaled_axis();
            let weight = 1.0 / turn.norm().max(SMALLEST);
            sum += turn * weight;
            weights += weight;
        }
        middle = UnitQuaternion::from_scaled_axis(sum / weights) * middle;
    }
    middle
}

/// Returns the middle value; the lower one of two.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    let middle = (sorted.len() - 1) / 2;
    *sorted.select_nth_unstable_by(middle, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use nalgebra::Translation3;

    use super::*;

    fn noise(seed: u64) -> f64 {
        // SplitMix64, in [-1, 1).
        let mut z = seed
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .wrapping_add(0x1234_5678_9ABC_DEF1);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) as f64 / 2.0_f64.powi(63) - 1.0
    }

    fn vector(seed: u64) -> Vector3<f64> {
        Vector3::from_fn(|i, _| noise(3 * seed + i as u64))
    }

    fn truth() -> Similarity3<f64> {
        Similarity3::new(
            Vector3::new(3.0, -2.0, 0.5),
            Vector3::new(0.4, -1.1, 2.0),
            2.7,
        )
    }

    /// Cameras on a path of width 1, those that `truth` brings them to with noise, and every third one anywhere.
    fn cameras(count: u64, position_noise: f64, turn_noise: f64) -> (Vec<Pose>, Vec<Pose>) {
        let source = (0..count).map(|i| {
            let turn = UnitQuaternion::from_scaled_axis(vector(i) * 2.0);
            Pose::from_parts(Translation3::from(vector(1000 + i)), turn)
        });
        let source: Vec<Pose> = source.collect();
        let target = source.iter().zip(0..).map(|(pose, i)| {
            let (truth, outlier) = (truth(), i % 10 < 3);
            let scale = if outlier { 1.0 } else { position_noise };
            let angle = if outlier { 1.0 } else { turn_noise };
            let at = truth * center(pose) + vector(2000 + i) * scale * truth.scaling();
            let turn = pose.rotation * truth.isometry.rotation.inverse();
            let turn = UnitQuaternion::from_scaled_axis(vector(3000 + i) * angle) * turn;
            Pose::from_parts((-(turn * at.coords)).into(), turn)
        });
        let target = target.collect();
        (source, target)
    }

    fn check_close(found: &Similarity3<f64>, degrees: f64, part: f64) {
        let truth = truth();
        let angle = found.isometry.rotation.angle_to(&truth.isometry.rotation);
        assert!(
            angle.to_degrees() < degrees,
            "{} degrees",
            angle.to_degrees()
        );
        let scale = found.scaling() / truth.scaling() - 1.0;
        assert!(scale.abs() < part, "scale is off by {scale}");
    }

    #[test]
    fn a_third_of_the_cameras_may_stand_anywhere() {
        // A camera is off by 0.2 % of the path and 0.05 degrees.
        let (source, target) = cameras(50, 0.002, 0.0009);
        let found = align(&source, &target).unwrap();
        check_close(&found.similarity, 0.05, 0.001);
        let right = found
            .inliers
            .iter()
            .enumerate()
            .all(|(i, inlier)| *inlier == (i % 10 >= 3));
        assert!(right, "{:?}", found.inliers);
    }

    #[test]
    fn points_are_aligned_like_cameras() {
        let (source, target) = cameras(50, 0.001, 0.0);
        let centers = |poses: &[Pose]| poses.iter().map(center).collect::<Vec<_>>();
        let found = align_points(&centers(&source), &centers(&target)).unwrap();
        check_close(&found.similarity, 0.05, 0.001);
    }

    #[test]
    fn exact_cameras_are_aligned_exactly_also_two_and_on_a_line() {
        let (source, _) = cameras(5, 0.0, 0.0);
        let on_a_line = |i: usize| {
            let turn = source[i].rotation;
            let at = Vector3::new(i as f64, 0.0, 0.0);
            Pose::from_parts((-(turn * at)).into(), turn)
        };
        let source: Vec<_> = (0..5).map(on_a_line).collect();
        for count in [2, 3, 5] {
            let source = &source[..count];
            let moved = source.iter().map(|pose| {
                let turn = pose.rotation * truth().isometry.rotation.inverse();
                let at = truth() * center(pose);
                Pose::from_parts((-(turn * at.coords)).into(), turn)
            });
            let moved: Vec<_> = moved.collect();
            let found = align(source, &moved).unwrap();
            check_close(&found.similarity, 1e-6, 1e-9);
            assert!(found.inliers.iter().all(|inlier| *inlier));
        }
    }

    #[test]
    fn what_gives_no_scale_or_turn_is_refused() {
        let here = Pose::translation(1.0, 2.0, 3.0);
        let refused = align(&[here; 4], &[here; 4]);
        assert_eq!(refused, Err(AlignError::NoBaseline));
        let refused = align(&[here], &[here]);
        assert_eq!(
            refused,
            Err(AlignError::TooFew {
                found: 1,
                needed: 2
            })
        );
        let broken = Pose::translation(f64::NAN, 0.0, 0.0);
        let refused = align(&[here, broken], &[here, broken]);
        assert_eq!(refused, Err(AlignError::NotFinite));
        let line: Vec<_> = (0..9)
            .map(|i| Point3::new(f64::from(i), 2.0, 1.0))
            .collect();
        assert_eq!(align_points(&line, &line), Err(AlignError::Line));
    }
}
