//! Exports that are interrupted and go on, and the folders in which their results are meanwhile.

use std::{
    fs,
    io::Read,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    command, fail, files, mkfifo, repository, run, send_signal, summary, text, vggt,
};

/// Enough frames to keep the network busy while a test looks at the folder.
const FRAMES: usize = 48;

/// The folder of an export to `x.glb`.
const SPOOL: &str = ".x.glb.vggt-spool";

/// A folder with `in`, in which there are so many photos.
pub(crate) fn photos(count: usize) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("in")).unwrap();
    for i in 0..count {
        let frame = format!("model/demo/frames/frame_0{}.png", i % 8);
        fs::copy(
            repository(&frame),
            dir.path().join(format!("in/{i:03}.png")),
        )
        .unwrap();
    }
    dir
}

/// Starts an export of `in` to `x.glb`.
fn start(dir: &Path, more: &[&str]) -> Child {
    let args = ["export", "--demo", "in", "--out", "x.glb"];
    let mut command = command(dir);
    command.args(args).args(more).stderr(Stdio::piped());
    command.stdout(Stdio::null()).spawn().unwrap()
}

/// What an export of `in` that nothing interrupts writes.
fn uninterrupted(dir: &Path) -> Vec<u8> {
    run(dir, &["export", "--demo", "in", "--out", "fresh.glb"]);
    let bytes = fs::read(dir.join("fresh.glb")).unwrap();
    fs::remove_file(dir.join("fresh.glb")).unwrap();
    bytes
}

/// Waits until a file of the spool has something in it, or the process ended.
fn wait_for(child: &mut Child, path: &Path) {
    while fs::metadata(path).map_or(0, |meta| meta.len()) == 0 {
        if child.try_wait().unwrap().is_some() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Ends a process without letting it clean up.
fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Kills an export of `in` that has written the first of two outputs, and removes what it wrote.
fn kill_while_it_writes(dir: &Path) {
    // Nobody reads: the second output is never written.
    let pipe = dir.join("y.ply");
    mkfifo(&pipe);
    let mut child = start(dir, &["--out", "y.ply"]);
    wait_for(&mut child, &dir.join("x.glb"));
    kill(&mut child);
    fs::remove_file(dir.join("x.glb")).unwrap();
    fs::remove_file(&pipe).unwrap();
}

fn journal(dir: &Path) -> PathBuf {
    dir.join(SPOOL).join("journal")
}

#[test]
fn what_was_killed_goes_on_to_the_same_bytes() {
    let dir = photos(FRAMES);
    let here = dir.path();
    let expected = uninterrupted(here);
    // While it decodes, and while the network runs.
    for (file, times) in [("decoded", 1), ("journal", 2)] {
        for _ in 0..times {
            let mut child = start(here, &[]);
            wait_for(&mut child, &here.join(SPOOL).join(file));
            kill(&mut child);
            assert_eq!(files(here), [SPOOL, "in"], "{file}");
            // Killed again.
            let mut again = command(here)
                .args(["export", "--resume", SPOOL])
                .spawn()
                .unwrap();
            wait_for(&mut again, &journal(here));
            kill(&mut again);
            run(here, &["export", "--resume", SPOOL]);
            assert!(fs::read(here.join("x.glb")).unwrap() == expected, "{file}");
            fs::remove_file(here.join("x.glb")).unwrap();
            assert_eq!(files(here), ["in"], "{file}");
        }
    }
}

#[test]
fn what_was_killed_while_it_wrote_does_not_run_the_network_again() {
    let dir = photos(20);
    let here = dir.path();
    let expected = uninterrupted(here);
    kill_while_it_writes(here);
    let elsewhere = TempDir::new().unwrap();
    let folder = here.join(SPOOL);
    let output = command(elsewhere.path())
        .args(["export", "--json", "--resume", text(&folder)])
        .env("VGGT_LOG", "vggt=debug")
        .output()
        .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{err}");
    assert!(err.contains("20 of 20 frames are done"), "{err}");
    assert!(!err.contains("running the network"), "{err}");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["frames"], 20);
    // Paths are still relative to where it began.
    assert!(fs::read(here.join("x.glb")).unwrap() == expected);
    assert_eq!(files(here), ["in", "x.glb", "y.ply"]);
    assert_eq!(files(elsewhere.path()), [""; 0]);
}

#[test]
fn an_interrupt_tells_the_call_that_goes_on() {
    let dir = photos(FRAMES);
    let here = dir.path();
    let expected = uninterrupted(here);
    let mut child = start(here, &[]);
    wait_for(&mut child, &journal(here));
    send_signal(child.id(), "INT");
    let mut err = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut err).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{err}");
    let (_, advice) = err.trim().rsplit_once("vggt ").unwrap();
    let advice: Vec<&str> = advice.split(' ').collect();
    assert_eq!(advice[..2], ["export", "--resume"]);
    run(here, &advice);
    assert!(fs::read(here.join("x.glb")).unwrap() == expected);
    assert_eq!(files(here), ["in", "x.glb"]);
}

