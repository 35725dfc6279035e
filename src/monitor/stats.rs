//! What is kept of a session: running figures, and a curve that never grows beyond a limit.

use super::sample::{Metric, Sample};

/// Figures of one metric over a session, kept as running sums: exact over every sample, of any number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stats {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    first: f64,
    last: f64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            count: 0,
            sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            first: 0.0,
            last: 0.0,
        }
    }
}

impl Stats {
    /// Takes one more value in.
    pub fn push(&mut self, value: f64) {
        if self.count == 0 {
            self.first = value;
        }
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.last = value;
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The least value; 0 of none.
    pub fn min(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.min }
    }

    /// The greatest value; 0 of none.
    pub fn max(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.max }
    }

    /// The mean value; 0 of none. Never outside of `min` and `max`, as the rounded sum of equal values could be.
    pub fn mean(&self) -> f64 {
        (self.sum / self.count.max(1) as f64)
            .max(self.min())
            .min(self.max())
    }

    /// The last value minus the first: what the session added. 0 of none.
    pub fn change(&self) -> f64 {
        self.last - self.first
    }
}

/// The course of a session in at most [`Curve::LIMIT`] points.
///
/// Points are samples as taken until the limit is reached, after ten minutes. Then neighbors are averaged in pairs, and
/// from there on each point is the mean of twice as many samples, and so on: a day takes no more memory than ten minutes.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    points: Vec<Sample>,
    /// Samples in each point.
    stride: u32,
    /// The sum of the samples that make no whole point yet.
    open: Sample,
    open_count: u32,
}

impl Default for Curve {
    fn default() -> Self {
        Self {
            points: Vec::new(),
            stride: 1,
            open: Sample::default(),
            open_count: 0,
        }
    }
}

impl Curve {
    /// Ten minutes at ten samples a second: more points than a plot has columns. Even, so that all points have a neighbor.
    pub const LIMIT: usize = 6000;

    /// Takes one more sample in, which is later than those before.
    pub fn push(&mut self, sample: &Sample) {
        if self.points.len() == Self::LIMIT {
            self.points = self
                .points
                .chunks(2)
                .map(|pair| mean(&sum(&pair[0], &pair[1]), 2))
                .collect();
            self.stride *= 2;
        }
        self.open = sum(&self.open, sample);
        self.open_count += 1;
        if self.open_count == self.stride {
            self.points.push(mean(&self.open, self.open_count));
            self.open = Sample::default();
            self.open_count = 0;
        }
    }

    /// All whole points, in order of time.
    pub fn points(&self) -> &[Sample] {
        &self.points
    }

    /// Time and value of each point, in seconds and in the metric's unit.
    pub fn line(&self, metric: Metric) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.points
            .iter()
            .map(move |point| (point.seconds, point.get(metric)))
    }

    /// Samples that each point is the mean of.
    pub fn samples_per_point(&self) -> u32 {
        self.stride
    }
}

fn sum(a: &Sample, b: &Sample) -> Sample {
    Sample {
        seconds: a.seconds + b.seconds,
        values: std::array::from_fn(|i| a.values[i] + b.values[i]),
    }
}

fn mean(sum: &Sample, count: u32) -> Sample {
    let count = f64::from(count);
    Sample {
        seconds: sum.seconds / count,
        values: sum.values.map(|v| v / count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(i: usize) -> Sample {
        Sample {
            seconds: i as f64,
            values: [i as f64, 0.0, 0.0, 1.0],
        }
    }

    #[test]
    fn figures_are_those_of_all_values() {
        let mut stats = Stats::default();
        for value in [3.0, -1.0, 7.0, 5.0] {
            stats.push(value);
        }
        assert_eq!(stats.count(), 4);
        assert_eq!((stats.min(), stats.mean(), stats.max()), (-1.0, 3.5, 7.0));
        assert_eq!(stats.change(), 2.0);
    }

    #[test]
    fn the_mean_of_equal_values_is_that_value() {
        for value in [0.1, -0.1] {
            let mut stats = Stats::default();
            (0..3).for_each(|_| stats.push(value));
            assert_eq!(
                (stats.min(), stats.mean(), stats.max()),
                (value, value, value)
            );
        }
    }

    #[test]
    fn a_session_without_samples_has_zeros_for_figures() {
        let none = Stats::default();
        assert_eq!(
            [none.min(), none.mean(), none.max(), none.change()],
            [0.0; 4]
        );
    }

    #[test]
    fn a_short_curve_holds_every_sample() {
        let mut curve = Curve::default();
        (0..Curve::LIMIT).for_each(|i| curve.push(&sample(i)));
        assert_eq!(curve.samples_per_point(), 1);
        assert_eq!(curve.points().len(), Curve::LIMIT);
        assert_eq!(curve.points()[17], sample(17));
    }

    #[test]
    fn a_long_curve_is_averaged_and_stays_within_its_limit() {
        let mut curve = Curve::default();
        for i in 0..10 * Curve::LIMIT {
            curve.push(&sample(i));
            assert!(curve.points().len() <= Curve::LIMIT);
        }
        assert_eq!(curve.samples_per_point(), 16);
        // The mean of 0 to 15, and each further point 16 on: time and value keep together.
        for (i, (seconds, value)) in curve.line(Metric::Cpu).enumerate() {
            assert_eq!(seconds, 7.5 + 16.0 * i as f64);
            assert_eq!(value, seconds);
        }
        assert!(curve.line(Metric::Ram).all(|(_, v)| v == 1.0));
    }
}
