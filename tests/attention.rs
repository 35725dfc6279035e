//! Exports and jobs whose frames attend to anchors.

use std::{fs, path::Path, process::Stdio};

use serde_json::{Value, json};

use crate::{
    spool::photos,
    support::{command, fail, files, glb::Glb, run, service::Service, summary, vggt},
};

/// An export of `in` with anchors.
const ANCHORED: [&str; 7] = [
    "export",
    "--demo",
    "in",
    "--attention",
    "anchors",
    "--anchors",
    "4",
];

/// What made a GLB.
fn provenance(path: &Path) -> Value {
    Glb::parse(&fs::read(path).unwrap()).json["asset"]["extras"].clone()
}

#[test]
fn the_file_says_which_frames_were_anchors() {
    let dir = photos(10);
    let here = dir.path();
    run(here, &[&ANCHORED[..], &["--out", "x.glb"]].concat());
    let used = provenance(&here.join("x.glb"));
    assert_eq!(used["frames"], 10, "{used}");
    assert_eq!(used["options"]["attention"], "anchors");
    assert_eq!(used["options"]["anchors"], 4);
    let anchors = used["attention"]["anchors"].as_array().unwrap();
    assert_eq!((anchors.len(), &anchors[0]), (4, &json!(0)), "{used}");
    assert_eq!(used["attention"]["cache"], "f16", "{used}");
    // Photos 8 and 9 are 0 and 1 again, and never the least alike.
    assert!(
        anchors.iter().all(|frame| frame.as_u64().unwrap() < 8),
        "{used}"
    );

    // Few frames that fit attend to all.
    run(here, &["export", "--demo", "in", "--out", "dense.glb"]);
    let dense = provenance(&here.join("dense.glb"));
    assert!(dense.get("attention").is_none(), "{dense}");
    let named = [
        "export",
        "--demo",
        "in",
        "--anchor_frames",
        "5,0,2",
        "--anchor_cache",
        "f32",
        "--out",
        "y.glb",
    ];
    run(here, &named);
    let named = provenance(&here.join("y.glb"));
    assert_eq!(named["attention"]["anchors"], json!([0, 2, 5]), "{named}");
    assert_eq!(named["attention"]["cache"], "f32", "{named}");
}

#[test]
fn the_scene_of_all_anchors_is_that_of_all_frames() {
    let dir = photos(8);
    let here = dir.path();
    let points = |args: &[&str]| {
        let args = [&["--demo", "in", "--conf_thres", "0", "--overwrite"], args].concat();
        let summary = summary(here, &args);
        summary["points"]
            .as_u64()
            .unwrap_or_else(|| panic!("{summary}"))
    };
    let all = ["--anchors", "8", "--anchor_schedule", "0,0,1"];
    assert_eq!(points(&all), points(&[]));
    // Positions are near, as keys and values are kept in halves.
    let read = |args: &[&str]| {
        let out = [
            "export",
            "--demo",
            "in",
            "--save_predictions",
            "p.safetensors",
        ];
        let args = [&out[..], &["--overwrite", "--out", "x.glb"], args].concat();
        run(here, &args);
        let tensors =
            candle_core::safetensors::load(here.join("p.safetensors"), &candle_core::Device::Cpu);
        tensors.unwrap().remove("depth").unwrap()
    };
    let (anchored, dense) = (read(&all), read(&[]));
    let difference = ((anchored - &dense).unwrap() / dense).unwrap();
    let worst = difference.abs().unwrap().max_all().unwrap();
    let worst: f32 = worst.to_scalar().unwrap();
    assert!(worst > 0.0 && worst < 0.02, "{worst}");
}

#[test]
fn what_was_killed_between_frames_goes_on_to_the_same_bytes() {
    let dir = photos(30);
    let here = dir.path();
    let out = ["--out", "x.glb"];
    run(here, &[&ANCHORED[..], &["--out", "fresh.glb"]].concat());
    let expected = fs::read(here.join("fresh.glb")).unwrap();
    fs::remove_file(here.join("fresh.glb")).unwrap();
    let journal = here.join(".x.glb.vggt-spool/journal");
    // After the frames are decoded, the anchors are chosen, and each result.
    for lines in [1, 2, 3, 6, 7, 20, 31] {
        let mut child = command(here)
            .args([&ANCHORED[..], &out].concat())
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let written = || fs::read_to_string(&journal).map_or(0, |text| text.lines().count());
        while written() < lines && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if !here.join("x.glb").exists() {
            run(here, &["export", "--resume", ".x.glb.vggt-spool"]);
        }
        assert!(
            fs::read(here.join("x.glb")).unwrap() == expected,
            "{lines} lines"
        );
        fs::remove_file(here.join("x.glb")).unwrap();
        // A process that is killed after its last line has no time to clear up.
        let _ = fs::remove_dir_all(here.join(".x.glb.vggt-spool"));
        assert_eq!(files(here), ["in"], "{lines} lines");
    }
}

