//! Rotations as quaternions.

use super::Affine;

/// Unit quaternion (w, x, y, z) of the rotation in `map`, with w >= 0.
///
/// Starts from the largest of the four components, so that no small number is divided by.
pub fn quaternion(map: &Affine) -> [f64; 4] {
    let m = &map.0;
    // Four times each component's square, w first.
    let squares = [
        1.0 + m[0][0] + m[1][1] + m[2][2],
        1.0 + m[0][0] - m[1][1] - m[2][2],
        1.0 - m[0][0] + m[1][1] - m[2][2],
        1.0 - m[0][0] - m[1][1] + m[2][2],
    ];
    let [wx, wy, wz] = [m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]];
    let [xy, xz, yz] = [m[0][1] + m[1][0], m[0][2] + m[2][0], m[1][2] + m[2][1]];
    let rows = [
        [squares[0], wx, wy, wz],
        [wx, squares[1], xy, xz],
        [wy, xy, squares[2], yz],
        [wz, xz, yz, squares[3]],
    ];
    let largest = (1..4).fold(
        0,
        |best, i| if squares[i] > squares[best] { i } else { best },
    );
    let q = rows[largest];
    let norm = q.iter().map(|x| x * x).sum::<f64>().sqrt();
    let sign = if q[0] < 0.0 { -1.0 } else { 1.0 };
    q.map(|x| sign * x / norm)
}

/// The rotation of a unit quaternion (w, x, y, z), then the translation.
pub(crate) fn affine([w, x, y, z]: [f64; 4], translation: [f64; 3]) -> Affine {
    let [tx, ty, tz] = translation;
    let diagonal = |a: f64, b: f64| 1.0 - 2.0 * (a * a + b * b);
    let sum = |a: f64, b: f64, c: f64| 2.0 * (a * b + w * c);
    let difference = |a: f64, b: f64, c: f64| 2.0 * (a * b - w * c);
    Affine([
        [diagonal(y, z), difference(x, y, z), sum(x, z, y), tx],
        [sum(x, y, z), diagonal(x, z), difference(y, z, x), ty],
        [difference(x, z, y), sum(y, z, x), diagonal(x, y), tz],
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounding of some dozen f64 operations on numbers near 1.
    const TOLERANCE: f64 = 1e-14;

    #[test]
    fn a_quaternion_survives_its_matrix_whichever_component_is_largest() {
        for q in [
            [0.9, 0.1, -0.2, 0.3],
            [0.1, 0.9, 0.2, -0.3],
            [0.1, -0.2, 0.9, 0.3],
            [0.0, 0.3, 0.2, 0.9],
        ] {
            let norm = q.iter().map(|x| x * x).sum::<f64>().sqrt();
            let unit = q.map(|x| x / norm);
            let found = quaternion(&affine(unit, [7.0; 3]));
            for (found, expected) in found.into_iter().zip(unit) {
                assert!((found - expected).abs() < TOLERANCE, "{q:?}");
            }
        }
    }

    #[test]
    fn a_quarter_turn_about_z_takes_x_to_y() {
        let half = std::f64::consts::FRAC_1_SQRT_2;
        let moved = affine([half, 0.0, 0.0, half], [0.0, 0.0, 5.0]).apply([1.0, 0.0, 0.0]);
        for (found, expected) in moved.into_iter().zip([0.0, 1.0, 5.0]) {
            assert!((found - expected).abs() < TOLERANCE, "{moved:?}");
        }
    }
}
