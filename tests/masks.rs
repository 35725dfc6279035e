//! The folder of masks of `--masks`: which points go, whose mask is which, and what is wrong with a mask.

use std::{collections::BTreeSet, fs, path::Path};

use image::{ColorType, GrayImage, Luma};
use tempfile::TempDir;
use vggt::{
    frames::{ImageLimits, Placement},
    pipeline::{
        MaskError, Masks, PipelineError, ReconstructOptions, Reconstruction, SavedFrames, Silent,
        Warning, Watcher, rebuild,
    },
    scene::{FramesInMemory, SceneOptions},
};

use crate::support::{fail, glb::Glb, run, scene as fixture, text, vggt};

const HEIGHT: usize = 28;
const WIDTH: usize = 42;

/// A picture that fills the network's image, one with margins above and below, and one without a mask.
const NAMES: [&str; 3] = ["a.jpg", "B.JPG", "c.png"];

fn placements() -> Vec<Placement> {
    let whole = Placement {
        source_width: 420,
        source_height: 280,
        scale_x: 0.1,
        scale_y: 0.1,
        offset_x: 0.0,
        offset_y: 0.0,
    };
    let padded = Placement {
        source_width: 84,
        source_height: 42,
        scale_x: 0.5,
        scale_y: 0.5,
        offset_y: 3.5,
        ..whole
    };
    vec![whole, padded, whole]
}

/// The frames of the reference scenes under other names, with the sky masked where `sky` says so.
fn frames(sky: Option<&[bool]>) -> (FramesInMemory, SavedFrames) {
    let saved = SavedFrames {
        names: NAMES.map(str::to_owned).to_vec(),
        placements: placements(),
        available: None,
        seconds: Vec::new(),
        weights: "test".to_owned(),
        weights_sha256: None,
    };
    (fixture::frames(sky).with_placements(placements()), saved)
}

#[derive(Default)]
struct Warnings(Vec<Warning>);

impl Watcher for Warnings {
    fn step(&mut self, _: vggt::pipeline::Stage, _: usize, _: usize) -> bool {
        true
    }

    fn warn(&mut self, warning: &Warning) {
        self.0.push(warning.clone());
    }
}

fn made(
    folder: &Path,
    sky: Option<&[bool]>,
    watcher: &mut dyn Watcher,
) -> Result<Reconstruction, PipelineError> {
    let masks = Masks::open(folder, &[], ImageLimits::default())?;
    let (frames, saved) = frames(sky);
    let options = ReconstructOptions {
        masks: Some(&masks),
        scene: SceneOptions {
            conf_thres: 0.0,
            ..SceneOptions::default()
        },
        ..ReconstructOptions::default()
    };
    rebuild(Box::new(frames), saved, &options, watcher)
}

/// Frame, row and column of each point.
fn pixels(made: &Reconstruction) -> BTreeSet<[usize; 3]> {
    let points = made
        .scene
        .points
        .over(&*made.predictions)
        .collect()
        .unwrap();
    let pixel = |i: usize| {
        let [x, y] = points.pixel(i).map(|v| v as usize);
        [points.frame(i), y, x]
    };
    (0..points.len()).map(pixel).collect()
}

fn error(folder: &Path) -> PipelineError {
    match made(folder, None, &mut Silent) {
        Ok(_) => panic!("the masks were accepted"),
        Err(e) => e,
    }
}

/// A mask of this size that is white where `keeps` says so.
fn mask(path: &Path, [width, height]: [u32; 2], keeps: impl Fn(u32, u32) -> bool) {
    let white = |x, y| Luma([if keeps(x, y) { 255 } else { 0 }]);
    GrayImage::from_fn(width, height, white).save(path).unwrap();
}

/// Masks of the first two pictures: the right half of the first, as large as the picture, and the lower half of the second.
fn two_masks(folder: &Path) {
    mask(&folder.join("a.jpg.png"), [420, 280], |x, _| x >= 210);
    mask(&folder.join("b_mask.png"), [42, 21], |_, y| y >= 11);
}

