//! The store from the command line: `vggt user`, `vggt check`, `vggt export --save_to_db`.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use vggt::store::Store;

use crate::support::{
    command,
    database::only_for_sqlite,
    fail,
    files::{out_of, stored_at},
    run,
    store::{GLB, House, OLD_HASH, house, python_house, save, settings},
    summary,
};

#[test]
fn users_are_added_as_the_older_script_took_them() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    assert!(run(here, &["user", "add", "alice", "geheim"]).contains("id 1"));
    assert!(run(here, &["user", "add", "bob", "p", "YES"]).contains("VIP"));
    run(here, &["user", "add", "carol", "p", "false"]);
    let e = fail(here, 1, &["user", "add", "alice", "p"]);
    assert!(e.contains("the user name \"alice\" is taken"), "{e}");
    fail(here, 1, &["user", "add", "", "p"]);
    fail(here, 1, &["user", "add", &"x".repeat(65), "p"]);
    fail(here, 1, &["user", "add", "dora", ""]);
    fail(here, 2, &["user", "add", "dora", "p", "perhaps"]);
    let store = Store::open(&settings(here)).unwrap();
    let vips: Vec<_> = store.users().unwrap().iter().map(|u| u.is_vip).collect();
    assert_eq!(vips, [false, true, false]);
    assert!(store.login("alice", "geheim").unwrap().is_some());
}

#[test]
fn users_are_shown_and_changed_from_the_command_line() {
    only_for_sqlite!();
    let House { dir, store } = python_house();
    let here = dir.path();
    let list = run(here, &["user", "list"]);
    assert_eq!(list.lines().count(), 6, "{list}");
    assert!(list.contains("plain") && !list.contains("geheim"), "{list}");
    run(here, &["user", "vip", "carol", "--until", "2999-01-01"]);
    run(here, &["user", "vip", "alice", "off"]);
    run(here, &["user", "disable", "alice"]);
    run(here, &["user", "enable", "bob"]);
    run(here, &["user", "passwd", "bob", "new"]);
    assert!(run(here, &["user", "rehash"]).contains("hashed 4"));
    let users = store.users().unwrap();
    assert!(!users[0].is_vip && !users[0].active && users[1].active && users[2].is_vip);
    assert!(store.login("bob", "new").unwrap().is_some());
    let e = fail(here, 1, &["user", "remove", "alice"]);
    assert!(e.contains("--yes"), "{e}");
    run(here, &["user", "remove", "alice", "--yes"]);
    assert_eq!(store.find_glb(OLD_HASH).unwrap(), None);
    let e = fail(here, 1, &["user", "vip", "nobody"]);
    assert!(e.contains("there is no user \"nobody\""), "{e}");
    fail(here, 2, &["user", "vip", "bob", "--until", "soon"]);
    fail(
        here,
        2,
        &["user", "vip", "bob", "off", "--until", "2999-01-01"],
    );
    // A misspelt path makes no database.
    let e = fail(here, 1, &["user", "list", "--db", "other.db"]);
    assert!(
        e.contains("other.db") && !here.join("other.db").exists(),
        "{e}"
    );
}

#[test]
fn a_password_comes_from_standard_input_or_a_terminal_and_from_nowhere_else() {
    let dir = TempDir::new().unwrap();
    let with_input = |args: &[&str], input: &str| {
        let mut child = command(dir.path())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        assert!(child.wait_with_output().unwrap().status.success());
    };
    with_input(
        &["user", "add", "alice", "--password-stdin", "--vip"],
        "ge heim\r\n",
    );
    let store = Store::open(&settings(dir.path())).unwrap();
    assert!(store.login("alice", "ge heim").unwrap().unwrap().is_vip);
    with_input(&["user", "passwd", "alice", "--password_stdin"], "other");
    assert!(store.login("alice", "other").unwrap().is_some());
    fail(
        dir.path(),
        2,
        &["user", "add", "bob", "p", "--password-stdin"],
    );
}

