//! The cache of `vggt export`: what one run computed is not computed again by the next.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    spool::photos,
    support::{command, files, repository},
};

/// Runs an export whose cache is in `cache`.
fn export(dir: &Path, args: &[&str]) -> Output {
    let cache = dir.join("cache");
    let mut command = command(dir);
    command
        .env("XDG_CACHE_HOME", cache)
        .arg("export")
        .args(args);
    let output = command.output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {err}");
    output
}

/// Whether an export of `in`, or of the bundled frames, took its results from the cache, and the GLB that it wrote.
fn glb(dir: &Path, args: &[&str]) -> (bool, Vec<u8>) {
    let output = export(
        dir,
        &[&["--demo", "--json", "--out", "x.glb"], args].concat(),
    );
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    let cached = said["from_cache"].as_bool().unwrap();
    assert_eq!(err.contains("taken from the cache"), cached, "{err}");
    (cached, fs::read(dir.join("x.glb")).unwrap())
}

/// The folders of the cache.
fn entries(dir: &Path) -> Vec<String> {
    let results = dir.join("cache/vggt/results");
    match results.is_dir() {
        true => files(&results),
        false => Vec::new(),
    }
}

#[test]
fn other_options_of_the_scene_take_the_results_of_the_first_run() {
    let dir = photos(5);
    let here = dir.path();
    assert!(!glb(here, &["in"]).0);
    assert_eq!(entries(here).len(), 1);
    for options in [
        &["in"][..],
        &["in", "--conf_thres", "60"],
        &["in", "--mask_black_bg", "--show_cam"],
        &["in", "--frame_filter", "2", "--max_points", "100"],
        &["in", "--glb", "quantized"],
    ] {
        let fresh = glb(here, &[options, &["--no_cache"]].concat());
        let cached = glb(here, options);
        assert!(!fresh.0 && cached.0, "{options:?}");
        assert!(fresh.1 == cached.1, "{options:?}");
    }
}

#[test]
fn all_formats_and_what_needs_the_point_head_come_from_the_cache_too() {
    // So many that they are in a folder until they move to the cache.
    let dir = photos(18);
    let here = dir.path();
    let all = |name: &str, more: &[&str]| {
        let out = |ending: &str| format!("{name}{ending}");
        let (ply, folder, saved) = (out(".ply"), out("/"), out(".safetensors"));
        let outs = ["--out", &ply, "--out", &folder, "--format", "colmap"];
        let args = [
            &["--demo", "in", "--save_predictions", &saved],
            &outs[..],
            more,
        ];
        export(here, &args.concat());
        let model = here.join(&folder).join("sparse/0/points3D.bin");
        [here.join(&ply), here.join(&saved), model].map(|path| fs::read(path).unwrap())
    };
    glb(here, &["in"]);
    let fresh = all("fresh", &["--no_cache"]);
    // The first run had no use for the point head.
    assert!(all("first", &[]) == fresh);
    assert_eq!(entries(here).len(), 2);
    assert!(all("second", &[]) == fresh);
    assert!(glb(here, &["in"]).0);
    assert_eq!(entries(here).len(), 2);
}

#[test]
fn the_summary_and_the_warnings_are_those_of_a_fresh_run() {
    let dir = photos(5);
    let here = dir.path();
    fs::write(here.join("in/notes.txt"), "dear diary").unwrap();
    let large = repository("tests/data/frames/preprocess/landscape.png");
    fs::copy(large, here.join("in/wide.png")).unwrap();
    let said = || {
        let output = export(here, &["--demo", "--json=full", "in", "--out", "x.glb"]);
        let mut said: Value = serde_json::from_slice(&output.stdout).unwrap();
        for differs in ["from_cache", "seconds"] {
            said[differs] = Value::Null;
        }
        let err = String::from_utf8(output.stderr).unwrap();
        let warnings = err.lines().filter(|line| line.contains("WARN"));
        (said, warnings.map(str::to_owned).collect::<Vec<_>>())
    };
    let (first, second) = (said(), said());
    assert_eq!(first.0["skipped"][0]["names"][0], "notes.txt");
    assert_eq!(first, second);
}

#[test]
fn what_changes_the_results_is_computed() {
    let dir = photos(5);
    let here = dir.path();
    let mut keys = 0;
    let mut fresh = |args: &[&str]| {
        assert!(!glb(here, args).0, "{args:?}");
        keys += 1;
        assert_eq!(entries(here).len(), keys, "{args:?}");
        assert!(glb(here, args).0, "{args:?}");
    };
    fresh(&["in"]);
    fresh(&["in", "--preprocess", "pad"]);
    fresh(&["in", "--max_frames", "3"]);
    fresh(&["in", "--precision", "fast"]);
    fresh(&["in/000.png", "in/001.png"]);
    fresh(&["in/001.png", "in/000.png"]);
    // The same content under another name has another name in the files.
    fs::rename(here.join("in/000.png"), here.join("in/0000.png")).unwrap();
    fresh(&["in"]);
    // Length and time may stay.
    let photo = here.join("in/001.png");
    let modified = fs::metadata(&photo).unwrap().modified().unwrap();
    fs::copy(here.join("in/002.png"), &photo).unwrap();
    let file = fs::File::options().write(true).open(&photo).unwrap();
    file.set_modified(modified).unwrap();
    fresh(&["in"]);
    fs::remove_file(&photo).unwrap();
    fresh(&["in"]);
    fresh(&[]);
}

