//! How commands end: by Ctrl-C, SIGTERM, and with their terminal; and not where signals were ignored at the start.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Read, Write, pipe},
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};

use crate::{
    spool::photos,
    support::{command, files, mkfifo},
};

/// The longest wait for a process: a machine busy with other tests is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// More than any of these tests takes: who is still there goes on.
const LONG: Duration = Duration::from_millis(300);

/// Both ends of a pseudo-terminal.
fn terminal() -> (OwnedFd, File) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let outer = openpt(flags).unwrap();
    grantpt(&outer).unwrap();
    unlockpt(&outer).unwrap();
    let name = ptsname(&outer, Vec::new()).unwrap();
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOCTTY);
    let inner = options.open(name.to_str().unwrap()).unwrap();
    (outer, inner)
}

/// Starts the program behind `words` in a terminal of its own, as the leader of its session.
fn start_in(terminal: &File, dir: &Path, words: &[&str], args: &[&str]) -> Child {
    let program = command(dir);
    let mut call = Command::new("setsid");
    call.arg("--ctty").args(words).arg(program.get_program());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => call.env(name, value),
            None => call.env_remove(name),
        };
    }
    let end = || Stdio::from(terminal.try_clone().unwrap());
    call.args(args).current_dir(dir);
    call.stdin(end()).stdout(end()).stderr(end());
    call.spawn().unwrap()
}

/// An export that runs until somebody ends it: its output is a pipe that nobody reads.
fn endless() -> (tempfile::TempDir, [&'static str; 5]) {
    let dir = photos(1);
    mkfifo(&dir.path().join("x.glb"));
    (dir, ["export", "--demo", "in", "--out", "x.glb"])
}

/// A benchmark that runs for hours: the network is at work.
const BENCH: [&str; 6] = ["bench", "--demo", "--frames", "4", "--repeat", "10000"];

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_child(child);
    kill_process(pid, signal).unwrap();
}

fn ended(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    panic!("still running");
}

/// Waits until the program handles its signals: bits of SigCgt, or is there and ignores SIGHUP.
fn wait_until_ready(child: &Child) {
    let path = format!("/proc/{}/status", child.id());
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let status = fs::read_to_string(&path).unwrap_or_default();
        let caught = status.lines().find_map(|l| l.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
        // Bit 14 is SIGTERM.
        if caught.is_some_and(|set| set >> 14 & 1 == 1) {
            return;
        }
        thread::sleep(Duration::from_millis(2));
    }
    panic!("it handles no signals");
}

#[test]
fn a_closed_terminal_ends_the_program() {
    for args in [&BENCH[..], &endless().1] {
        let (dir, _) = endless();
        let (outer, inner) = terminal();
        let mut child = start_in(&inner, dir.path(), &[], args);
        drop(inner);
        wait_until_ready(&child);
        drop(outer);
        assert_eq!(ended(&mut child).code(), Some(130), "{args:?}");
    }
}

#[test]
fn a_terminal_that_closed_before_leaves_sigterm_and_ctrl_c_their_effect() {
    for signal in [Signal::TERM, Signal::INT] {
        let (dir, args) = endless();
        let (outer, inner) = terminal();
        // As under nohup, but with standard error in the terminal.
        let words = ["env", "--ignore-signal=HUP"];
        let mut child = start_in(&inner, dir.path(), &words, &args);
        drop(inner);
        wait_until_ready(&child);
        drop(outer);
        thread::sleep(LONG);
        assert!(
            child.try_wait().unwrap().is_none(),
            "SIGHUP was ignored at the start"
        );
        send(&child, signal);
        assert_eq!(ended(&mut child).code(), Some(130));
        assert_eq!(files(dir.path()), ["in", "x.glb"]);
    }
}

