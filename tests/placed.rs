//! `vggt export` with measured lengths, level ground, and what photos note of themselves.

use std::{fmt::Write as _, fs};

use nalgebra::{Point3, UnitQuaternion, Vector3};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    fail,
    glb::Glb,
    placed::{
        PHOTO_PIXELS, demo as export_demo, exif, export, numbers, photos, poses, saved, truth,
    },
    summary, vggt,
};

/// Height and width of the network's image.
const SIZE: [usize; 2] = [84, 112];

fn extras(dir: &TempDir, name: &str) -> Value {
    Glb::parse(&fs::read(dir.path().join(name)).unwrap()).json["asset"]["extras"].clone()
}

/// The point of a pixel of the network's image, and the photo's pixel in whose middle it is.
fn pixel(points: &[f64], frame: usize, [row, column]: [usize; 2]) -> (Vector3<f64>, String) {
    let at = 3 * ((frame * SIZE[0] + row) * SIZE[1] + column);
    let [x, y] = [column, row].map(|i| (i as f64 + 0.5) * PHOTO_PIXELS);
    (
        Vector3::from_column_slice(&points[at..at + 3]),
        format!("{x},{y}"),
    )
}

#[test]
fn a_measured_length_puts_everything_into_meters() {
    let dir = TempDir::new().unwrap();
    let (_, before) = export_demo(&dir, &[]);
    let points = numbers(&before["world_points_from_depth"]);
    let ((a, at_a), (b, at_b)) = (pixel(&points, 0, [60, 20]), pixel(&points, 3, [50, 90]));
    let expected = 1.2 / (a - b).norm();
    // By number and by name.
    for length in [
        format!("0:{at_a} 3:{at_b} = 120cm"),
        format!("frame_00:{at_a} frame_03.png:{at_b}=1.2"),
    ] {
        let (told, after) = export_demo(&dir, &["--scale", &length]);
        let found = told["placed"]["lengths"]["meters_per_unit"]
            .as_f64()
            .unwrap();
        assert!((found / expected - 1.0).abs() < 1e-5, "{found} {expected}");
        let points = numbers(&after["world_points_from_depth"]);
        let (a, b) = (pixel(&points, 0, [60, 20]).0, pixel(&points, 3, [50, 90]).0);
        assert!(((a - b).norm() - 1.2).abs() < 1e-5, "{}", (a - b).norm());
        let extras = extras(&dir, "q.glb");
        assert_eq!(extras["unit"], "meters");
        assert_eq!(extras["options"]["scale"], true);
    }
    // Three, one of which is wrong by a half: the median counts.
    let wrong = format!("0:{at_a} 3:{at_b} = 1.8m");
    let right = format!("0:{at_a} 3:{at_b} = 1.2m");
    let args = [
        "export",
        "--from_predictions",
        "q.safetensors",
        "--out",
        "x.glb",
        "--json",
    ];
    let lengths = ["--scale", &right, "--scale", &wrong, "--scale", &right];
    let output = vggt(dir.path(), &[&args[..], &lengths].concat());
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = told["placed"]["lengths"]["meters_per_unit"]
        .as_f64()
        .unwrap();
    // The predictions are in meters already.
    assert!((found - 1.0).abs() < 1e-5, "{found}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("disagree by 50 %"), "{said}");
}

#[test]
fn lengths_that_cannot_be_measured_are_errors_that_say_why() {
    let dir = TempDir::new().unwrap();
    let saved = saved(&dir);
    let here = dir.path();
    for (code, length, expected) in [
        (2, "0:1,2 = 3m", "expected two points and a length"),
        (2, "8:10,10 0:20,20 = 1m", "photos are numbered 0 to 7"),
        (2, "photo.png:10,10 0:20,20 = 1m", "no photo has this name"),
        (2, "0:10,10 0:281,20 = 1m", "the photo has 280 x 210 pixels"),
        (2, "0:10,10 0:10,10 = 1m", "both ends are the same point"),
        (
            1,
            "0:10,10 0:200,20 = 9999999km",
            "1e-6 to 1e6 are possible",
        ),
    ] {
        let args = [
            "export",
            "--from_predictions",
            &saved,
            "--out",
            "x.glb",
            "--scale",
            length,
        ];
        let told = fail(here, code, &args);
        assert!(told.contains(expected), "{told}: {expected}");
        assert!(!here.join("x.glb").exists());
    }
    let told = fail(
        here,
        2,
        &[
            "export",
            "--demo",
            "--scale",
            "0:1,2 0:3,4=1",
            "--meters_per_unit",
            "2",
        ],
    );
    assert!(told.contains("cannot be used with"), "{told}");
}

#[test]
fn a_tilted_world_is_leveled_in_every_format() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    // The true cameras, which were held level, in a world that is tilted.
    let tilt = UnitQuaternion::from_euler_angles(0.9, -0.4, 2.2);
    let mut table = String::from("name,qw,qx,qy,qz,tx,ty,tz\n");
    for (i, pose) in poses(&truth()["extrinsic"]).iter().enumerate() {
        let q = (pose.rotation * tilt.inverse()).coords;
        let t = pose.translation;
        writeln!(
            table,
            "frame_{i:02}.png,{},{},{},{},{},{},{}",
            q.w, q.x, q.y, q.z, t.x, t.y, t.z
        )
        .unwrap();
    }
    fs::write(here.join("t.csv"), table).unwrap();
    let args = ["--cameras", "t.csv", "--level"];
    let (told, after) = export_demo(
        &dir,
        &[&args[..], &["--out", "q.ply", "--orient", "gltf"]].concat(),
    );
    let report = &told["placed"]["level"];
    println!("{report}");
    assert!(report["turned_deg"].as_f64().unwrap() > 20.0, "{report}");
    assert!(
        report["median_roll_deg"].as_f64().unwrap() < 3.0,
        "{report}"
    );
    // Right sides are horizontal and own downs are down.
    let mut rolls: Vec<f64> = poses(&after["extrinsic"])
        .iter()
        .map(|pose| {
            let [right, down] =
                [Vector3::x(), Vector3::y()].map(|axis| pose.rotation.inverse() * axis);
            assert!(down.y > 0.5, "{down}");
            right.y.abs().asin().to_degrees()
        })
        .collect();
    rolls.sort_by(f64::total_cmp);
    assert!(rolls[4] < 3.0, "{rolls:?}");
    let extras = extras(&dir, "q.glb");
    assert_eq!(extras["world"], json!({"kind": "level"}));
    assert!(
        extras["axes"]
            .as_str()
            .unwrap()
            .contains("y up against gravity, z back"),
        "{extras}"
    );
    let ply = fs::read(here.join("q.ply")).unwrap();
    let head = String::from_utf8_lossy(&ply[..4096.min(ply.len())]).into_owned();
    assert!(head.contains("x left, y up against gravity"), "{head}");
    // The root of the GLB is level too: what is below in the world is below in the file.
    let glb = Glb::parse(&fs::read(here.join("q.glb")).unwrap());
    let matrices = glb.json["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|node| node.get("children").is_some());
    let matrix: Vec<f64> =
        serde_json::from_value(matrices.clone().next().unwrap()["matrix"].clone()).unwrap();
    assert!((matrix[5] + 1.0).abs() < 1e-6, "{matrix:?}");
}

fn rational(value: f64, below: u32) -> Vec<u8> {
    [
        ((value * f64::from(below)).round() as u32).to_be_bytes(),
        below.to_be_bytes(),
    ]
    .concat()
}

/// Meters of a unit of the truth, and the latitude, longitude and altitude of its origin.
const METERS: f64 = 20.0;
const PLACE: [f64; 3] = [47.0, 8.5, 400.0];

/// Where a true camera is, in meters east, north and up: the truth's y axis is down, roughly.
fn east_north_up(center: Point3<f64>) -> [f64; 3] {
    [center.x, center.z, -center.y].map(|x| x * METERS)
}

#[test]
fn photos_with_positions_are_placed_on_the_earth_only_where_that_is_asked_for() {
    let dir = TempDir::new().unwrap();
    let truth = poses(&truth()["extrinsic"]);
    let centers: Vec<[f64; 3]> = truth
        .iter()
        .map(|pose| east_north_up(pose.inverse_transform_point(&Point3::origin())))
        .collect();
    let folder = photos(&dir, |i| {
        let [east, north, up] = centers[i];
        // Meters of a degree at 47 degrees of latitude, on the ellipsoid of WGS 84.
        let (latitude, longitude) = (PLACE[0] + north / 111_170.0, PLACE[1] + east / 76_057.0);
        let degrees = |value: f64| {
            let seconds = value.fract() * 3600.0;
            [
                rational(value.floor(), 1),
                rational(0.0, 1),
                rational(seconds, 100_000),
            ]
            .concat()
        };
        exif(
            &[],
            &[
                (1, 2, 2, b"N\0".to_vec()),
                (2, 5, 3, degrees(latitude)),
                (3, 2, 2, b"E\0".to_vec()),
                (4, 5, 3, degrees(longitude)),
                (5, 1, 1, vec![0]),
                (6, 5, 1, rational(PLACE[2] + up, 1000)),
            ],
        )
    });
    let (told, after) = export(&dir, &["--demo", &folder], &["--gps"]);
    let report = &told["placed"]["gps"];
    println!("{report}");
    let (off, extent) = (
        report["median_distance_m"].as_f64().unwrap(),
        report["extent_m"].as_f64().unwrap(),
    );
    assert_eq!(report["positions"], 8);
    assert!(off < 0.08 * extent, "{report}");
    // Where the cameras are in meters from the first, up to the network's own error.
    for (pose, at) in poses(&after["extrinsic"]).iter().zip(&centers) {
        let found = pose.inverse_transform_point(&Point3::origin());
        let expected = Vector3::from(*at) - Vector3::from(centers[0]);
        assert!(
            (found.coords - expected).norm() < 0.25 * extent,
            "{found} {expected}"
        );
    }
    let extras_of = extras(&dir, "q.glb");
    assert_eq!(
        (&extras_of["unit"], &extras_of["axes"]),
        (
            &json!("meters"),
            &json!("x east, y up, z south, meters from the origin")
        )
    );
    let origin = &extras_of["world"]["origin"];
    let latitude = origin["latitude"].as_f64().unwrap();
    assert!(
        (latitude - PLACE[0] - centers[0][1] / 111_170.0).abs() < 1e-6,
        "{origin}"
    );
    let args = [
        "--from_predictions",
        "q.safetensors",
        "--out",
        "x.ply",
        "--save_trajectory",
        "t.tum",
    ];
    summary(dir.path(), &args);
    for name in ["x.ply", "t.tum"] {
        let bytes = fs::read(dir.path().join(name)).unwrap();
        let head = String::from_utf8_lossy(&bytes[..8192.min(bytes.len())]).into_owned();
        assert!(head.contains("\"latitude\""), "{name}: {head}");
    }

    // Without the option nothing of a place is in any file.
    let (told, _) = export(&dir, &["--demo", &folder], &["--out", "n.ply"]);
    assert!(told.get("placed").is_none());
    for name in ["q.glb", "n.ply", "q.safetensors"] {
        let bytes = fs::read(dir.path().join(name)).unwrap();
        let all = String::from_utf8_lossy(&bytes);
        assert!(!all.contains("latitude"), "{name}");
    }
}

#[test]
fn places_need_photos_with_positions() {
    let dir = TempDir::new().unwrap();
    let told = fail(dir.path(), 2, &["export", "--demo", "--gps"]);
    assert!(told.contains("the demo hold none"), "{told}");
    let folder = photos(&dir, |_| exif(&[], &[]));
    let told = fail(dir.path(), 1, &["export", "--demo", &folder, "--gps"]);
    assert!(told.contains("0 of 8 photos note a position"), "{told}");
    let told = fail(
        dir.path(),
        1,
        &["export", "--demo", &folder, "--exif_focal"],
    );
    assert!(
        told.contains("none of 8 notes one that is plausible"),
        "{told}"
    );
}

#[test]
fn plausible_focal_lengths_of_photos_replace_the_networks() {
    let dir = TempDir::new().unwrap();
    let focal = numbers(&truth()["intrinsic"])[0] * PHOTO_PIXELS;
    // The equivalent of 35 mm film in whole millimeters: by the diagonal, which is 350 pixels.
    let mm = (focal * 43.2666 / 350.0).round();
    let folder = photos(&dir, |i| {
        // The last one is a telescope's.
        let mm = if i == 7 { 1200 } else { mm as u16 };
        exif(&[(0xA405, 3, 1, mm.to_be_bytes().to_vec())], &[])
    });
    let (_, before) = export(&dir, &["--demo", &folder], &[]);
    let (told, after) = export(&dir, &["--demo", &folder], &["--exif_focal"]);
    let report = &told["placed"]["focal"];
    println!("{report}");
    assert_eq!((&report["noted"], &report["used"]), (&json!(8), &json!(7)));
    let (before, k) = (numbers(&before["intrinsic"]), numbers(&after["intrinsic"]));
    let expected = mm * 350.0 / 43.2666 / PHOTO_PIXELS;
    assert!(
        (k[0] / expected - 1.0).abs() < 1e-5 && (k[4] / expected - 1.0).abs() < 1e-5,
        "{k:?} {expected}"
    );
    assert_eq!(k[7 * 9], before[7 * 9]);
}
