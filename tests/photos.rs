//! Folders and files of photos, as people have them, through `vggt export` and `vggt client`.

use std::{fs, path::Path};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{fail, repository, run, text, vggt};

fn data(name: &str) -> std::path::PathBuf {
    repository("tests/data/frames").join(name)
}

fn copy(name: &str, to: &Path) {
    fs::copy(data(name), to).unwrap();
}

/// A folder with these files: name in the folder, file of the test data or else its content.
fn folder(dir: &TempDir, files: &[(&str, &str)]) -> String {
    let folder = dir.path().join("photos");
    fs::create_dir(&folder).unwrap();
    for (name, content) in files {
        let to = folder.join(name);
        if data(content).is_file() {
            copy(content, &to);
        } else {
            fs::write(to, content).unwrap();
        }
    }
    text(&folder).to_owned()
}

/// Exports with the demo's weights; returns the summary and what was said besides.
fn export(dir: &TempDir, inputs: &[&str]) -> (Value, String) {
    let args = [&["export", "--demo", "--json", "--out", "o.glb"], inputs].concat();
    let output = vggt(dir.path(), &args);
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{err}");
    (serde_json::from_slice(&output.stdout).unwrap(), err)
}

fn names(said: &Value) -> Vec<&str> {
    let names = said["names"].as_array().unwrap();
    names.iter().map(|name| name.as_str().unwrap()).collect()
}

/// Writes the first bytes of a file of the test data.
fn cut(name: &str, kept: usize, to: &Path) {
    let bytes = fs::read(data(name)).unwrap();
    fs::write(to, &bytes[..kept]).unwrap();
}

const PNG: &str = "formats/rgb.png";
const JPEG: &str = "formats/baseline.jpg";

#[test]
fn names_are_in_natural_order() {
    let dir = TempDir::new().unwrap();
    let files = ["img10.jpg", "IMG2.jpg", "img1.jpg", "img02.jpg"].map(|name| (name, JPEG));
    let photos = folder(&dir, &files);
    let (said, _) = export(&dir, &[&photos]);
    assert_eq!(
        names(&said),
        ["img1.jpg", "IMG2.jpg", "img02.jpg", "img10.jpg"]
    );
}

#[test]
fn companions_are_left_out_without_a_word() {
    let dir = TempDir::new().unwrap();
    let photos = folder(
        &dir,
        &[
            ("DJI_1.JPG", JPEG),
            ("DJI_1.DNG", "raw/no_preview.dng"),
            ("IMG_0001.JPG", JPEG),
            ("IMG_E0001.JPG", JPEG),
            ("IMG_0001.MOV", "clips/h264.mov"),
            ("IMG_0001.AAE", "<plist/>"),
            ("x.png", PNG),
            ("x.png.xmp", "<xmp/>"),
            (".trashed-1700000000-b.jpg", JPEG),
            ("._x.png", "resource fork"),
            ("Thumbs.db", "thumbnails"),
        ],
    );
    fs::create_dir(Path::new(&photos).join("more")).unwrap();
    let (said, err) = export(&dir, &[&photos]);
    assert_eq!(names(&said), ["DJI_1.JPG", "IMG_E0001.JPG", "x.png"]);
    assert!(said["skipped"].is_null(), "{said}");
    assert!(
        !err.contains("skip") && !err.contains("images used"),
        "{err}"
    );
}

#[test]
fn our_own_depth_maps_are_not_photos() {
    let dir = TempDir::new().unwrap();
    let photos = folder(&dir, &[("a.jpg", JPEG), ("b.png", PNG)]);
    let (first, _) = export(&dir, &[&photos, "--save_depth", &photos]);
    let (second, err) = export(&dir, &[&photos]);
    assert_eq!(names(&first), ["a.jpg", "b.png"]);
    assert_eq!(names(&second), names(&first), "{err}");
    assert!(!err.contains("images used"), "{err}");
}

