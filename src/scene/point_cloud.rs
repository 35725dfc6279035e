//! The kept points, as columns, and how they are gathered from the pixels.

use std::ops::Range;

use super::{SceneOptions, filter, mask};

/// Points as columns of equal length, ordered by frame, then row, then column. 23 bytes a point.
#[derive(Debug, Clone, PartialEq)]
pub struct PointCloud {
    /// World space, scene units.
    pub positions: Vec<[f32; 3]>,
    /// sRGB, as in the picture.
    pub colors: Vec<[u8; 3]>,
    /// The network's confidence in the position, above 0; 0 for the single white point.
    pub confidence: Vec<f32>,
    /// Which pixel made the point: (frame * height + row) * width + column of the network's pictures.
    pub source: Vec<u32>,
    width: u32,
    height: u32,
}

impl PointCloud {
    /// What stands for a scene in which nothing passed: one white point at (1, 0, 0).
    pub(crate) fn single_white(width: usize, height: usize) -> Self {
        Self {
            positions: vec![[1.0, 0.0, 0.0]],
            colors: vec![[255; 3]],
            confidence: vec![0.0],
            source: vec![0],
            ..Self::with_capacity(0, width, height)
        }
    }

    fn with_capacity(capacity: usize, width: usize, height: usize) -> Self {
        Self {
            positions: Vec::with_capacity(capacity),
            colors: Vec::with_capacity(capacity),
            confidence: Vec::with_capacity(capacity),
            source: Vec::with_capacity(capacity),
            // Both divide a product that `build` found to fit 32 bits.
            width: width as u32,
            height: height as u32,
        }
    }

    /// How many points there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Width and height of the network's pictures, pixels.
    #[must_use]
    pub fn picture_size(&self) -> [u32; 2] {
        [self.width, self.height]
    }

    /// The frame that `point` comes from, counted from 0 over all frames.
    ///
    /// # Panics
    /// When there is no such point.
    #[must_use]
    pub fn frame(&self, point: usize) -> u32 {
        self.source[point] / (self.width * self.height)
    }

    /// Column and row of the pixel that `point` comes from, in the network's picture.
    ///
    /// # Panics
    /// When there is no such point.
    #[must_use]
    pub fn pixel(&self, point: usize) -> [u32; 2] {
        let in_frame = self.source[point] % (self.width * self.height);
        [in_frame % self.width, in_frame / self.width]
    }

    /// Thins to at most `limit` points, evenly along their order, which stays.
    pub(crate) fn thin(&mut self, limit: usize) {
        let len = self.len();
        if len <= limit {
            return;
        }
        thin_column(&mut self.positions, limit);
        thin_column(&mut self.colors, limit);
        thin_column(&mut self.confidence, limit);
        thin_column(&mut self.source, limit);
    }
}

/// Keeps `limit` of a longer column: one of each of `limit` equal stretches.
// Always the same place in its stretch would leave stripes in the picture wherever a row is a multiple of the stretch;
// the golden ratio's multiples walk through the places as evenly as can be without repeating.
fn thin_column<T: Copy>(column: &mut Vec<T>, limit: usize) {
    let len = column.len() as u128;
    let start = |i: usize| (i as u128 * len / limit as u128) as usize;
    for i in 0..limit {
        let (from, to) = (start(i), start(i + 1));
        let share = (i as u32).wrapping_mul(GOLDEN_RATIO) as u64;
        let place = (share * (to - from) as u64) >> 32;
        // In stretch `i`, so never before `i`: what is read was not yet overwritten.
        column[i] = column[from + place as usize];
    }
    column.truncate(limit);
    column.shrink_to_fit();
}

/// (sqrt(5) - 1) / 2 as a fraction of 2^32.
const GOLDEN_RATIO: u32 = 0x9E37_79B9;

