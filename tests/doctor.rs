//! `vggt doctor`.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    command::{repository, run, vggt},
    hub::hash,
};

fn report(dir: &Path, args: &[&str]) -> (Option<i32>, Value) {
    let output = vggt(
        dir,
        &[&["doctor", "--device", "cpu", "--json"], args].concat(),
    );
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), serde_json::from_str(&text).unwrap())
}

#[test]
fn a_sound_machine_passes() {
    let dir = tempfile::tempdir().unwrap();
    let (code, report) = report(dir.path(), &["--demo"]);
    assert_eq!(code, Some(0));
    assert_eq!(report["passed"], true);
    assert_eq!(report["weights"]["name"], "demo.safetensors");
    let sha256 = hash(&fs::read(repository("model/demo/demo.safetensors")).unwrap());
    assert_eq!(report["weights"]["sha256"], sha256);
    assert_eq!(report["weights"]["expected_sha256"], sha256);
    let operations = report["operations"].as_array().unwrap();
    assert!(operations.len() > 8, "{operations:?}");
    for op in operations {
        assert_eq!(op["passed"], true, "{op}");
        assert!(op["error"].as_f64().unwrap() <= op["tolerance"].as_f64().unwrap());
    }
}

#[test]
fn without_weights_the_operations_are_checked_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let table = run(dir.path(), &["doctor", "--device", "cpu"]);
    assert!(table.contains("layer_norm"), "{table}");
    assert!(table.contains("weights  none here"), "{table}");
}

#[test]
fn a_file_of_the_cache_is_held_to_its_hash() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = dir.path().join(".empty-cache/hub/models--some--one/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let demo = repository("model/demo/demo.safetensors");
    // The cache calls a file what it should hold; this one holds something else.
    let file = blobs.join("0123456789abcdef".repeat(4));
    fs::copy(&demo, &file).unwrap();
    let checkpoint = ["--checkpoint", file.to_str().unwrap()];
    let (code, damaged) = report(dir.path(), &checkpoint);
    assert_eq!(code, Some(1));
    assert_eq!(damaged["passed"], false);

    let sha256 = damaged["weights"]["sha256"].as_str().unwrap();
    let right = blobs.join(sha256);
    fs::rename(&file, &right).unwrap();
    let (code, sound) = report(dir.path(), &["--checkpoint", right.to_str().unwrap()]);
    assert_eq!(code, Some(0));
    assert_eq!(sound["weights"]["expected_sha256"], sha256);
}
