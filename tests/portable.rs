//! Other systems: only the modules that are about a system call it, and none of them is compiled where it is absent.
//!
//! On Linux the crates that call a Unix system are there with the feature `portable` too, so that the compiler does not notice
//! what the plain path names; this does.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What a system other than Unix does not have.
const NAMES: [&str; 10] = [
    "rustix",
    "libc::",
    "os::unix",
    "os::fd",
    "landlock::",
    "seccompiler",
    "signal_hook",
    "signal::unix",
    "UnixStream",
    "UnixListener",
];

/// Conditions on the target that the feature `portable` cannot change.
const CONDITIONS: [&str; 4] = ["(unix)", "(unix,", "target_os", "target_family"];

/// Modules about a system, and the file that declares each under a condition.
const ABOUT_A_SYSTEM: [(&str, &str); 6] = [
    ("src/system/unix/", "src/system/mod.rs"),
    (
        "src/decoder/sandbox/filter.rs",
        "src/decoder/sandbox/mod.rs",
    ),
    (
        "src/decoder/sandbox/landlock.rs",
        "src/decoder/sandbox/mod.rs",
    ),
    (
        "src/decoder/sandbox/limits.rs",
        "src/decoder/sandbox/mod.rs",
    ),
    (
        "src/decoder/sandbox/system.rs",
        "src/decoder/sandbox/mod.rs",
    ),
    ("model/src/cuda/lazy.rs", "model/src/cuda/mod.rs"),
];

/// Files in which single items are under a condition.
const WITH_ITEMS: [&str; 3] = [
    "src/decoder/sandbox/mod.rs",
    "src/allocator.rs",
    "model/src/weights/guard.rs",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file without comments and tests, which run on Linux alone.
fn code(text: &str) -> String {
    let tests = [
        "#[cfg(test)]\nmod tests",
        "#[cfg(all(test, unix))]\nmod tests",
    ];
    let end = tests.iter().filter_map(|tests| text.find(tests)).min();
    let lines = text[..end.unwrap_or(text.len())].lines();
    let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// The items of a file's code, with what lies in them.
fn items(code: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    for line in code.lines() {
        if let Some(item) = items.last_mut() {
            *item += line;
        }
        if line == "}" || (!line.starts_with(' ') && line.ends_with(';')) {
            items.push(String::new());
        }
    }
    items
}

/// What `code` names of a system, or asks of the target itself.
fn named(code: &str) -> Vec<&'static str> {
    let names = NAMES.iter().filter(|name| code.contains(**name));
    let conditions = CONDITIONS.iter().filter(|name| code.contains(**name));
    names.chain(conditions).copied().collect()
}

#[test]
fn only_modules_about_a_system_call_it() {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    rust_files(&root().join("model/src"), &mut files);
    assert!(files.len() > 100, "{files:?}");
    let mut wrong = Vec::new();
    for path in files {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
        let about = ABOUT_A_SYSTEM.iter().any(|(of, _)| name.starts_with(of));
        if about || name.ends_with("/tests.rs") {
            continue;
        }
        let mut items = items(&code(&fs::read_to_string(&path).unwrap()));
        if WITH_ITEMS.contains(&name) {
            items.retain(|item| !item.contains("_calls"));
        }
        let found = named(&items.concat());
        if !found.is_empty() {
            wrong.push(format!("{name}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "use src/system:\n{}", wrong.join("\n"));
}

#[test]
fn modules_about_a_system_are_compiled_under_a_condition() {
    for (of, declared_in) in ABOUT_A_SYSTEM {
        let text = code(&fs::read_to_string(root().join(declared_in)).unwrap());
        let module = of.trim_end_matches('/').trim_end_matches(".rs");
        let module = module.rsplit('/').next().unwrap();
        let (before, _) = text.split_once(&format!("mod {module};")).unwrap();
        let condition = &before[before.rfind("#[cfg").unwrap()..];
        let is_its = condition.trim_end().ends_with(']') && !condition.contains(';');
        assert!(is_its && condition.contains("_calls"), "{of}: {condition}");
    }
}

#[test]
fn crates_of_a_system_are_dependencies_on_that_system_alone() {
    for manifest in ["Cargo.toml", "model/Cargo.toml"] {
        let text = fs::read_to_string(root().join(manifest)).unwrap();
        let mut section = "";
        for line in text.lines() {
            if line.starts_with('[') {
                section = line;
            }
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            let of_a_system = ["rustix", "libc", "landlock", "seccompiler", "signal-hook"];
            if of_a_system.contains(&name) && section != "[workspace.dependencies]" {
                assert!(
                    section.starts_with("[target."),
                    "{manifest}: {line} in {section}"
                );
            }
        }
    }
}
