//! `vggt client` and a server that knows jobs: what a user sees while a job runs, and how to come back to one.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use vggt_model::demo;

use crate::support::{
    command, send_signal,
    service::{PASSWORD, Service, assert_glb, leftovers, wait_for},
};

fn client(service: &Service, args: &[&str]) -> Command {
    let mut client = command(service.dir.path());
    client
        .env("VGGT_PASSWORD", PASSWORD)
        .args(["client", "--port", &service.address.port().to_string()])
        .args(args);
    client
}

fn run(service: &Service, args: &[&str]) -> Output {
    client(service, &[&["--user", "ann"], args].concat())
        .output()
        .unwrap()
}

fn good(service: &Service, args: &[&str]) -> (String, String) {
    let output = run(service, args);
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{args:?}: {err}");
    (out, err)
}

/// Seconds of work for 120 photos, of which some are left after each step.
const LONG_JOB: &[&str] = &[
    "images",
    "photos",
    "--attention",
    "anchors",
    "--anchors",
    "4",
];

/// So many images in the folder `photos`.
fn photos(dir: &Path, count: usize) {
    fs::create_dir(dir.join("photos")).unwrap();
    for (i, (_, bytes)) in demo::FRAMES.iter().cycle().take(count).enumerate() {
        fs::write(dir.join(format!("photos/{i:03}.png")), bytes).unwrap();
    }
}

#[test]
fn images_are_followed_as_a_job_that_is_listed_and_run_again() {
    let service = Service::start(&["--no_cache"]);
    let dir = service.dir.path();
    photos(dir, 8);
    let (out, err) = good(
        &service,
        &["images", "photos", "--name", "My kitchen", "--json"],
    );
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["job"], 1);
    assert!(
        err.contains("job 1: ") && err.contains("demo weights"),
        "{err}"
    );
    let glb = fs::read(dir.join("scene.glb")).unwrap();
    assert_glb(&glb);
    assert_eq!(answer["bytes"], glb.len());

    let (listed, _) = good(&service, &["jobs"]);
    let hash = answer["hash"].as_str().unwrap();
    assert!(
        listed.contains("My kitchen.glb") && listed.contains(hash),
        "{listed}"
    );
    assert_eq!(listed.lines().count(), 1);
    let (again, _) = good(
        &service,
        &["rerun", "1", "--conf-thres", "70", "--out", "less.glb"],
    );
    assert!(again.contains("less.glb"), "{again}");
    let less = fs::read(dir.join("less.glb")).unwrap();
    assert_glb(&less);
    assert!(less.len() < glb.len());
    let (jobs, _) = good(&service, &["jobs", "--json"]);
    let jobs: Value = serde_json::from_str(&jobs).unwrap();
    assert_eq!(jobs.as_array().unwrap().len(), 2);
    assert_eq!(jobs[0]["name"], "My kitchen.glb");

    // The first digits of a hash will do, of one's own files.
    good(&service, &["get", &hash[..10], "--out", "same.glb"]);
    assert!(fs::read(dir.join("same.glb")).unwrap() == glb);
    for (prefix, word) in [(&hash[..7], "8 to 64"), ("00000000", "none of your files")] {
        let output = run(&service, &["get", prefix]);
        assert!(!output.status.success());
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(err.contains(word), "{err}");
    }
    good(&service, &["delete", &hash[..12]]);
    let output = run(&service, &["rerun", "1", "--out", "y.glb"]);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(err.contains("send the images again"), "{err}");
    assert!(!dir.join("y.glb").exists());
}

#[test]
fn nothing_is_sent_before_the_login_is_known_to_be_good() {
    let service = Service::start(&[]);
    photos(service.dir.path(), 2);
    for (args, word) in [
        (&["images", "photos"][..], "--user NAME"),
        (&["submit", "photos"], "--user NAME"),
        (
            &["images", "photos", "--user", "nobody"],
            "refuses the name or the password",
        ),
    ] {
        let output = client(&service, args).output().unwrap();
        assert!(!output.status.success(), "{args:?}");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(err.contains(word), "{args:?}: {err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    let log = service.log();
    assert!(
        !log.contains("submit by") && !log.contains("images by"),
        "{log}"
    );
    assert!(!service.dir.path().join("scene.glb").exists());
    assert!(leftovers(&service.out()).is_empty());
}

#[test]
fn ctrl_c_leaves_the_job_and_says_how_to_come_back_to_it() {
    let service = Service::start(&["--no_cache"]);
    let dir = service.dir.path();
    photos(dir, 120);
    let process = client(&service, &[&["--user", "ann"], LONG_JOB].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ann = service.login("ann");
    wait_for("the job to run", || {
        let status = ann.status(1);
        assert_ne!(status["state"], "done");
        (status["state"] == "running").then_some(())
    });
    send_signal(process.id(), "INT");
    let output = process.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{err}");
    assert!(
        err.contains("vggt client wait 1") && err.contains("vggt client cancel 1"),
        "{err}"
    );
    assert!(!dir.join("scene.glb").exists());

    let (text, err) = good(&service, &["wait", "1", "--out", "later.glb"]);
    assert!(text.contains("later.glb"), "{text}");
    assert!(err.contains("job 1: "), "{err}");
    assert_glb(&fs::read(dir.join("later.glb")).unwrap());
    let (status, _) = good(&service, &["status", "1", "--watch", "--json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["state"], json!("done"));
}

#[test]
fn a_wait_that_is_too_long_ends_and_the_job_goes_on() {
    let service = Service::start(&["--no_cache"]);
    photos(service.dir.path(), 120);
    let output = run(&service, &[LONG_JOB, &["--timeout", "0"]].concat());
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        err.contains("gave up after 0 s") && err.contains("vggt client wait 1"),
        "{err}"
    );
    let mut ann = service.login("ann");
    assert_eq!(ann.json(10, "{\"job\": 1}")["state"], "cancelled");
    let output = run(&service, &["wait", "1"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("job 1 was cancelled"));
    let output = run(&service, &["wait", "77"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("you have no such job"));
}
