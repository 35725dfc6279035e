//! TIFF files: what is not read is named; those that are cut off, and large ones, are decoded piece by piece.

use std::io::{self, BufRead, Read, Seek, SeekFrom};

use ::image::ImageFormat;
use tiff::{
    ColorType,
    decoder::{ChunkType, Decoder, DecodingResult, Limits},
};

use super::{
    ImageLimits, ImageNote, PreprocessError,
    decode::over_white,
    ifd::Directories,
    padded::Padded,
    raw::is_reduced,
    shrink::{self, MISSING, Shrink},
    stored::{Name, Stored},
    tiff_kinds::Kind,
};

/// Pages of a file that are counted, at most.
const MAX_PAGES: usize = 1024;

/// Decodes a TIFF's first page as it is stored.
///
/// # Errors
/// When it is too large, damaged, of a kind that is not read, or cut off before the first pixels.
pub(super) fn decode<R: BufRead + Seek>(
    name: &Name<'_>,
    reader: &mut R,
    limits: &ImageLimits,
) -> Result<Stored, PreprocessError> {
    let failed = |e: io::Error| name.damaged(e.into());
    let survey = Survey::read(reader).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => name.truncated(),
        _ => failed(e),
    })?;
    name.check_size(survey.width, survey.height, limits)?;
    if survey.first_is_thumbnail {
        return Err(name.unsupported("a TIFF whose first image is a thumbnail".to_owned()));
    }
    if survey.kind.is_misread() {
        let what = survey.kind.unusual().unwrap_or_default();
        return Err(name.unsupported(what));
    }
    let mut stored = if shrink::factor(survey.width, survey.height) > 1 {
        match pieces(name, reader, limits, &survey.kind)? {
            Some(stored) => stored,
            None => Stored::shrunk(survey.plain(name, reader, limits)?),
        }
    } else if survey.is_cut_off(reader).map_err(failed)? {
        survey.partly(name, reader, limits)?
    } else {
        Stored::new(survey.plain(name, reader, limits)?)
    };
    if survey.pages > 1 {
        stored.notes.push(ImageNote::FirstOfMany { what: "pages" });
    }
    Ok(stored)
}

/// What the directories of a TIFF say.
struct Survey {
    width: u32,
    height: u32,
    kind: Kind,
    /// Images that are not smaller copies of others.
    pages: usize,
    first_is_thumbnail: bool,
    /// Offset and length of each piece of the first image.
    pieces: Vec<(u64, u64)>,
}

