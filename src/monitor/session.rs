//! A recording on a fixed schedule.

use std::time::{Duration, Instant};

use super::{Curve, Metric, MonitorError, Sample, Sampler, Stats};

/// Time from one sample to the next, that of the older script.
pub const PERIOD: Duration = Duration::from_millis(100);

/// How a session came to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum End {
    /// The watcher said so.
    #[default]
    Stopped,
    /// The time that was asked for is over.
    TimeUp,
    /// The process has ended.
    ProcessEnded,
}

/// One measurement from start to stop.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Session {
    /// Figures of each of [`Metric::ALL`].
    pub stats: [Stats; 4],
    /// The course.
    pub curve: Curve,
    /// Time from the start to the last sample.
    pub seconds: f64,
    /// Why it is over.
    pub end: End,
}

impl Session {
    /// Takes one more sample in.
    pub fn push(&mut self, sample: &Sample) {
        for (stats, value) in self.stats.iter_mut().zip(sample.values) {
            stats.push(value);
        }
        self.curve.push(sample);
        self.seconds = sample.seconds;
    }

    /// Figures of one metric.
    pub fn stats(&self, metric: Metric) -> &Stats {
        &self.stats[metric as usize]
    }

    /// Number of samples.
    pub fn samples(&self) -> u64 {
        self.stats[0].count()
    }
}

/// Who a recording reports to, and who ends it.
pub trait Watcher {
    /// Waits for that long, or less when the recording is to end. False ends it.
    fn wait(&mut self, time: Duration) -> bool;
    /// Sees each sample as it is taken. False ends the recording.
    fn sample(&mut self, sample: &Sample) -> bool;
}

/// Records one session: a sample at each multiple of [`PERIOD`] after the start, until the watcher ends it, `limit` is
/// over or the process has ended.
///
/// The multiples are those of one clock, so lateness does not add up; a sample that is late by a whole period is left out
/// rather than taken twice.
///
/// # Errors
/// When the source cannot be read.
pub fn record(
    sampler: &mut Sampler,
    limit: Option<Duration>,
    watcher: &mut dyn Watcher,
) -> Result<Session, MonitorError> {
    let mut session = Session::default();
    // CPU load is that since the last reading, which may be minutes ago.
    if sampler.read()?.is_none() {
        session.end = End::ProcessEnded;
        return Ok(session);
    }
    let start = Instant::now();
    let mut due = PERIOD;
    session.end = loop {
        if limit.is_some_and(|limit| due > limit) {
            break End::TimeUp;
        }
        if !watcher.wait(due.saturating_sub(start.elapsed())) {
            break End::Stopped;
        }
        let Some(values) = sampler.read()? else {
            break End::ProcessEnded;
        };
        let elapsed = start.elapsed();
        let sample = Sample {
            seconds: elapsed.as_secs_f64(),
            values,
        };
        session.push(&sample);
        if !watcher.sample(&sample) {
            break End::Stopped;
        }
        due = next_due(due, elapsed);
    };
    Ok(session)
}

/// The first multiple of [`PERIOD`] after both the last one and now.
fn next_due(due: Duration, elapsed: Duration) -> Duration {
    let periods = due.max(elapsed).as_nanos() / PERIOD.as_nanos() + 1;
    PERIOD.saturating_mul(u32::try_from(periods).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_does_not_add_up() {
        let ms = Duration::from_millis;
        assert_eq!(next_due(ms(100), ms(117)), ms(200));
        assert_eq!(next_due(ms(200), ms(299)), ms(300));
        // Late by more than a period: what was missed stays out.
        assert_eq!(next_due(ms(300), ms(655)), ms(700));
        // Woken early: no second sample for the same moment.
        assert_eq!(next_due(ms(700), ms(699)), ms(800));
    }

    /// Counts samples and never waits.
    struct Count(usize);

    impl Watcher for Count {
        fn wait(&mut self, _: Duration) -> bool {
            true
        }

        fn sample(&mut self, _: &Sample) -> bool {
            self.0 -= 1;
            self.0 > 0
        }
    }

    #[test]
    fn a_session_ends_when_its_watcher_says_so() {
        let mut sampler = Sampler::machine().unwrap();
        let session = record(&mut sampler, None, &mut Count(5)).unwrap();
        assert_eq!((session.samples(), session.end), (5, End::Stopped));
        assert!(session.stats(Metric::Ram).min() > 0.0);
        let cpu = session.stats(Metric::Cpu);
        assert!(cpu.min() >= 0.0 && cpu.max() <= 100.0, "{cpu:?}");
    }

    #[test]
    fn the_limit_counts_moments_that_were_due() {
        let mut sampler = Sampler::process(std::process::id()).unwrap();
        let session = record(&mut sampler, Some(3 * PERIOD), &mut Count(100)).unwrap();
        assert_eq!((session.samples(), session.end), (3, End::TimeUp));
    }
}
