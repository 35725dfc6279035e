//! Poses and lenses: where a point of the world appears in a photo.

use nalgebra::{
    Isometry3, Matrix2, Matrix2x3, Point3, Quaternion, Similarity3, UnitQuaternion, Vector2,
    Vector3,
};

/// Where a camera stands: camera_from_world with OpenCV axes (x right, y down, z forward).
pub type Pose = Isometry3<f64>;

/// Points nearer than this in front of a camera have no image, scene units: division by their depth would not be finite.
const NEAREST: f64 = 1e-9;
/// Steps of the inversion of the distortion. Each gains two to three digits at |k1 r^2| < 0.1.
const UNDISTORT_STEPS: usize = 20;

/// Returns the pose of a rotation as a unit quaternion (w, x, y, z) and a translation.
pub fn pose_of([w, x, y, z]: [f64; 4], translation: [f64; 3]) -> Pose {
    let rotation = UnitQuaternion::from_quaternion(Quaternion::new(w, x, y, z));
    Pose::from_parts(translation.into(), rotation)
}

/// Returns a pose as the upper three rows of its matrix.
pub fn matrix_of(pose: &Pose) -> [[f64; 4]; 3] {
    let rotation = pose.rotation.to_rotation_matrix();
    [0, 1, 2].map(|row| {
        let r = rotation.matrix().row(row);
        [r[0], r[1], r[2], pose.translation.vector[row]]
    })
}

/// Returns where a camera stands in the world.
pub fn center(pose: &Pose) -> Point3<f64> {
    pose.inverse_transform_point(&Point3::origin())
}

/// Returns the pose of a camera after the world was moved by a similarity: it sees the moved points where it saw them before.
pub fn in_world(pose: &Pose, similarity: &Similarity3<f64>) -> Pose {
    let rotation = pose.rotation * similarity.isometry.rotation.inverse();
    let shift = pose.translation.vector * similarity.scaling()
        - rotation * similarity.isometry.translation.vector;
    Pose::from_parts(shift.into(), rotation)
}

/// A pinhole with one coefficient of radial distortion: COLMAP's SIMPLE_RADIAL with two focal lengths.
///
/// A point (x, y, 1) of the camera's axes appears at `focal * (x, y) * (1 + k1 (x^2 + y^2)) + principal`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lens {
    /// Focal length along x and y, pixels.
    pub focal: [f64; 2],
    /// Principal point, pixels; centers of pixels lie at half numbers.
    pub principal: [f64; 2],
    /// First coefficient of radial distortion; 0 for none.
    pub k1: f64,
}

/// Where a point appears, and how that changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Projection {
    pub(crate) pixel: Vector2<f64>,
    /// With the point in the camera's axes.
    pub(crate) by_point: Matrix2x3<f64>,
    /// With the logarithm of the focal length, and with k1.
    pub(crate) by_lens: Matrix2<f64>,
}

impl Lens {
    /// Returns the pixel in which a point in the camera's axes appears; `None` for one that is not in front of it.
    pub fn project(&self, point: &Point3<f64>) -> Option<Vector2<f64>> {
        if point.z < NEAREST {
            return None;
        }
        let (x, y) = (point.x / point.z, point.y / point.z);
        let radial = 1.0 + self.k1 * (x * x + y * y);
        Some(Vector2::new(
            self.focal[0] * x * radial + self.principal[0],
            self.focal[1] * y * radial + self.principal[1],
        ))
    }

    /// Returns the direction in the camera's axes in which a pixel looks, with z = 1.
    ///
    /// Where strong barrel distortion folds the image back, no direction appears in the pixel; the nearest one is returned.
    pub fn ray(&self, pixel: &Vector2<f64>) -> Vector3<f64> {
        let x = (pixel.x - self.principal[0]) / self.focal[0];
        let y = (pixel.y - self.principal[1]) / self.focal[1];
        let distorted = x.hypot(y);
        // Newton's method on r (1 + k1 r^2) = distorted, kept where the function rises.
        let mut r = distorted;
        for _ in 0..UNDISTORT_STEPS {
            let slope = (1.0 + 3.0 * self.k1 * r * r).max(0.1);
            r -= (r * (1.0 + self.k1 * r * r) - distorted) / slope;
        }
        let shrink = match distorted > 0.0 && r.is_finite() {
            true => r / distorted,
            false => 1.0,
        };
        Vector3::new(x * shrink, y * shrink, 1.0)
    }

