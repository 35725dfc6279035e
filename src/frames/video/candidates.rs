//! The frames of a clip of any length that may be chosen: a limited number, the one with most detail of each stretch of time.

use super::sketch::Sketch;

/// Candidates that are remembered: nine minutes of every frame at 30 frames a second, in 20 MB. Of longer clips, one of each 2, 4, ...
/// frames in a row is.
const CANDIDATES: usize = 1 << 14;

/// A frame that may be chosen.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    /// Its number, counting from 1.
    pub(super) number: u64,
    /// When it is shown, in seconds; never before the candidate ahead of it.
    pub(super) seconds: f64,
    pub(super) sketch: Sketch,
}

/// Gathers candidates in order.
#[derive(Debug)]
pub(super) struct Candidates {
    list: Vec<Candidate>,
    most: usize,
    /// Frames in a row of which one is a candidate.
    window: u64,
    /// Frames that were seen.
    seen: u64,
}

impl Candidates {
    /// Of clips that are long enough, at least `least` remain.
    pub(super) fn new(least: usize) -> Self {
        Self::of(CANDIDATES.max(least.saturating_mul(2)))
    }

    fn of(most: usize) -> Self {
        Self {
            list: Vec::new(),
            most,
            window: 1,
            seen: 0,
        }
    }

    pub(super) fn push(&mut self, candidate: Candidate) {
        let mut at = self.seen / self.window;
        self.seen += 1;
        if at == self.most as u64 {
            self.halve();
            at /= 2;
        }
        match self.list.get_mut(at as usize) {
            Some(other) if other.sketch.detail < candidate.sketch.detail => *other = candidate,
            Some(_) => {}
            None => self.list.push(candidate),
        }
    }

    /// Leaves one of each two.
    fn halve(&mut self) {
        self.window *= 2;
        let mut all = std::mem::take(&mut self.list).into_iter();
        while let Some(first) = all.next() {
            let better = |second: &Candidate| second.sketch.detail > first.sketch.detail;
            let second = all.next().filter(better);
            self.list.push(second.unwrap_or(first));
        }
    }

    /// Returns the candidates, and how many frames were seen.
    pub(super) fn finish(self) -> (Vec<Candidate>, u64) {
        (self.list, self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::gray::Gray, *};

    fn candidate(number: u64, detail: f32) -> Candidate {
        let gray = Gray {
            width: 1,
            height: 1,
            pixels: vec![0],
        };
        let mut sketch = Sketch::of(&gray);
        sketch.detail = detail;
        Candidate {
            number,
            seconds: number as f64,
            sketch,
        }
    }

    #[test]
    fn however_long_a_clip_is_the_best_of_each_stretch_remain() {
        for frames in 1..200_u64 {
            let mut candidates = Candidates::of(8);
            for number in 1..=frames {
                let detail = if number % 7 == 0 { 2.0 } else { 1.0 };
                candidates.push(candidate(number, detail));
            }
            let (list, seen) = candidates.finish();
            assert_eq!(seen, frames);
            assert!(
                list.len() <= 8 && list.len() as u64 >= frames.min(4),
                "{frames}"
            );
            assert!(list.is_sorted_by_key(|one| one.number), "{frames}");
            let window = frames.div_ceil(8).next_power_of_two();
            for (i, one) in list.iter().enumerate() {
                let from = i as u64 * window + 1;
                let all = from..(from + window).min(frames + 1);
                let best = all.clone().find(|n| n % 7 == 0).unwrap_or(from);
                assert_eq!(one.number, best, "{frames}: {all:?}");
            }
        }
    }
}
