//! The sky network of `--mask_sky`, with a tiny network of the same kind against ONNX Runtime and OpenCV.

use std::{
    fs,
    path::{Path, PathBuf},
};

use image::RgbImage;
use vggt::frames::{FramesError, ImageLimits, SkyNetwork, read_image};

/// Cutting to whole numbers turns a difference in the network's last bit into one step, and OpenCV's
/// vectorised resize of the input is one step off at one pixel in a thousand.
const MAP_MAX: u8 = 2;
/// Pixels at the threshold may fall to either side.
const MASK_MISMATCH: f64 = 0.0005;
/// From here on the demo calls it sky.
const SKY_FROM: u8 = 32;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn read(name: &str) -> RgbImage {
    read_image(&data(name), &ImageLimits::default())
        .unwrap()
        .rgb
}

#[test]
fn the_map_and_the_mask_are_those_of_the_demo() {
    let network = SkyNetwork::open(&data("sky/tiny.onnx")).unwrap();
    for name in ["small.png", "gray.png", "landscape.png"] {
        let image = read(&format!("frames/preprocess/{name}"));
        let expected: Vec<u8> = read(&format!("sky/{name}"))
            .pixels()
            .map(|p| p.0[0])
            .collect();
        let map = network.sky_map(&image).unwrap();
        assert_eq!(map.dimensions(), image.dimensions());
        let differences = map
            .as_raw()
            .iter()
            .zip(&expected)
            .map(|(a, b)| a.abs_diff(*b));
        let max = differences.clone().max().unwrap();
        let off = differences.filter(|d| *d > 0).count();
        let mask = network.keep_mask(&image).unwrap();
        let mismatches = mask
            .iter()
            .zip(&expected)
            .filter(|(keep, e)| **keep != (**e < SKY_FROM));
        let mismatch = mismatches.count() as f64 / expected.len() as f64;
        println!(
            "{name}: max {max}/255, {off} of {} differ, mask {mismatch:.5}",
            expected.len()
        );
        assert!(max <= MAP_MAX, "{name}: {max}");
        assert!(mismatch <= MASK_MISMATCH, "{name}: {mismatch}");
        assert!(mask.contains(&true) && mask.contains(&false));
    }
}

#[test]
fn what_is_no_sky_network_is_refused_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = fs::read(data("sky/tiny.onnx")).unwrap();
    let wrong: [(&str, &[u8]); 4] = [
        ("page.onnx", b"<!DOCTYPE html><html><body>404</body></html>"),
        ("empty.onnx", b""),
        ("half.onnx", &tiny[..tiny.len() / 2]),
        (
            "pointer.onnx",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        ),
    ];
    for (name, bytes) in wrong {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let e = SkyNetwork::open(&path).unwrap_err();
        assert!(matches!(e, FramesError::SkyNetwork { .. }), "{name}: {e:?}");
        assert!(e.to_string().contains(name), "{e}");
    }
    let e = SkyNetwork::open(&dir.path().join("missing.onnx")).unwrap_err();
    assert!(matches!(e, FramesError::Read { .. }));
    let e = SkyNetwork::open(dir.path()).unwrap_err();
    assert!(matches!(e, FramesError::Read { .. }));
}

#[test]
fn an_output_that_is_no_map_is_refused() {
    let network = SkyNetwork::open(&data("sky/two_channels.onnx")).unwrap();
    let e = network.sky_map(&RgbImage::new(8, 8)).unwrap_err();
    assert!(e.to_string().contains("[1, 2, 320, 320]"), "{e}");
    assert!(network.keep_mask(&RgbImage::new(0, 8)).is_err());
}

#[test]
fn spoilt_networks_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spoilt.onnx");
    let tiny = fs::read(data("sky/tiny.onnx")).unwrap();
    let image = RgbImage::new(4, 4);
    let mut state = 0x5EEDu64;
    let mut roll = |sides: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % sides
    };
    for _ in 0..60 {
        let mut bytes = tiny.clone();
        for _ in 0..3 {
            let at = roll(bytes.len());
            bytes[at] = roll(256) as u8;
        }
        fs::write(&path, &bytes).unwrap();
        if let Ok(network) = SkyNetwork::open(&path) {
            let _ = network.keep_mask(&image);
        }
    }
}
