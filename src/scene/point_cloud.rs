//! The kept points, as columns, and how they are gathered from the pixels.

use std::ops::Range;

use super::{
    PhotoArea, SceneError, SceneOptions, filter,
    flat::{Flat, Reading},
    frames::{Field, PredictedFrames},
    mask,
};

/// Points as columns of equal length, ordered by frame, then row, then column. 23 bytes a point.
#[derive(Debug, Clone, PartialEq)]
pub struct PointCloud {
    /// World space, scene units.
    pub positions: Vec<[f32; 3]>,
    /// sRGB, as in the image.
    pub colors: Vec<[u8; 3]>,
    /// The network's confidence in the position, above 0; 0 for the single white point.
    pub confidence: Vec<f32>,
    /// Index of the pixel that the point comes from: (frame * height + row) * width + column of the network's input images.
    pub source: Vec<u32>,
    width: u32,
    height: u32,
}

impl PointCloud {
    /// Returns the placeholder for a scene in which no point passed the filters: one white point at (1, 0, 0).
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

    /// Returns the number of points.
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Returns true when there are no points.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Returns the width and height of the network's input images in pixels.
    pub fn image_size(&self) -> [u32; 2] {
        [self.width, self.height]
    }

    /// Returns the frame that `point` comes from, counted from 0 over all frames.
    ///
    /// # Panics
    /// When `point` is out of bounds.
    pub fn frame(&self, point: usize) -> u32 {
        self.source[point] / (self.width * self.height)
    }

    /// Returns the column and row of the pixel that `point` comes from, in the network's input image.
    ///
    /// # Panics
    /// When `point` is out of bounds.
    pub fn pixel(&self, point: usize) -> [u32; 2] {
        let in_frame = self.source[point] % (self.width * self.height);
        [in_frame % self.width, in_frame / self.width]
    }

    /// Returns the points with these indices, in this order.
    ///
    /// # Panics
    /// When an index is out of bounds.
    #[must_use]
    pub fn select(&self, indices: &[u32]) -> Self {
        let mut selected =
            Self::with_capacity(indices.len(), self.width as usize, self.height as usize);
        for &i in indices {
            let i = i as usize;
            selected.positions.push(self.positions[i]);
            selected.colors.push(self.colors[i]);
            selected.confidence.push(self.confidence[i]);
            selected.source.push(self.source[i]);
        }
        selected
    }

    /// Thins to at most `limit` points, evenly along their order, which is preserved.
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
// A fixed position in each stretch would leave stripes in the image wherever a row is a multiple of the stretch; the
// multiples of the golden ratio visit the positions as evenly as possible without repeating.
fn thin_column<T: Copy>(column: &mut Vec<T>, limit: usize) {
    let len = column.len() as u128;
    let start = |i: usize| (i as u128 * len / limit as u128) as usize;
    for i in 0..limit {
        let (from, to) = (start(i), start(i + 1));
        let share = (i as u32).wrapping_mul(GOLDEN_RATIO) as u64;
        let offset = (share * (to - from) as u64) >> 32;
        // Lies in stretch `i`, so never before `i`: the element that is read has not been overwritten.
        column[i] = column[from + offset as usize];
    }
    column.truncate(limit);
    column.shrink_to_fit();
}

/// (sqrt(5) - 1) / 2 as a fraction of 2^32.
const GOLDEN_RATIO: u32 = 0x9E37_79B9;

/// The geometry that is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Branch {
    /// World points, [H, W, 3] for each frame.
    pub(crate) positions: Field,
    /// Their confidence, [H, W] for each frame; `None` stands for 1 everywhere.
    pub(crate) confidence: Option<Field>,
}

/// Positions and confidence of the pixels of one frame, in raster order.
struct FrameGeometry<'a> {
    positions: &'a [f32],
    confidence: Option<&'a [f32]>,
    keep: Option<&'a [bool]>,
    photo: PhotoArea,
    width: usize,
}

