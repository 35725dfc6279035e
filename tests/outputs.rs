//! Where results go, and what they must never replace. The runs use the demo.

use std::{
    fs,
    io::Read,
    os::unix::fs::{FileTypeExt, PermissionsExt, symlink},
    process::{Command, Stdio},
    thread,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    command, fail, files, glb::Glb, mkfifo, repository, run, summary, text, vggt,
};

const PHOTO: &str = "model/demo/frames/frame_00.png";

/// A folder with two photos of the demo, `a.png` and `b.png`.
fn photos() -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::copy(repository(PHOTO), dir.path().join("a.png")).unwrap();
    let second = "model/demo/frames/frame_01.png";
    fs::copy(repository(second), dir.path().join("b.png")).unwrap();
    dir
}

#[test]
fn an_input_is_never_replaced() {
    let dir = photos();
    let here = dir.path();
    // A photo that has the name of an output, a link to it, and another name of the same file.
    let photo = fs::read(here.join("a.png")).unwrap();
    fs::rename(here.join("a.png"), here.join("a.glb")).unwrap();
    symlink("a.glb", here.join("link.glb")).unwrap();
    fs::hard_link(here.join("a.glb"), here.join("hard.ply")).unwrap();
    for out in ["a.glb", "./a.glb", "link.glb", "hard.ply"] {
        let args = [
            "export",
            "--demo",
            "a.glb",
            "b.png",
            "--overwrite",
            "--out",
            out,
        ];
        let err = fail(here, 2, &args);
        assert!(err.contains("it is an input"), "{err}");
    }
    let args = [
        "export",
        "--demo",
        "a.glb",
        "--save_depth",
        ".",
        "--out",
        "x.glb",
    ];
    run(here, &args);
    assert_eq!(fs::read(here.join("a.glb")).unwrap(), photo);
    assert!(here.join("link.glb").is_symlink());
}

#[test]
fn predictions_and_weights_are_inputs_too() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    run(
        here,
        &["export", "--demo", "--save_predictions", "p.safetensors"],
    );
    let saved = fs::read(here.join("p.safetensors")).unwrap();
    symlink("p.safetensors", here.join("p.glb")).unwrap();
    let args = [
        "export",
        "--from_predictions",
        "p.safetensors",
        "--out",
        "p.glb",
        "--overwrite",
    ];
    assert!(fail(here, 2, &args).contains("it is an input"));
    assert_eq!(fs::read(here.join("p.safetensors")).unwrap(), saved);

    let tiny = repository("model/tests/data/tiny/model.pt");
    let weights = fs::read(tiny).unwrap();
    fs::write(here.join("w.safetensors"), &weights).unwrap();
    fs::hard_link(here.join("w.safetensors"), here.join("same.safetensors")).unwrap();
    for to in ["w.safetensors", "same.safetensors"] {
        let args = [
            "convert",
            "w.safetensors",
            to,
            "--dtype",
            "f16",
            "--overwrite",
        ];
        assert!(fail(here, 2, &args).contains("it is an input"));
    }
    assert_eq!(fs::read(here.join("w.safetensors")).unwrap(), weights);
}

#[test]
fn files_that_something_else_wrote_are_kept_unless_told() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    // A GLB, a page and a point cloud of other programs, and a text under a fitting name.
    let trimesh = fs::read(repository("tests/data/scene/cameras.glb")).unwrap();
    let foreign: [(&str, &[u8]); 4] = [
        ("a.glb", &trimesh),
        (
            "a.html",
            b"<!DOCTYPE html><title>mine, made with vggt 0.1.0</title>",
        ),
        (
            "a.ply",
            b"ply\nformat ascii 1.0\ncomment VCGLIB generated\nend_header\n",
        ),
        ("b.glb", b"notes"),
    ];
    for (name, bytes) in foreign {
        fs::write(here.join(name), bytes).unwrap();
        let err = fail(here, 1, &["export", "--demo", "--out", name]);
        assert!(err.contains(name) && err.contains("--overwrite"), "{err}");
        assert_eq!(fs::read(here.join(name)).unwrap(), bytes);
        run(here, &["export", "--demo", "--out", name, "--overwrite"]);
        assert_ne!(fs::read(here.join(name)).unwrap(), bytes);
        // What it wrote itself it may replace.
        run(
            here,
            &["export", "--demo", "--max_points", "9", "--out", name],
        );
    }
    fs::write(here.join("p.safetensors"), b"mine").unwrap();
    let args = [
        "export",
        "--demo",
        "--out",
        "c.glb",
        "--save_predictions",
        "p.safetensors",
    ];
    assert!(fail(here, 1, &args).contains("p.safetensors"));
    assert!(!here.join("c.glb").exists());
    fs::create_dir(here.join("depth")).unwrap();
    fs::write(here.join("depth/depth.json"), b"{\"mine\": 1}").unwrap();
    let args = [
        "export",
        "--demo",
        "--out",
        "c.glb",
        "--save_depth",
        "depth",
    ];
    assert!(fail(here, 1, &args).contains("depth.json"));
    assert_eq!(files(&here.join("depth")), ["depth.json"]);
}

