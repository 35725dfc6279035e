//! What is known of each view before it is refined: its photo, its predicted camera, and its predicted depth.

use nalgebra::{Matrix2, Point3, Vector2};

use crate::{
    bundle::Cameras,
    camera::{Lens, Pose},
    gray::Gray,
};

/// Half the side of the window in which a surface is taken for a plane, pixels of the depth map.
const WINDOW: isize = 2;
/// A window whose inverse depths leave their plane by more than this part holds an edge.
const EDGE: f64 = 0.05;
/// The step over which a surface's image is compared, pixels of the photo.
const STEP: f64 = 2.0;
/// A patch that another view sees larger or smaller than by this factor, or more oblique, is not the same to look at.
const MOST_WARPED: f64 = 3.0;

/// One photo with its predicted camera and depth.
#[derive(Debug, Clone)]
pub struct View {
    /// The photo, gray.
    pub photo: Gray,
    /// camera_from_world.
    pub pose: Pose,
    /// In pixels of the photo.
    pub lens: Lens,
    /// Views with the same number were taken with the same lens, and their photos have the same size.
    pub lens_group: usize,
    /// The focal length that the camera noted in the photo's EXIF, along both axes, pixels of the photo. It says where the refined one
    /// should be, which starts at the predicted one. What is not finite or not above 0 is ignored.
    pub noted_focal: Option<f64>,
    /// Depth of the scene along the camera's z axis.
    pub depth: DepthMap,
}

/// A depth map, which may be smaller than the photo and may show a part of it.
#[derive(Debug, Clone)]
pub struct DepthMap {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Depths along z, scene units, row by row: `width * height` of them. What is not finite or not above 0 is not known.
    pub values: Vec<f32>,
    /// Pixels of the map for each pixel of the photo, along x and y.
    pub scale: [f64; 2],
    /// Where the photo's upper left corner lies in the map, pixels.
    pub offset: [f64; 2],
}

/// A small piece of surface: the inverse of its depth as a plane over the photo.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surface {
    /// In the middle.
    pub(crate) inverse_depth: f64,
    /// Along x and y, for each pixel of the photo.
    slope: Vector2<f64>,
}

/// Where another view sees a piece of surface.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sighting {
    pub(crate) pixel: Vector2<f64>,
    /// Steps in that view over steps in this one.
    pub(crate) warp: Matrix2<f64>,
    /// Along that view's z axis.
    pub(crate) depth: f64,
}

impl DepthMap {
    /// Returns the pixel of the map that shows a point of the photo.
    fn place(&self, pixel: &Vector2<f64>) -> Option<(isize, isize)> {
        let x = (pixel.x * self.scale[0] + self.offset[0]).floor();
        let y = (pixel.y * self.scale[1] + self.offset[1]).floor();
        let inside = |x: f64, length: usize| (0.0..length as f64).contains(&x);
        (inside(x, self.width) && inside(y, self.height)).then_some((x as isize, y as isize))
    }

    fn inverse(&self, x: isize, y: isize) -> Option<f64> {
        let (x, y) = (usize::try_from(x).ok()?, usize::try_from(y).ok()?);
        let value = *self
            .values
            .get(y * self.width + x)
            .filter(|_| x < self.width)?;
        (value.is_finite() && value > 0.0).then(|| 1.0 / f64::from(value))
    }

    /// Returns the depth at a point of the photo.
    pub(crate) fn at(&self, pixel: &Vector2<f64>) -> Option<f64> {
        let (x, y) = self.place(pixel)?;
        self.inverse(x, y).map(|inverse| 1.0 / inverse)
    }

    /// Returns the surface at a point of the photo; parallel to the photo where the map has an edge or a hole.
    pub(crate) fn surface(&self, pixel: &Vector2<f64>) -> Option<Surface> {
        let (x, y) = self.place(pixel)?;
        let center = self.inverse(x, y)?;
        let around = (-WINDOW..=WINDOW).flat_map(|j| (-WINDOW..=WINDOW).map(move |i| (i, j)));
        let (mut sum, mut along, mut squares, mut count) = (0.0, Vector2::zeros(), 0.0, 0.0);
        for (i, j) in around.clone() {
            // A hole makes the sums lopsided.
            let inverse = self.inverse(x + i, y + j).unwrap_or(f64::NAN);
            sum += inverse;
            along += Vector2::new(i as f64, j as f64) * inverse;
            squares += (i * i) as f64;
            count += 1.0;
        }
        let (mean, slope) = (sum / count, along / squares);
        let off = |(i, j): (isize, isize)| {
            let plane = mean + slope.x * i as f64 + slope.y * j as f64;
            (self.inverse(x + i, y + j).unwrap_or(f64::NAN) - plane).abs() <= EDGE * center
        };
        if !around.clone().all(off) {
            return Some(Surface {
                inverse_depth: center,
                slope: Vector2::zeros(),
            });
        }
        let slope = Vector2::new(slope.x * self.scale[0], slope.y * self.scale[1]);
        // From the center of the map's pixel to the point.
        let middle =
            |x: isize, axis: usize| (x as f64 + 0.5 - self.offset[axis]) / self.scale[axis];
        let step = pixel - Vector2::new(middle(x, 0), middle(y, 1));
        Some(Surface {
            inverse_depth: mean + slope.dot(&step),
            slope,
        })
    }
}

