//! Files that are cut off, or that have something behind the image.

use std::fs;

use super::data;
use image::RgbImage;
use vggt::frames::{DecodedImage, ImageLimits, ImageNote, PreprocessError, decode_image};

fn decode(name: &str, bytes: &[u8]) -> Result<DecodedImage, PreprocessError> {
    decode_image(name, bytes, &ImageLimits::default())
}

fn file(name: &str) -> Vec<u8> {
    fs::read(data(name)).unwrap()
}

/// The percentage that a note says is missing.
fn missing(image: &DecodedImage) -> u8 {
    match image.notes[..] {
        [ImageNote::Truncated { missing_percent }] => missing_percent,
        _ => panic!("{:?}", image.notes),
    }
}

/// Whether the rows above `row` are the same.
fn same_above(a: &RgbImage, b: &RgbImage, row: u32) -> bool {
    let values = (a.width() * 3 * row) as usize;
    a.dimensions() == b.dimensions() && a.as_raw()[..values] == b.as_raw()[..values]
}

const JPEGS: [&str; 3] = [
    "preprocess/photo.jpg",
    "formats/baseline.jpg",
    "formats/progressive.jpg",
];

#[test]
fn what_stands_behind_a_jpeg_changes_nothing() {
    let video = file("clips/h264.mp4");
    for name in JPEGS {
        let jpeg = file(name);
        let alone = decode(name, &jpeg).unwrap();
        let second = [&jpeg[..], &jpeg].concat();
        let zeros = [&jpeg[..], &vec![0; 3 << 20]].concat();
        let markers = [&jpeg[..], &[0xFF; 1000]].concat();
        for bytes in [second, zeros, markers, [&jpeg[..], &video].concat()] {
            let image = decode(name, &bytes).unwrap();
            assert!(image.notes.is_empty(), "{name}: {:?}", image.notes);
            assert!(image.rgb == alone.rgb, "{name}");
        }
    }
}

#[test]
fn a_jpeg_without_an_end_marker_is_whole_when_its_data_is() {
    let video = file("clips/h264.mp4");
    for name in JPEGS {
        let jpeg = file(name);
        let alone = decode(name, &jpeg).unwrap();
        let open = &jpeg[..jpeg.len() - 2];
        for bytes in [open.to_vec(), [open, &video].concat()] {
            let image = decode(name, &bytes).unwrap();
            assert!(image.notes.is_empty(), "{name}: {:?}", image.notes);
            assert!(image.rgb == alone.rgb, "{name}");
        }
    }
}

#[test]
fn a_jpeg_that_is_cut_off_gives_what_is_there_and_says_how_much_is_missing() {
    let jpeg = file("preprocess/photo.jpg");
    let whole = decode("photo.jpg", &jpeg).unwrap();
    let image = decode("photo.jpg", &jpeg[..jpeg.len() - 40]).unwrap();
    assert_eq!(missing(&image), 1);
    let height = whole.rgb.height();
    assert!(same_above(&image.rgb, &whole.rgb, height - 32));
    let mut before = 1;
    for share in [0.9, 0.7, 0.5, 0.3, 0.1] {
        let kept = (jpeg.len() as f64 * share) as usize;
        // With an end marker that somebody put there, it is missing all the same.
        let closed = [&jpeg[..kept], b"\xFF\xD9"].concat();
        for bytes in [&jpeg[..kept], &closed] {
            let image = decode("photo.jpg", bytes).unwrap();
            let percent = missing(&image);
            assert!(percent >= before, "{share}: {percent} {before}");
            // What is said to be there is there, but for one row of blocks.
            let there = height * u32::from(100 - percent) / 100;
            assert!(
                same_above(&image.rgb, &whole.rgb, there.saturating_sub(32)),
                "{share}"
            );
            assert_eq!(image.rgb.get_pixel(0, height - 1).0, [128; 3], "{share}");
            before = percent;
        }
    }
    assert!(before > 80, "{before}");
}

#[test]
fn a_progressive_jpeg_that_is_cut_off_is_whole_but_less_sharp() {
    let jpeg = file("formats/progressive.jpg");
    let whole = decode("progressive.jpg", &jpeg).unwrap();
    let image = decode("progressive.jpg", &jpeg[..jpeg.len() - 40]).unwrap();
    assert_eq!(image.notes, [ImageNote::TruncatedDetail]);
    // With an end marker that somebody put there, detail is missing all the same.
    let closed = [&jpeg[..jpeg.len() * 2 / 3], b"\xFF\xD9"].concat();
    let closed = decode("progressive.jpg", &closed).unwrap();
    assert_eq!(closed.notes, [ImageNote::TruncatedDetail]);
    assert_eq!(image.rgb.dimensions(), whole.rgb.dimensions());
}