#[test]
fn bad_files_of_a_folder_are_skipped_and_counted_by_reason() {
    let dir = TempDir::new().unwrap();
    let photos = folder(
        &dir,
        &[
            ("a.jpg", JPEG),
            ("b.jpg", "not a photo"),
            ("c.png", PNG),
            ("d.dng", "raw/no_preview.dng"),
            ("empty.jpg", ""),
            ("notes.txt", "notes"),
            ("z.mp4", "clips/h264.mp4"),
        ],
    );
    cut(PNG, 40, &Path::new(&photos).join("cut.png"));
    // Damaged in the middle: the checksum is wrong.
    let mut damaged = fs::read(data(PNG)).unwrap();
    damaged[200] ^= 0xFF;
    fs::write(Path::new(&photos).join("damaged.png"), damaged).unwrap();
    let expected = "2 of 9 images used; skipped: 2 not an image (\"b.jpg\", \"notes.txt\"), 1 not an image but a video (\"z.mp4\"), 1 empty \
                    (\"empty.jpg\"), 1 cut off (\"cut.png\"), 1 damaged (\"damaged.png\"), 1 RAW without a JPEG preview \
                    (\"d.dng\")";
    let (said, err) = export(&dir, &[&photos]);
    assert_eq!(names(&said), ["a.jpg", "c.png"]);
    assert_eq!(err.matches(expected).count(), 1, "{err}");
    assert_eq!(said["images_found"], 9);
    let groups = said["skipped"].as_array().unwrap();
    assert_eq!(groups.len(), 6);
    assert_eq!(groups[0]["reason"], "not an image");
    assert_eq!(groups[0]["count"], 2);
    assert_eq!(groups[0]["names"][1], "notes.txt");
    // At the end as well.
    let out = run(dir.path(), &["export", "--demo", &photos]);
    assert!(out.contains(expected), "{out}");
}

#[test]
fn a_bad_file_makes_room_for_another_where_not_all_are_taken() {
    let dir = TempDir::new().unwrap();
    let files: Vec<(String, &str)> = (1..=9)
        .map(|i| (format!("{i}.jpg"), if i == 5 { "\u{fffd}" } else { JPEG }))
        .collect();
    let files: Vec<_> = files.iter().map(|(name, file)| (&**name, *file)).collect();
    let photos = folder(&dir, &files);
    let bad = Path::new(&photos).join("5.jpg");
    cut(JPEG, 40, &bad);
    let (said, err) = export(&dir, &[&photos, "--max_frames", "3"]);
    assert_eq!(names(&said), ["1.jpg", "6.jpg", "9.jpg"]);
    assert!(
        err.contains("3 of 9 images used, 5 left out evenly; skipped: 1 cut off (\"5.jpg\")"),
        "{err}"
    );
}

#[test]
fn the_same_bad_file_named_is_an_error() {
    let dir = TempDir::new().unwrap();
    let photos = folder(&dir, &[("a.jpg", JPEG), ("b.jpg", "not a photo")]);
    let [a, b] = ["a.jpg", "b.jpg"].map(|name| format!("{photos}/{name}"));
    let cut_off = format!("{photos}/c.jpg");
    cut(JPEG, 40, Path::new(&cut_off));
    let raw = data("raw/no_preview.dng");
    for (bad, reason) in [
        (&*b, "not an image of a known format"),
        (&cut_off, "cut off"),
        (text(&raw), "no JPEG preview"),
        ("missing.jpg", "cannot read \"missing.jpg\""),
    ] {
        for inputs in [&[bad][..], &[&a, bad], &[bad, &a]] {
            let args = [&["export", "--demo"], inputs].concat();
            let err = fail(dir.path(), 1, &args);
            assert!(err.contains(reason), "{inputs:?}: {err}");
        }
    }
}

#[test]
fn a_folder_of_which_nothing_can_be_used_tells_why() {
    let dir = TempDir::new().unwrap();
    let photos = folder(&dir, &[("a.dng", "raw/no_preview.dng"), ("b.jpg", "text")]);
    cut(JPEG, 40, &Path::new(&photos).join("c.jpg"));
    let err = fail(dir.path(), 1, &["export", "--demo", &photos]);
    for reason in [
        "1 not an image (\"b.jpg\")",
        "1 cut off (\"c.jpg\")",
        "1 RAW without",
    ] {
        assert!(err.contains(reason), "{err}");
    }
}

#[test]
fn a_folder_with_a_video_only_names_the_way_to_use_it() {
    let dir = TempDir::new().unwrap();
    let photos = folder(&dir, &[("clip.mp4", "clips/h264.mp4")]);
    let err = fail(dir.path(), 1, &["export", "--demo", &photos]);
    assert!(
        err.contains("to use the video, give \"clip.mp4\" itself"),
        "{err}"
    );
}

#[test]
fn folders_and_videos_stand_alone() {
    let dir = TempDir::new().unwrap();
    let photos = folder(&dir, &[("a.jpg", JPEG)]);
    let clip = data("clips/h264.mp4");
    let (photo, clip) = (format!("{photos}/a.jpg"), text(&clip));
    for inputs in [
        [&*photos, clip],
        [clip, &photos],
        [&photos, &photos],
        [&photo, clip],
    ] {
        let err = fail(dir.path(), 2, &["export", "--demo", inputs[0], inputs[1]]);
        assert!(
            err.contains("together with other inputs"),
            "{inputs:?}: {err}"
        );
    }
}

