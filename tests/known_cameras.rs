//! `vggt export --cameras`: known cameras in the place of the network's.

use std::{fmt::Write, fs};

use candle_core::Tensor;
use nalgebra::{Isometry3, Point3, Similarity3, UnitQuaternion, Vector3};
use serde_json::{Value, json};
use tempfile::TempDir;
use vggt_model::geometry::pose_encoding_to_extri_intri;

use crate::support::{
    fail,
    glb::Glb,
    placed::{PHOTO_PIXELS, demo, numbers, poses, relative_error, saved, truth},
    run, summary,
};

/// ‖a - b‖ / ‖b‖ after cameras went to a file and back, and through an alignment: F32, some dozen operations.
const SAME: f64 = 5e-6;

/// The network's cameras, exported in every format that is read.
#[test]
fn the_networks_own_cameras_change_nothing() {
    let dir = TempDir::new().unwrap();
    let (_, before) = demo(&dir, &["--save_trajectory", "t.tum"]);
    let from = ["export", "--from_predictions", "p.safetensors"];
    fs::rename(
        dir.path().join("q.safetensors"),
        dir.path().join("p.safetensors"),
    )
    .unwrap();
    for out in [
        ["--format", "colmap", "--out", "c"],
        ["--format", "nerfstudio", "--out", "n"],
    ] {
        run(dir.path(), &[&from[..], &out].concat());
    }
    let sparse = dir.path().join("c/sparse/0");
    fs::create_dir(dir.path().join("txt")).unwrap();
    for name in ["cameras.txt", "images.txt"] {
        fs::copy(sparse.join(name), dir.path().join("txt").join(name)).unwrap();
    }
    for (path, format, lenses) in [
        ("c", "colmap", 8),
        ("txt", "colmap", 8),
        ("n/transforms.json", "transforms", 8),
        ("t.tum", "tum", 0),
    ] {
        let (told, after) = demo(&dir, &["--cameras", path]);
        let report = &told["placed"]["cameras"];
        assert_eq!(
            (&report["format"], &report["poses"]),
            (&json!(format), &json!(8)),
            "{path}"
        );
        assert_eq!(report["lenses"], lenses, "{path}");
        assert_eq!(report["outliers"], json!([]), "{path}: {report}");
        for key in ["scale", "depth_factor"] {
            let value = report[key].as_f64().unwrap();
            assert!((value - 1.0).abs() < SAME, "{path}: {key} {value}");
        }
        for name in [
            "extrinsic",
            "intrinsic",
            "depth",
            "world_points_from_depth",
            "world_points",
            "depth_conf",
        ] {
            let error = relative_error(&after[name], &before[name]);
            assert!(error < SAME, "{path}: {name} {error:e}");
        }
        // The network's quaternions have other lengths.
        let (decoded, _) = pose_encoding_to_extri_intri(&after["pose_enc"], (84, 112)).unwrap();
        let error = relative_error(&decoded, &before["extrinsic"]);
        assert!(error < SAME, "{path}: {error:e}");
    }
}

/// A table of the true cameras in a world of its own, in which two are wrong by far.
fn moved_truth(world: &Similarity3<f64>, wrong: &[usize]) -> (String, Vec<Isometry3<f64>>) {
    let truth = truth();
    let (intrinsic, mut cameras) = (numbers(&truth["intrinsic"]), Vec::new());
    let mut table = String::from("name,fx,fy,cx,cy,width,height,qw,qx,qy,qz,tx,ty,tz\n");
    for (i, pose) in poses(&truth["extrinsic"]).into_iter().enumerate() {
        let rotation = pose.rotation * world.isometry.rotation.inverse();
        let center = world * pose.inverse_transform_point(&Point3::origin());
        let shift = match wrong.contains(&i) {
            true => Vector3::new(3.0, 20.0, -10.0 * (i as f64 + 1.0)),
            false => Vector3::zeros(),
        };
        let pose = Isometry3::from_parts((-(rotation * (center.coords + shift))).into(), rotation);
        let k = &intrinsic[9 * i..];
        // The network's pixel centers lie at integers, the table's at half numbers.
        let [fx, fy] = [k[0] * PHOTO_PIXELS, k[4] * PHOTO_PIXELS];
        let [cx, cy] = [k[2], k[5]].map(|c| (c + 0.5) * PHOTO_PIXELS);
        let (q, t) = (pose.rotation.coords, pose.translation);
        writeln!(
            table,
            "frame_{i:02}.png,{fx},{fy},{cx},{cy},280,210,{},{},{},{},{},{},{}",
            q.w, q.x, q.y, q.z, t.x, t.y, t.z
        )
        .unwrap();
        cameras.push(pose);
    }
    (table, cameras)
}

