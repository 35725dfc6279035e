//! PNG files row by row: those that are cut off, and large ones.

use std::io::{BufRead, Read, Seek, SeekFrom};

use ::image::{ImageFormat, RgbImage};

use super::{
    ImageLimits, ImageNote, PreprocessError,
    color::{self, MAX_PROFILE},
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
    let max_alloc = alloc_limit(name, reader, limits);
    let rewound = |reader: &mut R| reader.rewind().map_err(|e| name.damaged(e.into()));
    name.check_size(header.width, header.height, limits)?;
    let large = shrink::factor(header.width, header.height) > 1;
    if large && !header.interlaced {
        rewound(reader)?;
        return rows(name, reader, max_alloc, header);
    }
    rewound(reader)?;
    match name.within(reader.by_ref(), ImageFormat::Png, limits, max_alloc) {
        Ok(rgb) => Ok(Stored::shrunk(rgb)),
        // Every seventh pixel or fewer of an interlaced image would be there.
        Err(e @ PreprocessError::Truncated { .. }) if !header.interlaced => {
            rewound(reader)?;
            rows(name, reader, max_alloc, header).map_err(|_| e)
        }
        Err(e) => Err(e),
    }
}

/// Returns how much a decoder may allocate beside the pixels: all, unless the color profile unpacks to more than is read of
/// one. Such a profile is ignored by the decoders, and told here.
fn alloc_limit<R: BufRead + Seek>(name: &Name<'_>, reader: &mut R, limits: &ImageLimits) -> u64 {
    let Some(packed) = packed_profile(reader).filter(|_| reader.rewind().is_ok()) else {
        return limits.max_memory;
    };
    // The chunk itself, whose buffer grows by doubling, and what it unpacks to.
    let max_alloc = limits
        .max_memory
        .min(2 * u64::from(packed) + MAX_PROFILE as u64);
    let bytes = usize::try_from(max_alloc).unwrap_or(usize::MAX);
    let mut decoder = png::Decoder::new_with_limits(reader, png::Limits { bytes });
    decoder.set_ignore_text_chunk(true);
    match decoder.read_info() {
        Ok(reader) if reader.info().icc_profile.is_none() => {
            color::ignore(name.text(), &"it is damaged or larger than 16 MiB");
            max_alloc
        }
        // A profile that is still too large is told where it would be used.
        Ok(_) | Err(_) => limits.max_memory,
    }
}

/// Returns the length of the chunk with the color profile, in bytes, if there is one before the pixels.
fn packed_profile<R: Read + Seek>(reader: &mut R) -> Option<u32> {
    /// Behind the signature.
    const FIRST_CHUNK: u64 = 8;
    reader.seek(SeekFrom::Start(FIRST_CHUNK)).ok()?;
    loop {
        let mut head = [0; 8];
        reader.read_exact(&mut head).ok()?;
        let [a, b, c, d, kind @ ..] = head;
        let length = u32::from_be_bytes([a, b, c, d]);
        match &kind {
            b"iCCP" => return Some(length),
            b"IDAT" | b"IEND" => return None,
            // Its content and its checksum.
            _ => reader.seek_relative(i64::from(length) + 4).ok()?,
        };
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
    max_alloc: u64,
    Header { width, height, .. }: Header,
) -> Result<Stored, PreprocessError> {
    let bytes = usize::try_from(max_alloc).unwrap_or(usize::MAX);
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
