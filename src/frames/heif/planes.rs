//! Planes of luma and chroma -> RGB.
//!
//! Chroma is taken from the nearest sample, and of more than 8 bits the upper 8 are kept, both as libheif does. swscale is not
//! used: it interpolates chroma, knows neither every matrix nor RGB planes that another matrix is asked for.

use ffmpeg_next::{format::Pixel, frame};
use rayon::prelude::*;

use super::{
    error::HeifError,
    matrix::{Channel, Matrix},
};

/// Rows that one thread converts at a time.
const ROWS_AT_ONCE: usize = 64;

/// How samples lie in planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    bits: u32,
    /// Luma columns and rows that share a chroma sample, as powers of two; `None` without chroma.
    shared: Option<(u32, u32)>,
}

impl Layout {
    fn of(format: Pixel) -> Option<Self> {
        let (bits, shared) = match format {
            Pixel::GRAY8 => (8, None),
            Pixel::GRAY10LE => (10, None),
            Pixel::GRAY12LE => (12, None),
            Pixel::YUV420P | Pixel::YUVJ420P => (8, Some((1, 1))),
            Pixel::YUV422P | Pixel::YUVJ422P => (8, Some((1, 0))),
            Pixel::YUV440P | Pixel::YUVJ440P => (8, Some((0, 1))),
            // Planes of green, blue and red are in the place of luma and chroma.
            Pixel::YUV444P | Pixel::YUVJ444P | Pixel::GBRP => (8, Some((0, 0))),
            Pixel::YUV420P10LE => (10, Some((1, 1))),
            Pixel::YUV422P10LE => (10, Some((1, 0))),
            Pixel::YUV444P10LE | Pixel::GBRP10LE => (10, Some((0, 0))),
            Pixel::YUV420P12LE => (12, Some((1, 1))),
            Pixel::YUV422P12LE => (12, Some((1, 0))),
            Pixel::YUV444P12LE | Pixel::GBRP12LE => (12, Some((0, 0))),
            _ => return None,
        };
        Some(Self { bits, shared })
    }
}

/// One plane of a frame.
#[derive(Clone, Copy)]
struct Plane<'a> {
    bytes: &'a [u8],
    stride: usize,
}

impl<'a> Plane<'a> {
    fn of(frame: &'a frame::Video, index: usize) -> Option<Self> {
        (index < frame.planes()).then(|| Self {
            bytes: frame.data(index),
            stride: frame.stride(index),
        })
    }

    /// Reads samples of a row into `into`, each for as many columns as 2 to the power of `shared` says.
    fn read(&self, row: usize, bits: u32, shared: u32, into: &mut [i32]) -> Option<()> {
        let row = self.bytes.get(row * self.stride..)?;
        let row = &row[..row.len().min(self.stride)];
        let samples = into.len().div_ceil(1 << shared);
        let runs = into.chunks_mut(1 << shared);
        if bits == 8 {
            for (run, sample) in runs.zip(row.get(..samples)?) {
                run.fill(i32::from(*sample));
            }
        } else {
            for (run, sample) in runs.zip(row.get(..2 * samples)?.chunks_exact(2)) {
                let sample = i32::from(u16::from_le_bytes([sample[0], sample[1]]));
                // A decoder never exceeds its depth; the arithmetic relies on it.
                run.fill(sample.min((1 << bits) - 1));
            }
        }
        Some(())
    }
}

/// How the samples of a frame are to be understood, whatever the frame says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meaning {
    pub(super) matrix: Matrix,
    pub(super) full_range: bool,
    /// Only the first plane counts, as in an image of transparency.
    pub(super) gray: bool,
}

/// The upper left `width` x `height` pixels of a frame as RGB, row by row.
///
/// # Errors
/// When the frame is smaller, or its samples are of a format that no still image has.
pub(super) fn to_rgb<T: Channel>(
    frame: &frame::Video,
    (width, height): (u32, u32),
    meaning: Meaning,
) -> Result<Vec<T>, HeifError> {
    let (mut layout, planes) = layout_of(frame, (width, height))?;
    if meaning.gray {
        layout.shared = None;
    }
    let converter = meaning.matrix.converter(layout.bits, meaning.full_range);
    let row_values = 3 * width as usize;
    let mut rgb = vec![T::default(); row_values * height as usize];
    rgb.par_chunks_mut(row_values * ROWS_AT_ONCE)
        .enumerate()
        .try_for_each(|(band, rows)| {
            let mut samples = vec![vec![0; width as usize]; 3];
            for (i, row) in rows.chunks_exact_mut(row_values).enumerate() {
                let y = band * ROWS_AT_ONCE + i;
                planes[0].read(y, layout.bits, 0, &mut samples[0])?;
                match layout.shared {
                    None => converter.gray(&samples[0], row),
                    Some((columns, rows)) => {
                        for index in [1, 2] {
                            let of_row = &mut samples[index];
                            planes[index].read(y >> rows, layout.bits, columns, of_row)?;
                        }
                        converter.color(&samples[0], &samples[1], &samples[2], row);
                    }
                }
            }
            Some(())
        })
        .ok_or_else(|| HeifError::Broken("its decoded planes are too short".to_owned()))?;
    Ok(rgb)
}

fn layout_of(
    frame: &frame::Video,
    (width, height): (u32, u32),
) -> Result<(Layout, Vec<Plane<'_>>), HeifError> {
    if frame.width() < width || frame.height() < height {
        return Err(HeifError::Broken(format!(
            "{width}x{height} pixels are announced, {}x{} are coded",
            frame.width(),
            frame.height()
        )));
    }
    let format = frame.format();
    let unknown = || HeifError::Unsupported(format!("an image with samples as {format:?}"));
    let layout = Layout::of(format).ok_or_else(unknown)?;
    let count = if layout.shared.is_some() { 3 } else { 1 };
    let planes: Option<Vec<_>> = (0..count).map(|i| Plane::of(frame, i)).collect();
    Ok((layout, planes.ok_or_else(unknown)?))
}