/// Positions and confidence of the geometry that is shown.
pub(crate) struct Branch<'a> {
    /// [S, H, W, 3]
    pub(crate) positions: &'a [f32],
    /// [S, H, W]; `None` stands for 1 everywhere.
    pub(crate) confidence: Option<&'a [f32]>,
}

/// Everything that is known about every pixel, each in raster order.
pub(crate) struct Columns<'a> {
    /// RGB in [0, 1]. [S, 3, H, W]
    pub(crate) images: &'a [f32],
    pub(crate) branch: Branch<'a>,
    /// [S, H, W]
    pub(crate) keep: Option<&'a [bool]>,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Columns<'_> {
    /// The confidence of a pixel, 0 where it is masked; `None` when it or the position is not finite.
    fn confidence(&self, pixel: usize) -> Option<f32> {
        let confidence = self.branch.confidence.map_or(1.0, |c| c[pixel]);
        let position = self.position(pixel);
        if !confidence.is_finite() || position.iter().any(|x| !x.is_finite()) {
            return None;
        }
        let masked = self.keep.is_some_and(|keep| !keep[pixel]);
        Some(if masked { 0.0 } else { confidence })
    }

    fn position(&self, pixel: usize) -> [f32; 3] {
        let p = &self.branch.positions[3 * pixel..3 * pixel + 3];
        [p[0], p[1], p[2]]
    }

    fn color(&self, frame: usize, in_frame: usize) -> [u8; 3] {
        let plane = self.width * self.height;
        // numpy: (images * 255).astype(np.uint8), which cuts off and does not round.
        [0, 1, 2]
            .map(|channel| (self.images[(3 * frame + channel) * plane + in_frame] * 255.0) as u8)
    }
}

/// The points of the frames in `shown` that `options` keep, not yet thinned.
pub(crate) fn gather(
    columns: &Columns<'_>,
    shown: Range<usize>,
    options: &SceneOptions,
) -> PointCloud {
    let plane = columns.width * columns.height;
    let pixels = shown.start * plane..shown.end * plane;
    let threshold = filter::confidence_threshold(
        pixels.clone().filter_map(|pixel| columns.confidence(pixel)),
        pixels.len(),
        options.conf_thres,
    );
    // Ties can keep a few more; the columns grow then.
    let expected = (pixels.len() as f64 * (1.0 - f64::from(options.conf_thres) / 100.0)).ceil();
    let mut cloud = PointCloud::with_capacity(expected as usize + 1, columns.width, columns.height);
    for pixel in pixels {
        let Some(confidence) = columns.confidence(pixel) else {
            continue;
        };
        if confidence < threshold || confidence <= filter::MIN_CONFIDENCE {
            continue;
        }
        let color = columns.color(pixel / plane, pixel % plane);
        if (options.mask_black_bg && mask::is_black(color))
            || (options.mask_white_bg && mask::is_white(color))
        {
            continue;
        }
        cloud.positions.push(columns.position(pixel));
        cloud.colors.push(color);
        cloud.confidence.push(confidence);
        cloud.source.push(pixel as u32);
    }
    cloud
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_leaves_no_stripes() {
        // Half of the pixels of rows of even length: both columns of each pair must be met equally often.
        let mut column: Vec<usize> = (0..100_000).collect();
        thin_column(&mut column, 50_000);
        let odd = column.iter().filter(|i| *i % 2 == 1).count();
        assert!((24_000..26_000).contains(&odd), "{odd}");
    }

    #[test]
    fn thinning_keeps_one_of_each_equal_stretch() {
        for (len, limit) in [(10, 3), (10, 9), (7, 1), (1000, 333)] {
            let mut column: Vec<usize> = (0..len).collect();
            thin_column(&mut column, limit);
            assert_eq!(column.len(), limit);
            let stretch = |value: usize| (value * limit + limit - 1) / len;
            let stretches: Vec<usize> = column.iter().copied().map(stretch).collect();
            let each: Vec<usize> = (0..limit).collect();
            assert_eq!(stretches, each, "{len} to {limit}: {column:?}");
        }
    }
}