#[test]
fn what_is_to_be_known_of_an_image_is_said_once() {
    let dir = TempDir::new().unwrap();
    let photos = folder(
        &dir,
        &[
            ("1.dng", "raw/preview.dng"),
            ("2.nef", "raw/preview.nef"),
            ("3.jpg", JPEG),
        ],
    );
    let jpeg = fs::read(data("preprocess/photo.jpg")).unwrap();
    fs::write(Path::new(&photos).join("4.jpg"), &jpeg[..jpeg.len() / 2]).unwrap();
    let (said, err) = export(&dir, &[&photos]);
    assert_eq!(said["frames"], 4);
    let preview = "\"1.dng\": DNG is a RAW format: using its embedded JPEG preview of 48 x 32 pixels (1 \
                   other image likewise)";
    assert!(err.contains(preview), "{err}");
    assert_eq!(err.matches("RAW format").count(), 1, "{err}");
    assert!(
        err.contains("\"4.jpg\": the file is cut off: about "),
        "{err}"
    );
}

#[test]
fn a_portrait_photo_that_is_cropped_is_said_once_with_the_cure() {
    let dir = TempDir::new().unwrap();
    let photos = folder(
        &dir,
        &[
            ("1.jpg", "formats/orientation_6.jpg"),
            ("2.webp", "formats/orientation_8.webp"),
            ("3.jpg", JPEG),
        ],
    );
    let (_, err) = export(&dir, &[&photos]);
    // 32 x 48 becomes 112 x 168, of which the middle 112 rows stay.
    let expected = "2 frames are cropped to squares: \"1.jpg\" loses 33 % of its height (--preprocess pad keeps frames whole)";
    assert!(err.contains(expected), "{err}");
    let (_, err) = export(&dir, &[&photos, "--preprocess", "pad"]);
    assert!(!err.contains("cropped"), "{err}");
}

#[test]
fn limits_on_images_are_flags() {
    let dir = TempDir::new().unwrap();
    let photo = data(JPEG);
    for (flag, value) in [
        ("--max-image-pixels", "1535"),
        ("--max-image-side", "47"),
        ("--max-image-bytes", "900"),
    ] {
        let err = fail(
            dir.path(),
            1,
            &["export", "--demo", text(&photo), flag, value],
        );
        assert!(err.contains("limit") && err.contains(flag), "{err}");
    }
    let large = dir.path().join("large.png");
    image::RgbImage::new(700, 600).save(&large).unwrap();
    let args = ["export", "--demo", text(&large), "--max_image_memory", "1"];
    let err = fail(dir.path(), 1, &args);
    assert!(
        err.contains("the limit is 1") && err.contains("--max-image-memory"),
        "{err}"
    );
}

#[test]
fn kinds_of_tiff_that_are_not_read_are_named() {
    let dir = TempDir::new().unwrap();
    for (name, expected) in [
        (
            "palette.tif",
            "a TIFF with a color palette is not read here",
        ),
        (
            "float.tif",
            "a TIFF with 32-bit floating-point values is not read here",
        ),
    ] {
        let path = data("tiff").join(name);
        let err = fail(dir.path(), 1, &["export", "--demo", text(&path)]);
        assert!(err.contains(expected), "{err}");
    }
    let pages = data("tiff/pages.tif");
    let (_, err) = export(&dir, &[text(&pages)]);
    assert!(err.contains("several pages: using the first"), "{err}");
}

