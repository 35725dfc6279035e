//! Drawings of sessions: one panel for each metric, one line for each session.

mod axis;
mod picture;
mod terminal;

pub use self::{
    picture::{png, svg},
    terminal::{Ink, text},
};

use super::{Metric, Session};
use axis::Axis;

/// The value axis of a panel that shows `metric` of all sessions.
fn value_axis(metric: Metric, sessions: &[Session]) -> Axis {
    let stats = sessions
        .iter()
        .filter(|s| s.samples() > 0)
        .map(|s| s.stats(metric));
    let (min, max) = stats.fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), s| {
        (min.min(s.min()), max.max(s.max()))
    });
    match metric {
        // A load is read against what there is. A process on many CPUs goes beyond.
        Metric::Cpu | Metric::Gpu => Axis::covering(0.0, max.max(100.0)),
        // A change of memory is small compared with the whole; the lowest line keeps some space below it.
        Metric::Vram | Metric::Ram if min > 0.5 * max => Axis::covering(min, max),
        Metric::Vram | Metric::Ram => Axis::covering(0.0, max),
    }
}

/// The longest session in seconds, at least one period's worth so that an axis has a length.
fn longest_s(sessions: &[Session]) -> f64 {
    let period = super::PERIOD.as_secs_f64();
    sessions.iter().map(|s| s.seconds).fold(period, f64::max)
}
