//! `vggt export --each` and `--watch`: many scenes with one loaded network.

use std::{
    fs,
    io::Read,
    path::Path,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{command, fail, files, repository, run, vggt};

/// Far beyond what anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// So many photos in a new folder.
fn scene(folder: &Path, count: usize) {
    fs::create_dir_all(folder).unwrap();
    for i in 0..count {
        let frame = repository(&format!("model/demo/frames/frame_0{i}.png"));
        fs::copy(frame, folder.join(format!("{i}.png"))).unwrap();
    }
}

/// The objects of `--json`, one a line.
fn objects(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn each_scene_of_a_pattern_is_exported_as_if_alone() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    for (name, count) in [("s10", 1), ("s9", 2), (".hidden", 1)] {
        scene(&here.join("scenes").join(name), count);
    }
    fs::write(here.join("scenes/notes.txt"), "no scene").unwrap();
    let args = ["export", "--demo", "--json", "--each", "scenes/*", "--out"];
    let output = vggt(here, &[&args[..], &["out/"]].concat());
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{err}");
    assert!(
        err.contains("scene 1 of 2: scenes/s9") && err.contains("scenes/notes.txt"),
        "{err}"
    );
    // In natural order, as the images of a folder.
    let named: Vec<Value> = objects(&out)
        .into_iter()
        .map(|o| o["scene"].clone())
        .collect();
    assert_eq!(named, ["scenes/s9", "scenes/s10"]);
    assert_eq!(files(&here.join("out")), ["s10.glb", "s9.glb"]);
    for name in ["s9", "s10"] {
        run(
            here,
            &[
                "export",
                "--demo",
                &format!("scenes/{name}"),
                "--out",
                "alone.glb",
            ],
        );
        let alone = fs::read(here.join("alone.glb")).unwrap();
        assert!(
            fs::read(here.join(format!("out/{name}.glb"))).unwrap() == alone,
            "{name}"
        );
    }
}

#[test]
fn one_bad_scene_does_not_end_the_others() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    scene(&here.join("a"), 1);
    scene(&here.join("c"), 1);
    fs::create_dir(here.join("b")).unwrap();
    fs::write(here.join("b/broken.png"), b"\x89PNG\r\n\x1a\nbroken").unwrap();
    fs::write(here.join("d.mp4"), b"\0\0\0\x18ftypmp42broken").unwrap();
    let args = [
        "export", "--demo", "--json", "--out", "out/", "--each", "a", "b", "missing", "d.mp4", "c",
    ];
    let output = vggt(here, &args);
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        err.contains("3 of 5 scenes failed: b, missing, d.mp4"),
        "{err}"
    );
    assert!(!err.contains("panicked"), "{err}");
    let states: Vec<bool> = objects(&out).iter().map(|o| o["error"].is_null()).collect();
    assert_eq!(states, [true, false, false, false, true], "{out}");
    assert_eq!(files(&here.join("out")), ["a.glb", "c.glb"]);
}

#[test]
fn outputs_are_named_after_the_scenes() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    scene(&here.join("x/room"), 1);
    scene(&here.join("y/room"), 1);
    let args = [
        "export",
        "--demo",
        "--each",
        "*/room",
        "--out",
        "pages/{name}/index.html",
        "--out",
        "sets/",
        "--format",
        "colmap",
        "--save-predictions",
        "sets/",
        "--save-depth",
        "depth",
    ];
    run(here, &args);
    assert_eq!(files(&here.join("pages")), ["room", "room-2"]);
    assert_eq!(files(&here.join("pages/room-2")), ["index.html"]);
    let sets = ["room", "room-2", "room-2.safetensors", "room.safetensors"];
    assert_eq!(files(&here.join("sets")), sets);
    assert_eq!(files(&here.join("depth")), ["room", "room-2"]);
    // The same call replaces what it wrote, and takes it for no scene; so where the shell expands the pattern.
    run(here, &args);
    run(
        here,
        &[
            "export", "--demo", "--each", "x/room", "sets", "--out", "sets/",
        ],
    );
    assert_eq!(files(&here.join("pages")), ["room", "room-2"]);
    for (args, word) in [
        (&["--each", "x/room", "--out", "one.glb"][..], "{name}"),
        (&["--each", "x/room", "--out", "-"], "{name}"),
        (
            &["--each", "x/room", "--save-predictions", "p.safetensors"],
            "{name}",
        ),
        (&["--each", "nothing*"], "nothing*"),
        (&["--each", "[x"], "[x"),
        (&["--each", "x/room", "--resume", "y"], "--resume"),
        (&["--each", "x/room", "--watch", "y"], "--watch"),
        (&["--watch", "x", "--out", "one.glb"], "{name}"),
        (&["--settle", "3", "x/room"], "--settle"),
        (&["--settle", "3"], "--watch"),
    ] {
        let err = fail(here, 2, &[&["export", "--demo"], args].concat());
        assert!(err.contains(word), "{args:?}: {err}");
    }
}

#[test]
fn options_of_videos_are_for_the_videos_among_the_scenes() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    scene(&here.join("photos"), 1);
    let clip = repository("tests/data/frames/video/clip30.mp4");
    fs::copy(clip, here.join("clip.mp4")).unwrap();
    let args = [
        "export",
        "--demo",
        "--json",
        "--keyframes",
        "3",
        "--each",
        "clip.mp4",
        "photos",
        "--out",
        "out/",
    ];
    let out = objects(&run(here, &args));
    assert_eq!(out[0]["frames"], 3);
    assert_eq!(out[1]["frames"], 1);
}

