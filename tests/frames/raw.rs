//! Cameras' RAW files: their largest JPEG preview. The files come from tools/fixtures/make_raw_files.py.

use std::fs;

use super::data;
use image::imageops;
use vggt::frames::{
    ImageLimits, ImageNote, PreprocessError, decode_image, is_image_file, read_image,
};

#[test]
fn the_largest_preview_is_read_upright_and_said_to_be_one() {
    let plain = read_image(&data("formats/baseline.jpg"), &ImageLimits::default())
        .unwrap()
        .rgb;
    // The orientation is the RAW file's where the preview has none.
    let files = [
        ("preview.dng", "DNG", imageops::rotate90(&plain)),
        ("preview.nef", "NEF", plain.clone()),
        ("preview.cr2", "CR2", imageops::rotate270(&plain)),
        ("preview.arw", "ARW", imageops::rotate180(&plain)),
        ("preview.orf", "ORF", plain.clone()),
        ("preview.rw2", "RW2", plain.clone()),
        ("preview.raf", "RAF", plain.clone()),
        ("preview.cr3", "CR3", imageops::rotate90(&plain)),
    ];
    for (name, format, expected) in files {
        let path = data("raw").join(name);
        assert!(is_image_file(&path), "{name}");
        let image = read_image(&path, &ImageLimits::default()).unwrap();
        assert!(image.rgb == expected, "{name}");
        let note = ImageNote::Preview {
            format,
            width: 48,
            height: 32,
        };
        assert_eq!(image.notes, [note], "{name}");
    }
}

#[test]
fn a_thumbnail_that_is_not_a_jpeg_is_never_the_photo() {
    let e = read_image(&data("raw/no_preview.dng"), &ImageLimits::default()).unwrap_err();
    assert!(
        matches!(e, PreprocessError::NoPreview { format: "DNG", .. }),
        "{e:?}"
    );
    assert!(e.to_string().contains("no JPEG preview; convert it"), "{e}");
}

#[test]
fn a_plain_tiff_is_not_taken_for_raw() {
    let bytes = fs::read(data("formats/rgb.tif")).unwrap();
    let image = decode_image("rgb.tif", &bytes, &ImageLimits::default()).unwrap();
    assert!(image.notes.is_empty());
}
