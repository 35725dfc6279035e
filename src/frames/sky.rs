//! The sky network of `--mask-sky`: which pixels of an image are not sky.
//!
//! Port of visual_util.py, `run_skyseg` and `segment_sky`, with the ONNX file run by `rten`.
//! Differs from upstream: there the mask of the whole original image is squeezed to the network's size,
//! cropped images included; here the mask is asked for the very pixels that the network sees.

use std::{
    error::Error,
    io::Read,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use ::image::{GrayImage, RgbImage};
use rten::{Dimension, Model, Value};

use super::{FramesError, onnx, open_regular};

/// Side of the sky network's input, in pixels.
const SIDE: usize = 320;
/// Statistics of ImageNet, red, green, blue, with which the network was trained.
const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
/// As [`MEAN`].
const STD: [f64; 3] = [0.229, 0.224, 0.225];
/// From this value on, of 0 to 255, a pixel is sky.
const SKY_FROM: u8 = 32;
/// The published file has 176 MB; a larger file than this is some other thing.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// A sky network, read from an ONNX file (U-2-Net as published in `JianyuanWang/skyseg`).
pub struct SkyNetwork {
    model: Model,
}

impl SkyNetwork {
    /// Reads the network from an ONNX file.
    ///
    /// An ONNX file is a program: a forged one can ask for any amount of time and memory when it runs, so
    /// its hash should be checked before. What is merely damaged is an error, also where the runtime would allocate whatever
    /// a wrong length says.
    ///
    /// # Errors
    /// When the file cannot be read, is not ONNX, uses an operator that is not supported, or does not take
    /// one image of [1, 3, 320, 320].
    pub fn open(path: &Path) -> Result<Self, FramesError> {
        let unreadable = |source| FramesError::Read {
            path: path.to_path_buf(),
            source,
        };
        let refused = |source: Box<dyn Error + Send + Sync>| FramesError::SkyNetwork {
            path: path.to_path_buf(),
            source,
        };
        let mut file = open_regular(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if metadata.len() > MAX_FILE_BYTES {
            return Err(refused(
                "the file is far larger than the sky network".into(),
            ));
        }
        // From bytes, not from the path: an ONNX file read by path may name further files to read.
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(unreadable)?;
        onnx::check(&bytes).map_err(|reason| refused(reason.into()))?;
        let model = guarded(|| Model::load(bytes).map_err(|e| e.to_string()))
            .map_err(|reason| refused(reason.into()))?;
        let fits = matches!(model.input_ids(), [_])
            && !model.output_ids().is_empty()
            && model
                .input_shape(0)
                .is_none_or(|shape| takes_one_image(&shape));
        if !fits {
            let expected = "it does not take one image of [1, 3, 320, 320]";
            return Err(refused(expected.into()));
        }
        Ok(Self { model })
    }

    /// Returns one flag per pixel in raster order, `true` where there is no sky. H · W values.
    ///
    /// # Errors
    /// As [`SkyNetwork::sky_map`].
    pub fn keep_mask(&self, image: &RgbImage) -> Result<Vec<bool>, FramesError> {
        let map = self.sky_map(image)?;
        Ok(map.as_raw().iter().map(|value| *value < SKY_FROM).collect())
    }

    /// Returns how much each pixel looks like sky, at the size of the image.
    ///
    /// The network's output is stretched so that its smallest value is 0 and its largest 255; an output
    /// that is the same everywhere counts as no sky anywhere.
    ///
    /// # Errors
    /// When the image is empty, the network fails, or its output is not a map of finite numbers.
    pub fn sky_map(&self, image: &RgbImage) -> Result<GrayImage, FramesError> {
        let failed = |reason: String| FramesError::SkyRun { reason };
        let (width, height) = image.dimensions();
        if width == 0 || height == 0 {
            return Err(failed("the image has no pixels".to_owned()));
        }
        let small = resize_linear(
            image.as_raw(),
            [width as usize, height as usize],
            [SIDE; 2],
            3,
        );
        let mut input = Vec::with_capacity(3 * SIDE * SIDE);
        for channel in 0..3 {
            let values = small.iter().skip(channel).step_by(3);
            input.extend(
                values.map(|value| {
                    ((f64::from(*value) / 255.0 - MEAN[channel]) / STD[channel]) as f32
                }),
            );
        }
        let input =
            Value::from_shape([1, 3, SIDE, SIDE], input).map_err(|e| failed(e.to_string()))?;
        let output = guarded(|| {
            self.model
                .run_one(input.into(), None)
                .map_err(|e| e.to_string())
        })
        .map_err(failed)?;
        let (shape, values) = output
            .into_shape_vec::<f32, 4>()
            .map_err(|e| failed(format!("its output is no [1, 1, H, W]: {e}")))?;
        let [1, 1, out_height, out_width] = shape else {
            return Err(failed(format!("its output is {shape:?}, not [1, 1, H, W]")));
        };
        if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
            return Err(failed("its output is empty or not finite".to_owned()));
        }
        let min = values.iter().copied().fold(f32::INFINITY, f32::min);
        let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let range = max - min;
        // Python: ((x - min) / (max - min) * 255).astype("uint8"), which cuts the fraction off.
        let stretch = |value: f32| ((value - min) / range * 255.0) as u8;
        let stretched: Vec<u8> = if range > 0.0 {
            values.into_iter().map(stretch).collect()
        } else {
            vec![0; values.len()]
        };
        let size = [width as usize, height as usize];
        let map = resize_linear(&stretched, [out_width, out_height], size, 1);
        GrayImage::from_raw(width, height, map)
            .ok_or_else(|| failed("its map has another size".to_owned()))
    }
}

impl std::fmt::Debug for SkyNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SkyNetwork").finish_non_exhaustive()
    }
}

