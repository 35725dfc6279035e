//! Frames with other cameras than the network's.

use std::borrow::Cow;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use vggt_model::geometry::unproject_depth_map_to_point_map;
use vggt_refine::Lens;

use crate::scene::{
    Affine, Field, Flat, PhotoArea, PredictedFrames, SceneError, Unit, View, World, camera::views,
    quaternion,
};

/// The camera that a frame gets in place of the network's, and what that does to its depths.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CorrectedCamera {
    /// Where the camera stands in the new world, OpenCV axes; rotation and translation without scale.
    pub camera_from_world: Affine,
    /// Pinhole intrinsics in pixels of the network's input image, whose pixel centers lie at integers.
    pub intrinsic: [[f64; 3]; 3],
    /// What the network's depths are multiplied by: new scene units for each of the network's.
    pub depth_factor: f64,
    /// First coefficient of the lens's radial distortion, as in COLMAP's SIMPLE_RADIAL; 0 for none.
    pub k1: f64,
}

impl CorrectedCamera {
    /// Returns the camera of `view` as it is.
    pub fn of(view: &View) -> Self {
        Self {
            camera_from_world: view.camera_from_world,
            intrinsic: view.intrinsic,
            depth_factor: 1.0,
            k1: 0.0,
        }
    }
}

/// Frames with other cameras: depths are multiplied, their points are unprojected through the new cameras, and the points of the
/// point head are moved, all alike or each with its camera. Images, confidences and masks stay.
///
/// Holds the cameras, and reads one frame at a time.
pub struct CorrectedFrames {
    frames: Box<dyn PredictedFrames + Send>,
    cameras: Vec<CorrectedCamera>,
    points: PointMoves,
    world: World,
}

/// How the points of the point head move.
enum PointMoves {
    /// new_world_from_world, with its scale.
    Alike(Affine),
    /// As if they were fixed to the camera of their frame, and as its depths.
    WithCamera,
}

impl CorrectedFrames {
    /// Wraps `frames` with one camera for each; frames beyond the last camera cannot be read. `world` is new_world_from_world for
    /// the points of the point head, with its scale.
    pub fn new(
        frames: Box<dyn PredictedFrames + Send>,
        cameras: Vec<CorrectedCamera>,
        world: Affine,
    ) -> Self {
        Self {
            world: frames.world(),
            frames,
            cameras,
            points: PointMoves::Alike(world),
        }
    }

    /// As [`CorrectedFrames::new`]; the points of the point head move with the camera of their frame.
    pub fn moving_points(
        frames: Box<dyn PredictedFrames + Send>,
        cameras: Vec<CorrectedCamera>,
    ) -> Self {
        Self {
            world: frames.world(),
            frames,
            cameras,
            points: PointMoves::WithCamera,
        }
    }

    /// Sets the world that the cameras are in, where it is another than that of the frames.
    #[must_use]
    pub fn in_world(self, world: World) -> Self {
        Self { world, ..self }
    }

    fn camera(&self, index: usize, field: Field) -> Result<&CorrectedCamera, SceneError> {
        self.cameras.get(index).ok_or_else(|| SceneError::Shape {
            name: field.name(),
            expected: vec![self.frames.count()],
            found: vec![self.cameras.len()],
        })
    }

    fn points_from_depth(&self, index: usize) -> Result<Tensor, SceneError> {
        let camera = self.camera(index, Field::WorldPointsFromDepth)?;
        let depth = scaled_depth(&*self.frames, index, camera.depth_factor)?;
        if camera.k1 != 0.0 {
            return self.points_of_distorted(index, camera, &depth);
        }
        let points = || {
            let pose = matrix(&camera.camera_from_world.0)?.unsqueeze(0)?;
            let lens = matrix(&camera.intrinsic)?.unsqueeze(0)?;
            let depth = depth.to_device(&Device::Cpu)?.unsqueeze(0)?;
            unproject_depth_map_to_point_map(&depth, &pose, &lens)?.squeeze(0)
        };
        points().map_err(tensor(Field::WorldPointsFromDepth))
    }

    fn points(&self, index: usize) -> Result<Tensor, SceneError> {
        let field = Field::WorldPoints;
        let world = match self.points {
            PointMoves::Alike(IDENTITY) => return self.frames.read(index, field),
            PointMoves::Alike(world) => world,
            PointMoves::WithCamera => self.beside_camera(index)?,
        };
        moved_points(&*self.frames, index, field, &world)
    }

