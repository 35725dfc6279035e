//! Which way up an image is, as EXIF or TIFF say it.
//!
//! The standard's type of the value is SHORT; writers use every other integer type too, so all of them are read.

use std::io::{self, BufRead, Cursor, Read, Seek, SeekFrom};

use ::image::{ImageFormat, metadata::Orientation};

use super::ifd::Directories;

/// TIFF 6.0 and EXIF: Orientation.
pub(super) const ORIENTATION: u16 = 274;

/// EXIF block outside of a JPEG, at most. A JPEG's has 64 KiB; thumbnails make it larger in other formats.
const MAX_EXIF: u64 = 16 << 20;

/// Chunks of a PNG or WebP that are looked at, at most: a PNG of a gigabyte in the usual chunks of 8 KiB has fewer.
const MAX_CHUNKS: usize = 1 << 18;

/// What stands before an EXIF block in a JPEG, and in some WebP and PNG files.
pub(super) const EXIF_PREFIX: &[u8] = b"Exif\0\0";

/// Returns the orientation of the first directory of an EXIF block, if it has a valid one.
pub(super) fn of_exif(block: &[u8]) -> Option<Orientation> {
    let block = block.strip_prefix(EXIF_PREFIX).unwrap_or(block);
    of_tiff(Cursor::new(block))
}

/// Returns the orientation of a TIFF's first directory, if it has a valid one.
pub(super) fn of_tiff<R: Read + Seek>(reader: R) -> Option<Orientation> {
    let mut tiff = Directories::open(reader).ok()??;
    let first = tiff.directory(tiff.first).ok()?;
    let value = tiff.integer(&first, ORIENTATION)?;
    Orientation::from_exif(u8::try_from(value).ok()?)
}

/// Returns the orientation of a file that is not a JPEG, from its beginning. A damaged block is none.
pub(super) fn of_file<R: BufRead + Seek>(reader: &mut R, format: ImageFormat) -> Orientation {
    let found = match format {
        ImageFormat::Tiff => reader.rewind().ok().and_then(|()| of_tiff(reader)),
        format => exif_chunk(reader, format)
            .ok()
            .flatten()
            .and_then(|e| of_exif(&e)),
    };
    found.unwrap_or(Orientation::NoTransforms)
}

/// Returns the EXIF block of a PNG or WebP, at most its first 16 MiB; `None` where there is none, or in another format.
///
/// # Errors
/// When the file cannot be read, or ends in the midst of a chunk.
pub fn exif_chunk<R: BufRead + Seek>(
    reader: &mut R,
    format: ImageFormat,
) -> io::Result<Option<Vec<u8>>> {
    match format {
        ImageFormat::Png => png_exif(reader),
        ImageFormat::WebP => webp_exif(reader),
        _ => Ok(None),
    }
}

/// Returns the eXIf chunk of a PNG, which may stand before or behind the pixels.
fn png_exif<R: BufRead + Seek>(reader: &mut R) -> io::Result<Option<Vec<u8>>> {
    const SIGNATURE: u64 = 8;
    const CRC: i64 = 4;
    reader.seek(SeekFrom::Start(SIGNATURE))?;
    for _ in 0..MAX_CHUNKS {
        let mut head = [0; 8];
        reader.read_exact(&mut head)?;
        let [a, b, c, d, kind @ ..] = head;
        let length = u32::from_be_bytes([a, b, c, d]);
        match &kind {
            b"eXIf" => return read_block(reader, length.into()).map(Some),
            b"IEND" => return Ok(None),
            _ => reader.seek_relative(i64::from(length) + CRC)?,
        }
    }
    Ok(None)
}

/// Returns the EXIF chunk of a WebP.
fn webp_exif<R: BufRead + Seek>(reader: &mut R) -> io::Result<Option<Vec<u8>>> {
    const HEADER: u64 = 12;
    reader.seek(SeekFrom::Start(HEADER))?;
    for _ in 0..MAX_CHUNKS {
        let mut head = [0; 8];
        reader.read_exact(&mut head)?;
        let [kind @ .., a, b, c, d] = head;
        let length = u32::from_le_bytes([a, b, c, d]);
        if &kind == b"EXIF" {
            return read_block(reader, length.into()).map(Some);
        }
        // Chunks have even lengths.
        reader.seek_relative(i64::from(length) + i64::from(length % 2))?;
    }
    Ok(None)
}

fn read_block<R: Read>(reader: &mut R, length: u64) -> io::Result<Vec<u8>> {
    let mut block = Vec::new();
    reader.take(length.min(MAX_EXIF)).read_to_end(&mut block)?;
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An EXIF block with an orientation of this type, its value in this many bytes.
    fn exif(big_endian: bool, kind: u16, size: usize, value: i64) -> Vec<u8> {
        let put = |value: i64, size: usize| -> Vec<u8> {
            let bytes = value.to_be_bytes()[8 - size..].to_vec();
            if big_endian {
                bytes
            } else {
                bytes.into_iter().rev().collect()
            }
        };
        let mut block = if big_endian {
            b"MM".to_vec()
        } else {
            b"II".to_vec()
        };
        block.extend([put(42, 2), put(8, 4), put(1, 2)].concat());
        block.extend([put(274, 2), put(kind.into(), 2), put(1, 4)].concat());
        let mut field = put(value, size);
        field.resize(4, 0);
        block.extend(field);
        block.extend(put(0, 4));
        block
    }

    #[test]
    fn every_integer_type_in_both_byte_orders_says_the_same() {
        // BYTE, SHORT, LONG, SBYTE, UNDEFINED, SSHORT, SLONG, IFD.
        for (kind, size) in [
            (1, 1),
            (3, 2),
            (4, 4),
            (6, 1),
            (7, 1),
            (8, 2),
            (9, 4),
            (13, 4),
        ] {
            for big_endian in [false, true] {
                for value in 1..=8 {
                    let block = exif(big_endian, kind, size, value);
                    let expected = Orientation::from_exif(value as u8);
                    assert_eq!(of_exif(&block), expected, "{kind} {big_endian} {value}");
                    let prefixed = [EXIF_PREFIX, &block].concat();
                    assert_eq!(of_exif(&prefixed), expected);
                }
            }
        }
    }

    #[test]
    fn what_is_not_an_orientation_is_ignored() {
        for value in [0, 9, -6, 262] {
            assert_eq!(of_exif(&exif(true, 9, 4, value)), None, "{value}");
        }
        // RATIONAL, and a block that ends in the middle.
        assert_eq!(of_exif(&exif(false, 5, 4, 6)), None);
        let whole = exif(false, 3, 2, 6);
        for kept in 0..18 {
            assert_eq!(of_exif(&whole[..kept]), None, "{kept}");
        }
        // The link to the next directory may be missing.
        assert_eq!(of_exif(&whole[..22]), Some(Orientation::Rotate90));
    }
}
