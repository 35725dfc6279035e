//! BMP files that are cut off: the rows that are there, the others gray.

use std::io::{BufRead, Read, Seek, SeekFrom};

use ::image::ImageFormat;

use super::{
    ImageLimits, ImageNote, PreprocessError,
    padded::Padded,
    stored::{Name, Stored},
};

/// Decodes a BMP as it is stored.
///
/// # Errors
/// When it is too large, damaged, or cut off before the first pixel.
pub(super) fn decode<R: BufRead + Seek>(
    name: &Name<'_>,
    reader: &mut R,
    limits: &ImageLimits,
) -> Result<Stored, PreprocessError> {
    let e = match name.plain(reader.by_ref(), ImageFormat::Bmp, limits) {
        Ok(rgb) => return Ok(Stored::shrunk(rgb)),
        Err(e @ PreprocessError::Truncated { .. }) => e,
        Err(e) => return Err(e),
    };
    let Some((from, to)) = pixels(reader) else {
        return Err(e);
    };
    let file = reader
        .seek(SeekFrom::End(0))
        .map_err(|e| name.damaged(e.into()))?;
    if file <= from || file >= to {
        return Err(e);
    }
    let padded = Padded::new(reader, to).map_err(|e| name.damaged(e.into()))?;
    let mut stored = Stored::shrunk(name.plain(padded, ImageFormat::Bmp, limits)?);
    let missing = (to - file) as f64 / (to - from) as f64;
    stored.notes.extend(ImageNote::missing(missing));
    Ok(stored)
}

/// Returns where the pixels begin and end, if they are not compressed. BITMAPINFOHEADER and what extends it.
fn pixels<R: Read + Seek>(reader: &mut R) -> Option<(u64, u64)> {
    reader.rewind().ok()?;
    let mut head = [0; 34];
    reader.read_exact(&mut head).ok()?;
    let number = |at: usize| {
        let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
        u32::from_le_bytes(bytes)
    };
    let (from, width, height) = (number(10), number(18), number(22).cast_signed());
    let bits = u64::from(number(28) & 0xFFFF);
    let compression = number(30);
    // BI_RGB, BI_BITFIELDS, BI_ALPHABITFIELDS.
    if !matches!(compression, 0 | 3 | 6) || number(14) < 40 {
        return None;
    }
    // Rows are filled up to four bytes.
    let row = (u64::from(width) * bits).div_ceil(32) * 4;
    let length = row.checked_mul(height.unsigned_abs().into())?;
    Some((from.into(), u64::from(from).checked_add(length)?))
}
