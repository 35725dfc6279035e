//! `vggt convert` and `vggt fetch`.

use std::{collections::HashMap, fs, path::Path};

use candle_core::{Device, Tensor};
use serde_json::json;
use tempfile::TempDir;
use vggt_model::weights::Weights;

use crate::support::{command, fail, files, repository, run, summary, text, vggt};

const TINY: &str = "model/tests/data/tiny/model.pt";

/// Writes tensors of the tiny checkpoint under the names that `name` returns; without those for which it returns none.
fn save(path: &Path, name: impl Fn(&str) -> Option<String>) {
    let tiny = Weights::open(repository(TINY)).unwrap();
    let tensors: HashMap<String, Tensor> = tiny
        .iter()
        .filter_map(|(old, entry)| {
            let tensor = tiny.tensor(old, entry.dtype, &Device::Cpu).unwrap();
            Some((name(old)?, tensor))
        })
        .collect();
    candle_core::safetensors::save(&tensors, path).unwrap();
}

/// Saves the tiny checkpoint in two files, with an index that begins with a byte order mark, and its config likewise.
fn save_shards(dir: &Path) {
    let mut map = serde_json::Map::new();
    for (i, shard) in [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    .into_iter()
    .enumerate()
    {
        save(&dir.join(shard), |name| {
            (name.starts_with("aggregator.") == (i == 0)).then(|| name.to_owned())
        });
        let weights = Weights::open(dir.join(shard)).unwrap();
        map.extend(
            weights
                .iter()
                .map(|(name, _)| (name.to_owned(), json!(shard))),
        );
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    let index = format!("\u{feff}{index}");
    fs::write(dir.join("model.safetensors.index.json"), index).unwrap();
    let config = fs::read_to_string(repository("model/tests/data/tiny/config.json")).unwrap();
    fs::write(dir.join("config.json"), format!("\u{feff}{config}")).unwrap();
}

/// An export of one demo frame with the tiny network's dimensions and `--json`.
fn export_args<'a>(checkpoint: &'a str, config: &'a str, frame: &'a str) -> [&'a str; 5] {
    ["--checkpoint", checkpoint, "--config", config, frame]
}

fn tiny_config() -> String {
    text(&repository("model/tests/data/tiny/config.json")).to_owned()
}

fn frame() -> String {
    text(&repository("model/demo/frames/frame_00.png")).to_owned()
}

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

#[test]
fn a_conversion_onto_its_input_is_refused() {
    let dir = TempDir::new().unwrap();
    save(&dir.path().join("in.safetensors"), |name| {
        Some(name.to_owned())
    });
    let before = fs::read(dir.path().join("in.safetensors")).unwrap();
    let mut targets = vec!["in.safetensors", "./in.safetensors"];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("in.safetensors", dir.path().join("soft.safetensors")).unwrap();
        targets.push("soft.safetensors");
    }
    fs::hard_link(
        dir.path().join("in.safetensors"),
        dir.path().join("hard.safetensors"),
    )
    .unwrap();
    targets.push("hard.safetensors");
    for target in targets {
        let err = fail(dir.path(), 2, &["convert", "in.safetensors", target]);
        assert!(err.contains("it is an input"), "{target}: {err}");
    }
    // From the link to the file, too.
    fail(
        dir.path(),
        2,
        &["convert", "hard.safetensors", "in.safetensors"],
    );
    assert!(fs::read(dir.path().join("in.safetensors")).unwrap() == before);

    let sharded = TempDir::new().unwrap();
    save_shards(sharded.path());
    let shard = sharded.path().join("model-00002-of-00002.safetensors");
    let err = fail(
        dir.path(),
        2,
        &["convert", text(sharded.path()), text(&shard)],
    );
    assert!(err.contains("it is an input"), "{err}");
}

