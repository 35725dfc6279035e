//! Round ends for a value axis.

/// A range between round numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
    step: f64,
}

/// Steps that people count in, as parts of a power of ten.
const ROUND: [f64; 4] = [1.0, 2.0, 5.0, 10.0];

/// The smallest step: what a figure is printed to, a megabyte.
const SMALLEST_STEP: f64 = 0.001;

impl Axis {
    /// The range around `min..=max` that is about five round steps long. No numbers or no difference make a range all the same.
    pub(super) fn covering(min: f64, max: f64) -> Self {
        if !min.is_finite() || !max.is_finite() || max <= 0.0 {
            return Self {
                low: 0.0,
                high: 1.0,
                step: 0.2,
            };
        }
        let rough = ((max - min) / 5.0).max(SMALLEST_STEP);
        let power = 10f64.powf(rough.log10().floor());
        // A hair less, for a rough step that is a round one but for its last bit.
        let step = ROUND
            .into_iter()
            .map(|round| round * power)
            .find(|step| *step >= rough * (1.0 - 1e-9))
            .unwrap_or(10.0 * power);
        let low = (min / step).floor() * step;
        let high = ((max / step - 1e-9).ceil() * step).max(low + step);
        Self { low, high, step }
    }

    /// A number of this axis, with as many decimals as its steps differ in.
    pub(super) fn label(&self, value: f64) -> String {
        let decimals = (-self.step.log10() - 1e-9).ceil().clamp(0.0, 3.0) as usize;
        // Steps add up to -0.000 at times.
        let value = if value.abs() < self.step / 1e3 {
            0.0
        } else {
            value
        };
        format!("{value:.decimals$}")
    }

    /// The numbers to print, from low to high.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let count = ((self.high - self.low) / self.step).round() as u32;
        (0..=count)
            .map(|i| self.low + f64::from(i) * self.step)
            .collect()
    }

    /// Where a value lies between low (0) and high (1).
    pub(super) fn place(&self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_round_and_hold_all_values() {
        for (min, max, low, high) in [
            (0.0, 100.0, 0.0, 100.0),
            (0.0, 387.0, 0.0, 400.0),
            (3.81, 4.07, 3.8, 4.1),
            (7.0, 7.0, 7.0, 7.001),
            (0.0, 0.0, 0.0, 1.0),
            (f64::INFINITY, f64::NEG_INFINITY, 0.0, 1.0),
        ] {
            let axis = Axis::covering(min, max);
            assert!(
                (axis.low - low).abs() < 1e-9 && (axis.high - high).abs() < 1e-9,
                "{axis:?}"
            );
            assert!((1..=8).contains(&(axis.ticks().len() - 1)), "{axis:?}");
        }
    }

    #[test]
    fn labels_tell_their_steps_apart() {
        let labels = |min, max| {
            let axis = Axis::covering(min, max);
            axis.ticks()
                .into_iter()
                .map(|t| axis.label(t))
                .collect::<Vec<_>>()
        };
        assert_eq!(labels(0.0, 100.0), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(labels(3.81, 3.97), ["3.80", "3.85", "3.90", "3.95", "4.00"]);
    }
}
