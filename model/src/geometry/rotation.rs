//! Quaternions. Port of vggt/utils/rotation.py.

/// The rotation matrix of a quaternion (x, y, z, w) of any length but 0.
pub fn quat_to_mat([i, j, k, r]: [f32; 4]) -> [[f32; 3]; 3] {
    let two_s = 2.0 / (i * i + j * j + k * k + r * r);
    [
        [
            1.0 - two_s * (j * j + k * k),
            two_s * (i * j - k * r),
            two_s * (i * k + j * r),
        ],
        [
            two_s * (i * j + k * r),
            1.0 - two_s * (i * i + k * k),
            two_s * (j * k - i * r),
        ],
        [
            two_s * (i * k - j * r),
            two_s * (j * k + i * r),
            1.0 - two_s * (i * i + j * j),
        ],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_turn_about_z_takes_x_to_y() {
        let half = std::f32::consts::FRAC_1_SQRT_2;
        // Twice as long as a unit quaternion: the length must not matter.
        let m = quat_to_mat([0.0, 0.0, 2.0 * half, 2.0 * half]);
        for (row, expected) in m.iter().zip([0.0, 1.0, 0.0]) {
            assert!((row[0] - expected).abs() < 1e-6, "{m:?}");
        }
    }
}
