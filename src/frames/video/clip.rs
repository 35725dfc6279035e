//! One opened video file: its numbers, and the loop that decodes it.

use std::{
    fs::File,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Once,
};

use ::image::RgbImage;
use ffmpeg_next::{
    Dictionary, Error, Packet, Rational, codec,
    codec::packet::side_data::Type as SideData,
    decoder,
    format::{
        self,
        context::{Input, StreamIo},
        stream::Disposition,
    },
    frame, log, media,
};

use super::{VideoLimits, Watch, convert::Converter, plan};
use crate::frames::FramesError;

/// Containers that hold their own bytes. FFmpeg's play lists, concatenations and picture sequences are
/// missing on purpose: they name other files.
const CONTAINERS: &str = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,\
                          ivf,obu,h264,hevc,m4v,mjpeg,mxf";

/// FFmpeg's clock for whole files: ticks in a second.
const TIME_BASE: f64 = 1_000_000.0;

/// Damaged packets in a row after which the rest of a file is given up.
const MAX_FAILURES_IN_A_ROW: u64 = 1_000;

/// A video that is open and whose decoder is ready, at its first frame.
pub(super) struct Clip {
    path: PathBuf,
    input: Input,
    decoder: decoder::Video,
    stream: usize,
    converter: Converter,
    watch: Watch,
}

/// What [`Clip::decode`] met.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Decoded {
    /// Frames that came out of the decoder.
    pub(super) frames: u64,
    /// Packets and frames that did not.
    pub(super) failures: u64,
    /// When the last frame is shown, in seconds from the start.
    pub(super) last_s: Option<f64>,
}

/// A frame as it comes out of the decoder, not yet converted.
pub(super) struct DecodedFrame<'a> {
    /// Its number, counting from 1.
    pub(super) number: u64,
    frame: &'a frame::Video,
    converter: &'a mut Converter,
}

impl DecodedFrame<'_> {
    /// The frame as upright 8-bit RGB; `None` when it is damaged or of no usable format.
    pub(super) fn convert(&mut self) -> Option<RgbImage> {
        self.converter.convert(self.frame)
    }
}