/// Returns how view `to` sees the surface that view `from` shows at `pixel`, with `depth_factor` as the scale of `from`'s depths;
/// `None` where it does not, or sees it too differently.
pub(crate) fn sighting(
    cameras: &Cameras,
    (from, to): (usize, usize),
    (pixel, surface): (&Vector2<f64>, &Surface),
    depth_factor: f64,
) -> Option<Sighting> {
    let to_from = cameras.poses[to] * cameras.poses[from].inverse();
    let seen = |step: Vector2<f64>| {
        let inverse = surface.inverse_depth + surface.slope.dot(&step);
        let ray = cameras.lens(from).ray(&(pixel + step));
        let point = to_from * Point3::from(ray * (depth_factor / inverse));
        Some((cameras.lens(to).project(&point)?, point.z))
    };
    let (center, depth) = seen(Vector2::zeros())?;
    let along = |axis: Vector2<f64>| {
        let (ahead, _) = seen(axis * STEP)?;
        let (behind, _) = seen(-axis * STEP)?;
        Some((ahead - behind) / (2.0 * STEP))
    };
    let warp = Matrix2::from_columns(&[along(Vector2::x())?, along(Vector2::y())?]);
    let sizes = warp.singular_values();
    let fine =
        warp.determinant() > 0.0 && sizes.max() < MOST_WARPED && sizes.min() > 1.0 / MOST_WARPED;
    fine.then_some(Sighting {
        pixel: center,
        warp,
        depth,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENS: Lens = Lens {
        focal: [100.0, 100.0],
        principal: [64.0, 48.0],
        k1: 0.0,
    };

    /// A wall that recedes to the right, at half the size of the photo.
    fn wall() -> DepthMap {
        let depth = |i: usize| {
            let x = ((i % 64) as f64 + 0.5) * 2.0;
            // The inverse of a plane's depth is linear in the photo.
            (1.0 / (0.5 - 0.001 * x)) as f32
        };
        DepthMap {
            width: 64,
            height: 48,
            values: (0..64 * 48).map(depth).collect(),
            scale: [0.5, 0.5],
            offset: [0.0, 0.0],
        }
    }

    #[test]
    fn a_plane_is_read_between_the_pixels_of_the_map() {
        for x in [20.0, 61.3, 100.9] {
            let surface = wall().surface(&Vector2::new(x, 40.2)).unwrap();
            let error = surface.inverse_depth - (0.5 - 0.001 * x);
            assert!(error.abs() < 1e-6, "{x}: {error}");
            assert!((surface.slope - Vector2::new(-0.001, 0.0)).norm() < 1e-6);
        }
    }

    #[test]
    fn holes_and_the_outside_have_no_depth_and_edges_no_slope() {
        let mut map = wall();
        map.values[20 * 64 + 20] = f32::NAN;
        map.values[30 * 64 + 30] *= 2.0;
        assert!(map.surface(&Vector2::new(41.0, 41.0)).is_none());
        assert!(map.surface(&Vector2::new(-1.0, 41.0)).is_none());
        assert!(map.surface(&Vector2::new(f64::NAN, 41.0)).is_none());
        let beside = map.surface(&Vector2::new(43.0, 41.0)).unwrap();
        assert_eq!(beside.slope, Vector2::zeros());
        let edge = map.surface(&Vector2::new(61.0, 61.0)).unwrap();
        assert_eq!(edge.slope, Vector2::zeros());
    }

    #[test]
    fn a_step_to_the_side_moves_what_is_near_and_keeps_its_size() {
        let cameras = Cameras {
            poses: vec![Pose::identity(), Pose::translation(-0.2, 0.0, 0.0)],
            lenses: vec![LENS],
            lens_of: vec![0, 0],
        };
        let surface = Surface {
            inverse_depth: 0.5,
            slope: Vector2::zeros(),
        };
        let pixel = Vector2::new(70.0, 40.0);
        let seen = sighting(&cameras, (0, 1), (&pixel, &surface), 1.0).unwrap();
        assert!(
            (seen.pixel - Vector2::new(60.0, 40.0)).norm() < 1e-9,
            "{}",
            seen.pixel
        );
        assert!(
            (seen.warp - Matrix2::identity()).norm() < 1e-9 && (seen.depth - 2.0).abs() < 1e-12
        );
        // Twice as deep, half the shift.
        let seen = sighting(&cameras, (0, 1), (&pixel, &surface), 2.0).unwrap();
        assert!((seen.pixel.x - 65.0).abs() < 1e-9);
        // From the other side.
        let turned = Pose::rotation(nalgebra::Vector3::y() * std::f64::consts::PI);
        let cameras = Cameras {
            poses: vec![Pose::identity(), turned],
            ..cameras
        };
        assert!(sighting(&cameras, (0, 1), (&pixel, &surface), 1.0).is_none());
    }
}
