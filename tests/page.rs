//! The page that `vggt export --out x.html` writes. What it shows is checked by `tools/checks/check_page`, which runs its script
//! on the pages that these tests leave in the folder `html` below Cargo's temporary folder.

use std::{fs, path::PathBuf, process::Command};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use vggt::html;

use crate::support::{NO_CACHE, fail, files, run, summary, text};

/// What stands before each piece of the GLB.
const PIECE: &str = "<script class=\"glb\" type=\"model/gltf-binary;base64\">";

/// Where a page goes that `tools/checks/check_page` is to see.
fn checked(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("html");
    fs::create_dir_all(&dir).unwrap();
    dir.join(name)
}

/// The GLB in a page, and how many elements hold it.
fn glb_of(page: &str) -> (Vec<u8>, usize) {
    let pieces: Vec<&str> = page
        .split(PIECE)
        .skip(1)
        .map(|rest| rest.split_once("</script>").unwrap().0)
        .collect();
    let bytes = pieces
        .iter()
        .flat_map(|text| BASE64_STANDARD.decode(text).unwrap())
        .collect();
    (bytes, pieces.len())
}

/// What a page tells of its scene beside the GLB.
fn about_of(page: &str) -> Value {
    let open = "<script class=\"about\" type=\"application/json\">";
    serde_json::from_str(between(page, open, "</script>")).unwrap()
}

/// What lies between the first `open` and the `close` after it.
fn between<'a>(page: &'a str, open: &str, close: &str) -> &'a str {
    let (_, rest) = page.split_once(open).unwrap();
    rest.split_once(close).unwrap().0
}

#[test]
fn the_glb_inside_is_the_one_that_a_file_would_hold() {
    let dir = TempDir::new().unwrap();
    for (name, flags) in [
        ("plain", &[][..]),
        ("cameras", &["--show_cam"]),
        ("quantized", &["--glb", "quantized", "--show_cam"]),
        ("srgb", &["--color_space", "srgb"]),
        ("one_frame", &["--frame_filter", "5", "--show_cam"]),
        ("one_point", &["--max_points", "1"]),
    ] {
        let page = checked(&format!("{name}.html"));
        let demo = ["--demo", "--out"];
        let said = summary(dir.path(), &[&demo[..], &[text(&page)], flags].concat());
        assert_eq!(said["out"], text(&page));
        assert_eq!(said["format"], "html");
        assert_eq!(said["bytes"], fs::metadata(&page).unwrap().len());
        let of_glb = summary(dir.path(), &[&demo[..], &["x.glb"], flags].concat());
        assert_eq!(said["points"], of_glb["points"]);

        let (inside, pieces) = glb_of(&fs::read_to_string(&page).unwrap());
        assert!(
            inside == fs::read(dir.path().join("x.glb")).unwrap(),
            "{name}"
        );
        // The largest needs two.
        assert_eq!(pieces, inside.len().div_ceil(3 << 18), "{name}");
    }
}

#[test]
fn beside_the_glb_a_page_has_confidence_cameras_and_pictures() {
    let dir = TempDir::new().unwrap();
    let demo = |flags: &[&str]| {
        let all = [&["--demo", "--out", "x.html", "--overwrite"], flags].concat();
        let said = summary(dir.path(), &all);
        let page = fs::read_to_string(dir.path().join("x.html")).unwrap();
        (said["points"].as_u64().unwrap(), page)
    };
    let (points, page) = demo(&[]);
    let about = about_of(&page);
    let counts = about["frames"].as_array().unwrap();
    let counts: Vec<u64> = counts.iter().map(|n| n.as_u64().unwrap()).collect();
    assert_eq!((counts.len(), counts.iter().sum::<u64>()), (8, points));
    assert_eq!(about["unit"], "arbitrary");
    assert_eq!(about["cameras"].as_array().unwrap().len(), 8);
    for pictures in ["photos", "depths"] {
        let pictures = about[pictures].as_array().unwrap();
        assert_eq!(pictures.len(), 8);
        for picture in pictures {
            let bytes = BASE64_STANDARD.decode(picture.as_str().unwrap()).unwrap();
            let picture = image::load_from_memory(&bytes).unwrap();
            assert_eq!((picture.width(), picture.height()), (112, 84));
        }
    }
    let open = "<script class=\"confidence\" type=\"application/octet-stream;base64\">";
    let ranks = BASE64_STANDARD
        .decode(between(&page, open, "</script>"))
        .unwrap();
    assert_eq!(ranks.len() as u64, points);
    // Ranks are spread evenly.
    let below_half = ranks.iter().filter(|rank| **rank < 128).count() as f64;
    assert!((below_half / ranks.len() as f64 - 0.5).abs() < 0.01);

    // The counts of a frame stand at its number.
    let (points, page) = demo(&["--frame_filter", "5", "--max_points", "100"]);
    let about = about_of(&page);
    assert_eq!((points, &about["frames"][5]), (100, &json!(100)));
    assert_eq!(about["cameras"].as_array().unwrap().len(), 1);
}

