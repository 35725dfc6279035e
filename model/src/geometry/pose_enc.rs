//! The pose encoding. Port of vggt/utils/pose_enc.py.

use candle_core::{Result, Tensor};

use super::rotation::quat_to_mat;

/// Turns pose encodings [S, 9] for frames of `h` x `w` pixels into camera_from_world [S, 3, 4] (upstream's extrinsic) and
/// intrinsics in pixels [S, 3, 3], the principal point in the middle.
///
/// # Errors
/// When the device fails.
pub fn pose_encoding_to_extri_intri(
    pose_enc: &Tensor,
    (h, w): (usize, usize),
) -> Result<(Tensor, Tensor)> {
    let (s, _) = pose_enc.dims2()?;
    let mut extrinsic = Vec::with_capacity(s * 12);
    let mut intrinsic = Vec::with_capacity(s * 9);
    for pose in pose_enc.to_vec2::<f32>()? {
        let rotation = quat_to_mat([pose[3], pose[4], pose[5], pose[6]]);
        for (row, translation) in rotation.iter().zip(&pose[..3]) {
            extrinsic.extend_from_slice(row);
            extrinsic.push(*translation);
        }
        let focal = |pixels: usize, fov_rad: f32| pixels as f32 / 2.0 / (fov_rad / 2.0).tan();
        let (fy, fx) = (focal(h, pose[7]), focal(w, pose[8]));
        let (cx, cy) = (w as f32 / 2.0, h as f32 / 2.0);
        intrinsic.extend([fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]);
    }
    Ok((
        Tensor::from_vec(extrinsic, (s, 3, 4), pose_enc.device())?,
        Tensor::from_vec(intrinsic, (s, 3, 3), pose_enc.device())?,
    ))
}
