//! Small patches of a photo, found again in another one.
//!
//! A patch is compared after its mean is subtracted and its contrast divided out (zero-mean normalized cross-correlation, ZNCC), so
//! that exposure does not matter. [`Patch::search`] tries whole pixels around a guess, [`Patch::follow`] finds the place between
//! pixels.

use nalgebra::{Matrix2, Vector2};

use crate::gray::Gray;

/// Half the side of a patch, pixels, without its center.
const HALF: usize = 5;
const SIDE: usize = 2 * HALF + 1;
const AREA: usize = SIDE * SIDE;
/// Standard deviation that a patch must have, gray levels: what is flatter than noise looks like everything.
const FLATTEST: f32 = 4.0;
/// A second place counts as one of its own when it is at least this far from the best, pixels.
const APART: usize = 4;
/// Steps between pixels. They shrink fast: most patches need four.
const STEPS: usize = 12;
/// The place is found when a step is shorter than this, pixels.
const SETTLED: f32 = 0.005;

/// A patch as it should look in the photo in which it is searched.
pub(crate) struct Patch {
    /// Mean 0, sum of squares 1; row by row.
    values: [f32; AREA],
    /// How the values change along x and y, less what mean and contrast take up.
    gradients: [[f32; 2]; AREA],
    /// Inverse of the sum of the products of the gradients.
    inverse: Matrix2<f32>,
}

/// Where a patch was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Found {
    pub(crate) at: Vector2<f64>,
    /// ZNCC, at most 1.
    pub(crate) score: f32,
    /// The score of the best place that is not beside this one; -1 where there is none.
    pub(crate) second: f32,
}

impl Patch {
    /// Takes the patch of `photo` around a point as it looks after `warp`, which maps steps in the photo to be searched to steps in
    /// this one; `None` where it is flat, has no corner or leaves the photo.
    pub(crate) fn new(photo: &Gray, at: &Vector2<f64>, warp: &Matrix2<f64>) -> Option<Self> {
        /// With a border for the gradients.
        const WIDE: usize = SIDE + 2;
        let reach = (HALF + 1) as f64;
        let corners = [
            [-reach, -reach],
            [reach, -reach],
            [-reach, reach],
            [reach, reach],
        ];
        let inside = |step: [f64; 2]| photo.holds(&(at + warp * Vector2::from(step)), 0.5);
        if !corners.into_iter().all(inside) {
            return None;
        }
        let (at, warp) = (at.cast::<f32>(), warp.cast::<f32>());
        let mut wide = [0.0f32; WIDE * WIDE];
        for (row, line) in wide.chunks_exact_mut(WIDE).enumerate() {
            for (column, value) in line.iter_mut().enumerate() {
                let step = Vector2::new(column as f32, row as f32).add_scalar(-(reach as f32));
                let place = at + warp * step;
                *value = photo.at(place.x, place.y);
            }
        }
        let (mut values, mut gradients) = ([0.0; AREA], [[0.0; 2]; AREA]);
        for row in 0..SIDE {
            for column in 0..SIDE {
                let (i, center) = (row * SIDE + column, (row + 1) * WIDE + column + 1);
                values[i] = wide[center];
                gradients[i] = [
                    0.5 * (wide[center + 1] - wide[center - 1]),
                    0.5 * (wide[center + WIDE] - wide[center - WIDE]),
                ];
            }
        }
        let norm = normalize(&mut values)?;
        for axis in 0..2 {
            let sum: f32 = gradients.iter().map(|g| g[axis]).sum();
            let along: f32 = gradients
                .iter()
                .zip(&values)
                .map(|(g, v)| g[axis] * v)
                .sum();
            for (gradient, value) in gradients.iter_mut().zip(&values) {
                let change = gradient[axis] - sum / AREA as f32 - along * value;
                gradient[axis] = change / norm;
            }
        }
        let mut products = Matrix2::zeros();
        for gradient in gradients.map(Vector2::from) {
            products += gradient * gradient.transpose();
        }
        Some(Self {
            values,
            gradients,
            inverse: products
                .try_inverse()
                .filter(|m| m.iter().all(|x| x.is_finite()))?,
        })
    }

