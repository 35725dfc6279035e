//! The shown frames' cameras, and the shapes that stand for them.

use std::{f64::consts::FRAC_1_SQRT_2, ops::Range};

use super::{
    Affine, SceneError,
    align::OPENGL_FROM_OPENCV,
    flat::Flat,
    frames::{Field, PredictedFrames},
};

/// Half the width of a camera's shape (the radius of its cone), in parts of the scene's scale; upstream's.
const WIDTH_OF_SCALE: f64 = 0.05;
/// Height of a camera's shape, in parts of the scene's scale; upstream's.
const HEIGHT_OF_SCALE: f64 = 0.1;
/// The second outline of a shape is the first one made this much smaller; upstream's.
const INNER_OUTLINE: f64 = 0.95;
/// The third outline is the first one turned this far about its axis, degrees; upstream's.
const TURNED_OUTLINE_DEG: f64 = 2.0;

/// A shown frame and its camera.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// Index of the frame, counted from 0 over all frames.
    pub frame: usize,
    /// Upstream's `extrinsic`, OpenCV axes.
    pub camera_from_world: Affine,
    /// Pinhole intrinsics in pixels of the network's input image. A pixel's column and row go in as they are: the
    /// network unprojects integer coordinates, so its pixel centers lie at integers.
    pub intrinsic: [[f64; 3]; 3],
}

impl View {
    /// The camera's pose.
    ///
    /// # Errors
    /// When the extrinsic has no finite inverse.
    pub fn world_from_camera(&self) -> Result<Affine, SceneError> {
        self.camera_from_world
            .inverse()
            .ok_or(SceneError::Camera { frame: self.frame })
    }
}

/// The shape of one camera: the three outlines of a four-sided cone, visible from both sides. World space.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraMesh {
    /// Index of the frame, counted from 0 over all frames.
    pub frame: usize,
    /// 14 corners; the one with index 1 is the camera's center.
    pub vertices: Vec<[f32; 3]>,
    /// 48 triangles, each followed 24 later by its back; 8 of them are without area, as upstream's are.
    pub faces: Vec<[u32; 3]>,
    /// sRGB.
    pub color: [u8; 3],
}

/// Reads the cameras of the frames in `shown`.
pub(crate) fn views(
    frames: &dyn PredictedFrames,
    shown: Range<usize>,
) -> Result<Vec<View>, SceneError> {
    shown
        .map(|frame| {
            let extrinsic = Flat::read_from(frames, frame, Field::Extrinsic)?;
            let intrinsic = Flat::read_from(frames, frame, Field::Intrinsic)?;
            let (extrinsic, intrinsic) = (extrinsic.read(), intrinsic.read());
            let (e, k) = (extrinsic.values()?, intrinsic.values()?);
            let row = |r: usize| [0, 1, 2, 3].map(|c| f64::from(e[4 * r + c]));
            Ok(View {
                frame,
                camera_from_world: Affine([0, 1, 2].map(row)),
                intrinsic: [0, 1, 2].map(|r| [0, 1, 2].map(|c| f64::from(k[3 * r + c]))),
            })
        })
        .collect()
}

/// One shape for each view, colored along the rainbow.
pub(crate) fn meshes(views: &[View], scale: f64) -> Result<Vec<CameraMesh>, SceneError> {
    let count = views.len() as f64;
    views
        .iter()
        .enumerate()
        .map(|(i, view)| {
            Ok(CameraMesh {
                frame: view.frame,
                vertices: vertices(&view.world_from_camera()?, scale),
                faces: faces(),
                color: gist_rainbow(i as f64 / count),
            })
        })
        .collect()
}

