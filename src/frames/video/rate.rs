//! Whether a clip has one constant rate, and which frames are shown at given times: arithmetic only.

/// Timestamps are rounded to a tick of their container, and often were to a millisecond in the one before: 29.97 frames a
/// second are 33 and 34 ms apart in Matroska, and keep these distances when they are copied into MP4.
const ROUNDING_S: f64 = 1e-3;

/// A frame may be this share of the distance between two away from its place in a constant rate. It matters where a tick is
/// as long as a frame, as in AVI: a frame that was left out makes a difference of half a frame or more.
const MAX_DEVIATION: f64 = 0.4;

/// A header's rate may be this far from the times and still be the clip's.
const RATE_DEVIATION: f64 = 0.01;

/// How frames of a clip are found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Rate {
    /// So many frames a second: frames are counted.
    Constant(f64),
    /// So many frames a second on average: frames are chosen by their times.
    Variable(f64),
}

impl Rate {
    /// Decides by the times of all shown frames in ticks, ascending, and the header's rate.
    ///
    /// Returns `None` when the times say nothing, since there are fewer than two.
    pub(super) fn of(times: &[i64], tick_s: f64, declared: Option<f64>) -> Option<Self> {
        let (first, last) = (*times.first()?, *times.last()?);
        let span_s = seconds(last, first, tick_s);
        let gaps = times.len() - 1;
        if gaps == 0 || span_s <= 0.0 {
            return None;
        }
        let measured = gaps as f64 / span_s;
        let Some(declared) = declared else {
            return Some(Self::Variable(measured));
        };
        let period_s = span_s / gaps as f64;
        let allowed_s = tick_s.max(ROUNDING_S).min(period_s * MAX_DEVIATION);
        let constant = times.iter().enumerate().all(|(i, time)| {
            let expected = i as f64 * period_s;
            // The tenth covers the arithmetic.
            (seconds(*time, first, tick_s) - expected).abs() <= allowed_s * 1.1
        });
        if !constant {
            return Some(Self::Variable(measured));
        }
        // A few frames tell their rate only as exactly as their times are rounded.
        let uncertain = RATE_DEVIATION + allowed_s / span_s;
        let agrees = (declared / measured - 1.0).abs() <= uncertain;
        Some(Self::Constant(if agrees { declared } else { measured }))
    }
}

/// Returns the indices of the frames that are shown at 0, 1 / fps, 2 / fps, ... seconds after the first one, each once.
///
/// `times` are in ticks, ascending. A frame is shown until the next one; the last one for `last_duration` ticks, if it is
/// known and as long as 1 / fps, else only at its own time: the last duration of a recording is a guess.
pub(super) fn shown_at(
    times: &[i64],
    tick_s: f64,
    fps: f64,
    last_duration: Option<i64>,
) -> Vec<usize> {
    let Some(first) = times.first() else {
        return Vec::new();
    };
    // A time that was rounded up is meant to be the one before.
    let rounding_s = (tick_s / 2.0).min(ROUNDING_S);
    let at = |i: usize| (seconds(times[i], *first, tick_s) - rounding_s).max(0.0);
    (0..times.len())
        .filter(|i| {
            let begin = at(*i);
            let Some(next) = (i + 1 < times.len()).then(|| at(i + 1)) else {
                let duration = last_duration.map_or(0.0, |ticks| ticks as f64 * tick_s);
                let end = begin + 2.0 * rounding_s;
                return duration >= 1.0 / fps || has_moment(begin, end, fps);
            };
            has_moment(begin, next, fps)
        })
        .collect()
}

/// Whether one of 0, 1 / fps, 2 / fps, ... is in `begin..end`, in seconds.
fn has_moment(begin: f64, end: f64, fps: f64) -> bool {
    let k = (begin * fps).ceil();
    // Infinite where frames are wanted faster than any clip has them.
    !k.is_finite() || k / fps < end
}

