//! PLY files, read back.

use std::fs;

use tempfile::TempDir;
use vggt::ply;

use crate::support::{fail, files, glb::provenance, repository, scene as fixture, summary, text};

#[test]
fn every_point_comes_back_with_its_color_and_confidence() {
    let scene = fixture::build("depth_branch");
    let points = fixture::points(&scene);
    let mut bytes = Vec::new();
    let size = ply::write(&scene, &fixture::frames(None), &provenance(), &mut bytes).unwrap();
    assert_eq!(size, bytes.len() as u64);

    let end = b"end_header\n";
    let body = bytes.windows(end.len()).position(|w| w == end).unwrap() + end.len();
    let header = std::str::from_utf8(&bytes[..body]).unwrap();
    let lines: Vec<&str> = header.lines().collect();
    assert_eq!(lines[..2], ["ply", "format binary_little_endian 1.0"]);
    assert_eq!(
        lines.iter().filter(|l| l.starts_with("comment {")).count(),
        1,
        "a line break in the provenance stays inside its comment"
    );
    assert!(lines.contains(&format!("element vertex {}", scene.points.len()).as_str()));

    let body = &bytes[body..];
    assert_eq!(body.len(), 19 * scene.points.len());
    for (i, row) in body.chunks(19).enumerate() {
        let float = |at: usize| f32::from_le_bytes(row[at..at + 4].try_into().unwrap());
        let view = scene.node_transform.apply_f32(points.positions[i]);
        assert_eq!([float(0), float(4), float(8)], view);
        assert_eq!(row[12..15], points.colors[i]);
        assert_eq!(float(15), points.confidence[i]);
    }
}

/// Properties of splats, in order, as Inria's `save_ply` names them; without `f_rest`.
const SPLAT: [&str; 17] = [
    "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1",
    "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
];

