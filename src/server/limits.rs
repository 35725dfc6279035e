//! Limits per peer: bytes, time, connections.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

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
    /// Maximum number of connections from one address.
    pub connections_per_address: usize,
    /// Timeout of a connection without a request.
    pub idle: Duration,
    /// Timeout of a peer that sends or accepts nothing during a request.
    pub stall: Duration,
    /// Minimum average rate of an upload in bytes per second, once `stall` has passed.
    pub min_rate: u64,
    /// Maximum number of bytes of a rejected payload that are discarded to keep the connection; a longer one closes it.
    pub drain_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            upload_bytes: 512 << 20,
            images: DEFAULT_MAX_IMAGES,
            connections: 256,
            connections_per_address: 32,
            idle: Duration::from_secs(600),
            stall: Duration::from_secs(30),
            // A phone on a poor link still reaches 64 kbit/s.
            min_rate: 8 << 10,
            drain_bytes: 64 << 20,
        }
    }
}

/// Deadline of the next bytes of a payload: no pause longer than `stall`, and on average at least `min_rate`, so that a
/// peer cannot hold a connection with a byte now and then.
#[derive(Debug)]
pub(super) struct Pace {
    start: Instant,
    stall: Duration,
    min_rate: u64,
    received: u64,
}

impl Pace {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            start: Instant::now(),
            stall: limits.stall,
            min_rate: limits.min_rate.max(1),
            received: 0,
        }
    }

    pub(super) fn received(&mut self, bytes: usize) {
        self.received += bytes as u64;
    }

    /// Returns the time by which the next byte must arrive.
    pub(super) fn deadline(&self) -> Instant {
        let earned = Duration::from_secs_f64(self.received as f64 / self.min_rate as f64);
        (Instant::now() + self.stall).min(self.start + self.stall + earned)
    }
}

/// Number of connections by address.
#[derive(Debug, Default)]
pub(super) struct Addresses(Mutex<HashMap<IpAddr, usize>>);

impl Addresses {
    /// Counts a connection until the guard is dropped; `None` when the address has reached the maximum.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr, max: usize) -> Option<AddressGuard> {
        let mut counts = self.lock();
        let count = counts.entry(address).or_insert(0);
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(AddressGuard {
            addresses: self.clone(),
            address,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // The counts are consistent after a panic elsewhere.
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// One counted connection.
#[derive(Debug)]
pub(super) struct AddressGuard {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for AddressGuard {
    fn drop(&mut self) {
        let mut counts = self.addresses.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_connections_and_no_trace_of_old_ones() {
        let addresses = Arc::new(Addresses::default());
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let one = addresses.enter(a, 2).unwrap();
        let _two = addresses.enter(a, 2).unwrap();
        assert!(addresses.enter(a, 2).is_none());
        drop(addresses.enter(b, 2).unwrap());
        drop(one);
        assert!(addresses.enter(a, 2).is_some());
        assert_eq!(addresses.lock().len(), 1);
    }

    #[test]
    fn a_byte_now_and_then_earns_no_time() {
        let limits = Limits {
            stall: Duration::from_secs(10),
            min_rate: 1000,
            ..Limits::default()
        };
        let mut pace = Pace::new(&limits);
        let start = pace.start;
        pace.received(10);
        assert!(pace.deadline() <= start + Duration::from_millis(10_010));
        pace.received(1_000_000);
        let now = Instant::now();
        assert!(pace.deadline() <= now + Duration::from_secs(11));
        assert!(pace.deadline() >= now + Duration::from_secs(10));
    }
}
