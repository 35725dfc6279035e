//! `vggt export --refine`: cameras that agree with the photos, or the network's with the reason.

use std::{fs, path::Path};

use nalgebra::Isometry3;
use serde_json::{Value, json};
use tempfile::TempDir;
use vggt_refine::similarity::align;

use crate::support::{
    fail,
    placed::{Tensors, demo, export, poses, saved, truth},
    repository, run, summary, text,
};

/// The principal point of the demo's photos lies half a pixel of the network's image beside the middle, where the network has it and
/// refined cameras do not: 1.25 of their pixels, at a focal length of about 240.
const PRINCIPAL_DEG: f64 = 0.3;

/// Median angle between cameras and the true ones after the best alignment, degrees.
fn turns_deg(found: &[Isometry3<f64>]) -> f64 {
    let truth = poses(&truth()["extrinsic"]);
    let alignment = align(found, &truth).unwrap();
    let turn = alignment.similarity.isometry.rotation.inverse();
    let pairs = found.iter().zip(&truth);
    let turns = pairs.map(|(pose, truth)| (pose.rotation * turn).angle_to(&truth.rotation));
    let mut turns: Vec<f64> = turns.map(f64::to_degrees).collect();
    turns.sort_by(f64::total_cmp);
    turns[turns.len() / 2]
}

#[test]
fn the_demos_cameras_come_close_to_the_true_ones() {
    let dir = TempDir::new().unwrap();
    let (told, before) = demo(&dir, &[]);
    assert_eq!(told["refinement"], Value::Null);
    let (told, after) = demo(&dir, &["--refine"]);
    let report = &told["refinement"];
    assert_eq!(report["accepted"], true, "{report}");
    let number = |name: &str| report[name].as_f64().unwrap();
    assert!(
        number("median_before_px") > 1.0 && number("median_after_px") < 0.2,
        "{report}"
    );
    let frames = report["frames"].as_array().unwrap();
    assert_eq!(frames.len(), 8);
    assert!(
        frames
            .iter()
            .all(|frame| frame["refined"] == true && frame["name"].is_string())
    );
    let turns = |found: &Tensors| turns_deg(&poses(&found["extrinsic"]));
    let (was, is) = (turns(&before), turns(&after));
    assert!(
        is * 10.0 < was && is < PRINCIPAL_DEG,
        "{was} -> {is} degrees"
    );
    // All photos are of one camera.
    let lenses: Vec<f32> = after["intrinsic"].flatten_all().unwrap().to_vec1().unwrap();
    assert!(
        lenses.chunks_exact(9).all(|lens| lens == &lenses[..9]),
        "{lenses:?}"
    );
}

