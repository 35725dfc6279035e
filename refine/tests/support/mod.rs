//! Random numbers that are the same everywhere, cameras on a path, and a room to photograph.

pub(crate) mod photos;

use nalgebra::{Point3, Translation3, UnitQuaternion, Vector3};
use vggt_refine::{Pose, camera::center, similarity::align};

/// Random numbers from SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        hash(self.0)
    }

    /// In [0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / 2.0_f64.powi(53)
    }

    /// Mean 0, standard deviation 1.
    pub(crate) fn normal(&mut self) -> f64 {
        // Box and Muller.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    pub(crate) fn vector(&mut self) -> Vector3<f64> {
        Vector3::from_fn(|_, _| self.normal())
    }
}

pub(crate) fn hash(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Returns the pose of a camera that looks from one point at another, its y axis down.
pub(crate) fn looking(from: [f64; 3], at: [f64; 3]) -> Pose {
    let (eye, at) = (Point3::from(from), Point3::from(at));
    // The world's y axis is down as well.
    let rotation = UnitQuaternion::face_towards(&(at - eye), &Vector3::y()).inverse();
    Pose::from_parts(Translation3::from(-(rotation * eye.coords)), rotation)
}

/// Returns poses that are off by normal errors with these standard deviations: degrees, and units of the world.
pub(crate) fn disturbed(
    poses: &[Pose],
    degrees: f64,
    shift: f64,
    random: &mut Random,
) -> Vec<Pose> {
    let each = poses.iter().map(|pose| {
        let turn = UnitQuaternion::from_scaled_axis(
            random.vector() * degrees.to_radians() / 3.0_f64.sqrt(),
        );
        let rotation = turn * pose.rotation;
        let at = center(pose) + random.vector() * shift / 3.0_f64.sqrt();
        Pose::from_parts(Translation3::from(-(rotation * at.coords)), rotation)
    });
    each.collect()
}

/// Returns the median angle between cameras and the true ones after the two sets were aligned, degrees.
pub(crate) fn median_turn_deg(poses: &[Pose], truth: &[Pose]) -> f64 {
    let turn = align(poses, truth)
        .unwrap()
        .similarity
        .isometry
        .rotation
        .inverse();
    let pairs = poses.iter().zip(truth);
    let turns = pairs.map(|(pose, truth)| {
        (pose.rotation * turn)
            .angle_to(&truth.rotation)
            .to_degrees()
    });
    let mut turns: Vec<f64> = turns.collect();
    turns.sort_by(f64::total_cmp);
    turns[turns.len() / 2]
}
