//! What is remembered of a frame to compare it with others: how it looks, and how much fine detail it has. Pure arithmetic.

use super::gray::Gray;

/// Longer side of the image that is looked at, in pixels: about the network's width. Blur that is lost at this size is lost to the
/// network too, and averaging takes most of the noise of larger frames away.
pub(super) const LOOKED_AT: u32 = 512;

/// Columns and rows of [`Sketch::look`].
const COLUMNS: usize = 32;
const ROWS: usize = 24;

/// Values of [`Sketch::look`].
pub(super) const LOOK: usize = COLUMNS * ROWS;

/// Columns and rows of [`Sketch::shape`], half as many: what is only blurred has almost the same.
const SHAPE: usize = COLUMNS / 2 * (ROWS / 2);

/// Gray levels by which the columns and rows of a frame must differ to have a shape: noise and black frames have less.
const MIN_CONTRAST: f32 = 2.0;

/// Length of [`Sketch::shape`]: products of two have 1 % of a percent left, and fit into 32 bits.
const UNIT: f32 = 16_384.0;

/// Contrast of [`Sketch::look`] that frames with more or less of it are brought nearer to, in gray levels: that of an ordinary photo.
const CONTRAST: f32 = 48.0;

/// How much a frame's own contrast counts less than [`CONTRAST`]: without it, noise would become an image.
const CONTRAST_FLOOR: f32 = 16.0;

/// Blocks of each side, in pixels.
const BLOCK: usize = 16;

/// Of so many blocks one is taken for flat: what detail it has is noise. Parts that are black or white have less of it.
const FLAT: usize = 5;

/// What is remembered of a frame, about a kilobyte.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sketch {
    /// Gray values, 32 x 24, of a contrast that is nearer to the usual, so that a change of exposure is less of a difference.
    look: Box<[u8; LOOK]>,
    /// Gray values, 16 x 12, without their mean, of length [`UNIT`]; zeros for a frame that is almost uniform.
    shape: Box<[i16; SHAPE]>,
    /// Mean square of the slope, in gray levels of two pixels; that of its flattest parts, which is noise, is taken away.
    pub(super) detail: f32,
    /// Standard deviation of 32 x 24 gray values.
    pub(super) contrast: f32,
}

impl Sketch {
    /// Looks at an image of [`LOOKED_AT`] pixels or less.
    pub(super) fn of(gray: &Gray) -> Self {
        let cells = cells(gray);
        Self {
            look: Box::new(look(&cells)),
            shape: Box::new(shape(&cells)),
            detail: detail(gray),
            contrast: statistics(&cells).1,
        }
    }

    /// How different two frames look: the sum of the differences of [`LOOK`] gray values.
    pub(super) fn difference(&self, other: &Self) -> u32 {
        difference(&self.look, &other.look)
    }

    /// As [`Sketch::difference`], to a mean.
    pub(super) fn difference_to(&self, mean: &[u8; LOOK]) -> u32 {
        difference(&self.look, mean)
    }

    /// How far two frames are from showing the same: 0 for the same, whatever its brightness, contrast and blur; 1 for frames that
    /// have nothing in common, or one of which is almost uniform.
    pub(super) fn distance(&self, other: &Self) -> f32 {
        let product = |(a, b): (&i16, &i16)| i32::from(*a) * i32::from(*b);
        let sum: i32 = self.shape.iter().zip(other.shape.iter()).map(product).sum();
        (1.0 - sum as f32 / (UNIT * UNIT)).clamp(0.0, 1.0)
    }

    /// The mean of how frames look.
    pub(super) fn mean<'a>(all: impl ExactSizeIterator<Item = &'a Self>) -> [u8; LOOK] {
        let count = (all.len() as u64).max(1);
        let mut sums = [0_u64; LOOK];
        for one in all {
            for (sum, value) in sums.iter_mut().zip(one.look.iter()) {
                *sum += u64::from(*value);
            }
        }
        sums.map(|sum| (sum / count) as u8)
    }
}

fn difference(a: &[u8; LOOK], b: &[u8; LOOK]) -> u32 {
    let pairs = a.iter().zip(b);
    pairs.map(|(a, b)| u32::from(a.abs_diff(*b))).sum()
}

