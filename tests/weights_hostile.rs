//! Weights and configs that were forged, or that change while they are in use, and what users are told of them.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    command, fail, repository, run,
    service::{Service, assert_glb, demo_images, wait_for},
    text,
};

const DEMO: &str = "model/demo/demo.safetensors";

fn demo_config() -> Value {
    let text = fs::read_to_string(repository("model/configs/demo.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The demo's weights and config in a folder.
fn copy_demo(dir: &Path) -> String {
    let weights = dir.join("secret-weights.safetensors");
    fs::copy(repository(DEMO), &weights).unwrap();
    fs::write(dir.join("config.json"), demo_config().to_string()).unwrap();
    text(&weights).to_owned()
}

/// A service with these weights instead of the demo's own.
fn serve(weights: &str, args: &[&str]) -> Service {
    let dir = Service::start(&[]).kill();
    let log = fs::File::create(dir.path().join("log")).unwrap();
    let vggt = command(dir.path());
    let args = [&["--checkpoint", weights], args].concat();
    Service::start_process(dir, vggt, log.into(), &args)
}

#[test]
fn weights_that_are_cut_while_they_are_mapped_fail_a_job_and_not_the_service() {
    // In F32 the CPU reads matrices where they lie in the file.
    let dir = TempDir::new().unwrap();
    copy_demo(dir.path());
    run(
        dir.path(),
        &[
            "convert",
            "secret-weights.safetensors",
            "f32.safetensors",
            "--dtype",
            "f32",
        ],
    );
    let weights = dir.path().join("f32.safetensors");
    let whole = fs::read(&weights).unwrap();
    let mut service = serve(text(&weights), &["--preload", "--no_cache"]);
    let mut ann = service.login("ann");
    let (_, before) = ann.images(&demo_images(1)).glb();
    fs::OpenOptions::new()
        .write(true)
        .open(&weights)
        .unwrap()
        .set_len(4096)
        .unwrap();
    for _ in 0..2 {
        let error = ann.images(&demo_images(1)).error();
        assert!(
            error.starts_with("ERROR_IMAGE_REQUEST: the server cannot ")
                && error.contains("its network"),
            "{error}"
        );
        assert!(!error.contains("safetensors"), "{error}");
    }
    wait_for("the reason", || {
        service.log().contains("f32.safetensors").then_some(())
    });
    // Put back, they are opened again.
    fs::remove_file(&weights).unwrap();
    fs::write(&weights, whole).unwrap();
    let (_, after) = ann.images(&demo_images(1)).glb();
    assert_eq!(before.len(), after.len());
    assert_eq!(service.terminate(), Some(0));
}

#[test]
fn the_place_of_the_weights_is_not_told_to_users() {
    let dir = TempDir::new().unwrap();
    let weights = copy_demo(dir.path());
    let service = serve(&weights, &["--no_cache"]);
    let mut ann = service.login("ann");
    for broken in [
        None,
        Some(&b"<html>no"[..]),
        Some(b"PK\x03\x04 no zip at all"),
    ] {
        fs::remove_file(&weights).unwrap();
        if let Some(bytes) = broken {
            fs::write(&weights, bytes).unwrap();
        }
        for reason in [
            ann.images(&demo_images(1)).error(),
            ann.video(&crate::support::service::clip()).error(),
        ] {
            assert!(
                reason.contains("the server cannot load its network"),
                "{reason}"
            );
            assert!(
                !reason.contains("secret") && !reason.contains('/'),
                "{reason}"
            );
        }
        if broken.is_none() {
            fs::write(&weights, b"").unwrap();
        }
    }
    assert!(service.log().contains("secret-weights.safetensors"));
}

#[test]
fn a_forged_config_is_an_error_at_once() {
    let dir = TempDir::new().unwrap();
    let weights = copy_demo(dir.path());
    let frame = repository("model/demo/frames/frame_00.png");
    let huge = [json!(65528), json!(1_000_000_000_000_u64), json!(0)];
    let mut tried = 0;
    for path in fields(&demo_config(), "") {
        for value in &huge {
            let mut config = demo_config();
            *config.pointer_mut(&path).unwrap() = value.clone();
            fs::write(dir.path().join("forged.json"), config.to_string()).unwrap();
            let output = command(dir.path())
                .args([
                    "export",
                    "--device",
                    "cpu",
                    "--checkpoint",
                    &weights,
                    "--config",
                    "forged.json",
                ])
                .arg(&frame)
                .output()
                .unwrap();
            let err = String::from_utf8_lossy(&output.stderr);
            // A number may still make a network: refinements, a base of frequencies.
            assert!(
                matches!(output.status.code(), Some(0 | 1)),
                "{path} = {value}: {:?} {err}",
                output.status
            );
            assert!(
                !err.contains("panicked") && !err.contains("memory allocation"),
                "{path} = {value}: {err}"
            );
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried}");
    // The largest one that the network's check knows, by its name.
    let mut config = demo_config();
    config["dpt_head"]["features"] = json!(65536);
    fs::write(dir.path().join("forged.json"), config.to_string()).unwrap();
    let frame = text(&frame).to_owned();
    let err = fail(
        dir.path(),
        1,
        &[
            "export",
            "--checkpoint",
            &weights,
            "--config",
            "forged.json",
            &frame,
        ],
    );
    assert!(err.contains("dpt_head.features"), "{err}");
}

/// JSON pointers of all numbers.
fn fields(value: &Value, at: &str) -> Vec<String> {
    match value {
        Value::Object(map) => map
            .iter()
            .flat_map(|(key, value)| fields(value, &format!("{at}/{key}")))
            .collect(),
        Value::Array(items) => (0..items.len())
            .flat_map(|i| fields(&items[i], &format!("{at}/{i}")))
            .collect(),
        Value::Number(_) => vec![at.to_owned()],
        _ => Vec::new(),
    }
}

#[test]
fn the_demo_copied_to_a_file_works() {
    let dir = TempDir::new().unwrap();
    let weights = copy_demo(dir.path());
    let service = serve(&weights, &[]);
    assert_glb(&service.login("ann").images(&demo_images(2)).glb().1);
}