/// Reads a PLY of splats: its comments, and a row of values for each splat.
fn splats(bytes: &[u8]) -> (Vec<String>, Vec<[f32; 17]>) {
    let end = b"end_header\n";
    let body = bytes.windows(end.len()).position(|w| w == end).unwrap() + end.len();
    let mut lines = std::str::from_utf8(&bytes[..body]).unwrap().lines();
    assert_eq!(lines.next(), Some("ply"));
    assert_eq!(lines.next(), Some("format binary_little_endian 1.0"));
    let (comments, rest): (Vec<&str>, Vec<&str>) = lines.partition(|l| l.starts_with("comment "));
    let count = rest[0].strip_prefix("element vertex ").unwrap();
    let properties = SPLAT.map(|name| format!("property float {name}"));
    assert_eq!(rest[1..18], properties);
    assert_eq!(rest[18..], ["end_header"]);
    let values: Vec<f32> = bytes[body..]
        .chunks(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let rows: Vec<[f32; 17]> = values
        .chunks(17)
        .map(|row| row.try_into().unwrap())
        .collect();
    assert_eq!(rows.len().to_string(), count);
    (comments.into_iter().map(str::to_owned).collect(), rows)
}

/// The root mean square of the distances to the three nearest other points, among all points.
fn size(points: &[[f32; 3]], index: usize) -> f64 {
    let squared = |other: &[f32; 3]| -> f64 {
        let axes = 0..3;
        let offsets = axes.map(|a| f64::from(other[a]) - f64::from(points[index][a]));
        offsets.map(|d| d * d).sum()
    };
    let others = points.iter().enumerate().filter(|(i, _)| *i != index);
    let mut all: Vec<f64> = others.map(|(_, other)| squared(other)).collect();
    all.sort_by(f64::total_cmp);
    (all[..3].iter().sum::<f64>() / 3.0).sqrt()
}

#[test]
fn every_splat_begins_as_trainers_initialize_it() {
    let scene = fixture::build("depth_branch");
    let points = fixture::points(&scene);
    let mut bytes = Vec::new();
    let written = ply::write_splats(&points, &provenance(), &mut bytes).unwrap();
    assert_eq!(written, bytes.len() as u64);
    let (comments, rows) = splats(&bytes);
    assert!(comments.contains(&"comment Vertical axis: y".to_owned()));
    assert!(
        comments
            .iter()
            .any(|comment| comment.contains("y down, z forward (OpenCV)"))
    );
    assert_eq!(rows.len(), points.len());
    for (i, row) in rows.iter().enumerate() {
        let [
            x,
            y,
            z,
            n0,
            n1,
            n2,
            r,
            g,
            b,
            opacity,
            scale @ ..,
            w,
            q0,
            q1,
            q2,
        ] = *row;
        // The world of the network, and not that of a viewer.
        assert_eq!([x, y, z], points.positions[i]);
        assert_eq!([n0, n1, n2], [0.0; 3]);
        // Rounding to F32 is off by 1e-7 of values up to 2.
        for (harmonic, color) in [r, g, b].into_iter().zip(points.colors[i]) {
            let color_again = 0.5 + 0.282_094_791_773_878_14 * f64::from(harmonic);
            assert!((color_again * 255.0 - f64::from(color)).abs() < 1e-4);
        }
        assert!((1.0 / (1.0 + (-f64::from(opacity)).exp()) - 0.1).abs() < 1e-7);
        assert_eq!([w, q0, q1, q2], [1.0, 0.0, 0.0, 0.0]);
        assert!(scale.iter().all(|s| *s == scale[0]));
        if i % 50 == 0 {
            let expected = size(&points.positions, i).max(1e-7_f64.sqrt()).ln();
            assert!((f64::from(scale[0]) - expected).abs() < 1e-5, "splat {i}");
        }
    }
}

#[test]
fn splats_at_one_place_have_the_smallest_size_and_one_splat_too() {
    let scene = fixture::build("depth_branch");
    let mut points = fixture::points(&scene);
    let first = points.positions[0];
    points.positions.fill(first);
    let mut bytes = Vec::new();
    ply::write_splats(&points, &provenance(), &mut bytes).unwrap();
    let smallest = 1e-7_f64.sqrt().ln() as f32;
    let (_, rows) = splats(&bytes);
    assert!(rows.iter().all(|row| row[10] == smallest));
}

#[test]
fn a_ply_and_a_dataset_have_the_same_splats_and_a_later_export_leaves_none() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    let saved = repository("tests/data/scene/predictions.safetensors");
    let export = |args: &[&str]| {
        let from = ["--from_predictions", text(&saved), "--max_points", "500"];
        summary(here, &[&from, args].concat())
    };
    let said = export(&[
        "--ply", "splats", "--out", "a.ply", "--out", "d", "--format", "colmap",
    ]);
    assert_eq!(said["points"], 500);
    let read = |path: &str| splats(&fs::read(here.join(path)).unwrap()).1;
    let of_file = read("a.ply");
    assert_eq!(of_file.len(), 500);
    assert_eq!(read("d/init.ply"), of_file);
    // The points of the model: an identifier, then the position.
    let model = fs::read_to_string(here.join("d/sparse/0/points3D.txt")).unwrap();
    let positions = model.lines().filter(|line| !line.starts_with('#'));
    let positions: Vec<[f32; 3]> = positions
        .map(|line| {
            let mut values = line.split(' ').skip(1).map(|v| v.parse::<f32>().unwrap());
            [0; 3].map(|_| values.next().unwrap())
        })
        .collect();
    let of_splats: Vec<[f32; 3]> = of_file.iter().map(|row| [row[0], row[1], row[2]]).collect();
    assert_eq!(positions, of_splats);
    // In a folder, the name says what it is.
    export(&["--ply", "splats", "--format", "ply", "--out", "results/"]);
    assert_eq!(
        files(&here.join("results")),
        ["scene_pointmap_conf3_max500_splats.ply"]
    );
    // A trainer would begin with those of the old scene.
    export(&["--out", "d", "--format", "colmap"]);
    assert!(!here.join("d/init.ply").exists());
    // A user's own file stays, and stops an export that would replace it.
    fs::write(here.join("d/init.ply"), "mine").unwrap();
    export(&["--out", "d", "--format", "colmap"]);
    let from = [
        "export",
        "--from_predictions",
        text(&saved),
        "--format",
        "colmap",
        "--out",
        "d",
    ];
    let e = fail(here, 1, &[&from[..], &["--ply", "splats"]].concat());
    assert!(e.contains("init.ply"), "{e}");
    assert_eq!(fs::read(here.join("d/init.ply")).unwrap(), b"mine");
}
