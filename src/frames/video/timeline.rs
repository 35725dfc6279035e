//! When the frames of a clip are shown, and which of them a rate chooses.

use std::path::Path;

use super::{
    VideoLimits, VideoProgress,
    clip::Clip,
    plan::{self, Plan, Timed},
    rate::{self, Rate},
    scan::{Announced, Scan},
};
use crate::frames::FramesError;

/// When frames are shown, and how they are found.
pub(super) struct Timeline {
    pub(super) scan: Scan,
    /// Whether the times were read, taken since or not.
    has_times: bool,
    first: Option<i64>,
    latest_s: f64,
    announced: Announced,
    tick_s: f64,
    rate: Rate,
    /// Neither the file nor its times tell the rate.
    pub(super) rate_is_assumed: bool,
}

impl Timeline {
    pub(super) fn of(
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
            has_times: scan.times.is_some(),
            first: times.first().copied(),
            latest_s: 0.0,
            // The rate of a single picture makes no difference.
            rate_is_assumed: known.is_none() && scan.shown != 1,
            rate: known.unwrap_or(Rate::Constant(FALLBACK_FPS)),
            scan,
            announced,
            tick_s,
        })
    }

    pub(super) fn fps(&self) -> f64 {
        match self.rate {
            Rate::Constant(fps) | Rate::Variable(fps) => fps,
        }
    }

    /// Whether the times of the frames are known.
    pub(super) fn has_times(&self) -> bool {
        self.has_times
    }

    /// Returns when a frame is shown, in seconds from the first one; never before the one that was asked for last.
    pub(super) fn seconds(&mut self, number: u64, time: Option<i64>) -> f64 {
        self.latest_s = self.latest_s.max(self.shown_at(number, time));
        self.latest_s
    }

    /// Returns when a frame is shown, in seconds from the first one.
    pub(super) fn shown_at(&self, number: u64, time: Option<i64>) -> f64 {
        let by_time = self.first.zip(time.filter(|_| self.has_times));
        match by_time {
            Some((first, time)) => time.saturating_sub(first).max(0) as f64 * self.tick_s,
            None => number.saturating_sub(1) as f64 / self.fps(),
        }
    }

    pub(super) fn cut_off(&self) -> Option<String> {
        let ticks_per_frame = 1.0 / (self.tick_s * self.fps());
        self.scan.cut_off(&self.announced, ticks_per_frame)
    }

    /// Chooses frames; `first` is the time of the first one that could be decoded. Takes the times, which may be many.
    pub(super) fn select(
        &mut self,
        fps: f64,
        max_frames: Option<usize>,
        first: Option<i64>,
    ) -> Selection {
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
pub(super) enum Selection {
    Counted(Plan),
    Timed(Timed),
}

impl Selection {
    /// Whether a frame that comes out of the decoder is chosen; `chosen` were before it.
    pub(super) fn wants(&mut self, number: u64, time: Option<i64>, chosen: usize) -> bool {
        match self {
            Self::Counted(plan) => plan.wants(number) && !plan.is_full(chosen),
            Self::Timed(timed) => timed.wants(time),
        }
    }

    pub(super) fn thinned_from(&self) -> Option<u64> {
        match self {
            Self::Counted(plan) => plan.thinned_from(),
            Self::Timed(timed) => timed.thinned_from(),
        }
    }
}

/// Assumed where neither container nor codec nor the times of the frames tell a rate.
pub(super) const FALLBACK_FPS: f64 = 30.0;
