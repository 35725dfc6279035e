//! Bytes that nobody meant: whatever they are, an answer comes back and the process lives.

use std::fs;

use super::data;
use vggt::frames::{ImageLimits, decode_image};

/// A small generator with a fixed seed, so that a failure comes back.
pub(super) struct Dice(pub u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides.max(1) as u64) as usize
    }

    /// Overwrites one to eight bytes.
    pub(super) fn spoil(&mut self, bytes: &mut [u8]) {
        for _ in 0..=self.roll(8) {
            let at = self.roll(bytes.len());
            bytes[at] = self.roll(256) as u8;
        }
    }
}

/// Small limits keep damaged headers from asking for minutes of work.
const LIMITS: ImageLimits = ImageLimits {
    max_pixels: 1_000_000,
    max_side: 4_000,
    max_bytes: 1 << 20,
    max_memory: 64 << 20,
};

#[test]
fn cut_and_spoilt_images_never_panic() {
    let mut dice = Dice(0x5EED);
    let folders = ["formats", "raw"].map(|folder| fs::read_dir(data(folder)).unwrap());
    for entry in folders.into_iter().flatten() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        for _ in 0..60 {
            let kept = dice.roll(bytes.len());
            let _ = decode_image("cut", &bytes[..kept], &LIMITS);
            let mut spoilt = bytes.clone();
            dice.spoil(&mut spoilt);
            let _ = decode_image("spoilt", &spoilt, &LIMITS);
            // Headers are where the lengths are.
            let mut spoilt = bytes.clone();
            dice.spoil(&mut spoilt[..64]);
            let _ = decode_image("spoilt header", &spoilt, &LIMITS);
        }
    }
}

#[test]
fn noise_behind_a_known_signature_never_panics() {
    let mut dice = Dice(0xC0FFEE);
    let signatures: [&[u8]; 12] = [
        b"II*\0\x08\0\0\0CR",
        b"IIRO\x08\0\0\0",
        b"IIU\0\x08\0\0\0",
        b"FUJIFILMCCD-RAW ",
        b"\0\0\0\x18ftypcrx \0\0\0\x01",
        b"\x89PNG\r\n\x1a\n",
        b"\xFF\xD8\xFF",
        b"RIFF\x40\0\0\0WEBPVP8 ",
        b"BM",
        b"II*\0\x08\0\0\0",
        b"MM\0*\0\0\0\x08",
        b"GIF89a",
    ];
    for signature in signatures {
        for _ in 0..60 {
            let mut bytes = signature.to_vec();
            bytes.extend((0..200).map(|_| dice.roll(256) as u8));
            let _ = decode_image("noise", &bytes, &LIMITS);
        }
    }
}