#[test]
fn a_batch_that_was_killed_goes_on_when_it_is_called_again() {
    let dir = crate::spool::photos(48);
    let here = dir.path();
    scene(&here.join("small"), 1);
    run(here, &["export", "--demo", "in", "--out", "fresh.glb"]);
    let args = ["export", "--demo", "--each", "in", "small", "--out", "out/"];
    let mut child = command(here)
        .args(args)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let journal = here.join("out/.in.glb.vggt-spool/journal");
    // A folder of outputs is created at the end: the results are above it.
    let above = here.join(".in.glb.vggt-spool/journal");
    until("frames", || {
        [&journal, &above]
            .into_iter()
            .any(|path| fs::metadata(path).is_ok_and(|meta| meta.len() > 0))
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let spool = if above.exists() {
        ".in.glb.vggt-spool"
    } else {
        "out/.in.glb.vggt-spool"
    };
    let err = fail(here, 2, &["export", "--resume", spool]);
    assert!(err.contains("one of several scenes"), "{err}");
    let output = vggt(here, &args);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && err.contains("going on with"),
        "{err}"
    );
    let same =
        fs::read(here.join("out/in.glb")).unwrap() == fs::read(here.join("fresh.glb")).unwrap();
    assert!(same, "{err}");
    assert_eq!(files(&here.join("out")), ["in.glb", "small.glb"]);
}

/// Waits for what a test is about.
fn until(what: &str, mut is_there: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_there() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A process that watches `drop`.
struct Watching {
    process: Child,
}

impl Watching {
    fn start(here: &Path, more: &[&str]) -> Self {
        let process = command(here)
            .args(["export", "--demo", "--watch", "drop", "--out", "out/"])
            .args(["--settle", "1", "--json"])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { process }
    }

    /// Ends it by a signal, and gives exit code, standard output and standard error.
    fn end(mut self, signal: &str) -> (Option<i32>, String, String) {
        let id = self.process.id().to_string();
        let kill = std::process::Command::new("kill")
            .args(["-s", signal, &id])
            .status();
        assert!(kill.unwrap().success());
        let (mut out, mut err) = (String::new(), String::new());
        self.process
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut out)
            .unwrap();
        self.process
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut err)
            .unwrap();
        (self.process.wait().unwrap().code(), out, err)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn what_is_dropped_is_exported_when_it_is_complete_and_moved_away() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    let drop = here.join("drop");
    // What lay there before is taken too.
    scene(&drop.join("room"), 2);
    scene(&here.join("out"), 0);
    fs::write(here.join("out/room.glb"), "of somebody else").unwrap();
    let watching = Watching::start(here, &[]);
    until("the first scene", || drop.join("done/room").exists());
    let err = fail(
        here,
        1,
        &["export", "--demo", "--watch", "drop", "--out", "out/"],
    );
    assert!(err.contains("watches \"drop\" already"), "{err}");

    // A copy that takes its time, a download, a scene that is none, and what is not for this folder.
    scene(&drop.join("slow"), 1);
    fs::write(drop.join("slow/1.png.part"), "half").unwrap();
    fs::create_dir(drop.join("empty")).unwrap();
    fs::create_dir(drop.join("bad")).unwrap();
    fs::write(drop.join("bad/notes.txt"), "no photo").unwrap();
    fs::copy(drop.join("done/room/0.png"), drop.join("loose.png")).unwrap();
    fs::write(drop.join("notes.txt"), "no scene").unwrap();
    // The same name once more: neither result is lost.
    scene(&drop.join("room"), 1);
    until("the bad scene", || drop.join("failed/bad.txt").exists());
    until("the second scene", || drop.join("done/room-2").exists());
    assert!(drop.join("slow").exists() && !drop.join("done/slow").exists());
    fs::rename(drop.join("slow/1.png.part"), drop.join("slow/1.png")).unwrap();
    fs::copy(drop.join("slow/0.png"), drop.join("slow/1.png")).unwrap();
    until("the slow scene", || drop.join("done/slow").exists());

    let (code, out, err) = watching.end("INT");
    assert_eq!(code, Some(130), "{err}");
    let outputs = ["room-2.glb", "room-3.glb", "room.glb", "slow.glb"];
    assert_eq!(files(&here.join("out")), outputs, "{err}");
    assert_eq!(
        fs::read(here.join("out/room.glb")).unwrap(),
        b"of somebody else"
    );
    let left = ["done", "empty", "failed", "loose.png", "notes.txt"];
    assert_eq!(files(&drop), left);
    assert_eq!(files(&drop.join("failed")), ["bad", "bad.txt"]);
    let reason = fs::read_to_string(drop.join("failed/bad.txt")).unwrap();
    assert!(reason.contains("notes.txt"), "{reason}");
    let frames = |scene: &str| {
        let all = objects(&out).into_iter();
        let found: Vec<Value> = all
            .filter(|o| o["scene"] == scene)
            .map(|o| o["frames"].clone())
            .collect();
        found
    };
    assert_eq!(frames("drop/slow"), [2]);
    assert_eq!(frames("drop/room"), [2, 1]);
    assert!(
        err.contains("loose.png") && err.contains("notes.txt"),
        "{err}"
    );
}

#[test]
fn outputs_in_the_watched_folder_are_not_scenes() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    let drop = here.join("drop");
    scene(&drop.join("room"), 1);
    let watching = Watching::start(here, &["--out", "drop/results/", "--format", "colmap"]);
    until("the scene", || drop.join("done/room").exists());
    thread::sleep(Duration::from_millis(2500));
    let (code, _, err) = watching.end("TERM");
    assert_eq!(code, Some(130), "{err}");
    assert_eq!(files(&drop), ["done", "results"], "{err}");
    assert_eq!(files(&drop.join("results")), ["room"]);
}
