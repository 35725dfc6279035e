//! Scenes against the point clouds and cameras of the Python implementation, for seven sets of options.

use candle_core::{Device, Tensor, safetensors};
use vggt::scene::{
    self, FrameFilter, FramesInMemory, PointCloud, PredictionMode, Scene, SceneError, SceneOptions,
};

use crate::support::scene::{build, data, frames, options, points, predictions};

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
    assert_holds(case, scene, &points(scene));
}

fn assert_holds(case: &str, scene: &Scene, points: &PointCloud) {
    assert_eq!(points.len(), scene.points.len(), "{case}");
    let expected = Expected::of(case);
    assert_positions(
        case,
        scene,
        &points.positions,
        &expected.rows("points.vertices"),
    );
    let colors = expected.rows("points.colors");
    for (i, (found, expected)) in points.colors.iter().zip(&colors).enumerate() {
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
    let points = scene.points.over(&frames(Some(&sky))).collect().unwrap();
    assert_holds("all_dropped", &scene, &points);
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
    let points = scene.points.over(&frames(Some(&keep))).collect().unwrap();
    assert_eq!(points.frame(0), 1);
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
    let points = points(&build("one_frame"));
    let images = predictions().images;
    for point in [0, 500, points.len() - 1] {
        assert_eq!(points.frame(point), 1);
        let [x, y] = points.pixel(point).map(|v| v as usize);
        for channel in 0..3 {
            let value: f32 = images
                .get(1)
                .and_then(|t| t.get(channel))
                .and_then(|t| t.get(y))
                .and_then(|t| t.get(x))
                .and_then(|t| t.to_scalar())
                .unwrap();
            assert_eq!(
                points.colors[point][channel],
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
    let (all, thinned) = (points(&whole), points(&thin));
    assert_eq!(thinned.len(), 1000);
    assert_eq!(thin.scale, whole.scale);
    assert_eq!(thin.cameras, whole.cameras);
    assert!(thinned.source.is_sorted());
    // Each frame keeps its share.
    let first = thinned.source.iter().filter(|&&s| s < 28 * 42).count() as f64;
    let of = all.source.iter().filter(|&&s| s < 28 * 42).count() as f64;
    let share = of / all.len() as f64;
    assert!(
        (first / 1000.0 - share).abs() <= 1e-3,
        "{first} of 1000, {share}"
    );
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
    let frames = FramesInMemory::new(p, None).unwrap();
    let points = scene.points.over(&frames).collect().unwrap();
    assert_eq!(points.source[..2], [0, 4]);
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
    let scene = scene::build(&p, None, &asked).unwrap();
    let frames = FramesInMemory::new(p, None).unwrap();
    let points = scene.points.over(&frames).collect().unwrap();
    assert_holds("depth_branch", &scene, &points);
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
