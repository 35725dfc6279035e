//! What one peer may do, whichever port it comes to: connections, bytes, time, failed logins.
//!
//! Knows no sockets and no requests. Both ports share one [`Peers`]: an address has so many connections to the service, and a
//! guess at a password counts wherever it is made.

mod address;
mod limits;
mod login_guard;
mod places;
mod trusted_proxy;

use std::{net::IpAddr, sync::Arc};

use crate::metrics::Metrics;

pub(crate) use self::{
    address::Block,
    limits::{Pace, later},
    login_guard::LoginGuard,
    places::{NoPlace, Place, Places},
};
pub use self::{
    limits::{DRAIN_BEFORE_LOGIN, Limits},
    login_guard::{Change, Ledger, LoginSettings, Standing},
    trusted_proxy::{ParseProxyError, TrustedProxy},
};

/// Settings of [`Peers`].
#[derive(Debug, Clone, Default)]
pub struct PeerSettings {
    /// Limits per peer.
    pub limits: Limits,
    /// Rate limit for failed logins, and the time for one.
    pub login: LoginSettings,
    /// Proxies that tell the addresses of their clients.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// From where the metrics may be read, beside this machine.
    pub metrics_from: Vec<TrustedProxy>,
    /// Where connections and logins are counted.
    pub metrics: Arc<Metrics>,
    /// Where failed logins are counted together with other front ends.
    pub ledger: Option<Arc<dyn Ledger>>,
}

/// The limits of all peers, and what is counted against them.
#[derive(Debug)]
pub struct Peers {
    pub(crate) limits: Limits,
    pub(crate) login: LoginSettings,
    trusted_proxies: Vec<TrustedProxy>,
    metrics_from: Vec<TrustedProxy>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) guard: LoginGuard,
    places: Arc<Places>,
}

impl Peers {
    /// `known` are addresses from which somebody has logged in before.
    pub fn new(settings: PeerSettings, known: &[String]) -> Self {
        let known = known.iter().filter_map(|text| text.parse().ok());
        let places = Places::new(&settings.limits, known.map(Block::of));
        Self {
            guard: LoginGuard::new(
                settings.login.clone(),
                settings.metrics.clone(),
                settings.ledger,
            ),
            limits: settings.limits,
            login: settings.login,
            trusted_proxies: settings.trusted_proxies,
            metrics_from: settings.metrics_from,
            metrics: settings.metrics,
            places,
        }
    }

    /// Returns true for a proxy that is trusted to tell the addresses of its clients.
    pub(crate) fn is_proxy(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|proxy| proxy.is(peer))
    }

    /// Takes a place for a new connection, which is counted for its address, unless that is a proxy's.
    pub(crate) fn enter(&self, peer: IpAddr) -> Result<Place, NoPlace> {
        let block = (!self.is_proxy(peer)).then(|| Block::of(peer));
        self.places.enter(block)
    }

    /// Returns true where a peer, the other end of a connection, may read the metrics: on this machine, or where the operator says so. A
    /// trusted proxy speaks for others and may not.
    pub(crate) fn may_read_metrics(&self, peer: IpAddr) -> bool {
        let allowed = peer.is_loopback() || self.metrics_from.iter().any(|net| net.is(peer));
        allowed && !self.is_proxy(peer)
    }

    /// Returns the number of open event streams.
    pub(crate) fn event_streams(&self) -> usize {
        self.places.event_streams()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_for_this_machine_and_the_networks_that_are_named_but_for_proxies() {
        let net = |text: &str| vec![text.parse().unwrap()];
        let peers = Peers::new(
            PeerSettings {
                trusted_proxies: net("10.0.0.1"),
                metrics_from: net("10.0.0.0/24"),
                ..PeerSettings::default()
            },
            &[],
        );
        let may = |peer: &str| peers.may_read_metrics(peer.parse().unwrap());
        assert!(may("127.0.0.1") && may("127.9.9.9") && may("::1") && may("10.0.0.2"));
        assert!(!may("10.0.0.1") && !may("10.0.1.2") && !may("192.0.2.1") && !may("2001:db8::1"));
    }
}