#[test]
fn a_prefix_that_all_names_have_in_common_does_not_matter() {
    let dir = TempDir::new().unwrap();
    let (config, frame) = (tiny_config(), frame());
    let glb = |args: &[&str]| {
        let said = summary(dir.path(), args);
        [said["points"].clone(), said["scene_scale"].clone()]
    };
    let tiny = repository(TINY);
    let expected = glb(&export_args(text(&tiny), &config, &frame));
    for (i, prefix) in ["module.", "model.", "_orig_mod.", "module._orig_mod."]
        .into_iter()
        .enumerate()
    {
        let name = format!("{i}.safetensors");
        save(&dir.path().join(&name), |tensor| {
            Some(format!("{prefix}{tensor}"))
        });
        assert_eq!(
            glb(&export_args(&name, &config, &frame)),
            expected,
            "{prefix}"
        );
    }
    // As `AveragedModel` saves it: a counter lies beside the network.
    let path = |name: &str| dir.path().join(name);
    let mut tensors = candle_core::safetensors::load(path("0.safetensors"), &Device::Cpu).unwrap();
    let counter = Tensor::new(7_i64, &Device::Cpu).unwrap();
    tensors.insert("n_averaged".to_owned(), counter);
    candle_core::safetensors::save(&tensors, path("average.safetensors")).unwrap();
    let average = export_args("average.safetensors", &config, &frame);
    assert_eq!(glb(&average), expected);
    run(
        dir.path(),
        &["convert", "3.safetensors", "plain.safetensors"],
    );
    let plain = fs::read(dir.path().join("plain.safetensors")).unwrap();
    let header = String::from_utf8_lossy(&plain[..200_000]).into_owned();
    assert!(header.contains("\"aggregator.") && !header.contains("_orig_mod"));
}

#[test]
fn weights_in_several_files_are_one_checkpoint() {
    let dir = TempDir::new().unwrap();
    let sharded = dir.path().join("sharded");
    fs::create_dir(&sharded).unwrap();
    save_shards(&sharded);
    let frame = frame();
    for checkpoint in ["sharded", "sharded/model.safetensors.index.json"] {
        // Without --config: it lies beside the weights.
        let said = summary(dir.path(), &["--checkpoint", checkpoint, &frame]);
        assert_eq!(said["width"], 70, "{checkpoint}");
        assert_eq!(said["weights_sha256"].as_str().unwrap().len(), 64);
    }
    let said = run(dir.path(), &["convert", "sharded", "whole.safetensors"]);
    assert!(said.contains("533 tensors"), "{said}");
    let (whole, tiny) = (
        Weights::open(dir.path().join("whole.safetensors")).unwrap(),
        Weights::open(repository(TINY)).unwrap(),
    );
    for (name, _) in tiny.iter() {
        assert!(whole.bytes(name) == tiny.bytes(name), "{name}");
    }

    fs::remove_file(sharded.join("model-00002-of-00002.safetensors")).unwrap();
    let err = fail(
        dir.path(),
        1,
        &["export", "--checkpoint", "sharded", &frame],
    );
    assert!(err.contains("model-00002-of-00002.safetensors"), "{err}");
}

