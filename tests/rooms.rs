//! The arrows between the rooms of `src/`: who may name whom.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

/// Room, and the rooms it may name. Top of the house first.
const ARROWS: &[(&str, &[&str])] = &[
    (
        "cli",
        &[
            "server",
            "jobs",
            "pipeline",
            "frames",
            "scene",
            "glb",
            "html",
            "ply",
            "colmap",
            "hub",
            "monitor",
            "client",
            "protocol",
            "store",
            "resolver",
            "atomic_file",
        ],
    ),
    ("server", &["protocol", "jobs", "store"]),
    ("jobs", &["pipeline", "store"]),
    (
        "pipeline",
        &[
            "frames",
            "scene",
            "glb",
            "html",
            "ply",
            "colmap",
            "atomic_file",
        ],
    ),
    ("frames", &[]),
    ("glb", &["scene"]),
    ("html", &[]),
    ("ply", &["scene"]),
    ("colmap", &["scene"]),
    ("scene", &[]),
    ("client", &["protocol", "resolver"]),
    ("protocol", &[]),
    ("hub", &["resolver"]),
    ("monitor", &[]),
    ("store", &["atomic_file"]),
    ("resolver", &[]),
    ("atomic_file", &[]),
];

fn places() -> HashMap<&'static str, usize> {
    ARROWS
        .iter()
        .enumerate()
        .map(|(i, (room, _))| (*room, i))
        .collect()
}

fn rust_files(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            rust_files(&entry.unwrap().path(), found);
        }
    } else if path.extension().is_some_and(|e| e == "rs") {
        found.push(path.to_path_buf());
    }
}

/// The name after each `crate::`, and each first name inside `crate::{a, b::c}`.
fn names_after_crate(text: &str) -> Vec<&str> {
    let ident = |s: &str| {
        s.find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(s.len())
    };
    let mut names = Vec::new();
    for rest in text.split("crate::").skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            names.push(&rest[..ident(rest)]);
            continue;
        };
        let (mut depth, mut start) = (0, 0);
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    let one = group[start..i].trim_start();
                    names.push(&one[..ident(one)]);
                    start = i + 1;
                    if c == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    names
}

#[test]
fn every_arrow_is_on_the_map() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let places = places();
    let mut wrong = Vec::new();
    for (room, may_name) in ARROWS {
        let mut files = Vec::new();
        rust_files(&src.join(room), &mut files);
        rust_files(&src.join(format!("{room}.rs")), &mut files);
        for path in files.iter().filter(|p| p.exists()) {
            let text = fs::read_to_string(path).unwrap();
            for other in names_after_crate(&text) {
                if places.contains_key(other) && other != *room && !may_name.contains(&other) {
                    wrong.push(format!("{}: {room} -> {other}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "not on the map:\n{}", wrong.join("\n"));
}

#[test]
fn the_map_has_no_cycle_and_misses_no_room() {
    let places = places();
    for (room, may_name) in ARROWS {
        for other in *may_name {
            assert!(
                places[other] > places[room],
                "{room} -> {other} points up the house"
            );
        }
    }
    for line in include_str!("../src/lib.rs").lines() {
        if let Some(room) = line.strip_prefix("pub mod ") {
            let room = room.trim_end_matches(';');
            assert!(places.contains_key(room), "{room} is not on the map");
        }
    }
}