fn expected(sky: Option<&[bool]>) -> BTreeSet<[usize; 3]> {
    let all =
        (0..3).flat_map(|f| (0..HEIGHT).flat_map(move |y| (0..WIDTH).map(move |x| [f, y, x])));
    let kept = |&[frame, y, x]: &[usize; 3]| {
        let is_sky = sky.is_some_and(|keep| !keep[(frame * HEIGHT + y) * WIDTH + x]);
        let masked = match frame {
            0 => x < WIDTH / 2,
            // The picture is in the rows 3 to 23, each of which is a row of the mask.
            1 => !(3..24).contains(&y) || y - 3 < 11,
            _ => false,
        };
        !is_sky && !masked
    };
    all.filter(kept).collect()
}

#[test]
fn black_drops_points_and_what_has_no_mask_is_kept_and_told() {
    let dir = TempDir::new().unwrap();
    two_masks(dir.path());
    let mut warnings = Warnings::default();
    let made = made(dir.path(), None, &mut warnings).unwrap();
    assert_eq!(pixels(&made), expected(None));
    let [warning] = &warnings.0[..] else {
        panic!("{:?}", warnings.0)
    };
    assert_eq!(
        warning.to_string(),
        "1 of 3 frames have no mask and are kept whole: \"c.png\""
    );
    assert_eq!(warning.to_json()["names"], serde_json::json!(["c.png"]));
    assert_eq!(warning.numbers()["without"], 1);
}

#[test]
fn masks_and_the_sky_drop_points_together() {
    let dir = TempDir::new().unwrap();
    two_masks(dir.path());
    let sky: Vec<bool> = (0..3 * HEIGHT * WIDTH).map(|i| i % 3 > 0).collect();
    let made = made(dir.path(), Some(&sky), &mut Silent).unwrap();
    assert_eq!(pixels(&made), expected(Some(&sky)));
}

#[test]
fn opacity_and_small_numbers_are_masks_too() {
    let dir = TempDir::new().unwrap();
    two_masks(dir.path());
    // White everywhere, opaque on the right.
    let values: Vec<u8> = (0..420 * 280)
        .flat_map(|i| [255, if i % 420 >= 210 { 255 } else { 0 }])
        .collect();
    let path = dir.path().join("a.jpg.png");
    image::save_buffer(&path, &values, 420, 280, ColorType::La8).unwrap();
    // 0 and 1.
    let path = dir.path().join("b_mask.png");
    let values: Vec<u8> = (0..42 * 21).map(|i| u8::from(i / 42 >= 11)).collect();
    image::save_buffer(&path, &values, 42, 21, ColorType::L8).unwrap();
    let made = made(dir.path(), None, &mut Silent).unwrap();
    assert_eq!(pixels(&made), expected(None));
}

#[test]
fn a_mask_that_lies_on_its_side_or_is_of_another_picture_is_named() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.png");
    mask(&path, [280, 420], |_, _| true);
    let e = error(dir.path()).to_string();
    assert!(
        e.contains(text(&path)) && e.contains("280x420") && e.contains("EXIF"),
        "{e}"
    );
    mask(&path, [300, 280], |_, _| true);
    let e = error(dir.path()).to_string();
    assert!(
        e.contains(text(&path)) && e.contains("proportions") && !e.contains("EXIF"),
        "{e}"
    );
}

#[test]
fn two_masks_of_a_picture_are_refused_and_so_are_none() {
    let dir = TempDir::new().unwrap();
    mask(&dir.path().join("other.png"), [42, 28], |_, _| true);
    fs::write(dir.path().join("a.txt"), "not an image").unwrap();
    let e = error(dir.path()).to_string();
    assert!(
        e.contains("which holds other.png:") && e.contains("a_mask.*"),
        "{e}"
    );
    for name in ["a_mask.png", "mask_a.png"] {
        mask(&dir.path().join(name), [42, 28], |_, _| true);
    }
    let e = error(dir.path()).to_string();
    assert!(e.contains("a_mask.png") && e.contains("mask_a.png"), "{e}");
    fs::remove_file(dir.path().join("mask_a.png")).unwrap();
    assert!(made(dir.path(), None, &mut Silent).is_ok());
}