    /// Returns new_world_from_world for what keeps its place in the axes of a frame's camera, but for the factor of its depths.
    fn beside_camera(&self, index: usize) -> Result<Affine, SceneError> {
        let camera = self.camera(index, Field::WorldPoints)?;
        let before = views(&*self.frames, index..index + 1)?;
        let factor = camera.depth_factor;
        let before = before
            .first()
            .map_or(IDENTITY, |view| view.camera_from_world);
        let world_from_camera = camera.camera_from_world.inverse();
        let world_from_camera = world_from_camera.ok_or(SceneError::Camera { frame: index })?;
        Ok(world_from_camera
            .after(&Affine::diagonal(factor, factor, factor))
            .after(&before))
    }

    /// Unprojects depths through a lens with distortion. [H, W, 3], F32.
    fn points_of_distorted(
        &self,
        index: usize,
        camera: &CorrectedCamera,
        depth: &Tensor,
    ) -> Result<Tensor, SceneError> {
        let field = Field::WorldPointsFromDepth;
        let (height, width) = self.size();
        let depths = depth.flatten_all().and_then(|depth| depth.to_vec1::<f32>());
        let depths = depths.map_err(tensor(field))?;
        let world_from_camera = camera.camera_from_world.inverse();
        let world_from_camera = world_from_camera.ok_or(SceneError::Camera { frame: index })?;
        let k = &camera.intrinsic;
        let lens = Lens {
            focal: [k[0][0], k[1][1]],
            // Of the same pixels as the places below: the network's, whose centers lie at whole numbers.
            principal: [k[0][2], k[1][2]],
            k1: camera.k1,
        };
        let points = depths.iter().enumerate().flat_map(|(i, depth)| {
            let ray = lens.ray(&[(i % width) as f64, (i / width) as f64].into());
            let point = ray * f64::from(*depth);
            world_from_camera.apply(point.into()).map(|x| x as f32)
        });
        let points: Vec<f32> = points.collect();
        Tensor::from_vec(points, field.shape(height, width), &Device::Cpu).map_err(tensor(field))
    }

    /// The camera in the network's encoding, which has its principal point in the middle.
    fn pose_enc(&self, camera: &CorrectedCamera) -> candle_core::Result<Tensor> {
        let (height, width) = self.size();
        let [w, x, y, z] = quaternion(&camera.camera_from_world);
        let [tx, ty, tz] = camera.camera_from_world.0.map(|row| row[3]);
        let fov_rad = |pixels: usize, focal: f64| 2.0 * (pixels as f64 / 2.0 / focal).atan();
        let k = &camera.intrinsic;
        let (vertical, horizontal) = (fov_rad(height, k[1][1]), fov_rad(width, k[0][0]));
        let values = [tx, ty, tz, x, y, z, w, vertical, horizontal].map(|value| value as f32);
        Tensor::from_slice(&values, 9, &Device::Cpu)
    }
}

const IDENTITY: Affine = Affine([
    [1.0, 0.0, 0.0, 0.0],
    [0.0, 1.0, 0.0, 0.0],
    [0.0, 0.0, 1.0, 0.0],
]);

/// Returns the depths of a frame times a factor. [H, W, 1], F32.
pub(super) fn scaled_depth(
    frames: &dyn PredictedFrames,
    index: usize,
    factor: f64,
) -> Result<Tensor, SceneError> {
    let depth = frames.read(index, Field::Depth)?;
    let scaled = || depth.to_dtype(DType::F32)?.affine(factor, 0.0);
    scaled().map_err(tensor(Field::Depth))
}

/// Returns the points of a frame in another world. [H, W, 3], F32.
pub(super) fn moved_points(
    frames: &dyn PredictedFrames,
    index: usize,
    field: Field,
    new_world_from_world: &Affine,
) -> Result<Tensor, SceneError> {
    let (height, width) = frames.size();
    let points = Flat::read_from(frames, index, field)?;
    let points = points.read();
    let moved: Vec<f32> = points
        .values()?
        .chunks_exact(3)
        .flat_map(|p| new_world_from_world.apply_f32([p[0], p[1], p[2]]))
        .collect();
    Tensor::from_vec(moved, field.shape(height, width), &Device::Cpu).map_err(tensor(field))
}

/// Rows as the network has them. [3, N], F32.
pub(super) fn matrix<const N: usize>(rows: &[[f64; N]; 3]) -> candle_core::Result<Tensor> {
    let values: Vec<f32> = rows.iter().flatten().map(|x| *x as f32).collect();
    Tensor::from_vec(values, (3, N), &Device::Cpu)
}

