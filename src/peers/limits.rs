//! Limits per peer: bytes and time.

use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::DEFAULT_MAX_IMAGES;

/// Limits per peer.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Maximum payload of an upload in bytes.
    pub upload_bytes: u64,
    /// Maximum number of images in a request.
    pub images: u32,
    /// Maximum number of connections.
    pub connections: usize,
    /// Maximum number of connections from one address; the 64 first 64 bits count for an IPv6 address.
    pub connections_per_address: usize,
    /// Maximum number of event streams, which are not counted as connections.
    pub event_streams: usize,
    /// Maximum number of event streams of one user.
    pub event_streams_per_user: usize,
    /// Timeout of a connection without a request.
    pub idle: Duration,
    /// Timeout of a peer that sends or accepts nothing during a request.
    pub stall: Duration,
    /// Minimum average rate of an upload in bytes per second, once `stall` has passed.
    pub min_rate: u64,
    /// Maximum number of bytes of a rejected payload that are discarded to keep the connection; a longer one closes it. Before
    /// a login it is at most [`DRAIN_BEFORE_LOGIN`].
    pub drain_bytes: u64,
}

/// Maximum number of bytes of a rejected payload that are discarded to keep a connection without a login.
pub const DRAIN_BEFORE_LOGIN: u64 = 1 << 20;

/// A time that never comes: some 30 years, as tokio's own timers have it.
const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);

/// Returns the time `wait` after `start`; one that no clock can show becomes one that never comes.
pub(crate) fn later(start: Instant, wait: Duration) -> Instant {
    start.checked_add(wait).unwrap_or(start + FAR)
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            upload_bytes: 512 << 20,
            images: DEFAULT_MAX_IMAGES,
            connections: 256,
            connections_per_address: 32,
            // Together with the connections well within the 1024 files that a process may often open; each takes some 100 KiB at most.
            event_streams: 512,
            // One user leaves as many to others.
            event_streams_per_user: 256,
            idle: Duration::from_secs(600),
            stall: Duration::from_secs(30),
            // A phone on a poor link still reaches 64 kbit/s.
            min_rate: 8 << 10,
            drain_bytes: 64 << 20,
        }
    }
}

/// Deadline of the next bytes of a payload: no pause longer than `stall`, and on average at least `min_rate`, so that a
/// peer cannot hold a connection with a byte now and then. Bytes that came faster earn `stall` at most: else a peer could send
/// most of an upload at once and hold the rest for hours.
#[derive(Debug)]
pub(crate) struct Pace {
    stall: Duration,
    min_rate: u64,
    /// By when the average is too low.
    due: Instant,
}

impl Pace {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            stall: limits.stall,
            min_rate: limits.min_rate.max(1),
            due: later(Instant::now(), limits.stall),
        }
    }

    pub(crate) fn received(&mut self, bytes: usize) {
        let earned = Duration::try_from_secs_f64(bytes as f64 / self.min_rate as f64);
        let earned = earned.unwrap_or(Duration::MAX);
        let most = later(later(Instant::now(), self.stall), self.stall);
        self.due = later(self.due, earned).min(most);
    }

    /// Returns the time by which the next byte must arrive.
    pub(crate) fn deadline(&self) -> Instant {
        later(Instant::now(), self.stall).min(self.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_now_and_then_earns_no_time() {
        let limits = Limits {
            stall: Duration::from_secs(10),
            min_rate: 1000,
            ..Limits::default()
        };
        let mut pace = Pace::new(&limits);
        let start = Instant::now();
        pace.received(10);
        assert!(pace.deadline() <= start + Duration::from_millis(10_010));
        pace.received(1_000_000);
        let now = Instant::now();
        assert!(pace.deadline() <= now + Duration::from_secs(11));
        assert!(pace.deadline() >= now + Duration::from_secs(10));
        // A thousand seconds ahead, but not for a thousand seconds.
        pace.received(1_000_000);
        assert!(pace.due <= Instant::now() + Duration::from_secs(20));
    }

    #[test]
    fn the_longest_time_there_is_does_not_overflow() {
        let limits = Limits {
            stall: Duration::MAX,
            min_rate: 0,
            ..Limits::default()
        };
        let mut pace = Pace::new(&limits);
        pace.received(usize::MAX);
        assert!(pace.deadline() > Instant::now());
        assert!(later(Instant::now(), Duration::MAX) > Instant::now());
    }
}
