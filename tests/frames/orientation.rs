//! The orientation in every integer type, in both byte orders, in every format that has one.

use std::fs;

use super::{data, images::crc32};
use image::{RgbImage, imageops};
use vggt::frames::{ImageLimits, decode_image};

/// BYTE, SHORT, LONG, SBYTE, SSHORT, SLONG: the type, its bytes.
const TYPES: [(u16, usize); 6] = [(1, 1), (3, 2), (4, 4), (6, 1), (8, 2), (9, 4)];

fn number(value: u64, size: usize, big_endian: bool) -> Vec<u8> {
    if big_endian {
        value.to_be_bytes()[8 - size..].to_vec()
    } else {
        value.to_le_bytes()[..size].to_vec()
    }
}

/// An entry of a directory whose value fits into it.
fn entry(tag: u64, kind: u16, size: usize, value: u64, big_endian: bool) -> Vec<u8> {
    let put = |value, size| number(value, size, big_endian);
    let mut entry = [
        put(tag, 2),
        put(kind.into(), 2),
        put(1, 4),
        put(value, size),
    ]
    .concat();
    entry.resize(12, 0);
    entry
}

/// An EXIF block with an orientation.
fn exif(kind: u16, size: usize, value: u64, big_endian: bool) -> Vec<u8> {
    let put = |value, size| number(value, size, big_endian);
    let mark = if big_endian { b"MM" } else { b"II" };
    let head = [mark.to_vec(), put(42, 2), put(8, 4), put(1, 2)].concat();
    [head, entry(274, kind, size, value, big_endian), put(0, 4)].concat()
}

fn jpeg(exif: &[u8]) -> Vec<u8> {
    let plain = fs::read(data("formats/baseline.jpg")).unwrap();
    let length = (exif.len() as u16 + 8).to_be_bytes();
    let segment = [b"\xFF\xE1", &length[..], b"Exif\0\0", exif].concat();
    [&plain[..2], &segment, &plain[2..]].concat()
}

/// The chunk stands behind the header, or behind the pixels.
fn png(exif: &[u8], behind: bool) -> Vec<u8> {
    let plain = fs::read(data("formats/rgb.png")).unwrap();
    let body = [b"eXIf", exif].concat();
    let length = (exif.len() as u32).to_be_bytes();
    let chunk = [&length[..], &body, &crc32(&body).to_be_bytes()].concat();
    let at = if behind { plain.len() - 12 } else { 33 };
    [&plain[..at], &chunk, &plain[at..]].concat()
}

fn webp(exif: &[u8]) -> Vec<u8> {
    let plain = fs::read(data("formats/lossless.webp")).unwrap();
    // Flag EXIF, three unused bytes, and the size less one in 24 bits each.
    let extended = [b"VP8X\x0A\0\0\0", &[8, 0, 0, 0, 47, 0, 0, 31, 0, 0][..]].concat();
    let mut block = [b"EXIF", &(exif.len() as u32).to_le_bytes()[..], exif].concat();
    block.resize(block.len().next_multiple_of(2), 0);
    let chunks = [&extended, &plain[12..], &block].concat();
    let length = (chunks.len() as u32 + 4).to_le_bytes();
    [b"RIFF", &length[..], b"WEBP", &chunks].concat()
}

/// An uncompressed TIFF, its directory in front of the pixels.
fn tiff(kind: u16, size: usize, value: u64, big_endian: bool, rgb: &RgbImage) -> Vec<u8> {
    let put = |value, size| number(value, size, big_endian);
    let (width, height) = (u64::from(rgb.width()), u64::from(rgb.height()));
    let bytes = rgb.as_raw().len() as u64;
    const ENTRIES: u64 = 10;
    let bits_at = 8 + 2 + ENTRIES * 12 + 4;
    let long = |tag, value| entry(tag, 4, 4, value, big_endian);
    let short = |tag, value| entry(tag, 3, 2, value, big_endian);
    let mut bits = [put(258, 2), put(3, 2), put(3, 4), put(bits_at, 4)].concat();
    bits.resize(12, 0);
    let mark = if big_endian { b"MM" } else { b"II" };
    [
        [mark.to_vec(), put(42, 2), put(8, 4), put(ENTRIES, 2)].concat(),
        [
            long(256, width),
            long(257, height),
            bits,
            short(259, 1),
            short(262, 2),
        ]
        .concat(),
        [
            long(273, bits_at + 6),
            entry(274, kind, size, value, big_endian),
        ]
        .concat(),
        [
            short(277, 3),
            long(278, height),
            long(279, bytes),
            put(0, 4),
        ]
        .concat(),
        [put(8, 2), put(8, 2), put(8, 2), rgb.as_raw().clone()].concat(),
    ]
    .concat()
}

fn decode(what: &str, bytes: &[u8]) -> RgbImage {
    let decoded = decode_image(what, bytes, &ImageLimits::default()).unwrap();
    assert_eq!(decoded.source_size, decoded.rgb.dimensions(), "{what}");
    assert!(decoded.notes.is_empty(), "{what}: {:?}", decoded.notes);
    decoded.rgb
}

/// EXIF 2.32, 4.6.4: what brings a stored image upright.
fn upright(stored: &RgbImage, orientation: u64) -> RgbImage {
    let mirrored = imageops::flip_horizontal(stored);
    match orientation {
        2 => mirrored,
        3 => imageops::rotate180(stored),
        4 => imageops::flip_vertical(stored),
        5 => imageops::rotate270(&mirrored),
        6 => imageops::rotate90(stored),
        7 => imageops::rotate90(&mirrored),
        8 => imageops::rotate270(stored),
        _ => stored.clone(),
    }
}

#[test]
fn every_integer_type_turns_every_format() {
    let [lossy, exact] = ["baseline.jpg", "rgb.png"]
        .map(|name| decode(name, &fs::read(data("formats").join(name)).unwrap()));
    let mut tried = 0;
    for (kind, size) in TYPES {
        for big_endian in [false, true] {
            for value in 1..=8 {
                let block = exif(kind, size, value, big_endian);
                let prefixed = [b"Exif\0\0", &block[..]].concat();
                let files = [
                    ("jpeg", jpeg(&block), &lossy),
                    ("png", png(&block, false), &exact),
                    ("png, behind", png(&block, true), &exact),
                    ("webp", webp(&block), &exact),
                    ("webp, prefixed", webp(&prefixed), &exact),
                    ("tiff", tiff(kind, size, value, big_endian, &exact), &exact),
                ];
                for (format, bytes, stored) in files {
                    let what = format!("{format}, type {kind}, {big_endian}, {value}");
                    assert!(decode(&what, &bytes) == upright(stored, value), "{what}");
                    tried += 1;
                }
            }
        }
    }
    assert_eq!(tried, 6 * 2 * 8 * 6);
}

#[test]
fn a_value_that_is_not_an_orientation_turns_nothing() {
    let plain = decode("plain", &fs::read(data("formats/baseline.jpg")).unwrap());
    for value in [0, 9, 255, 0x0600_0000] {
        assert!(
            decode("jpeg", &jpeg(&exif(4, 4, value, false))) == plain,
            "{value}"
        );
    }
}
