//! What depths are multiplied by, so that they agree with new cameras.

use super::{super::CorrectedCamera, geometry::median};
use crate::scene::{Affine, Field, Flat, PredictedFrames, SceneError, View};

/// Frames whose depths are looked at, at most, evenly.
const FRAMES: usize = 40;
/// Other frames that each is compared with, at most, evenly.
const OTHERS: usize = 12;
/// Pixels along each side of a frame.
const GRID: usize = 12;
/// Rays that meet at a smaller angle say little about depth, degrees.
const PARALLAX_DEG: f64 = 2.0;
/// Fewer ratios than this are not trusted.
const ENOUGH: usize = 100;

/// A camera as a ray and a projection need it.
struct Camera {
    camera_from_world: Affine,
    world_from_camera: Affine,
    k: [[f64; 3]; 3],
}

impl Camera {
    fn new(camera_from_world: Affine, k: [[f64; 3]; 3], frame: usize) -> Result<Self, SceneError> {
        let inverse = camera_from_world.inverse();
        Ok(Self {
            camera_from_world,
            world_from_camera: inverse.ok_or(SceneError::Camera { frame })?,
            k,
        })
    }

    fn center(&self) -> [f64; 3] {
        self.world_from_camera.0.map(|row| row[3])
    }

    /// The world's direction in which a pixel looks, as long as one unit of depth.
    fn ray(&self, [x, y]: [f64; 2]) -> [f64; 3] {
        let k = &self.k;
        let [x, y] = [(x - k[0][2]) / k[0][0], (y - k[1][2]) / k[1][1]];
        self.world_from_camera
            .0
            .map(|row| row[0] * x + row[1] * y + row[2])
    }

    /// The pixel in which a point of the world appears; `None` behind the camera.
    fn pixel(&self, point: [f64; 3]) -> Option<[f64; 2]> {
        let [x, y, z] = self.camera_from_world.apply(point);
        let k = &self.k;
        (z > 0.0).then(|| [k[0][0] * x / z + k[0][2], k[1][1] * y / z + k[1][2]])
    }
}

/// Returns the median of triangulated depths in parts of the network's, over pairs of frames whose new cameras are trusted; `None`
/// where there is too little parallax. Reads the depth of one frame at a time.
pub(super) fn measure(
    frames: &dyn PredictedFrames,
    network: &[View],
    new: &[CorrectedCamera],
    trusted: &[bool],
) -> Result<Option<f64>, SceneError> {
    if !frames.has(Field::Depth) {
        return Ok(None);
    }
    let usable: Vec<usize> = (0..network.len()).filter(|i| trusted[*i]).collect();
    let old = network
        .iter()
        .map(|view| Camera::new(view.camera_from_world, view.intrinsic, view.frame));
    let old = old.collect::<Result<Vec<Camera>, _>>()?;
    let new = new.iter().enumerate();
    let new = new.map(|(i, camera)| Camera::new(camera.camera_from_world, camera.intrinsic, i));
    let new = new.collect::<Result<Vec<Camera>, _>>()?;
    let mut ratios = Vec::new();
    for i in evenly(&usable, FRAMES) {
        let samples = samples(frames, i)?;
        let others: Vec<usize> = usable.iter().copied().filter(|j| *j != i).collect();
        for j in evenly(&others, OTHERS) {
            let pairs = samples.iter();
            ratios.extend(pairs.filter_map(|(at, depth)| {
                let seen = seen_at(&old[i], &old[j], *at, *depth, frames.size())?;
                Some(triangulated(&new[i], &new[j], [*at, seen])? / depth)
            }));
        }
    }
    match ratios.len() >= ENOUGH {
        true => Ok(median(&mut ratios).filter(|ratio| ratio.is_finite() && *ratio > 0.0)),
        false => Ok(None),
    }
}

/// Pixels of a frame on a grid over its photo, and their depths.
fn samples(frames: &dyn PredictedFrames, index: usize) -> Result<Vec<([f64; 2], f64)>, SceneError> {
    let (height, width) = frames.size();
    let area = frames.photo_area(index).within(height, width);
    let depth = Flat::read_from(frames, index, Field::Depth)?;
    let depth = depth.read();
    let depth = depth.values()?;
    let along = |side: std::ops::Range<usize>| {
        let (start, length) = (side.start, side.len());
        (0..GRID)
            .map(move |i| start + (2 * i + 1) * length / (2 * GRID))
            .filter(move |_| length > 0)
    };
    let pixels = along(area.rows()).flat_map(|row| along(area.columns()).map(move |c| (row, c)));
    let sample = |(row, column): (usize, usize)| {
        let value = f64::from(depth[row * width + column]);
        (value.is_finite() && value > 0.0).then_some(([column as f64, row as f64], value))
    };
    Ok(pixels.filter_map(sample).collect())
}

