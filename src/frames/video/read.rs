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
    plan::{self, Plan},
};
use crate::frames::{DecodedImage, FramesError};

/// Width and height of a video's frames as they are shown, in pixels, by its header.
///
/// # Errors
/// When the file is no video or exceeds `limits`.
pub fn video_size(path: &Path, limits: &VideoLimits) -> Result<(u32, u32), FramesError> {
    Ok(Clip::open(path, limits, Watch::start(limits.max_wall_time))?.shown_size())
}

/// Chooses frames of a video and hands each to `sink`, upright and as 8-bit RGB, in order.
///
/// With the source's rate r and the wanted rate `fps`, the interval is `max(round_half_even(r / fps), 1)`
/// and frames number interval, 2·interval, ... are chosen, counting from 1. A clip too short to yield one
/// gives its middle frame (which takes a second reading). Frames are named `frame_000075.png` after their
/// number.
///
/// When more than `max_frames` would be chosen, as many are taken evenly from first to last. Their number
/// must be known beforehand: it is the container's, or, when that is missing or contradicts the duration,
/// the packets are counted first without decoding. Never more than `max_frames` are handed on, whatever
/// the container said.
///
/// `on` is called after every decoded frame; when it gives `false` the reading stops.
///
/// Colours are converted as OpenCV's `VideoCapture` does (swscale with its default matrix, BT.601); pixels
/// that are not square are left as they are, as OpenCV leaves them.
///
/// # Errors
/// When the file is no video or has no picture in it that can be decoded, exceeds `limits`, `fps` is not
/// above zero, `on` stopped it, or `sink` failed. A damaged or truncated video is no error as long as one
/// chosen frame was decoded: it gives a warning.
pub fn read_video(
    path: &Path,
    fps: f64,
    limits: &VideoLimits,
    max_frames: Option<usize>,
    on: &mut dyn FnMut(VideoProgress) -> bool,
    sink: &mut dyn FnMut(DecodedImage) -> Result<(), FramesError>,
) -> Result<VideoSummary, FramesError> {
    if !(fps.is_finite() && fps > 0.0) {
        return Err(FramesError::BadRate { fps });
    }
    if max_frames == Some(0) {
        return Err(FramesError::Empty);
    }
    let watch = Watch::start(limits.max_wall_time);
    let mut clip = Clip::open(path, limits, watch)?;
    let mut warnings = Vec::new();
    let source_fps = clip.source_fps().unwrap_or_else(|| {
        warnings.push(format!(
            "the video says no frame rate: {FALLBACK_FPS} frames a second are assumed"
        ));
        FALLBACK_FPS
    });
    let interval = plan::interval(source_fps, fps);
    let announced = clip.announced_frames();
    let announced_s = clip.announced_duration_s();
    let plan = match max_frames {
        None => Plan::every(interval),
        Some(most) => {
            let total = match clip.trusted_frames(source_fps) {
                Some(total) => total,
                None => {
                    let total = clip.count_packets()?;
                    clip = Clip::open(path, limits, watch)?;
                    total
                }
            };
            Plan::at_most(most, interval, total)
        }
    };

    let max_frame = (limits.max_duration_s * source_fps).ceil() as u64;
    let mut chosen = Vec::new();
    let mut unreadable = 0;
    let decoded = clip.decode(&mut |frame| {
        let number = frame.number;
        if number > max_frame {
            return Err(FramesError::VideoTooLong {
                path: path.to_path_buf(),
                seconds: number as f64 / source_fps,
                max_seconds: limits.max_duration_s,
            });
        }
        if plan.wants(number) && !plan.is_full(chosen.len()) {
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
            frames_total: announced,
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
    } else if let Some(announced) = announced.filter(|n| plan::is_short(frames_read, *n)) {
        warnings.push(format!(
            "the video is cut off: {announced} frames are announced, {frames_read} could be decoded"
        ));
    } else if let Some((last_s, announced_s)) = decoded.last_s.zip(announced_s)
        && plan::ends_early(last_s, announced_s)
    {
        warnings.push(format!(
            "the video is cut off: {announced_s:.1} seconds are announced, its last frame is at {last_s:.1}"
        ));
    }
    if chosen.is_empty() && frames_read > 0 {
        // A middle frame that cannot be converted makes way for the next one.
        let middle = plan::middle(frames_read);
        Clip::open(path, limits, watch)?.decode(&mut |frame| {
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
        if let Some(number) = chosen.first() {
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
        thinned_from: plan.thinned_from(),
        chosen,
        warnings,
    })
}

/// Assumed where neither container nor codec says a rate.
const FALLBACK_FPS: f64 = 30.0;

fn picture(number: u64, rgb: RgbImage) -> DecodedImage {
    DecodedImage {
        name: format!("frame_{number:06}.png"),
        rgb,
    }
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
