//! `--keyframes`: the sharpest and most different frames of a video, through the command line and the service.

use std::{fs, path::Path, process::Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    clip::{SIZE, avi, panorama, part},
    command, fail, files,
    glb::Glb,
    mkfifo, repository, run,
    service::{Service, wait_for},
    summary, text,
};

/// 30 frames of a camera that turns, every second one of them blurred.
fn clip(dir: &Path) -> std::path::PathBuf {
    let panorama = panorama(3, SIZE.0 + 150);
    let frames: Vec<_> = (0..30)
        .map(|i| {
            let frame = part(&panorama, 5 * i);
            match i % 2 {
                0 => frame,
                _ => image::imageops::blur(&frame, 3.0),
            }
        })
        .collect();
    let path = dir.join("walk.avi");
    fs::write(&path, avi(&frames, 30)).unwrap();
    path
}

/// The number in the name of a frame.
fn number(name: &Value) -> u64 {
    let digits = name.as_str().unwrap().trim_start_matches("frame_");
    digits.trim_end_matches(".png").parse().unwrap()
}

fn extras(glb: &Path) -> Value {
    Glb::parse(&fs::read(glb).unwrap()).json["asset"]["extras"].clone()
}

#[test]
fn the_frames_are_reported_wherever_the_result_is() {
    let dir = TempDir::new().unwrap();
    let clip = clip(dir.path());
    let args = ["--demo", text(&clip), "--out", "o.glb", "--keyframes", "4"];
    let said = summary(dir.path(), &args);
    assert_eq!(
        (&said["frames"], &said["frames_given"]),
        (&json!(4), &json!(30))
    );
    let told = &said["keyframes"];
    let count = |key: &str| told[key].as_u64().unwrap();
    assert_eq!((count("frames"), count("chosen")), (30, 4));
    assert_eq!(
        (count("less_sharp"), count("plain"), count("similar")),
        (15, 0, 11)
    );
    let names = said["names"].as_array().unwrap();
    assert!(names.iter().all(|name| number(name) % 2 == 1), "{names:?}");
    assert!(names.is_sorted_by_key(number));
    let extras = extras(&dir.path().join("o.glb"));
    assert_eq!(&extras["keyframes"], told);
    assert_eq!(
        (&extras["frames"], &extras["frames_given"]),
        (&json!(4), &json!(30))
    );

    let output = command(dir.path())
        .arg("export")
        .args(args)
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    let line = "taking 4 of 30 frames: the sharpest and most different; left out: 11 too similar, 15 less sharp than a neighbor";
    assert!(err.contains(line), "{err}");
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.contains("from 4 of 30 frames"), "{out}");

    // A rate is reported as before.
    let said = summary(
        dir.path(),
        &["--demo", text(&clip), "--out", "r.glb", "--fps", "4"],
    );
    assert_eq!(said["keyframes"], Value::Null);
}

#[test]
fn the_smaller_of_two_numbers_counts_and_a_short_clip_gives_all() {
    let dir = TempDir::new().unwrap();
    let clip = repository("model/demo/clip.mp4");
    let count = |args: &[&str]| {
        let all = [&["--demo", text(&clip), "--out", "o.glb"], args].concat();
        summary(dir.path(), &all)["frames"].as_u64().unwrap()
    };
    assert_eq!(count(&["--keyframes", "3"]), 3);
    assert_eq!(count(&["--keyframes", "5", "--max-frames", "2"]), 2);
    assert_eq!(count(&["--keyframes", "2", "--max-frames", "5"]), 2);
    assert_eq!(count(&["--keyframes", "4000000000"]), 8);
    assert_eq!(count(&["--keyframes", "1"]), 1);
}