/// Where another camera sees the point at this depth; `None` outside of its image.
fn seen_at(
    from: &Camera,
    to: &Camera,
    at: [f64; 2],
    depth: f64,
    (height, width): (usize, usize),
) -> Option<[f64; 2]> {
    let (center, ray) = (from.center(), from.ray(at));
    let [x, y] = to.pixel([0, 1, 2].map(|k| center[k] + depth * ray[k]))?;
    let inside = (0.0..width as f64).contains(&x) && (0.0..height as f64).contains(&y);
    inside.then_some([x, y])
}

/// The depth along the first ray at which it is nearest to the second; `None` where they hardly meet or meet behind a camera.
fn triangulated(first: &Camera, second: &Camera, at: [[f64; 2]; 2]) -> Option<f64> {
    let dot = |a: [f64; 3], b: [f64; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    let (u, v) = (first.ray(at[0]), second.ray(at[1]));
    let (from, to) = (first.center(), second.center());
    let between = [0, 1, 2].map(|k| to[k] - from[k]);
    let (uu, uv, vv) = (dot(u, u), dot(u, v), dot(v, v));
    let (d, e) = (dot(u, between), dot(v, between));
    let determinant = uu * vv - uv * uv;
    // The square of the sine of the angle.
    if determinant.partial_cmp(&(PARALLAX_DEG.to_radians().sin().powi(2) * uu * vv))?
        != std::cmp::Ordering::Greater
    {
        return None;
    }
    let near = (d * vv - e * uv) / determinant;
    let far = (d * uv - e * uu) / determinant;
    (near > 0.0 && far > 0.0).then_some(near)
}

/// At most `count` of `all`, evenly.
fn evenly(all: &[usize], count: usize) -> impl Iterator<Item = usize> {
    let taken = all.len().min(count);
    (0..taken).map(move |i| all[(2 * i + 1) * all.len() / (2 * taken)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const K: [[f64; 3]; 3] = [[500.0, 0.0, 320.0], [0.0, 500.0, 240.0], [0.0, 0.0, 1.0]];

    fn camera(x: f64, k: [[f64; 3]; 3]) -> Camera {
        let at = Affine([
            [1.0, 0.0, 0.0, -x],
            [0.0, 1.0, 0.0, 0.0],
            [0.0, 0.0, 1.0, 0.0],
        ]);
        Camera::new(at, k, 0).unwrap()
    }

    #[test]
    fn rays_of_a_point_meet_at_its_depth_and_parallel_ones_nowhere() {
        let (a, b) = (camera(0.0, K), camera(1.0, K));
        let at = [350.0, 200.0];
        let seen = seen_at(&a, &b, at, 4.0, (480, 640)).unwrap();
        let found = triangulated(&a, &b, [at, seen]).unwrap();
        assert!((found - 4.0).abs() < 1e-9, "{found}");
        // The same offset in pixels with twice the focal length is twice as far.
        let mut longer = K;
        longer[0][0] = 1000.0;
        longer[1][1] = 1000.0;
        let found = triangulated(&camera(0.0, longer), &camera(1.0, longer), [at, seen]).unwrap();
        assert!((found - 8.0).abs() < 1e-9, "{found}");
        assert_eq!(triangulated(&a, &b, [at, at]), None);
        let nowhere = Affine::diagonal(1.0, f64::NAN, 1.0);
        assert!(Camera::new(nowhere, K, 0).is_err());
        // Behind both.
        assert_eq!(triangulated(&b, &a, [at, seen]), None);
    }

    #[test]
    fn all_are_taken_where_there_are_few() {
        assert_eq!(evenly(&[3, 5, 9], 5).collect::<Vec<_>>(), [3, 5, 9]);
        assert_eq!(evenly(&[0, 1, 2, 3, 4, 5], 2).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(evenly(&[], 2).count(), 0);
    }
}
