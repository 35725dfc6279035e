//! JPEG files: what stands behind the image, files that are cut off, and images that are decoded at a smaller size.
//!
//! Pixels are `image`'s decoder's; those of large images are `jpeg-decoder`'s, which can compute fewer.

mod bits;
mod blocks;
mod coverage;
mod outline;

use std::io::{BufRead, Cursor, Read, Seek};

use ::image::{ImageError, ImageFormat, RgbImage, error::DecodingError};
use jpeg_decoder::{Decoder, PixelFormat};

use self::coverage::{Coverage, coverage};
pub(super) use self::outline::{Frame, Outline, frame_at, outline};
use super::{
    ImageLimits, ImageNote, PreprocessError,
    shrink::{self, MISSING},
    stored::{Name, Stored, TURNING},
};

/// Decodes a JPEG as it is stored.
///
/// # Errors
/// When it is too large, damaged, of a kind that is not read, or cut off before the first pixels.
pub(super) fn decode<R: BufRead + Seek>(
    name: &Name<'_>,
    reader: &mut R,
    limits: &ImageLimits,
) -> Result<(Stored, Outline), PreprocessError> {
    let outline = outline(reader)
        .and_then(|outline| reader.rewind().map(|()| outline))
        .map_err(|e| name.damaged(e.into()))?;
    let Some(frame) = outline.frame else {
        return Err(name.truncated());
    };
    let (width, height) = (u32::from(frame.width), u32::from(frame.height));
    name.check_size(width, height, limits)?;
    if let Some(what) = frame.unsupported() {
        return Err(name.unsupported(what.to_owned()));
    }
    if !outline.has_scan {
        return Err(name.truncated());
    }
    let decoded = match outline.end {
        // Nothing behind the image is read: a video may follow it.
        Some(end) if !outline.is_overrun && !outline.lacks_scans() => {
            let decoded = pixels(name, reader.by_ref().take(end), limits, frame);
            decoded.map(|stored| (may_end_early(&stored.rgb), stored))
        }
        _ => Err(name.truncated()),
    };
    let decoded = match decoded {
        Ok((false, stored)) => return Ok((stored, outline)),
        Err(
            e @ (PreprocessError::ImageTooLarge { .. }
            | PreprocessError::NeedsMemory { .. }
            | PreprocessError::Unsupported { .. }),
        ) => return Err(e),
        Ok((true, stored)) => Some(stored),
        Err(_) => None,
    };
    let mut bytes = Vec::new();
    reader
        .rewind()
        .and_then(|()| reader.read_to_end(&mut bytes))
        .map_err(|e| name.damaged(e.into()))?;
    let found = coverage(&bytes);
    let stored = match decoded {
        Some(stored) if found.is_none_or(|found| found.end.is_some()) => stored,
        _ => counted(name, bytes, limits, (frame, found))?,
    };
    Ok((stored, outline))
}

/// Decodes an image whose end is not certain, and tells what is missing.
fn counted(
    name: &Name<'_>,
    mut bytes: Vec<u8>,
    limits: &ImageLimits,
    (frame, found): (Frame, Option<Coverage>),
) -> Result<Stored, PreprocessError> {
    if found.is_some_and(|found| found.area <= 0.0) {
        return Err(name.truncated());
    }
    // A decoder would take an end marker within a segment for a part of it.
    if let Some(end) = found.and_then(|found| found.end.or(found.cut_at)) {
        bytes.truncate(end);
        bytes.extend([outline::MARKER, outline::END_OF_IMAGE]);
    }
    let decoded = pixels(name, Cursor::new(&bytes), limits, frame);
    let mut stored = decoded.or_else(|_| {
        // Some scans are only shown when a marker follows them.
        bytes.extend([outline::MARKER, outline::END_OF_IMAGE]);
        pixels(name, Cursor::new(&bytes), limits, frame)
    })?;
    if let Some(found) = found {
        let detail = found.lacks_detail.then_some(ImageNote::TruncatedDetail);
        stored
            .notes
            .extend(ImageNote::missing(1.0 - found.area).or(detail));
        if stored.rgb.dimensions() == (frame.width.into(), frame.height.into()) {
            gray_out(&mut stored.rgb, found);
        }
    }
    Ok(stored)
}

/// Decodes in full size, or smaller where the image is large.
fn pixels<R: BufRead + Seek>(
    name: &Name<'_>,
    mut image: R,
    limits: &ImageLimits,
    frame: Frame,
) -> Result<Stored, PreprocessError> {
    let (width, height) = (u32::from(frame.width), u32::from(frame.height));
    if shrink::factor(width, height) > 1 {
        return scaled(name, &mut image, limits, frame);
    }
    let needed = u64::from(width) * u64::from(height) * memory(frame).max(TURNING);
    name.check_memory(needed, limits)?;
    Ok(Stored::new(name.plain(image, ImageFormat::Jpeg, limits)?))
}