    /// Returns [`Lens::project`] with its derivatives.
    pub(crate) fn projection(&self, point: &Point3<f64>) -> Option<Projection> {
        let pixel = self.project(point)?;
        let [fx, fy] = self.focal;
        let inverse = 1.0 / point.z;
        let (x, y) = (point.x * inverse, point.y * inverse);
        let square = x * x + y * y;
        let (radial, k) = (1.0 + self.k1 * square, 2.0 * self.k1);
        // By x and y on the plane z = 1.
        let (xx, xy, yy) = (radial + k * x * x, k * x * y, radial + k * y * y);
        let by_point = Matrix2x3::new(
            fx * xx * inverse,
            fx * xy * inverse,
            -fx * (xx * x + xy * y) * inverse,
            fy * xy * inverse,
            fy * yy * inverse,
            -fy * (xy * x + yy * y) * inverse,
        );
        let by_lens = Matrix2::new(
            pixel.x - self.principal[0],
            fx * x * square,
            pixel.y - self.principal[1],
            fy * y * square,
        );
        Some(Projection {
            pixel,
            by_point,
            by_lens,
        })
    }

    /// Returns the lens of the same photo at another size: `scale` pixels of that for each of this.
    #[must_use]
    pub fn scaled(&self, scale: [f64; 2]) -> Self {
        let times = |pair: [f64; 2]| [pair[0] * scale[0], pair[1] * scale[1]];
        Self {
            focal: times(self.focal),
            principal: times(self.principal),
            k1: self.k1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENS: Lens = Lens {
        focal: [800.0, 820.0],
        principal: [511.0, 380.0],
        k1: -0.1,
    };

    #[test]
    fn a_ray_leads_to_the_pixel_that_it_came_from() {
        for k1 in [-0.1, 0.0, 0.2] {
            let lens = Lens { k1, ..LENS };
            for pixel in [[0.0, 0.0], [511.0, 380.0], [900.5, 20.25]].map(Vector2::from) {
                let back = lens.project(&Point3::from(lens.ray(&pixel) * 3.0)).unwrap();
                assert!((back - pixel).norm() < 1e-9, "k1 {k1}: {pixel} -> {back}");
            }
        }
    }

    #[test]
    fn a_camera_sees_the_moved_world_as_it_saw_it_before() {
        let pose = Pose::new(Vector3::new(1.0, 2.0, 3.0), Vector3::new(0.3, -0.2, 0.1));
        let world = Similarity3::new(
            Vector3::new(-4.0, 0.5, 2.0),
            Vector3::new(1.0, 0.2, -0.4),
            3.0,
        );
        let point = Point3::new(0.2, -0.7, 5.0);
        let moved = in_world(&pose, &world) * (world * point);
        assert!((moved.coords - (pose * point).coords * 3.0).norm() < 1e-12);
    }

    #[test]
    fn points_behind_a_camera_have_no_image() {
        for z in [-1.0, 0.0, f64::NAN] {
            let seen = LENS.project(&Point3::new(0.1, 0.2, z));
            assert!(seen.is_none_or(|pixel| !pixel.x.is_finite()), "{z}");
        }
    }

    #[test]
    fn derivatives_are_those_of_small_differences() {
        /// Central differences of f64 at this step are good for eight digits of numbers near 1000.
        const TOLERANCE: f64 = 1e-4;
        const STEP: f64 = 1e-6;
        let at = Point3::new(0.3, -0.4, 1.7);
        let found = LENS.projection(&at).unwrap();
        let slope = |after: Option<Vector2<f64>>, before: Option<Vector2<f64>>| {
            (after.unwrap() - before.unwrap()) / (2.0 * STEP)
        };
        for axis in 0..3 {
            let mut step = Vector3::zeros();
            step[axis] = STEP;
            let expected = slope(LENS.project(&(at + step)), LENS.project(&(at - step)));
            assert!((found.by_point.column(axis) - expected).norm() < TOLERANCE);
        }
        let with = |log: f64, k1: f64| {
            let lens = Lens {
                focal: LENS.focal.map(|f| f * log.exp()),
                k1: LENS.k1 + k1,
                ..LENS
            };
            lens.project(&at)
        };
        let by_focal = slope(with(STEP, 0.0), with(-STEP, 0.0));
        let by_k1 = slope(with(0.0, STEP), with(0.0, -STEP));
        assert!((found.by_lens.column(0) - by_focal).norm() < TOLERANCE);
        assert!((found.by_lens.column(1) - by_k1).norm() < TOLERANCE);
    }
}