    /// Returns the best of the whole pixels at most `radius` around a guess at which the patch lies inside the photo.
    pub(crate) fn search(
        &self,
        photo: &Gray,
        guess: &Vector2<f64>,
        radius: usize,
    ) -> Option<Found> {
        // Pixels of the patch's upper left corner.
        let range = |guess: f64, length: usize| {
            let middle = guess.floor() - HALF as f64;
            let last = length.checked_sub(SIDE)? as f64;
            let (from, to) = (middle - radius as f64, middle + radius as f64);
            // NaN fails the comparison.
            (from <= last && to >= 0.0).then(|| (from.max(0.0) as usize, to.min(last) as usize))
        };
        let ((left, right), (top, bottom)) = (
            range(guess.x, photo.width())?,
            range(guess.y, photo.height())?,
        );
        let (columns, rows) = (right - left + 1, bottom - top + 1);
        let width = columns + SIDE - 1;
        // What all places share, converted once.
        let mut window = Vec::with_capacity(width * (rows + SIDE - 1));
        for row in top..bottom + SIDE {
            let pixels = &photo.row(row)[left..left + width];
            window.extend(pixels.iter().map(|pixel| f32::from(*pixel)));
        }
        let norms = norms(&window, width, (columns, rows));
        let mut scores = vec![0.0f32; columns * rows];
        for (row, scores) in scores.chunks_exact_mut(columns).enumerate() {
            for (j, line) in self.values.chunks_exact(SIDE).enumerate() {
                let pixels = &window[(row + j) * width..(row + j + 1) * width];
                for (i, value) in line.iter().enumerate() {
                    // Over neighboring places, so that the loop becomes vector instructions.
                    let pixels = &pixels[i..i + columns];
                    scores
                        .iter_mut()
                        .zip(pixels)
                        .for_each(|(score, pixel)| *score += value * pixel);
                }
            }
        }
        scores
            .iter_mut()
            .zip(&norms)
            .for_each(|(score, norm)| *score /= norm);
        let best = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]))?;
        let (x, y) = (best % columns, best / columns);
        let is_apart =
            |i: &usize| (i % columns).abs_diff(x).max((i / columns).abs_diff(y)) >= APART;
        let second = (0..scores.len())
            .filter(is_apart)
            .map(|i| scores[i])
            .fold(-1.0, f32::max);
        let center = |place: usize, start: usize| (start + place + HALF) as f64 + 0.5;
        Some(Found {
            at: Vector2::new(center(x, left), center(y, top)),
            score: scores[best],
            second,
        })
    }

    /// Returns the place between pixels at which the patch fits best, at most `reach` from a start, and its score.
    ///
    /// Lucas and Kanade's method in its inverse form: Baker and Matthews, "Lucas-Kanade 20 years on", 2004.
    pub(crate) fn follow(
        &self,
        photo: &Gray,
        start: &Vector2<f64>,
        reach: f64,
    ) -> Option<(Vector2<f64>, f32)> {
        let mut at = *start;
        for _ in 0..STEPS {
            let seen = Self::around(photo, &at)?;
            let mut right = Vector2::zeros();
            for ((seen, value), gradient) in seen.iter().zip(&self.values).zip(&self.gradients) {
                right += Vector2::from(*gradient) * (seen - value);
            }
            let step = self.inverse * right;
            at -= step.cast::<f64>();
            let moved = (at - start).norm();
            if moved.is_nan() || moved > reach {
                return None;
            }
            if step.norm() < SETTLED {
                break;
            }
        }
        let seen = Self::around(photo, &at)?;
        let score = seen.iter().zip(&self.values).map(|(a, b)| a * b).sum();
        Some((at, score))
    }

    /// Returns the values around a point, with mean 0 and sum of squares 1.
    fn around(photo: &Gray, at: &Vector2<f64>) -> Option<[f32; AREA]> {
        if !photo.holds(at, HALF as f64 + 0.5) {
            return None;
        }
        let (x, y) = (at.x as f32 - HALF as f32, at.y as f32 - HALF as f32);
        let mut values = [0.0; AREA];
        for (row, line) in values.chunks_exact_mut(SIDE).enumerate() {
            for (column, value) in line.iter_mut().enumerate() {
                *value = photo.at(x + column as f32, y + row as f32);
            }
        }
        normalize(&mut values)?;
        Some(values)
    }
}

/// Makes the mean 0 and the sum of squares 1; returns the root of the sum of squares that was, `None` where it is too flat.
fn normalize(values: &mut [f32; AREA]) -> Option<f32> {
    let mean = values.iter().sum::<f32>() / AREA as f32;
    values.iter_mut().for_each(|value| *value -= mean);
    let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt();
    if norm < FLATTEST * (AREA as f32).sqrt() {
        return None;
    }
    values.iter_mut().for_each(|value| *value /= norm);
    Some(norm)
}

