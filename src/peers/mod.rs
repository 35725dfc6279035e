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

pub(crate) use self::{
    address::Block,
    limits::{Pace, later},
    login_guard::LoginGuard,
    places::{NoPlace, Place, Places},
};
pub use self::{
    limits::{DRAIN_BEFORE_LOGIN, Limits},
    login_guard::LoginSettings,
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
}

/// The limits of all peers, and what is counted against them.
#[derive(Debug)]
pub struct Peers {
    pub(crate) limits: Limits,
    pub(crate) login: LoginSettings,
    trusted_proxies: Vec<TrustedProxy>,
    pub(crate) guard: LoginGuard,
    places: Arc<Places>,
}

impl Peers {
    /// `known` are addresses from which somebody has logged in before.
    pub fn new(settings: PeerSettings, known: &[String]) -> Self {
        let known = known.iter().filter_map(|text| text.parse().ok());
        let places = Places::new(&settings.limits, known.map(Block::of));
        Self {
            guard: LoginGuard::new(settings.login.clone()),
            limits: settings.limits,
            login: settings.login,
            trusted_proxies: settings.trusted_proxies,
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
}