#[test]
fn the_page_asks_for_nothing_and_runs_only_its_own_script() {
    let dir = TempDir::new().unwrap();
    run(
        dir.path(),
        &["export", "--demo", "--out", "x.html", "--overwrite"],
    );
    let page = fs::read_to_string(dir.path().join("x.html")).unwrap();
    let (script, style) = (
        between(&page, "<script type=\"module\" async>", "</script>"),
        between(&page, "<style>", "</style>"),
    );
    let rest = page.replace(script, "");
    for outside in ["http:", "https:", "src=", "href=", "@import", "url("] {
        assert!(!rest.contains(outside), "{outside}");
    }
    let hash = |part: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(part)));
    let (script, style) = (hash(script), hash(style));
    let policy = between(&page, "Content-Security-Policy\" content=\"", "\"");
    assert_eq!(
        policy,
        format!(
            "default-src 'none'; script-src {script}; style-src {style}; img-src data: blob:; base-uri 'none'; form-action 'none'"
        )
    );
    // What the policy forbids would be dead: scripts and styles in attributes.
    assert!(!rest.contains(" style=") && !rest.contains(" onclick="));
}

#[test]
fn a_hostile_title_stays_text() {
    let dir = TempDir::new().unwrap();
    let name = "<script><b>\"&{{script}}'.html";
    run(dir.path(), &["export", "--demo", "--out", name]);
    let page = fs::read_to_string(dir.path().join(name)).unwrap();
    let shown = "&lt;script&gt;&lt;b&gt;&quot;&amp;{{script}}&#39;";
    assert!(page.contains(&format!("<title>{shown}</title>")));
    assert!(!page.contains("<b>"));

    // No file's name holds a slash, but another caller's title may.
    let mut page = Vec::new();
    let hostile = html::Page {
        title: "</title></script><b>",
        alive: None,
    };
    html::write(hostile, &mut page, |contents| {
        contents.about(&json!({"names": ["</script><b>"]}))?;
        contents.glb(|out| std::io::Write::write_all(out, b"glTF"))
    })
    .unwrap();
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains("<title>&lt;/title&gt;&lt;/script&gt;&lt;b&gt;</title>"));
    assert_eq!(glb_of(&page), (b"glTF".to_vec(), 1));
    assert!(!page.contains("</script><b>"));
    assert_eq!(about_of(&page)["names"][0], "</script><b>");
}

#[test]
fn a_page_appears_whole_or_not_at_all() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("x.html"), "older").unwrap();
    // The file system takes 512 KiB of the page's 1.8 MB.
    let limited = Command::new("sh")
        .env("XDG_CACHE_HOME", NO_CACHE)
        .current_dir(dir.path())
        .args(["-c", "trap '' XFSZ; ulimit -f 1024; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_vggt"))
        .args(["export", "--demo", "--out", "x.html", "--overwrite"])
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&limited.stderr);
    assert_eq!(limited.status.code(), Some(1), "{err}");
    assert!(err.contains("File too large"), "{err}");
    assert_eq!(fs::read(dir.path().join("x.html")).unwrap(), b"older");
    assert_eq!(files(dir.path()), ["x.html"]);

    run(
        dir.path(),
        &["export", "--demo", "--out", "x.html", "--overwrite"],
    );
    let page = fs::read_to_string(dir.path().join("x.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</script>\n</body>\n</html>\n"));
    assert_eq!(files(dir.path()), ["x.html"]);
}

#[test]
fn the_ending_or_the_format_asks_for_a_page() {
    let dir = TempDir::new().unwrap();
    let demo = |args: &[&str]| {
        let all = [&["--demo", "--max_frames", "2"], args].concat();
        let said = summary(dir.path(), &all);
        assert_eq!(said["format"], "html", "{args:?}");
        said["out"].as_str().unwrap().to_owned()
    };
    assert_eq!(demo(&["--format", "html"]), "scene.html");
    assert_eq!(demo(&["--out", "a.html"]), "a.html");
    assert_eq!(demo(&["--out", "a.htm"]), "a.htm");
    assert_eq!(
        demo(&[
            "--format",
            "html",
            "--show_cam",
            "--glb",
            "quantized",
            "--out",
            "many/"
        ]),
        "many/scene_depthmap_conf10_cam_quantized.html"
    );

    let wrong = ["export", "--demo", "--format", "page"];
    assert!(fail(dir.path(), 2, &wrong).contains("glb, html, ply, colmap or nerfstudio"));
    let both = [
        "export",
        "--demo",
        "--format",
        "glb",
        "--out",
        "contradiction.html",
    ];
    assert!(fail(dir.path(), 2, &both).contains("contradict"));
}
