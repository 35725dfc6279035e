//! CPU time, from `/proc/stat` and `/proc/PID/stat`.

use std::time::{Duration, Instant};

/// Ticks of CPU time in a second. The kernel counts in its own unit but shows user space this one on every
/// architecture that Rust's gnu targets cover (`USER_HZ`, proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Time of all CPUs together since the machine started, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MachineTime {
    busy: u64,
    all: u64,
}

impl MachineTime {
    /// Reads the first line of `/proc/stat`: user nice system idle iowait irq softirq steal, then guest times, which are
    /// part of user and nice already.
    pub(super) fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|l| l.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line
            .split_ascii_whitespace()
            .take(8)
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        let all = ticks.iter().sum();
        let idle = *ticks.get(3)? + ticks.get(4).unwrap_or(&0);
        Some(Self {
            busy: all - idle,
            all,
        })
    }

    /// Busy share of all CPUs since `earlier`, 0 to 100; 0 where no tick has passed.
    pub(super) fn percent_since(self, earlier: Self) -> f64 {
        // The kernel lets iowait run backwards now and then.
        let all = self.all.saturating_sub(earlier.all);
        let busy = self.busy.saturating_sub(earlier.busy).min(all);
        if all == 0 {
            return 0.0;
        }
        100.0 * busy as f64 / all as f64
    }
}

/// CPU time of one process with all its threads, as of a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProcessTime {
    ticks: u64,
    at: Instant,
}

impl ProcessTime {
    /// Reads `/proc/PID/stat`; `Some(None)` is a process that has ended and waits for its parent to notice.
    pub(super) fn parse(stat: &str, at: Instant) -> Option<Option<Self>> {
        // The name in parentheses may hold blanks and parentheses itself.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Field numbers of proc(5) minus 3: the state is the first field after the name.
        if matches!(*fields.first()?, "Z" | "X") {
            return Some(None);
        }
        let user: u64 = fields.get(11)?.parse().ok()?;
        let system: u64 = fields.get(12)?.parse().ok()?;
        Some(Some(Self {
            ticks: user + system,
            at,
        }))
    }

    /// CPU time per time since `earlier`; 100 is one CPU fully busy.
    pub(super) fn percent_since(self, earlier: Self) -> f64 {
        let elapsed = self.at.saturating_duration_since(earlier.at);
        if elapsed == Duration::ZERO {
            return 0.0;
        }
        let busy_s = self.ticks.saturating_sub(earlier.ticks) as f64 / TICKS_PER_SECOND;
        100.0 * busy_s / elapsed.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(line: &str) -> MachineTime {
        MachineTime::parse(line).unwrap()
    }

    #[test]
    fn waiting_for_the_disk_is_idle_and_guests_count_once() {
        let before = machine("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 2 3 4");
        let after = machine("cpu  120 5 110 830 30 3 2 0 20 5\n");
        assert_eq!(after.percent_since(before), 40.0);
        assert_eq!(before.percent_since(before), 0.0);
    }

    #[test]
    fn time_that_runs_backwards_is_no_use() {
        let before = machine("cpu  100 0 100 800 50 0 0 0");
        let after = machine("cpu  100 0 100 800 40 0 0 0");
        assert_eq!(after.percent_since(before), 0.0);
    }

    #[test]
    fn the_name_of_a_process_may_hold_anything() {
        let at = Instant::now();
        let stat = |ticks: u64| format!("7 (a) R (b) S 1 7 7 0 -1 4 0 0 0 0 {ticks} 5 0 0 20");
        let early = ProcessTime::parse(&stat(10), at).unwrap().unwrap();
        let late = ProcessTime::parse(&stat(40), at + Duration::from_millis(200));
        let percent = late.unwrap().unwrap().percent_since(early);
        assert!((percent - 150.0).abs() < 1e-9, "{percent}");
    }

    #[test]
    fn a_process_that_nobody_has_waited_for_has_ended() {
        let gone = ProcessTime::parse("7 (a) Z 1 7 7 0 -1 4 0 0 0 0 1 5", Instant::now());
        assert!(gone.unwrap().is_none());
        assert!(ProcessTime::parse("7 (a", Instant::now()).is_none());
    }
}