#[test]
fn every_format_may_replace_its_own_files_and_only_those() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    let args = [
        "export",
        "--demo",
        "--out",
        "a.glb",
        "--out",
        "b.html",
        "--out",
        "c.ply",
        "--save_predictions",
        "d.safetensors",
        "--save_depth",
        "depth",
        "--max_points",
        "50",
    ];
    run(here, &args);
    run(here, &args);
    for format in ["colmap", "nerfstudio"] {
        let args = ["export", "--demo", "--format", format, "--out", format];
        run(here, &args);
        fs::write(here.join(format).join("notes.txt"), "mine").unwrap();
        run(here, &args);
        let notes = fs::read(here.join(format).join("notes.txt")).unwrap();
        assert_eq!(notes, b"mine");
    }
    // A model of another program.
    fs::create_dir_all(here.join("other/sparse/0")).unwrap();
    fs::write(here.join("other/sparse/0/cameras.bin"), [1; 8]).unwrap();
    let args = ["export", "--demo", "--format", "colmap", "--out", "other"];
    assert!(fail(here, 1, &args).contains("cameras.bin"));
    assert_eq!(files(&here.join("other/sparse/0")), ["cameras.bin"]);
}

#[test]
fn links_are_followed_and_their_targets_replaced() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    fs::create_dir(here.join("deep")).unwrap();
    symlink("deep/real.glb", here.join("link.glb")).unwrap();
    for _ in 0..2 {
        run(here, &["export", "--demo", "--out", "link.glb"]);
        assert!(here.join("link.glb").is_symlink());
        Glb::parse(&fs::read(here.join("deep/real.glb")).unwrap());
    }
    assert_eq!(files(&here.join("deep")), ["real.glb"]);
}

#[test]
fn pipes_and_standard_output_get_the_bytes() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    run(here, &["export", "--demo", "--out", "file.glb"]);
    let expected = fs::read(here.join("file.glb")).unwrap();
    for out in ["-", "/dev/stdout"] {
        let output = vggt(here, &["export", "--demo", "--json", "--out", out]);
        assert!(output.status.success());
        assert!(output.stdout == expected, "{out}");
        // The summary goes elsewhere then.
        let err = String::from_utf8(output.stderr).unwrap();
        let summary: Value = serde_json::from_str(err.lines().last().unwrap()).unwrap();
        assert_eq!(summary["bytes"], expected.len());
    }
    // Redirected into a file that already exists: written through, not replaced.
    let file = fs::File::create(here.join("redirected")).unwrap();
    let args = ["export", "--demo", "--out", "/dev/stdout"];
    let status = command(here)
        .args(args)
        .stdout(file)
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    assert!(fs::read(here.join("redirected")).unwrap() == expected);

    mkfifo(&here.join("pipe"));
    mkfifo(&here.join("pipe.ply"));
    for (pipe, first) in [("pipe", &b"glTF"[..]), ("pipe.ply", b"ply\n")] {
        let path = here.join(pipe);
        let reader = thread::spawn(move || {
            let mut bytes = Vec::new();
            fs::File::open(path)
                .unwrap()
                .read_to_end(&mut bytes)
                .unwrap();
            bytes
        });
        run(here, &["export", "--demo", "--out", pipe]);
        assert!(reader.join().unwrap().starts_with(first), "{pipe}");
        assert!(here.join(pipe).metadata().unwrap().file_type().is_fifo());
    }
    run(here, &["export", "--demo", "--out", "/dev/null"]);
    let null = fs::metadata("/dev/null").unwrap();
    assert!(null.file_type().is_char_device());
    let err = fail(
        here,
        2,
        &["export", "--demo", "--format", "colmap", "--out", "-"],
    );
    assert!(err.contains("folder"), "{err}");
}