#[test]
fn true_cameras_bring_the_result_to_their_world_and_wrong_ones_are_named() {
    let dir = TempDir::new().unwrap();
    let world = Similarity3::new(
        Vector3::new(4.0, -7.0, 2.0),
        Vector3::new(0.3, 1.9, -0.6),
        2.5,
    );
    let (table, cameras) = moved_truth(&world, &[2, 5]);
    fs::write(dir.path().join("t.csv"), table).unwrap();
    let (told, after) = demo(&dir, &["--cameras", "t.csv", "--json=full"]);
    let report = &told["placed"]["cameras"];
    println!("{report}");
    assert_eq!(report["outliers"], json!(["frame_02.png", "frame_05.png"]));
    assert_eq!(
        (&report["poses"], &report["lenses"]),
        (&json!(8), &json!(8))
    );
    // What the file says counts, also where it is wrong.
    for (found, expected) in poses(&after["extrinsic"]).iter().zip(&cameras) {
        let turned = found.rotation.angle_to(&expected.rotation);
        let off = (found.translation.vector - expected.translation.vector).norm();
        // A quaternion in F32, and positions up to 70 in F32.
        assert!(turned < 1e-3 && off < 1e-4, "{turned} {off}");
    }
    let error = relative_error(&after["intrinsic"], &truth()["intrinsic"]);
    assert!(error < SAME, "{error:e}");
    // Depths are those of the truth in the new unit: the network's own error is 3.2 % after the best scale.
    let (found, expected) = (numbers(&after["depth"]), numbers(&truth()["depth"]));
    let ratios = found
        .iter()
        .zip(&expected)
        .map(|(a, b)| (a / (2.5 * b) - 1.0).abs());
    let abs_rel = ratios.sum::<f64>() / found.len() as f64;
    println!("AbsRel {abs_rel:.4}");
    assert!(abs_rel < 0.06, "{abs_rel}");
    assert_eq!(told["cameras"]["axes"], "those of the known cameras");
    let extras = glb_extras(&dir);
    assert_eq!(extras["world"], json!({"kind": "known"}));
    // Others may see the file: numbers, and no names.
    assert_eq!(extras["placed"]["cameras"]["outliers"], 2);
    assert!(!extras.to_string().contains("frame_02"), "{extras}");
}

fn glb_extras(dir: &TempDir) -> Value {
    Glb::parse(&fs::read(dir.path().join("q.glb")).unwrap()).json["asset"]["extras"].clone()
}

#[test]
fn a_few_poses_bring_the_other_frames_along() {
    let dir = TempDir::new().unwrap();
    let (_, before) = demo(&dir, &[]);
    // Those of three frames, twice as large.
    let mut table = String::from("name,qw,qx,qy,qz,tx,ty,tz\n");
    let network = poses(&before["extrinsic"]);
    for i in [0, 3, 6] {
        let (q, t) = (
            network[i].rotation.coords,
            network[i].translation.vector * 2.0,
        );
        writeln!(
            table,
            "frame_{i:02},{},{},{},{},{},{},{}",
            q.w, q.x, q.y, q.z, t.x, t.y, t.z
        )
        .unwrap();
    }
    fs::write(dir.path().join("t.csv"), table).unwrap();
    let (told, after) = demo(&dir, &["--cameras", "t.csv"]);
    assert_eq!(told["placed"]["cameras"]["poses"], 3);
    let twice = |t: &Tensor| (t * 2.0).unwrap();
    for name in ["depth", "world_points", "world_points_from_depth"] {
        let error = relative_error(&after[name], &twice(&before[name]));
        assert!(error < 2e-5, "{name} {error:e}");
    }
    for (found, before) in poses(&after["extrinsic"]).iter().zip(&network) {
        let off = found.translation.vector - before.translation.vector * 2.0;
        assert!(off.norm() < 1e-4, "{off}");
    }
}

#[test]
fn lenses_alone_leave_the_poses_and_are_those_of_the_photo() {
    let dir = TempDir::new().unwrap();
    let (_, before) = demo(&dir, &[]);
    // For a copy of half the size, and a tenth longer than the network's.
    let focal = numbers(&before["intrinsic"])[0] * PHOTO_PIXELS / 2.0 * 1.1;
    let mut table = String::from("name,fx,width,height\n");
    for i in 0..8 {
        writeln!(table, "frame_{i:02}.png,{focal},140,105").unwrap();
    }
    fs::write(dir.path().join("t.csv"), table).unwrap();
    let (told, after) = demo(&dir, &["--cameras", "t.csv"]);
    let report = &told["placed"]["cameras"];
    assert_eq!(
        (&report["poses"], &report["lenses"]),
        (&json!(0), &json!(8))
    );
    assert_eq!(report["scale"], Value::Null);
    assert_eq!(
        relative_error(&after["extrinsic"], &before["extrinsic"]),
        0.0
    );
    let k = numbers(&after["intrinsic"]);
    assert!(
        (k[0] / (focal * 2.0 / PHOTO_PIXELS) - 1.0).abs() < SAME,
        "{k:?}"
    );
    // The middle of the photo, at half numbers: 140 of 280 is 56 of 112, less half a pixel.
    assert!(
        (k[2] - 55.5).abs() < SAME && (k[5] - 41.5).abs() < SAME,
        "{k:?}"
    );
    // Between an object on a turntable, whose depths stay, and a stereo pair, whose depths grow with the focal length.
    let factor = report["depth_factor"].as_f64().unwrap();
    assert!((0.97..1.13).contains(&factor), "{factor}");
    assert!(
        Glb::parse(&fs::read(dir.path().join("q.glb")).unwrap()).json["asset"]["extras"]
            .get("world")
            .is_none()
    );
}

