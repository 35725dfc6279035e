//! Which frames of a clip are wanted: arithmetic only, numbers count from 1.

/// Every so many-th frame is a candidate. Python: `max(round(source_fps / fps), 1)`, halves to even.
pub(super) fn interval(source_fps: f64, fps: f64) -> u64 {
    (source_fps / fps).round_ties_even().max(1.0) as u64
}

/// OpenCV's `CAP_PROP_POS_FRAMES = total // 2` counts from 0.
pub(super) fn middle(total: u64) -> u64 {
    total / 2 + 1
}

/// Whether clearly fewer frames came than the container announces.
///
/// Two frames, or one in fifty, are forgiven: open groups of pictures cost that many.
pub(super) fn is_short(frames: u64, announced: u64) -> bool {
    frames.saturating_add(2 + announced / 50) < announced
}

/// Whether the last frame is clearly before the announced end: half a second, or a fiftieth, is forgiven,
/// since the sound of a clip may outlast its images.
pub(super) fn ends_early(last_s: f64, announced_s: f64) -> bool {
    last_s + (announced_s / 50.0).max(0.5) < announced_s
}

/// The choice of frames by their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    interval: u64,
    most: Option<u64>,
    /// Candidates (multiples of the interval) that are expected, when they are more than `most`.
    thinned_from: Option<u64>,
}

impl Plan {
    /// Every candidate.
    pub(super) fn every(interval: u64) -> Self {
        Self {
            interval,
            most: None,
            thinned_from: None,
        }
    }

    /// At most `most` candidates of a clip of `total` frames, evenly from the first to the last.
    pub(super) fn at_most(most: usize, interval: u64, total: u64) -> Self {
        let most = most as u64;
        let candidates = total / interval;
        Self {
            interval,
            most: Some(most),
            thinned_from: (candidates > most).then_some(candidates),
        }
    }

    /// Whether the frame of this number belongs to the choice.
    pub(super) fn wants(&self, number: u64) -> bool {
        if number == 0 || !number.is_multiple_of(self.interval) {
            return false;
        }
        match self.most.zip(self.thinned_from) {
            Some((most, candidates)) => is_even_pick(number / self.interval - 1, candidates, most),
            None => true,
        }
    }

    /// Whether `chosen` frames are as many as are permitted.
    pub(super) fn is_full(&self, chosen: usize) -> bool {
        self.most.is_some_and(|most| chosen as u64 >= most)
    }

    /// How many frames there would be without the limit, when it made a difference.
    pub(super) fn thinned_from(&self) -> Option<u64> {
        self.thinned_from
    }
}

/// Whether a candidate, counting from 0, is one of `most` that are spread evenly over all, the first and the last among
/// them. There are more candidates than `most`.
fn is_even_pick(candidate: u64, candidates: u64, most: u64) -> bool {
    if most == 1 {
        return candidate == (candidates - 1) / 2;
    }
    // The j-th of `most` is candidate round(j * (candidates - 1) / (most - 1)); is there such a j?
    let (steps, span) = (u128::from(most - 1), u128::from(candidates - 1));
    let nearest = (u128::from(candidate) * steps + span / 2) / span;
    let chosen = (nearest * span + steps / 2) / steps;
    u64::try_from(chosen).is_ok_and(|chosen| chosen == candidate)
}

/// The choice of frames by the times they are shown at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Timed {
    /// Times of the frames that are still to come, in ticks, the next one last.
    wanted: Vec<i64>,
    thinned_from: Option<u64>,
}

impl Timed {
    /// At most `most` of the frames that are shown at these times (ascending), evenly from the first to the last.
    pub(super) fn new(mut times: Vec<i64>, most: Option<usize>) -> Self {
        let candidates = times.len() as u64;
        let most = most.map_or(u64::MAX, |most| most as u64);
        let thinned_from = (candidates > most).then_some(candidates);
        if thinned_from.is_some() {
            let mut candidate = 0..candidates;
            times.retain(|_| {
                let candidate = candidate.next();
                candidate.is_some_and(|c| is_even_pick(c, candidates, most))
            });
        }
        times.reverse();
        Self {
            wanted: times,
            thinned_from,
        }
    }

    /// Whether a frame that comes out of the decoder belongs to the choice; asked once for each.
    ///
    /// A frame that cannot be decoded makes way for the next one.
    pub(super) fn wants(&mut self, time: Option<i64>) -> bool {
        let Some(time) = time else {
            return false;
        };
        let before = self.wanted.len();
        while self.wanted.pop_if(|wanted| *wanted <= time).is_some() {}
        self.wanted.len() < before
    }

    /// How many frames there would be without the limit, when it made a difference.
    pub(super) fn thinned_from(&self) -> Option<u64> {
        self.thinned_from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(plan: Plan, total: u64) -> Vec<u64> {
        (0..=total).filter(|n| plan.wants(*n)).collect()
    }

    #[test]
    fn intervals_round_halves_to_even() {
        assert_eq!(interval(30.0, 0.4), 75);
        assert_eq!(interval(25.0, 10.0), 2);
        assert_eq!(interval(35.0, 10.0), 4);
        assert_eq!(interval(10.0, 60.0), 1);
        assert_eq!(interval(f64::MAX, 1e-300), u64::MAX);
    }

    #[test]
    fn frame_zero_is_never_chosen() {
        assert_eq!(chosen(Plan::every(75), 180), [75, 150]);
        assert_eq!(chosen(Plan::every(1), 3), [1, 2, 3]);
    }

    #[test]
    fn thinning_is_even_and_keeps_both_ends() {
        assert_eq!(chosen(Plan::at_most(3, 10, 90), 90), [10, 50, 90]);
        assert_eq!(chosen(Plan::at_most(1, 10, 90), 90), [50]);
        assert_eq!(chosen(Plan::at_most(9, 10, 90), 90).len(), 9);
        assert_eq!(Plan::at_most(9, 10, 90).thinned_from(), None);
    }

    #[test]
    fn thinning_always_gives_exactly_as_many_as_asked_for() {
        for total in 1..60 {
            for most in 1..=total {
                let numbers = chosen(Plan::at_most(most as usize, 1, total), total);
                assert_eq!(numbers.len() as u64, most, "{most} of {total}: {numbers:?}");
            }
        }
    }

    #[test]
    fn frames_are_chosen_by_time_and_thinned_evenly() {
        let chosen = |mut timed: Timed| -> Vec<i64> {
            (0..100).filter(|time| timed.wants(Some(*time))).collect()
        };
        let times: Vec<i64> = (0..9).map(|i| i * 10).collect();
        let all = Timed::new(times.clone(), None);
        assert_eq!(all.thinned_from(), None);
        assert_eq!(chosen(all), times);
        let three = Timed::new(times, Some(3));
        assert_eq!(three.thinned_from(), Some(9));
        assert_eq!(chosen(three), [0, 40, 80]);
    }

    #[test]
    fn the_next_frame_replaces_one_that_is_missing() {
        let mut timed = Timed::new(vec![10, 20, 21], None);
        assert!(!timed.wants(Some(9)));
        assert!(!timed.wants(None));
        assert!(timed.wants(Some(12)));
        assert!(!timed.wants(Some(19)));
        assert!(timed.wants(Some(22)), "both are missing");
        assert!(!timed.wants(Some(23)));
    }
}
