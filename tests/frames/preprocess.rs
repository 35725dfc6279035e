//! Sizes, values and placements against `load_and_preprocess_images` of the Python implementation.

use std::{collections::BTreeMap, fs};

use super::{data, difference, fixture};
use image::{Rgb, RgbImage};
use vggt::frames::{
    DecodedImage, Frames, ImageLimits, PreprocessError, PreprocessMode, preprocess, read_image,
    stack,
};

/// VGGT-1B's configuration, with which the fixtures were made.
const IMG_SIZE: usize = 518;
const PATCH_SIZE: usize = 14;
/// Every 5th row and column is in the fixture.
const STEP: usize = 5;
/// PNG is lossless and the resampler does Pillow's integer arithmetic: nothing may differ.
const PNG_MAX: u8 = 0;
/// Two JPEG decoders differ in their inverse DCT and in how they enlarge chroma.
const JPEG_MAX: u8 = 3;
const JPEG_MEAN: f64 = 0.5;

fn load(files: &[String], mode: PreprocessMode) -> Frames {
    let prepared = files.iter().map(|file| {
        let picture = read_image(&data("preprocess").join(file), &ImageLimits::default()).unwrap();
        preprocess(picture, mode, IMG_SIZE, PATCH_SIZE).unwrap()
    });
    stack(prepared.collect()).unwrap()
}

fn picture(width: u32, height: u32) -> DecodedImage {
    let rgb = RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, 77]));
    DecodedImage::new("made.png".to_owned(), rgb)
}

fn every_5th(frames: &Frames) -> Vec<u8> {
    let (s, c, h, w) = frames.images.dims4().unwrap();
    let values = frames
        .images
        .flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap();
    let mut kept = Vec::new();
    for plane in 0..s * c {
        for y in (0..h).step_by(STEP) {
            for x in (0..w).step_by(STEP) {
                kept.push((values[(plane * h + y) * w + x] * 255.0).round() as u8);
            }
        }
    }
    kept
}

#[test]
fn every_set_agrees_with_pillow_in_both_modes() {
    let text = fs::read_to_string(data("preprocess/cases.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
    let sets: BTreeMap<String, Vec<String>> =
        serde_json::from_value(cases["sets"].clone()).unwrap();
    assert_eq!(sets.len(), 8);
    for (set, files) in &sets {
        for (mode, suffix) in [(PreprocessMode::Crop, "crop"), (PreprocessMode::Pad, "pad")] {
            let key = format!("{set}.{suffix}");
            let frames = load(files, mode);
            let shape: Vec<usize> = serde_json::from_value(cases["shapes"][&key].clone()).unwrap();
            assert_eq!(frames.images.dims(), shape, "{key}");
            assert_eq!(&frames.names, files);
            let (_, expected) = fixture("preprocess/expected_every_5th.safetensors", &key);
            let (max, mean) = difference(&every_5th(&frames), &expected);
            println!("{key}: max {max}/255, mean {mean:.4}/255");
            let limit = if set == "jpeg" { JPEG_MAX } else { PNG_MAX };
            assert!(max <= limit && mean <= JPEG_MEAN, "{key}: {max} {mean}");
        }
    }
}

#[test]
fn a_picture_of_the_networks_size_is_not_touched() {
    let given = picture(518, 294);
    let prepared = preprocess(given.clone(), PreprocessMode::Crop, IMG_SIZE, PATCH_SIZE).unwrap();
    assert_eq!(prepared.rgb, given.rgb);
    assert_eq!(prepared.placement.scale_x, 1.0);
    assert_eq!(prepared.placement.offset_y, 0.0);
}

#[test]
fn placements_lead_back_to_the_original_picture() {
    // Tall: 60x150 -> 28x70 -> the middle 28 rows.
    let p = preprocess(picture(60, 150), PreprocessMode::Crop, 28, 14).unwrap();
    assert_eq!(p.rgb.dimensions(), (28, 28));
    assert_eq!((p.placement.offset_x, p.placement.offset_y), (0.0, -21.0));
    assert_eq!(p.placement.scale_y, 70.0 / 150.0);
    // Padded: 60x150 -> 56 * 60 / 150 / 14 = 1.6 patches -> 28x56, 14 white columns on either side.
    let p = preprocess(picture(60, 150), PreprocessMode::Pad, 56, 14).unwrap();
    assert_eq!((p.placement.offset_x, p.placement.offset_y), (14.0, 0.0));
    assert_eq!(p.placement.scale_x, 28.0 / 60.0);
    assert_eq!(p.rgb.get_pixel(13, 30), &Rgb([255; 3]));
    assert_ne!(p.rgb.get_pixel(14, 30), &Rgb([255; 3]));
    assert_eq!(p.rgb.get_pixel(42, 30), &Rgb([255; 3]));
}

#[test]
fn stacking_centres_the_smaller_frame_and_moves_its_placement() {
    let low = preprocess(picture(56, 14), PreprocessMode::Crop, 56, 14).unwrap();
    let high = preprocess(picture(56, 42), PreprocessMode::Crop, 56, 14).unwrap();
    let frames = stack(vec![low, high]).unwrap();
    assert_eq!(frames.images.dims(), [2, 3, 42, 56]);
    assert_eq!(frames.placements[0].offset_y, 14.0);
    assert_eq!(frames.placements[1].offset_y, 0.0);
    let blue = frames
        .images
        .get(0)
        .unwrap()
        .get(2)
        .unwrap()
        .to_vec2::<f32>()
        .unwrap();
    assert_eq!(
        (blue[13][5], blue[14][5], blue[28][5]),
        (1.0, 77.0 / 255.0, 1.0)
    );
    assert!(matches!(stack(Vec::new()), Err(PreprocessError::Empty)));
}

#[test]
fn extreme_shapes_stay_within_the_networks_size() {
    for (width, height) in [(20_000, 1), (1, 20_000), (1, 1), (3, 2000)] {
        for mode in [PreprocessMode::Crop, PreprocessMode::Pad] {
            let p = preprocess(picture(width, height), mode, 56, 14).unwrap();
            let (w, h) = p.rgb.dimensions();
            assert!(w <= 56 && h <= 56 && w % 14 == 0 && h % 14 == 0, "{w}x{h}");
            assert!(h >= 14);
        }
    }
}

#[test]
fn sizes_that_do_not_fit_each_other_are_refused() {
    for (img_size, patch_size) in [(518, 16), (0, 14), (518, 0), (1 << 40, 1)] {
        let e = preprocess(picture(9, 9), PreprocessMode::Crop, img_size, patch_size).unwrap_err();
        assert!(matches!(e, PreprocessError::BadSizes { .. }), "{e}");
    }
}