/// Bytes that decoding takes for each pixel: three of RGB, and of a progressive image two for each coefficient.
fn memory(frame: Frame) -> u64 {
    let coefficients = if frame.is_progressive() { 2 } else { 0 };
    3 + coefficients * u64::from(frame.components)
}

/// Decodes a large image at a half, a quarter or an eighth of its size.
fn scaled<R: BufRead>(
    name: &Name<'_>,
    image: &mut R,
    limits: &ImageLimits,
    frame: Frame,
) -> Result<Stored, PreprocessError> {
    if frame.components == 4 {
        let what = "a CMYK JPEG of more than 100 megapixels".to_owned();
        return Err(name.unsupported(what));
    }
    let failed = |e| {
        let e = DecodingError::new(ImageFormat::Jpeg.into(), e);
        name.damaged(ImageError::Decoding(e))
    };
    let (width, height) = (u32::from(frame.width), u32::from(frame.height));
    let factor = shrink::factor(width, height).next_power_of_two().min(8);
    let of = |side: u32| u16::try_from(side.div_ceil(factor)).unwrap_or(u16::MAX);
    let (small_width, small_height) = (of(width), of(height));
    let small = u64::from(small_width) * u64::from(small_height);
    let coefficients = (memory(frame) - 3) * u64::from(width) * u64::from(height);
    // Planes and RGB.
    name.check_memory(coefficients + 6 * small, limits)?;

    let mut decoder = Decoder::new(WithEnd {
        inner: image,
        marker: [outline::MARKER, outline::END_OF_IMAGE],
    });
    decoder.set_max_decoding_buffer_size(usize::try_from(limits.max_memory).unwrap_or(usize::MAX));
    decoder.scale(small_width, small_height).map_err(failed)?;
    let pixels = decoder.decode().map_err(failed)?;
    let rgb = decoder.info().and_then(|info| {
        let (width, height) = (u32::from(info.width), u32::from(info.height));
        match info.pixel_format {
            PixelFormat::RGB24 => RgbImage::from_raw(width, height, pixels),
            PixelFormat::L8 => {
                let rgb = pixels.iter().flat_map(|v| [*v; 3]).collect();
                RgbImage::from_raw(width, height, rgb)
            }
            _ => None,
        }
    });
    let rgb = rgb.ok_or_else(|| name.unsupported("a JPEG with colors of this kind".to_owned()))?;
    let profile = decoder.icc_profile();
    Ok(Stored::scaled(rgb, width, height).with_profile(name, profile.as_deref()))
}

/// A file with an end-of-image marker behind it, for a decoder that asks for one.
struct WithEnd<R> {
    inner: R,
    marker: [u8; 2],
}

impl<R: Read> Read for WithEnd<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        if n > 0 || buf.is_empty() {
            return Ok(n);
        }
        buf[0] = self.marker[0];
        self.marker.rotate_left(1);
        Ok(1)
    }
}

/// Whether an image looks as if its last blocks were missing, in spite of an end marker. A decoder then goes on with zeros,
/// so that each block differs by the same from the one before. A smooth image may look so too.
fn may_end_early(rgb: &RgbImage) -> bool {
    /// A multiple of the width of a unit, whatever the sampling: one, two or four blocks.
    const PERIOD: u32 = 32;
    /// Of rounding, in the difference of two differences.
    const ROUNDING: i32 = 3;
    let (width, height) = rgb.dimensions();
    let Some(row) = height.checked_sub(1) else {
        return false;
    };
    let value = |x: u32| i32::from(rgb.get_pixel(x, row).0[1]);
    let last = width.saturating_sub(2 * PERIOD);
    (last.saturating_sub(PERIOD)..last).all(|x| {
        let change = value(x) - 2 * value(x + PERIOD) + value(x + 2 * PERIOD);
        change.abs() <= ROUNDING
    })
}

/// Paints what is missing gray, whatever the decoder made of it.
fn gray_out(rgb: &mut RgbImage, found: Coverage) {
    let Some((x, y, height)) = found.missing_from else {
        return;
    };
    for (row_y, row) in (0..).zip(rgb.rows_mut()) {
        if row_y >= y {
            let from = if row_y < y + height { x } else { 0 };
            for pixel in row.skip(from as usize) {
                pixel.0 = [MISSING; 3];
            }
        }
    }
}
