//! Whether other programs read the same pixels from an image file as this one does.

use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use super::{decode::is_upright, jpeg};

/// What a PNG ends with: the length, name and checksum of an empty IEND chunk.
const PNG_END: [u8; 12] = *b"\0\0\0\0IEND\xAE\x42\x60\x82";

/// Returns true for a JPEG or PNG that is whole, upright, and RGB of 8 bits (PNG: with or without alpha): whatever reads it,
/// the pixels are those of [`super::read_image`]. Gray, palette, CMYK and 16-bit files, which readers treat in many ways,
/// are not plain.
#[must_use]
pub fn is_plain_rgb(path: &Path) -> bool {
    let regular = path.metadata().is_ok_and(|metadata| metadata.is_file());
    regular && is_upright(path) && layout_is_plain(path).unwrap_or(false)
}

fn layout_is_plain(path: &Path) -> std::io::Result<bool> {
    let mut file = BufReader::new(File::open(path)?);
    let mut head = [0; 29];
    let length = file.read(&mut head)?;
    if head[..length].starts_with(&[0xFF, 0xD8, 0xFF]) {
        file.rewind()?;
        let outline = jpeg::outline(&mut file)?;
        let rgb = |frame: jpeg::Frame| frame.components == 3 && frame.unsupported().is_none();
        return Ok(outline.end.is_some() && outline.frame.is_some_and(rgb));
    }
    if head[..length].starts_with(b"\x89PNG") {
        // IHDR: bits of a sample, then the color type; 2 is RGB and 6 RGB with alpha.
        let rgb = head[24] == 8 && matches!(head[25], 2 | 6);
        let mut end = [0; PNG_END.len()];
        file.seek(SeekFrom::End(-(PNG_END.len() as i64)))?;
        file.read_exact(&mut end)?;
        return Ok(rgb && end == PNG_END);
    }
    Ok(false)
}
