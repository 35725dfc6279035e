//! The primary image of a file: which items it consists of, and how they become pixels.

use std::{
    io::{Read, Seek},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use ::image::RgbImage;
use vggt_model::preprocess::ColorConversion;

use super::{
    bitstream::Coding,
    decoder::{Decoder, MAX_STREAM_BYTES, Settings, code_points},
    error::HeifError,
    file::Container,
    grid,
    matrix::Matrix,
    meta::{Item, Meta, describe_kind},
    planes::{Meaning, to_rgb},
    properties::{CodePoints, extent, has_colors, icc_profile, is_alpha, nclx, transforms},
    turn,
};
use crate::frames::{
    ImageLimits,
    hdr::{Primaries, ToSrgb, Transfer},
};

/// Images that only repeat another one may repeat one that does so too. No writer nests them.
const MAX_DEPTH: usize = 4;

/// FFmpeg checks the size of an image before it is cropped, which codecs round up to whole blocks of at most this side.
const LARGEST_BLOCK: u32 = 128;

/// Memory that an image takes: RGB, and the same again while it is turned.
const BYTES_PER_PIXEL: u64 = 6;

/// Threads that pay for one coded image.
const MAX_THREADS: usize = 16;

/// Where the bytes of a file come from.
pub(super) trait Source: Read + Seek + Send {}

impl<T: Read + Seek + Send> Source for T {}

/// A file that is being decoded.
pub(super) struct Decoding<'a, S> {
    name: &'a str,
    pub(super) meta: &'a Meta<'a>,
    container: Mutex<Container<S>>,
    limits: &'a ImageLimits,
    damaged: AtomicBool,
    /// How high dynamic range becomes sRGB, once it was met.
    to_srgb: OnceLock<ToSrgb>,
}

/// What the samples of an item are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Color,
    Alpha,
}

/// One coded item, and how to decode it.
pub(super) struct Coded<'a> {
    pub(super) item: &'a Item<'a>,
    /// The item whose `colr` box counts before its own.
    pub(super) colors_of: &'a Item<'a>,
    pub(super) threads: usize,
    pub(super) content: Content,
}

/// Decodes the primary image, turned, in sRGB, over white.
///
/// # Errors
/// When the file is damaged, cut off, too large or of a variant that is not read.
pub(super) fn decode<S: Source>(
    name: &str,
    source: S,
    limits: &ImageLimits,
) -> Result<RgbImage, HeifError> {
    let (container, meta) = Container::open(source)?;
    let meta = Meta::parse(&meta)?;
    let decoding = Decoding {
        name,
        meta: &meta,
        container: Mutex::new(container),
        limits,
        damaged: AtomicBool::new(false),
        to_srgb: OnceLock::new(),
    };
    let rgb = decoding.primary()?;
    if decoding.damaged.into_inner() {
        tracing::warn!("\"{name}\" is damaged: parts of the image could not be decoded");
    }
    Ok(rgb)
}