#[test]
fn the_anchors_are_shown_first() {
    let dir = photos(9);
    let here = dir.path();
    let args = [&ANCHORED[..], &["--out", "x.glb", "--preview", "first.glb"]].concat();
    run(here, &args);
    let [preview, whole] = ["first.glb", "x.glb"].map(|name| provenance(&here.join(name)));
    assert_eq!(
        (&preview["frames"], &whole["frames"]),
        (&json!(4), &json!(9))
    );
    // Neither replaces a file of the user's, nor each other.
    fs::write(here.join("mine.glb"), "mine").unwrap();
    let mine = [&ANCHORED[..], &["--out", "x.glb", "--preview", "mine.glb"]].concat();
    let e = fail(here, 1, &mine);
    assert!(e.contains("mine.glb"), "{e}");
    assert_eq!(fs::read(here.join("mine.glb")).unwrap(), b"mine");
    let twice = [&ANCHORED[..], &["--out", "z.glb", "--preview", "z.glb"]].concat();
    let e = fail(here, 2, &twice);
    assert!(e.contains("z.glb"), "{e}");
}

#[test]
fn options_that_do_not_fit_are_refused_by_name() {
    let dir = photos(4);
    let here = dir.path();
    for (args, word) in [
        (&["--attention", "dense", "--anchors", "3"][..], "dense"),
        (&["--anchor_frames", "1,2"], "frame 0"),
        (&["--anchor_frames", "0,2,2"], "different"),
        (&["--anchor_frames", "0,9"], "frame 9"),
        (&["--anchors", "0"], "0"),
        (&["--anchors", "-3"], "-3"),
        (&["--anchor_schedule", "2,9"], "LOCAL,SAMPLED,STRIDE"),
        (&["--anchor_schedule", "99,99,1"], "LOCAL,SAMPLED,STRIDE"),
        (&["--attention", "sparse"], "auto, dense, anchors"),
    ] {
        let all = [&["export", "--demo", "in", "--out", "x.glb"], args].concat();
        let output = vggt(here, &all);
        let e = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {e}");
        assert!(e.contains(word) && !e.contains("panicked"), "{args:?}: {e}");
        assert_eq!(files(here), ["in"], "{args:?}");
    }
}

#[test]
fn photos_of_one_scene_are_all_kept() {
    let dir = photos(8);
    let here = dir.path();
    for attention in [&["--attention", "dense"][..], &["--anchors", "4"]] {
        let args = ["export", "--demo", "in", "--overwrite", "--out", "x.glb"];
        let output = vggt(
            here,
            &[&args[..], attention, &["--drop_unrelated"]].concat(),
        );
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        assert!(!said.contains("something else"), "{said}");
        assert_eq!(provenance(&here.join("x.glb"))["frames"], 8);
    }
}

#[test]
fn a_job_takes_the_same_options() {
    let service = Service::start(&[]);
    let mut client = service.login("ann");
    let options = json!({"attention": "anchors", "anchors": 3, "drop_unrelated": false});
    let images = crate::support::service::demo_images(6);
    client.json(11, &options.to_string());
    let job = client.submit(&images);
    let done = client.finished(job);
    let hash = done["hash"].as_str().unwrap_or_else(|| panic!("{done}"));
    let (_, bytes) = client.get(hash).glb();
    let used = Glb::parse(&bytes).json["asset"]["extras"].clone();
    assert_eq!(
        used["attention"]["anchors"].as_array().unwrap().len(),
        3,
        "{used}"
    );
    for (bad, word) in [
        (json!({"attention": "sparse"}), "attention"),
        (json!({"anchors": 0}), "anchors"),
        (json!({"anchor_frames": [1]}), "anchor_frames"),
        (json!({"anchor_schedule": "x"}), "anchor_schedule"),
        (json!({"attention": "dense", "anchors": 2}), "dense"),
    ] {
        let reply = client.json(11, &bad.to_string()).to_string();
        assert!(
            reply.contains("error") && reply.contains(word),
            "{bad}: {reply}"
        );
    }
}