#[test]
fn a_damaged_mask_is_an_error_that_names_it() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.png");
    mask(&path, [420, 280], |x, y| (x * y) % 7 < 3);
    let whole = fs::read(&path).unwrap();
    let damaged = [
        whole[..whole.len() / 2].to_vec(),
        Vec::new(),
        b"what is this".to_vec(),
    ];
    for bytes in damaged {
        fs::write(&path, bytes).unwrap();
        let e = error(dir.path());
        assert!(
            matches!(e, PipelineError::Mask(MaskError::Image { .. })),
            "{e}"
        );
        assert!(e.to_string().contains(text(&path)), "{e}");
    }
}

#[test]
fn an_export_and_one_from_its_predictions_are_masked_alike() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("masks");
    fs::create_dir(&folder).unwrap();
    // The demo's images have 280 x 210 pixels.
    mask(&folder.join("FRAME_00.png"), [280, 210], |x, _| x >= 140);
    let flags = ["--max_frames", "2", "--conf_thres", "0", "--json", "--out"];
    let export = |source: &[&str], out: &str, masks: bool| {
        let more = if masks {
            &["--masks", "masks"][..]
        } else {
            &[]
        };
        let args = [&["export"], source, &flags[..], &[out], more].concat();
        let said: serde_json::Value = serde_json::from_str(&run(dir.path(), &args)).unwrap();
        let bytes = fs::read(dir.path().join(out)).unwrap();
        (said["points"].as_u64().unwrap(), Glb::parse(&bytes))
    };
    let demo = ["--demo", "--save_predictions", "p.safetensors"];
    let (all, plain) = export(&demo, "all.glb", false);
    let (some, masked) = export(&["--demo"], "some.glb", true);
    let saved = [
        "--from_predictions",
        "p.safetensors",
        "--prediction_mode",
        "depthmap",
    ];
    let (again, from_saved) = export(&saved, "again.glb", true);
    assert_eq!((all, some, again), (2 * 84 * 112, 3 * 84 * 56, 3 * 84 * 56));
    assert_eq!(masked.binary, from_saved.binary);
    let options = |glb: &Glb| glb.json["asset"]["extras"]["options"].clone();
    assert_eq!(options(&masked)["masks"], true);
    assert_eq!(options(&plain).get("masks"), None);
}

#[test]
fn masks_that_cannot_be_used_are_told_before_the_network_runs() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    let export = |flags: &[&str]| {
        let args = [
            &["export", "--demo", "--max_frames", "2", "--out", "o.glb"],
            flags,
        ]
        .concat();
        let e = fail(here, if flags.len() > 2 { 2 } else { 1 }, &args);
        assert!(!here.join("o.glb").exists());
        e
    };
    assert!(export(&["--masks", "nowhere"]).contains("\"nowhere\""));
    fs::create_dir(here.join("masks")).unwrap();
    let e = export(&["--masks", "masks"]);
    assert!(
        e.contains("which holds no images") && e.contains("frame_00_mask.*"),
        "{e}"
    );
    fs::write(here.join("masks/frame_00.png"), "damaged").unwrap();
    let e = export(&["--masks", "masks"]);
    assert!(e.contains("frame_00.png"), "{e}");
    for flags in [
        ["--masks", "masks", "--isolate"],
        ["--masks", "masks", "--watch=in"],
    ] {
        let e = export(&flags);
        assert!(
            e.contains("cannot be used with") && e.contains("--masks"),
            "{e}"
        );
    }
}

#[test]
fn a_mask_is_an_input_that_no_output_replaces() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("data/images/frame_00.png");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    mask(&path, [280, 210], |_, _| true);
    let before = fs::read(&path).unwrap();
    let args = [
        "export",
        "--demo",
        "--max_frames",
        "1",
        "--masks",
        "data/images",
        "--out",
        "data",
        "--format",
        "colmap",
        "--overwrite",
    ];
    let output = vggt(dir.path(), &args);
    assert!(!output.status.success());
    let e = String::from_utf8_lossy(&output.stderr);
    assert!(e.contains("frame_00.png") && e.contains("input"), "{e}");
    assert_eq!(fs::read(&path).unwrap(), before);
}