/// Names the field that a tensor's error belongs to.
pub(super) fn tensor(field: Field) -> impl FnOnce(candle_core::Error) -> SceneError {
    let name = field.name();
    move |source| SceneError::Tensor { name, source }
}

impl PredictedFrames for CorrectedFrames {
    fn count(&self) -> usize {
        self.frames.count()
    }

    fn size(&self) -> (usize, usize) {
        self.frames.size()
    }

    fn has(&self, field: Field) -> bool {
        match field {
            Field::WorldPointsFromDepth => self.frames.has(Field::Depth),
            field => self.frames.has(field),
        }
    }

    fn read(&self, index: usize, field: Field) -> Result<Tensor, SceneError> {
        match field {
            Field::Extrinsic => {
                let pose = &self.camera(index, field)?.camera_from_world;
                matrix(&pose.0).map_err(tensor(field))
            }
            Field::Intrinsic => {
                matrix(&self.camera(index, field)?.intrinsic).map_err(tensor(field))
            }
            Field::PoseEnc => self
                .pose_enc(self.camera(index, field)?)
                .map_err(tensor(field)),
            Field::Depth => {
                let factor = self.camera(index, field)?.depth_factor;
                scaled_depth(&*self.frames, index, factor)
            }
            Field::WorldPointsFromDepth => self.points_from_depth(index),
            Field::WorldPoints => self.points(index),
            Field::Image | Field::DepthConf | Field::WorldPointsConf => {
                self.frames.read(index, field)
            }
        }
    }

    fn keep(&self, index: usize) -> Result<Option<Cow<'_, [bool]>>, SceneError> {
        self.frames.keep(index)
    }

    fn photo_area(&self, index: usize) -> PhotoArea {
        self.frames.photo_area(index)
    }

    fn unit(&self) -> Unit {
        self.frames.unit()
    }

    fn world(&self) -> World {
        self.world
    }
}

#[cfg(test)]
mod tests {
    use vggt_model::{Predictions, geometry::pose_encoding_to_extri_intri};

    use super::*;
    use crate::scene::FramesInMemory;

    const COUNT: usize = 2;
    const HEIGHT: usize = 3;
    const WIDTH: usize = 4;

