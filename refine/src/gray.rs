//! Gray photos and their pyramids.

use nalgebra::Vector2;

/// Levels end where a side would become shorter than this, pixels.
const SHORTEST: usize = 32;

/// A gray photo. Centers of pixels lie at half numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Gray {
    width: usize,
    height: usize,
    /// Row by row.
    pixels: Vec<u8>,
}

impl Gray {
    /// Wraps `width * height` values, row by row; `None` for any other number of them, or none.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Option<Self> {
        let fits = width.checked_mul(height) == Some(pixels.len()) && !pixels.is_empty();
        fits.then_some(Self {
            width,
            height,
            pixels,
        })
    }

    /// Returns a photo of one pixel.
    pub fn single(value: u8) -> Self {
        Self {
            width: 1,
            height: 1,
            pixels: vec![value],
        }
    }

    /// Returns the width, pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns the height, pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Returns the values of one row.
    pub(crate) fn row(&self, row: usize) -> &[u8] {
        &self.pixels[row * self.width..(row + 1) * self.width]
    }

    /// Returns whether a point lies at least `margin` inside.
    pub(crate) fn holds(&self, at: &Vector2<f64>, margin: f64) -> bool {
        let inside = |x: f64, length: usize| x >= margin && x <= length as f64 - margin;
        inside(at.x, self.width) && inside(at.y, self.height)
    }

    /// Returns the value at a point, bilinear between the centers of pixels; at the border that of the nearest one.
    pub(crate) fn at(&self, x: f32, y: f32) -> f32 {
        let split = |x: f32, length: usize| {
            // Casts saturate: NaN becomes 0.
            let x = (x - 0.5).clamp(0.0, (length - 1) as f32);
            let low = (x as usize).min(length.saturating_sub(2));
            (low, (low + 1).min(length - 1), x - low as f32)
        };
        let (left, right, u) = split(x, self.width);
        let (top, bottom, v) = split(y, self.height);
        let (top, bottom) = (top * self.width, bottom * self.width);
        let value = |at: usize| f32::from(self.pixels[at]);
        let upper = value(top + left) + u * (value(top + right) - value(top + left));
        let lower = value(bottom + left) + u * (value(bottom + right) - value(bottom + left));
        upper + v * (lower - upper)
    }

    /// Returns the photo at half its size: means of 2 x 2 pixels. Of an odd number of rows or columns the last is left out.
    fn halved(&self) -> Self {
        let (width, height) = (self.width / 2, self.height / 2);
        let mut pixels = Vec::with_capacity(width * height);
        for row in 0..height {
            let (upper, lower) = (self.row(2 * row), self.row(2 * row + 1));
            let pairs = upper.chunks_exact(2).zip(lower.chunks_exact(2));
            pixels.extend(pairs.map(|(a, b)| {
                let sum = [a[0], a[1], b[0], b[1]].map(u16::from).iter().sum::<u16>();
                ((sum + 2) / 4) as u8
            }));
        }
        Self {
            width,
            height,
            pixels,
        }
    }
}

/// A photo at its own size, at half of it, at a quarter, and so on: a point of level 0 lies at half its coordinates in level 1.
#[derive(Debug, Clone)]
pub(crate) struct Pyramid {
    levels: Vec<Gray>,
}

impl Pyramid {
    pub(crate) fn new(photo: Gray) -> Self {
        let mut levels = vec![photo];
        while let Some(last) = levels.last()
            && last.width.min(last.height) >= 2 * SHORTEST
        {
            let next = last.halved();
            levels.push(next);
        }
        Self { levels }
    }

    /// Returns a level; the last one for any that would be smaller.
    pub(crate) fn level(&self, level: usize) -> &Gray {
        &self.levels[level.min(self.levels.len() - 1)]
    }

    /// Returns the number of levels, at least 1.
    pub(crate) fn len(&self) -> usize {
        self.levels.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_at_the_centers_of_pixels() {
        let gray = Gray::new(2, 2, vec![0, 100, 50, 150]).unwrap();
        for (x, y, value) in [
            (0.5, 0.5, 0.0),
            (1.5, 0.5, 100.0),
            (1.0, 1.0, 75.0),
            (-9.0, 9.0, 50.0),
        ] {
            assert_eq!(gray.at(x, y), value, "{x}, {y}");
        }
        assert_eq!(Gray::new(1, 1, vec![7]).unwrap().at(0.1, 0.9), 7.0);
        assert!(Gray::new(2, 2, vec![0; 3]).is_none() && Gray::new(0, 2, vec![]).is_none());
    }

    #[test]
    fn a_level_has_half_the_coordinates_of_the_one_below() {
        let slope: Vec<u8> = (0..128 * 65).map(|i| (i % 128) as u8).collect();
        let pyramid = Pyramid::new(Gray::new(128, 65, slope).unwrap());
        assert_eq!(pyramid.len(), 2);
        let (fine, coarse) = (
            pyramid.level(0).at(40.0, 20.0),
            pyramid.level(1).at(20.0, 10.0),
        );
        assert!((fine - coarse).abs() <= 0.5, "{fine} and {coarse}");
    }
}
