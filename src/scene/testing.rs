//! Frames for unit tests.

use candle_core::{DType, Device, Tensor};
use vggt_model::Predictions;

use super::FramesInMemory;

/// Returns `count` black frames of `height` x `width` pixels from cameras at the origin, without a point head; `position` and
/// `confidence` get the index of a pixel over all frames.
pub(crate) fn frames(
    [count, height, width]: [usize; 3],
    position: impl Fn(usize) -> [f32; 3],
    confidence: impl Fn(usize) -> f32,
) -> FramesInMemory {
    let cpu = &Device::Cpu;
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, cpu).unwrap();
    let eye = |columns: usize| {
        let one = |i: usize| f32::from(u8::from(i % columns == i / columns));
        let values: Vec<f32> = (0..3 * columns).map(one).collect();
        let one = Tensor::from_vec(values, (1, 3, columns), cpu).unwrap();
        one.repeat((count, 1, 1)).unwrap()
    };
    let pixels = 0..count * height * width;
    let positions: Vec<f32> = pixels.clone().flat_map(position).collect();
    let confidence: Vec<f32> = pixels.map(confidence).collect();
    let predictions = Predictions {
        images: zeros(&[count, 3, height, width]),
        pose_enc: zeros(&[count, 9]),
        extrinsic: eye(4),
        intrinsic: eye(3),
        depth: zeros(&[count, height, width, 1]),
        depth_conf: Tensor::from_vec(confidence, (count, height, width), cpu).unwrap(),
        world_points_from_depth: Tensor::from_vec(positions, (count, height, width, 3), cpu)
            .unwrap(),
        world_points: None,
        world_points_conf: None,
        tracks: None,
    };
    FramesInMemory::new(predictions, None).unwrap()
}