/// Waits until the terminal that `script` made shows no more what is typed.
#[cfg(target_os = "linux")]
fn wait_for_silence(dir: &Path) {
    let start = Instant::now();
    loop {
        let tty = fs::read_to_string(dir.join("tty")).unwrap();
        let stty = Command::new("stty").args(["-F", tty.trim(), "-a"]).output();
        if String::from_utf8(stty.unwrap().stdout)
            .unwrap()
            .contains("-echo ")
        {
            return;
        }
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "the terminal echoes"
        );
        thread::yield_now();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_password_typed_at_a_terminal_is_not_shown() {
    only_for_sqlite!();
    let dir = TempDir::new().unwrap();
    let inner = format!(
        "tty > tty; exec {} user add alice",
        env!("CARGO_BIN_EXE_vggt")
    );
    let mut child = Command::new("script")
        .args(["-qec", &inner, "/dev/null"])
        .current_dir(dir.path())
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = Vec::new();
    for prompt in ["Password: ", "Again: "] {
        while !shown.ends_with(prompt.as_bytes()) {
            let mut byte = [0];
            output.read_exact(&mut byte).unwrap();
            shown.push(byte[0]);
        }
        wait_for_silence(dir.path());
        input.write_all(b"geheim\n").unwrap();
    }
    output.read_to_end(&mut shown).unwrap();
    let shown = String::from_utf8(shown).unwrap();
    assert!(child.wait().unwrap().success(), "{shown}");
    assert!(
        !shown.contains("geheim") && shown.contains("added user alice"),
        "{shown}"
    );
    let store = Store::open(&settings(dir.path())).unwrap();
    assert!(store.login("alice", "geheim").unwrap().is_some());
}

#[test]
fn check_says_what_is_wrong_and_repairs_on_request() {
    only_for_sqlite!();
    let House { dir, store } = python_house();
    let here = dir.path();
    assert!(run(here, &["check"]).contains("1 row, 1 file: nothing is wrong"));
    let lost = save(&store, 1);
    fs::remove_file(stored_at(&store, &lost)).unwrap();
    let orphan = out_of(here)
        .join("2025-03-04")
        .join(format!("{}.glb", "c".repeat(64)));
    fs::write(&orphan, GLB).unwrap();
    let e = fail(here, 1, &["check"]);
    assert!(e.contains("--repair") && orphan.exists(), "{e}");
    // Rows are only removed when that is said.
    let e = fail(here, 1, &["check", "--repair"]);
    assert!(
        e.contains("1 row would be removed") && e.contains("--yes"),
        "{e}"
    );
    assert!(store.find_glb(&lost.hashed_name).unwrap().is_some());
    fs::write(&orphan, GLB).unwrap();
    let said = run(here, &["check", "--repair", "--yes"]);
    assert!(
        said.contains(&lost.hashed_name) && said.contains("2 wrong, repaired"),
        "{said}"
    );
    run(here, &["check"]);
    let e = fail(here, 1, &["check", "--db", "other.db", "--repair"]);
    assert!(e.contains("other.db"), "{e}");
}

#[test]
fn export_stores_as_the_service_does() {
    let House { dir, store } = house();
    let here = dir.path();
    let to_db = ["--demo", "--save_to_db", "--user_id", "1"];
    let named = [&to_db[..], &["--original_name", "demo.glb"]].concat();
    let said = summary(here, &named);
    let rows = store.list_glbs(1).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (rows[0].original_name.as_str(), rows[0].is_public),
        ("demo.glb", false)
    );
    assert_eq!(said["hash"], rows[0].hashed_name);
    assert_eq!(said["bytes"], rows[0].file_size);
    let stored = said["stored"].as_str().unwrap();
    let path = match stored.starts_with("s3://out/") {
        true => stored_at(&store, &rows[0]),
        false => here.join(stored),
    };
    let bytes = fs::read(path).unwrap();
    assert_eq!(&bytes[..4], b"glTF");
    assert_eq!(bytes.len() as u64, rows[0].file_size);
    assert!(!here.join("scene.glb").exists());
    assert_eq!(store.check(false).unwrap().problems(), 0);
    for (code, args, expected) in [
        (
            1,
            &["--demo", "--save_to_db", "--user_id", "9"][..],
            "no user with the id 9",
        ),
        (2, &["--demo", "--save_to_db"][..], "--user-id"),
        (2, &["--demo", "--user_id", "1"][..], "--save-to-db"),
        (
            2,
            &[
                "--demo",
                "--save_to_db",
                "--user_id",
                "1",
                "--format",
                "ply",
            ][..],
            "ply",
        ),
        (
            1,
            &["--demo", "--save_to_db", "--user_id", "1", "--db", "no.db"][..],
            "no.db",
        ),
    ] {
        let e = fail(here, code, &[&["export"], args].concat());
        assert!(e.contains(expected), "{e}");
    }
}
