//! FFmpeg's decoders, one image at a time.

use std::sync::Once;

use ffmpeg_next::{
    Codec, Dictionary, Error, Packet,
    codec::{self, Id},
    decoder,
    format::Pixel,
    frame, log,
};

use super::{bitstream::Coding, error::HeifError, properties::CodePoints};

/// Largest stream of one image, in bytes: 100 megapixels at 21 bits each.
pub(super) const MAX_STREAM_BYTES: usize = 256 << 20;

/// A decoder for one image after the other, all of the same coding and size.
pub(super) struct Decoder {
    coding: Coding,
    strict: decoder::Video,
    settings: Settings,
}

/// How a decoder is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    /// Pixels of the largest image.
    pub(super) max_pixels: u64,
    /// Threads for one image.
    pub(super) threads: usize,
}

/// A decoded image.
pub(super) struct Decoded {
    pub(super) frame: frame::Video,
    /// Parts of it are guesses of the decoder.
    pub(super) damaged: bool,
}

impl Decoder {
    /// # Errors
    /// When FFmpeg was built without this decoder.
    pub(super) fn open(coding: Coding, settings: Settings) -> Result<Self, HeifError> {
        static QUIET: Once = Once::new();
        // FFmpeg would write to stderr, into the middle of progress bars; its error codes say enough.
        QUIET.call_once(|| log::set_level(log::Level::Quiet));
        Ok(Self {
            coding,
            strict: open(coding, settings, true)?,
            settings,
        })
    }

    pub(super) fn coding(&self) -> Coding {
        self.coding
    }

    /// Decodes the first image of a stream.
    ///
    /// # Errors
    /// When the stream gives no image at all.
    pub(super) fn decode(&mut self, stream: &[u8]) -> Result<Decoded, HeifError> {
        if let Ok(frame) = decode(&mut self.strict, stream) {
            return Ok(Decoded {
                damaged: frame.is_corrupt(),
                frame,
            });
        }
        // Once more, with what can be decoded of a damaged image.
        let mut lenient = open(self.coding, self.settings, false)?;
        let frame = decode(&mut lenient, stream).map_err(|source| HeifError::Codec {
            codec: self.coding.name(),
            source,
        })?;
        Ok(Decoded {
            frame,
            damaged: true,
        })
    }
}

fn open(coding: Coding, settings: Settings, strict: bool) -> Result<decoder::Video, HeifError> {
    let codec = find(coding).ok_or_else(|| {
        HeifError::Unsupported(format!(
            "an image in {}, which this program's FFmpeg does not decode,",
            coding.name()
        ))
    })?;
    let mut options = Dictionary::new();
    options.set("threads", &settings.threads.to_string());
    // There is only one image, so that none can be decoded beside another.
    options.set("thread_type", "slice");
    options.set("max_pixels", &settings.max_pixels.to_string());
    if strict {
        options.set("err_detect", "explode");
    }
    codec::Context::new_with_codec(codec)
        .decoder()
        .open_as_with(codec, options)
        .and_then(decoder::Opened::video)
        .map_err(|source| HeifError::Codec {
            codec: coding.name(),
            source,
        })
}

fn find(coding: Coding) -> Option<Codec> {
    match coding {
        Coding::Hevc => decoder::find(Id::HEVC),
        // FFmpeg's own decoder of AV1 works on GPUs only.
        Coding::Av1 => ["libdav1d", "libaom-av1"]
            .into_iter()
            .find_map(decoder::find_by_name)
            .or_else(|| decoder::find(Id::AV1)),
        Coding::H264 => decoder::find(Id::H264),
        Coding::Jpeg => decoder::find(Id::MJPEG),
    }
}

fn decode(decoder: &mut decoder::Video, stream: &[u8]) -> Result<frame::Video, Error> {
    if stream.is_empty() || stream.len() > MAX_STREAM_BYTES {
        return Err(Error::InvalidData);
    }
    // What the last image left behind.
    decoder.flush();
    decoder.send_packet(&Packet::copy(stream))?;
    decoder.send_eof()?;
    let mut frame = frame::Video::empty();
    decoder.receive_frame(&mut frame)?;
    Ok(frame)
}

/// What the stream says about the colors of a decoded image.
pub(super) fn code_points(frame: &frame::Video) -> CodePoints {
    /// FFmpeg's AVCOL_RANGE_JPEG.
    const FULL: i32 = 2;
    let of_jpeg = matches!(
        frame.format(),
        Pixel::YUVJ420P | Pixel::YUVJ422P | Pixel::YUVJ440P | Pixel::YUVJ444P
    );
    #[allow(
        unsafe_code,
        reason = "the bindings read these fields as enums, and streams may hold numbers that no variant has"
    )]
    // SAFETY: `frame` keeps the structure alive; C enums have the size of an int, and are read as such.
    let [primaries, transfer, matrix, range] = unsafe {
        let raw = frame.as_ptr();
        [
            (&raw const (*raw).color_primaries).cast::<i32>().read(),
            (&raw const (*raw).color_trc).cast::<i32>().read(),
            (&raw const (*raw).colorspace).cast::<i32>().read(),
            (&raw const (*raw).color_range).cast::<i32>().read(),
        ]
    };
    // FFmpeg's numbers are those of the standard.
    let code = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    CodePoints {
        primaries: code(primaries),
        transfer: code(transfer),
        matrix: code(matrix),
        full_range: of_jpeg || range == FULL,
    }
}