/// Returns the contrast of the patch at each place of a window: the root of the sum of squares about its mean.
fn norms(window: &[f32], width: usize, (columns, rows): (usize, usize)) -> Vec<f32> {
    let mut norms = Vec::with_capacity(columns * rows);
    // Sums over the rows of a patch, for each column of the window. Whole numbers below 2^24, so that they are exact.
    let (mut sums, mut squares) = (vec![0.0f32; width], vec![0.0f32; width]);
    let change = |row: usize, sign: f32, sums: &mut [f32], squares: &mut [f32]| {
        let pixels = &window[row * width..(row + 1) * width];
        for ((sum, square), pixel) in sums.iter_mut().zip(squares).zip(pixels) {
            *sum += sign * pixel;
            *square += sign * pixel * pixel;
        }
    };
    (0..SIDE - 1).for_each(|row| change(row, 1.0, &mut sums, &mut squares));
    for row in 0..rows {
        change(row + SIDE - 1, 1.0, &mut sums, &mut squares);
        for column in 0..columns {
            let sum: f32 = sums[column..column + SIDE].iter().sum();
            let square: f32 = squares[column..column + SIDE].iter().sum();
            let about_mean = square - sum * sum / AREA as f32;
            norms.push(about_mean.max(FLATTEST * FLATTEST * AREA as f32).sqrt());
        }
        change(row, -1.0, &mut sums, &mut squares);
    }
    norms
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A smooth texture, moved by a shift, as two photos.
    fn texture(shift: [f64; 2], gain: f64) -> Gray {
        let value = |i: usize| {
            let (x, y) = (
                (i % 96) as f64 + 0.5 - shift[0],
                (i / 96) as f64 + 0.5 - shift[1],
            );
            let waves = (0.37 * x + 0.11 * y).sin()
                + (0.23 * y - 0.19 * x).cos()
                + (0.51 * y).sin() * (0.29 * x).cos();
            (120.0 + gain * 25.0 * waves).round() as u8
        };
        Gray::new(96, 96, (0..96 * 96).map(value).collect()).unwrap()
    }

    #[test]
    fn a_patch_is_found_between_pixels_at_another_exposure() {
        let (from, to) = (texture([0.0, 0.0], 1.0), texture([6.3, -4.6], 0.7));
        let at = Vector2::new(48.5, 47.5);
        let patch = Patch::new(&from, &at, &Matrix2::identity()).unwrap();
        let found = patch.search(&to, &at, 9).unwrap();
        assert!(found.score > 0.9 && found.second < found.score, "{found:?}");
        let (place, score) = patch.follow(&to, &found.at, 2.0).unwrap();
        let error = (place - at - Vector2::new(6.3, -4.6)).norm();
        assert!(
            error < 0.05 && score > 0.99,
            "off by {error}, score {score}"
        );
    }

    #[test]
    fn a_patch_is_warped_as_it_is_told() {
        let from = texture([0.0, 0.0], 1.0);
        // The other photo shows everything 1.25 times as large about its origin.
        let value = |i: usize| {
            from.at(
                ((i % 96) as f32 + 0.5) / 1.25,
                ((i / 96) as f32 + 0.5) / 1.25,
            )
            .round() as u8
        };
        let to = Gray::new(96, 96, (0..96 * 96).map(value).collect()).unwrap();
        let at = Vector2::new(40.0, 36.0);
        let patch = Patch::new(&from, &at, &(Matrix2::identity() / 1.25)).unwrap();
        let (place, score) = patch
            .follow(&to, &(at * 1.25 + Vector2::new(0.7, -0.6)), 2.0)
            .unwrap();
        let error = (place - at * 1.25).norm();
        assert!(
            error < 0.05 && score > 0.99,
            "off by {error}, score {score}"
        );
    }

    #[test]
    fn flat_patches_and_places_outside_are_refused() {
        let photo = texture([0.0, 0.0], 1.0);
        let blank = Gray::new(96, 96, vec![80; 96 * 96]).unwrap();
        let (middle, identity) = (Vector2::new(48.0, 48.0), Matrix2::identity());
        assert!(Patch::new(&blank, &middle, &identity).is_none());
        assert!(Patch::new(&photo, &Vector2::new(3.0, 48.0), &identity).is_none());
        let patch = Patch::new(&photo, &middle, &identity).unwrap();
        assert!(
            patch
                .search(&blank, &Vector2::new(-60.0, 48.0), 9)
                .is_none()
        );
        assert!(
            patch
                .search(&blank, &Vector2::new(f64::NAN, 48.0), 9)
                .is_none()
        );
        assert!(patch.follow(&blank, &middle, 2.0).is_none());
        let tiny = Gray::new(8, 8, vec![80; 64]).unwrap();
        assert!(patch.search(&tiny, &Vector2::new(4.0, 4.0), 9).is_none());
    }
}
