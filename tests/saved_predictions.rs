//! Files of saved predictions: written and read frame by frame, and refused before anything is allocated where they are damaged.

use std::{collections::HashMap, fs, path::Path};

use candle_core::{Device, Tensor, safetensors as candle};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;
use vggt::{
    output::OutputRules,
    pipeline::{SavedFrames, load_predictions, save_predictions},
    scene::{Field, PredictedFrames},
};
use vggt_model::Tracks;

use crate::support::{
    fail, files,
    glb::Glb,
    run,
    scene::{frames, predictions},
    synthetic::Synthetic,
    text,
};

fn saved_frames(count: usize) -> SavedFrames {
    SavedFrames {
        seconds: Vec::new(),
        names: (0..count).map(|i| format!("{i}.png")).collect(),
        placements: Vec::new(),
        available: Some(9),
        weights: "tests".to_owned(),
        weights_sha256: None,
    }
}

fn tracks() -> Tracks {
    let ramp = |shape: &[usize]| {
        let count: usize = shape.iter().product();
        let ramp = Tensor::arange(0.0, count as f32, &Device::Cpu).unwrap();
        ramp.reshape(shape).unwrap()
    };
    Tracks {
        query_points: ramp(&[2, 2]),
        track: ramp(&[3, 2, 2]),
        vis: ramp(&[3, 2]),
        conf: ramp(&[3, 2]),
    }
}

fn save(path: &Path) -> Vec<u8> {
    let target = OutputRules::new(None::<&Path>, true).file(path).unwrap();
    save_predictions(&target, &frames(None), Some(&tracks()), &saved_frames(3)).unwrap();
    fs::read(path).unwrap()
}

/// What the library writes of the same tensors when it has all of them in memory, and the same metadata.
fn written_at_once(metadata: HashMap<String, String>) -> Vec<u8> {
    let (p, tracks) = (predictions(), tracks());
    let tensors = HashMap::from([
        ("images", p.images),
        ("pose_enc", p.pose_enc),
        ("extrinsic", p.extrinsic),
        ("intrinsic", p.intrinsic),
        ("depth", p.depth),
        ("depth_conf", p.depth_conf),
        ("world_points_from_depth", p.world_points_from_depth),
        ("world_points", p.world_points.unwrap()),
        ("world_points_conf", p.world_points_conf.unwrap()),
        ("query_points", tracks.query_points),
        ("track", tracks.track),
        ("vis", tracks.vis),
        ("conf", tracks.conf),
    ]);
    safetensors::serialize(&tensors, Some(metadata)).unwrap()
}

#[test]
fn the_file_has_the_bytes_that_the_library_writes_at_once() {
    let dir = TempDir::new().unwrap();
    let ours = save(&dir.path().join("a.safetensors"));
    let (header, metadata) = SafeTensors::read_metadata(&ours).unwrap();
    let expected = written_at_once(metadata.metadata().clone().unwrap());
    // The library writes its metadata in random order; ours is sorted, so the same predictions give the same file.
    let text = |bytes: &[u8]| -> Value { serde_json::from_slice(&bytes[8..8 + header]).unwrap() };
    assert_eq!(text(&ours), text(&expected));
    assert_eq!(ours.len(), expected.len());
    assert_eq!(ours[..8], expected[..8]);
    assert!(ours[8 + header..] == expected[8 + header..]);
    assert!(ours == save(&dir.path().join("b.safetensors")));
}

#[test]
fn frames_come_back_one_at_a_time() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("p.safetensors");
    save(&path);
    let (saved, about) = load_predictions(&path).unwrap();
    assert_eq!((saved.count(), saved.size()), (3, (28, 42)));
    assert_eq!(about.names, ["0.png", "1.png", "2.png"]);
    assert_eq!((about.available, &*about.weights), (Some(9), "tests"));
    let frames = frames(None);
    let values = |frames: &dyn PredictedFrames, index, field| {
        let tensor = frames.read(index, field).unwrap();
        let shape = tensor.dims().to_vec();
        (
            shape,
            tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
        )
    };
    for field in Field::ALL {
        for index in [2, 0, 1] {
            assert!(
                values(&saved, index, field) == values(&frames, index, field),
                "{field:?}"
            );
        }
    }
    assert!(saved.read(3, Field::Depth).is_err());
}

#[test]
fn a_file_that_shrinks_is_an_error_of_the_frame() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("p.safetensors");
    let bytes = save(&path);
    let (saved, _) = load_predictions(&path).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(bytes.len() as u64 / 2)
        .unwrap();
    let e = saved.read(2, Field::WorldPointsFromDepth).unwrap_err();
    let expected = "cannot read the predicted world_points_from_depth of frame 2";
    assert_eq!(e.to_string(), expected);
}

