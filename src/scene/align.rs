//! Affine maps in f64, and the one that turns a scene upright for viewers.

use serde::{Deserialize, Serialize};

use super::{SceneError, View};

/// An affine map: the upper three rows of a 4x4 matrix, row by row; the last row is (0, 0, 0, 1).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Affine(pub [[f64; 4]; 3]);

impl Affine {
    /// A diagonal map about the origin.
    pub(crate) const fn diagonal(x: f64, y: f64, z: f64) -> Self {
        Self([[x, 0.0, 0.0, 0.0], [0.0, y, 0.0, 0.0], [0.0, 0.0, z, 0.0]])
    }

    /// Where `point` goes.
    pub fn apply(&self, point: [f64; 3]) -> [f64; 3] {
        self.0
            .map(|row| row[0] * point[0] + row[1] * point[1] + row[2] * point[2] + row[3])
    }

    /// Where a point of a column goes, with one rounding at the end.
    pub fn apply_f32(&self, point: [f32; 3]) -> [f32; 3] {
        self.apply(point.map(f64::from)).map(|x| x as f32)
    }

    /// First `self`'s argument through `first`, then through `self`: the matrix product `self · first`.
    #[must_use]
    pub fn after(&self, first: &Self) -> Self {
        Self(self.0.map(|row| {
            let mut out = [0.0, 0.0, 0.0, row[3]];
            for (k, through) in first.0.iter().enumerate() {
                for (o, f) in out.iter_mut().zip(through) {
                    *o += row[k] * f;
                }
            }
            out
        }))
    }

    /// The map that undoes this one; `None` when there is none or it is not finite.
    ///
    /// No rotation is taken for granted: the inverse of what the network said, as upstream has it, is the inverse.
    pub fn inverse(&self) -> Option<Self> {
        let m = &self.0;
        let minor = |r0: usize, r1: usize, c0: usize, c1: usize| {
            m[r0][c0] * m[r1][c1] - m[r0][c1] * m[r1][c0]
        };
        let cofactors = [
            [minor(1, 2, 1, 2), -minor(1, 2, 0, 2), minor(1, 2, 0, 1)],
            [-minor(0, 2, 1, 2), minor(0, 2, 0, 2), -minor(0, 2, 0, 1)],
            [minor(0, 1, 1, 2), -minor(0, 1, 0, 2), minor(0, 1, 0, 1)],
        ];
        let determinant: f64 = (0..3).map(|c| m[0][c] * cofactors[0][c]).sum();
        let mut out = [[0.0; 4]; 3];
        for (r, row) in out.iter_mut().enumerate() {
            for c in 0..3 {
                row[c] = cofactors[c][r] / determinant;
            }
            row[3] = -(0..3).map(|c| row[c] * m[c][3]).sum::<f64>();
        }
        out.iter()
            .flatten()
            .all(|x| x.is_finite())
            .then_some(Self(out))
    }
}

/// OpenCV axes (y down, z forward) to OpenGL's (y up, z back), and back again.
pub(crate) const OPENGL_FROM_OPENCV: Affine = Affine::diagonal(1.0, -1.0, -1.0);

/// A half turn about the y axis.
const HALF_TURN_Y: Affine = Affine::diagonal(-1.0, 1.0, -1.0);

/// view_from_world: inv(extrinsic) · diag(1, -1, -1, 1) · rot_y(180°), from the first shown camera.
///
/// Port of `visual_util.py`, `apply_scene_alignment`, with its order of factors: the flips act on world
/// coordinates, so the first camera ends up at its own world position. Existing viewers rely on it.
pub(crate) fn node_transform(first: &View) -> Result<Affine, SceneError> {
    let world_from_camera = first.world_from_camera()?;
    Ok(world_from_camera
        .after(&OPENGL_FROM_OPENCV)
        .after(&HALF_TURN_Y))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounding of some dozen f64 operations on numbers near 1.
    const TOLERANCE: f64 = 1e-14;

    #[test]
    fn the_inverse_undoes_a_map_that_is_no_rotation() {
        let map = Affine([
            [0.9, 0.1, -0.3, 1.0],
            [0.0, 1.1, 0.2, -2.0],
            [0.4, 0.0, 0.8, 0.5],
        ]);
        let there_and_back = map.inverse().unwrap().after(&map);
        let identity = Affine::diagonal(1.0, 1.0, 1.0);
        for (row, expected) in there_and_back.0.iter().zip(identity.0) {
            for (x, e) in row.iter().zip(expected) {
                assert!((x - e).abs() < TOLERANCE, "{there_and_back:?}");
            }
        }
    }

    #[test]
    fn a_flat_or_nan_map_has_no_inverse() {
        assert_eq!(Affine::diagonal(1.0, 0.0, 1.0).inverse(), None);
        assert_eq!(Affine::diagonal(1.0, f64::NAN, 1.0).inverse(), None);
    }
}
