//! Options of the service and the client from a file and from the environment.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
};

use tempfile::TempDir;

use crate::support::{command, database::only_for_sqlite, run};

/// Runs a call with variables, and returns its exit code and what it said.
fn call(dir: &Path, variables: &[(&str, &str)], args: &[&str]) -> (Option<i32>, String) {
    let mut call = command(dir);
    let output = call
        .args(args)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    (output.status.code(), said)
}

/// Where a client that is refused wanted to connect to.
fn target(dir: &Path, variables: &[(&str, &str)], args: &[&str]) -> String {
    let all = [&["client", "info"], args].concat();
    let (code, said) = call(dir, variables, &all);
    assert_eq!(code, Some(1), "{said}");
    let address = said
        .split_whitespace()
        .find(|word| word.contains("127.0.0."));
    let address = address.unwrap_or_else(|| panic!("{said}"));
    address.trim_matches(['"', ':', ';', ',']).to_owned()
}

#[test]
fn options_count_before_variables_and_these_before_the_file() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    let file = "[client]\nhost = \"127.0.0.7\"\nport = 7\n";
    fs::write(here.join("my.toml"), file).unwrap();
    let named = ["--config-file", "my.toml"];
    assert_eq!(target(here, &[], &named), "127.0.0.7:7");
    let by_variable = [("VGGT_CONFIG_FILE", "my.toml")];
    assert_eq!(target(here, &by_variable, &[]), "127.0.0.7:7");
    let variables = [("VGGT_HOST", "127.0.0.6"), ("VGGT_PORT", "")];
    assert_eq!(target(here, &variables, &named), "127.0.0.6:7");
    let args = [&named[..], &["--host", "127.0.0.5", "--port=5"]].concat();
    assert_eq!(target(here, &variables, &args), "127.0.0.5:5");
    assert_eq!(target(here, &[("VGGT_PORT", "6")], &[]), "127.0.0.1:6");
    // Without being named, no file of this folder sends the client somewhere.
    fs::rename(here.join("my.toml"), here.join("vggt.toml")).unwrap();
    assert_eq!(target(here, &[("VGGT_PORT", "6")], &[]), "127.0.0.1:6");
}

#[test]
fn the_service_takes_its_file_beside_its_database() {
    only_for_sqlite!();
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    fs::create_dir(here.join("data")).unwrap();
    let file = "[serve]\nport = 0\nhost = \"127.0.0.1\"\nout_root = \"data/out\"\ndemo = true\nmax-user-files = 3\n";
    fs::write(here.join("data/vggt.toml"), file).unwrap();
    let mut service = command(here)
        .args(["serve", "--db", "data/vggt.db"])
        .env("VGGT_OPEN_GET", "yes")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(service.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    assert!(
        line.starts_with("Manager TCP Server running on port "),
        "{line}"
    );
    assert_ne!(line.trim(), "Manager TCP Server running on port 12345");
    let _ = service.kill();
    service.wait().unwrap();
    assert!(here.join("data/out").is_dir());
    // The commands for operators find the same.
    fs::write(here.join("vggt.toml"), "[serve]\ndb = \"data/vggt.db\"\n").unwrap();
    let args = ["user", "add", "ann", "a password of hers"];
    run(here, &args);
    assert!(!here.join("vggt_app.db").exists());
    let list = command(here)
        .args(["user", "list"])
        .env("VGGT_DB", "data/vggt.db")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&list.stdout).contains("ann"));
}

#[test]
fn what_no_option_takes_is_an_error_that_names_key_and_file() {
    only_for_sqlite!();
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("vggt.toml");
    for (file, part) in [
        ("[serve]\nprot = 1\n", "unknown key \"prot\""),
        ("[serve]\nport = \"many\"\n", "invalid value of \"port\""),
        ("[serve]\nport = 70000\n", "invalid value of \"port\""),
        ("[serve]\npreload = 1\n", "invalid value of \"preload\""),
        ("[serve]\nport = 1979-05-27\n", "invalid value of \"port\""),
        ("[serve]\nhelp = true\n", "unknown key \"help\""),
        ("[client]\npassword = \"x\"\n", "passwords come from"),
        ("[client]\nprot = 1\n", "unknown key \"prot\""),
        ("[server]\nport = 1\n", "unknown key \"server\""),
        ("port = 1\n", "unknown key \"port\""),
        ("[serve\n", "line 1"),
        ("[serve]\nport = 1\nport = 2\n", "line 3"),
    ] {
        fs::write(&path, file).unwrap();
        for name in ["serve", "user"] {
            let args: &[&str] = if name == "user" {
                &["user", "list"]
            } else {
                &["serve"]
            };
            let (code, said) = call(dir.path(), &[], args);
            assert_eq!(code, Some(2), "{file}: {said}");
            assert!(
                said.contains(part) && said.contains("vggt.toml"),
                "{file}: {said}"
            );
            assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        }
    }
    let (code, said) = call(dir.path(), &[], &["serve", "--config-file", "none.toml"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("none.toml"), "{said}");
    let (code, said) = call(dir.path(), &[("VGGT_PORT", "many")], &["client", "info"]);
    assert_eq!(code, Some(2), "{said}");
    // Other commands do not read it.
    run(dir.path(), &["version"]);
}
