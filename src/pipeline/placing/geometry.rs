//! Poses and similarities between this crate's matrices and nalgebra's.

use nalgebra::{Quaternion, Similarity3, Translation3, UnitQuaternion};
use vggt_refine::Pose;

use crate::scene::{Affine, quaternion};

/// Returns the rotation and translation of a map that is one but for rounding.
pub(super) fn pose(map: &Affine) -> Pose {
    let [w, x, y, z] = quaternion(map);
    let rotation = UnitQuaternion::from_quaternion(Quaternion::new(w, x, y, z));
    let [tx, ty, tz] = map.0.map(|row| row[3]);
    Pose::from_parts(Translation3::new(tx, ty, tz), rotation)
}

/// Returns a pose as a matrix.
pub(super) fn affine(pose: &Pose) -> Affine {
    let (m, t) = (pose.rotation.to_rotation_matrix(), pose.translation.vector);
    Affine([0, 1, 2].map(|r| [m[(r, 0)], m[(r, 1)], m[(r, 2)], t[r]]))
}

/// Returns a similarity as a matrix.
pub(super) fn affine_of_similarity(similarity: &Similarity3<f64>) -> Affine {
    let (m, t) = (
        similarity.isometry.rotation.to_rotation_matrix(),
        similarity.isometry.translation.vector,
    );
    let s = similarity.scaling();
    Affine([0, 1, 2].map(|r| [s * m[(r, 0)], s * m[(r, 1)], s * m[(r, 2)], t[r]]))
}

/// Returns the camera in the world that `similarity` leads to.
pub(super) fn similar(similarity: &Similarity3<f64>, camera: &Pose) -> Pose {
    // camera_from_new scaled = s · camera_from_old · old_from_new.
    let rotation = camera.rotation * similarity.isometry.rotation.inverse();
    let moved = rotation * similarity.isometry.translation.vector;
    let shift = camera.translation.vector * similarity.scaling() - moved;
    Pose::from_parts(Translation3::from(shift), rotation)
}

/// Returns where a camera stands.
pub(super) fn center(pose: &Pose) -> [f64; 3] {
    vggt_refine::camera::center(pose).coords.into()
}

/// Returns the middle value, the lower one of two; `None` of none.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    let middle = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use nalgebra::{Point3, Vector3};

    use super::*;

    #[test]
    fn a_camera_in_another_world_sees_the_moved_points_as_before() {
        /// Rounding of some dozen f64 operations on numbers near 10.
        const TOLERANCE: f64 = 1e-12;
        let camera = Pose::new(Vector3::new(0.3, -1.0, 2.0), Vector3::new(0.5, 0.1, -0.7));
        let (turn, shift) = (Vector3::new(-0.2, 1.0, 0.4), Vector3::new(3.0, 1.0, -2.0));
        let similarity = Similarity3::new(shift, turn, 2.5);
        let point = Point3::new(0.2, 0.9, -1.4);
        let seen = camera * point;
        let again = similar(&similarity, &camera) * (similarity * point);
        assert!((again - seen * 2.5).norm() < TOLERANCE);
        let moved = affine_of_similarity(&similarity).apply(point.coords.into());
        assert!((Vector3::from(moved) - (similarity * point).coords).norm() < TOLERANCE);
        let there_and_back = pose(&affine(&camera));
        assert!((there_and_back * point - seen).norm() < TOLERANCE);
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0, 1.0, 2.0, 9.0]), Some(2.0));
    }
}
