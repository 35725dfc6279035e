//! Which frames become anchors: those that are most unlike each other.

use candle_core::{DType, Device, Tensor};

use crate::{config::Config, error::Result};

/// Width of the images from which frames are described, in pixels, for a network of 518. Source: FIELD's description of the
/// method; DINOv2 was trained on images of this size.
const DESCRIBED_WIDTH: f64 = 224.0 / 518.0;

/// The anchors of a scene.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Their frames in rising order, frame 0 first.
    pub frames: Vec<usize>,
    /// The largest distance of a frame to the anchor that it is most like, as 1 minus the cosine of their descriptors, in
    /// [0, 2]; 0 when every frame is an anchor.
    pub largest_distance: f32,
}

/// Returns height and width of the images from which frames of `h` x `w` pixels are described: about 224 pixels wide for a network
/// of 518, whole patches, and no larger than the frames.
#[must_use]
pub fn described_size(config: &Config, (h, w): (usize, usize)) -> (usize, usize) {
    let patch = config.patch_size;
    let width = config.img_size as f64 * DESCRIBED_WIDTH;
    let scale = (width / w.max(1) as f64).min(1.0);
    let patches = |pixels: usize| {
        let count = (pixels as f64 * scale / patch as f64).round() as usize;
        count.clamp(1, (pixels / patch).max(1)) * patch
    };
    (patches(h), patches(w))
}

/// Chooses at most `count` anchors: frame 0, then always the frame that is least like the anchors so far.
///
/// `means` [S, C] are the frames' mean patch tokens, see `Vggt::describe`.
///
/// # Errors
/// When the shape does not fit.
pub fn choose(means: &Tensor, count: usize) -> Result<Choice> {
    let descriptors = descriptors(means)?;
    let (mut frames, largest_distance) = farthest_first(&descriptors, count);
    frames.sort_unstable();
    Ok(Choice {
        frames,
        largest_distance,
    })
}

/// The frames' descriptors: their mean tokens minus the mean over all frames, divided by their length. [S, C]
fn descriptors(means: &Tensor) -> Result<Vec<Vec<f64>>> {
    let means = means.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    let centered = means.broadcast_sub(&means.mean_keepdim(0)?)?;
    let mut rows: Vec<Vec<f64>> = centered.to_vec2()?;
    for row in &mut rows {
        let length = dot(row, row).sqrt();
        // Frames that are all alike have no direction: they stay zero, as far from each other as any two that have nothing in
        // common.
        if length > 0.0 && length.is_finite() {
            row.iter_mut().for_each(|x| *x /= length);
        }
    }
    Ok(rows)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Returns the first `count` frames of the order in which each is the one whose largest cosine to those before is smallest, and
/// the largest distance that remains.
fn farthest_first(descriptors: &[Vec<f64>], count: usize) -> (Vec<usize>, f32) {
    let mut order = Vec::with_capacity(count.min(descriptors.len()));
    // Of each frame that is not in the order yet, the largest cosine to one that is.
    let mut nearest = vec![Some(f64::NEG_INFINITY); descriptors.len()];
    let mut next = (!descriptors.is_empty()).then_some((0, 0.0));
    while let Some((frame, _)) = next.filter(|_| order.len() < count.max(1)) {
        order.push(frame);
        nearest[frame] = None;
        for (cosine, other) in nearest.iter_mut().zip(descriptors) {
            if let Some(cosine) = cosine {
                *cosine = cosine.max(dot(&descriptors[frame], other));
            }
        }
        // The first of several that are equally far.
        let left = nearest.iter().enumerate();
        next = left
            .filter_map(|(frame, cosine)| cosine.map(|cosine| (frame, cosine)))
            .min_by(|(_, a), (_, b)| a.total_cmp(b));
    }
    let distance = next.map_or(0.0, |(_, cosine)| 1.0 - cosine);
    (order, distance.clamp(0.0, 2.0) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(degrees: f64) -> Vec<f64> {
        let (sin, cos) = degrees.to_radians().sin_cos();
        vec![cos, sin]
    }

    #[test]
    fn the_frame_that_is_least_like_the_others_comes_next() {
        let frames = [0.0, 10.0, 170.0, 90.0, 200.0].map(unit);
        let (order, distance) = farthest_first(&frames, 3);
        assert_eq!(order, [0, 2, 3]);
        // 200 degrees are 30 from 170.
        assert!((f64::from(distance) - (1.0 - 30f64.to_radians().cos())).abs() < 1e-6);
        let (order, distance) = farthest_first(&frames, 9);
        assert_eq!((order.len(), distance), (5, 0.0));
    }

    #[test]
    fn frames_that_are_all_alike_are_taken_in_order() {
        let means = Tensor::ones((4, 3), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(choose(&means, 3).unwrap().frames, [0, 1, 2]);
        let one = Tensor::ones((1, 3), DType::F32, &Device::Cpu).unwrap();
        let choice = choose(&one, 40).unwrap();
        assert_eq!((choice.frames, choice.largest_distance), (vec![0], 0.0));
    }

    #[test]
    fn numbers_that_are_none_choose_each_frame_once() {
        let means = Tensor::new(
            &[[f32::NAN, 1.0], [0.0, 1.0], [1.0, f32::INFINITY]],
            &Device::Cpu,
        );
        let choice = choose(&means.unwrap(), 9).unwrap();
        assert_eq!(choice.frames, [0, 1, 2]);
    }

    #[test]
    fn frames_are_described_from_smaller_images() {
        let config = Config::default();
        assert_eq!(described_size(&config, (294, 518)), (126, 224));
        assert_eq!(described_size(&config, (518, 392)), (294, 224));
        assert_eq!(described_size(&config, (84, 112)), (84, 112));
        assert_eq!(described_size(&config, (14, 518)), (14, 224));
    }
}
