//! Colors of other spaces against LittleCMS, and sRGB left alone.

use std::fs;

use super::{data, difference};
use image::RgbImage;
use vggt::frames::{ImageLimits, decode_image, read_image};

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
fn a_profile_of_megabytes_still_counts() {
    let small = read("display_p3.png");
    let mut info = png::Info::with_size(small.width(), small.height());
    (info.color_type, info.bit_depth) = (png::ColorType::Rgb, png::BitDepth::Eight);
    let bytes = fs::read(data("profiles").join("display_p3.png")).unwrap();
    let original = png::Decoder::new(std::io::Cursor::new(&bytes));
    let original = original.read_info().unwrap().info().clone();
    let mut icc = original.icc_profile.unwrap().into_owned();
    icc.resize(15 << 20, 0);
    let length = u32::try_from(icc.len()).unwrap();
    icc[..4].copy_from_slice(&length.to_be_bytes());
    info.icc_profile = Some(icc.into());
    let plain = image::load_from_memory(&bytes).unwrap().into_rgb8();
    let mut file = Vec::new();
    let encoder = png::Encoder::with_info(&mut file, info).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(plain.as_raw()).unwrap();
    writer.finish().unwrap();
    let image = decode_image("large.png", &file, &ImageLimits::default()).unwrap();
    assert!(image.rgb == small);
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
