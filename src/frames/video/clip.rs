//! One opened video file and its numbers.

use std::{path::PathBuf, sync::Once};

use ffmpeg_next::{
    Dictionary, Error, Rational, codec,
    codec::packet::side_data::Type as SideData,
    decoder,
    format::{
        self,
        context::{Input, StreamIo},
        stream::{Disposition, Stream},
    },
    log, media,
};

use super::{
    VideoFile, VideoLimits, convert::Converter, memory, scan::Announced, video_threads,
    watch::Watch,
};
use crate::frames::{
    FramesError,
    folder::{is_open_image, is_open_video},
};

/// Containers that hold their own bytes. FFmpeg's play lists, concatenations and image sequences are
/// missing on purpose: they name other files.
const CONTAINERS: &str = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,\
                          ivf,obu,h264,hevc,m4v,mjpeg,mxf,gif,apng";

/// FFmpeg's clock for whole files: ticks in a second.
const TIME_BASE: f64 = 1_000_000.0;

/// Damaged packets in a row after which the rest of a file is given up.
pub(super) const MAX_FAILURES_IN_A_ROW: u64 = 1_000;

/// Where FFmpeg's AVDOVIDecoderConfigurationRecord has the profile: the third of its bytes.
const DOLBY_VISION_PROFILE: usize = 2;

/// A video that is open and whose decoder is ready, at its first frame.
pub(super) struct Clip {
    pub(super) path: PathBuf,
    pub(super) input: Input,
    pub(super) decoder: decoder::Video,
    pub(super) stream: usize,
    pub(super) converter: Converter,
    pub(super) watch: Watch,
    pixel_aspect: Rational,
}

