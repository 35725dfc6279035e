//! Photos of a room whose cameras are known: a ray for each sample of each pixel, walls with noise that is the same nowhere.

use nalgebra::{Point3, Vector2, Vector3};
use vggt_refine::{DepthMap, Gray, Lens, Pose, View};

use super::hash;

/// Width and height of the photos, pixels.
pub(crate) const SIZE: [usize; 2] = [384, 288];
/// Pixels of the photo for each pixel of the depth map.
const COARSER: usize = 3;

/// Boxes by their two corners. The first one is seen from inside.
const BOXES: [[[f64; 3]; 2]; 4] = [
    [[-3.0, -1.5, -2.5], [3.0, 1.2, 2.5]],
    [[-0.6, 0.3, -0.4], [0.5, 1.2, 0.6]],
    [[1.6, -0.4, 1.2], [2.4, 1.2, 2.0]],
    [[-2.6, 0.0, 1.0], [-1.8, 1.2, 2.2]],
];

/// What is photographed.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Place {
    /// A room with three boxes in it.
    Room,
    /// One of its walls without end, and nothing else.
    Wall,
}

/// Returns the lens of all photos; the principal point is off the middle by half a pixel as a real one may be.
pub(crate) fn lens(k1: f64) -> Lens {
    Lens {
        focal: [330.0, 330.0],
        principal: [192.5, 143.5],
        k1,
    }
}

/// Takes a photo with the true depth behind each pixel of a smaller map.
pub(crate) fn view(place: Place, pose: &Pose, lens: &Lens) -> View {
    let [width, height] = SIZE;
    let back = pose.inverse();
    let eye = back * Point3::origin();
    let hit = |x: f64, y: f64| {
        let ray = back * lens.ray(&Vector2::new(x, y));
        let (distance, face) = nearest(place, &eye, &ray);
        (distance, eye + ray * distance, face)
    };
    let mut pixels = Vec::with_capacity(width * height);
    for i in 0..width * height {
        let (x, y) = ((i % width) as f64, (i / width) as f64);
        let samples = [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]];
        let colors = samples.map(|[u, v]| {
            let (distance, point, face) = hit(x + u, y + v);
            color(&point, face, distance / lens.focal[0])
        });
        pixels.push(colors.iter().sum::<f64>().mul_add(0.25, 0.5) as u8);
    }
    let (columns, rows) = (width / COARSER, height / COARSER);
    let middle = |i: usize| (i as f64 + 0.5) * COARSER as f64;
    let values =
        (0..columns * rows).map(|i| hit(middle(i % columns), middle(i / columns)).0 as f32);
    View {
        photo: Gray::new(width, height, pixels).unwrap(),
        pose: *pose,
        lens: *lens,
        lens_group: 0,
        noted_focal: None,
        depth: DepthMap {
            width: columns,
            height: rows,
            values: values.collect(),
            scale: [1.0 / COARSER as f64; 2],
            offset: [0.0; 2],
        },
    }
}

/// Returns how far along a ray, whose z in the camera's axes is 1, something is hit, and which face of which box.
fn nearest(place: Place, eye: &Point3<f64>, ray: &Vector3<f64>) -> (f64, u64) {
    if place == Place::Wall {
        // The camera's axes are not those of the world, but rays that miss are not photographed here.
        return ((BOXES[0][1][2] - eye.z) / ray.z, 5);
    }
    let mut best = (f64::INFINITY, 0);
    for (number, corners) in BOXES.iter().enumerate() {
        let (mut enter, mut leave) = ((f64::NEG_INFINITY, 0), (f64::INFINITY, 0));
        for axis in 0..3 {
            let at = |side: usize| (corners[side][axis] - eye[axis]) / ray[axis];
            let (near, far) = if ray[axis] > 0.0 { (0, 1) } else { (1, 0) };
            let face = |side: usize| (6 * number + 2 * axis + side) as u64;
            enter = if at(near) > enter.0 {
                (at(near), face(near))
            } else {
                enter
            };
            leave = if at(far) < leave.0 {
                (at(far), face(far))
            } else {
                leave
            };
        }
        let hit = match number {
            0 => leave,
            _ if enter.0 < leave.0 && enter.0 > 0.0 => enter,
            _ => continue,
        };
        if hit.0 < best.0 {
            best = hit;
        }
    }
    best
}

/// Noise in octaves down to the size of a pixel, 20 to 235.
fn color(point: &Point3<f64>, face: u64, pixel_size: f64) -> f64 {
    let (mut sum, mut weights) = (0.0, 0.0);
    for octave in 0..7_u32 {
        let cell = 0.8 / f64::from(1 << octave);
        if cell < 2.0 * pixel_size {
            break;
        }
        sum += noise(&(point / cell), face * 16 + u64::from(octave)) - 0.5;
        weights += 1.0;
    }
    (127.0 + 330.0 * sum / f64::max(weights, 1.0).sqrt()).clamp(20.0, 235.0)
}

/// Smooth noise between the corners of a lattice, 0 to 1.
fn noise(point: &Point3<f64>, seed: u64) -> f64 {
    let cell = point.map(f64::floor);
    let part = (point - cell).map(|x| x * x * (3.0 - 2.0 * x));
    let mut sum = 0.0;
    for corner in 0..8_u64 {
        let mut weight = 1.0;
        let mut key = seed;
        for axis in 0..3 {
            let upper = corner >> axis & 1;
            weight *= if upper == 1 {
                part[axis]
            } else {
                1.0 - part[axis]
            };
            key = hash(
                key.wrapping_mul(31)
                    .wrapping_add((cell[axis] as i64).wrapping_add(upper as i64) as u64),
            );
        }
        sum += weight * (key >> 11) as f64 / 2.0_f64.powi(53);
    }
    sum
}
