//! The filters `drop_edges` and `drop_outliers`: the right pixels go, and no others.

use std::{collections::BTreeSet, fs};

use candle_core::{Device, Tensor};
use serde_json::Value;
use tempfile::TempDir;
use vggt::scene::{self, FramesInMemory, PredictionMode, SceneOptions};
use vggt_model::Predictions;

use crate::support::{glb::Glb, repository, run, text};

const FRAMES: usize = 2;
const HEIGHT: usize = 40;
const WIDTH: usize = 60;
/// The first column of the wall behind.
const STEP: usize = 30;
/// Row and column of the pixels that float, in the second frame: before the wall in front, and before the one behind.
const FLOATERS: [[usize; 2]; 3] = [[8, 9], [30, 20], [20, 50]];

/// Two frames of a wall at the depth 1 beside one at the depth 1.5, from a camera that moves to the right.
fn predictions() -> Predictions {
    let depth = |frame: usize, y: usize, x: usize| match (frame, [y, x], x < STEP) {
        (1, pixel, _) if FLOATERS.contains(&pixel) => 0.25,
        (.., true) => 1.0,
        (.., false) => 1.5,
    };
    let (focal, [cx, cy]) = (50.0, [WIDTH as f32 / 2.0, HEIGHT as f32 / 2.0]);
    let (mut depths, mut points, mut poses) = (Vec::new(), Vec::new(), Vec::new());
    for frame in 0..FRAMES {
        let right = 0.013 * frame as f32;
        poses.extend([
            1.0, 0.0, 0.0, -right, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0,
        ]);
        for (y, x) in (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (y, x))) {
            let z: f32 = depth(frame, y, x);
            let [x, y] = [x as f32 + 0.5 - cx, y as f32 + 0.5 - cy];
            points.extend([x / focal * z + right, y / focal * z, z]);
            depths.push(z);
        }
    }
    let camera = [focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0].repeat(FRAMES);
    let pixels = FRAMES * HEIGHT * WIDTH;
    let tensor =
        |values: Vec<f32>, shape: &[usize]| Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    Predictions {
        images: tensor(vec![0.5; 3 * pixels], &[FRAMES, 3, HEIGHT, WIDTH]),
        pose_enc: tensor(vec![0.0; 9 * FRAMES], &[FRAMES, 9]),
        extrinsic: tensor(poses, &[FRAMES, 3, 4]),
        intrinsic: tensor(camera, &[FRAMES, 3, 3]),
        depth: tensor(depths, &[FRAMES, HEIGHT, WIDTH, 1]),
        depth_conf: tensor(vec![2.0; pixels], &[FRAMES, HEIGHT, WIDTH]),
        world_points: Some(tensor(points.clone(), &[FRAMES, HEIGHT, WIDTH, 3])),
        world_points_conf: Some(tensor(vec![2.0; pixels], &[FRAMES, HEIGHT, WIDTH])),
        world_points_from_depth: tensor(points, &[FRAMES, HEIGHT, WIDTH, 3]),
        tracks: None,
    }
}

/// Frame, row and column of every pixel without a point.
fn dropped(options: &SceneOptions) -> BTreeSet<[usize; 3]> {
    let options = SceneOptions {
        conf_thres: 0.0,
        ..options.clone()
    };
    let frames = FramesInMemory::new(predictions(), None).unwrap();
    let scene = scene::build_from(&frames, &options).unwrap();
    let points = scene.points.over(&frames).collect().unwrap();
    let mut pixels: BTreeSet<[usize; 3]> = (0..FRAMES * HEIGHT * WIDTH)
        .map(|i| [i / (HEIGHT * WIDTH), i / WIDTH % HEIGHT, i % WIDTH])
        .collect();
    for i in 0..points.len() {
        let [x, y] = points.pixel(i).map(|v| v as usize);
        assert!(pixels.remove(&[points.frame(i), y, x]));
    }
    assert_eq!(scene.points.kept(), points.len());
    pixels
}

