//! Which pixels of the network's image show the photo, and which are padding around it.

use std::ops::Range;

use vggt_model::preprocess::Placement;

/// The columns and rows of the network's image whose pixel centers lie in the photo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhotoArea {
    columns: Range<usize>,
    rows: Range<usize>,
}

impl PhotoArea {
    /// Returns the area of a photo in a network image of `height` x `width` pixels.
    pub fn new(placement: &Placement, height: usize, width: usize) -> Self {
        let p = placement;
        Self {
            columns: inside(p.offset_x, f64::from(p.source_width) * p.scale_x, width),
            rows: inside(p.offset_y, f64::from(p.source_height) * p.scale_y, height),
        }
    }

    /// Returns the area that covers the whole image.
    pub fn whole(height: usize, width: usize) -> Self {
        Self {
            columns: 0..width,
            rows: 0..height,
        }
    }

    /// Returns the part of the area that lies in an image of `height` x `width` pixels.
    pub(crate) fn within(self, height: usize, width: usize) -> Self {
        Self {
            columns: self.columns.start..self.columns.end.min(width),
            rows: self.rows.start..self.rows.end.min(height),
        }
    }

    /// Returns the rows that show the photo.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Returns the columns that show the photo.
    pub fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// Returns true when the pixel in this row and column shows the photo.
    pub fn contains(&self, row: usize, column: usize) -> bool {
        self.rows.contains(&row) && self.columns.contains(&column)
    }
}

/// Returns the pixels of `0..length` whose centers, at half numbers, lie between `start` and `start + extent`.
fn inside(start: f64, extent: f64, length: usize) -> Range<usize> {
    // Pixel i lies inside from its center on: i + 0.5 >= start. Casts saturate: NaN and negative values become 0.
    let first_at_or_after = |edge: f64| ((edge - 0.5).ceil().max(0.0) as usize).min(length);
    first_at_or_after(start)..first_at_or_after(start + extent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(offset: [f64; 2], scale: f64) -> Placement {
        Placement {
            source_width: 100,
            source_height: 50,
            scale_x: scale,
            scale_y: scale,
            offset_x: offset[0],
            offset_y: offset[1],
        }
    }

    #[test]
    fn padding_lies_outside_and_a_cropped_photo_fills_the_image() {
        let area = PhotoArea::new(&placement([0.0, 14.0], 0.56), 56, 56);
        assert_eq!((area.columns, area.rows), (0..56, 14..42));
        let area = PhotoArea::new(&placement([-20.0, -3.0], 1.0), 42, 56);
        assert_eq!((area.columns, area.rows), (0..56, 0..42));
    }

    #[test]
    fn a_damaged_placement_holds_no_pixel() {
        let area = PhotoArea::new(&placement([f64::NAN, 0.0], 1.0), 56, 56);
        assert!(area.columns.is_empty());
    }
}
