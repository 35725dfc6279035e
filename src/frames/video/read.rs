//! Choosing, decoding and handing on the frames of one video.

use std::{collections::VecDeque, ops::ControlFlow};

use ::image::RgbImage;

use super::{
    Keyframes, VideoChoice, VideoLimits, VideoProgress, VideoSummary,
    candidates::{Candidate, Candidates},
    clip::Clip,
    decode::{Decoded, DecodedFrame},
    file::{VideoFile, check_choice},
    gray::GrayScaler,
    keyframes, plan,
    sketch::{LOOKED_AT, Sketch},
    timeline::{FALLBACK_FPS, Timeline},
    watch::Watch,
};
use crate::frames::{DecodedImage, FramesError};

/// Width and height of a video's frames as they are shown, in pixels, by its header.
///
/// # Errors
/// When the file is no video or exceeds `limits`.
pub fn video_file_size(file: &VideoFile, limits: &VideoLimits) -> Result<(u32, u32), FramesError> {
    Ok(Clip::open(file, limits, Watch::start(limits.max_wall_time))?.shown_size())
}

/// Chooses frames of a video and hands each to `sink`, upright and as 8-bit RGB, in order.
///
/// With [`VideoChoice::Fps`], where the rate r is constant, the interval is `max(round_half_even(r / fps), 1)` and frames number interval,
/// 2·interval, ... are chosen, counting from 1. A clip too short to yield one gives its middle frame (which takes a
/// further reading). Where the rate is variable, or the container has none, the frames are chosen that are shown 0,
/// 1 / fps, 2 / fps, ... seconds after the first one. Frames are named `frame_000075.png` after their number. Only
/// frames that are shown count: an edit list may have others decoded.
///
/// When more than `max_frames` would be chosen, as many are taken evenly from first to last.
///
/// With [`VideoChoice::Keyframes`], the clip is decoded twice: once to look at every frame, and once for those that are chosen.
///
/// `on` is called after every decoded frame, and now and then while packets are read before; when it gives `false` the
/// reading stops.
///
/// Colors of standard range are converted as OpenCV's `VideoCapture` does (swscale with its default matrix, BT.601); HLG,
/// PQ and wide color spaces are mapped to sRGB. Pixels that are not square are stretched. A clip may be turned last.
///
/// # Errors
/// When the file is no video or has no picture in it that can be decoded, exceeds `limits`, the choice can choose
/// nothing, `on` stopped it, or `sink` failed. A damaged or truncated video is no error as long as one
/// chosen frame was decoded: it gives a warning.
pub fn read_video_file(
    file: &VideoFile,
    choice: &VideoChoice,
    limits: &VideoLimits,
    max_frames: Option<usize>,
    on: &mut dyn FnMut(VideoProgress) -> bool,
    sink: &mut dyn FnMut(DecodedImage) -> Result<(), FramesError>,
) -> Result<VideoSummary, FramesError> {
    check_choice(choice, max_frames)?;
    let watch = Watch::start(limits.max_wall_time);
    let clip = Clip::open(file, limits, watch)?;
    let mut warnings = clip.warnings();
    let timeline = Timeline::of(clip, &file.path, limits, on)?;
    if timeline.rate_is_assumed {
        warnings.push(format!(
            "the video says no frame rate: {FALLBACK_FPS} frames a second are assumed"
        ));
    }
    let reading = Reading {
        file,
        limits,
        watch,
        on,
        sink,
        progress: VideoProgress {
            frames_read: 0,
            frames_total: Some(timeline.scan.shown),
            frames_chosen: 0,
        },
        timeline,
        chosen: Vec::new(),
        unreadable: 0,
        passes: 1,
        passed: 0,
        warnings,
    };
    match choice {
        VideoChoice::Fps(fps) => reading.at_rate(*fps, max_frames),
        VideoChoice::Keyframes(n) => reading.keyframes(max_frames.map_or(*n, |most| most.min(*n))),
        VideoChoice::Numbers(numbers) => reading.numbered(numbers),
    }
}