#[test]
fn a_damaged_result_is_computed_again_and_replaced() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    let expected = glb(here, &[]).1;
    let entry = here.join("cache/vggt/results").join(&entries(here)[0]);
    let names = files(&entry);
    assert!(names.len() > 5, "{names:?}");
    let damages: [fn(&mut Vec<u8>); 3] = [
        |bytes| bytes.clear(),
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| {
            let half = bytes.len() / 2;
            bytes[half] ^= 1;
        },
    ];
    let damaged = names.iter().filter(|name| *name != "lock");
    for (i, name) in damaged.enumerate() {
        let path = entry.join(name);
        let mut bytes = fs::read(&path).unwrap();
        match damages.get(i % 4) {
            Some(damage) => {
                damage(&mut bytes);
                fs::write(path, bytes).unwrap();
            }
            None => fs::remove_file(path).unwrap(),
        }
        let (cached, bytes) = glb(here, &[]);
        assert!(!cached && bytes == expected, "{name} {i}");
        let (cached, bytes) = glb(here, &[]);
        assert!(cached && bytes == expected, "{name} {i}");
    }
    assert_eq!(entries(here).len(), 1);
}

#[test]
fn the_cache_is_bounded_and_keeps_what_was_used_last() {
    let dir = photos(5);
    let here = dir.path();
    // 8 frames take about 830 KB, 5 frames 520 KB: two do not fit into a MiB.
    let small = ["--cache_size", "1"];
    let with = |args: &[&'static str]| [args, &small].concat();
    assert!(!glb(here, &with(&[])).0);
    assert!(glb(here, &with(&[])).0);
    assert!(!glb(here, &with(&["in"])).0);
    assert_eq!(entries(here).len(), 1);
    assert!(glb(here, &with(&["in"])).0);
    assert!(!glb(here, &with(&[])).0);
    // With more room the one that was used longest ago goes.
    let with = |args: &[&'static str]| [args, &["--cache_size", "2"]].concat();
    assert!(!glb(here, &with(&["in"])).0);
    assert_eq!(entries(here).len(), 2);
    assert!(glb(here, &with(&[])).0);
    // 1.1 MB.
    assert!(!glb(here, &with(&["--preprocess", "pad"])).0);
    assert_eq!(entries(here).len(), 2);
    assert!(glb(here, &with(&[])).0);
    assert!(!glb(here, &with(&["in", "--max_frames", "4"])).0);
    assert!(glb(here, &with(&[])).0);
    // Nothing fits into nothing.
    assert!(!glb(here, &["in", "--max_frames", "2", "--cache_size", "0"]).0);
    assert!(!glb(here, &["in", "--max_frames", "2", "--cache_size", "0"]).0);
}

#[test]
fn without_a_cache_everything_goes_on() {
    let dir = photos(2);
    let here = dir.path();
    let expected = glb(here, &["in", "--no_cache"]).1;
    assert_eq!(entries(here), [""; 0]);
    assert!(!here.join("cache").exists());
    // A file in the place of the folder.
    fs::write(here.join("cache"), "dear diary").unwrap();
    assert!(glb(here, &["in"]) == (false, expected.clone()));
    assert_eq!(fs::read(here.join("cache")).unwrap(), b"dear diary");
    fs::remove_file(here.join("cache")).unwrap();
    fs::create_dir(here.join("cache")).unwrap();
    fs::set_permissions(here.join("cache"), fs::Permissions::from_mode(0o555)).unwrap();
    // Root may write anywhere.
    assert!(glb(here, &["in"]) == (false, expected));
    fs::set_permissions(here.join("cache"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_cache_is_private_and_leaves_what_is_not_its_own() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    glb(here, &[]);
    let results = here.join("cache/vggt/results");
    let entry = results.join(&entries(here)[0]);
    for path in [&results, &entry, &entry.join("images")] {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
    // Nothing in it leads to where it came from.
    let header = fs::read_to_string(entry.join("spool.json")).unwrap();
    assert!(header.contains("\"note\": null"), "{header}");
    fs::write(results.join("diary"), "dear").unwrap();
    fs::create_dir(results.join("f".repeat(64))).unwrap();
    fs::write(results.join("f".repeat(64)).join("diary"), "dear").unwrap();
    fs::create_dir(results.join(".new-abandoned")).unwrap();
    glb(here, &["--max_frames", "2", "--cache_size", "1"]);
    assert!(results.join("diary").exists());
    assert!(results.join("f".repeat(64)).join("diary").exists());
    assert!(!results.join(".new-abandoned").exists());
}

#[test]
fn many_at_once_share_one_cache() {
    let dir = photos(3);
    let here = dir.path();
    let expected = glb(here, &["in", "--no_cache"]).1;
    let run = |i: usize| {
        let out = format!("{i}.glb");
        export(here, &["--demo", "in", "--cache_size", "1", "--out", &out]);
        fs::read(here.join(out)).unwrap()
    };
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..6).map(|i| scope.spawn(move || run(i))).collect();
        for made in runs {
            assert!(made.join().unwrap() == expected);
        }
    });
    assert_eq!(entries(here).len(), 1);
    assert!(glb(here, &["in"]).0);
}
