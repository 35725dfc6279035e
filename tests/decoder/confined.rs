//! What the process has, and what it does without.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::Path,
    process::{Command, Stdio},
};

use super::{Worker, is_root, large_png, limits::worker_of};
use crate::support::{
    NO_CACHE,
    service::{Service, refs, wait_for},
};

#[test]
fn the_process_has_its_stream_and_nothing_else() {
    let png = large_png();
    let images: Vec<Vec<u8>> = (0..60_u8).map(|i| [&png[..], &[i]].concat()).collect();
    let service = Service::start(&[]);
    let mut ann = service.login("ann");
    ann.submit(&refs(&images));
    let process = worker_of(&service);
    let read = |what: &str| fs::read(format!("/proc/{process}/{what}")).unwrap_or_default();
    wait_for("the process to be confined", || {
        let status = String::from_utf8(read("status")).unwrap();
        let confined = status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1");
        confined.then_some(())
    });
    // Neither the hub's token nor anything else that the service was given.
    let environment = String::from_utf8(read("environ")).unwrap();
    for variable in environment.split_terminator('\0') {
        assert!(variable.starts_with("LD_LIBRARY_PATH="), "{variable}");
    }
    // Its stream twice, its last words, and the image that it decodes with a copy or two: no database, no socket of a client.
    let folder = format!("/proc/{process}/fd");
    let files = fs::read_dir(folder).unwrap().flatten();
    let files: Vec<String> = files
        .filter_map(|file| {
            Some(
                fs::read_link(file.path())
                    .ok()?
                    .to_string_lossy()
                    .into_owned(),
            )
        })
        .collect();
    let images = files.iter().filter(|file| file.contains("/image_"));
    assert!(images.count() <= 3, "{files:?}");
    for file in &files {
        let known = ["socket:", "pipe:"]
            .iter()
            .any(|kind| file.starts_with(kind));
        assert!(known || file.contains("/image_"), "{files:?}");
    }
    assert!(files.iter().filter(|f| f.starts_with("socket:")).count() <= 2);
    let limits = String::from_utf8(read("limits")).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        let soft = line.unwrap().split_whitespace().next().unwrap();
        soft.parse::<u64>().ok()
    };
    assert_eq!(limit("Max file size"), Some(0));
    assert_eq!(limit("Max core file size"), Some(0));
    assert!(limit("Max open files").is_some_and(|n| n <= 64));
    assert!(limit("Max data size").is_some());
    assert!(limit("Max cpu time").is_some());
}

#[test]
fn files_that_a_parent_left_open_are_closed() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    let mut shell = Command::new("sh");
    // Descriptor 7 is inherited by the shell's program.
    shell.args(["-c", "exec 7<\"$1\"; shift; exec \"$@\"", "sh"]);
    shell.arg(secret.path()).arg(env!("CARGO_BIN_EXE_vggt"));
    let mut worker = Worker::spawned(shell);
    worker.send(
        &serde_json::json!({"memory": 1 << 28, "cpu_s": 10, "threads": 1}),
        None,
    );
    assert!(worker.reply().unwrap()["Hello"].is_object());
    let folder = format!("/proc/{}/fd", worker.child.id());
    for file in fs::read_dir(folder).unwrap().flatten() {
        let target = fs::read_link(file.path()).unwrap_or_default();
        assert_ne!(target, secret.path());
    }
}

#[test]
fn a_request_that_makes_no_sense_ends_the_process() {
    for bytes in [
        &b"\xff\xff\xff\xff"[..],
        b"\x02\0\0\0{}",
        b"\x01\0\0\0{",
        b"\x05\0",
    ] {
        let mut worker = Worker::start(1 << 28, 10);
        assert!(worker.reply().unwrap()["Hello"].is_object());
        worker.stream.write_all(bytes).unwrap();
        worker.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let status = worker.ended();
        assert!(status.signal().is_none() && !status.success(), "{status:?}");
    }
    // And the end of the stream, too, in peace.
    let mut worker = Worker::start(1 << 28, 10);
    assert!(worker.reply().unwrap()["Hello"].is_object());
    worker.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(worker.ended().success());
}

#[test]
fn the_command_is_refused_where_nobody_hands_it_files() {
    let output = Command::new(env!("CARGO_BIN_EXE_vggt"))
        .arg("decode-worker")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("for vggt itself"), "{err}");
    let help = Command::new(env!("CARGO_BIN_EXE_vggt"))
        .arg("--help")
        .output();
    let help = String::from_utf8(help.unwrap().stdout).unwrap();
    assert!(!help.contains("decode-worker"), "{help}");
}