/// Runs the ONNX runtime, which panics on some damaged files (an overflow while it infers shapes), so that
/// a bad file stays an error.
fn guarded<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    // The model is not used again after a panic while loading, and running does not change it.
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err("the network is damaged: the runtime gave up".to_owned()))
}

fn takes_one_image(shape: &[Dimension]) -> bool {
    shape.len() == 4
        && shape
            .iter()
            .zip([1, 3, SIDE, SIDE])
            .all(|(dimension, size)| match dimension {
                Dimension::Fixed(fixed) => *fixed == size,
                Dimension::Symbolic(_) => true,
            })
}

/// Where an output pixel takes its two source pixels, and their weights, of 2048.
struct Pair {
    lines: [usize; 2],
    weights: [i32; 2],
}

/// Fixed-point one of [`resize_linear`].
const ONE: f32 = 2048.0;

/// OpenCV: cv2.resize(image, size), bilinear without antialiasing, in its 11-bit arithmetic for 8-bit values.
///
/// Sizes are [width, height]; none may be zero.
fn resize_linear(from: &[u8], from_size: [usize; 2], size: [usize; 2], channels: usize) -> Vec<u8> {
    if from_size == size {
        return from.to_vec();
    }
    let [columns, rows] = [0, 1].map(|axis| pairs(from_size[axis], size[axis]));
    let row_values = from_size[0] * channels;
    let mut out = Vec::with_capacity(size[0] * size[1] * channels);
    for row in &rows {
        let [upper, lower] = row
            .lines
            .map(|line| &from[line * row_values..][..row_values]);
        for column in &columns {
            let [left, right] = column.lines.map(|line| line * channels);
            for channel in 0..channels {
                let across = |row: &[u8]| {
                    i32::from(row[left + channel]) * column.weights[0]
                        + i32::from(row[right + channel]) * column.weights[1]
                };
                // OpenCV: VResizeLinear for 8 bits drops 4 bits, multiplies, drops 16, rounds the last 2.
                let sum = ((row.weights[0] * (across(upper) >> 4)) >> 16)
                    + ((row.weights[1] * (across(lower) >> 4)) >> 16);
                out.push(((sum + 2) >> 2).clamp(0, 255) as u8);
            }
        }
    }
    out
}

/// OpenCV takes the position in float32 and rounds both weights, whose sum may be one off.
fn pairs(from: usize, to: usize) -> Vec<Pair> {
    let scale = from as f64 / to as f64;
    let last = from - 1;
    (0..to)
        .map(|i| {
            let position = (((i as f64 + 0.5) * scale - 0.5) as f32).clamp(0.0, last as f32);
            let first = (position as usize).min(last);
            let fraction = position - first as f32;
            Pair {
                lines: [first, (first + 1).min(last)],
                weights: [1.0 - fraction, fraction].map(|w| (w * ONE).round_ties_even() as i32),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enlarging_is_opencvs() {
        // cv2.resize(np.array([[0, 100, 255], [30, 7, 90]], np.uint8), (5, 3))
        let out = resize_linear(&[0, 100, 255, 30, 7, 90], [3, 2], [5, 3], 1);
        assert_eq!(out, CV2_5X3);
    }

    const CV2_5X3: [u8; 15] = [
        0, 40, 100, 193, 255, 15, 30, 54, 125, 173, 30, 21, 7, 57, 90,
    ];
}
