//! Large images, row by row: the mean of each square of pixels.

use ::image::RgbImage;

/// Images of more pixels are decoded at a smaller size. Twice what cameras of 2026 commonly store, and the limit on all
/// images before they were scaled: below it, nothing about an image's values has changed.
pub(super) const FULL_SIZE_PIXELS: u64 = 100_000_000;

/// Pixels that are left of a larger image, at most: 150 MB of RGB, and still twenty times the network's input a side.
const SCALED_PIXELS: u64 = 50_000_000;

/// What is missing of an image that is cut off. The color with which the JPEG decoder fills.
pub(super) const MISSING: u8 = 128;

/// Returns the side of the squares that an image of this size is averaged over; 1 keeps it as it is.
pub(super) fn factor(width: u32, height: u32) -> u32 {
    let pixels = |f: u64| u64::from(width).div_ceil(f) * u64::from(height).div_ceil(f);
    if pixels(1) <= FULL_SIZE_PIXELS {
        return 1;
    }
    let mut f = 2;
    while pixels(f.into()) > SCALED_PIXELS {
        f += 1;
    }
    f
}

/// Takes the rows of an image from the top and gathers their means.
pub(super) struct Shrink {
    width: usize,
    height: u32,
    factor: usize,
    /// Sums of the squares of the current rows, per channel.
    sums: Vec<u32>,
    rows: u32,
    out: Vec<u8>,
}

impl Shrink {
    pub(super) fn new(width: u32, height: u32, factor: u32) -> Self {
        let out_width = width.div_ceil(factor) as usize;
        Self {
            width: width as usize,
            height,
            factor: factor as usize,
            sums: vec![0; if factor > 1 { out_width * 3 } else { 0 }],
            rows: 0,
            // Grows with the rows that arrive: a header may promise more than there is.
            out: Vec::new(),
        }
    }

    /// Number of rows that were taken.
    pub(super) fn rows(&self) -> u32 {
        self.rows
    }

    /// Takes the next row, 8-bit RGB. Rows of another length and rows too many are ignored.
    pub(super) fn push(&mut self, row: &[u8]) {
        if row.len() != self.width * 3 || self.rows >= self.height {
            return;
        }
        self.rows += 1;
        if self.factor == 1 {
            self.out.extend_from_slice(row);
            return;
        }
        for (sums, square) in (self.sums.chunks_exact_mut(3)).zip(row.chunks(self.factor * 3)) {
            for pixel in square.chunks_exact(3) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += u32::from(*value);
                }
            }
        }
        if (self.rows as usize).is_multiple_of(self.factor) || self.rows == self.height {
            self.flush();
        }
    }

    /// Appends the means of the rows since the last time.
    fn flush(&mut self) {
        let rows = match self.rows as usize % self.factor {
            0 => self.factor,
            rest => rest,
        };
        let mut left = self.width;
        for sums in self.sums.chunks_exact_mut(3) {
            let count = (left.min(self.factor) * rows) as u32;
            left = left.saturating_sub(self.factor);
            for sum in sums {
                self.out.push(((*sum + count / 2) / count.max(1)) as u8);
                *sum = 0;
            }
        }
    }

    /// Returns the image, and the share of it that did not arrive and is gray.
    pub(super) fn finish(mut self) -> (Option<RgbImage>, f64) {
        let factor = self.factor as u32;
        if factor > 1 && self.rows < self.height && !self.rows.is_multiple_of(factor) {
            self.flush();
        }
        let (width, height) = (
            (self.width as u32).div_ceil(factor),
            self.height.div_ceil(factor),
        );
        self.out
            .resize(width as usize * height as usize * 3, MISSING);
        let missing = 1.0 - f64::from(self.rows) / f64::from(self.height.max(1));
        (RgbImage::from_raw(width, height, self.out), missing)
    }
}

/// Averages an image that is in memory as a whole.
pub(super) fn shrink(rgb: RgbImage) -> RgbImage {
    let (width, height) = rgb.dimensions();
    let factor = factor(width, height);
    if factor == 1 {
        return rgb;
    }
    let mut smaller = Shrink::new(width, height, factor);
    for row in rgb.as_raw().chunks_exact(width as usize * 3) {
        smaller.push(row);
    }
    smaller.finish().0.unwrap_or(rgb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_starts_above_the_limit_and_leaves_what_is_allowed() {
        assert_eq!(factor(10_000, 10_000), 1);
        assert_eq!(factor(30_000, 2_000), 1);
        assert_eq!(factor(10_001, 10_000), 2);
        assert_eq!(factor(16_384, 8_192), 2);
        // 200 megapixels: 50 are left.
        assert_eq!(factor(16_320, 12_240), 2);
        assert_eq!(factor(40_000, 10_000), 3);
    }

    #[test]
    fn squares_are_averaged_and_rounded_and_those_at_the_edge_have_fewer_pixels() {
        let mut shrink = Shrink::new(3, 3, 2);
        // By hand: (10 + 20 + 30 + 41) / 4 = 25.25, (1 + 2) / 2 = 1.5, (5 + 8) / 2 = 6.5, 9.
        for row in [[10, 20, 1], [30, 41, 2], [5, 8, 9]] {
            shrink.push(&row.map(|v| [v; 3]).concat());
        }
        let (image, missing) = shrink.finish();
        assert_eq!(missing, 0.0);
        let expected: Vec<u8> = [25, 2, 7, 9].iter().flat_map(|v| [*v; 3]).collect();
        assert_eq!(image.unwrap().into_raw(), expected);
    }

    #[test]
    fn rows_that_did_not_arrive_are_gray() {
        for factor in [1, 2] {
            let mut shrink = Shrink::new(2, 8, factor);
            for _ in 0..3 {
                shrink.push(&[7; 6]);
            }
            let (image, missing) = shrink.finish();
            let image = image.unwrap();
            assert_eq!(missing, 5.0 / 8.0);
            assert_eq!(image.get_pixel(0, 0).0, [7; 3]);
            assert_eq!(image.get_pixel(0, image.height() - 1).0, [MISSING; 3]);
        }
    }
}
