//! The demo's predictions with cameras, lengths and places, against the network's own and the truth.

use std::{collections::HashMap, fs, path::Path};

use candle_core::{DType, Device, Tensor};
use nalgebra::{Isometry3, Matrix3, Rotation3, UnitQuaternion, Vector3};
use serde_json::Value;
use tempfile::TempDir;
use vggt_model::demo;

use super::{repository, run, summary, text};

/// Pixels of the demo's photos, 280 x 210, for each of the network's, 112 x 84.
pub(crate) const PHOTO_PIXELS: f64 = 2.5;

/// Tensors by name.
pub(crate) type Tensors = HashMap<String, Tensor>;

pub(crate) fn load(path: &Path) -> Tensors {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

/// depth, extrinsic and intrinsic of the demo.
pub(crate) fn truth() -> Tensors {
    load(&repository("tests/data/demo/ground_truth.safetensors"))
}

pub(crate) fn numbers(t: &Tensor) -> Vec<f64> {
    let t = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    t.to_vec1().unwrap()
}

/// ‖a - b‖ / ‖b‖.
pub(crate) fn relative_error(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (numbers(a), numbers(b));
    let difference: f64 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
    let size: f64 = b.iter().map(|b| b * b).sum();
    (difference / size).sqrt()
}

/// camera_from_world of each frame. [S, 3, 4]
pub(crate) fn poses(extrinsic: &Tensor) -> Vec<Isometry3<f64>> {
    let rows = numbers(extrinsic);
    let pose = |m: &[f64]| {
        let rotation = Matrix3::new(m[0], m[1], m[2], m[4], m[5], m[6], m[8], m[9], m[10]);
        let rotation =
            UnitQuaternion::from_rotation_matrix(&Rotation3::from_matrix_unchecked(rotation));
        Isometry3::from_parts(Vector3::new(m[3], m[7], m[11]).into(), rotation)
    };
    rows.chunks_exact(12).map(pose).collect()
}

/// Exports the demo with more arguments to `q.glb` and `q.safetensors`; returns the summary and the predictions.
pub(crate) fn demo(dir: &TempDir, args: &[&str]) -> (Value, Tensors) {
    export(dir, &["--demo"], args)
}

/// As [`demo`], of another input.
pub(crate) fn export(dir: &TempDir, input: &[&str], args: &[&str]) -> (Value, Tensors) {
    let to = [
        "--save_predictions",
        "q.safetensors",
        "--out",
        "q.glb",
        "--overwrite",
    ];
    let told = summary(dir.path(), &[input, args, &to].concat());
    (told, load(&dir.path().join("q.safetensors")))
}

/// Saves the demo's predictions, and returns their path.
pub(crate) fn saved(dir: &TempDir) -> String {
    let path = dir.path().join("p.safetensors");
    let save = ["--save_predictions", text(&path)];
    run(
        dir.path(),
        &[&["export", "--demo", "--out", "p.glb"][..], &save].concat(),
    );
    text(&path).to_owned()
}

/// The demo's photos with an EXIF block each, in a folder.
pub(crate) fn photos(dir: &TempDir, exif: impl Fn(usize) -> Vec<u8>) -> String {
    let folder = dir.path().join("photos");
    fs::create_dir(&folder).unwrap();
    for (i, (name, png)) in demo::FRAMES.iter().enumerate() {
        let body = [&b"eXIf"[..], &exif(i)].concat();
        let chunk = [
            &(body.len() as u32 - 4).to_be_bytes()[..],
            &body,
            &crc32fast::hash(&body).to_be_bytes(),
        ]
        .concat();
        // Behind the signature and the IHDR chunk.
        let (head, rest) = png.split_at(33);
        fs::write(folder.join(name), [head, &chunk, rest].concat()).unwrap();
    }
    text(&folder).to_owned()
}

/// Tag, type, count and bytes of an entry.
pub(crate) type Entry = (u16, u16, u32, Vec<u8>);

/// An EXIF block, big-endian: entries of the EXIF and of the GPS directory.
pub(crate) fn exif(exif: &[Entry], gps: &[Entry]) -> Vec<u8> {
    let directory = |at: usize, entries: &[Entry]| {
        let mut head = (entries.len() as u16).to_be_bytes().to_vec();
        let mut behind: Vec<u8> = Vec::new();
        let end = at + 6 + 12 * entries.len();
        for (tag, kind, count, bytes) in entries {
            head.extend([tag.to_be_bytes(), kind.to_be_bytes()].concat());
            head.extend(count.to_be_bytes());
            let mut field = bytes.clone();
            if bytes.len() > 4 {
                field = ((end + behind.len()) as u32).to_be_bytes().to_vec();
                behind.extend(bytes);
            }
            field.resize(4, 0);
            head.extend(field);
        }
        head.extend([0; 4]);
        [head, behind].concat()
    };
    let exif_at = 8 + 6 + 2 * 12;
    let exif = directory(exif_at, exif);
    let gps_at = exif_at + exif.len();
    let long = |value: usize| (value as u32).to_be_bytes().to_vec();
    let first = directory(
        8,
        &[(0x8769, 4, 1, long(exif_at)), (0x8825, 4, 1, long(gps_at))],
    );
    [
        b"MM\0*\0\0\0\x08".to_vec(),
        first,
        exif,
        directory(gps_at, gps),
    ]
    .concat()
}