fn floaters() -> impl Iterator<Item = [usize; 3]> {
    FLOATERS.into_iter().map(|[y, x]| [1, y, x])
}

fn both_modes() -> [SceneOptions; 2] {
    [
        PredictionMode::PointmapRegression,
        PredictionMode::DepthmapAndCamera,
    ]
    .map(|prediction_mode| SceneOptions {
        prediction_mode,
        ..SceneOptions::default()
    })
}

#[test]
fn without_filters_every_pixel_has_its_point() {
    for options in both_modes() {
        assert_eq!(dropped(&options), BTreeSet::new());
    }
}

#[test]
fn edges_are_the_pixels_at_a_step_of_the_depth_and_no_others() {
    let at_step = (0..FRAMES).flat_map(|frame| (0..HEIGHT).map(move |y| (frame, y)));
    let at_step = at_step.flat_map(|(frame, y)| [STEP - 1, STEP].map(|x| [frame, y, x]));
    // A single pixel is a step for all around it.
    let around = floaters().flat_map(|[frame, y, x]| {
        (y - 1..=y + 1).flat_map(move |y| (x - 1..=x + 1).map(move |x| [frame, y, x]))
    });
    let expected: BTreeSet<[usize; 3]> = at_step.chain(around).collect();
    for options in both_modes() {
        let options = SceneOptions {
            drop_edges: true,
            ..options
        };
        assert_eq!(dropped(&options), expected);
    }
}

#[test]
fn outliers_are_the_points_that_float_and_no_others() {
    for options in both_modes() {
        let options = SceneOptions {
            drop_outliers: true,
            ..options
        };
        assert_eq!(dropped(&options), floaters().collect());
    }
}

#[test]
fn the_outliers_of_one_frame_are_found_in_that_frame() {
    let options = SceneOptions {
        drop_outliers: true,
        frame_filter: scene::FrameFilter::One(1),
        ..SceneOptions::default()
    };
    let of_frame: BTreeSet<[usize; 3]> = dropped(&options)
        .into_iter()
        .filter(|p| p[0] == 1)
        .collect();
    assert_eq!(of_frame, floaters().collect());
}

#[test]
fn a_mask_and_the_confidence_go_before_the_filters() {
    // Without the wall behind, there is neither its floater nor a limit that its wide gaps raise.
    let keep: Vec<bool> = (0..FRAMES * HEIGHT * WIDTH)
        .map(|i| i % WIDTH < STEP)
        .collect();
    let frames = FramesInMemory::new(predictions(), Some(keep)).unwrap();
    let options = SceneOptions {
        conf_thres: 0.0,
        drop_outliers: true,
        ..SceneOptions::default()
    };
    let scene = scene::build_from(&frames, &options).unwrap();
    let points = scene.points.over(&frames).collect().unwrap();
    assert!(points.positions.iter().all(|p| p[2] == 1.0));
    assert_eq!(points.len(), FRAMES * HEIGHT * STEP - 2);
}

#[test]
fn clean_is_both_filters_and_the_file_says_so() {
    let dir = TempDir::new().unwrap();
    let saved = repository("tests/data/scene/predictions.safetensors");
    let export = |out: &str, flags: &[&str]| {
        let from = ["export", "--from_predictions", text(&saved), "--out", out];
        run(dir.path(), &[&from, flags].concat());
        fs::read(dir.path().join(out)).unwrap()
    };
    let clean = export("a.glb", &["--clean"]);
    assert_eq!(export("b.glb", &["--drop_edges", "--drop-outliers"]), clean);
    let options = |bytes: &[u8]| Glb::parse(bytes).json["asset"]["extras"]["options"].clone();
    let both = |options: &Value| ["drop_edges", "drop_outliers"].map(|name| options[name] == true);
    assert_eq!(both(&options(&clean)), [true, true]);
    let plain = export("c.glb", &[]);
    assert_eq!(both(&options(&plain)), [false, false]);
    let edges = export("d.glb", &["--drop_edges"]);
    assert!(clean.len() < edges.len() && edges.len() < plain.len());
}
