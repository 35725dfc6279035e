//! The memory that decoding a clip takes, estimated before a frame is decoded.

use std::path::Path;

use ffmpeg_next::{decoder, ffi::av_image_get_buffer_size, format::Pixel};

use crate::frames::FramesError;

/// Frames that a decoder keeps for others to refer to. AV1 and VP9 have 8; the levels of H.264 and HEVC permit 4 to 6 of the
/// largest frames, and more of smaller ones, which take less.
const REFERENCES: u64 = 8;

/// Frames between the decoder and the converter.
const IN_HAND: u64 = 2;

/// Bytes of a pixel while a frame becomes upright 8-bit RGB: swscale's, a copy without padding, and the turned one.
const CONVERTED: u64 = 9;

/// As [`CONVERTED`], through 16-bit RGB: two of 6 bytes, the signal, and two of 8-bit RGB.
const CONVERTED_WIDE: u64 = 24;

/// Refuses a clip whose decoder is estimated to take more than `max_memory` bytes.
///
/// # Errors
/// When it is.
pub(super) fn admit(
    path: &Path,
    decoder: &decoder::Video,
    threads: usize,
    max_memory: u64,
) -> Result<(), FramesError> {
    let (width, height) = (decoder.width(), decoder.height());
    let needed = needed(decoder.format(), width, height, threads);
    if needed <= max_memory {
        return Ok(());
    }
    Err(FramesError::VideoNeedsMemory {
        path: path.to_path_buf(),
        width,
        height,
        mib: needed.div_ceil(1 << 20),
        max_mib: max_memory >> 20,
    })
}

fn needed(format: Pixel, width: u32, height: u32, threads: usize) -> u64 {
    let pixels = u64::from(width) * u64::from(height);
    let frame = frame_bytes(format, width, height).unwrap_or(3 * pixels);
    // Every thread works on a frame of its own.
    let kept = REFERENCES + threads as u64 + IN_HAND;
    // 4:2:2 of 8 bits has two bytes a pixel, 4:2:0 of 10 bits three.
    let converted = if frame > 2 * pixels + pixels / 2 {
        CONVERTED_WIDE
    } else {
        CONVERTED
    };
    (frame * kept).saturating_add(pixels * converted)
}

/// Bytes of one frame; `None` for formats that FFmpeg does not know yet.
fn frame_bytes(format: Pixel, width: u32, height: u32) -> Option<u64> {
    /// Frames begin their rows at multiples of so many bytes, at most.
    const ALIGNMENT: i32 = 64;
    let (width, height) = (i32::try_from(width).ok()?, i32::try_from(height).ok()?);
    #[allow(unsafe_code, reason = "the bindings have no safe way to ask")]
    // SAFETY: takes numbers only, and returns a negative one for those that it does not know.
    let bytes = unsafe { av_image_get_buffer_size(format.into(), width, height, ALIGNMENT) };
    u64::try_from(bytes).ok().filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measured: 2.37 GB at most for 30 frames of this kind with two threads.
    #[test]
    fn a_frame_of_many_bytes_is_known_by_its_header() {
        let large = needed(Pixel::YUV444P10LE, 8192, 4320, 2);
        assert!((2_370_000_000..4_000_000_000).contains(&large), "{large}");
    }

    #[test]
    fn films_of_8k_fit_into_what_is_permitted_by_default() {
        for format in [Pixel::YUV420P, Pixel::YUV420P10LE] {
            let bytes = needed(format, 8192, 4320, 16);
            assert!(bytes < super::super::DEFAULT_MEMORY, "{bytes}");
        }
        assert!(needed(Pixel::YUV420P, 1920, 1080, 16) < 128 << 20);
    }

    #[test]
    fn an_unknown_format_is_taken_for_24_bits() {
        assert_eq!(frame_bytes(Pixel::None, 64, 64), None);
        assert!(needed(Pixel::None, 64, 64, 2) > 12 * 3 * 64 * 64);
    }
}