fn seconds(time: i64, first: i64, tick_s: f64) -> f64 {
    // Numbers of a damaged file may be anything.
    time.saturating_sub(first) as f64 * tick_s
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: f64 = 1e-3;

    /// Times of a constant rate in ticks, rounded.
    fn rounded(n: usize, fps: f64, tick_s: f64) -> Vec<i64> {
        (0..n)
            .map(|i| (i as f64 / fps / tick_s).round() as i64)
            .collect()
    }

    #[test]
    fn rounded_times_are_a_constant_rate() {
        for fps in [23.976, 25.0, 29.97, 30.0, 59.94, 60.0, 120.0, 240.0] {
            for tick_s in [MS, 1.0 / 600.0, 1.0 / 90_000.0] {
                let times = rounded(500, fps, tick_s);
                let rate = Rate::of(&times, tick_s, Some(fps));
                assert_eq!(rate, Some(Rate::Constant(fps)), "{fps} at {tick_s}");
            }
            // From Matroska to MP4.
            let times: Vec<i64> = rounded(500, fps, MS).iter().map(|t| t * 16).collect();
            let rate = Rate::of(&times, 1.0 / 16_000.0, Some(fps));
            assert_eq!(rate, Some(Rate::Constant(fps)), "{fps}");
        }
    }

    #[test]
    fn a_missing_frame_or_another_rate_is_variable() {
        for tick_s in [MS, 1.0 / 30.0] {
            for left_out in [1, 50, 98] {
                let mut times = rounded(100, 30.0, tick_s);
                times.remove(left_out);
                let rate = Rate::of(&times, tick_s, Some(30.0));
                assert!(matches!(rate, Some(Rate::Variable(_))), "{left_out}");
            }
        }
        // 240 and 200 frames a second differ by less than a millisecond.
        let mut times = rounded(240, 240.0, 1e-5);
        times.extend(rounded(200, 200.0, 1e-5).iter().map(|t| t + 100_000));
        let rate = Rate::of(&times, 1e-5, Some(220.0));
        assert!(matches!(rate, Some(Rate::Variable(_))), "{rate:?}");
    }

    #[test]
    fn the_rate_is_measured_where_the_header_is_wrong_and_unknown_where_it_is_silent() {
        let times = rounded(50, 25.0, MS);
        let is_25 = |fps: f64| (fps - 25.0).abs() < 1e-9;
        let wrong = Rate::of(&times, MS, Some(50.0));
        assert!(matches!(wrong, Some(Rate::Constant(fps)) if is_25(fps)));
        let silent = Rate::of(&times, MS, None);
        assert!(matches!(silent, Some(Rate::Variable(fps)) if is_25(fps)));
        assert_eq!(Rate::of(&times[..1], MS, Some(25.0)), None);
        assert!(Rate::of(&[i64::MIN, i64::MAX], MS, None).is_some());
    }

    #[test]
    fn frames_are_those_shown_at_the_moments() {
        // 25 a second for 2 seconds, then 2.5 a second for 6.
        let mut times: Vec<i64> = (0..50).map(|i| i * 40).collect();
        times.extend((0..15).map(|i| 2000 + i * 400));
        let chosen = shown_at(&times, MS, 2.0, None);
        assert_eq!(chosen.len(), 16);
        assert_eq!(chosen[..6], [0, 12, 25, 37, 50, 51]);
        assert_eq!(shown_at(&times, MS, 1e-3, None), [0]);
        // A frame is taken once, however many moments it is shown at.
        for fps in [25.0, 1000.0, 1e300, f64::MIN_POSITIVE] {
            let chosen = shown_at(&times, MS, fps, None).len();
            assert_eq!(chosen, if fps < 1.0 { 1 } else { 65 }, "{fps}");
        }
    }

    #[test]
    fn times_that_were_rounded_up_are_still_in_time() {
        let times = rounded(90, 30.0, MS);
        assert_eq!(shown_at(&times, MS, 30.0, None).len(), 90);
        let every_third = (0..90).step_by(3).collect::<Vec<_>>();
        assert_eq!(shown_at(&times, MS, 10.0, None), every_third);
    }

    #[test]
    fn a_last_frame_that_stays_counts_while_it_is_shown() {
        let times = [0, 1500, 3200];
        assert_eq!(shown_at(&times, MS, 1.0, None), [0, 1]);
        assert_eq!(shown_at(&times, MS, 1.0, Some(33)), [0, 1]);
        assert_eq!(shown_at(&times, MS, 1.0, Some(5000)), [0, 1, 2]);
        assert_eq!(shown_at(&[7], MS, 1.0, None), [0]);
        assert_eq!(shown_at(&[], MS, 1.0, None), [0; 0]);
    }
}
