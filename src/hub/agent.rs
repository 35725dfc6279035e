//! The HTTP client underneath: its waits, whom it asks for addresses, and whom it trusts.

use std::{fs, io, path::Path, time::Duration};

use ureq::{
    Agent,
    config::Config,
    http::Uri,
    tls::{PemItem, RootCerts, TlsConfig, parse_pem},
    unversioned::{
        resolver::{ResolvedSocketAddrs, Resolver},
        transport::{DefaultConnector, NextTimeout},
    },
};

use super::{HubError, HubSettings};
use crate::names::Names;

/// A connection that is not made by then is not coming.
const CONNECT: Duration = Duration::from_secs(20);
/// Silence of this length counts as a dropped connection. The whole transfer has no limit: 5 GB may take a day.
const SILENCE: Duration = Duration::from_secs(60);
/// As many addresses as the client has room for.
const MAX_ADDRESSES: usize = 16;

/// A client for a hub with `settings`.
pub(super) fn agent(settings: &HubSettings) -> Result<Agent, HubError> {
    let roots = match &settings.roots {
        Some(file) => roots(file)?,
        // Mozilla's, built in: nothing of the machine is needed.
        None => RootCerts::WebPki,
    };
    let config = Agent::config_builder()
        .http_status_as_error(false)
        // Followed by the hub room, so that the token stays with the hub and the hub's own headers are seen.
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
    let resolver = NamesOfUrls(settings.names);
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
        return Err(failed(io::Error::other("it holds no certificate in PEM")));
    }
    Ok(RootCerts::new_with_certs(&roots))
}

/// [`Names`] as the HTTP client asks for them.
#[derive(Debug)]
struct NamesOfUrls(Names);

impl Resolver for NamesOfUrls {
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
