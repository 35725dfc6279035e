//! Pillow's bicubic resize of 8-bit RGB, bit for bit (sideways first, as every Pillow before 13 goes).
//!
//! Written here because the published resampler made after Pillow keeps 16-bit weights, which leaves
//! single pixels of a sharp-edged image 2/255 away; Pillow's weights have 22 bits.

use ::image::RgbImage;

/// Fraction bits of a weight. Pillow: 32 - 8 (a sample) - 2 (the sum of weights may pass 1 on the way).
const PRECISION_BITS: u32 = 22;
/// Half of one, so that the shift rounds to nearest.
const HALF: i32 = 1 << (PRECISION_BITS - 1);
/// The cubic reaches two pixels to either side.
const SUPPORT: f64 = 2.0;
const CHANNELS: usize = 3;

/// A range of lines (columns or rows) of the resized image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines {
    /// First line that is wanted.
    pub(super) first: u32,
    /// How many are wanted.
    pub(super) count: u32,
    /// How many the whole resized image has.
    pub(super) of: u32,
}

/// What one output line is made of: `weights` over the source lines from `start`.
struct Taps {
    start: usize,
    weights: Vec<i32>,
}

/// Pillow: `Image.resize((width, rows.of), BICUBIC)`, then a crop to `rows`.
///
/// Sideways first and rounded to 8 bits in between, as Pillow does. Rows that would be cropped are never
/// computed, so that a photographed strip of paper cannot ask for gigabytes. A direction that keeps its
/// size is left alone. The source must not be empty.
pub(super) fn resize_bicubic(rgb: RgbImage, width: u32, rows: Lines) -> RgbImage {
    let columns = Lines {
        first: 0,
        count: width,
        of: width,
    };
    let keeps_height = rgb.height() == rows.of && rows.count == rows.of;
    let vertical = taps(rgb.height(), rows);
    if keeps_height {
        return sideways(rgb, columns, 0, None);
    }
    let first = vertical.first().map_or(0, |t| t.start);
    let end = vertical.last().map_or(0, |t| t.start + t.weights.len());
    let narrowed = sideways(rgb, columns, first, Some(end));
    downwards(&narrowed, first, &vertical)
}

/// Resizes rows `first..end` to the wanted columns.
fn sideways(rgb: RgbImage, columns: Lines, first: usize, end: Option<usize>) -> RgbImage {
    let end = end.unwrap_or(rgb.height() as usize);
    let row_bytes = rgb.width() as usize * CHANNELS;
    let rows = rgb.as_raw().chunks_exact(row_bytes).take(end).skip(first);
    let mut out = RgbImage::new(columns.count, (end - first) as u32);
    let out_bytes = columns.count as usize * CHANNELS;
    if rgb.width() == columns.of {
        for (to, from) in out.chunks_exact_mut(out_bytes).zip(rows) {
            to.copy_from_slice(from);
        }
        return out;
    }
    let taps = taps(rgb.width(), columns);
    for (to, from) in out.chunks_exact_mut(out_bytes).zip(rows) {
        for (pixel, Taps { start, weights }) in to.chunks_exact_mut(CHANNELS).zip(&taps) {
            let mut sum = [HALF; CHANNELS];
            let source = from[start * CHANNELS..].chunks_exact(CHANNELS);
            for (sample, weight) in source.zip(weights) {
                for (sum, value) in sum.iter_mut().zip(sample) {
                    *sum += i32::from(*value) * weight;
                }
            }
            for (to, sum) in pixel.iter_mut().zip(sum) {
                *to = clip(sum);
            }
        }
    }
    out
}

/// Makes the wanted rows; row 0 of `rgb` is row `first` of the source that the taps count in.
fn downwards(rgb: &RgbImage, first: usize, taps: &[Taps]) -> RgbImage {
    let row_bytes = rgb.width() as usize * CHANNELS;
    let mut out = RgbImage::new(rgb.width(), taps.len() as u32);
    let mut sums = vec![HALF; row_bytes];
    for (to, Taps { start, weights }) in out.chunks_exact_mut(row_bytes).zip(taps) {
        sums.fill(HALF);
        let rows = rgb.as_raw()[(start - first) * row_bytes..].chunks_exact(row_bytes);
        for (row, weight) in rows.zip(weights) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += i32::from(*value) * weight;
            }
        }
        for (to, sum) in to.iter_mut().zip(&sums) {
            *to = clip(*sum);
        }
    }
    out
}

fn clip(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// The taps of the wanted lines when `size` source lines become `lines.of`.
///
/// When shrinking, the cubic is widened by the ratio: that is the antialiasing.
fn taps(size: u32, lines: Lines) -> Vec<Taps> {
    let scale = f64::from(size) / f64::from(lines.of);
    let widening = scale.max(1.0);
    let reach = SUPPORT * widening;
    let one = f64::from(1 << PRECISION_BITS);
    (lines.first..lines.first + lines.count)
        .map(|line| {
            let center = (f64::from(line) + 0.5) * scale;
            let start = (center - reach + 0.5).max(0.0) as u32;
            let end = ((center + reach + 0.5) as u32).min(size);
            let raw: Vec<f64> = (start..end)
                .map(|source| cubic((f64::from(source) - center + 0.5) / widening))
                .collect();
            let sum: f64 = raw.iter().sum();
            // Halves away from zero, as Pillow rounds its weights.
            let weights = raw.iter().map(|w| (w / sum * one).round() as i32);
            Taps {
                start: start as usize,
                weights: weights.collect(),
            }
        })
        .collect()
}

/// Keys' cubic with a = -0.5.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < SUPPORT {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::{Rgb, imageops};

    fn noise(width: u32, height: u32) -> RgbImage {
        let mut state = 1u32;
        RgbImage::from_fn(width, height, |_, _| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Rgb([(state >> 8) as u8, (state >> 16) as u8, (state >> 24) as u8])
        })
    }

    fn all(count: u32) -> Lines {
        Lines {
            first: 0,
            count,
            of: count,
        }
    }

    #[test]
    fn a_plain_color_stays_that_color() {
        let plain = RgbImage::from_pixel(37, 53, Rgb([255, 128, 1]));
        for (width, height) in [(14, 14), (140, 98), (37, 200)] {
            let resized = resize_bicubic(plain.clone(), width, all(height));
            assert!(resized.pixels().all(|p| p.0 == [255, 128, 1]));
        }
    }

    /// `Image.resize((4, 5), Image.BICUBIC)` of the 2x3 image below, first channel, by Pillow.
    const PILLOW_4X5: [u8; 20] = [
        0, 29, 166, 234, 97, 104, 125, 140, 255, 204, 61, 0, 163, 129, 45, 7, 83, 68, 42, 28,
    ];

    #[test]
    fn values_are_pillows() {
        let values = [0u8, 200, 255, 10, 90, 31];
        let small = RgbImage::from_fn(2, 3, |x, y| Rgb([values[(y * 2 + x) as usize]; 3]));
        let resized = resize_bicubic(small, 4, all(5));
        let first: Vec<u8> = resized.pixels().map(|p| p.0[0]).collect();
        assert_eq!(first, PILLOW_4X5);
    }

    #[test]
    fn cropping_while_resizing_equals_cropping_afterwards() {
        let middle = Lines {
            first: 91,
            count: 140,
            of: 322,
        };
        let whole = resize_bicubic(noise(61, 140), 140, all(322));
        let cut = resize_bicubic(noise(61, 140), 140, middle);
        assert_eq!(imageops::crop_imm(&whole, 0, 91, 140, 140).to_image(), cut);
    }
}