#[test]
fn what_does_not_fit_is_an_error_that_says_so_and_writes_nothing() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    let saved = saved(&dir);
    let pose = |name: &str, t: [f64; 3]| format!("{name},1,0,0,0,{},{},{}\n", t[0], t[1], t[2]);
    let poses = |rows: &[String]| format!("name,qw,qx,qy,qz,tx,ty,tz\n{}", rows.concat());
    for (table, expected) in [
        (
            "name,fx\nother.png,100\n".to_owned(),
            "none of 1 belongs to one of 8 frames",
        ),
        (
            "name,fx,width,height\nframe_00.png,100,210,280\n".to_owned(),
            "was its orientation ignored?",
        ),
        (
            "name,fx,width,height\nframe_00.png,100,280,280\n".to_owned(),
            "it is for an image of 280 x 280",
        ),
        (
            poses(&[pose("frame_00.png", [0.0; 3])]),
            "at least 2 are needed",
        ),
        (
            poses(&[
                pose("frame_00.png", [1.0; 3]),
                pose("frame_01.png", [1.0; 3]),
            ]),
            "positions that are all the same",
        ),
        (
            poses(&[pose("frame_00.png", [f64::NAN; 3])]),
            "line 2: expected a number as tx",
        ),
        (
            "name,fx\nframe_00.png,-5\n".to_owned(),
            "its focal lengths must be positive",
        ),
    ] {
        fs::write(here.join("t.csv"), table).unwrap();
        let args = [
            "export",
            "--from_predictions",
            &saved,
            "--cameras",
            "t.csv",
            "--out",
            "x.glb",
        ];
        let told = fail(here, 1, &args);
        assert!(told.contains(expected), "{told}: {expected}");
        assert!(!here.join("x.glb").exists());
    }
    // Names are compared before the network runs.
    fs::write(here.join("t.csv"), "name,fx\nother.png,100\n").unwrap();
    let told = fail(
        here,
        1,
        &["export", "--demo", "--cameras", "t.csv", "--out", "x.glb"],
    );
    assert!(told.contains("none of 1 belongs"), "{told}");
    // An output may not replace the file.
    let told = fail(
        here,
        2,
        &[
            "export",
            "--demo",
            "--cameras",
            "t.csv",
            "--save_trajectory",
            "./t.csv",
            "--overwrite",
        ],
    );
    assert!(told.contains("t.csv"), "{told}");
}

#[test]
fn distortion_is_told_and_saved_predictions_keep_their_world() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    let turn = UnitQuaternion::from_euler_angles(0.3, 0.2, 0.1);
    let world = Similarity3::new(Vector3::new(1.0, 2.0, 3.0), turn.scaled_axis(), 1.5);
    let (table, _) = moved_truth(&world, &[]);
    fs::write(here.join("t.csv"), table).unwrap();
    let (_, _) = demo(&dir, &["--cameras", "t.csv"]);
    let before = glb_extras(&dir);
    let told = summary(
        here,
        &[
            "--from_predictions",
            "q.safetensors",
            "--out",
            "again.glb",
            "--json=full",
        ],
    );
    assert_eq!(told["cameras"]["axes"], "those of the known cameras");
    let again = Glb::parse(&fs::read(here.join("again.glb")).unwrap());
    let extras = &again.json["asset"]["extras"];
    assert_eq!(
        (&extras["world"], &extras["axes"]),
        (&before["world"], &before["axes"])
    );

    fs::create_dir(here.join("m")).unwrap();
    fs::write(
        here.join("m/cameras.txt"),
        "1 SIMPLE_RADIAL 280 210 250 140 105 -0.1\n",
    )
    .unwrap();
    fs::write(
        here.join("m/images.txt"),
        "1 1 0 0 0 0 0 0 1 frame_00.png\n\n2 1 0 0 0 1 0 0 1 frame_01.png\n\n",
    )
    .unwrap();
    let args = [
        "export",
        "--from_predictions",
        "q.safetensors",
        "--cameras",
        "m",
        "--out",
        "y.glb",
    ];
    let output = crate::support::vggt(here, &args);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && told.contains("distortion of up to"),
        "{told}"
    );
}
