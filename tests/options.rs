//! Every option is a flag and a row of the protocol's table: adding one without them fails here.

use serde_json::Value;
use vggt::{jobs::JobOptions, scene::SceneOptions};

use crate::support::command;

fn names(options: Value) -> Vec<String> {
    options.as_object().unwrap().keys().cloned().collect()
}

/// The flag of an option.
fn flag(option: &str) -> String {
    match option {
        // The older name of the flag; `--format` of `vggt export` chooses between GLB and other files.
        "format" => "--glb".to_owned(),
        name => format!("--{}", name.replace('_', "-")),
    }
}

fn help(args: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let output = command(dir.path())
        .args(args)
        .arg("--help")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_option_of_a_scene_is_a_flag_of_export() {
    let help = help(&["export"]);
    for name in names(serde_json::to_value(SceneOptions::default()).unwrap()) {
        let flag = flag(&name);
        assert!(help.split_whitespace().any(|word| word == flag), "{flag}");
    }
}

#[test]
fn every_option_of_a_job_is_a_flag_of_the_client_and_a_row_of_the_protocol() {
    let table = include_str!("../src/protocol/README.md");
    for command in ["images", "video", "submit"] {
        let help = help(&["client", command]);
        for name in names(serde_json::to_value(JobOptions::default()).unwrap()) {
            let flag = flag(&name);
            let mut words = help.split_whitespace();
            assert!(words.any(|word| word == flag), "{command}: {flag}");
            let row = |line: &str| line.starts_with("| `") && line.contains(&format!("`{name}`"));
            assert!(table.lines().any(row), "{name}");
        }
    }
}