#[test]
fn a_progressive_jpeg_may_end_within_any_header_behind_its_first_scan() {
    let jpeg = file("formats/progressive.jpg");
    let whole = decode("progressive.jpg", &jpeg).unwrap();
    let starts = |code: u8| {
        let pairs = jpeg.windows(2).enumerate();
        pairs.filter_map(move |(at, pair)| (pair == [0xFF, code]).then_some(at))
    };
    let first = starts(0xDA).next().unwrap();
    let mut count = 0;
    for at in starts(0xC4).chain(starts(0xDA)).filter(|at| *at > first) {
        for kept in at..at + 10 {
            let image = decode("progressive.jpg", &jpeg[..kept]).unwrap();
            assert_eq!(image.notes, [ImageNote::TruncatedDetail], "{kept}");
            assert_eq!(image.rgb.dimensions(), whole.rgb.dimensions());
            // As if the file ended before the header.
            let before = decode("progressive.jpg", &jpeg[..at]).unwrap();
            assert!(image.rgb == before.rgb, "{kept}");
            count += 1;
        }
    }
    assert!(count >= 40, "{count}");
}

#[test]
fn a_jpeg_of_a_gray_wall_is_whole() {
    // The color with which a decoder fills what is missing.
    let wall = RgbImage::from_pixel(40, 24, image::Rgb([128; 3]));
    let mut jpeg = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new(&mut jpeg);
    encoder.encode_image(&wall).unwrap();
    for bytes in [&jpeg[..], &jpeg[..jpeg.len() - 2]] {
        let image = decode("wall.jpg", bytes).unwrap();
        assert!(image.notes.is_empty(), "{:?}", image.notes);
        assert!(image.rgb == wall);
    }
}

#[test]
fn png_tiff_and_bmp_give_the_rows_that_are_there() {
    let pngs = [
        "rgb.png",
        "rgba.png",
        "rgb16.png",
        "gray16.png",
        "rgb.bmp",
        "orientation_3.tif",
    ];
    for name in pngs {
        let bytes = file(&format!("formats/{name}"));
        let whole = decode(name, &bytes).unwrap();
        let image = decode(name, &bytes[..bytes.len() * 3 / 4]).unwrap();
        assert!(
            (1..=60).contains(&missing(&image)),
            "{name}: {:?}",
            image.notes
        );
        assert_eq!(image.rgb.dimensions(), whole.rgb.dimensions());
        let pairs = image.rgb.rows().zip(whole.rgb.rows());
        let same = pairs.filter(|(a, b)| a.clone().eq(b.clone())).count();
        assert!((13..32).contains(&same), "{name}: {same}");
    }
}

#[test]
fn compressed_tiffs_give_the_pieces_that_are_there() {
    for name in ["tiles.tif", "strips.tif", "big.tif"] {
        let bytes = file(&format!("tiff/{name}"));
        let whole = decode(name, &bytes).unwrap();
        let image = decode(name, &bytes[..bytes.len() * 3 / 4]).unwrap();
        assert!(
            (15..=60).contains(&missing(&image)),
            "{name}: {:?}",
            image.notes
        );
        assert!(same_above(&image.rgb, &whole.rgb, 12), "{name}");
        assert_eq!(image.rgb.get_pixel(47, 31).0, [128; 3], "{name}");
    }
}

#[test]
fn a_compressed_strip_gives_the_rows_that_are_there() {
    let bytes = file("tiff/strip.tif");
    let whole = decode("strip.tif", &bytes).unwrap();
    let image = decode("strip.tif", &bytes[..bytes.len() * 2 / 3]).unwrap();
    let there = whole.rgb.height() * u32::from(100 - missing(&image)) / 100;
    assert!((10..30).contains(&there), "{there}");
    assert!(same_above(&image.rgb, &whole.rgb, there - 1));
    assert_eq!(image.rgb.get_pixel(47, 31).0, [128; 3]);
}

#[test]
fn a_file_that_is_cut_off_before_its_first_pixels_is_named_and_refused() {
    for entry in fs::read_dir(data("formats")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let bytes = fs::read(&path).unwrap();
        for kept in [20, 40] {
            let e = decode(name, &bytes[..kept]).unwrap_err();
            assert!(e.to_string().contains(name), "{e}");
            assert!(
                matches!(e, PreprocessError::Truncated { .. }),
                "{kept}: {e:?}"
            );
        }
    }
    // The formats that cannot be decoded in part. An animation's first frame may well lie in the first half.
    for (name, kept) in [
        ("lossless.webp", 250),
        ("lossy.webp", 110),
        ("animated.gif", 800),
    ] {
        let bytes = file(&format!("formats/{name}"));
        let e = decode(name, &bytes[..kept]).unwrap_err();
        assert!(e.to_string().contains("cut off"), "{e}");
    }
}

#[test]
fn of_several_frames_the_first_is_said_to_be_used() {
    let image = decode("animated.gif", &file("formats/animated.gif")).unwrap();
    assert_eq!(image.notes, [ImageNote::FirstOfMany { what: "frames" }]);
}
