//! PNG files row by row: those that are cut off, and large ones.

use std::io::{BufRead, Read, Seek, SeekFrom};

use ::image::{ImageFormat, RgbImage};

use super::{
    ImageLimits, ImageNote, PreprocessError,
    decode::over_white,
    shrink::{self, Shrink},
    stored::{Name, Stored},
};

/// Decodes a PNG as it is stored.
///
/// # Errors
/// When it is too large, damaged, or cut off before the first row.
pub(super) fn decode<R: BufRead + Seek>(
    name: &Name<'_>,
    reader: &mut R,
    limits: &ImageLimits,
) -> Result<Stored, PreprocessError> {
    let Some(header) = Header::read(reader) else {
        return Err(name.truncated());
    };
    let rewound = |reader: &mut R| reader.rewind().map_err(|e| name.damaged(e.into()));
    name.check_size(header.width, header.height, limits)?;
    let large = shrink::factor(header.width, header.height) > 1;
    if large && !header.interlaced {
        rewound(reader)?;
        return rows(name, reader, limits, header);
    }
    rewound(reader)?;
    match name.plain(reader.by_ref(), ImageFormat::Png, limits) {
        Ok(rgb) => Ok(Stored::shrunk(rgb)),
        // Every seventh pixel or fewer of an interlaced image would be there.
        Err(e @ PreprocessError::Truncated { .. }) if !header.interlaced => {
            rewound(reader)?;
            rows(name, reader, limits, header).map_err(|_| e)
        }
        Err(e) => Err(e),
    }
}

/// What the first chunk of a PNG says.
#[derive(Clone, Copy)]
struct Header {
    width: u32,
    height: u32,
    interlaced: bool,
}

impl Header {
    fn read<R: Read + Seek>(reader: &mut R) -> Option<Self> {
        // Behind the signature, the chunk's length and its name.
        const AT: u64 = 16;
        reader.seek(SeekFrom::Start(AT)).ok()?;
        let mut bytes = [0; 13];
        reader.read_exact(&mut bytes).ok()?;
        let [a, b, c, d, e, f, g, h, .., interlace] = bytes;
        Some(Self {
            width: u32::from_be_bytes([a, b, c, d]),
            height: u32::from_be_bytes([e, f, g, h]),
            interlaced: interlace != 0,
        })
    }
}

/// Decodes the rows that are there, and averages them where the image is large.
fn rows<R: BufRead + Seek>(
    name: &Name<'_>,
    reader: &mut R,
    limits: &ImageLimits,
    Header { width, height, .. }: Header,
) -> Result<Stored, PreprocessError> {
    let bytes = usize::try_from(limits.max_memory).unwrap_or(usize::MAX);
    let mut decoder = png::Decoder::new_with_limits(reader, png::Limits { bytes });
    // As `image` does, so that both give the same values.
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(|e| from_png(name, e))?;
    let (color, depth) = reader.output_color_type();
    let profile = reader.info().icc_profile.clone();
    let factor = shrink::factor(width, height);
    let mut shrink = Shrink::new(width, height, factor);
    let mut rgb = Vec::with_capacity(width as usize * 3);
    let cut_off = loop {
        match reader.next_row() {
            Ok(Some(row)) => {
                rgb.clear();
                to_rgb(row.data(), color, depth, &mut rgb);
                shrink.push(&rgb);
            }
            Ok(None) => break None,
            Err(e) => break Some(from_png(name, e)),
        }
    };
    match cut_off {
        None | Some(PreprocessError::Truncated { .. }) if shrink.rows() > 0 => {}
        Some(e) => return Err(e),
        None => return Err(name.truncated()),
    }
    let (rgb, missing) = shrink.finish();
    let rgb: RgbImage = rgb.ok_or_else(|| name.truncated())?;
    let mut stored = Stored::scaled(rgb, width, height).with_profile(name, profile.as_deref());
    stored.notes.extend(ImageNote::missing(missing));
    Ok(stored)
}

fn from_png(name: &Name<'_>, e: png::DecodingError) -> PreprocessError {
    match e {
        png::DecodingError::IoError(e) => name.damaged(e.into()),
        e => name.damaged(::image::ImageError::Decoding(
            ::image::error::DecodingError::new(ImageFormat::Png.into(), e),
        )),
    }
}

/// Appends a row as 8-bit RGB: the high byte of 16 bits, gray three times, alpha over white.
fn to_rgb(row: &[u8], color: png::ColorType, depth: png::BitDepth, rgb: &mut Vec<u8>) {
    let bytes = if depth == png::BitDepth::Sixteen {
        2
    } else {
        1
    };
    for pixel in row.chunks_exact(color.samples() * bytes) {
        let value = |channel: usize| pixel[channel * bytes];
        match color {
            png::ColorType::Grayscale => rgb.extend([value(0); 3]),
            png::ColorType::GrayscaleAlpha => {
                let gray = value(0);
                rgb.extend(over_white([gray, gray, gray, value(1)]));
            }
            png::ColorType::Rgba => {
                rgb.extend(over_white([value(0), value(1), value(2), value(3)]));
            }
            // Palettes are expanded.
            _ => rgb.extend([value(0), value(1), value(2)]),
        }
    }
}