/// Port of `visual_util.py`, `integrate_camera_into_scene`, in the order that trimesh leaves the corners in after it
/// merged equal ones and dropped the base's center.
fn vertices(world_from_camera: &Affine, scale: f64) -> Vec<[f32; 3]> {
    let (radius, height) = (scale * WIDTH_OF_SCALE, scale * HEIGHT_OF_SCALE);
    let outline = [
        [radius, 0.0, 0.0],
        [0.0, 0.0, height],
        [0.0, radius, 0.0],
        [-radius, 0.0, 0.0],
        [0.0, -radius, 0.0],
    ];
    let (sin, cos) = TURNED_OUTLINE_DEG.to_radians().sin_cos();
    let turn = |p: [f64; 3]| [cos * p[0] - sin * p[1], sin * p[0] + cos * p[1], p[2]];
    let inner = outline.map(|p| p.map(|x| INNER_OUTLINE * x));
    // The turned tip is the tip itself.
    let turned = [outline[0], outline[2], outline[3], outline[4]].map(turn);

    // An eighth of a turn aligns the base with the image; the tip then sits at the camera's center.
    let eighth_turn = Affine([
        [FRAC_1_SQRT_2, -FRAC_1_SQRT_2, 0.0, 0.0],
        [FRAC_1_SQRT_2, FRAC_1_SQRT_2, 0.0, 0.0],
        [0.0, 0.0, 1.0, -height],
    ]);
    let world_from_cone = world_from_camera
        .after(&OPENGL_FROM_OPENCV)
        .after(&eighth_turn);
    outline
        .into_iter()
        .chain(inner)
        .chain(turned)
        .map(|p| world_from_cone.apply(p).map(|x| x as f32))
        .collect()
}

/// Port of `visual_util.py`, `compute_camera_faces`: thin triangles between the outlines, then their backs.
fn faces() -> Vec<[u32; 3]> {
    /// The tip, and the tip of the inner outline.
    const TIP: u32 = 1;
    const INNER_TIP: u32 = 6;
    // Two neighboring corners of the base, for each side.
    let sides = [[0, 2], [2, 3], [3, 4], [4, 0]];
    let inner = |corner: u32| corner + 5;
    let turned = |corner: u32| if corner == 0 { 10 } else { corner + 9 };
    let mut faces: Vec<[u32; 3]> = sides
        .into_iter()
        .flat_map(|[a, b]| {
            [
                [a, b, inner(b)],
                [a, inner(a), TIP],
                [INNER_TIP, b, TIP],
                [a, b, turned(b)],
                [a, turned(a), TIP],
                [TIP, b, TIP],
            ]
        })
        .collect();
    let backs: Vec<[u32; 3]> = faces.iter().map(|&[a, b, c]| [c, b, a]).collect();
    faces.extend(backs);
    faces
}

/// matplotlib's `gist_rainbow` at `x` in [0, 1), 8-bit: its 256 steps between these stops (position, r, g, b).
fn gist_rainbow(x: f64) -> [u8; 3] {
    const STOPS: [[f64; 4]; 8] = [
        [0.000, 1.0, 0.0, 0.16],
        [0.030, 1.0, 0.0, 0.0],
        [0.215, 1.0, 1.0, 0.0],
        [0.400, 0.0, 1.0, 0.0],
        [0.586, 0.0, 1.0, 1.0],
        [0.770, 0.0, 0.0, 1.0],
        [0.954, 1.0, 0.0, 1.0],
        [1.000, 1.0, 0.0, 0.75],
    ];
    let step = (x * 256.0).floor().clamp(0.0, 255.0);
    let segment = (1..STOPS.len() - 1)
        .find(|&i| STOPS[i][0] * 255.0 >= step)
        .unwrap_or(STOPS.len() - 1);
    let (from, to) = (STOPS[segment - 1], STOPS[segment]);
    let part = (step - from[0] * 255.0) / (to[0] * 255.0 - from[0] * 255.0);
    // Python: int(255 * x), which cuts off.
    [1, 2, 3].map(|c| (255.0 * (part * (to[c] - from[c]) + from[c])) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rainbow_is_matplotlibs() {
        // [tuple(int(255 * c) for c in colormaps["gist_rainbow"](i / 8)[:3]) for i in range(8)]
        let expected = [
            [255, 0, 40],
            [255, 131, 0],
            [205, 255, 0],
            [32, 255, 0],
            [0, 255, 139],
            [0, 197, 255],
            [0, 23, 255],
            [150, 0, 255],
        ];
        for (i, color) in expected.into_iter().enumerate() {
            assert_eq!(gist_rainbow(i as f64 / 8.0), color, "step {i}");
        }
    }

    #[test]
    fn every_triangle_has_its_back() {
        let faces = faces();
        assert_eq!(faces.len(), 48);
        for (front, back) in faces[..24].iter().zip(&faces[24..]) {
            assert_eq!([front[2], front[1], front[0]], *back);
        }
        assert!(faces.iter().flatten().all(|&v| v < 14));
    }
}
