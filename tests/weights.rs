//! `vggt convert` and `vggt fetch`.

use std::fs;

use tempfile::TempDir;
use vggt_model::weights::Weights;

use crate::support::{fail, files, repository, run, text};

#[test]
fn a_converted_file_appears_whole_under_its_name_and_works() {
    let dir = TempDir::new().unwrap();
    let tiny = repository("model/tests/data/tiny/model.pt");
    let open = |name: &str| Weights::open(dir.path().join(name)).unwrap();
    for dtype in ["f32", "f16", "bf16"] {
        let out = format!("{dtype}.safetensors");
        let said = run(
            dir.path(),
            &["convert", text(&tiny), &out, "--dtype", dtype],
        );
        assert!(said.contains("533 tensors"), "{said}");
        let weights = open(&out);
        assert_eq!(weights.len(), 533);
        assert!(
            weights
                .iter()
                .all(|(_, entry)| entry.dtype.as_str() == dtype)
        );
        assert!(said.contains(&weights.sha256().unwrap()), "{said}");
    }
    assert_eq!(
        files(dir.path()),
        ["bf16.safetensors", "f16.safetensors", "f32.safetensors"]
    );
    // In place: the map of the old file outlives its name.
    run(
        dir.path(),
        &[
            "convert",
            "bf16.safetensors",
            "bf16.safetensors",
            "--dtype",
            "f32",
        ],
    );
    assert_eq!(open("bf16.safetensors").len(), 533);

    let config = repository("model/tests/data/tiny/config.json");
    let frame = repository("model/demo/frames/frame_00.png");
    let export = [
        "export",
        "--config",
        text(&config),
        text(&frame),
        "--checkpoint",
    ];
    run(dir.path(), &[&export[..], &["f16.safetensors"]].concat());
}

#[test]
fn a_failed_conversion_leaves_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let header = r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let huge = [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        &1e30f32.to_le_bytes(),
    ];
    fs::write(dir.path().join("in.safetensors"), huge.concat()).unwrap();
    let convert = [
        "convert",
        "in.safetensors",
        "out.safetensors",
        "--dtype",
        "f16",
    ];
    let err = fail(dir.path(), 1, &convert);
    assert!(err.contains("tensor w"), "{err}");
    assert_eq!(files(dir.path()), ["in.safetensors"]);
}

#[test]
fn fetching_offline_from_an_empty_cache_says_what_is_missing() {
    let dir = TempDir::new().unwrap();
    let err = fail(dir.path(), 1, &["fetch", "--offline"]);
    assert!(err.contains("facebook/VGGT-1B"), "{err}");
}

#[test]
fn a_hub_that_cannot_be_reached_is_one_clear_error() {
    let dir = TempDir::new().unwrap();
    let err = fail(dir.path(), 1, &["fetch"]);
    assert!(err.contains("127.0.0.1:9"), "{err}");
}
