//! Points as columns.

/// Points as columns of equal length, ordered by frame, then row, then column. 27 bytes a point.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PointCloud {
    /// World space, scene units.
    pub positions: Vec<[f32; 3]>,
    /// sRGB, as in the image.
    pub colors: Vec<[u8; 3]>,
    /// The network's confidence in the position, above 0; 0 for the single white point.
    pub confidence: Vec<f32>,
    /// Index of the pixel that the point comes from: (frame * height + row) * width + column of the network's input images.
    pub source: Vec<u64>,
    width: u32,
    height: u32,
}

impl PointCloud {
    /// Returns a cloud without points, of images of this width and height in pixels.
    pub(crate) fn of_images([width, height]: [u32; 2]) -> Self {
        Self {
            width,
            height,
            ..Self::default()
        }
    }

    /// Returns the placeholder for a scene in which no point passed the filters: one white point at (1, 0, 0).
    pub(crate) fn single_white(image_size: [u32; 2]) -> Self {
        Self {
            positions: vec![[1.0, 0.0, 0.0]],
            colors: vec![[255; 3]],
            confidence: vec![0.0],
            source: vec![0],
            ..Self::of_images(image_size)
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

    /// Returns the frame that `point` comes from, counted from 0 over all frames.
    ///
    /// # Panics
    /// When `point` is out of bounds.
    pub fn frame(&self, point: usize) -> usize {
        (self.source[point] / self.plane()) as usize
    }

    /// Returns the column and row of the pixel that `point` comes from, in the network's input image.
    ///
    /// # Panics
    /// When `point` is out of bounds.
    pub fn pixel(&self, point: usize) -> [u32; 2] {
        // Below the number of pixels of a frame, which fits 32 bits.
        let in_frame = (self.source[point] % self.plane()) as u32;
        [in_frame % self.width, in_frame / self.width]
    }

    /// Removes all points and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.positions.clear();
        self.colors.clear();
        self.confidence.clear();
        self.source.clear();
    }

    /// Appends the points of `other` with these indices, in this order.
    ///
    /// # Panics
    /// When an index is out of bounds.
    pub(crate) fn extend_from(&mut self, other: &Self, indices: impl Iterator<Item = usize>) {
        for i in indices {
            self.positions.push(other.positions[i]);
            self.colors.push(other.colors[i]);
            self.confidence.push(other.confidence[i]);
            self.source.push(other.source[i]);
        }
    }

    /// Makes room for `more` points, without any to spare.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.positions.reserve_exact(more);
        self.colors.reserve_exact(more);
        self.confidence.reserve_exact(more);
        self.source.reserve_exact(more);
    }

    fn plane(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}