/// Points of the text form of a model, each with its error and the number of its observations.
fn points(folder: &Path) -> Vec<(f64, usize)> {
    let text = fs::read_to_string(folder.join("sparse/0/points3D.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let point = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields[7].parse().unwrap(), (fields.len() - 8) / 2)
    };
    lines.map(point).collect()
}

#[test]
fn a_colmap_model_has_the_tracks_and_one_camera() {
    let dir = TempDir::new().unwrap();
    let to = [
        "--format",
        "colmap",
        "--out",
        "model",
        "--max_points",
        "2000",
    ];
    // On by default for a dataset.
    let told = summary(dir.path(), &[&["--demo"][..], &to].concat());
    let folder = dir.path().join("model");
    let points = points(&folder);
    assert_eq!(json!(points.len()), told["points"]);
    let tracks: Vec<_> = points.iter().filter(|(_, seen)| *seen > 1).collect();
    // Those that the photos show, without the few that the scene's cameras do not see in one place.
    let expected = told["refinement"]["tracks"].as_u64().unwrap() as usize;
    assert!(
        tracks.len() <= expected && tracks.len() * 10 > expected * 9,
        "{} {expected}",
        tracks.len()
    );
    let mut errors: Vec<f64> = tracks.iter().map(|(error, _)| *error).collect();
    errors.sort_by(f64::total_cmp);
    assert!(
        errors[errors.len() / 2] < 0.3,
        "{}",
        errors[errors.len() / 2]
    );
    let cameras = fs::read_to_string(folder.join("sparse/0/cameras.txt")).unwrap();
    let lines: Vec<&str> = cameras
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert_eq!(lines.len(), 1, "{cameras}");
    // The report, without names of photos.
    let provenance = cameras.lines().nth(1).unwrap();
    assert!(
        provenance.contains("\"refinement\"") && provenance.contains("median_after_px"),
        "{provenance}"
    );
    assert!(!provenance.contains("frame_00"), "{provenance}");
    let images = fs::read_to_string(folder.join("sparse/0/images.txt")).unwrap();
    let poses = images.lines().filter(|line| line.ends_with(".png"));
    let cameras: Vec<&str> = poses.filter_map(|line| line.split(' ').nth(8)).collect();
    assert_eq!(cameras, ["1"; 8]);
}

#[test]
fn a_dataset_has_the_networks_cameras_if_asked_for() {
    let dir = TempDir::new().unwrap();
    let path = saved(&dir);
    let told = |input: &[&str]| {
        let to = [
            "--format",
            "nerfstudio",
            "--out",
            "n",
            "--json=full",
            "--overwrite",
        ];
        summary(dir.path(), &[input, &to].concat())
    };
    let off = told(&["--demo", "--refine=off"]);
    // Nothing more is known of saved predictions, so that they are off by default.
    let of_saved = told(&["--from_predictions", &path]);
    assert_eq!(off["refinement"], Value::Null);
    assert_eq!(of_saved["refinement"], Value::Null);
    assert_eq!(off["cameras"], of_saved["cameras"]);
    let on = told(&["--demo"]);
    assert_eq!(on["refinement"]["accepted"], true);
    assert_ne!(off["cameras"], on["cameras"]);
    let e = fail(
        dir.path(),
        2,
        &["export", "x.png", "--server", "localhost", "--refine"],
    );
    assert!(e.contains("--refine") && e.contains("--server"), "{e}");
}

#[test]
fn saved_predictions_are_refined_with_the_networks_pixels_or_say_why_not() {
    let dir = TempDir::new().unwrap();
    let path = saved(&dir);
    let from = ["--from_predictions", &path, "--json=full", "--out", "q.glb"];
    let before = summary(dir.path(), &[&from[..], &["--overwrite"]].concat());
    let told = summary(
        dir.path(),
        &[&from[..], &["--overwrite", "--refine"]].concat(),
    );
    // The photos themselves are not in the file, and 112 x 84 pixels have too few corners.
    let report = &told["refinement"];
    assert_eq!(report["accepted"], false, "{report}");
    assert!(
        report["refused"].as_str().unwrap().contains("corners"),
        "{report}"
    );
    assert_eq!(told["cameras"], before["cameras"]);
}

#[test]
fn distortion_is_refined_on_request() {
    let dir = TempDir::new().unwrap();
    let to = ["--format", "colmap", "--out", "model"];
    run(
        dir.path(),
        &[&["export", "--demo", "--refine", "--refine_k1"][..], &to].concat(),
    );
    let cameras = fs::read_to_string(dir.path().join("model/sparse/0/cameras.txt")).unwrap();
    let camera = cameras.lines().find(|line| !line.starts_with('#')).unwrap();
    let fields: Vec<&str> = camera.split(' ').collect();
    assert_eq!(fields[1], "OPENCV", "{camera}");
    // The demo's photos have none; they are small, and their principal point is not in the middle.
    let k1: f64 = fields[8].parse().unwrap();
    assert!(k1.abs() < 0.03, "{camera}");
}

#[test]
fn photos_that_do_not_determine_cameras_keep_the_networks() {
    let dir = TempDir::new().unwrap();
    let photo = repository("model/demo/frames/frame_00.png");
    let photos = dir.path().join("photos");
    fs::create_dir(&photos).unwrap();
    // The same photo: nothing moves.
    for name in ["a.png", "b.png", "c.png"] {
        fs::copy(&photo, photos.join(name)).unwrap();
    }
    for input in [text(&photo), text(&photos)] {
        let input = [input, "--demo"];
        let (_, before) = export(&dir, &input, &[]);
        let (told, after) = export(&dir, &input, &["--refine", "--no_cache"]);
        let report = &told["refinement"];
        assert_eq!(report["accepted"], false, "{report}");
        assert!(
            report["refused"]
                .as_str()
                .is_some_and(|why| !why.is_empty()),
            "{report}"
        );
        for name in ["extrinsic", "intrinsic", "depth"] {
            let of = |tensors: &Tensors| -> Vec<f32> {
                tensors[name].flatten_all().unwrap().to_vec1().unwrap()
            };
            assert_eq!(of(&before), of(&after), "{name}");
        }
    }
}

#[test]
fn the_switch_says_what_it_takes() {
    let dir = TempDir::new().unwrap();
    let e = fail(dir.path(), 2, &["export", "--demo", "--refine=maybe"]);
    assert!(
        e.contains("on") && e.contains("off") && e.contains("maybe"),
        "{e}"
    );
    let e = fail(
        dir.path(),
        2,
        &["export", "--demo", "--refine_lens", "wide"],
    );
    assert!(e.contains("shared") && e.contains("single"), "{e}");
}
