//! Clips whose frames a test draws: Motion JPEG in AVI.

use image::{Rgb, RgbImage, codecs::jpeg::JpegEncoder, imageops};

/// Size of a frame in pixels.
pub(crate) const SIZE: (u32, u32) = (192, 144);

/// A wide picture of boxes, the same for the same seed, that is to be seen a part at a time.
pub(crate) fn panorama(seed: u32, width: u32) -> RgbImage {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut below = |n: u32| {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) % n
    };
    let mut picture = RgbImage::from_pixel(width, SIZE.1, Rgb([below(200) as u8 + 20; 3]));
    for _ in 0..width / 2 {
        let color = [0; 3].map(|_| below(230) as u8 + 10);
        let (x, y) = (below(width), below(SIZE.1));
        let tile = RgbImage::from_pixel(below(36) + 4, below(36) + 4, Rgb(color));
        imageops::replace(&mut picture, &tile, i64::from(x), i64::from(y));
    }
    picture
}

/// The part of a panorama that begins at `left`, of the size of a frame.
pub(crate) fn part(panorama: &RgbImage, left: u32) -> RgbImage {
    imageops::crop_imm(panorama, left, 0, SIZE.0, SIZE.1).to_image()
}

/// Every value times `percent`.
pub(crate) fn darker(frame: &RgbImage, percent: u16) -> RgbImage {
    let mut frame = frame.clone();
    for value in frame.iter_mut() {
        *value = (u16::from(*value) * percent / 100) as u8;
    }
    frame
}

/// An AVI of these frames.
pub(crate) fn avi(frames: &[RgbImage], fps: u32) -> Vec<u8> {
    let (width, height) = frames[0].dimensions();
    let numbers =
        |numbers: &[u32]| -> Vec<u8> { numbers.iter().flat_map(|n| n.to_le_bytes()).collect() };
    let count = frames.len() as u32;
    let header = numbers(&[
        1_000_000 / fps,
        0,
        0,
        0x10,
        count,
        0,
        1,
        0,
        width,
        height,
        0,
        0,
        0,
        0,
    ]);
    let stream = [
        b"vidsMJPG".to_vec(),
        numbers(&[0, 0, 0, 1, fps, 0, count, 0, u32::MAX, 0, 0, 0]),
    ]
    .concat();
    let format = [
        numbers(&[40, width, height, 1 | 24 << 16]),
        b"MJPG".to_vec(),
        numbers(&[width * height * 3, 0, 0, 0, 0]),
    ]
    .concat();
    let stream = list(b"strl", &[chunk(b"strh", &stream), chunk(b"strf", &format)]);
    let mut index = Vec::new();
    let mut at = 4;
    let frames: Vec<Vec<u8>> = frames
        .iter()
        .map(|frame| {
            let mut jpeg = Vec::new();
            JpegEncoder::new_with_quality(&mut jpeg, 92)
                .encode_image(frame)
                .unwrap();
            index.extend_from_slice(b"00dc");
            index.extend(numbers(&[0x10, at, jpeg.len() as u32]));
            let chunk = chunk(b"00dc", &jpeg);
            at += chunk.len() as u32;
            chunk
        })
        .collect();
    let parts = [
        b"AVI ".to_vec(),
        list(b"hdrl", &[chunk(b"avih", &header), stream]),
        list(b"movi", &frames),
        chunk(b"idx1", &index),
    ];
    chunk(b"RIFF", &parts.concat())
}

fn list(name: &[u8; 4], chunks: &[Vec<u8>]) -> Vec<u8> {
    chunk(b"LIST", &[name.to_vec(), chunks.concat()].concat())
}

fn chunk(name: &[u8; 4], bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u32).to_le_bytes();
    let padding = vec![0; bytes.len() % 2];
    [&name[..], &length, bytes, &padding].concat()
}