/// A video that is being read.
struct Reading<'a> {
    file: &'a VideoFile,
    limits: &'a VideoLimits,
    watch: Watch,
    timeline: Timeline,
    on: &'a mut dyn FnMut(VideoProgress) -> bool,
    sink: &'a mut dyn FnMut(DecodedImage) -> Result<(), FramesError>,
    progress: VideoProgress,
    /// Numbers of the frames that were handed on.
    chosen: Vec<u64>,
    /// Frames that were chosen and could not be converted.
    unreadable: u64,
    /// Times that the clip is decoded, and the frames of the passes that are over: progress is of all passes.
    passes: u64,
    passed: u64,
    warnings: Vec<String>,
}

/// Looks at a frame that comes out of the decoder.
type Visit<'v> =
    dyn FnMut(&mut Reading<'_>, &mut DecodedFrame<'_>) -> Result<ControlFlow<()>, FramesError> + 'v;

impl Reading<'_> {
    fn at_rate(mut self, fps: f64, max_frames: Option<usize>) -> Result<VideoSummary, FramesError> {
        let mut selection = None;
        let decoded = self.pass(&mut |reading, frame| {
            let selection = selection.get_or_insert_with(|| {
                // Frames before the first that can be decoded are not there to be chosen.
                reading.timeline.select(fps, max_frames, frame.time)
            });
            if selection.wants(frame.number, frame.time, reading.chosen.len()) {
                reading.take(frame)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        self.warn_of_damage(&decoded);
        if self.chosen.is_empty() && decoded.frames > 0 {
            self.take_middle(decoded.frames, fps)?;
        }
        let thinned_from = selection.and_then(|selection| selection.thinned_from());
        let interval = plan::interval(self.timeline.fps(), fps);
        Ok(VideoSummary {
            interval,
            thinned_from,
            ..self.finish(&decoded)?
        })
    }

    /// Takes the middle frame of a clip that is too short for its rate.
    fn take_middle(&mut self, frames: u64, fps: f64) -> Result<(), FramesError> {
        // A middle frame that cannot be converted makes way for the next one.
        let middle = plan::middle(frames);
        let clip = Clip::open(self.file, self.limits, self.watch)?;
        clip.decode(&mut |frame| {
            if frame.number < middle {
                return Ok(ControlFlow::Continue(()));
            }
            self.take(frame).map(|taken| match taken {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            })
        })?;
        // Nothing is missing from a clip of one frame.
        if let Some(number) = self.chosen.first().filter(|_| frames > 1) {
            self.warnings.push(format!(
                "the video is too short for {fps} frames a second: of its {frames} frames the middle \
                 one, number {number}, is taken"
            ));
        }
        Ok(())
    }

    fn keyframes(mut self, n: usize) -> Result<VideoSummary, FramesError> {
        // Both take about the same time.
        self.passes = 2;
        let mut candidates = Candidates::new(n);
        let mut scaler = GrayScaler::new(LOOKED_AT, self.limits.max_pixels);
        let decoded = self.pass(&mut |reading, frame| {
            match frame.gray(&mut scaler) {
                Some(gray) => candidates.push(Candidate {
                    number: frame.number,
                    seconds: reading.timeline.seconds(frame.number, frame.time),
                    sketch: Sketch::of(&gray),
                }),
                None => reading.unreadable += 1,
            }
            Ok(ControlFlow::Continue(()))
        })?;
        self.warn_of_damage(&decoded);
        self.unreadable = 0;
        let (candidates, frames) = candidates.finish();
        let merged = frames - candidates.len() as u64;
        let choice = keyframes::choose(&candidates, n, &mut || {
            !self.watch.is_over() && (self.on)(self.progress)
        });
        self.watch.check(&self.file.path)?;
        let choice = choice.ok_or(FramesError::Cancelled)?;
        let numbers: Vec<u64> = choice
            .chosen
            .iter()
            .map(|i| candidates[*i].number)
            .collect();
        drop(candidates);
        self.take_numbers(&numbers)?;
        if self.unreadable > 0 {
            self.warnings.push(format!(
                "{} frames of the video were chosen and could not be converted",
                self.unreadable
            ));
        }
        let chosen = self.chosen.len() as u64;
        let less_sharp = choice.less_sharp + merged;
        Ok(VideoSummary {
            keyframes: Some(Keyframes {
                frames,
                chosen,
                less_sharp,
                plain: choice.plain,
                similar: frames.saturating_sub(chosen + less_sharp + choice.plain),
            }),
            ..self.finish(&decoded)?
        })
    }

    fn numbered(mut self, numbers: &[u64]) -> Result<VideoSummary, FramesError> {
        let decoded = self.take_numbers(numbers)?;
        self.finish(&decoded)
    }

    /// Decodes until frames of these numbers are taken, which ascend. One that cannot be converted makes way for the next one.
    fn take_numbers(&mut self, numbers: &[u64]) -> Result<Decoded, FramesError> {
        let mut wanted: VecDeque<u64> = numbers.iter().copied().collect();
        self.pass(&mut |reading, frame| {
            while wanted.front().is_some_and(|number| *number <= frame.number) {
                wanted.pop_front();
            }
            // This one, or one before it that could not be converted.
            if reading.chosen.len() + wanted.len() < numbers.len() {
                reading.take(frame)?;
            }
            Ok(match reading.chosen.len() < numbers.len() {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            })
        })
    }

    /// Decodes the clip from its beginning, until `visit` breaks.
    fn pass(&mut self, visit: &mut Visit<'_>) -> Result<Decoded, FramesError> {
        let max_frame = (self.limits.max_duration_s * self.timeline.fps()).ceil() as u64;
        let clip = Clip::open(self.file, self.limits, self.watch)?;
        let decoded = clip.decode(&mut |frame| {
            let number = frame.number;
            // The times were checked before; without them the number tells.
            if !self.timeline.has_times() && number > max_frame {
                return Err(FramesError::VideoTooLong {
                    path: self.file.path.clone(),
                    seconds: number as f64 / self.timeline.fps(),
                    max_seconds: self.limits.max_duration_s,
                });
            }
            let flow = visit(self, frame)?;
            self.progress.frames_read = (self.passed + number) / self.passes;
            match (self.on)(self.progress) {
                true => Ok(flow),
                false => Err(FramesError::Cancelled),
            }
        })?;
        self.passed += decoded.frames;
        Ok(decoded)
    }

    /// Hands a frame on. Returns false where it cannot be converted.
    fn take(&mut self, frame: &mut DecodedFrame<'_>) -> Result<bool, FramesError> {
        let Some(rgb) = frame.convert() else {
            self.unreadable += 1;
            return Ok(false);
        };
        self.chosen.push(frame.number);
        self.progress.frames_chosen = self.chosen.len();
        let seconds = self.timeline.shown_at(frame.number, frame.time);
        (self.sink)(DecodedImage {
            seconds: Some(seconds),
            ..picture(frame.number, rgb)
        })?;
        Ok(true)
    }

    fn warn_of_damage(&mut self, decoded: &Decoded) {
        let failures = decoded.failures + self.unreadable;
        let cut_off = self.timeline.cut_off();
        if failures > 0 {
            self.warnings.push(format!(
                "the video is damaged: {failures} of its parts could not be decoded, {} frames could",
                decoded.frames
            ));
        } else {
            self.warnings.extend(cut_off);
        }
    }

    fn finish(self, decoded: &Decoded) -> Result<VideoSummary, FramesError> {
        if self.chosen.is_empty() {
            return Err(FramesError::NoFrames {
                path: self.file.path.clone(),
            });
        }
        Ok(VideoSummary {
            source_fps: self.timeline.fps(),
            interval: 1,
            frames_read: decoded.frames,
            chosen: self.chosen,
            thinned_from: None,
            keyframes: None,
            warnings: self.warnings,
        })
    }
}

fn picture(number: u64, rgb: RgbImage) -> DecodedImage {
    DecodedImage::new(format!("frame_{number:06}.png"), rgb)
}
