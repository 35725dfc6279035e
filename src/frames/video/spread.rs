//! Spreading frames evenly over time: arithmetic only.

/// Returns the indices of `n` of these moments in seconds, which are in order, each the nearest to one of `n` evenly spaced ones: in
/// the middle of `n` equal parts of `from..to` where `parts`, else at the ends of all but the last of `n + 1` parts. All, if there
/// are fewer.
pub(super) fn spread(moments: &[f64], n: usize, (from, to): (f64, f64), parts: bool) -> Vec<usize> {
    let n = n.min(moments.len());
    let target = |i: usize| {
        let (i, n) = (i as f64, n as f64);
        let share = match parts {
            true => (i + 0.5) / n,
            false => (i + 1.0) / (n + 1.0),
        };
        from + (to - from) * share
    };
    let mut next = 0;
    (0..n)
        .map(|i| {
            let target = target(i);
            // As many must be left as are still to be taken.
            let last = moments.len() - (n - i);
            let after = moments.partition_point(|moment| *moment < target);
            let before = after.saturating_sub(1);
            let nearer = |at: usize| {
                moments
                    .get(at)
                    .map_or(f64::INFINITY, |m| (m - target).abs())
            };
            let nearest = if nearer(before) <= nearer(after) {
                before
            } else {
                after
            };
            let at = nearest.clamp(next, last);
            next = at + 1;
            at
        })
        .collect()
}

/// Returns the indices of `n` further ones of these moments, which are in order, where the gaps between those that are `taken` are
/// longest. `taken` is in order. There are enough others.
pub(super) fn fill_gaps(moments: &[f64], taken: &[usize], n: usize) -> Vec<usize> {
    let mut gaps = gaps(moments, taken);
    for _ in 0..n {
        // Of equals the first.
        let free = gaps.iter_mut().filter(|gap| gap.more < gap.members.len());
        let longest = free.reduce(|best, gap| if gap.part() > best.part() { gap } else { best });
        let Some(longest) = longest else { break };
        longest.more += 1;
    }
    let filled = gaps.into_iter().flat_map(|gap| {
        let begin = gap.members.start;
        let chosen = spread(&moments[gap.members], gap.more, gap.span, false);
        chosen.into_iter().map(move |i| begin + i)
    });
    filled.collect()
}

/// Moments between two that are taken.
struct Gap {
    members: std::ops::Range<usize>,
    /// Where it begins and ends, in seconds.
    span: (f64, f64),
    /// How many of its moments are taken too.
    more: usize,
}

impl Gap {
    /// Seconds between two that are taken, with those that are taken too.
    fn part(&self) -> f64 {
        (self.span.1 - self.span.0) / (self.more + 1) as f64
    }
}

fn gaps(moments: &[f64], taken: &[usize]) -> Vec<Gap> {
    let mut gaps = Vec::with_capacity(taken.len() + 1);
    let mut begin = 0;
    let mut from = moments.first().copied().unwrap_or_default();
    for at in taken.iter().copied().chain([moments.len()]) {
        let last = moments.last().copied().unwrap_or_default();
        let to = moments.get(at).copied().unwrap_or(last);
        gaps.push(Gap {
            members: begin..at,
            span: (from, to),
            more: 0,
        });
        (begin, from) = (at + 1, to);
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_spread_evenly_and_taken_once() {
        let moments: Vec<f64> = (0..100).map(f64::from).collect();
        let even = |n| spread(&moments, n, (0.0, 99.0), true);
        assert_eq!(even(1), [49]);
        assert_eq!(even(4), [12, 37, 62, 87]);
        for n in 0..=100 {
            let chosen = even(n);
            assert_eq!(chosen.len(), n);
            assert!(
                chosen.windows(2).all(|two| two[0] < two[1]),
                "{n}: {chosen:?}"
            );
        }
        // By time, not by number.
        let uneven = [0.0, 0.1, 0.2, 0.3, 5.0, 10.0];
        assert_eq!(spread(&uneven, 2, (0.0, 10.0), true), [3, 4]);
        assert_eq!(spread(&uneven, 9, (0.0, 10.0), true).len(), 6);
        // Of one time.
        assert_eq!(spread(&[1.0; 5], 3, (1.0, 1.0), true), [0, 1, 2]);
        assert_eq!(spread(&[], 3, (0.0, 1.0), true), [0; 0]);
    }

    #[test]
    fn the_longest_gaps_are_filled() {
        let moments: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(fill_gaps(&moments, &[0, 20, 100], 3), [40, 60, 80]);
        assert_eq!(fill_gaps(&moments, &[50], 2), [25, 75]);
        for n in 0..=98 {
            let filled = fill_gaps(&moments, &[0, 20, 100], n);
            assert_eq!(filled.len(), n);
            assert!(
                filled.windows(2).all(|two| two[0] < two[1]),
                "{n}: {filled:?}"
            );
            assert!(
                !filled.iter().any(|i| [0, 20, 100].contains(i)),
                "{n}: {filled:?}"
            );
        }
    }
}