/// Makes a named pipe, that nobody writes to.
#[cfg(unix)]
fn pipe(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let dir = TempDir::new().unwrap();
    let photo = data(JPEG);
    for name in ["pipe", "pipe.jpg", "pipe.index.json"] {
        pipe(&dir.path().join(name));
    }
    for args in [
        &["export", "--demo", "pipe"][..],
        &["export", "--demo", "pipe.jpg"],
        &["export", "--demo", text(&photo), "pipe"],
        &["export", "--demo", "--video_path", "pipe"],
        &["export", "--demo", "--images_dir", "pipe"],
        &["export", "--from_predictions", "pipe"],
        &["export", "--checkpoint", "pipe", text(&photo)],
        &["export", "--checkpoint", "pipe.index.json", text(&photo)],
        &["convert", "pipe", "o.safetensors"],
    ] {
        let err = fail(dir.path(), 1, args);
        assert!(err.contains("it is not a regular file"), "{args:?}: {err}");
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_in_a_folder_is_skipped() {
    let dir = TempDir::new().unwrap();
    let photos = folder(&dir, &[("a.jpg", JPEG)]);
    for name in ["depth.json", "b.jpg", "c"] {
        pipe(&Path::new(&photos).join(name));
    }
    let (said, err) = export(&dir, &[&photos]);
    assert_eq!(names(&said), ["a.jpg"]);
    assert!(err.contains("3 not a regular file"), "{err}");
}

#[test]
fn the_other_photo_is_used_where_the_preferred_one_is_broken() {
    let dir = TempDir::new().unwrap();
    let photos = folder(
        &dir,
        &[
            ("A.DNG", "raw/preview.dng"),
            ("A.JPG", "not a photo"),
            ("B.DNG", "raw/preview.dng"),
            ("IMG_0001.JPG", JPEG),
            ("IMG_E0001.JPG", "not a photo"),
            ("Ü.DNG", "raw/preview.dng"),
            ("ü.jpg", JPEG),
        ],
    );
    fs::write(Path::new(&photos).join("B.JPG"), b"").unwrap();
    let (said, err) = export(&dir, &[&photos]);
    assert_eq!(names(&said), ["A.DNG", "B.DNG", "IMG_0001.JPG", "ü.jpg"]);
    assert!(
        err.contains("2 not an image (\"A.JPG\", \"IMG_E0001.JPG\"), 1 empty (\"B.JPG\")"),
        "{err}"
    );
}

#[test]
fn limits_that_refuse_everything_are_usage_errors() {
    let dir = TempDir::new().unwrap();
    let photo = data(JPEG);
    for flag in [
        "--max_video_seconds",
        "--max_video_pixels",
        "--max_decode_seconds",
        "--max_image_pixels",
        "--max_image_side",
        "--max_image_bytes",
        "--max_image_memory",
        "--max_frames",
    ] {
        let shown = flag.replace('_', "-");
        for value in ["0", "-1", "NaN", "x"] {
            let args = ["export", "--demo", text(&photo), flag, value];
            let err = fail(dir.path(), 2, &args);
            assert!(
                err.contains("invalid value") && err.contains(&shown),
                "{flag} {value}: {err}"
            );
        }
    }
    for flag in ["--max_video_seconds", "--max_image_pixels", "--max_images"] {
        let err = fail(dir.path(), 2, &["serve", flag, "0"]);
        assert!(err.contains("invalid value"), "{flag}: {err}");
    }
}

#[test]
fn a_file_of_an_unknown_format_is_told_the_known_ones() {
    let dir = TempDir::new().unwrap();
    for (name, content) in [
        ("a.txt", &b"some words"[..]),
        ("x.tga", &[0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0]),
        ("x.ppm", b"P6 1 1 255 abc"),
        ("one", b"1"),
        ("b.jpg", b"some words"),
    ] {
        fs::write(dir.path().join(name), content).unwrap();
        let err = fail(dir.path(), 1, &["export", "--demo", name]);
        assert!(
            err.contains("not an image of a known format")
                || err.contains("neither an image nor a video of a known format"),
            "{err}"
        );
        for known in ["JPEG, PNG, WebP, BMP, TIFF, GIF", "HEIC", "AVIF", "RAW"] {
            assert!(err.contains(known), "{name}: {err}");
        }
        assert!(!err.contains("Invalid argument"), "{err}");
    }
    let photo = data(JPEG);
    let args = ["export", "--demo", "--video_path", text(&photo)];
    let err = fail(dir.path(), 1, &args);
    assert!(err.contains("it is an image"), "{err}");
}

#[test]
fn a_color_profile_that_unpacks_to_much_is_ignored_with_a_warning() {
    let dir = TempDir::new().unwrap();
    let mut info = png::Info::with_size(4, 4);
    info.color_type = png::ColorType::Rgb;
    info.bit_depth = png::BitDepth::Eight;
    info.icc_profile = Some(vec![0; 40 << 20].into());
    let file = fs::File::create(dir.path().join("large.png")).unwrap();
    let encoder = png::Encoder::with_info(file, info).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[90; 48]).unwrap();
    writer.finish().unwrap();
    let (said, err) = export(&dir, &["large.png"]);
    assert_eq!(names(&said), ["large.png"]);
    let warning =
        "ignoring the color profile of \"large.png\": it is damaged or larger than 16 MiB";
    assert!(err.contains(warning), "{err}");
    let line = err.lines().find(|line| line.contains(warning)).unwrap();
    assert_eq!(line.matches("large.png").count(), 1, "{line}");
}