    fn ramp(shape: &[usize], start: f64) -> Tensor {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count)
            .map(|i| (start + i as f64 * 0.1) as f32)
            .collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// Frames whose cameras and points belong together, as the network's do.
    fn predictions() -> Predictions {
        let pose_enc = [
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.9, 1.1],
            [0.3, -0.2, 0.1, 0.1, 0.2, -0.1, 0.969_535_97, 0.8, 1.0],
        ];
        let pose_enc: Vec<f32> = pose_enc.as_flattened().to_vec();
        let pose_enc = Tensor::from_vec(pose_enc, (COUNT, 9), &Device::Cpu).unwrap();
        let (extrinsic, intrinsic) =
            pose_encoding_to_extri_intri(&pose_enc, (HEIGHT, WIDTH)).unwrap();
        let depth = ramp(&[COUNT, HEIGHT, WIDTH, 1], 1.0);
        let world = unproject_depth_map_to_point_map(&depth, &extrinsic, &intrinsic).unwrap();
        Predictions {
            images: ramp(&[COUNT, 3, HEIGHT, WIDTH], 0.0),
            pose_enc,
            extrinsic,
            intrinsic,
            depth,
            depth_conf: ramp(&[COUNT, HEIGHT, WIDTH], 1.0),
            world_points: Some(world.clone()),
            world_points_conf: Some(ramp(&[COUNT, HEIGHT, WIDTH], 2.0)),
            world_points_from_depth: world,
            tracks: None,
        }
    }

    fn inner() -> FramesInMemory {
        FramesInMemory::new(predictions(), None).unwrap()
    }

    fn values(frames: &dyn PredictedFrames, index: usize, field: Field) -> Vec<f32> {
        let tensor = frames.read(index, field).unwrap();
        let (height, width) = frames.size();
        assert_eq!(tensor.dims(), field.shape(height, width), "{field:?}");
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn cameras() -> Vec<CorrectedCamera> {
        let views = views(&inner(), 0..COUNT).unwrap();
        views.iter().map(CorrectedCamera::of).collect()
    }

    #[test]
    fn the_same_cameras_give_the_same_bits() {
        let frames = CorrectedFrames::new(Box::new(inner()), cameras(), IDENTITY);
        for field in Field::ALL.into_iter().filter(|f| *f != Field::PoseEnc) {
            for index in 0..COUNT {
                let (found, expected) = (values(&frames, index, field), inner());
                assert_eq!(found, values(&expected, index, field), "{field:?}");
            }
        }
        for index in 0..COUNT {
            let found = values(&frames, index, Field::PoseEnc);
            let expected = values(&inner(), index, Field::PoseEnc);
            for (found, expected) in found.iter().zip(expected) {
                // The quaternion goes through a matrix in F32.
                assert!((found - expected).abs() < 1e-6, "{found} {expected}");
            }
        }
    }

    #[test]
    fn another_world_moves_cameras_depths_and_both_kinds_of_points_alike() {
        /// Positions near 10 in F32, after some dozen operations.
        const TOLERANCE: f32 = 1e-5;
        // Twice as large, a quarter turn about z, and a shift.
        let world = Affine([
            [0.0, -2.0, 0.0, 5.0],
            [2.0, 0.0, 0.0, -1.0],
            [0.0, 0.0, 2.0, 0.5],
        ]);
        let back = Affine([
            [0.0, 1.0, 0.0, 1.0],
            [-1.0, 0.0, 0.0, 5.0],
            [0.0, 0.0, 1.0, -0.5],
        ]);
        let moved = cameras().into_iter().map(|camera| {
            // Without the scale, which goes into the translation.
            let mut pose = camera.camera_from_world;
            pose.0.iter_mut().for_each(|row| row[3] *= 2.0);
            CorrectedCamera {
                camera_from_world: pose.after(&back),
                depth_factor: 2.0,
                ..camera
            }
        });
        let frames = CorrectedFrames::new(Box::new(inner()), moved.collect(), world);
        for index in 0..COUNT {
            let before = values(&inner(), index, Field::WorldPoints);
            let expected = before.chunks_exact(3);
            let expected: Vec<f32> = expected
                .flat_map(|p| world.apply_f32([p[0], p[1], p[2]]))
                .collect();
            for field in [Field::WorldPoints, Field::WorldPointsFromDepth] {
                for (found, expected) in values(&frames, index, field).iter().zip(&expected) {
                    assert!((found - expected).abs() < TOLERANCE, "{field:?} {index}");
                }
            }
            let depth = values(&frames, index, Field::Depth);
            let single = values(&inner(), index, Field::Depth);
            assert!(depth.iter().zip(single).all(|(a, b)| *a == 2.0 * b));
        }
    }

    #[test]
    fn points_can_move_with_the_camera_of_their_frame() {
        // The second camera steps aside, and its depths are a tenth larger.
        let mut moved = cameras();
        moved[1].camera_from_world.0[0][3] += 0.25;
        moved[1].depth_factor = 1.1;
        let frames = CorrectedFrames::moving_points(Box::new(inner()), moved);
        for index in 0..COUNT {
            let by_depth = values(&frames, index, Field::WorldPointsFromDepth);
            let by_head = values(&frames, index, Field::WorldPoints);
            for (a, b) in by_depth.iter().zip(by_head) {
                assert!((a - b).abs() < 1e-5, "frame {index}: {a} {b}");
            }
        }
    }

    #[test]
    fn points_of_a_distorted_lens_are_seen_where_they_come_from() {
        let mut bent = cameras();
        bent[0].k1 = -0.15;
        let (pose, k) = (bent[0].camera_from_world, bent[0].intrinsic);
        let frames = CorrectedFrames::moving_points(Box::new(inner()), bent);
        let points = values(&frames, 0, Field::WorldPointsFromDepth);
        for (i, p) in points.chunks_exact(3).enumerate() {
            let [x, y, z] = pose.apply([p[0], p[1], p[2]].map(f64::from));
            let (x, y) = (x / z, y / z);
            let radial = 1.0 - 0.15 * (x * x + y * y);
            let column = k[0][0] * x * radial + k[0][2];
            let row = k[1][1] * y * radial + k[1][2];
            let place = [(i % WIDTH) as f64, (i / WIDTH) as f64];
            assert!(
                (column - place[0]).hypot(row - place[1]) < 1e-4,
                "{i}: {column}, {row}"
            );
        }
    }

    #[test]
    fn a_frame_without_a_camera_is_an_error_by_name() {
        let one = cameras()[..1].to_vec();
        let frames = CorrectedFrames::new(Box::new(inner()), one, IDENTITY);
        let e = frames.read(1, Field::Extrinsic).unwrap_err().to_string();
        assert!(e.contains("extrinsic"), "{e}");
    }
}
