//! Whether an image file has more frames than the first.

use std::io::{self, BufRead, Read, Seek, SeekFrom};

use ::image::ImageFormat;

/// Returns whether a file is an animation, by its blocks; nothing is decoded.
pub(super) fn is_animated<R: BufRead + Seek>(
    reader: &mut R,
    format: ImageFormat,
) -> io::Result<bool> {
    match format {
        ImageFormat::Gif => gif(reader),
        ImageFormat::WebP => webp(reader),
        ImageFormat::Png => png(reader),
        _ => Ok(false),
    }
}

/// Counts a GIF's image descriptors up to the second. GIF89a, sections 18 to 27.
fn gif<R: BufRead + Seek>(reader: &mut R) -> io::Result<bool> {
    const SCREEN: u64 = 10;
    reader.seek(SeekFrom::Start(SCREEN))?;
    let [flags, _, _] = bytes(reader)?;
    skip_colors(reader, flags)?;
    let mut images = 0;
    loop {
        match bytes(reader)? {
            [0x2C] if images == 1 => return Ok(true),
            [0x2C] => {
                images += 1;
                let [.., flags] = bytes::<9, _>(reader)?;
                skip_colors(reader, flags)?;
                // The size of the codes, then the blocks.
                bytes::<1, _>(reader)?;
            }
            // An extension and its label.
            [0x21] => drop(bytes::<1, _>(reader)?),
            _ => return Ok(false),
        }
        loop {
            match bytes(reader)? {
                [0] => break,
                [length] => reader.seek_relative(length.into())?,
            }
        }
    }
}

/// Steps over a color table, if the flags say that there is one.
fn skip_colors<R: BufRead + Seek>(reader: &mut R, flags: u8) -> io::Result<()> {
    let entries = if flags & 0x80 == 0 {
        0
    } else {
        2 << (flags & 7)
    };
    reader.seek_relative(3 * entries)
}

/// The extended header's flag.
fn webp<R: BufRead + Seek>(reader: &mut R) -> io::Result<bool> {
    const FIRST_CHUNK: u64 = 12;
    const ANIMATION: u8 = 2;
    reader.seek(SeekFrom::Start(FIRST_CHUNK))?;
    let [kind @ .., _, _, _, _, flags] = bytes::<9, _>(reader)?;
    Ok(&kind == b"VP8X" && flags & ANIMATION != 0)
}

/// The chunk acTL, which stands before the pixels, and its number of frames.
fn png<R: BufRead + Seek>(reader: &mut R) -> io::Result<bool> {
    const SIGNATURE: u64 = 8;
    const CRC: i64 = 4;
    /// Chunks before the pixels: there are some dozens of kinds.
    const MOST: usize = 1024;
    reader.seek(SeekFrom::Start(SIGNATURE))?;
    for _ in 0..MOST {
        let [a, b, c, d, kind @ ..] = bytes::<8, _>(reader)?;
        match &kind {
            b"acTL" => return Ok(u32::from_be_bytes(bytes(reader)?) > 1),
            b"IDAT" | b"IEND" => return Ok(false),
            _ => reader.seek_relative(i64::from(u32::from_be_bytes([a, b, c, d])) + CRC)?,
        }
    }
    Ok(false)
}

fn bytes<const N: usize, R: Read>(reader: &mut R) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}