/// Copies the program and the libraries that it asks for into a folder.
fn root_with_program(root: &Path) -> bool {
    let program = Path::new(env!("CARGO_BIN_EXE_vggt"));
    let Ok(output) = Command::new("ldd").arg(program).output() else {
        return false;
    };
    fs::copy(program, root.join("vggt")).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for path in text.split_whitespace().filter(|word| word.starts_with('/')) {
        let to = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(path, to).unwrap();
    }
    true
}

#[test]
fn an_empty_root_without_proc_is_enough() {
    let root = tempfile::tempdir().unwrap();
    if !is_root() || !root_with_program(root.path()) {
        eprintln!("skipped: needs root, and ldd");
        return;
    }
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let png = fs::read(&super::files_of("formats")[13]).unwrap();
    fs::write(root.path().join("a.png"), &png).unwrap();
    let chroot = |args: &[&str]| {
        let mut command = Command::new("chroot");
        command.arg(root.path()).arg("/vggt").args(args).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    };
    let args = ["export", "--demo", "--isolate", "/a.png", "--out", "/a.glb"];
    let output = chroot(&args).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}");
    assert!(root.path().join("a.glb").is_file());
    // The service as well, which tries the program at its start.
    let serve = ["serve", "--demo", "--host", "127.0.0.1", "--port", "0"];
    let mut service = chroot(&serve)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 20];
    let read = service.stdout.as_mut().unwrap().read(&mut line);
    service.kill().unwrap();
    let output = service.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(read.is_ok_and(|n| n > 0), "{err}");
}

#[test]
fn a_program_that_cannot_be_started_again_is_told_at_the_start() {
    let root = tempfile::tempdir().unwrap();
    if !is_root() || !root_with_program(root.path()) {
        eprintln!("skipped: needs root, and ldd");
        return;
    }
    // Without /proc, a program that was started through the dynamic linker does not know its own file.
    let copy = root.path().join("vggt");
    let loader = fs::read_dir(root.path().join("lib64"))
        .ok()
        .and_then(|mut entries| Some(entries.next()?.ok()?.file_name()));
    let Some(loader) = loader else {
        eprintln!("skipped: no dynamic linker in /lib64");
        return;
    };
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();
    let loader = format!("/lib64/{}", loader.to_str().unwrap());
    let mut command = Command::new("chroot");
    command
        .arg(root.path())
        .args([&loader, "/vggt", "serve", "--demo", "--host", "127.0.0.1"])
        .args(["--port", "0"])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let output = command.output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        err.contains("process of their own") && err.contains("--no-isolate"),
        "{err}"
    );
}

/// A control group of version 1 with this limit on memory, removed when dropped.
struct Group(std::path::PathBuf);

impl Group {
    fn new(mib: u64) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own
            .lines()
            .find_map(|line| line.split_once(":memory:"))?
            .1
            .to_owned();
        let top = Path::new("/sys/fs/cgroup/memory");
        let own = top.join(own.trim_start_matches('/'));
        let own = if own.is_dir() { own } else { top.to_owned() };
        let group = own.join(format!("vggt-test-{}", std::process::id()));
        fs::create_dir(&group).ok()?;
        let group = Self(group);
        let limit = (mib << 20).to_string();
        fs::write(group.0.join("memory.limit_in_bytes"), limit).ok()?;
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its processes have ended, and are counted a moment longer.
        for _ in 0..200 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

#[test]
fn what_fits_into_a_control_group_of_version_1_is_taken_and_nothing_is_killed() {
    let Some(group) = Group::new(300) else {
        eprintln!("skipped: no control groups of version 1 that could be made");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut random = 1_u32;
    for i in 0..300 {
        let image = image::RgbImage::from_fn(112, 112, |_, _| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            image::Rgb([(random >> 24) as u8; 3])
        });
        image.save(dir.path().join(format!("{i}.png"))).unwrap();
    }
    let script = "echo $$ > \"$1/cgroup.procs\"; shift; exec \"$@\"";
    for (more, thinned) in [
        (&["--isolate"][..], false),
        (&[], false),
        (&["--attention", "dense"], true),
    ] {
        let mut command = Command::new("sh");
        command.env("XDG_CACHE_HOME", NO_CACHE);
        command.args(["-c", script, "sh"]).arg(&group.0);
        command.arg(env!("CARGO_BIN_EXE_vggt"));
        command.args(["export", "--demo", ".", "--out", "all.glb", "--overwrite"]);
        let output = command.args(more).current_dir(dir.path()).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{:?}: {err}", output.status);
        // All of them attend to anchors; of those that attend to each other only some fit.
        assert_eq!(err.contains("of 300 frames"), thinned, "{more:?}: {err}");
    }
}
