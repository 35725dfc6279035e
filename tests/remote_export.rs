//! `vggt export --server`: a running service reconstructs, the files are written here.

use std::{
    fs,
    process::{Command, Output},
};

use serde_json::Value;

use crate::{
    spool::photos,
    support::{
        command, files,
        files::stored_at,
        service::{PASSWORD, Service, assert_glb},
    },
};

fn export(service: &Service, args: &[&str]) -> Command {
    let mut export = command(service.dir.path());
    let server = format!("127.0.0.1:{}", service.address.port());
    export
        .env("VGGT_PASSWORD", PASSWORD)
        .env("VGGT_USER", "ann")
        .args(["export", "--server", &server])
        .args(args);
    export
}

fn texts(output: Output) -> (Option<i32>, String, String) {
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code(), out, err)
}

#[test]
fn a_server_reconstructs_and_the_files_are_those_of_its_glb() {
    let service = Service::start(&[]);
    let here = service.dir.path();
    let input = photos(3);
    let input = input.path().join("in");
    let input = input.to_str().unwrap();
    let args = [
        input,
        "--out",
        "x.glb",
        "--out",
        "x.html",
        "--quality",
        "best",
        "--refine",
        "--json",
    ];
    let (code, out, err) = texts(export(&service, &args).output().unwrap());
    assert_eq!(code, Some(0), "{err}");
    let summary: Value = serde_json::from_str(&out).unwrap();
    let glb = fs::read(here.join("x.glb")).unwrap();
    assert_glb(&glb);
    assert_eq!(summary["bytes"], glb.len());
    assert_eq!(summary["outputs"][1]["format"], "html");
    assert!(err.contains("job 1: "), "{err}");
    // As the client fetches it.
    let hash = summary["hash"].as_str().unwrap();
    let store = service.store();
    let row = store.find_glb(hash).unwrap().unwrap();
    let stored = fs::read(stored_at(&store, &row)).unwrap();
    assert!(glb == stored);
    let extras = String::from_utf8_lossy(&glb).into_owned();
    for option in ["\"conf_thres\":25.0", "\"refine\":true"] {
        assert!(extras.contains(option), "{option}: {extras:.2000}");
    }
    let page = fs::read_to_string(here.join("x.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.len() > glb.len());
}

#[test]
fn scenes_are_sent_one_after_the_other() {
    let service = Service::start(&[]);
    let input = photos(2);
    let all = format!("{}/*", input.path().display());
    fs::create_dir(input.path().join("bad")).unwrap();
    fs::write(input.path().join("bad/notes.txt"), "no photo").unwrap();
    let (code, out, err) = texts(
        export(&service, &["--each", &all, "--out", "out2/"])
            .output()
            .unwrap(),
    );
    assert_eq!(code, Some(1), "{err}");
    assert!(
        out.contains("out2/in.glb: ") && err.contains("1 of 2 scenes failed"),
        "{out}{err}"
    );
    assert_eq!(files(&service.dir.path().join("out2")), ["in.glb"]);
}

#[test]
fn what_a_server_cannot_do_is_refused_before_anything_is_sent() {
    let service = Service::start(&[]);
    let input = photos(1);
    let input = input.path().join("in");
    let input = input.to_str().unwrap();
    for (args, word) in [
        (&["--out", "x.ply"][..], "ply"),
        (&["--out", "set", "--format", "colmap"], "colmap"),
        (&["--json=full"], "--json"),
        (&["--checkpoint", "x.pt"], "--checkpoint"),
        (&["--save-depth", "d"], "--save-depth"),
        (&["--frame-filter", "1"], "--frame-filter"),
    ] {
        let (code, _, err) = texts(
            export(&service, &[&[input], args].concat())
                .output()
                .unwrap(),
        );
        assert_eq!(code, Some(2), "{args:?}: {err}");
        assert!(err.contains(word), "{args:?}: {err}");
    }
    let without = export(&service, &[input])
        .env_remove("VGGT_USER")
        .output()
        .unwrap();
    let (code, _, err) = texts(without);
    assert!(code == Some(2) && err.contains("--user"), "{err}");
    let (code, _, err) = texts(
        export(&service, &[input])
            .env("VGGT_PASSWORD", "wrong")
            .output()
            .unwrap(),
    );
    assert!(code == Some(1) && err.contains("password"), "{err}");
    let store = service.store();
    let ann = store.user_by_name("ann").unwrap();
    assert!(store.jobs_of(ann.id).unwrap().is_empty());
}
