//! Formats, orientation, alpha, depth, limits and folders.

use std::{fs, path::Path};

use super::{data, difference};
use image::RgbImage;
use vggt::frames::{
    Folder, FramesError, ImageLimits, PreprocessError, decode_image, list_folder, read_image,
};

/// Lossy copies of a smooth 48x32 image: far below any mix-up of channels, rows or orientation.
const LOSSY_MEAN: f64 = 6.0;

fn read(name: &str) -> RgbImage {
    let image = read_image(&data("formats").join(name), &ImageLimits::default()).unwrap();
    assert_eq!(image.name, name);
    image.rgb
}

fn pixel(rgb: &RgbImage, x: u32, y: u32) -> [u8; 3] {
    rgb.get_pixel(x, y).0
}

#[test]
fn every_format_gives_the_same_image() {
    let reference = read("rgb.png");
    assert_eq!(reference.dimensions(), (48, 32));
    for name in ["rgb.bmp", "rgb.tif", "lossless.webp", "rgb16.png"] {
        assert_eq!(read(name), reference, "{name}");
    }
    for name in [
        "baseline.jpg",
        "progressive.jpg",
        "lossy.webp",
        "cmyk.jpg",
        "animated.gif",
    ] {
        let (max, mean) = difference(read(name).as_raw(), reference.as_raw());
        println!("{name}: max {max}/255, mean {mean:.3}/255");
        assert!(mean < LOSSY_MEAN, "{name}: {mean}");
    }
}

#[test]
fn grey_becomes_three_equal_channels() {
    let reference = read("rgb.png");
    let grey = read("gray.jpg");
    assert!(grey.pixels().all(|p| p.0[0] == p.0[1] && p.0[1] == p.0[2]));
    // The 16-bit file holds the green channel, and noise in the low byte.
    let grey16 = read("gray16.png");
    assert!(
        grey16
            .pixels()
            .zip(reference.pixels())
            .all(|(g, r)| g.0 == [r.0[1]; 3])
    );
}

#[test]
fn tiffs_in_tiles_strips_and_planes_and_with_long_offsets_are_read() {
    let reference = read("rgb.png");
    for name in [
        "tiles.tif",
        "strips.tif",
        "strip.tif",
        "planes.tif",
        "big.tif",
    ] {
        let image = read_image(&data("tiff").join(name), &ImageLimits::default()).unwrap();
        assert!(image.rgb == reference && image.notes.is_empty(), "{name}");
    }
}

#[test]
fn orientation_is_applied() {
    let upright = read("rgb.png");
    let turned = read("orientation_8.webp");
    assert_eq!(turned.dimensions(), (32, 48));
    // EXIF 8: the camera's right edge is up.
    assert_eq!(pixel(&turned, 0, 0), pixel(&upright, 47, 0));
    assert_eq!(pixel(&turned, 31, 0), pixel(&upright, 47, 31));
    // EXIF 5: mirrored along the diagonal.
    let transposed = read("orientation_5.png");
    assert_eq!(pixel(&transposed, 3, 7), pixel(&upright, 7, 3));
    // EXIF 3: upside down.
    assert_eq!(
        pixel(&read("orientation_3.tif"), 0, 0),
        pixel(&upright, 47, 31)
    );
    // EXIF 6: the camera's left edge is up; JPEG is lossy, so all pixels at once.
    let plain = read("baseline.jpg");
    let turned = read("orientation_6.jpg");
    assert_eq!(turned, image::imageops::rotate90(&plain));
}

#[test]
fn transparent_pixels_show_white() {
    let reference = read("rgb.png");
    let rgba = read("rgba.png");
    // The fixture's alpha counts up row by row: 0 at the first pixel, 255 at (15, 5), 47 at (47, 0).
    assert_eq!(pixel(&rgba, 0, 0), [255; 3]);
    assert_eq!(pixel(&rgba, 15, 5), pixel(&reference, 15, 5));
    let expected = pixel(&reference, 47, 0)
        .map(|c| (f64::from(c) * 47.0 / 255.0 + 255.0 * (1.0 - 47.0 / 255.0)).round() as u8);
    assert_eq!(pixel(&rgba, 47, 0), expected);
}

