//! The HTTP client: timeouts, name resolution and trusted certificates.

use std::{fs, io, path::Path, time::Duration};

use ureq::{
    Agent,
    config::Config,
    http::Uri,
    tls::{PemItem, RootCerts, TlsConfig, parse_pem},
    unversioned::{
        resolver::{ResolvedSocketAddrs, Resolver as UriResolver},
        transport::{DefaultConnector, NextTimeout},
    },
};

use super::{HubError, HubSettings};
use crate::resolver::Resolver;

/// Timeout of a connection attempt.
const CONNECT: Duration = Duration::from_secs(20);
/// Silence of this length counts as a dropped connection. The whole transfer has no limit: 5 GB may take a day.
const SILENCE: Duration = Duration::from_secs(60);
/// Maximum number of addresses that the client holds.
const MAX_ADDRESSES: usize = 16;

/// A client for a hub with `settings`.
pub(super) fn agent(settings: &HubSettings) -> Result<Agent, HubError> {
    let roots = match &settings.roots {
        Some(file) => roots(file)?,
        // Mozilla's, built in: independent of the machine.
        None => RootCerts::WebPki,
    };
    let config = Agent::config_builder()
        .http_status_as_error(false)
        // Redirects are followed in this module, so that the token stays with the hub and the hub's own headers are seen.
        .max_redirects(0)
        .max_redirects_will_error(false)
        // A compressed transfer could be neither resumed nor measured.
        .accept_encoding("identity")
        .user_agent(concat!("vggt/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .build();
    let resolver = UrlResolver(settings.resolver);
    Ok(Agent::with_parts(
        config,
        DefaultConnector::default(),
        resolver,
    ))
}

/// The certificates in a PEM file.
fn roots(file: &Path) -> Result<RootCerts, HubError> {
    let failed = |source| HubError::Roots {
        path: file.to_owned(),
        source,
    };
    let mut roots = Vec::new();
    for item in parse_pem(&fs::read(file).map_err(failed)?) {
        if let PemItem::Certificate(root) = item.map_err(|e| failed(io::Error::other(e)))? {
            roots.push(root);
        }
    }
    if roots.is_empty() {
        return Err(failed(io::Error::other(
            "there is no PEM certificate in it",
        )));
    }
    Ok(RootCerts::new_with_certs(&roots))
}

/// Adapts [`Resolver`] to the HTTP client.
#[derive(Debug)]
struct UrlResolver(Resolver);

impl UriResolver for UrlResolver {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let port = match (uri.port_u16(), uri.scheme_str()) {
            (Some(port), _) => port,
            (None, Some("https")) => 443,
            (None, _) => 80,
        };
        let mut found = self.empty();
        for address in self
            .0
            .addresses_blocking(host, port)?
            .into_iter()
            .take(MAX_ADDRESSES)
        {
            found.push(address);
        }
        Ok(found)
    }
}