impl Survey {
    fn read<R: BufRead + Seek>(reader: &mut R) -> io::Result<Self> {
        const WIDTH: u16 = 256;
        const HEIGHT: u16 = 257;
        // Strips and tiles: their offsets and lengths.
        const PIECES: [(u16, u16); 2] = [(273, 279), (324, 325)];
        reader.rewind()?;
        let mut tiff = Directories::open(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let first = tiff.directory(tiff.first)?;
        let side = |value: Option<u64>| value.and_then(|v| u32::try_from(v).ok()).unwrap_or(0);
        let mut pieces = Vec::new();
        for (offsets, lengths) in PIECES {
            let offsets = tiff.integers(&first, offsets);
            let lengths = tiff.integers(&first, lengths);
            let number = |v: &i64| u64::try_from(*v).unwrap_or(0);
            pieces.extend(offsets.iter().map(number).zip(lengths.iter().map(number)));
        }
        let reduced = is_reduced(&mut tiff, &first);
        let mut survey = Self {
            width: side(tiff.unsigned(&first, WIDTH)),
            height: side(tiff.unsigned(&first, HEIGHT)),
            kind: Kind::of(&mut tiff, &first),
            pages: usize::from(!reduced),
            first_is_thumbnail: false,
            pieces,
        };
        let (mut next, mut seen) = (first.next, vec![tiff.first]);
        while next > 0 && !seen.contains(&next) && seen.len() < MAX_PAGES {
            seen.push(next);
            let Ok(directory) = tiff.directory(next) else {
                break;
            };
            survey.pages += usize::from(!is_reduced(&mut tiff, &directory));
            next = directory.next;
        }
        survey.first_is_thumbnail = reduced && survey.pages > 0;
        Ok(survey)
    }

    /// Decodes with `image`; what it does not support is named.
    fn plain<R: BufRead + Seek>(
        &self,
        name: &Name<'_>,
        reader: &mut R,
        limits: &ImageLimits,
    ) -> Result<::image::RgbImage, PreprocessError> {
        reader.rewind().map_err(|e| name.damaged(e.into()))?;
        let decoded = name.plain(reader, ImageFormat::Tiff, limits);
        decoded.map_err(|e| match (&e, self.kind.unusual()) {
            (PreprocessError::Decode { .. }, Some(what)) => name.unsupported(what),
            _ => e,
        })
    }

    /// Returns where the last piece ends.
    fn end(&self) -> u64 {
        let end = |piece: &(u64, u64)| piece.0.saturating_add(piece.1);
        self.pieces.iter().map(end).max().unwrap_or(0)
    }

    fn is_cut_off<R: Seek>(&self, reader: &mut R) -> io::Result<bool> {
        Ok(self.end() > reader.seek(SeekFrom::End(0))?)
    }

    /// Decodes what is there of a file that is cut off.
    fn partly<R: BufRead + Seek>(
        &self,
        name: &Name<'_>,
        reader: &mut R,
        limits: &ImageLimits,
    ) -> Result<Stored, PreprocessError> {
        if !self.kind.is_uncompressed() {
            return pieces(name, reader, limits, &self.kind)?.ok_or_else(|| name.truncated());
        }
        let failed = |e: io::Error| name.damaged(e.into());
        let file = reader.seek(SeekFrom::End(0)).map_err(failed)?;
        let all: u64 = self.pieces.iter().map(|piece| piece.1).sum();
        let beyond = |(offset, length): &(u64, u64)| {
            let end = offset.saturating_add(*length);
            end.saturating_sub(file).min(*length)
        };
        let missing = self.pieces.iter().map(beyond).sum::<u64>() as f64 / all.max(1) as f64;
        if missing >= 1.0 {
            return Err(name.truncated());
        }
        let mut padded = Padded::new(reader, self.end()).map_err(failed)?;
        let mut stored = Stored::new(self.plain(name, &mut padded, limits)?);
        stored.notes.extend(ImageNote::missing(missing));
        Ok(stored)
    }
}

/// Decodes strip by strip, or tile by tile, and averages where the image is large. What cannot be decoded is gray. `None`
/// for kinds that only `image` decodes, as a whole.
fn pieces<R: BufRead + Seek>(
    name: &Name<'_>,
    reader: &mut R,
    limits: &ImageLimits,
    kind: &Kind,
) -> Result<Option<Stored>, PreprocessError> {
    reader.rewind().map_err(|e| name.damaged(e.into()))?;
    let Ok(decoder) = Decoder::new(reader.by_ref()) else {
        return Ok(None);
    };
    let mut most = Limits::default();
    most.decoding_buffer_size = usize::try_from(limits.max_memory).unwrap_or(usize::MAX);
    most.intermediate_buffer_size = most.decoding_buffer_size;
    let mut decoder = decoder.with_limits(most);
    let (Ok((width, height)), Ok(color)) = (decoder.dimensions(), decoder.colortype()) else {
        return Ok(None);
    };
    const PLANAR: u16 = 2;
    let planes = decoder.find_tag_unsigned::<u16>(tiff::tags::Tag::PlanarConfiguration);
    if samples(color).is_none() || matches!(planes, Ok(Some(PLANAR))) {
        return Ok(None);
    }
    let (piece_width, piece_height) = decoder.chunk_dimensions();
    let count = match decoder.get_chunk_type() {
        ChunkType::Strip => decoder.strip_count(),
        ChunkType::Tile => decoder.tile_count(),
    };
    let (Ok(count), true) = (count, piece_width > 0 && piece_height > 0) else {
        return Ok(None);
    };
    let bytes = u64::from(piece_width) * u64::from(piece_height.min(height)) * 8;
    let band = u64::from(width) * u64::from(piece_height.min(height)) * 3;
    let is_strips = piece_width >= width;
    let needed = if is_strips { bytes } else { bytes + band };
    name.check_memory(needed, limits)?;
    let profile = decoder.get_tag_u8_vec(tiff::tags::Tag::IccProfile).ok();
    let mut shrink = Shrink::new(width, height, shrink::factor(width, height));
    let there = if is_strips {
        strips(&mut decoder, color, count, kind, &mut shrink)
    } else {
        tiles(&mut decoder, color, count, &mut shrink)
    };
    let Some(there) = there else {
        return Ok(None);
    };
    if there <= 0.0 {
        return Err(name.truncated());
    }
    let (rgb, _) = shrink.finish();
    let rgb = rgb.ok_or_else(|| name.truncated())?;
    let mut stored = Stored::scaled(rgb, width, height).with_profile(name, profile.as_deref());
    stored.notes.extend(ImageNote::missing(1.0 - there));
    Ok(Some(stored))
}

/// Decodes pieces that are as wide as the image; returns the share that could be, `None` when they hold other values than
/// said.
fn strips<R: Read + Seek>(
    decoder: &mut Decoder<R>,
    color: ColorType,
    count: u32,
    kind: &Kind,
    shrink: &mut Shrink,
) -> Option<f64> {
    let mut decoded = 0;
    for piece in 0..count {
        let (width, rows) = decoder.chunk_data_dimensions(piece);
        let (values, there) = match decoder.read_chunk(piece) {
            Ok(values) => (values, rows),
            Err(_) if kind.has_plain_rows() => {
                let row = width as usize * samples(color)?;
                first_rows(decoder, piece, row, rows)
            }
            Err(_) => (DecodingResult::U8(Vec::new()), 0),
        };
        decoded += there;
        for row in 0..there as usize {
            shrink.push(&row_to_rgb(&values, color, row, width as usize)?);
        }
        let gray = vec![MISSING; width as usize * 3];
        (there..rows).for_each(|_| shrink.push(&gray));
    }
    let (_, height) = decoder.dimensions().ok()?;
    Some(f64::from(decoded) / f64::from(height.max(1)))
}

/// Decodes a piece as far as it goes; returns the values, and the number of rows that differ from what was there before.
fn first_rows<R: Read + Seek>(
    decoder: &mut Decoder<R>,
    piece: u32,
    row: usize,
    rows: u32,
) -> (DecodingResult, u32) {
    let mut bytes = vec![MISSING; row * rows as usize];
    let whole = decoder.read_chunk_bytes(piece, &mut bytes).is_ok();
    let last = bytes.iter().rposition(|value| *value != MISSING);
    // The last row that was touched may be there in part.
    let touched = last.map_or(0, |at| at / row.max(1));
    let there = if whole { rows } else { touched as u32 };
    (DecodingResult::U8(bytes), there)
}

/// As [`strips`], for pieces that lie side by side.
fn tiles<R: Read + Seek>(
    decoder: &mut Decoder<R>,
    color: ColorType,
    count: u32,
    shrink: &mut Shrink,
) -> Option<f64> {
    let (width, _) = decoder.dimensions().ok()?;
    let (piece_width, piece_height) = decoder.chunk_dimensions();
    let row_bytes = width as usize * 3;
    let across = width.div_ceil(piece_width);
    let mut decoded = 0u32;
    for first in (0..count).step_by(across as usize) {
        let (_, rows) = decoder.chunk_data_dimensions(first);
        let mut band = vec![MISSING; row_bytes * rows.min(piece_height) as usize];
        for (column, piece) in (first..count.min(first + across)).enumerate() {
            let (piece_columns, _) = decoder.chunk_data_dimensions(piece);
            let Ok(values) = decoder.read_chunk(piece) else {
                continue;
            };
            decoded += 1;
            let left = column * piece_width as usize * 3;
            for (row, to) in band.chunks_exact_mut(row_bytes).enumerate() {
                let from = row_to_rgb(&values, color, row, piece_columns as usize)?;
                to.get_mut(left..left + from.len())?.copy_from_slice(&from);
            }
        }
        for row in band.chunks_exact(row_bytes) {
            shrink.push(row);
        }
    }
    Some(f64::from(decoded) / f64::from(count.max(1)))
}

/// Returns the samples of a pixel, for the kinds that are decoded piece by piece.
fn samples(color: ColorType) -> Option<usize> {
    match color {
        ColorType::Gray(8 | 16) => Some(1),
        ColorType::GrayA(8 | 16) => Some(2),
        ColorType::RGB(8 | 16) => Some(3),
        ColorType::RGBA(8 | 16) => Some(4),
        _ => None,
    }
}

/// One row as 8-bit RGB: the high byte of 16 bits, gray three times, alpha over white.
fn row_to_rgb(
    values: &DecodingResult,
    color: ColorType,
    row: usize,
    width: usize,
) -> Option<Vec<u8>> {
    let samples = samples(color)?;
    let range = row * width * samples..(row + 1) * width * samples;
    let narrow: Vec<u8>;
    let bytes = match values {
        DecodingResult::U8(bytes) => bytes.get(range)?,
        DecodingResult::U16(wide) => {
            narrow = wide.get(range)?.iter().map(|v| (v >> 8) as u8).collect();
            &narrow
        }
        _ => return None,
    };
    let mut rgb = Vec::with_capacity(width * 3);
    for pixel in bytes.chunks_exact(samples) {
        match *pixel {
            [gray] => rgb.extend([gray; 3]),
            [gray, alpha] => rgb.extend(over_white([gray, gray, gray, alpha])),
            [r, g, b] => rgb.extend([r, g, b]),
            [r, g, b, alpha] => rgb.extend(over_white([r, g, b, alpha])),
            _ => return None,
        }
    }
    Some(rgb)
}