#[test]
fn the_same_call_goes_on_too_and_one_with_other_options_begins_again() {
    let dir = photos(20);
    let here = dir.path();
    let expected = uninterrupted(here);
    let interrupted = || {
        let mut child = start(here, &[]);
        wait_for(&mut child, &journal(here));
        kill(&mut child);
        assert_eq!(files(here), [SPOOL, "in"]);
    };
    interrupted();
    let args = ["export", "--demo", "in", "--out", "x.glb"];
    let output = vggt(here, &args);
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("going on with"), "{err}");
    assert!(fs::read(here.join("x.glb")).unwrap() == expected);
    fs::remove_file(here.join("x.glb")).unwrap();
    interrupted();
    let output = vggt(here, &[&args[..], &["--max_frames", "17"]].concat());
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(
        err.contains("begun again") && err.contains("max_frames"),
        "{err}"
    );
    assert_eq!(files(here), ["in", "x.glb"]);
}

/// An export that was interrupted, and the name of its folder.
fn left_behind(count: usize) -> (TempDir, PathBuf) {
    let dir = photos(count);
    let mut child = start(dir.path(), &[]);
    wait_for(&mut child, &journal(dir.path()));
    kill(&mut child);
    let folder = dir.path().join(SPOOL);
    assert!(folder.is_dir());
    (dir, folder)
}

#[test]
fn other_inputs_or_options_are_refused_by_name() {
    let (dir, folder) = left_behind(20);
    let here = dir.path();
    let resume = ["export", "--resume", SPOOL];
    let err = fail(here, 1, &[&resume[..], &["--preprocess", "pad"]].concat());
    assert!(err.contains("its preprocess was \"crop\""), "{err}");
    fs::copy(here.join("in/001.png"), here.join("in/000.png")).unwrap();
    let err = fail(here, 1, &resume);
    assert!(err.contains("\"000.png\" has changed"), "{err}");
    fs::remove_file(here.join("in/000.png")).unwrap();
    let err = fail(here, 1, &resume);
    assert!(
        err.contains("20 input files") && err.contains("19 now"),
        "{err}"
    );
    let err = fail(here, 2, &[&resume[..], &["--checkpoint", "x.pt"]].concat());
    assert!(err.contains("--checkpoint"), "{err}");
    // What changes nothing of the predictions may be added.
    fs::copy(
        repository("model/demo/frames/frame_00.png"),
        here.join("in/000.png"),
    )
    .unwrap();
    run(here, &[&resume[..], &["--conf_thres", "50"]].concat());
    assert!(!folder.exists());
    let args = [
        "export",
        "--demo",
        "in",
        "--conf_thres",
        "50",
        "--out",
        "y.glb",
    ];
    run(here, &args);
    let read = |name| fs::read(here.join(name)).unwrap();
    assert!(read("x.glb") == read("y.glb"));
}

#[test]
fn what_a_power_cut_damaged_is_computed_again() {
    let dir = photos(20);
    let here = dir.path();
    let expected = uninterrupted(here);
    // Pages that read as zeros, the end of a file, a whole file.
    for (file, damage) in [
        ("images", "zeros"),
        ("depth", "end"),
        ("depth_conf", "gone"),
        ("cameras", "zeros"),
        ("journal", "end"),
    ] {
        kill_while_it_writes(here);
        let path = here.join(SPOOL).join(file);
        let mut bytes = fs::read(&path).unwrap();
        let half = bytes.len() / 2;
        match damage {
            "zeros" => bytes[half..].fill(0),
            _ => bytes.truncate(half),
        }
        match damage {
            "gone" => fs::remove_file(&path).unwrap(),
            _ => fs::write(&path, bytes).unwrap(),
        }
        run(here, &["export", "--resume", SPOOL]);
        assert!(
            fs::read(here.join("x.glb")).unwrap() == expected,
            "{file} {damage}"
        );
        fs::remove_file(here.join("x.glb")).unwrap();
        fs::remove_file(here.join("y.ply")).unwrap();
    }
}

#[test]
fn what_is_not_a_spool_is_left_alone() {
    let dir = photos(20);
    let here = dir.path();
    let to = |spool: &'static str| {
        let args = ["export", "--demo", "in", "--out", "x.glb", "--spool"];
        [&args[..], &[spool]].concat()
    };
    fs::create_dir(here.join("mine")).unwrap();
    fs::write(here.join("mine/diary"), "dear").unwrap();
    fs::write(here.join("mine/journal"), "dear").unwrap();
    fs::write(here.join("file"), "dear").unwrap();
    fs::create_dir(here.join("empty")).unwrap();
    symlink(here.join("empty"), here.join("link")).unwrap();
    for (name, why) in [
        ("mine", "spool.json"),
        ("file", "not a folder"),
        ("link", "a link"),
    ] {
        let err = fail(here, 1, &to(name));
        assert!(err.contains(name) && err.contains(why), "{err}");
        let err = fail(here, 1, &["export", "--resume", name]);
        assert!(err.contains(name), "{err}");
    }
    let err = fail(here, 1, &["export", "--resume", "none"]);
    assert!(err.contains("none\""), "{err}");
    assert_eq!(fs::read(here.join("mine/journal")).unwrap(), b"dear");
    assert_eq!(files(&here.join("mine")), ["diary", "journal"]);
    // An empty folder will do, and what else comes into it stays.
    run(here, &to("empty"));
    assert!(!here.join("empty").exists());
    let json = r#"{"format":"vggt-spool","version":99}"#;
    fs::write(here.join("mine/spool.json"), json).unwrap();
    let err = fail(here, 1, &to("mine"));
    assert!(err.contains("version 99"), "{err}");
    fs::write(here.join("mine/spool.json"), "{}").unwrap();
    let err = fail(here, 1, &to("mine"));
    assert!(err.contains("not one of vggt's"), "{err}");
    assert_eq!(files(here), ["file", "in", "link", "mine", "x.glb"]);
}

