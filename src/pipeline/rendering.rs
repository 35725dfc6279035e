//! A picture of a scene's points, for lists of scenes: small, and made without a graphics card.

use image::{RgbImage, imageops, imageops::FilterType};

use super::{PipelineError, stills::jpeg};
use crate::scene::{Affine, PredictedFrames, Scene, SceneError};

/// Width and height in pixels, that of a card in a gallery at twice its size.
const SIZE: [u32; 2] = [480, 360];

/// Pixels along each side of one in the picture: their mean has smooth edges.
const FINER: u32 = 2;

/// Tangent of half the field of view along the height.
const TAN_HALF_FIELD: f32 = 0.466;

/// From where the scene is seen: turned about its middle by so much to the left and up of the first camera, in degrees, so that it
/// looks like a scene and not like its first photo.
const TURN: [f32; 2] = [18.0, 14.0];

/// Points that are drawn: several for each pixel.
const MOST: usize = 2_000_000;

/// Points that decide from how far the scene is seen.
const SAMPLE: usize = 20_000;

/// This share of them is in the picture; the others are often strays.
const SEEN: f32 = 0.9;

const BACKGROUND: [u8; 3] = [20, 22, 26];

/// Returns a picture of the points of `scene`, which was built from `frames`, as a JPEG.
///
/// Reads one frame at a time, twice.
///
/// # Errors
/// When a frame cannot be read or the picture cannot be encoded.
pub(super) fn rendering(
    scene: &Scene,
    frames: &dyn PredictedFrames,
) -> Result<Vec<u8>, PipelineError> {
    let thinned = (scene.points.len() > MOST).then(|| scene.thinned(MOST));
    let scene = thinned.as_ref().unwrap_or(scene);
    let points = scene.points.over(frames);
    let step = scene.points.len().div_ceil(SAMPLE).max(1);
    let (mut sample, mut index) = (Vec::new(), 0);
    points.for_each_position(|positions| {
        for position in positions {
            if index % step == 0 {
                sample.push(*position);
            }
            index += 1;
        }
        Ok::<(), SceneError>(())
    })?;
    let shown = scene.views.len().max(1);
    let view = View::of(scene, &sample, scene.points.len() / shown);
    let mut canvas = Canvas::new();
    points.for_each(|cloud| {
        let all = cloud.positions.iter().zip(&cloud.colors);
        all.for_each(|(position, color)| canvas.draw(&view, *position, *color));
        Ok::<(), SceneError>(())
    })?;
    let small = imageops::resize(&canvas.image, SIZE[0], SIZE[1], FilterType::Triangle);
    jpeg(&small, 0)
}

/// From where the points are seen.
struct View {
    /// World space to the first camera's: x right, y down, z forward.
    camera_from_world: Affine,
    /// Depth of the point about which the eye turns.
    middle: f32,
    /// Sine and cosine of the turns.
    yaw: (f32, f32),
    pitch: (f32, f32),
    /// How far the eye is from the middle.
    distance: f32,
    /// Side of a point in the scene.
    spacing: f32,
}

impl View {
    /// Sees the most of `sample` from somewhat beside the first camera; a frame has so many points.
    fn of(scene: &Scene, sample: &[[f32; 3]], points_of_frame: usize) -> Self {
        let first = scene.views.first();
        let mut view = Self {
            camera_from_world: first.map_or(Affine::diagonal(1.0, 1.0, 1.0), |view| {
                view.camera_from_world
            }),
            middle: 0.0,
            yaw: TURN[0].to_radians().sin_cos(),
            pitch: TURN[1].to_radians().sin_cos(),
            distance: 0.0,
            spacing: 0.0,
        };
        let depths = sample.iter().map(|p| view.seen(*p)[2]);
        view.middle = at_share(depths.collect(), 0.5).max(f32::MIN_POSITIVE);
        let aspect = SIZE[0] as f32 / SIZE[1] as f32;
        // So far the eye has to go back to see a point.
        let distances = sample.iter().map(|p| {
            let [x, y, z] = view.turned(*p);
            (x.abs() / aspect).max(y.abs()) / TAN_HALF_FIELD - z
        });
        view.distance = at_share(distances.collect(), SEEN).max(0.1 * view.middle);
        view.spacing = view.middle / (0.7 * (points_of_frame.max(1) as f32).sqrt()).max(50.0);
        view
    }

    /// In the first camera's axes.
    fn seen(&self, position: [f32; 3]) -> [f32; 3] {
        let seen = self.camera_from_world.apply(position.map(f64::from));
        seen.map(|x| x as f32)
    }

    /// In the eye's axes, from the middle.
    fn turned(&self, position: [f32; 3]) -> [f32; 3] {
        let [x, y, z] = self.seen(position);
        let z = z - self.middle;
        let (sin, cos) = self.yaw;
        let (x, z) = (cos * x + sin * z, cos * z - sin * x);
        let (sin, cos) = self.pitch;
        // Up is where y is less.
        [x, cos * y - sin * z, cos * z + sin * y]
    }
}

/// Returns the value that this share of the finite values does not exceed; 0 where there is none.
fn at_share(mut values: Vec<f32>, share: f32) -> f32 {
    values.retain(|value| value.is_finite());
    let last = values.len().saturating_sub(1);
    let rank = (share * last as f32) as usize;
    if values.is_empty() {
        return 0.0;
    }
    *values.select_nth_unstable_by(rank, f32::total_cmp).1
}

/// The picture, and how far what it shows is away.
struct Canvas {
    image: RgbImage,
    depth: Vec<f32>,
}

impl Canvas {
    fn new() -> Self {
        let [width, height] = SIZE.map(|side| FINER * side);
        Self {
            image: RgbImage::from_pixel(width, height, image::Rgb(BACKGROUND)),
            depth: vec![f32::INFINITY; (width * height) as usize],
        }
    }

    /// Draws a point as a square, nearer ones over farther ones.
    fn draw(&mut self, view: &View, position: [f32; 3], color: [u8; 3]) {
        let [x, y, z] = view.turned(position);
        let depth = z + view.distance;
        // Also false where something is not a number.
        if !(depth > 0.02 * view.distance && depth.is_finite()) {
            return;
        }
        let (width, height) = self.image.dimensions();
        let focal = height as f32 / 2.0 / TAN_HALF_FIELD;
        let (x, y) = (
            width as f32 / 2.0 + focal * x / depth,
            height as f32 / 2.0 + focal * y / depth,
        );
        let half = (focal * view.spacing / depth / 2.0).clamp(0.5, 12.0);
        let range = |at: f32, end: u32| {
            // Casts saturate: what lies outside is empty.
            let first = (at - half).round().max(0.0) as u32;
            first..((at + half).round().max(0.0) as u32).min(end)
        };
        for row in range(y, height) {
            for column in range(x, width) {
                let nearest = &mut self.depth[(row * width + column) as usize];
                if depth < *nearest {
                    *nearest = depth;
                    self.image.put_pixel(column, row, image::Rgb(color));
                }
            }
        }
    }
}