impl FrameGeometry<'_> {
    /// Returns the confidence of a pixel, 0 where it is masked; `None` when it lies outside of the photo, or the confidence
    /// or the position is not finite.
    fn confidence(&self, pixel: usize) -> Option<f32> {
        if !self.photo.contains(pixel / self.width, pixel % self.width) {
            return None;
        }
        let confidence = self.confidence.map_or(1.0, |c| c[pixel]);
        let position = self.position(pixel);
        if !confidence.is_finite() || position.iter().any(|x| !x.is_finite()) {
            return None;
        }
        let masked = self.keep.is_some_and(|keep| !keep[pixel]);
        Some(if masked { 0.0 } else { confidence })
    }

    fn position(&self, pixel: usize) -> [f32; 3] {
        let p = &self.positions[3 * pixel..3 * pixel + 3];
        [p[0], p[1], p[2]]
    }
}

/// Reads the geometry of frame `index` and passes it to `f`.
fn with_geometry<T>(
    frames: &dyn PredictedFrames,
    index: usize,
    branch: Branch,
    f: impl FnOnce(&FrameGeometry<'_>) -> T,
) -> Result<T, SceneError> {
    let positions = Flat::read_from(frames, index, branch.positions)?;
    let confidence = branch
        .confidence
        .map(|field| Flat::read_from(frames, index, field))
        .transpose()?;
    let (positions, confidence) = (positions.read(), confidence.as_ref().map(Flat::read));
    let keep = frames.keep(index);
    Ok(f(&FrameGeometry {
        positions: positions.values()?,
        confidence: confidence.as_ref().map(Reading::values).transpose()?,
        keep: keep.as_deref(),
        photo: frames.photo_area(index),
        width: frames.size().1,
    }))
}

/// Gathers the points of the frames in `shown` that `options` keep, not yet thinned.
///
/// Reads every frame twice, one at a time: the percentile of the confidence is one over all frames.
pub(crate) fn gather(
    frames: &dyn PredictedFrames,
    branch: Branch,
    shown: Range<usize>,
    options: &SceneOptions,
) -> Result<PointCloud, SceneError> {
    let (height, width) = frames.size();
    let plane = width * height;
    let pixels = shown.len() * plane;
    let threshold = confidence_threshold(frames, branch, shown.clone(), options.conf_thres)?;
    // Ties can keep a few more; the columns grow then.
    let expected = (pixels as f64 * (1.0 - f64::from(options.conf_thres) / 100.0)).ceil();
    let mut cloud = PointCloud::with_capacity(expected as usize + 1, width, height);
    for index in shown {
        let image = Flat::read_from(frames, index, Field::Image)?;
        let image = image.read();
        let image = image.values()?;
        // numpy: (images * 255).astype(np.uint8), which truncates and does not round.
        let color = |pixel: usize| [0, 1, 2].map(|c| (image[c * plane + pixel] * 255.0) as u8);
        with_geometry(frames, index, branch, |geometry| {
            for pixel in 0..plane {
                let Some(confidence) = geometry.confidence(pixel) else {
                    continue;
                };
                if confidence < threshold || confidence <= filter::MIN_CONFIDENCE {
                    continue;
                }
                let color = color(pixel);
                if (options.mask_black_bg && mask::is_black(color))
                    || (options.mask_white_bg && mask::is_white(color))
                {
                    continue;
                }
                cloud.positions.push(geometry.position(pixel));
                cloud.colors.push(color);
                cloud.confidence.push(confidence);
                cloud.source.push((index * plane + pixel) as u32);
            }
        })?;
    }
    Ok(cloud)
}

/// Returns the lowest confidence that is kept when `percent` of the points are dropped.
fn confidence_threshold(
    frames: &dyn PredictedFrames,
    branch: Branch,
    shown: Range<usize>,
    percent: f32,
) -> Result<f32, SceneError> {
    if percent == 0.0 {
        return Ok(0.0);
    }
    let (height, width) = frames.size();
    let plane = width * height;
    let mut values = Vec::with_capacity(shown.len() * plane);
    for index in shown {
        with_geometry(frames, index, branch, |geometry| {
            values.extend((0..plane).filter_map(|pixel| geometry.confidence(pixel)));
        })?;
    }
    Ok(filter::percentile(&mut values, f64::from(percent)).unwrap_or(0.0))
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
