//! The notes of photo files: where their EXIF blocks are.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use image::ImageFormat;
use vggt_model::preprocess::{exif_chunk, open_regular};

use super::{
    exif::{self, PhotoNote},
    heif,
};

/// The part of a TIFF or RAW file that is read.
const MAX_BLOCK: u64 = 16 << 20;

/// Segments of a JPEG that are looked at, at most.
const MAX_SEGMENTS: usize = 1 << 16;

/// What stands before a block in a JPEG, and in some WebP and PNG files.
const PREFIX: &[u8] = b"Exif\0\0";

/// What photos note, by the names of their frames.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PhotoNotes(pub HashMap<String, PhotoNote>);

impl PhotoNotes {
    /// Returns what the photo of a frame notes.
    pub fn get(&self, frame: &str) -> Option<&PhotoNote> {
        self.0.get(frame)
    }
}

/// Returns what a photo notes of itself; nothing where it cannot be read, has no EXIF block or a damaged one.
///
/// Reads headers only, except of TIFF and RAW files, of which the first 16 MiB are read.
pub fn read_note(path: &Path) -> PhotoNote {
    let block = open_regular(path).and_then(block);
    match block {
        Ok(Some(block)) => exif::parse(block.strip_prefix(PREFIX).unwrap_or(&block)),
        _ => PhotoNote::default(),
    }
}

/// Returns the EXIF block of a file of any format.
fn block(mut file: File) -> io::Result<Option<Vec<u8>>> {
    if heif::is_heif(&mut file)? {
        return Ok(heif::exif(file));
    }
    let mut reader = BufReader::new(file);
    reader.rewind()?;
    let mut head = [0; 12];
    reader.read_exact(&mut head)?;
    match &head {
        [0xFF, 0xD8, ..] => jpeg(&mut reader),
        [0x89, b'P', b'N', b'G', ..] => exif_chunk(&mut reader, ImageFormat::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P'] => {
            exif_chunk(&mut reader, ImageFormat::WebP)
        }
        [b'I', b'I', ..] | [b'M', b'M', ..] => {
            reader.rewind()?;
            limited(&mut reader, MAX_BLOCK).map(Some)
        }
        _ => Ok(None),
    }
}

/// The first APP1 segment with EXIF, before the pixels. ITU-T T.81, annex B.
fn jpeg<R: BufRead + Seek>(reader: &mut R) -> io::Result<Option<Vec<u8>>> {
    const APP1: u8 = 0xE1;
    const START_OF_SCAN: u8 = 0xDA;
    reader.seek(SeekFrom::Start(2))?;
    for _ in 0..MAX_SEGMENTS {
        let mut marker = [0; 2];
        reader.read_exact(&mut marker)?;
        // Any number of 0xFF may stand before a marker.
        while marker == [0xFF, 0xFF] {
            reader.read_exact(&mut marker[1..])?;
        }
        let [0xFF, code] = marker else {
            return Ok(None);
        };
        if code == START_OF_SCAN {
            return Ok(None);
        }
        let mut length = [0; 2];
        reader.read_exact(&mut length)?;
        let Some(length) = u16::from_be_bytes(length).checked_sub(2) else {
            return Ok(None);
        };
        if code != APP1 {
            reader.seek_relative(i64::from(length))?;
            continue;
        }
        // XMP has segments of this kind too.
        let segment = limited(reader, length.into())?;
        if segment.starts_with(PREFIX) {
            return Ok(Some(segment));
        }
    }
    Ok(None)
}

fn limited<R: Read>(reader: &mut R, length: u64) -> io::Result<Vec<u8>> {
    let mut block = Vec::new();
    reader.take(length.min(MAX_BLOCK)).read_to_end(&mut block)?;
    Ok(block)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::frames::exif::tests::phone;

    #[test]
    fn every_container_has_its_block() {
        let dir = TempDir::new().unwrap();
        let block = phone();
        let of = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            read_note(&path)
        };
        let segment = |code: u8, body: &[u8]| {
            let length = (body.len() as u16 + 2).to_be_bytes();
            [&[0xFF, code][..], &length, body].concat()
        };
        let exif = segment(0xE1, &[PREFIX, &block].concat());
        let xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>");
        let scan = segment(0xDA, &[0; 4]);
        let jpeg = [
            &[0xFF, 0xD8][..],
            &segment(0xE0, b"JFIF\0"),
            &xmp,
            &[0xFF],
            &exif,
            &scan,
        ]
        .concat();
        let chunk = |kind: &[u8], body: &[u8]| {
            [&(body.len() as u32).to_be_bytes()[..], kind, body, &[0; 4]].concat()
        };
        let png = [
            &b"\x89PNG\r\n\x1a\n"[..],
            &chunk(b"IHDR", &[0; 13]),
            &chunk(b"eXIf", &block),
        ]
        .concat();
        let riff = |kind: &[u8], body: &[u8]| {
            let odd = vec![0; body.len() % 2];
            [kind, &(body.len() as u32).to_le_bytes(), body, &odd].concat()
        };
        let webp = [
            &b"RIFF\0\0\0\0WEBP"[..],
            &riff(b"VP8 ", &[0; 7]),
            &riff(b"EXIF", &block),
        ]
        .concat();
        for (name, bytes) in [
            ("a.jpg", &jpeg),
            ("a.png", &png),
            ("a.webp", &webp),
            ("a.tif", &block),
        ] {
            let note = of(name, bytes);
            assert_eq!(note.focal_35mm, Some(26.0), "{name}");
            assert!(note.gps.is_some(), "{name}");
            for end in 0..bytes.len() {
                of("cut", &bytes[..end]);
            }
        }
        // Behind the pixels of a JPEG there is none.
        let late = [&[0xFF, 0xD8][..], &scan, &exif].concat();
        assert_eq!(of("late.jpg", &late), PhotoNote::default());
        assert_eq!(
            read_note(&dir.path().join("none.jpg")),
            PhotoNote::default()
        );
        assert_eq!(read_note(dir.path()), PhotoNote::default());
    }
}
