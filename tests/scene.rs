//! Scenes against the point clouds and cameras of the Python implementation, for seven sets of options.

use std::{borrow::Cow, cell::RefCell};

use candle_core::{Device, Tensor, safetensors};
use vggt::scene::{
    self, Field, FrameFilter, FramesInMemory, PhotoArea, PredictedFrames, PredictionMode, Scene,
    SceneError, SceneOptions,
};

use crate::support::scene::{build, data, options, predictions};

/// In parts of the scene's scale. Positions and camera corners are f32 and go through one f64 transform, so they
/// are off by rounding alone: under 1e-7 as measured. The rest is room for positions far from the origin.
const POSITION_TOLERANCE: f64 = 1e-5;

struct Expected(std::collections::HashMap<String, Tensor>);

impl Expected {
    fn of(case: &str) -> Self {
        let path = data(&format!("{case}.safetensors"));
        Self(safetensors::load(path, &Device::Cpu).unwrap())
    }

    fn rows(&self, name: &str) -> Vec<Vec<f64>> {
        self.0[name].to_vec2::<f64>().unwrap()
    }

    fn cameras(&self) -> usize {
        self.0.keys().filter(|k| k.ends_with(".faces")).count()
    }
}

fn assert_positions(case: &str, scene: &Scene, found: &[[f32; 3]], expected: &[Vec<f64>]) {
    assert_eq!(found.len(), expected.len(), "{case}");
    for (i, (world, expected)) in found.iter().zip(expected).enumerate() {
        let view = scene.node_transform.apply(world.map(f64::from));
        for axis in 0..3 {
            let error = (view[axis] - expected[axis]).abs() / scene.scale;
            assert!(
                error <= POSITION_TOLERANCE,
                "{case}: vertex {i}: {view:?} is not {expected:?} ({error:.1e})"
            );
        }
    }
}

fn assert_as_expected(case: &str, scene: &Scene) {
    let expected = Expected::of(case);
    assert_positions(
        case,
        scene,
        &scene.points.positions,
        &expected.rows("points.vertices"),
    );
    let colors = expected.rows("points.colors");
    for (i, (found, expected)) in scene.points.colors.iter().zip(&colors).enumerate() {
        assert_eq!(found.map(f64::from)[..], expected[..3], "{case}: point {i}");
    }
    assert_eq!(scene.cameras.len(), expected.cameras(), "{case}");
    for (i, camera) in scene.cameras.iter().enumerate() {
        let rows = |name: &str| expected.rows(&format!("geometry_{}.{name}", i + 1));
        assert_positions(case, scene, &camera.vertices, &rows("vertices"));
        let faces: Vec<_> = camera
            .faces
            .iter()
            .map(|f| f.map(f64::from).to_vec())
            .collect();
        assert_eq!(faces, rows("faces"), "{case}: camera {i}");
        for color in rows("face_colors") {
            assert_eq!(
                camera.color.map(f64::from)[..],
                color[..3],
                "{case}: camera {i}"
            );
        }
    }
}

#[test]
fn each_set_of_options_gives_the_points_and_cameras_of_the_python_service() {
    for case in [
        "default",
        "cameras",
        "depth_branch",
        "mask_black",
        "mask_white",
        "one_frame",
    ] {
        assert_as_expected(case, &build(case));
    }
}

#[test]
fn when_nothing_is_kept_one_white_point_stands_in() {
    let sky = vec![false; 3 * 28 * 42];
    let scene = scene::build(&predictions(), Some(&sky), &options("all_dropped")).unwrap();
    assert!(scene.nothing_kept);
    assert_eq!(scene.scale, 1.0);
    assert_as_expected("all_dropped", &scene);
}

#[test]
fn a_masked_pixel_counts_as_confidence_zero() {
    let mut keep = vec![true; 3 * 28 * 42];
    keep[..28 * 42].fill(false);
    let options = SceneOptions {
        conf_thres: 0.0,
        ..SceneOptions::default()
    };
    let scene = scene::build(&predictions(), Some(&keep), &options).unwrap();
    assert_eq!(scene.points.len(), 2 * 28 * 42);
    assert_eq!(scene.points.frame(0), 1);
    // A third of the pixels is masked, so dropping half of all leaves half of all.
    let options = SceneOptions {
        conf_thres: 50.0,
        ..options
    };
    let scene = scene::build(&predictions(), Some(&keep), &options).unwrap();
    assert_eq!(scene.points.len(), 3 * 28 * 42 / 2);
}

#[test]
fn points_know_their_frame_and_pixel() {
    let scene = build("one_frame");
    let images = predictions().images;
    for point in [0, 500, scene.points.len() - 1] {
        assert_eq!(scene.points.frame(point), 1);
        let [x, y] = scene.points.pixel(point).map(|v| v as usize);
        for channel in 0..3 {
            let value: f32 = images
                .get(1)
                .and_then(|t| t.get(channel))
                .and_then(|t| t.get(y))
                .and_then(|t| t.get(x))
                .and_then(|t| t.to_scalar())
                .unwrap();
            assert_eq!(
                scene.points.colors[point][channel],
                (value * 255.0) as u8,
                "point {point}"
            );
        }
    }
}

