//! `vggt doctor`.

use std::{fs, path::Path};

use serde_json::Value;

use crate::support::{fail, hash, repository, run, vggt};

fn report(dir: &Path, args: &[&str]) -> (Option<i32>, Value) {
    let output = vggt(
        dir,
        &[&["doctor", "--device", "cpu", "--json"], args].concat(),
    );
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), serde_json::from_str(&text).unwrap())
}

fn rows<'a>(report: &'a Value, of: &str) -> &'a [Value] {
    report[of].as_array().unwrap()
}

#[test]
fn a_machine_in_order_passes() {
    let dir = tempfile::tempdir().unwrap();
    let (code, report) = report(dir.path(), &["--demo"]);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["passed"], true);
    assert_eq!(report["device"], "cpu");
    assert_eq!(report["device_asked"], "cpu");
    assert_eq!(report["fallback"], Value::Null);
    assert_eq!(report["weights"]["name"], "demo.safetensors");
    let sha256 = hash(&fs::read(repository("model/demo/demo.safetensors")).unwrap());
    assert_eq!(report["weights"]["sha256"], sha256);
    assert_eq!(report["weights"]["expected_sha256"], sha256);
    let operations = rows(&report, "operations");
    assert!(operations.len() > 30, "{operations:?}");
    for op in operations {
        assert_eq!(op["passed"], true, "{op}");
        assert!(op["error"].as_f64().unwrap() <= op["tolerance"].as_f64().unwrap());
    }
    for operation in [
        "layer_norm",
        "gelu",
        "linear",
        "mlp",
        "self_attention",
        "attention",
        "bilinear",
        "conv2d",
        "conv_transpose2d",
        "bicubic",
    ] {
        let there = operations.iter().any(|op| op["operation"] == operation);
        assert!(there, "{operation}");
    }
    let speeds = rows(&report, "speeds");
    assert!(speeds.len() > 8, "{speeds:?}");
    for speed in speeds {
        assert_eq!(speed["passed"], true, "{speed}");
        assert!(speed["bytes_per_s"].as_f64().unwrap() > 0.0, "{speed}");
    }
}

/// Some quick checks.
const SOME: &str = "layer norm, ";

#[test]
fn without_weights_the_operations_are_checked_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let table = run(dir.path(), &["doctor", "--device", "cpu", "--only", SOME]);
    assert!(table.contains("layer norm, 1024 channels"), "{table}");
    assert!(table.contains("weights  none here"), "{table}");
    assert!(!table.contains("conv2d"), "{table}");
}

#[test]
fn a_name_of_no_check_is_a_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let err = fail(
        dir.path(),
        2,
        &["doctor", "--device", "cpu", "--only", "prayer"],
    );
    assert!(err.contains("\"prayer\""), "{err}");
}

#[test]
fn a_device_that_is_not_the_one_asked_for_is_named_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["doctor", "--json", "--only", SOME];
    let output = vggt(dir.path(), &args);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["device_asked"], "auto");
    // On a machine with a card, that is what `auto` is.
    let reason = report["fallback"].as_str();
    assert_eq!(reason.is_none(), report["device"] == "cuda", "{report}");
    if let Some(reason) = reason {
        let output = vggt(dir.path(), &["doctor", "--only", SOME]);
        let table = String::from_utf8(output.stdout).unwrap();
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let note = format!("--device auto took the CPU: {}", words(reason));
        assert!(words(&table).contains(&note), "{table}");
    }
}

/// Checks in children, of which one fails.
fn with_failure(how: &str, limit_s: &str) -> (Option<i32>, Value) {
    let dir = tempfile::tempdir().unwrap();
    let made = format!("layer norm, 2048 channels [f32]={how}");
    let args = ["--in-children", "--only", SOME, "--fail-case", &made];
    report(dir.path(), &[&args[..], &["--limit-s", limit_s]].concat())
}

#[test]
fn an_operation_that_fails_in_a_child_does_not_keep_the_others_from_running() {
    for (how, why) in [
        ("error", "an error that was asked for"),
        ("panic", "a panic that was asked for"),
        ("crash", "its process ended (signal"),
        ("bad-line", "its process wrote \"this is no JSON\""),
        ("hang", "took longer than 20 s"),
    ] {
        // Twenty seconds are a hundred times what the others take.
        let (code, report) = with_failure(how, "20");
        assert_eq!(code, Some(1), "{how}: {report}");
        assert_eq!(report["passed"], false);
        let operations = rows(&report, "operations");
        assert_eq!(operations.len(), 4, "{report}");
        for op in operations {
            let failed = op["failed"].as_str();
            assert_eq!(op["passed"].as_bool().unwrap(), failed.is_none(), "{op}");
            assert_eq!(failed.is_some(), op["name"] == "layer norm, 2048 channels");
            if let Some(failed) = failed {
                assert!(failed.contains(why), "{how}: {failed}");
            }
        }
    }
}

#[test]
fn children_find_what_this_process_finds() {
    let dir = tempfile::tempdir().unwrap();
    let (code, here) = report(dir.path(), &["--only", SOME]);
    let (in_children, there) = report(dir.path(), &["--only", SOME, "--in-children"]);
    assert_eq!((code, in_children), (Some(0), Some(0)));
    assert_eq!(here["operations"], there["operations"]);
}

#[test]
fn a_failure_is_in_the_table_and_in_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["doctor", "--device", "cpu", "--in-children", "--only", SOME];
    let made = "layer norm, one row [f32]=error";
    let output = vggt(dir.path(), &[&args[..], &["--fail-case", made]].concat());
    let table = String::from_utf8(output.stdout).unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        table.contains("FAILED: an error that was asked for"),
        "{table}"
    );
    assert!(
        err.contains("1 of 4 checks failed: layer norm, one row [f32]"),
        "{err}"
    );
}

#[test]
fn failures_are_made_in_children_alone() {
    let dir = tempfile::tempdir().unwrap();
    let made = ["doctor", "--fail-case", "layer norm, one row [f32]=error"];
    let err = fail(dir.path(), 2, &made);
    assert!(err.contains("--fail-case"), "{err}");
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
    let checkpoint = ["--only", SOME, "--checkpoint", file.to_str().unwrap()];
    let (code, damaged) = report(dir.path(), &checkpoint);
    assert_eq!(code, Some(1));
    assert_eq!(damaged["passed"], false);

    let sha256 = damaged["weights"]["sha256"].as_str().unwrap();
    let right = blobs.join(sha256);
    fs::rename(&file, &right).unwrap();
    let checkpoint = ["--only", SOME, "--checkpoint", right.to_str().unwrap()];
    let (code, sound) = report(dir.path(), &checkpoint);
    assert_eq!(code, Some(0));
    assert_eq!(sound["weights"]["expected_sha256"], sha256);
}