impl<S: Source> Decoding<'_, S> {
    fn primary(&self) -> Result<RgbImage, HeifError> {
        let mut id = self.meta.primary;
        let mut turns = transforms(self.meta.item(id)?)?;
        let mut depth = 0;
        // An image that is another one, turned; or its tone-mapped variant, of which the plain one is the first input.
        while matches!(&self.meta.item(id)?.kind, b"iden" | b"tmap") {
            depth += 1;
            let inputs = self.meta.references_of(b"dimg", id);
            id = *inputs
                .first()
                .filter(|_| depth <= MAX_DEPTH)
                .ok_or_else(|| HeifError::Broken(format!("item {id} is derived from no image")))?;
            turns.splice(0..0, transforms(self.meta.item(id)?)?);
        }
        let (mut rgb, points) = self.pixels(id, Content::Color)?;
        if let Some(conversion) = self.conversion(id, points)? {
            conversion.convert_rgb(&mut rgb);
        }
        if let Some((alpha, premultiplied)) = self.alpha(id, &rgb)? {
            turn::over_white(&mut rgb, &alpha, premultiplied);
        }
        turn::apply(rgb, &turns)
    }

    /// The pixels of an item as they are coded.
    fn pixels(&self, id: u32, content: Content) -> Result<(RgbImage, CodePoints), HeifError> {
        let item = self.meta.item(id)?;
        if item.kind == *b"grid" {
            return grid::decode(self, id, content);
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let coded = Coded {
            item,
            colors_of: item,
            threads: threads.min(MAX_THREADS),
            content,
        };
        self.coded(&coded, &mut None)
    }

    /// Decodes one coded item, with the decoder of the last one where it fits.
    ///
    /// # Errors
    /// When the item is of no known coding, exceeds the limits, or cannot be decoded.
    pub(super) fn coded(
        &self,
        coded: &Coded<'_>,
        decoder: &mut Option<Decoder>,
    ) -> Result<(RgbImage, CodePoints), HeifError> {
        let item = coded.item;
        let coding = Coding::of(item.kind).ok_or_else(|| {
            HeifError::Unsupported(format!("an image coded as {}", describe_kind(item.kind)))
        })?;
        let size = extent(item)?;
        if let Some((width, height)) = size {
            self.check_size(width, height)?;
        }
        let stream = coding.stream(item, self.data(item, MAX_STREAM_BYTES)?)?;
        if decoder
            .as_ref()
            .is_none_or(|decoder| decoder.coding() != coding)
        {
            *decoder = Some(Decoder::open(
                coding,
                Settings {
                    max_pixels: self.max_coded_pixels(size),
                    threads: coded.threads,
                },
            )?);
        }
        let Some(decoder) = decoder else {
            return Err(HeifError::Unsupported(
                "an image without a decoder".to_owned(),
            ));
        };
        let decoded = decoder.decode(&stream)?;
        drop(stream);
        if decoded.damaged {
            self.damaged.store(true, Ordering::Relaxed);
        }
        let frame = decoded.frame;
        let (width, height) = size.unwrap_or((frame.width(), frame.height()));
        self.check_size(width, height)?;
        let points = self.points(coded, coding, code_points(&frame))?;
        let gray = coded.content == Content::Alpha;
        let meaning = Meaning {
            matrix: Matrix::of(points.matrix, points.primaries),
            // HEVC's streams of transparency seldom say that they use all values, and all do.
            full_range: points.full_range || (gray && coding != Coding::Av1),
            gray,
        };
        let values = match high_range(points).filter(|_| !gray) {
            Some((transfer, primaries)) => {
                let signal: Vec<u16> = to_rgb(&frame, (width, height), meaning)?;
                let to_srgb = self
                    .to_srgb
                    .get_or_init(|| ToSrgb::new(transfer, primaries));
                let mut codes = vec![0; signal.len()];
                to_srgb.map(&signal, &mut codes);
                codes
            }
            None => to_rgb(&frame, (width, height), meaning)?,
        };
        let rgb = RgbImage::from_raw(width, height, values)
            .ok_or_else(|| HeifError::Broken("its decoded planes are too short".to_owned()))?;
        Ok((rgb, points))
    }

    /// The container's word on colors, and the stream's where it has none.
    fn points(
        &self,
        coded: &Coded<'_>,
        coding: Coding,
        stream: CodePoints,
    ) -> Result<CodePoints, HeifError> {
        if coding == Coding::Jpeg {
            // JPEG knows only one meaning.
            let full_range = true;
            return Ok(CodePoints {
                full_range,
                ..stream
            });
        }
        let container = match nclx(coded.colors_of)? {
            Some(points) => Some(points),
            None => nclx(coded.item)?,
        };
        Ok(container.map_or(stream, |points| points.or(stream)))
    }

    /// How the decoded colors of item `id` become sRGB.
    fn conversion(
        &self,
        id: u32,
        points: CodePoints,
    ) -> Result<Option<ColorConversion>, HeifError> {
        if high_range(points).is_some() {
            // It is sRGB already.
            return Ok(None);
        }
        let item = self.meta.item(id)?;
        let first_tile = self.meta.references_of(b"dimg", id).first();
        let colors_of = match first_tile {
            Some(tile) if !has_colors(item) => self.meta.item(*tile)?,
            _ => item,
        };
        Ok(match icc_profile(colors_of) {
            Some(icc) => ColorConversion::of_icc(self.name, icc),
            None => ColorConversion::of_code_points(points.primaries, points.transfer),
        })
    }

    /// The transparency of item `id`, and whether its colors are multiplied with it already.
    fn alpha(&self, id: u32, rgb: &RgbImage) -> Result<Option<(RgbImage, bool)>, HeifError> {
        for candidate in self.meta.referring_to(*b"auxl", id) {
            if !is_alpha(self.meta.item(candidate)?) {
                continue;
            }
            let (alpha, _) = self.pixels(candidate, Content::Alpha)?;
            if alpha.dimensions() != rgb.dimensions() {
                tracing::warn!(
                    image = self.name,
                    "\"{}\": the transparency has another size than the image and is ignored",
                    self.name
                );
                continue;
            }
            let premultiplied = self.meta.references_of(b"prem", id).contains(&candidate);
            return Ok(Some((alpha, premultiplied)));
        }
        Ok(None)
    }

    /// The bytes of an item, at most `max`.
    ///
    /// # Errors
    /// When the file ends before they do, or they lie elsewhere.
    pub(super) fn data(&self, item: &Item<'_>, max: usize) -> Result<Vec<u8>, HeifError> {
        let location = item
            .location
            .as_ref()
            .ok_or_else(|| HeifError::Broken("an item has no place in the file".to_owned()))?;
        if let Some(reason) = location.unsupported {
            return Err(HeifError::Unsupported(reason.to_owned()));
        }
        let mut data = Vec::new();
        if location.in_idat {
            for (offset, len) in &location.extents {
                data.extend_from_slice(slice(self.meta.idat, *offset, *len)?);
                if data.len() > max {
                    return Err(HeifError::damaged(
                        *b"iloc",
                        format!("an item has more than {max} bytes"),
                    ));
                }
            }
            return Ok(data);
        }
        let mut container = self
            .container
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (offset, len) in &location.extents {
            container.append(*offset, *len, max, &mut data)?;
        }
        Ok(data)
    }

    /// # Errors
    /// When an image of this size exceeds the limits.
    pub(super) fn check_size(&self, width: u32, height: u32) -> Result<(), HeifError> {
        let limits = self.limits;
        let pixels = u64::from(width) * u64::from(height);
        if width > limits.max_side || height > limits.max_side || pixels > limits.max_pixels {
            return Err(HeifError::TooLarge { width, height });
        }
        let bytes = pixels * BYTES_PER_PIXEL;
        if bytes > limits.max_memory {
            return Err(HeifError::NeedsMemory { bytes });
        }
        Ok(())
    }

    /// The largest image that a decoder may find in the stream of an item of this size.
    fn max_coded_pixels(&self, size: Option<(u32, u32)>) -> u64 {
        let whole = |side: u32| u64::from(side.div_ceil(LARGEST_BLOCK)) * u64::from(LARGEST_BLOCK);
        size.map_or(self.limits.max_pixels, |(width, height)| {
            whole(width) * whole(height)
        })
    }
}

/// `len` bytes of `bytes` at `offset`; without a length, all to the end.
fn slice(bytes: &[u8], offset: u64, len: Option<u64>) -> Result<&[u8], HeifError> {
    let end = len.map_or(Some(bytes.len() as u64), |len| offset.checked_add(len));
    let range = usize::try_from(offset)
        .ok()
        .zip(end.and_then(|end| usize::try_from(end).ok()));
    range
        .and_then(|(start, end)| bytes.get(start..end))
        .ok_or_else(|| HeifError::damaged(*b"idat", "it ends before an item does"))
}

/// The transfer function and the primaries of an image of high dynamic range; `None` for all others.
fn high_range(points: CodePoints) -> Option<(Transfer, Primaries)> {
    let transfer = match points.transfer {
        16 => Transfer::Pq,
        18 => Transfer::Hlg,
        _ => Transfer::Sdr,
    };
    let primaries = match points.primaries {
        1 => Primaries::Bt709,
        12 => Primaries::DisplayP3,
        // BT.2100 defines both functions for BT.2020 only.
        _ => Primaries::Bt2020,
    };
    (transfer != Transfer::Sdr).then_some((transfer, primaries))
}