#[test]
fn thinning_leaves_scale_cameras_and_order_alone() {
    let whole = build("cameras");
    let options = SceneOptions {
        max_points: Some(1000),
        ..options("cameras")
    };
    let thin = scene::build(&predictions(), None, &options).unwrap();
    assert_eq!(thin.points.len(), 1000);
    assert_eq!(thin.scale, whole.scale);
    assert_eq!(thin.cameras, whole.cameras);
    assert!(thin.points.source.is_sorted());
    // Each frame keeps its share.
    let first = thin.points.source.iter().filter(|&&s| s < 28 * 42).count() as f64;
    let of = whole.points.source.iter().filter(|&&s| s < 28 * 42).count() as f64;
    let share = of / whole.points.len() as f64;
    assert!(
        (first / 1000.0 - share).abs() <= 1e-3,
        "{first} of 1000, {share}"
    );
}

/// Frames that remember what was read of them.
struct Logged<'a> {
    frames: FramesInMemory<'a>,
    reads: RefCell<Vec<(usize, Field)>>,
}

impl PredictedFrames for Logged<'_> {
    fn count(&self) -> usize {
        self.frames.count()
    }

    fn size(&self) -> (usize, usize) {
        self.frames.size()
    }

    fn has(&self, field: Field) -> bool {
        self.frames.has(field)
    }

    fn read(&self, index: usize, field: Field) -> Result<Tensor, SceneError> {
        self.reads.borrow_mut().push((index, field));
        self.frames.read(index, field)
    }

    fn keep(&self, index: usize) -> Option<Cow<'_, [bool]>> {
        self.frames.keep(index)
    }

    fn photo_area(&self, index: usize) -> PhotoArea {
        self.frames.photo_area(index)
    }
}

#[test]
fn a_scene_reads_one_frame_after_the_other_in_two_passes() {
    let predictions = predictions();
    let keep: Vec<bool> = (0..3 * 28 * 42).map(|i| i % 5 != 0).collect();
    let frames = Logged {
        frames: FramesInMemory::new(&predictions, Some(&keep)).unwrap(),
        reads: RefCell::default(),
    };
    let options = options("cameras");
    let streamed = scene::build_from(&frames, &options).unwrap();
    let whole = scene::build(&predictions, Some(&keep), &options).unwrap();
    assert_eq!(streamed.points, whole.points);
    assert_eq!(streamed.cameras, whole.cameras);
    let reads = frames.reads.borrow();
    let of = |field: Field| -> Vec<usize> {
        let reads = reads.iter().filter(|(_, read)| *read == field);
        reads.map(|(index, _)| *index).collect()
    };
    assert_eq!(of(Field::WorldPoints), [0, 1, 2, 0, 1, 2]);
    assert_eq!(of(Field::WorldPointsConf), [0, 1, 2, 0, 1, 2]);
    assert_eq!(of(Field::Image), [0, 1, 2]);
    assert_eq!(of(Field::Extrinsic), [0, 1, 2]);
    // The scene does not show these.
    assert!(of(Field::Depth).is_empty());
    assert!(of(Field::WorldPointsFromDepth).is_empty());
}

#[test]
fn points_that_are_not_finite_are_dropped_and_spoil_nothing() {
    let mut p = predictions();
    let mut points: Vec<f32> = p
        .world_points
        .take()
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    points[3] = f32::NAN;
    points[7] = f32::INFINITY;
    p.world_points = Some(Tensor::from_vec(points, (3, 28, 42, 3), &Device::Cpu).unwrap());
    let mut conf: Vec<f32> = p
        .world_points_conf
        .take()
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    conf[3] = f32::NAN;
    p.world_points_conf = Some(Tensor::from_vec(conf, (3, 28, 42), &Device::Cpu).unwrap());
    let options = SceneOptions {
        conf_thres: 0.0,
        ..SceneOptions::default()
    };
    let scene = scene::build(&p, None, &options).unwrap();
    assert_eq!(scene.points.len(), 3 * 28 * 42 - 3);
    assert_eq!(scene.points.source[..2], [0, 4]);
    assert!(scene.scale.is_finite());
}

#[test]
fn without_a_point_head_the_depth_branch_is_shown() {
    let mut p = predictions();
    p.world_points = None;
    p.world_points_conf = None;
    let asked = SceneOptions {
        conf_thres: 50.0,
        prediction_mode: PredictionMode::PointmapRegression,
        ..SceneOptions::default()
    };
    assert_as_expected("depth_branch", &scene::build(&p, None, &asked).unwrap());
}

#[test]
fn a_frame_that_is_not_there_is_named() {
    let options = SceneOptions {
        frame_filter: FrameFilter::One(3),
        ..SceneOptions::default()
    };
    let e = scene::build(&predictions(), None, &options).unwrap_err();
    assert_eq!(
        e.to_string(),
        "cannot show frame 3 alone: frames are numbered 0 to 2"
    );
}

#[test]
fn damaged_predictions_are_errors() {
    let mut p = predictions();
    p.depth_conf = p.depth_conf.narrow(0, 0, 2).unwrap();
    let depth = SceneOptions {
        prediction_mode: PredictionMode::DepthmapAndCamera,
        ..SceneOptions::default()
    };
    let e = scene::build(&p, None, &depth).unwrap_err();
    assert!(e.to_string().contains("depth_conf"), "{e}");

    let mut p = predictions();
    p.extrinsic = p.extrinsic.affine(f64::NAN, 0.0).unwrap();
    let e = scene::build(&p, None, &SceneOptions::default()).unwrap_err();
    assert!(matches!(e, SceneError::Camera { frame: 0 }), "{e}");
}
