//! How fast passwords of one account, address or pair of both are checked: without delay at first, then one at a time.

use std::{collections::HashMap, hash::Hash, time::Duration};

use tokio::time::Instant;

use crate::peers::later;

/// Maximum number of lanes of one kind; those with the fewest failures are dropped first, so that made-up names do not push
/// out an account under attack.
pub(super) const REMEMBERED: usize = 10_000;

/// The speed of a lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// Failed logins after which there is no delay yet.
    pub(super) free: u32,
    /// Failed logins from which on the delay is the longest.
    pub(super) limit: u32,
    /// Delay after the next failed login; it doubles with each further one.
    pub(super) delay: Duration,
    /// Longest delay.
    pub(super) max_delay: Duration,
    /// Failed logins are forgotten after this time without another.
    pub(super) forget: Duration,
}

impl Rate {
    /// Number of passwords that are checked at the same time as long as none failed.
    fn parallel(&self) -> u32 {
        self.free.saturating_add(1).min(self.limit)
    }

    fn delay_after(&self, failed: u32) -> Duration {
        if failed >= self.limit {
            return self.max_delay;
        }
        match failed.saturating_sub(self.free) {
            0 => Duration::ZERO,
            n => self
                .delay
                .saturating_mul(1 << (n - 1).min(16))
                .min(self.max_delay),
        }
    }
}

/// Recent logins of one account, address or pair.
#[derive(Debug, Clone, Copy)]
struct Lane {
    failed: u32,
    /// Passwords that are being checked: counted as if they had failed.
    checking: u32,
    last: Instant,
    /// Time before which none is checked.
    not_before: Instant,
}

impl Lane {
    fn is_over(&self, rate: &Rate, now: Instant) -> bool {
        self.checking == 0 && (self.failed == 0 || now.duration_since(self.last) > rate.forget)
    }
}

/// All lanes of one kind.
#[derive(Debug)]
pub(super) struct Lanes<K> {
    pub(super) rate: Rate,
    lanes: HashMap<K, Lane>,
}

impl<K: Eq + Hash + Clone> Lanes<K> {
    pub(super) fn new(rate: Rate) -> Self {
        Self {
            rate,
            lanes: HashMap::new(),
        }
    }

    fn get(&self, key: &K, now: Instant) -> Option<&Lane> {
        self.lanes
            .get(key)
            .filter(|lane| !lane.is_over(&self.rate, now))
    }

    /// Number of failed logins that are still remembered.
    pub(super) fn failed(&self, key: &K, now: Instant) -> u32 {
        self.get(key, now).map_or(0, |lane| lane.failed)
    }

    /// True when the next password may be checked now. Those in progress count as failed, so that many at once are no
    /// faster than one after the other.
    pub(super) fn is_free(&self, key: &K, now: Instant) -> bool {
        self.get(key, now).is_none_or(|lane| {
            let tried = lane.failed.saturating_add(lane.checking);
            now >= lane.not_before && (lane.checking == 0 || tried < self.rate.parallel())
        })
    }

    /// Time before which no password is checked.
    pub(super) fn not_before(&self, key: &K, now: Instant) -> Instant {
        self.get(key, now).map_or(now, |lane| lane.not_before)
    }

    /// Counts a password that is being checked.
    pub(super) fn start(&mut self, key: &K, now: Instant) {
        self.make_room(key, now);
        let fresh = Lane {
            failed: 0,
            checking: 0,
            last: now,
            not_before: now,
        };
        let lane = self.lanes.entry(key.clone()).or_insert(fresh);
        if lane.is_over(&self.rate, now) {
            *lane = fresh;
        }
        lane.checking += 1;
    }

    /// Ends what [`Lanes::start`] began; `good` takes the attempt back.
    pub(super) fn end(&mut self, key: &K, good: bool, now: Instant) {
        let Some(lane) = self.lanes.get_mut(key) else {
            return;
        };
        lane.checking = lane.checking.saturating_sub(1);
        if !good {
            lane.failed = lane.failed.saturating_add(1);
            lane.last = now;
            lane.not_before = lane
                .not_before
                .max(later(now, self.rate.delay_after(lane.failed)));
        } else if lane.is_over(&self.rate, now) {
            self.lanes.remove(key);
        }
    }

    /// Forgets failed logins.
    pub(super) fn forgive(&mut self, key: &K) {
        if let Some(lane) = self.lanes.get_mut(key) {
            (lane.failed, lane.not_before) = (0, lane.last);
        }
    }

    fn make_room(&mut self, key: &K, now: Instant) {
        if self.lanes.len() < REMEMBERED || self.lanes.contains_key(key) {
            return;
        }
        let rate = self.rate;
        self.lanes.retain(|_, lane| !lane.is_over(&rate, now));
        if self.lanes.len() < REMEMBERED {
            return;
        }
        let idle = self.lanes.iter().filter(|(_, lane)| lane.checking == 0);
        let least = idle.min_by_key(|(_, lane)| (lane.failed, lane.last));
        if let Some(least) = least.map(|(key, _)| key.clone()) {
            self.lanes.remove(&least);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }
}
