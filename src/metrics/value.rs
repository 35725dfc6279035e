//! Values that only grow.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How often a time was within each of some bounds.
#[derive(Debug)]
pub(super) struct Histogram {
    bounds: &'static [f64],
    /// One for each bound and one for what is beyond.
    counts: Box<[Counter]>,
    micros: Counter,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| Counter::default()).collect(),
            micros: Counter::default(),
        }
    }

    pub(super) fn observe(&self, time: Duration) {
        let at = self
            .bounds
            .partition_point(|bound| time.as_secs_f64() > *bound);
        self.counts[at].add(1);
        self.micros.add(time.as_micros() as u64);
    }

    /// Returns each bound with the number of times up to it, without the one that has no bound.
    pub(super) fn up_to(&self) -> impl Iterator<Item = (f64, u64)> {
        let counts = self.counts.iter().scan(0, |sum, count| {
            *sum += count.get();
            Some(*sum)
        });
        self.bounds.iter().copied().zip(counts)
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().map(Counter::get).sum()
    }

    pub(super) fn sum_seconds(&self) -> f64 {
        seconds(self.micros.get())
    }
}

pub(super) fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_up_to_each_bound_from_its_own_on() {
        let times = Histogram::new(&[0.1, 1.0]);
        for ms in [100, 101, 1000, 1001, 50_000] {
            times.observe(Duration::from_millis(ms));
        }
        assert_eq!(times.up_to().collect::<Vec<_>>(), [(0.1, 1), (1.0, 3)]);
        assert_eq!(times.count(), 5);
        assert!((times.sum_seconds() - 52.202).abs() < 1e-9);
    }
}