#[test]
fn the_ending_decides_and_an_unknown_one_is_refused_with_the_known_ones() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    for (name, format) in [
        ("A.GLB", "glb"),
        ("b.Html", "html"),
        ("c.HTM", "html"),
        ("d.PLY", "ply"),
    ] {
        assert_eq!(summary(here, &["--demo", "--out", name])["format"], format);
        assert!(here.join(name).is_file());
    }
    let before = files(here);
    for name in [
        "a.obj",
        "a.gltf",
        "a.usdz",
        "a.las",
        "a.npz",
        "a.splat",
        "a.glb.bak",
        "new/a.xyz",
    ] {
        let err = fail(here, 2, &["export", "--demo", "--out", name]);
        assert!(err.contains(".glb, .html, .htm or .ply"), "{err}");
        let err = fail(
            here,
            2,
            &["export", "--demo", "--format", "glb", "--out", name],
        );
        assert!(err.contains(".glb"), "{err}");
    }
    for name in ["x.npz", "x.pt", "x.glb"] {
        let err = fail(here, 2, &["export", "--demo", "--save_predictions", name]);
        assert!(err.contains(".safetensors"), "{err}");
        let tiny = repository("model/tests/data/tiny/model.pt");
        let err = fail(here, 2, &["convert", text(&tiny), name]);
        assert!(err.contains(".safetensors"), "{err}");
    }
    let err = fail(
        here,
        2,
        &["export", "--demo", "--format", "ply", "--out", "a.glb"],
    );
    assert!(err.contains("contradict"), "{err}");
    assert_eq!(files(here), before);
}

#[test]
fn no_ending_is_a_folder_that_is_made_with_its_parents() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    for out in ["outputs", "deep/er/", "./v1.2/"] {
        let told = summary(here, &["--demo", "--out", out]);
        let path = here.join(told["out"].as_str().unwrap());
        assert_eq!(
            path.parent().unwrap(),
            here.join(out.trim_start_matches("./"))
        );
        assert_eq!(path.file_name().unwrap(), "scene_depthmap_conf10.glb");
        assert!(path.is_file());
    }
    assert!(summary(here, &["--demo", "--out", "made/x.glb"])["bytes"].as_u64() > Some(1000));
    run(here, &["export", "--demo", "--save_predictions", "saved/"]);
    assert_eq!(files(&here.join("saved")), ["predictions.safetensors"]);
}

#[test]
fn several_outputs_are_written_in_one_run() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    let outs = [
        "--out",
        "a.glb",
        "--out",
        "b.ply",
        "--out",
        "c.html",
        "--max_points",
        "500",
    ];
    let told = summary(here, &[&["--demo"][..], &outs].concat());
    assert_eq!(
        (&told["out"], &told["format"]),
        (&"a.glb".into(), &"glb".into())
    );
    let outputs = told["outputs"].as_array().unwrap();
    let formats: Vec<&Value> = outputs.iter().map(|o| &o["format"]).collect();
    assert_eq!(formats, ["glb", "ply", "html"]);
    for output in outputs {
        let file = here.join(output["out"].as_str().unwrap());
        assert_eq!(output["bytes"], file.metadata().unwrap().len());
        assert_eq!(output["points"], 500);
    }
    let single = summary(here, &["--demo", "--out", "d.glb", "--max_points", "500"]);
    let read = |name: &str| fs::read(here.join(name)).unwrap();
    assert!(read("a.glb") == read("d.glb"), "{single}");
    for outs in [["x.glb", "x.glb"], ["y/", "y"], ["-", "/dev/stdout"]] {
        let args = ["export", "--demo", "--out", outs[0], "--out", outs[1]];
        assert!(fail(here, 2, &args).contains("two outputs"));
    }
}