#[test]
fn limits_hold_before_anything_is_decoded() {
    // A PNG header that promises 2 147 483 647 pixels a side, and nothing behind it.
    let mut bomb = fs::read(data("formats/rgb.png")).unwrap();
    bomb[16..24].copy_from_slice(&[0x00, 0x00, 0x7F, 0xFF, 0x00, 0x00, 0x7F, 0xFF]);
    let crc = crc32(&bomb[12..29]).to_be_bytes();
    bomb[29..33].copy_from_slice(&crc);
    let e = decode_image("bomb.png", &bomb, &ImageLimits::default()).unwrap_err();
    assert!(
        matches!(e, PreprocessError::ImageTooLarge { width: 32767, .. }),
        "{e:?}"
    );

    let png = fs::read(data("formats/rgb.png")).unwrap();
    for limits in [
        ImageLimits {
            max_side: 47,
            ..ImageLimits::default()
        },
        ImageLimits {
            max_pixels: 48 * 32 - 1,
            ..ImageLimits::default()
        },
        ImageLimits {
            max_bytes: png.len() as u64 - 1,
            ..ImageLimits::default()
        },
    ] {
        let e = decode_image("small.png", &png, &limits)
            .unwrap_err()
            .to_string();
        assert!(e.contains("limit"), "{e}");
    }
}

#[test]
fn what_is_not_an_image_is_said_so() {
    let e = decode_image("notes.jpg", b"dear diary", &ImageLimits::default()).unwrap_err();
    assert!(matches!(e, PreprocessError::NotAnImage { .. }));
    assert!(decode_image("empty.png", b"", &ImageLimits::default()).is_err());
    let e = read_image(Path::new("/no/such/file.png"), &ImageLimits::default()).unwrap_err();
    assert!(e.to_string().contains("/no/such/file.png"), "{e}");
    let e = read_image(&data("formats"), &ImageLimits::default()).unwrap_err();
    assert!(matches!(e, PreprocessError::Read { .. }));
}

/// Names of a folder's images, in their order.
fn names(folder: &Folder) -> Vec<&str> {
    let names = folder.images.iter().map(|path| path.file_name().unwrap());
    names.map(|name| name.to_str().unwrap()).collect()
}

#[test]
fn a_folder_gives_its_images_in_natural_order_and_tells_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let png = fs::read(data("formats/rgb.png")).unwrap();
    // Wrong and missing endings do not matter, nor does case; numbers count by their value.
    for name in ["b.png", "a10.jpg", "a2", "Z.png", ".hidden.png", "a02"] {
        fs::write(dir.path().join(name), &png).unwrap();
    }
    fs::write(dir.path().join("notes.png"), "not an image").unwrap();
    fs::write(dir.path().join("empty.png"), "").unwrap();
    fs::create_dir(dir.path().join("c.png")).unwrap();
    let folder = list_folder(dir.path()).unwrap();
    assert_eq!(names(&folder), ["a02", "a2", "a10.jpg", "b.png", "Z.png"]);
    assert_eq!(
        folder.skipped.to_string(),
        "1 not an image (\"notes.png\"), 1 empty (\"empty.png\")"
    );
}

#[cfg(unix)]
#[test]
fn what_cannot_be_opened_has_a_reason_of_its_own() {
    use std::os::unix::{fs::symlink, net::UnixListener};
    let dir = tempfile::tempdir().unwrap();
    fs::copy(data("formats/rgb.png"), dir.path().join("a.png")).unwrap();
    symlink("missing.png", dir.path().join("b.png")).unwrap();
    symlink("a.png", dir.path().join("c.png")).unwrap();
    let _socket = UnixListener::bind(dir.path().join("d.png")).unwrap();
    let folder = list_folder(dir.path()).unwrap();
    assert_eq!(names(&folder), ["a.png", "c.png"]);
    assert_eq!(
        folder.skipped.to_string(),
        "1 not a regular file (\"d.png\"), 1 cannot be read (\"b.png\")"
    );
}

#[test]
fn a_folder_without_images_is_an_error_that_tells_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("notes.txt"), "no image here").unwrap();
    let e = list_folder(dir.path()).unwrap_err();
    assert!(matches!(e, FramesError::NoImages { .. }));
    assert!(
        e.to_string().contains("1 not an image (\"notes.txt\")"),
        "{e}"
    );
    let clip = data("clips/h264.mp4");
    fs::copy(clip, dir.path().join("clip.mp4")).unwrap();
    let e = list_folder(dir.path()).unwrap_err().to_string();
    assert!(e.contains("give \"clip.mp4\" itself"), "{e}");
    let e = list_folder(&dir.path().join("missing")).unwrap_err();
    assert!(e.to_string().contains("missing"), "{e}");
}

/// CRC-32 of a PNG chunk (polynomial 0xEDB88320).
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| {
            if c & 1 == 1 {
                (c >> 1) ^ 0xEDB8_8320
            } else {
                c >> 1
            }
        })
    })
}