#[test]
fn it_is_for_videos_and_not_with_a_rate() {
    let dir = TempDir::new().unwrap();
    let clip = repository("model/demo/clip.mp4");
    let photos = repository("model/demo/frames");
    let photo = photos.join("frame_00.png");
    for (args, words) in [
        (&["--demo", text(&photos)][..], "frames of a video"),
        (
            &["--demo", "--images-dir", text(&photos)],
            "frames of a video",
        ),
        (&["--demo", text(&photo)], "frames of a video"),
        (&["--demo"], "frames of a video"),
        (&["--demo", text(&clip), "--fps", "2"], "--fps"),
        (
            &["--from-predictions", "p.safetensors"],
            "--from-predictions",
        ),
    ] {
        let all = [&["export", "--keyframes", "3", "--out", "o.glb"], args].concat();
        let err = fail(dir.path(), 2, &all);
        assert!(err.contains("--keyframes") && err.contains(words), "{err}");
    }
    for bad in ["0", "-1", "2.5", "many"] {
        let err = fail(
            dir.path(),
            2,
            &["export", "--demo", text(&clip), "--keyframes", bad],
        );
        assert!(err.contains("--keyframes"), "{err}");
    }
    for args in [
        &["client", "images", "--keyframes", "3", text(&photo)][..],
        &["client", "submit", "--keyframes", "3", text(&photo)],
        &[
            "client",
            "video",
            "--keyframes",
            "3",
            "--fps",
            "1",
            text(&clip),
        ],
        &["client", "video", "--keyframes", "0", text(&clip)],
    ] {
        let err = fail(dir.path(), 2, args);
        assert!(err.contains("--keyframes"), "{err}");
    }
    assert_eq!(files(dir.path()), [""; 0]);
}

#[test]
fn another_process_and_the_images_of_a_dataset_have_the_same_frames() {
    let dir = TempDir::new().unwrap();
    let clip = clip(dir.path());
    let export = |out: &str, extra: &[&str]| {
        let args = [
            "export",
            "--demo",
            text(&clip),
            "--keyframes",
            "5",
            "--out",
            out,
        ];
        run(dir.path(), &[&args, extra].concat());
    };
    export("here.glb", &[]);
    export("there.glb", &["--isolate"]);
    let bytes = |name: &str| fs::read(dir.path().join(name)).unwrap();
    assert!(bytes("here.glb") == bytes("there.glb"));
    export("model", &["--format", "colmap"]);
    let images = files(&dir.path().join("model/images"));
    assert_eq!(images.len(), 5);
    let odd = |name: &String| {
        name.chars()
            .filter(char::is_ascii_digit)
            .collect::<String>()
            .parse::<u32>()
            .unwrap()
            % 2
            == 1
    };
    assert!(images.iter().all(odd), "{images:?}");
}

