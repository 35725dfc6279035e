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
pub(super) struct Lane {
    pub(super) failed: u32,
    /// Passwords that are being checked: counted as if they had failed.
    pub(super) checking: u32,
    pub(super) last: Instant,
    /// Time before which none is checked.
    pub(super) not_before: Instant,
}

impl Lane {
    pub(super) fn fresh(now: Instant) -> Self {
        Self {
            failed: 0,
            checking: 0,
            last: now,
            not_before: now,
        }
    }

    pub(super) fn is_over(&self, rate: &Rate, now: Instant) -> bool {
        self.checking == 0 && (self.failed == 0 || now.duration_since(self.last) > rate.forget)
    }

    /// True when the next password may be checked now. Those in progress count as failed, so that many at once are no
    /// faster than one after the other.
    pub(super) fn is_free(&self, rate: &Rate, now: Instant) -> bool {
        let tried = self.failed.saturating_add(self.checking);
        now >= self.not_before && (self.checking == 0 || tried < rate.parallel())
    }

    /// Ends a check; `good` takes the attempt back.
    pub(super) fn end(&mut self, rate: &Rate, good: bool, now: Instant) {
        self.checking = self.checking.saturating_sub(1);
        if !good {
            self.failed = self.failed.saturating_add(1);
            self.last = now;
            let next = later(now, rate.delay_after(self.failed));
            self.not_before = self.not_before.max(next);
        }
    }

    /// Forgets failed logins.
    pub(super) fn forgive(&mut self) {
        (self.failed, self.not_before) = (0, self.last);
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

    /// As [`Lane::is_free`].
    pub(super) fn is_free(&self, key: &K, now: Instant) -> bool {
        self.get(key, now)
            .is_none_or(|lane| lane.is_free(&self.rate, now))
    }

    /// Time before which no password is checked.
    pub(super) fn not_before(&self, key: &K, now: Instant) -> Instant {
        self.get(key, now).map_or(now, |lane| lane.not_before)
    }

    /// Counts a password that is being checked.
    pub(super) fn start(&mut self, key: &K, now: Instant) {
        self.make_room(key, now);
        let fresh = Lane::fresh(now);
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
        lane.end(&self.rate, good, now);
        if good && lane.is_over(&self.rate, now) {
            self.lanes.remove(key);
        }
    }

    /// Takes over what a ledger says of a lane. Passwords that are being checked here stay counted.
    pub(super) fn adopt(&mut self, key: &K, told: Lane, now: Instant) {
        let is_over = told.failed == 0 && told.not_before <= now;
        if is_over && !self.lanes.contains_key(key) {
            return;
        }
        self.make_room(key, now);
        let checking = self.lanes.get(key).map_or(0, |lane| lane.checking);
        if is_over && checking == 0 {
            self.lanes.remove(key);
        } else {
            self.lanes.insert(key.clone(), Lane { checking, ..told });
        }
    }

    /// Forgets failed logins.
    pub(super) fn forgive(&mut self, key: &K) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.forgive();
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