impl Clip {
    /// Opens the decoder of a file's video stream.
    pub(super) fn open(
        of: &VideoFile,
        limits: &VideoLimits,
        watch: Watch,
    ) -> Result<Self, FramesError> {
        static QUIET: Once = Once::new();
        // FFmpeg would write to stderr, into the middle of progress bars; its error codes say enough.
        QUIET.call_once(|| log::set_level(log::Level::Quiet));

        let path = &of.path;
        let unreadable = |source| FramesError::Read {
            path: path.to_path_buf(),
            source,
        };
        let not_a_video = |source| FramesError::NotAVideo {
            path: path.to_path_buf(),
            source,
        };
        let file = of.rewound().map_err(unreadable)?;
        let mut same_file = file.try_clone().map_err(unreadable)?;
        let bytes = StreamIo::from_read_seek(file).map_err(not_a_video)?;
        let mut options = Dictionary::new();
        options.set("format_whitelist", CONTAINERS);
        options.set("protocol_whitelist", "none");
        let input = format::input_from_stream_with_interrupt(bytes, None, Some(options), {
            move || watch.is_over()
        })
        .map_err(|e| match watch.check(path) {
            Err(too_slow) => too_slow,
            // Animated images are videos too, to FFmpeg.
            Ok(()) if is_open_image(&mut same_file) => FramesError::IsImage {
                path: path.to_path_buf(),
            },
            Ok(()) if !is_open_video(path, &mut same_file) => FramesError::UnknownFormat {
                path: path.to_path_buf(),
            },
            Ok(()) => not_a_video(e),
        })?;

        let stream = input
            .streams()
            .best(media::Type::Video)
            // A sound file's cover image is a video stream to FFmpeg.
            .filter(|stream| !stream.disposition().contains(Disposition::ATTACHED_PIC))
            .ok_or_else(|| FramesError::NoVideoStream {
                path: path.to_path_buf(),
            })?;
        if let Some(seconds) =
            duration_s(&input, &stream).filter(|seconds| *seconds > limits.max_duration_s)
        {
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
        let declared = Declared::of(&stream);
        let (width, height) = (declared.width, declared.height);
        if u64::from(width) * u64::from(height) > limits.max_pixels {
            return Err(FramesError::VideoTooLarge {
                path: path.to_path_buf(),
                width,
                height,
                max_pixels: limits.max_pixels,
            });
        }
        let context =
            codec::Context::from_parameters(stream.parameters()).map_err(unknown_codec)?;
        let codec =
            decoder::find(context.id()).ok_or_else(|| unknown_codec(Error::DecoderNotFound))?;
        let threads = video_threads();
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
        memory::admit(path, &decoder, threads, limits.max_memory)?;
        let matrix = stream
            .side_data()
            .find(|data| data.kind() == SideData::DisplayMatrix)
            .map(|data| data.data().to_vec());
        Ok(Self {
            path: path.to_path_buf(),
            stream: stream.index(),
            converter: Converter::new(
                matrix.as_deref(),
                declared.rules.then_some(declared.pixel_aspect),
                limits.max_pixels,
            ),
            pixel_aspect: declared.pixel_aspect,
            input,
            decoder,
            watch,
        })
    }

    /// Width and height of an upright frame, in pixels, as the header says; at least 1 each.
    pub(super) fn shown_size(&self) -> (u32, u32) {
        let size = (self.decoder.width().max(1), self.decoder.height().max(1));
        self.converter.shown(size, self.pixel_aspect)
    }

    /// Frames per second, as the header or FFmpeg's look at the first frames has it.
    ///
    /// That is the average, or, without one, the rate of a container whose tick is a frame, such as Ogg.
    pub(super) fn declared_fps(&self) -> Option<f64> {
        let stream = self.input.stream(self.stream)?;
        let of_ticks = || {
            let (rate, tick) = (stream.rate(), stream.time_base());
            fps(rate).filter(|_| rate == tick.invert())
        };
        fps(stream.avg_frame_rate()).or_else(of_ticks)
    }

    /// Frames per second, as OpenCV's `CAP_PROP_FPS`: the average rate, else the guessed one.
    pub(super) fn guessed_fps(&self) -> Option<f64> {
        let guess = || fps(self.input.stream(self.stream)?.rate());
        self.declared_fps().or_else(guess)
    }

    /// Length of a tick, the unit of the video stream's times, in seconds.
    pub(super) fn tick_s(&self) -> Option<f64> {
        self.tick_s_of(self.stream)
    }

    pub(super) fn tick_s_of(&self, stream: usize) -> Option<f64> {
        let Rational(num, den) = self.input.stream(stream)?.time_base();
        let tick_s = f64::from(num) / f64::from(den);
        (tick_s.is_finite() && tick_s > 0.0).then_some(tick_s)
    }

    /// The length of the clip as its header has it.
    pub(super) fn announced(&self) -> Announced {
        let Some(stream) = self.input.stream(self.stream) else {
            return Announced::default();
        };
        let positive = |n: i64| (n > 0).then_some(n);
        let start = positive(stream.start_time()).unwrap_or(0);
        // Only Matroska and WebM have it in their header: elsewhere FFmpeg estimates it from what is left of the file.
        let of_header = self.input.format().name().contains("matroska");
        Announced {
            frames: positive(stream.frames()).and_then(|n| u64::try_from(n).ok()),
            end: positive(stream.duration()).map(|ticks| start.saturating_add(ticks)),
            duration_s: positive(self.input.duration())
                .filter(|_| of_header)
                .map(|ticks| ticks as f64 / TIME_BASE),
        }
    }

    /// Sentences for the user about colors that cannot be right.
    pub(super) fn warnings(&self) -> Vec<String> {
        let Some(stream) = self.input.stream(self.stream) else {
            return Vec::new();
        };
        let dolby_vision = stream
            .side_data()
            .find(|data| data.kind() == SideData::DOVI_CONF)
            .and_then(|data| data.data().get(DOLBY_VISION_PROFILE).copied());
        if dolby_vision == Some(5) {
            return vec![
                "the video is in Dolby Vision profile 5, which only Dolby's own decoders show in the right colors: \
                 expect a green and purple tint, or convert it to SDR or HDR10 first"
                    .to_owned(),
            ];
        }
        Vec::new()
    }
}

fn fps(Rational(num, den): Rational) -> Option<f64> {
    let fps = f64::from(num) / f64::from(den);
    (fps.is_finite() && fps > 0.0).then_some(fps)
}

/// The length of the video, when the container says one, in seconds.
fn duration_s(input: &Input, stream: &Stream<'_>) -> Option<f64> {
    let Rational(num, den) = stream.time_base();
    let of_stream = stream.duration() as f64 * f64::from(num) / f64::from(den);
    let ticks = input.duration();
    // Matroska's counts from zero, however late the recording begins.
    let from_zero = input.format().name().contains("matroska");
    // An unknown start is the most negative number.
    let start = stream.start_time().max(0) as f64 * f64::from(num) / f64::from(den);
    let of_file = ticks as f64 / TIME_BASE - if from_zero { start } else { 0.0 };
    // Unknown is the most negative number.
    [of_stream, of_file]
        .into_iter()
        .find(|seconds| seconds.is_finite() && *seconds > 0.0)
}

/// What the container declares about a frame.
struct Declared {
    /// Pixels; zero when it declares none.
    width: u32,
    height: u32,
    /// Width of a pixel by its height, of the container, else of the codec; zero or less when neither has it.
    pixel_aspect: Rational,
    /// Whether the aspect is the container's, which rules over every frame's own.
    rules: bool,
}

impl Declared {
    fn of(stream: &Stream<'_>) -> Self {
        let parameters = stream.parameters();
        #[allow(
            unsafe_code,
            reason = "the bindings have no safe way to read these fields"
        )]
        // SAFETY: `parameters` and `stream` keep the structures alive, and only integers are read.
        let (width, height, of_codec, of_stream) = unsafe {
            let raw = parameters.as_ptr();
            (
                (*raw).width,
                (*raw).height,
                Rational::from((*raw).sample_aspect_ratio),
                Rational::from((*stream.as_ptr()).sample_aspect_ratio),
            )
        };
        let rules = of_stream.numerator() > 0 && of_stream.denominator() > 0;
        Self {
            width: u32::try_from(width).unwrap_or(0),
            height: u32::try_from(height).unwrap_or(0),
            pixel_aspect: if rules { of_stream } else { of_codec },
            rules,
        }
    }
}
