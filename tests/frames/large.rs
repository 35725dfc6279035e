//! Images above 100 megapixels, decoded at a smaller size.

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use vggt::frames::{
    ImageLimits, ImageNote, PreprocessError, PreprocessMode, decode_image, preprocess,
};

/// A gray JPEG of any size in two bits a block: its tables have codes of one bit, and every block but the first is as the
/// one before.
fn jpeg(width: u16, height: u16, progressive: bool) -> Vec<u8> {
    let quantization = [&b"\xFF\xDB\x00\x43\x00"[..], &[8; 64]].concat();
    let [h1, h0] = height.to_be_bytes();
    let [w1, w0] = width.to_be_bytes();
    let process = if progressive { 0xC2 } else { 0xC0 };
    let frame = [0xFF, process, 0, 11, 8, h1, h0, w1, w0, 1, 1, 0x11, 0];
    // DC: 0 for "as before", 10 for a difference of 6 bits. AC: 0 for the end of the block.
    let dc = [&b"\xFF\xC4\x00\x15\x00\x01\x01"[..], &[0; 14], &[0, 6]].concat();
    let ac = [&b"\xFF\xC4\x00\x14\x10\x01"[..], &[0; 15], &[0]].concat();
    let blocks = usize::from(width).div_ceil(8) * usize::from(height).div_ceil(8);
    let scan = |from: u8, to: u8, bits: usize, first: &[u8]| {
        let head = [0xFF, 0xDA, 0, 8, 1, 1, 0, from, to, 0];
        let mut data = first.to_vec();
        data.resize((blocks * bits + 8).div_ceil(8), 0);
        [&head[..], &data].concat()
    };
    // 10 and the six bits of 50: 128 + 50 * 8 / 8 = 178.
    let first = [0b10_110010];
    let scans = if progressive {
        [scan(0, 0, 1, &first), scan(1, 63, 1, &[])].concat()
    } else {
        scan(0, 63, 2, &first)
    };
    [
        &b"\xFF\xD8"[..],
        &quantization,
        &frame,
        &dc,
        &ac,
        &scans,
        b"\xFF\xD9",
    ]
    .concat()
}

/// Brightness of [`jpeg`].
const GRAY: [u8; 3] = [178; 3];

fn scaled(width: u32, height: u32, to_width: u32, to_height: u32) -> ImageNote {
    ImageNote::Scaled {
        width,
        height,
        to_width,
        to_height,
    }
}

#[test]
fn a_jpeg_of_200_megapixels_and_a_panorama_are_decoded_at_half_their_size() {
    for (width, height, progressive) in [(16_320, 12_240, false), (16_384, 8_192, true)] {
        let bytes = jpeg(width, height, progressive);
        let image = decode_image("large.jpg", &bytes, &ImageLimits::default()).unwrap();
        let (width, height) = (u32::from(width), u32::from(height));
        assert_eq!(image.rgb.dimensions(), (width / 2, height / 2));
        assert_eq!(image.source_size, (width, height));
        assert_eq!(image.notes, [scaled(width, height, width / 2, height / 2)]);
        assert!(image.rgb.pixels().step_by(9_973).all(|p| p.0 == GRAY));
        // Placements are in pixels of the original.
        let prepared = preprocess(image, PreprocessMode::Crop, 518, 14).unwrap();
        assert_eq!(prepared.placement.source_width, width);
        assert_eq!(prepared.placement.scale_x, 518.0 / f64::from(width));
        assert_eq!(prepared.rgb.get_pixel(100, 100).0, GRAY);
    }
}

#[test]
fn a_long_panorama_of_ordinary_size_is_decoded_as_it_is() {
    let image = decode_image(
        "wide.jpg",
        &jpeg(30_000, 2_000, false),
        &ImageLimits::default(),
    )
    .unwrap();
    assert_eq!(image.rgb.dimensions(), (30_000, 2_000));
    assert!(image.notes.is_empty(), "{:?}", image.notes);
}

#[test]
fn a_large_png_is_averaged_row_by_row() {
    let (width, height) = (12_000u32, 9_000u32);
    // Columns 0, 2, 4 ... have 10, the others 21: their mean is 15.5.
    let row: Vec<u8> = (0..width)
        .map(|x| if x % 2 == 0 { 10 } else { 21 })
        .collect();
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(
            &row.repeat(height as usize),
            width,
            height,
            ExtendedColorType::L8,
        )
        .unwrap();
    let image = decode_image("large.png", &png, &ImageLimits::default()).unwrap();
    assert_eq!(image.rgb.dimensions(), (6_000, 4_500));
    assert_eq!(image.notes, [scaled(12_000, 9_000, 6_000, 4_500)]);
    assert!(image.rgb.pixels().step_by(997).all(|p| p.0 == [16; 3]));
    // Much less memory than the 108 MB of the whole image's gray values.
    let limits = ImageLimits {
        max_memory: 90 << 20,
        ..ImageLimits::default()
    };
    assert!(decode_image("large.png", &png, &limits).is_ok());
}

#[test]
fn memory_is_limited_before_anything_is_decoded() {
    let limits = ImageLimits {
        max_memory: 100 << 20,
        ..ImageLimits::default()
    };
    // 64 megapixels of RGB are 183 MiB; the coefficients of 200 progressive megapixels are more.
    for bytes in [jpeg(8_000, 8_000, false), jpeg(16_320, 12_240, true)] {
        let e = decode_image("large.jpg", &bytes, &limits).unwrap_err();
        assert!(
            matches!(e, PreprocessError::NeedsMemory { max_mib: 100, .. }),
            "{e:?}"
        );
        assert!(
            e.to_string().contains("MiB of memory, the limit is 100"),
            "{e}"
        );
    }
}