/// Means of a grid of cells over the image.
fn cells(gray: &Gray) -> [f32; LOOK] {
    let mut cells = [0.0; LOOK];
    for (row, cells) in cells.chunks_exact_mut(COLUMNS).enumerate() {
        let (top, bottom) = part(row, ROWS, gray.height);
        for (column, cell) in cells.iter_mut().enumerate() {
            let (left, right) = part(column, COLUMNS, gray.width);
            let rows = gray.pixels.chunks_exact(gray.width);
            let sum: u32 = (rows.skip(top).take(bottom - top))
                .flat_map(|row| &row[left..right])
                .map(|value| u32::from(*value))
                .sum();
            *cell = sum as f32 / ((bottom - top) * (right - left)) as f32;
        }
    }
    cells
}

/// The `i`-th of `parts` parts of `length` pixels: one pixel at least.
fn part(i: usize, parts: usize, length: usize) -> (usize, usize) {
    let from = i * length / parts;
    (from, ((i + 1) * length / parts).max(from + 1))
}

fn look(cells: &[f32; LOOK]) -> [u8; LOOK] {
    let (mean, contrast) = statistics(cells);
    let gain = (CONTRAST + CONTRAST_FLOOR) / (contrast + CONTRAST_FLOOR);
    // Half of the difference in brightness stays.
    let middle = f32::midpoint(mean, 128.0);
    cells.map(|value| ((value - mean) * gain + middle).round().clamp(0.0, 255.0) as u8)
}

fn shape(cells: &[f32; LOOK]) -> [i16; SHAPE] {
    let mut shape = [0.0; SHAPE];
    for (i, value) in shape.iter_mut().enumerate() {
        let (row, column) = (2 * (i / (COLUMNS / 2)), 2 * (i % (COLUMNS / 2)));
        let at = row * COLUMNS + column;
        *value = (cells[at] + cells[at + 1] + cells[at + COLUMNS] + cells[at + COLUMNS + 1]) / 4.0;
    }
    let (mean, contrast) = statistics(&shape);
    if contrast < MIN_CONTRAST {
        return [0; SHAPE];
    }
    let length = contrast * (SHAPE as f32).sqrt();
    shape.map(|value| ((value - mean) / length * UNIT).round() as i16)
}

/// Mean and standard deviation.
fn statistics(values: &[f32]) -> (f32, f32) {
    let count = values.len() as f32;
    let mean = values.iter().sum::<f32>() / count;
    let square = |value: &f32| (value - mean) * (value - mean);
    let variance = values.iter().map(square).sum::<f32>() / count;
    (mean, variance.sqrt())
}

/// See [`Sketch::detail`].
fn detail(gray: &Gray) -> f32 {
    let mut blocks = block_details(gray);
    blocks.sort_unstable_by(f32::total_cmp);
    let mean = |blocks: &[f32]| blocks.iter().sum::<f32>() / blocks.len().max(1) as f32;
    let noise = blocks.get(blocks.len() / FLAT).copied();
    (mean(&blocks) - noise.unwrap_or_default()).max(0.0)
}

/// Mean square of the slope in each block of the image.
fn block_details(gray: &Gray) -> Vec<f32> {
    let (width, height) = (gray.width, gray.height);
    // Pixels that have neighbors on all sides.
    let (inner_width, inner_height) = (width.saturating_sub(2), height.saturating_sub(2));
    if inner_width == 0 || inner_height == 0 {
        return Vec::new();
    }
    let columns = inner_width.div_ceil(BLOCK);
    let rows: Vec<&[u8]> = gray.pixels.chunks_exact(width).collect();
    let mut blocks = Vec::with_capacity(columns * inner_height.div_ceil(BLOCK));
    for first in (0..inner_height).step_by(BLOCK) {
        let last = (first + BLOCK).min(inner_height);
        let mut sums = vec![0_u32; columns];
        for y in first + 1..=last {
            let (above, row, below) = (rows[y - 1], rows[y], rows[y + 1]);
            let ahead = row[2..].chunks(BLOCK).zip(row.chunks(BLOCK));
            let across = above[1..width - 1].chunks(BLOCK);
            let across = across.zip(below[1..width - 1].chunks(BLOCK));
            for ((sum, (right, left)), (above, below)) in sums.iter_mut().zip(ahead).zip(across) {
                *sum += slopes(right, left) + slopes(above, below);
            }
        }
        for (i, sum) in sums.iter().enumerate() {
            let wide = BLOCK.min(inner_width - i * BLOCK);
            blocks.push(*sum as f32 / (wide * (last - first)) as f32);
        }
    }
    blocks
}

/// Sum of the squares of differences.
fn slopes(a: &[u8], b: &[u8]) -> u32 {
    let square = |(a, b): (&u8, &u8)| {
        let difference = i32::from(*a) - i32::from(*b);
        difference.unsigned_abs() * difference.unsigned_abs()
    };
    a.iter().zip(b).map(square).sum()
}