#[test]
fn what_nohup_started_outlives_its_terminal_and_finishes() {
    let (dir, args) = endless();
    let (outer, inner) = terminal();
    let mut child = start_in(&inner, dir.path(), &["nohup"], &args);
    drop(inner);
    wait_until_ready(&child);
    send(&child, Signal::HUP);
    drop(outer);
    thread::sleep(LONG);
    assert!(child.try_wait().unwrap().is_none());
    // Somebody reads the result at last.
    let glb = fs::read(dir.path().join("x.glb")).unwrap();
    assert!(glb.starts_with(b"glTF"));
    assert!(ended(&mut child).success());
}

#[test]
fn ctrl_c_that_is_ignored_at_the_start_stays_ignored() {
    let (dir, args) = endless();
    let mut call = Command::new("env");
    let program = command(dir.path());
    call.arg("--ignore-signal=INT").arg(program.get_program());
    call.args(args).current_dir(dir.path());
    call.env("XDG_CACHE_HOME", crate::support::NO_CACHE);
    let mut child = call.stderr(Stdio::null()).spawn().unwrap();
    wait_until_ready(&child);
    send(&child, Signal::INT);
    thread::sleep(LONG);
    assert!(child.try_wait().unwrap().is_none());
    send(&child, Signal::TERM);
    assert_eq!(ended(&mut child).code(), Some(130));
}

#[test]
fn a_standard_error_that_takes_nothing_holds_up_no_end() {
    let (dir, args) = endless();
    // Full, and read by nobody.
    let (unread, full) = pipe().unwrap();
    let mut filler = full.try_clone().unwrap();
    let filled = thread::spawn(move || while filler.write_all(&[b'x'; 4096]).is_ok() {});
    let log = OpenOptions::new().write(true).open("/dev/full").unwrap();
    for stderr in [Stdio::from(full), Stdio::from(log)] {
        // The program waits for its first line to be written, or is done with that.
        let mut child = command(dir.path())
            .args(args)
            .stderr(stderr)
            .spawn()
            .unwrap();
        wait_until_ready(&child);
        send(&child, Signal::INT);
        let status = ended(&mut child);
        assert_eq!((status.code(), status.signal()), (Some(130), None));
    }
    drop(unread);
    filled.join().unwrap();
}

#[test]
fn a_second_ctrl_c_ends_at_once_what_holds_up_the_first() {
    let dir = photos(1);
    // The monitor hands over what it measured to a pipe that nobody reads.
    let (unread, full) = pipe().unwrap();
    let mut filler = full.try_clone().unwrap();
    let filled = thread::spawn(move || while filler.write_all(&[b'x'; 4096]).is_ok() {});
    let mut child = command(dir.path())
        .args(["monitor", "--seconds", "1000"])
        .stdout(Stdio::from(full))
        .spawn()
        .unwrap();
    wait_until_ready(&child);
    thread::sleep(LONG);
    send(&child, Signal::INT);
    thread::sleep(LONG);
    assert!(child.try_wait().unwrap().is_none());
    send(&child, Signal::INT);
    assert_eq!(ended(&mut child).code(), Some(130));
    drop(unread);
    filled.join().unwrap();
}

#[test]
fn ctrl_c_in_a_terminal_says_so_in_one_line() {
    let (dir, args) = endless();
    let (outer, inner) = terminal();
    let mut child = start_in(&inner, dir.path(), &[], &args);
    drop(inner);
    wait_until_ready(&child);
    let mut keyboard = File::from(outer.try_clone().unwrap());
    keyboard.write_all(b"\x03").unwrap();
    assert_eq!(ended(&mut child).code(), Some(130));
    let mut shown = String::new();
    // At its end a terminal fails to be read.
    let mut screen = BufReader::new(File::from(outer));
    let mut line = String::new();
    while screen.read_line(&mut line).is_ok_and(|n| n > 0) {
        shown.push_str(&line);
        line.clear();
    }
    assert!(shown.trim_end().ends_with("interrupted"), "{shown}");
    assert!(!shown.contains("panicked"), "{shown}");
    let _ = screen.read(&mut [0]);
}
