//! What commands say besides their results: progress, help, completions, manual.

use std::{
    fs,
    process::{Command, Output, Stdio},
};

use rexpect::session::spawn_command;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    spool::photos,
    support::{command, fail, files, run, text, vggt},
};

const EXPORT: [&str; 5] = ["export", "--demo", "in", "--out", "x.glb"];

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn without_a_terminal_there_is_a_line_for_the_work_and_for_each_stage() {
    let dir = photos(3);
    let output = vggt(dir.path(), &EXPORT);
    assert!(output.status.success());
    let err = stderr(&output);
    let lines: Vec<&str> = err.lines().collect();
    let at = |part: &str| {
        let found = lines.iter().position(|line| line.contains(part));
        found.unwrap_or_else(|| panic!("no {part:?}: {err}"))
    };
    let begin = at("3 frames of 112 x 84, all to all; cpu, ");
    assert!(lines[begin].contains("needs "), "{err}");
    let stages = [
        "reading images, 3",
        "image features",
        "matching images",
        "cameras",
        "depth",
        "writing files, 1",
    ];
    let places = stages.map(at);
    assert!(places.is_sorted_by(|a, b| a < b), "{err}");
    assert!(places[0] < begin && begin < places[1], "{err}");
    // One for each, however many steps it has.
    for stage in stages {
        assert_eq!(err.matches(stage).count(), 1, "{stage}: {err}");
    }
    assert!(lines.last().unwrap().contains("x.glb"), "{err}");
    assert!(!err.contains('\x1b'), "{err}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1);
}

#[test]
fn quiet_says_only_what_is_wrong_and_prints_the_result() {
    let dir = photos(2);
    let output = vggt(dir.path(), &[&EXPORT[..], &["-q"]].concat());
    assert!(output.status.success());
    // Demo weights on photos of the demo are still a warning.
    let err = stderr(&output);
    assert!(
        err.lines()
            .all(|line| line.trim_start().starts_with("WARN")),
        "{err}"
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("x.glb: "));
    let err = fail(dir.path(), 1, &["-q", "export", "--demo", "nowhere"]);
    assert!(err.starts_with("error: "), "{err}");
    // Before the command as well, and with more said.
    let more = vggt(dir.path(), &[&["-v"], &EXPORT[..]].concat());
    assert!(stderr(&more).contains("DEBUG"), "{}", stderr(&more));
    let both = fail(dir.path(), 2, &[&["-q", "-v"], &EXPORT[..]].concat());
    assert!(both.contains("cannot be used with"), "{both}");
}

#[test]
fn progress_for_programs_is_one_object_a_line() {
    let dir = photos(2);
    fs::write(dir.path().join("in/broken.png"), "no image").unwrap();
    let output = vggt(dir.path(), &[&EXPORT[..], &["--progress", "json"]].concat());
    let err = stderr(&output);
    assert!(output.status.success(), "{err}");
    let events: Vec<Value> = err
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |kind: &str| -> Vec<&Value> {
        events
            .iter()
            .filter(|event| event["event"] == kind)
            .collect()
    };
    let [start] = of("start")[..] else {
        panic!("{err}")
    };
    assert_eq!(
        (&start["frames"], &start["device"]),
        (&2.into(), &"cpu".into())
    );
    assert!(start["memory_bytes"].as_u64().unwrap() > 1 << 20);
    let warning = of("warning");
    let skipped = warning.iter().find(|w| w["kind"] == "images_skipped");
    assert!(
        skipped.unwrap()["text"]
            .as_str()
            .unwrap()
            .contains("broken.png")
    );
    let steps = of("step");
    for stage in [
        "decode",
        "patch embed",
        "aggregator",
        "camera",
        "depth",
        "write",
    ] {
        assert!(
            steps.iter().any(|step| step["stage"] == stage),
            "{stage}: {err}"
        );
    }
    let fractions: Vec<f64> = steps
        .iter()
        .map(|s| s["fraction"].as_f64().unwrap())
        .collect();
    assert!(fractions.is_sorted(), "{fractions:?}");
    assert_eq!(fractions.last(), Some(&1.0));
    // Errors too, and with -q.
    let args = ["export", "--demo", "nowhere", "--progress=json", "-q"];
    let said = fail(dir.path(), 1, &args);
    let error: Value = serde_json::from_str(said.trim()).unwrap();
    assert_eq!(error["event"], "error");
    assert!(
        error["text"].as_str().unwrap().contains("nowhere"),
        "{error}"
    );
}

#[test]
fn a_terminal_gets_one_bar_and_colors_unless_told_otherwise() {
    let shown = |args: &[&str], no_color: &str| {
        let dir = photos(2);
        let mut call = command(dir.path());
        call.args([&EXPORT[..], args].concat());
        call.env("NO_COLOR", no_color).env("TERM", "xterm-256color");
        let mut session = spawn_command(call, Some(60_000)).unwrap();
        let bytes = session.exp_eof().unwrap();
        let bytes: Vec<u8> = bytes.chars().map(|c| c as u8).collect();
        String::from_utf8(bytes).unwrap()
    };
    let color = |text: &str| text.contains("\x1b[3");
    let bar = shown(&[], "");
    for part in ["reading images", "matching images", "%", "x.glb: "] {
        assert!(bar.contains(part), "{part}: {bar}");
    }
    assert!(color(&bar), "{bar:?}");
    let plain = shown(&[], "1");
    assert!(
        plain.contains("matching images") && !color(&plain),
        "{plain:?}"
    );
    assert!(!color(&shown(&["--color", "never"], "")));
    assert!(color(&shown(&["--color", "always"], "1")));
    let quiet = shown(&["-q"], "");
    assert!(!quiet.contains("matching images"), "{quiet:?}");
    let lines = shown(&["--progress", "lines"], "");
    assert!(
        lines.contains("% matching images") && lines.contains("% depth"),
        "{lines:?}"
    );
}

#[test]
fn the_last_line_says_how_to_look_at_the_result() {
    let dir = photos(1);
    for (out, part) in [
        ("a.html", "any browser"),
        ("b c.glb", "glTF viewer opens 'b c.glb'"),
        ("c.ply", "MeshLab"),
    ] {
        let output = vggt(dir.path(), &["export", "--demo", "in", "--out", out]);
        let err = stderr(&output);
        assert!(
            err.trim_end().lines().last().unwrap().contains(part),
            "{err}"
        );
    }
}

#[test]
fn nobody_has_to_read_what_is_said() {
    let dir = photos(1);
    for redirect in ["2>&-", ">&- 2>&-", "2>/dev/full", ">/dev/full 2>/dev/full"] {
        for more in ["", "--progress json", "--progress lines -vv"] {
            let script = format!(
                "exec {} export --demo in --out x.glb {more} {redirect}",
                env!("CARGO_BIN_EXE_vggt")
            );
            let status = Command::new("sh")
                .args(["-c", &script])
                .current_dir(dir.path())
                .env("XDG_CACHE_HOME", crate::support::NO_CACHE)
                .status();
            assert!(status.unwrap().success(), "{redirect} {more}");
        }
    }
    let err = fail(dir.path(), 2, &["export", "--progress", "loud"]);
    for choice in ["auto", "bar", "lines", "json", "none"] {
        assert!(err.contains(choice), "{err}");
    }
}

#[test]
fn short_help_is_shorter_and_lists_choices_and_examples() {
    let dir = TempDir::new().unwrap();
    for name in ["export", "serve"] {
        let short = run(dir.path(), &[name, "-h"]);
        let long = run(dir.path(), &[name, "--help"]);
        let (short_lines, long_lines) = (short.lines().count(), long.lines().count());
        assert!(
            2 * short_lines < long_lines,
            "{name}: {short_lines}, {long_lines}"
        );
        for help in [&short, &long] {
            for line in help.lines() {
                assert!(line.chars().count() <= 120, "{line}");
            }
        }
    }
    let long = run(dir.path(), &["export", "--help"]);
    let words = long.split_whitespace().collect::<Vec<_>>().join(" ");
    for choices in [
        "[possible values: glb, html, ply, colmap, nerfstudio]",
        "[possible values: auto, cpu, cuda]",
        "[possible values: crop, pad]",
        "[possible values: f32, f16, bf16]",
        "[possible values: exact, fast]",
        "[possible values: linear, srgb]",
        "[possible values: pointmap, depthmap]",
        "Possible values: - standard:",
        "Possible values: - auto: A bar",
    ] {
        assert!(words.contains(choices), "{choices}: {long}");
    }
    // Dashes everywhere, except where it says that underscores do as well.
    let spelled = words.replace("--conf_thres, --show_cam", "");
    let flags = spelled.split(' ').filter(|word| word.starts_with("--"));
    for flag in flags {
        assert!(!flag.contains('_'), "{flag}");
    }
}

#[test]
fn the_help_of_every_command_has_examples() {
    let dir = TempDir::new().unwrap();
    let commands = [
        "export", "serve", "client", "user", "job", "check", "convert", "fetch", "bench", "doctor",
        "monitor",
    ];
    for name in commands {
        for flag in ["-h", "--help"] {
            let help = run(dir.path(), &[name, flag]);
            let examples = help.split_once("Examples:").unwrap().1;
            let calls = examples
                .lines()
                .filter(|line| line.contains(&format!("vggt {name}")));
            assert!(calls.count() >= 2, "{help}");
            for line in help.lines() {
                assert!(line.chars().count() <= 120, "{line}");
            }
        }
    }
}

#[test]
fn short_names_of_the_points_and_the_preset_reach_the_file() {
    let dir = photos(2);
    let options = |args: &[&str]| {
        let all = [&EXPORT[..], args].concat();
        run(dir.path(), &all);
        let glb = fs::read(dir.path().join("x.glb")).unwrap();
        let length = u32::from_le_bytes(glb[12..16].try_into().unwrap()) as usize;
        let gltf: Value = serde_json::from_slice(&glb[20..20 + length]).unwrap();
        let options = &gltf["asset"]["extras"]["options"];
        (
            options["prediction_mode"].as_str().unwrap().to_owned(),
            options["conf_thres"].as_f64().unwrap(),
        )
    };
    let (maps, depth) = (
        "Pointmap Regression".to_owned(),
        "Depthmap and Camera".to_owned(),
    );
    assert_eq!(options(&[]), (depth.clone(), 10.0));
    assert_eq!(
        options(&["--prediction_mode", "pointmap"]),
        (maps.clone(), 10.0)
    );
    assert_eq!(
        options(&["--prediction-mode", "Predicted Pointmap"]).0,
        maps
    );
    assert_eq!(options(&["--quality", "best"]), (depth.clone(), 25.0));
    assert_eq!(
        options(&["--quality=best", "--conf_thres", "5"]),
        (depth, 5.0)
    );
}

#[test]
fn completions_and_manual_come_from_the_command_line() {
    let dir = TempDir::new().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = run(dir.path(), &["completions", shell]);
        for word in ["export", "prediction-mode", "nerfstudio", "progress"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
        assert!(!script.contains("decode-worker"), "{shell}");
    }
    let bash = dir.path().join("vggt.bash");
    fs::write(&bash, run(dir.path(), &["completions", "bash"])).unwrap();
    let script = format!(
        "source {}; COMP_WORDS=(vggt export --format ''); COMP_CWORD=3; _vggt vggt '' --format; echo ${{COMPREPLY[@]}}",
        text(&bash)
    );
    let output = Command::new("bash")
        .args(["-c", &script])
        .stderr(Stdio::inherit())
        .output();
    let said = String::from_utf8(output.unwrap().stdout).unwrap();
    assert_eq!(said.trim(), "glb html ply colmap nerfstudio");
    assert!(fail(dir.path(), 2, &["completions", "tcsh"]).contains("bash"));

    run(dir.path(), &["man", "pages/man1"]);
    let pages = files(&dir.path().join("pages/man1"));
    for page in [
        "vggt.1",
        "vggt-export.1",
        "vggt-serve.1",
        "vggt-client-images.1",
    ] {
        assert!(pages.contains(&page.to_owned()), "{pages:?}");
    }
    assert!(!pages.contains(&"vggt-decode-worker.1".to_owned()));
    let page = fs::read_to_string(dir.path().join("pages/man1/vggt-export.1")).unwrap();
    assert!(
        page.contains(".TH") && page.contains("prediction\\-mode"),
        "{page}"
    );
}

#[test]
fn what_people_try_first_leads_on() {
    let dir = photos(1);
    let version = run(dir.path(), &["version"]);
    assert_eq!(version, run(dir.path(), &["--version"]));
    assert!(version.starts_with("vggt "), "{version}");
    fs::create_dir(dir.path().join("my photos")).unwrap();
    for (path, call) in [
        ("in/", "vggt export in/"),
        ("my photos", "vggt export 'my photos'"),
    ] {
        let err = fail(dir.path(), 2, &[path]);
        assert!(err.trim_end().ends_with(call), "{err}");
    }
    assert!(!fail(dir.path(), 2, &["nowhere/"]).contains("vggt export nowhere"));
}
