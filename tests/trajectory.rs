//! `--save-trajectory`: the cameras' poses as text.

use std::fs;

use serde_json::Value;

use crate::{
    spool::photos,
    support::{fail, files, repository, run, summary, text},
};

/// The numbers of each line, comments left out.
fn lines(text: &str) -> Vec<Vec<f64>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.split(' ').map(|x| x.parse().unwrap()).collect())
        .collect()
}

/// The inverse of a pose, [R | t] row by row.
fn inverse(m: &[Vec<f64>]) -> Vec<f64> {
    let mut out = Vec::new();
    for column in 0..3 {
        out.extend((0..3).map(|row| m[row][column]));
        out.push(-(0..3).map(|row| m[row][column] * m[row][3]).sum::<f64>());
    }
    out
}

#[test]
fn both_formats_have_the_poses_of_the_cameras() {
    let dir = photos(4);
    let here = dir.path();
    let args = [
        "--demo",
        "in",
        "--out",
        "x.glb",
        "--json=full",
        "--save-trajectory",
    ];
    let full = summary(here, &[&args[..], &["x.tum"]].concat());
    run(
        here,
        &[
            "export",
            "--demo",
            "in",
            "--save-trajectory",
            "x.kitti",
            "--out",
            "x.glb",
        ],
    );
    let cameras = full["cameras"]["cameras"].as_array().unwrap();
    let poses: Vec<Vec<f64>> = cameras
        .iter()
        .map(|camera| {
            inverse(
                &serde_json::from_value::<Vec<Vec<f64>>>(camera["camera_from_world"].clone())
                    .unwrap(),
            )
        })
        .collect();
    let text = fs::read_to_string(here.join("x.tum")).unwrap();
    let head = text.lines().next().unwrap().strip_prefix("# ").unwrap();
    let provenance: Value = serde_json::from_str(head).unwrap();
    assert!(
        provenance["axes"].as_str().unwrap().contains("OpenCV"),
        "{head}"
    );
    let (tum, kitti) = (
        lines(&text),
        lines(&fs::read_to_string(here.join("x.kitti")).unwrap()),
    );
    assert_eq!((tum.len(), kitti.len()), (4, 4));
    for (i, pose) in poses.iter().enumerate() {
        // The network's rotations are rotations to the digits of F32.
        let close = |a: f64, b: f64| (a - b).abs() < 1e-5;
        assert!(
            pose.iter().zip(&kitti[i]).all(|(a, b)| close(*a, *b)),
            "{i}: {pose:?} {:?}",
            kitti[i]
        );
        let [t, x, y, z, qx, qy, qz, qw] = tum[i][..] else {
            panic!("{:?}", tum[i])
        };
        assert_eq!(t, i as f64);
        assert!(
            [x, y, z]
                .into_iter()
                .zip([3, 7, 11])
                .all(|(a, at)| close(a, pose[at])),
            "{i}"
        );
        assert!(close(qx * qx + qy * qy + qz * qz + qw * qw, 1.0));
        let rotation = [
            1.0 - 2.0 * (qy * qy + qz * qz),
            2.0 * (qx * qy - qz * qw),
            2.0 * (qx * qz + qy * qw),
        ];
        assert!(
            rotation.into_iter().zip(pose).all(|(a, b)| close(a, *b)),
            "{i}: {rotation:?} {pose:?}"
        );
    }
}

fn export<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["export", "--demo", "in", "--out", "x.glb"], more].concat()
}

#[test]
fn frames_of_a_video_have_their_times_also_from_saved_predictions_and_a_process_of_their_own() {
    let dir = photos(1);
    let here = dir.path();
    let clip = repository("tests/data/frames/video/clip30.mp4");
    let read = |args: &[&str]| -> Vec<Vec<f64>> {
        let out = ["--out", "x.glb", "--save-trajectory", "x.txt"];
        run(here, &[&["export"], args, &out[..]].concat());
        lines(&fs::read_to_string(here.join("x.txt")).unwrap())
    };
    let video = ["--demo", text(&clip), "--fps", "2"];
    let tum = read(&[&video[..], &["--save-predictions", "p.safetensors"]].concat());
    // Every 15th frame of 30 a second, counted from 1.
    let times: Vec<f64> = tum.iter().map(|line| line[0]).collect();
    assert!(times.len() > 1, "{times:?}");
    for (i, time) in times.iter().enumerate() {
        let expected = (15.0 * (i as f64 + 1.0) - 1.0) / 30.0;
        assert!(
            (time - expected).abs() < 1e-5,
            "{i}: {time} is not {expected}"
        );
    }
    assert_eq!(read(&["--from-predictions", "p.safetensors"]), tum);
    assert_eq!(read(&[&video[..], &["--isolate"]].concat()), tum);
}

#[test]
fn a_trajectory_follows_the_rules_of_outputs() {
    let dir = photos(1);
    let here = dir.path();
    run(
        here,
        &export(&[
            "--save-trajectory",
            "poses/",
            "--trajectory-format",
            "kitti",
        ]),
    );
    assert_eq!(
        lines(&fs::read_to_string(here.join("poses/trajectory.txt")).unwrap())[0].len(),
        12
    );
    fs::write(here.join("truth.kitti"), "1 0 0 0 0 1 0 0 0 0 1 0\n").unwrap();
    let err = fail(here, 1, &export(&["--save-trajectory", "truth.kitti"]));
    assert!(err.contains("--overwrite"), "{err}");
    for (path, word) in [("poses.csv", ".csv"), ("x.glb", ".glb")] {
        let err = fail(here, 2, &export(&["--save-trajectory", path]));
        assert!(err.contains(word), "{err}");
    }
    // Our own TUM file may be replaced.
    run(here, &export(&["--save-trajectory", "own.txt"]));
    run(here, &export(&["--save-trajectory", "own.txt"]));
    run(
        here,
        &[
            "export",
            "--demo",
            "--each",
            "in",
            "--out",
            "out/",
            "--save-trajectory",
            "out/",
        ],
    );
    assert_eq!(files(&here.join("out")), ["in.glb", "in.txt"]);
}
