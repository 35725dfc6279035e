//! The commands that make and find weights, through their functions.

use std::{fs, path::Path};

use vggt::cli::{convert, fetch};
use vggt_model::weights::Weights;

const TINY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/model/tests/data/tiny/model.pt"
);

fn convert_to(output: &Path, input: &Path, dtype: &str) -> anyhow::Result<()> {
    convert::run(convert::Args {
        input: input.to_owned(),
        output: output.to_owned(),
        dtype: Some(dtype.to_owned()),
    })
}

#[test]
fn a_converted_file_appears_whole_under_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("tiny.safetensors");
    convert_to(&output, Path::new(TINY), "bf16").unwrap();
    let (from, to) = (
        Weights::open(Path::new(TINY)).unwrap(),
        Weights::open(&output).unwrap(),
    );
    assert_eq!(to.len(), from.len());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    // In place: the map of the old file outlives its name.
    convert_to(&output, &output, "f32").unwrap();
    assert_eq!(Weights::open(&output).unwrap().len(), from.len());
}

#[test]
fn a_failed_conversion_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let header = r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let huge = [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        &1e30f32.to_le_bytes(),
    ];
    let input = dir.path().join("in.safetensors");
    fs::write(&input, huge.concat()).unwrap();
    let error = convert_to(&dir.path().join("out.safetensors"), &input, "f16").unwrap_err();
    assert!(format!("{error:#}").contains("tensor w"), "{error:#}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn fetching_offline_from_an_empty_cache_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let error = fetch::run(fetch::Args {
        repo: "org/net".to_owned(),
        revision: "main".to_owned(),
        file: None,
        offline: true,
        cache: Some(dir.path().to_owned()),
    });
    assert!(error.unwrap_err().to_string().contains("org/net"));
}