#[test]
fn only_its_own_files_are_removed_and_links_in_it_are_not_followed() {
    let (dir, folder) = left_behind(20);
    let here = dir.path();
    fs::write(folder.join("diary"), "dear").unwrap();
    fs::write(here.join("victim"), "precious").unwrap();
    symlink(here.join("victim"), folder.join("depth.tmp")).unwrap();
    run(here, &["export", "--resume", SPOOL]);
    assert_eq!(files(&folder), ["depth.tmp", "diary"]);
    fs::remove_dir_all(&folder).unwrap();
    let (dir, folder) = left_behind(20);
    let here = dir.path();
    fs::write(here.join("victim"), "precious").unwrap();
    fs::remove_file(folder.join("depth")).ok();
    symlink(here.join("victim"), folder.join("depth")).unwrap();
    let err = fail(here, 1, &["export", "--resume", SPOOL]);
    assert!(err.contains("depth"), "{err}");
    assert_eq!(fs::read(here.join("victim")).unwrap(), b"precious");
}

#[test]
fn a_spool_is_for_its_owner_and_for_one_process() {
    let dir = photos(FRAMES);
    let here = dir.path();
    let mut child = start(here, &["--spool", "s"]);
    wait_for(&mut child, &here.join("s/journal"));
    for path in [
        here.join("s"),
        here.join("s/images"),
        here.join("s/spool.json"),
    ] {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
    let err = fail(here, 1, &["export", "--resume", "s"]);
    assert!(err.contains("another process"), "{err}");
    kill(&mut child);
    run(here, &["export", "--resume", "s"]);
    assert_eq!(files(here), ["in", "x.glb"]);
}

#[test]
fn two_exports_to_one_output_do_not_meet_in_a_spool() {
    let dir = photos(FRAMES);
    let here = dir.path();
    let expected = uninterrupted(here);
    let mut first = start(here, &[]);
    wait_for(&mut first, &journal(here));
    let mut second = start(here, &[]);
    assert!(second.wait().unwrap().success() && first.wait().unwrap().success());
    assert!(fs::read(here.join("x.glb")).unwrap() == expected);
    assert_eq!(files(here), ["in", "x.glb"]);
}

#[test]
fn frames_of_different_sizes_and_few_frames_are_the_same_in_a_folder() {
    let dir = photos(3);
    let here = dir.path();
    let large = repository("tests/data/frames/preprocess/landscape.png");
    fs::copy(large, here.join("in/wide.png")).unwrap();
    fs::write(here.join("in/notes.txt"), "dear diary").unwrap();
    let mut first = summary(here, &["--demo", "in", "--out", "a.glb"]);
    let mut second = summary(here, &["--demo", "in", "--out", "b.glb", "--spool", "s"]);
    assert!(fs::read(here.join("a.glb")).unwrap() == fs::read(here.join("b.glb")).unwrap());
    for said in [&mut first, &mut second] {
        for differs in ["out", "outputs", "seconds"] {
            said[differs] = Value::Null;
        }
    }
    assert_eq!(first, second);
    assert_eq!(files(here), ["a.glb", "b.glb", "in"]);
}

#[test]
fn a_full_disk_is_a_clear_error_before_the_network_runs() {
    // A file system of a few MiB, where the machine allows making one.
    let dir = photos(FRAMES);
    let here = dir.path();
    let disk = here.join("disk");
    fs::create_dir(&disk).unwrap();
    for (size, spool) in [("size=4m", "disk/s"), ("size=1m", "disk/s")] {
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", size, "tmpfs", text(&disk)])
            .stderr(Stdio::null())
            .status();
        if !mount.is_ok_and(|status| status.success()) {
            return;
        }
        let args = ["export", "--demo", "in", "--out", "x.glb", "--spool", spool];
        let output = vggt(here, &args);
        let left = files(&disk);
        let unmounted = Command::new("umount").arg(&disk).status();
        assert!(unmounted.unwrap().success());
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.contains("disk/s") && !err.contains("panicked"), "{err}");
        assert!(
            err.contains("MB left") || err.contains("No space left"),
            "{err}"
        );
        assert_eq!(left, [""; 0]);
    }
}