#[test]
fn what_cannot_be_written_is_told_before_the_network_runs() {
    let dir = photos();
    let here = dir.path();
    fs::write(here.join("file"), "mine").unwrap();
    let cases: [(&[&str], &str); 5] = [
        (&["--out", "file/x.glb"], "file"),
        (&["--out", "file"], "is a file, not a folder"),
        (
            &["--out", "file", "--format", "colmap"],
            "is a file, not a folder",
        ),
        (&["--save_depth", "file"], "is a file, not a folder"),
        (&["--save_predictions", "file/p.safetensors"], "file"),
    ];
    // A photo that cannot be read would be the first error of a run that got as far.
    for (args, expected) in cases {
        let all = [&["export", "--demo", "a.png"][..], args].concat();
        let err = fail(here, 1, &all);
        assert!(err.contains(expected), "{args:?}: {err}");
        // The path stands there once, and so does the reason.
        assert!(err.matches("file").count() <= 4, "{err}");
    }
    assert_eq!(fs::read(here.join("file")).unwrap(), b"mine");
    fs::create_dir(here.join("locked")).unwrap();
    fs::set_permissions(here.join("locked"), fs::Permissions::from_mode(0o555)).unwrap();
    // Root may write anywhere; then there is nothing to be refused.
    if fs::write(here.join("locked/probe"), "").is_err() {
        let err = fail(here, 1, &["export", "--demo", "--out", "locked/x.glb"]);
        assert!(err.contains("locked/x.glb"), "{err}");
    }
    assert_eq!(files(here), ["a.png", "b.png", "file", "locked"]);
}

#[test]
fn a_full_disk_is_told_before_the_network_runs() {
    // A file system of one MiB, where the machine allows making one.
    let dir = TempDir::new().unwrap();
    let disk = dir.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs", text(&disk)])
        .stderr(Stdio::null())
        .status();
    if !mount.is_ok_and(|status| status.success()) {
        return;
    }
    let output = vggt(dir.path(), &["export", "--demo", "--out", "disk/x.glb"]);
    let left = files(&disk);
    assert!(
        Command::new("umount")
            .arg(&disk)
            .status()
            .unwrap()
            .success()
    );
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        err.contains("disk/x.glb") && err.contains("1.0 MB left"),
        "{err}"
    );
    assert_eq!(left, [""; 0]);
}

#[test]
fn the_client_follows_the_same_rule_before_it_connects() {
    let dir = photos();
    let here = dir.path();
    fs::write(here.join("mine.glb"), "mine").unwrap();
    // Nothing listens there: an error of the output comes first.
    let client = |args: &[&'static str]| [&["client", "--port", "9"], args].concat();
    let err = fail(here, 2, &client(&["images", "a.png", "--out", "x.ply"]));
    assert!(err.contains("expected .glb"), "{err}");
    let err = fail(here, 1, &client(&["images", "a.png", "--out", "mine.glb"]));
    assert!(err.contains("--overwrite"), "{err}");
    fs::rename(here.join("b.png"), here.join("b.glb")).unwrap();
    let err = fail(
        here,
        2,
        &client(&["images", "b.glb", "--out", "b.glb", "--overwrite"]),
    );
    assert!(err.contains("it is an input"), "{err}");
    let err = fail(here, 1, &client(&["images", "a.png", "--out", "new/"]));
    assert!(
        err.contains("connect") && err.matches("refused").count() == 1,
        "{err}"
    );
    assert_eq!(files(here), ["a.png", "b.glb", "mine.glb"]);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let dir = TempDir::new().unwrap();
    for args in [
        &["export", "--demo", "--json=full", "--out", "x.glb"][..],
        &["doctor", "--json", "--device", "cpu", "--only", "linear"],
        &["export", "--help"],
    ] {
        let mut child = command(dir.path())
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // As `head` does after its last line.
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(!err.contains("panicked"), "{args:?}: {err}");
        assert!(
            output.status.code().is_some_and(|code| code != 101),
            "{args:?}"
        );
    }
}