impl Clip {
    /// Opens a file and the decoder of its video stream.
    pub(super) fn open(
        path: &Path,
        limits: &VideoLimits,
        watch: Watch,
    ) -> Result<Self, FramesError> {
        static QUIET: Once = Once::new();
        // FFmpeg would write to stderr, into the middle of progress bars; its error codes say enough.
        QUIET.call_once(|| log::set_level(log::Level::Quiet));

        let unreadable = |source| FramesError::Read {
            path: path.to_path_buf(),
            source,
        };
        let not_a_video = |source| FramesError::NotAVideo {
            path: path.to_path_buf(),
            source,
        };
        let file = File::open(path).map_err(unreadable)?;
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(unreadable(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                "it is not a regular file",
            )));
        }
        let bytes = StreamIo::from_read_seek(file).map_err(not_a_video)?;
        let mut options = Dictionary::new();
        options.set("format_whitelist", CONTAINERS);
        options.set("protocol_whitelist", "none");
        let input = format::input_from_stream_with_interrupt(bytes, None, Some(options), {
            move || watch.is_over()
        })
        .map_err(|e| match watch.check(path) {
            Err(too_slow) => too_slow,
            Ok(()) => not_a_video(e),
        })?;

        let stream = input
            .streams()
            .best(media::Type::Video)
            // A sound file's cover picture is a video stream to FFmpeg.
            .filter(|stream| !stream.disposition().contains(Disposition::ATTACHED_PIC))
            .ok_or_else(|| FramesError::NoVideoStream {
                path: path.to_path_buf(),
            })?;
        let duration_s = duration_s(&input);
        if let Some(seconds) = duration_s.filter(|seconds| *seconds > limits.max_duration_s) {
            return Err(FramesError::VideoTooLong {
                path: path.to_path_buf(),
                seconds,
                max_seconds: limits.max_duration_s,
            });
        }

        let unknown_codec = |source| FramesError::VideoCodec {
            path: path.to_path_buf(),
            source,
        };
        let parameters = stream.parameters();
        let (width, height) = frame_size(&parameters);
        if u64::from(width) * u64::from(height) > limits.max_pixels {
            return Err(FramesError::VideoTooLarge {
                path: path.to_path_buf(),
                width,
                height,
                max_pixels: limits.max_pixels,
            });
        }
        let context = codec::Context::from_parameters(parameters).map_err(unknown_codec)?;
        let codec =
            decoder::find(context.id()).ok_or_else(|| unknown_codec(Error::DecoderNotFound))?;
        let threads = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 16));
        let mut options = Dictionary::new();
        options.set("threads", &threads.to_string());
        options.set(
            "max_pixels",
            &limits.max_pixels.min(i64::MAX as u64).to_string(),
        );
        let decoder = context
            .decoder()
            .open_as_with(codec, options)
            .and_then(decoder::Opened::video)
            .map_err(unknown_codec)?;
        let matrix = stream
            .side_data()
            .find(|data| data.kind() == SideData::DisplayMatrix)
            .map(|data| data.data().to_vec());
        Ok(Self {
            path: path.to_path_buf(),
            stream: stream.index(),
            converter: Converter::new(matrix.as_deref(), limits.max_pixels),
            input,
            decoder,
            watch,
        })
    }

    /// Width and height of an upright frame, in pixels, as the header says; at least 1 each.
    pub(super) fn shown_size(&self) -> (u32, u32) {
        let size = (self.decoder.width().max(1), self.decoder.height().max(1));
        self.converter.turned(size)
    }

    /// Frames per second, as OpenCV's `CAP_PROP_FPS`: the average rate, else the guessed one.
    pub(super) fn source_fps(&self) -> Option<f64> {
        let stream = self.input.stream(self.stream)?;
        [stream.avg_frame_rate(), stream.rate()]
            .into_iter()
            .map(|Rational(num, den)| f64::from(num) / f64::from(den))
            .find(|fps| fps.is_finite() && *fps > 0.0)
    }

    /// How many frames the container says it holds.
    pub(super) fn announced_frames(&self) -> Option<u64> {
        let frames = self.input.stream(self.stream)?.frames();
        u64::try_from(frames).ok().filter(|frames| *frames > 0)
    }

    /// The container's count, unless its duration contradicts it.
    pub(super) fn trusted_frames(&self, source_fps: f64) -> Option<u64> {
        let duration_s = duration_s(&self.input)?;
        self.announced_frames()
            .filter(|frames| plan::believable(*frames, duration_s, source_fps))
    }

    /// The length that the file's header says, in seconds, where frames are not counted there.
    ///
    /// Only Matroska and WebM: elsewhere FFmpeg estimates it from what is left of the file.
    pub(super) fn announced_duration_s(&self) -> Option<f64> {
        let of_header = self.input.format().name().contains("matroska");
        duration_s(&self.input).filter(|_| of_header)
    }

    fn shown_at_s(&self, frame: &frame::Video) -> Option<f64> {
        let stream = self.input.stream(self.stream)?;
        let Rational(num, den) = stream.time_base();
        let seconds = frame.timestamp()? as f64 * f64::from(num) / f64::from(den);
        seconds.is_finite().then_some(seconds)
    }

    /// Reads to the end without decoding; a packet of video is a frame in all but odd cases.
    pub(super) fn count_packets(mut self) -> Result<u64, FramesError> {
        let mut count = 0;
        let mut failures = 0;
        loop {
            let mut packet = Packet::empty();
            match packet.read(&mut self.input) {
                Ok(()) => {
                    self.watch.check(&self.path)?;
                    failures = 0;
                    count += u64::from(packet.stream() == self.stream);
                }
                Err(Error::InvalidData) if failures < MAX_FAILURES_IN_A_ROW => failures += 1,
                Err(_) => break,
            }
        }
        self.watch.check(&self.path)?;
        Ok(count)
    }

    /// Decodes to the end, or until `visit` breaks, showing it every frame.
    ///
    /// Damage is stepped over and counted.
    pub(super) fn decode(
        mut self,
        visit: &mut dyn FnMut(&mut DecodedFrame<'_>) -> Result<ControlFlow<()>, FramesError>,
    ) -> Result<Decoded, FramesError> {
        let mut decoded = Decoded::default();
        let mut failures_in_a_row = 0;
        while failures_in_a_row < MAX_FAILURES_IN_A_ROW {
            self.watch.check(&self.path)?;
            let mut packet = Packet::empty();
            match packet.read(&mut self.input) {
                Ok(()) if packet.stream() != self.stream => continue,
                // Cut off in the middle: the decoder would fill the rest of the frame with guesses.
                Ok(()) if packet.is_corrupt() => {
                    failures_in_a_row += 1;
                    decoded.failures += 1;
                    continue;
                }
                Ok(()) => {}
                Err(Error::Eof) => break,
                Err(Error::InvalidData) => {
                    failures_in_a_row += 1;
                    decoded.failures += 1;
                    continue;
                }
                Err(_) => {
                    self.watch.check(&self.path)?;
                    decoded.failures += 1;
                    break;
                }
            }
            if self.decoder.send_packet(&packet).is_err() {
                failures_in_a_row += 1;
                decoded.failures += 1;
                continue;
            }
            failures_in_a_row = 0;
            if self.receive(&mut decoded, visit)?.is_break() {
                return Ok(decoded);
            }
        }
        // Frames that the decoder still holds back.
        if self.decoder.send_eof().is_ok() {
            let _ = self.receive(&mut decoded, visit)?;
        }
        Ok(decoded)
    }

    /// Takes from the decoder what it has ready.
    fn receive(
        &mut self,
        decoded: &mut Decoded,
        visit: &mut dyn FnMut(&mut DecodedFrame<'_>) -> Result<ControlFlow<()>, FramesError>,
    ) -> Result<ControlFlow<()>, FramesError> {
        let mut failures_in_a_row = 0;
        let mut frame = frame::Video::empty();
        loop {
            match self.decoder.receive_frame(&mut frame) {
                Ok(()) => {}
                // Wants another packet, or has given its last frame.
                Err(Error::Eof) => return Ok(ControlFlow::Continue(())),
                Err(Error::Other { errno }) if errno == ffmpeg_next::error::EAGAIN => {
                    return Ok(ControlFlow::Continue(()));
                }
                Err(_) => {
                    decoded.failures += 1;
                    failures_in_a_row += 1;
                    if failures_in_a_row == MAX_FAILURES_IN_A_ROW {
                        return Ok(ControlFlow::Continue(()));
                    }
                    continue;
                }
            }
            self.watch.check(&self.path)?;
            failures_in_a_row = 0;
            decoded.frames += 1;
            decoded.last_s = self.shown_at_s(&frame).or(decoded.last_s);
            let flow = visit(&mut DecodedFrame {
                number: decoded.frames,
                frame: &frame,
                converter: &mut self.converter,
            })?;
            if flow.is_break() {
                return Ok(flow);
            }
        }
    }
}

/// The container's length, when it says one.
fn duration_s(input: &Input) -> Option<f64> {
    let ticks = input.duration();
    // Unknown is the most negative number.
    (ticks > 0).then(|| ticks as f64 / TIME_BASE)
}

/// Width and height that the container declares, in pixels; zero when it declares none.
fn frame_size(parameters: &codec::Parameters) -> (u32, u32) {
    // SAFETY: `parameters` keeps the structure alive, and only plain numbers are read.
    #[allow(unsafe_code, reason = "reads fields of FFmpeg's structure")]
    let (width, height) = unsafe {
        let raw = parameters.as_ptr();
        ((*raw).width, (*raw).height)
    };
    (
        u32::try_from(width).unwrap_or(0),
        u32::try_from(height).unwrap_or(0),
    )
}
