//! `vggt export --refine`: cameras that agree with the photos, or the network's with the reason.

use std::{fs, path::Path};

use nalgebra::Isometry3;
use serde_json::{Value, json};
use tempfile::TempDir;
use vggt_refine::similarity::align;

use crate::support::{
    fail,
    placed::{PHOTO_PIXELS, Tensors, demo, exif, export, numbers, photos, poses, saved, truth},
    repository, run, summary, text, vggt,
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
        &["export", "x.png", "--server", "localhost", "--refine_k1"],
    );
    assert!(e.contains("--refine-k1") && e.contains("--server"), "{e}");
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
fn photos_of_different_lenses_do_not_share_one() {
    const LENS_MODEL: u16 = 0xA434;
    let cameras = |lens: fn(usize) -> &'static [u8], flags: &[&str]| {
        let dir = TempDir::new().unwrap();
        let folder = photos(&dir, |i| {
            let name = lens(i);
            exif(&[(LENS_MODEL, 2, name.len() as u32, name.to_vec())], &[])
        });
        let to = ["--format", "colmap", "--out", "m", "--overwrite"];
        let args = [&["export", &folder, "--demo"][..], &to, flags].concat();
        run(dir.path(), &args);
        let text = fs::read_to_string(dir.path().join("m/sparse/0/cameras.txt")).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).count()
    };
    let two = |i: usize| -> &'static [u8] {
        if i < 4 {
            b"wide lens\0"
        } else {
            b"tele lens\0"
        }
    };
    assert_eq!(cameras(|_| b"wide lens\0", &[]), 1);
    assert_eq!(cameras(two, &[]), 2);
    assert_eq!(cameras(two, &["--refine_lens", "shared"]), 1);
}

#[test]
fn a_noted_focal_length_guides_the_lens_and_does_not_decide() {
    const FOCAL_35MM: u16 = 0xA405;
    let focal = numbers(&truth()["intrinsic"])[0];
    let mm = (focal * PHOTO_PIXELS * 43.2666 / 350.0).round();
    let found = |mm: f64| {
        let dir = TempDir::new().unwrap();
        let note = (mm.round() as u16).to_be_bytes().to_vec();
        let folder = photos(&dir, |_| exif(&[(FOCAL_35MM, 3, 1, note.clone())], &[]));
        let (told, tensors) = export(&dir, &["--demo", &folder], &["--refine", "--no_cache"]);
        assert_eq!(told["refinement"]["accepted"], true);
        numbers(&tensors["intrinsic"])[0] / focal - 1.0
    };
    let (right, long, telescope) = (found(mm), found(1.3 * mm), found(10.0 * mm));
    assert!(right.abs() < 0.01, "{right}");
    // Eight photos know better than a wrong note, and one that cannot be is not looked at.
    assert!(long.abs() < 0.03 && long > right, "{right} {long}");
    assert!(
        telescope.abs() < 0.01 && telescope != right,
        "{right} {telescope}"
    );
}

#[test]
fn the_track_head_is_a_second_source_where_weights_have_one() {
    let dir = TempDir::new().unwrap();
    let weights = repository("model/tests/data/tiny/model.pt");
    let photos = repository("model/demo/frames");
    let input = [
        text(&photos),
        "--checkpoint",
        text(&weights),
        "--max_frames",
        "3",
    ];
    let (told, _) = export(&dir, &input, &["--refine"]);
    assert_eq!(told["refinement"]["track_head"], Value::Null);
    // Random weights follow points to random places: few look alike, and the cameras stay as they are.
    let (told, tensors) = export(&dir, &input, &["--refine", "--refine_tracks"]);
    let report = &told["refinement"];
    let number = |name: &str| report["track_head"][name].as_u64().unwrap();
    assert!(number("tried") > 20, "{report}");
    assert!(number("found") * 4 < number("tried"), "{report}");
    assert_eq!(report["accepted"], false, "{report}");
    assert!(!tensors.contains_key("track"));
    // The points of a user are followed beside them, and theirs alone are told.
    let both = [
        "--refine",
        "--refine_tracks",
        "--query_points",
        "10,20; 30.5,40",
    ];
    let (told, tensors) = export(&dir, &input, &both);
    assert!(told["refinement"]["track_head"]["tried"].as_u64() >= Some(number("tried")));
    assert_eq!(tensors["track"].dims(), [3, 2, 2]);
    let alone = export(&dir, &input, &["--query_points", "10,20; 30.5,40"]).1;
    for name in ["track", "vis", "conf", "query_points"] {
        let [a, b] = [&tensors[name], &alone[name]].map(numbers);
        assert_eq!(a.len(), b.len());
    }
    let e = fail(
        dir.path(),
        1,
        &["export", "--demo", "--refine", "--refine_tracks"],
    );
    assert!(
        e.contains("no track head") && e.contains("--refine-tracks"),
        "{e}"
    );
}

#[test]
fn flags_of_a_refinement_that_is_off_are_told() {
    let dir = TempDir::new().unwrap();
    for flag in ["--refine_k1", "--refine_tracks", "--refine_lens=shared"] {
        let err = vggt(
            dir.path(),
            &["export", "--demo", "--out", "q.glb", "--overwrite", flag],
        );
        let err = String::from_utf8_lossy(&err.stderr).into_owned();
        let name = flag.split('=').next().unwrap().replace('_', "-");
        assert!(err.contains(&format!("{name} has no effect")), "{err}");
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