#[test]
fn heads_that_the_output_does_not_need_may_be_missing() {
    let dir = TempDir::new().unwrap();
    let (config, frame) = (tiny_config(), frame());
    let without = |head: &str| {
        let name = format!("no_{head}.safetensors");
        save(&dir.path().join(&name), |tensor| {
            (!tensor.starts_with(head)).then(|| tensor.to_owned())
        });
        name
    };
    let depth = ["--prediction_mode", "Depthmap and Camera"];
    let points = ["--prediction_mode", "Predicted Pointmap"];
    let call = |weights: &str, options: &[&str]| {
        let args = export_args(weights, &config, &frame);
        vggt(dir.path(), &[&["export"], &args[..], options].concat())
    };
    let refused = |weights: &str, options: &[&str], words: &[&str]| {
        let output = call(weights, options);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{err}");
        for word in words {
            assert!(err.contains(word), "{word}: {err}");
        }
    };
    let no_points = without("point_head.");
    assert!(call(&no_points, &depth).status.success());
    // All that there is can be saved.
    let saved = [&depth[..], &["--save_predictions", "p.safetensors"]].concat();
    assert!(call(&no_points, &saved).status.success());
    refused(&no_points, &points, &["no point head", "--prediction-mode"]);

    let no_depth = without("depth_head.");
    assert!(call(&no_depth, &points).status.success());
    refused(&no_depth, &depth, &["no depth head", "--prediction-mode"]);
    let save_depth = [&points[..], &["--save_depth", "maps"]].concat();
    refused(&no_depth, &save_depth, &["no depth head", "--save-depth"]);

    refused(&without("camera_head."), &depth, &["no camera head"]);
    let no_tracks = without("track_head.");
    let tracks = [
        "--query_points",
        "1,1",
        "--save_predictions",
        "p.safetensors",
    ];
    refused(&no_tracks, &tracks, &["no track head", "facebook/VGGT-1B"]);
}

#[test]
fn a_head_that_is_null_in_the_config_is_left_out() {
    let dir = TempDir::new().unwrap();
    let tiny = repository(TINY);
    let (config, frame) = (tiny_config(), frame());
    let mut all: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(config).unwrap()).unwrap();
    for head in ["point_head", "track_head"] {
        all[head] = serde_json::Value::Null;
    }
    fs::write(dir.path().join("c.json"), all.to_string()).unwrap();
    let args = export_args(text(&tiny), "c.json", &frame);
    let depth = ["--prediction_mode", "Depthmap and Camera"];
    summary(dir.path(), &[&args[..], &depth].concat());
    let err = fail(dir.path(), 1, &[&["export"], &args[..]].concat());
    assert!(err.contains("no point head"), "{err}");
    all["camera_head"] = serde_json::Value::Null;
    fs::write(dir.path().join("c.json"), all.to_string()).unwrap();
    let err = fail(dir.path(), 1, &[&["export"], &args[..], &depth].concat());
    assert!(err.contains("camera_head is null"), "{err}");
}

#[test]
fn caches_of_torch_hub_and_of_older_hub_clients_are_searched() {
    let dir = TempDir::new().unwrap();
    let (config, frame) = (tiny_config(), frame());
    let export = |variable: &str, folder: &str| {
        let output = command(dir.path())
            .env(variable, dir.path().join(folder))
            .args(["export", "--json", "--offline", "--config", &config, &frame])
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{variable}: {err}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let checkpoints = dir.path().join("torch/hub/checkpoints");
    fs::create_dir_all(&checkpoints).unwrap();
    fs::copy(repository(TINY), checkpoints.join("model.pt")).unwrap();
    assert_eq!(export("TORCH_HOME", "torch")["weights"], "model.pt");

    // Other weights of this common name are not taken for ours.
    save(&checkpoints.join("model.pt"), |name| {
        Some(format!("resnet.{name}"))
    });
    let output = command(dir.path())
        .env("TORCH_HOME", dir.path().join("torch"))
        .args(["export", "--offline", "--config", &config, &frame])
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("not in the cache"), "{err}");

    let repo = dir.path().join("older/models--facebook--VGGT-1B");
    let snapshot = repo.join("snapshots/0123456789abcdef0123456789abcdef01234567");
    fs::create_dir_all(repo.join("refs")).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    fs::write(
        repo.join("refs/main"),
        "0123456789abcdef0123456789abcdef01234567",
    )
    .unwrap();
    save_shards(&snapshot);
    for variable in [
        "HUGGINGFACE_HUB_CACHE",
        "TRANSFORMERS_CACHE",
        "HF_HUB_CACHE",
    ] {
        assert_eq!(
            export(variable, "older")["weights"],
            "facebook/VGGT-1B",
            "{variable}"
        );
    }
}
