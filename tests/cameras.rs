//! Cameras for programs: glTF cameras in a GLB, and `--json full`. Both must project the points of a frame onto the pixels
//! that made them.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{glb::Glb, summary};

/// Pixels of the original photo. Positions are F32 and the demo's depth branch is exact but for rounding; the camera model of
/// glTF has its principal point in the center, half a pixel of 280 / 112 off the network's.
const TOLERANCE: f64 = 1.3;

type Matrix = [[f64; 4]; 4];

fn column_major(value: &Value) -> Matrix {
    let m: Vec<f64> = serde_json::from_value(value.clone()).unwrap();
    std::array::from_fn(|r| std::array::from_fn(|c| m[4 * c + r]))
}

/// The inverse of a rigid motion, applied.
fn into_camera(pose: &Matrix, p: [f64; 3]) -> [f64; 3] {
    let d: Vec<f64> = (0..3).map(|k| p[k] - pose[k][3]).collect();
    std::array::from_fn(|c| (0..3).map(|r| pose[r][c] * d[r]).sum())
}

/// World points of one frame alone, so that each belongs to a known camera.
fn points_of_frame(dir: &TempDir, frame: usize) -> (Glb, Vec<[f64; 3]>, Value) {
    let filter = frame.to_string();
    let args = [
        "--demo",
        "--conf_thres",
        "0",
        "--frame_filter",
        &filter,
        "--json=full",
    ];
    let told = summary(dir.path(), &[&args[..], &["--out", "x.glb"]].concat());
    let glb = Glb::parse(&fs::read(dir.path().join("x.glb")).unwrap());
    let points = glb.primitive("points")["attributes"]["POSITION"].clone();
    let rows = glb.accessor(&points);
    (glb, rows.iter().map(|p| [p[0], p[1], p[2]]).collect(), told)
}

#[test]
fn cameras_see_the_points_where_their_photo_shows_them() {
    let dir = TempDir::new().unwrap();
    for frame in [0, 5] {
        let (glb, points, told) = points_of_frame(&dir, frame);
        let name = format!("frame_{frame:02}.png");
        let node = glb.node(&name);
        let camera = &glb.json["cameras"][node["camera"].as_u64().unwrap() as usize];
        assert_eq!(camera["name"], name);
        let lens = &camera["perspective"];
        let number = |key: &str| lens[key].as_f64().unwrap();
        let (height, width) = (210.0, 280.0);
        let focal = height / 2.0 / (number("yfov") / 2.0).tan();
        let pose = column_major(&node["matrix"]);

        let listed = told["cameras"]["cameras"].as_array().unwrap();
        let one = listed.iter().find(|c| c["name"] == name).unwrap();
        assert_eq!((&one["width"], &one["height"]), (&280.into(), &210.into()));
        let rows: Vec<[f64; 4]> = serde_json::from_value(one["camera_from_world"].clone()).unwrap();
        let [fx, fy, cx, cy] = ["fx", "fy", "cx", "cy"].map(|k| one[k].as_f64().unwrap());

        for (i, point) in points.iter().enumerate() {
            // The center of the pixel of the network's 112 x 84, in the photo.
            let (x, y) = ((i % 112) as f64 + 0.5, (i / 112) as f64 + 0.5);
            let (x, y) = (x * 2.5, y * 2.5);
            let p = into_camera(&pose, *point);
            // glTF: right, up, backward.
            // The aspect ratio of the field of view: width / fx over height / fy.
            let focal_x = width / (number("aspectRatio") * height / focal);
            let seen = (
                width / 2.0 + focal_x * p[0] / -p[2],
                height / 2.0 - focal * p[1] / -p[2],
            );
            assert!(
                (seen.0 - x).abs() < TOLERANCE && (seen.1 - y).abs() < TOLERANCE,
                "{name} {i}: {seen:?} {x},{y}"
            );
            let c: Vec<f64> = rows
                .iter()
                .map(|r| (0..3).map(|k| r[k] * point[k]).sum::<f64>() + r[3])
                .collect();
            let seen = (fx * c[0] / c[2] + cx, fy * c[1] / c[2] + cy);
            assert!(
                (seen.0 - x).abs() < 0.01 && (seen.1 - y).abs() < 0.01,
                "{name} {i}: {seen:?}"
            );
        }
    }
}

#[test]
fn every_shown_frame_has_a_camera_and_the_summary_alone_has_none() {
    let dir = TempDir::new().unwrap();
    let told = summary(dir.path(), &["--demo", "--out", "x.glb"]);
    assert!(told.get("cameras").is_none());
    let glb = Glb::parse(&fs::read(dir.path().join("x.glb")).unwrap());
    assert_eq!(glb.json["cameras"].as_array().unwrap().len(), 8);
    let axes = glb.json["asset"]["extras"]["axes"].as_str().unwrap();
    assert!(axes.contains("y up"), "{axes}");
}
