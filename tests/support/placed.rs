//! The demo's predictions with cameras, lengths and places, against the network's own and the truth.

use std::{collections::HashMap, path::Path};

use candle_core::{DType, Device, Tensor};
use nalgebra::{Isometry3, Matrix3, Rotation3, UnitQuaternion, Vector3};
use serde_json::Value;
use tempfile::TempDir;

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
