//! Choosing, decoding and handing on the frames of one video.

use std::{
    ops::ControlFlow,
    path::Path,
    time::{Duration, Instant},
};

use ::image::RgbImage;

use super::{
    VideoLimits, VideoProgress, VideoSummary,
    clip::Clip,
    file::{VideoFile, check_choice},
    plan::{self, Plan, Timed},
    rate::{self, Rate},
    scan::{Announced, Scan},
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
/// Where the rate r is constant, the interval is `max(round_half_even(r / fps), 1)` and frames number interval,
/// 2·interval, ... are chosen, counting from 1. A clip too short to yield one gives its middle frame (which takes a
/// further reading). Where the rate is variable, or the container has none, the frames are chosen that are shown 0,
/// 1 / fps, 2 / fps, ... seconds after the first one. Frames are named `frame_000075.png` after their number. Only
/// frames that are shown count: an edit list may have others decoded.
///
/// When more than `max_frames` would be chosen, as many are taken evenly from first to last.
///
/// `on` is called after every decoded frame, and now and then while packets are read before; when it gives `false` the
/// reading stops.
///
/// Colors of standard range are converted as OpenCV's `VideoCapture` does (swscale with its default matrix, BT.601); HLG,
/// PQ and wide color spaces are mapped to sRGB. Pixels that are not square are stretched. A clip may be turned last.
///
/// # Errors
/// When the file is no video or has no picture in it that can be decoded, exceeds `limits`, `fps` is not
/// above zero, `on` stopped it, or `sink` failed. A damaged or truncated video is no error as long as one
/// chosen frame was decoded: it gives a warning.
pub fn read_video_file(
    file: &VideoFile,
    fps: f64,
    limits: &VideoLimits,
    max_frames: Option<usize>,
    on: &mut dyn FnMut(VideoProgress) -> bool,
    sink: &mut dyn FnMut(DecodedImage) -> Result<(), FramesError>,
) -> Result<VideoSummary, FramesError> {
    check_choice(fps, max_frames)?;
    let path = &file.path;
    let watch = Watch::start(limits.max_wall_time);
    let clip = Clip::open(file, limits, watch)?;
    let mut warnings = clip.warnings();
    let mut timeline = Timeline::of(clip, path, limits, on)?;
    if timeline.rate_is_assumed {
        warnings.push(format!(
            "the video says no frame rate: {FALLBACK_FPS} frames a second are assumed"
        ));
    }
    let source_fps = timeline.fps();
    let interval = plan::interval(source_fps, fps);
    let max_frame = (limits.max_duration_s * source_fps).ceil() as u64;
    let frames_total = Some(timeline.scan.shown);
    let cut_off = timeline.cut_off();
    let has_times = timeline.scan.times.is_some();

    let mut selection = None;
    let mut chosen = Vec::new();
    let mut unreadable = 0;
    let decoded = Clip::open(file, limits, watch)?.decode(&mut |frame| {
        let number = frame.number;
        // The times were checked before; without them the number tells.
        if !has_times && number > max_frame {
            return Err(FramesError::VideoTooLong {
                path: path.to_path_buf(),
                seconds: number as f64 / source_fps,
                max_seconds: limits.max_duration_s,
            });
        }
        let selection = selection.get_or_insert_with(|| {
            // Frames before the first that can be decoded are not there to be chosen.
            timeline.select(fps, max_frames, frame.time)
        });
        if selection.wants(number, frame.time, chosen.len()) {
            match frame.convert() {
                Some(rgb) => {
                    chosen.push(number);
                    sink(picture(number, rgb))?;
                }
                None => unreadable += 1,
            }
        }
        let go_on = on(VideoProgress {
            frames_read: number,
            frames_total,
            frames_chosen: chosen.len(),
        });
        if go_on {
            Ok(ControlFlow::Continue(()))
        } else {
            Err(FramesError::Cancelled)
        }
    })?;

    let frames_read = decoded.frames;
    let failures = decoded.failures + unreadable;
    if failures > 0 {
        warnings.push(format!(
            "the video is damaged: {failures} of its parts could not be decoded, {frames_read} frames could"
        ));
    } else {
        warnings.extend(cut_off);
    }
    if chosen.is_empty() && frames_read > 0 {
        // A middle frame that cannot be converted makes way for the next one.
        let middle = plan::middle(frames_read);
        Clip::open(file, limits, watch)?.decode(&mut |frame| {
            if frame.number < middle {
                return Ok(ControlFlow::Continue(()));
            }
            let Some(rgb) = frame.convert() else {
                return Ok(ControlFlow::Continue(()));
            };
            chosen.push(frame.number);
            sink(picture(frame.number, rgb))?;
            Ok(ControlFlow::Break(()))
        })?;
        // Nothing is missing from a clip of one frame.
        if let Some(number) = chosen.first().filter(|_| frames_read > 1) {
            warnings.push(format!(
                "the video is too short for {fps} frames a second: of its {frames_read} frames the middle \
                 one, number {number}, is taken"
            ));
        }
    }
    if chosen.is_empty() {
        return Err(FramesError::NoFrames {
            path: path.to_path_buf(),
        });
    }
    Ok(VideoSummary {
        source_fps,
        interval,
        frames_read,
        thinned_from: selection.and_then(|selection| selection.thinned_from()),
        chosen,
        warnings,
    })
}

/// When frames are shown, and how they are found.
struct Timeline {
    scan: Scan,
    announced: Announced,
    tick_s: f64,
    rate: Rate,
    /// Neither the file nor its times tell the rate.
    rate_is_assumed: bool,
}

impl Timeline {
    fn of(
        clip: Clip,
        path: &Path,
        limits: &VideoLimits,
        on: &mut dyn FnMut(VideoProgress) -> bool,
    ) -> Result<Self, FramesError> {
        let (announced, tick_s) = (clip.announced(), clip.tick_s());
        let (declared, guessed) = (clip.declared_fps(), clip.guessed_fps());
        let mut go_on = || {
            on(VideoProgress {
                frames_read: 0,
                frames_total: None,
                frames_chosen: 0,
            })
        };
        let mut scan = clip.scan(limits.max_duration_s, &mut go_on)?;
        if tick_s.is_none() {
            scan.times = None;
        }
        let tick_s = tick_s.unwrap_or(1.0);
        if let Some(times) = scan.times.as_deref()
            && let Some((first, last)) = times.first().zip(times.last())
        {
            let seconds = last.saturating_sub(*first) as f64 * tick_s;
            if seconds > limits.max_duration_s {
                return Err(FramesError::VideoTooLong {
                    path: path.to_path_buf(),
                    seconds,
                    max_seconds: limits.max_duration_s,
                });
            }
        }
        let times = scan.times.as_deref().unwrap_or_default();
        let known = Rate::of(times, tick_s, declared).or(guessed.map(Rate::Constant));
        Ok(Self {
            // The rate of a single picture makes no difference.
            rate_is_assumed: known.is_none() && scan.shown != 1,
            rate: known.unwrap_or(Rate::Constant(FALLBACK_FPS)),
            scan,
            announced,
            tick_s,
        })
    }

    fn fps(&self) -> f64 {
        match self.rate {
            Rate::Constant(fps) | Rate::Variable(fps) => fps,
        }
    }

    fn cut_off(&self) -> Option<String> {
        let ticks_per_frame = 1.0 / (self.tick_s * self.fps());
        self.scan.cut_off(&self.announced, ticks_per_frame)
    }

    /// Chooses frames; `first` is the time of the first one that could be decoded. Takes the times, which may be many.
    fn select(&mut self, fps: f64, max_frames: Option<usize>, first: Option<i64>) -> Selection {
        match self.rate {
            Rate::Constant(source_fps) => {
                let interval = plan::interval(source_fps, fps);
                let total = self.scan.shown_from(first);
                Selection::Counted(match max_frames {
                    None => Plan::every(interval),
                    Some(most) => Plan::at_most(most, interval, total),
                })
            }
            Rate::Variable(_) => {
                let mut times = std::mem::take(&mut self.scan.times).unwrap_or_default();
                times.retain(|time| first.is_none_or(|first| *time >= first));
                let shown = rate::shown_at(&times, self.tick_s, fps, self.scan.last_duration);
                let wanted = shown.into_iter().map(|i| times[i]).collect();
                Selection::Timed(Timed::new(wanted, max_frames))
            }
        }
    }
}

/// The chosen frames.
enum Selection {
    Counted(Plan),
    Timed(Timed),
}

impl Selection {
    /// Whether a frame that comes out of the decoder is chosen; `chosen` were before it.
    fn wants(&mut self, number: u64, time: Option<i64>, chosen: usize) -> bool {
        match self {
            Self::Counted(plan) => plan.wants(number) && !plan.is_full(chosen),
            Self::Timed(timed) => timed.wants(time),
        }
    }

    fn thinned_from(&self) -> Option<u64> {
        match self {
            Self::Counted(plan) => plan.thinned_from(),
            Self::Timed(timed) => timed.thinned_from(),
        }
    }
}

/// Assumed where neither container nor codec nor the times of the frames tell a rate.
const FALLBACK_FPS: f64 = 30.0;

fn picture(number: u64, rgb: RgbImage) -> DecodedImage {
    DecodedImage::new(format!("frame_{number:06}.png"), rgb)
}

/// The end of the permitted time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    deadline: Option<Instant>,
    allowed: Duration,
}

impl Watch {
    pub(super) fn start(allowed: Duration) -> Self {
        Self {
            // None: so far away that the clock cannot express it.
            deadline: Instant::now().checked_add(allowed),
            allowed,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    pub(super) fn check(&self, path: &Path) -> Result<(), FramesError> {
        if self.is_over() {
            return Err(FramesError::VideoTooSlow {
                path: path.to_path_buf(),
                max_seconds: self.allowed.as_secs_f64(),
            });
        }
        Ok(())
    }
}
