//! Depth maps to points. Port of vggt/utils/geometry.py.

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

/// World positions of every pixel. depth [S, H, W, 1], camera_from_world [S, 3, 4], intrinsics [S, 3, 3]
/// -> [S, H, W, 3] on the CPU. Pixel (0, 0) lies at (0, 0), not half a pixel in, as upstream has it.
///
/// # Errors
/// When the shapes do not fit or the device fails.
pub fn unproject_depth_map_to_point_map(
    depth: &Tensor,
    extrinsic: &Tensor,
    intrinsic: &Tensor,
) -> Result<Tensor> {
    let (s, h, w, _) = depth.dims4()?;
    let depth: Vec<f32> = depth.flatten_all()?.to_vec1()?;
    let extrinsic = extrinsic.to_vec3::<f32>()?;
    let intrinsic = intrinsic.to_vec3::<f32>()?;
    let mut points = vec![0f32; s * h * w * 3];
    if points.is_empty() {
        return Tensor::from_vec(points, (s, h, w, 3), &Device::Cpu);
    }
    points
        .par_chunks_exact_mut(w * 3)
        .zip(depth.par_chunks_exact(w))
        .enumerate()
        .for_each(|(i, (points, depth))| {
            let (frame, y) = (i / h, (i % h) as f32);
            let (e, k) = (&extrinsic[frame], &intrinsic[frame]);
            for (x, (point, z)) in points.chunks_exact_mut(3).zip(depth).enumerate() {
                let camera = [
                    (x as f32 - k[0][2]) * z / k[0][0],
                    (y - k[1][2]) * z / k[1][1],
                    *z,
                ];
                // world = Rᵀ (camera - t)
                for (axis, point) in point.iter_mut().enumerate() {
                    *point = (0..3).map(|r| e[r][axis] * (camera[r] - e[r][3])).sum();
                }
            }
        });
    Tensor::from_vec(points, (s, h, w, 3), &Device::Cpu)
}
