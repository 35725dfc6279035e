//! Colors of other spaces against LittleCMS, and sRGB left alone.

use std::fs;

use super::{data, difference};
use image::RgbImage;
use vggt::frames::{ImageLimits, read_image};

/// The goal of the issue that asked for the conversion, mean of all values, of 255.
const MEAN: f64 = 1.0;

fn read(name: &str) -> RgbImage {
    let path = data("profiles").join(name);
    read_image(&path, &ImageLimits::default()).unwrap().rgb
}

#[test]
fn profiles_become_srgb_as_littlecms_converts_them() {
    let mut count = 0;
    for entry in fs::read_dir(data("profiles")).unwrap() {
        let expected = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = expected
            .strip_suffix(".png")
            .filter(|name| name.contains('.'))
        else {
            continue;
        };
        if !cfg!(feature = "video") && (name.contains("heic") || name.contains("avif")) {
            continue;
        }
        let (rgb, expected) = (read(name), read(&expected));
        assert_eq!(rgb.dimensions(), expected.dimensions(), "{name}");
        let (max, mean) = difference(rgb.as_raw(), expected.as_raw());
        println!("{name}: mean {mean:.3}/255, max {max}");
        assert!(mean <= MEAN, "{name}: {mean}");
        count += 1;
    }
    assert!(count >= 8, "{count}");
}

#[test]
fn profiles_that_mean_srgb_change_no_byte() {
    let plain = read("srgb.png");
    for name in ["srgb_littlecms.png", "srgb_parametric.png"] {
        assert_eq!(read(name), plain, "{name}");
    }
    // The images that are converted do differ.
    assert_ne!(read("display_p3.png"), plain);
}
