//! Corners: places of a photo that look like no place beside them.

use nalgebra::Vector2;

use crate::gray::Gray;

/// Half the side of the window over which gradients are summed, pixels.
const WINDOW: usize = 2;
/// A corner is a maximum among the pixels that are at most this far away.
const APART: usize = 3;
/// Corners keep this distance from the border, pixels: patches around them must lie inside.
const BORDER: usize = 8;
/// Smallest eigenvalue of the mean gradient products of a corner. Noise of a good photo, two gray levels, makes about 4.
const WEAKEST: f32 = 15.0;

/// Returns at most `count` corners, spread over the photo: the strongest of each cell of a grid, in raster order of the cells. Pixels,
/// with centers at half numbers.
///
/// Shi and Tomasi, "Good features to track", 1994.
pub fn corners(photo: &Gray, count: usize) -> Vec<Vector2<f64>> {
    let strengths = strengths(photo);
    let (width, height) = (photo.width(), photo.height());
    if width <= 2 * BORDER || height <= 2 * BORDER {
        return Vec::new();
    }
    let cell = ((width * height) as f64 / count.max(1) as f64)
        .sqrt()
        .max(APART as f64);
    let (columns, rows) = (
        (width as f64 / cell).ceil() as usize,
        (height as f64 / cell).ceil() as usize,
    );
    let mut best: Vec<Option<(f32, usize, usize)>> = vec![None; columns * rows];
    for y in BORDER..height - BORDER {
        for x in BORDER..width - BORDER {
            let strength = strengths[y * width + x];
            let place =
                &mut best[(y as f64 / cell) as usize * columns + (x as f64 / cell) as usize];
            if strength < WEAKEST || place.is_some_and(|(stronger, ..)| stronger >= strength) {
                continue;
            }
            let around = |row: usize| &strengths[row * width + x - APART..=row * width + x + APART];
            let is_peak =
                (y - APART..=y + APART).all(|row| around(row).iter().all(|s| *s <= strength));
            if is_peak {
                *place = Some((strength, x, y));
            }
        }
    }
    let found = best.into_iter().flatten();
    found
        .map(|(_, x, y)| Vector2::new(x as f64 + 0.5, y as f64 + 0.5))
        .collect()
}

/// Returns the smaller eigenvalue of the mean products of gradients around each pixel, row by row.
fn strengths(photo: &Gray) -> Vec<f32> {
    let (width, height) = (photo.width(), photo.height());
    let mut found = vec![0.0; width * height];
    if width < 2 * WINDOW + 3 || height < 2 * WINDOW + 3 {
        return found;
    }
    // xx, xy and yy of the gradients of each row, summed along it; the last rows of the window, in a ring.
    let side = 2 * WINDOW + 1;
    let mut ring = vec![vec![[0.0f32; 3]; width]; side];
    let mut sums = vec![[0.0f32; 3]; width];
    let mut products = vec![[0.0f32; 3]; width];
    for y in 1..height - 1 {
        let (above, here, below) = (photo.row(y - 1), photo.row(y), photo.row(y + 1));
        for x in 1..width - 1 {
            let dx = 0.5 * (f32::from(here[x + 1]) - f32::from(here[x - 1]));
            let dy = 0.5 * (f32::from(below[x]) - f32::from(above[x]));
            products[x] = [dx * dx, dx * dy, dy * dy];
        }
        let row = &mut ring[y % side];
        for x in WINDOW..width - WINDOW {
            let mut sum = [0.0; 3];
            for product in &products[x - WINDOW..=x + WINDOW] {
                sum = [0, 1, 2].map(|k| sum[k] + product[k]);
            }
            // What leaves the window is subtracted: all are multiples of a quarter below 2^24, so the sums stay exact.
            let old = row[x];
            sums[x] = [0, 1, 2].map(|k| sums[x][k] + sum[k] - old[k]);
            row[x] = sum;
        }
        let Some(center) = (y + 1).checked_sub(side).map(|_| y - WINDOW) else {
            continue;
        };
        let scale = 1.0 / (side * side) as f32;
        for x in WINDOW..width - WINDOW {
            let [xx, xy, yy] = sums[x].map(|sum| sum * scale);
            let half = 0.5 * (xx - yy);
            found[center * width + x] = 0.5 * (xx + yy) - (half * half + xy * xy).sqrt();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_of_squares_are_found_and_edges_are_not() {
        let (width, height) = (96, 64);
        let inside = |i: usize| (20..44).contains(&(i % width)) && (16..40).contains(&(i / width));
        let pixels = (0..width * height)
            .map(|i| if inside(i) { 200 } else { 60 })
            .collect();
        let found = corners(&Gray::new(width, height, pixels).unwrap(), 200);
        for expected in [[20.0, 16.0], [44.0, 16.0], [20.0, 40.0], [44.0, 40.0]] {
            let near = |at: &Vector2<f64>| (at - Vector2::from(expected)).norm() < 3.0;
            assert!(
                found.iter().any(near),
                "{expected:?} is not among {found:?}"
            );
        }
        let stray = found.iter().find(|at| {
            let near = |x: f64, y: f64| (at.x - x).abs() < 4.0 && (at.y - y).abs() < 4.0;
            ![(20.0, 16.0), (44.0, 16.0), (20.0, 40.0), (44.0, 40.0)]
                .into_iter()
                .any(|(x, y)| near(x, y))
        });
        assert_eq!(stray, None);
    }

    #[test]
    fn a_blank_or_tiny_photo_has_no_corners() {
        for (width, height) in [(64, 64), (3, 3), (1, 200)] {
            let blank = Gray::new(width, height, vec![90; width * height]).unwrap();
            assert!(corners(&blank, 100).is_empty());
        }
    }
}