#[test]
fn the_cache_tells_a_number_from_a_rate_and_from_another_number() {
    let dir = TempDir::new().unwrap();
    let clip = clip(dir.path());
    let export = |choice: [&str; 2]| -> Value {
        let output = command(dir.path())
            .env("XDG_CACHE_HOME", dir.path().join("cache"))
            .args(["export", "--demo", "--json", "--out", "o.glb", text(&clip)])
            .args(choice)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let first = export(["--keyframes", "3"]);
    assert_eq!(first["from_cache"], false);
    assert_eq!(export(["--fps", "3"])["from_cache"], false);
    assert_eq!(export(["--keyframes", "2"])["from_cache"], false);
    let again = export(["--keyframes", "3"]);
    assert_eq!(again["from_cache"], true);
    assert_eq!(again["keyframes"], first["keyframes"]);
    assert_eq!(again["names"], first["names"]);
    let extras = extras(&dir.path().join("o.glb"));
    assert_eq!(extras["keyframes"], first["keyframes"]);
    assert_eq!(export(["--fps", "3"])["keyframes"], Value::Null);
}

#[test]
fn an_export_that_goes_on_keeps_the_number() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    let clip = clip(here);
    // Nobody reads: the second output is never written.
    mkfifo(&here.join("y.ply"));
    let mut child = command(here)
        .args(["export", "--demo", text(&clip), "--keyframes", "4"])
        .args(["--out", "x.glb", "--out", "y.ply"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the first output", || {
        here.join("x.glb").is_file().then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let told = extras(&here.join("x.glb"))["keyframes"].clone();
    fs::remove_file(here.join("x.glb")).unwrap();
    fs::remove_file(here.join("y.ply")).unwrap();
    let resume = ["export", "--json", "--resume", ".x.glb.vggt-spool"];
    let err = fail(here, 1, &[&resume[..], &["--keyframes", "2"]].concat());
    assert!(
        err.contains("its keyframes was \"4\" and is \"2\" now"),
        "{err}"
    );
    let err = fail(here, 2, &[&resume[..], &["--fps", "2"]].concat());
    assert!(
        err.contains("--fps") && err.contains("--keyframes"),
        "{err}"
    );
    let said: Value = serde_json::from_str(&run(here, &resume)).unwrap();
    assert_eq!((&said["frames"], &said["keyframes"]), (&json!(4), &told));
    assert_eq!(extras(&here.join("x.glb"))["keyframes"], told);
}

#[test]
fn the_service_takes_a_number_for_one_video() {
    let service = Service::start(&["--max_frames", "5"]);
    let mut ann = service.login("ann");
    let clip = fs::read(clip(service.out().parent().unwrap())).unwrap();
    let told = |glb: &[u8]| Glb::parse(glb).json["asset"]["extras"]["keyframes"].clone();
    let reply = ann.json(11, r#"{"keyframes": 3, "fps": 2}"#);
    assert_eq!(
        (&reply["keyframes"], &reply["fps"]),
        (&json!(3), &json!(2.0))
    );
    let glb = ann.video(&clip).glb().1;
    let keyframes = told(&glb);
    assert_eq!(
        (&keyframes["frames"], &keyframes["chosen"]),
        (&json!(30), &json!(3))
    );
    // Only for that one, and null is as nothing.
    assert_eq!(
        ann.json(11, r#"{"keyframes": null}"#)["keyframes"],
        Value::Null
    );
    assert_eq!(told(&ann.video(&clip).glb().1), Value::Null);
    // Not more than the server permits.
    ann.json(11, r#"{"keyframes": 9}"#);
    assert_eq!(told(&ann.video(&clip).glb().1)["chosen"], 5);
    for bad in [
        r#"{"keyframes": 0}"#,
        r#"{"keyframes": 2.5}"#,
        r#"{"keyframes": -1}"#,
        r#"{"keyframes": "3"}"#,
    ] {
        let reply = ann.json(11, bad);
        assert_eq!(reply["error"], "ERROR_BAD_REQUEST", "{bad}");
        assert!(
            reply["reason"].as_str().unwrap().contains("keyframes"),
            "{reply}"
        );
    }
}

#[test]
fn the_client_sends_the_number_and_a_rerun_cannot_change_it() {
    let service = Service::start(&[]);
    let dir = TempDir::new().unwrap();
    let clip = clip(dir.path());
    let port = service.address.port().to_string();
    let client = |args: &[&str]| {
        let mut command = command(dir.path());
        command.env("VGGT_PASSWORD", crate::support::service::PASSWORD);
        command
            .args(["client", "--port", &port, "--user", "ann"])
            .args(args);
        command.output().unwrap()
    };
    let made = client(&["video", text(&clip), "--keyframes", "3", "--out", "v.glb"]);
    assert!(made.status.success(), "{made:?}");
    assert_eq!(extras(&dir.path().join("v.glb"))["keyframes"]["chosen"], 3);
    let job = client(&[
        "--json",
        "submit",
        "--video",
        text(&clip),
        "--keyframes",
        "4",
    ]);
    let job: Value = serde_json::from_slice(&job.stdout).unwrap();
    let job = job["job"].as_i64().unwrap();
    let mut ann = service.login("ann");
    ann.finished(job);
    ann.json(11, r#"{"keyframes": 2}"#);
    let refused = ann.json(15, &json!({"job": job}).to_string());
    assert_eq!(refused["error"], "ERROR_BAD_REQUEST");
    assert!(
        refused["reason"].as_str().unwrap().contains("keyframes"),
        "{refused}"
    );
    let again = client(&[
        "rerun",
        &job.to_string(),
        "--conf-thres",
        "20",
        "--out",
        "r.glb",
    ]);
    assert!(again.status.success(), "{again:?}");
    assert_eq!(extras(&dir.path().join("r.glb"))["keyframes"]["chosen"], 4);
}