/// A file with this header, and zeros of this length behind it.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn damaged_files_are_refused_by_what_is_wrong_with_them() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    let whole = save(&here.join("p.safetensors"));
    let tensor = |shape: &[usize], offsets: [u64; 2]| json!({"dtype": "F32", "shape": shape, "data_offsets": offsets});
    let of = |name: &str, value: Value| json!({ name: value }).to_string();
    let huge = usize::MAX / 8;
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", Vec::new(), "header too small"),
        ("start", whole[..7].to_vec(), "header too small"),
        ("head", whole[..100].to_vec(), "invalid header length"),
        (
            "cut",
            whole[..whole.len() - 1].to_vec(),
            "incomplete metadata",
        ),
        ("longer", [&whole[..], &[0]].concat(), "incomplete metadata"),
        (
            "text",
            b"no safetensors file at all".to_vec(),
            "header too large",
        ),
        ("length", [0xFF; 64].to_vec(), "header too large"),
        ("json", file("{\"images\": ", 0), "invalid JSON in header"),
        ("bytes", file("\u{FFFD}", 0), "invalid JSON in header"),
        ("none", file("{}", 0), "it has no tensor \"images\""),
        // A petabyte, in a file of some bytes.
        (
            "large",
            file(
                &of(
                    "images",
                    tensor(&[1 << 24, 3, 1 << 12, 1 << 12], [0, 3 << 50]),
                ),
                0,
            ),
            "incomplete metadata",
        ),
        (
            "overflow",
            file(&of("images", tensor(&[huge, 3, huge, 2], [0, 8])), 8),
            "overflow",
        ),
        (
            "size",
            file(&of("images", tensor(&[1, 3, 1, 1], [0, 8])), 8),
            "invalid shape",
        ),
        (
            "gap",
            file(&of("images", tensor(&[1, 3, 1, 1], [4, 16])), 16),
            "invalid offset",
        ),
        (
            "back",
            file(&of("images", tensor(&[1, 3, 1, 1], [12, 0])), 0),
            "invalid offset",
        ),
    ];
    for (name, bytes, expected) in cases {
        let path = here.join(name);
        fs::write(&path, bytes).unwrap();
        let e = load_predictions(&path).unwrap_err().to_string();
        assert!(
            e.contains(expected) && e.contains(text(&path)),
            "{name}: {e}"
        );
    }
    let before = files(here);
    for name in ["cut", "large", "overflow", "none"] {
        let told = fail(here, 1, &["export", "--from_predictions", name]);
        assert!(told.contains(name), "{told}");
    }
    assert_eq!(files(here), before);
}

#[test]
fn damaged_tensors_are_errors_by_name() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("p.safetensors");
    save(&path);
    let change = |name: &str, tensor: Tensor| {
        let mut tensors = candle::load(&path, &Device::Cpu).unwrap();
        tensors.insert(name.to_owned(), tensor);
        let changed = dir.path().join("changed.safetensors");
        candle::save(&tensors, &changed).unwrap();
        fail(
            dir.path(),
            1,
            &["export", "--from_predictions", "changed.safetensors"],
        )
    };
    let zeros =
        |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
    for (name, shape) in [
        ("images", &[3, 28, 42][..]),
        ("images", &[0, 3, 28, 42]),
        ("images", &[3, 4, 28, 42]),
        ("extrinsic", &[2, 3, 4]),
        ("intrinsic", &[3, 4, 4]),
        ("world_points", &[3, 42, 28, 3]),
        ("world_points_conf", &[3, 28, 42, 1]),
    ] {
        let told = change(name, zeros(shape));
        assert!(told.contains(name), "{name} {shape:?}: {told}");
    }
}

#[test]
fn halves_are_read_as_their_values() {
    let dir = TempDir::new().unwrap();
    let tensors: HashMap<String, Tensor> = Field::ALL
        .into_iter()
        .map(|field| {
            let frames = Synthetic::new(1, 14, 14);
            let tensor = frames.read(0, field).unwrap().unsqueeze(0).unwrap();
            (
                field.name().to_owned(),
                tensor.to_dtype(candle_core::DType::F16).unwrap(),
            )
        })
        .collect();
    candle::save(&tensors, dir.path().join("half.safetensors")).unwrap();
    run(
        dir.path(),
        &[
            "export",
            "--from_predictions",
            "half.safetensors",
            "--out",
            "a.ply",
        ],
    );
}

#[test]
fn a_known_length_puts_every_output_into_meters_and_stays_in_saved_predictions() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    let demo = ["export", "--demo", "--max-frames", "2"];
    run(here, &[&demo[..], &["--out", "units.glb"]].concat());
    let scaled = [
        "--meters-per-unit",
        "2.5",
        "--out",
        "meters.glb",
        "--save-predictions",
        "meters.safetensors",
        "--save-depth",
        "depth",
        "--save-trajectory",
        "poses.txt",
    ];
    run(here, &[&demo[..], &scaled].concat());
    let again = ["export", "--from-predictions", "meters.safetensors"];
    run(here, &[&again[..], &["--out", "again.glb"]].concat());
    // A scale of what is in meters already.
    let twice = ["--meters-per-unit", "2", "--out", "twice.glb"];
    run(here, &[&again[..], &twice].concat());

    let glb = |name: &str| Glb::parse(&fs::read(here.join(name)).unwrap());
    let unit = |name: &str| glb(name).json["asset"]["extras"]["unit"].clone();
    assert_eq!(unit("units.glb"), "arbitrary");
    let units = glb("units.glb").attribute("points", "POSITION");
    for (name, factor) in [("meters.glb", 2.5), ("again.glb", 2.5), ("twice.glb", 5.0)] {
        assert_eq!(unit(name), "meters", "{name}");
        let meters = glb(name).attribute("points", "POSITION");
        assert_eq!(meters.len(), units.len(), "{name}");
        for (meters, units) in meters.iter().flatten().zip(units.iter().flatten()) {
            let off = (meters - factor * units).abs();
            // Two roundings of F32.
            assert!(
                off <= 1e-6 * factor * units.abs().max(1.0),
                "{name}: {meters} {units}"
            );
        }
    }
    let depth = fs::read_to_string(here.join("depth/depth.json")).unwrap();
    assert!(depth.contains("\"unit\": \"meters\""), "{depth}");
    let poses = fs::read_to_string(here.join("poses.txt")).unwrap();
    assert!(poses.contains("\"unit\":\"meters\""), "{poses}");

    for wrong in ["0", "-1", "nan", "1e9", "1 m"] {
        let all = [&demo[..], &["--meters-per-unit", wrong]].concat();
        let err = fail(here, 2, &all);
        assert!(err.contains("expected a number from 1e-6 to 1e6"), "{err}");
    }
}
