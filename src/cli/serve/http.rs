//! The flag of the HTTP port.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use tokio::net::TcpListener;

use crate::{
    http::{HttpSettings, Origin, Setup, Tls},
    peers::TrustedProxy,
    resolver::Resolver,
    store::random_hash,
    web,
};

/// Where HTTP is served unless an option says otherwise: on this machine alone, one above the TCP port.
const DEFAULT: (&str, u16) = ("127.0.0.1", 4568);

/// The HTTP port.
#[derive(Debug, clap::Args)]
pub(super) struct HttpArgs {
    /// Address and port on which to serve HTTP, or "off"; port 0 takes a free one [default: 127.0.0.1:4568, if it is free]
    #[arg(long, value_name = "ADDRESS")]
    http: Option<HttpAddress>,
    /// Serve HTTPS instead of HTTP with this certificate (PEM, with those of the authorities between); read again on SIGHUP
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Let pages of this origin, a scheme and a host, use the API with a token; may be repeated [default: none]
    #[arg(long, value_name = "ORIGIN", hide_short_help = true)]
    http_origin: Vec<Origin>,
    /// An address or network from which GET /metrics may be read, beside this machine; may be repeated
    #[arg(long, value_name = "ADDRESS[/LEN]", hide_short_help = true)]
    metrics_from: Vec<TrustedProxy>,
}

/// Where HTTP is served.
#[derive(Debug, Clone, PartialEq, Eq)]
enum HttpAddress {
    Off,
    At(String, u16),
}

impl FromStr for HttpAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str =
            "expected an address and a port such as 127.0.0.1:4568, a port, or \"off\"";
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self::Off);
        }
        let (host, port) = text.rsplit_once(':').unwrap_or((DEFAULT.0, text));
        let port = port.parse().map_err(|_| EXPECTED)?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        match bare.unwrap_or(host) {
            "" => Err(EXPECTED),
            // Without brackets the last group of the address would be taken for the port.
            address if bare.is_none() && address.contains(':') => Err(EXPECTED),
            address => Ok(Self::At(address.to_owned(), port)),
        }
    }
}

/// Where a process that takes no requests serves its metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MetricsAddress(HttpAddress);

impl FromStr for MetricsAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(
            |_| "expected an address and a port such as 127.0.0.1:9464, a port, or \"off\"",
        )
    }
}

/// Listens for those who read metrics; `None` when that is off.
///
/// # Errors
/// When the address cannot be had.
pub(super) async fn listen_for_metrics(at: &MetricsAddress) -> anyhow::Result<Option<TcpListener>> {
    let HttpAddress::At(host, port) = &at.0 else {
        return Ok(None);
    };
    let resolver = crate::cli::resolver()?;
    let listener = async {
        let addresses = resolver.addresses(host, *port).await?;
        TcpListener::bind(&addresses[..]).await
    };
    let listener = listener.await.with_context(|| {
        format!("cannot serve metrics on {host}:{port}; --http takes another address, or \"off\"")
    })?;
    Ok(Some(listener))
}

impl HttpArgs {
    /// Reads the certificate, if there is to be one.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(super) fn tls(&self) -> anyhow::Result<Option<Arc<Tls>>> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => {
                let tls = Tls::open(certificate, key)?;
                Ok(Some(Arc::new(tls)))
            }
            _ => Ok(None),
        }
    }

    /// Returns the settings; `at` is where HTTP is served, where nobody can log in yet.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(super) fn settings(
        &self,
        grace: Duration,
        tls: Option<Arc<Tls>>,
        at: Option<SocketAddr>,
    ) -> anyhow::Result<HttpSettings> {
        let setup = match at {
            Some(at) => Some(tell_setup(at, tls.is_some())?),
            None => None,
        };
        Ok(HttpSettings {
            grace,
            tls,
            origins: self.http_origin.clone(),
            setup,
        })
    }

    pub(super) fn metrics_from(&self) -> Vec<TrustedProxy> {
        self.metrics_from.clone()
    }

    /// Listens where the flag says; `None` when HTTP is off, or the default cannot be had.
    ///
    /// # Errors
    /// When an address that was asked for cannot be had.
    pub(super) async fn listen(&self, resolver: &Resolver) -> anyhow::Result<Option<TcpListener>> {
        match &self.http {
            Some(HttpAddress::Off) => Ok(None),
            Some(HttpAddress::At(host, port)) => {
                let listener = async {
                    let addresses = resolver.addresses(host, *port).await?;
                    TcpListener::bind(&addresses[..]).await
                };
                let listener = listener.await.with_context(|| {
                    format!("cannot serve HTTP on {host}:{port}; --http takes another address, or \"off\"")
                })?;
                Ok(Some(listener))
            }
            None => match TcpListener::bind(DEFAULT).await {
                Ok(listener) => Ok(Some(listener)),
                Err(e) => {
                    let (host, port) = DEFAULT;
                    tracing::warn!(
                        "HTTP is not served: cannot listen on {host}:{port}: {e}; --http takes another address, or \"off\""
                    );
                    Ok(None)
                }
            },
        }
    }
}

/// Returns how a browser on this machine reaches the port.
fn address_here(mut at: SocketAddr, is_tls: bool) -> String {
    if at.ip().is_unspecified() {
        at.set_ip(match at.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let scheme = if is_tls { "https" } else { "http" };
    format!("{scheme}://{at}")
}

/// Tells the address of the web app, or how to get it.
pub(super) fn tell_app(at: SocketAddr, is_tls: bool) {
    match web::is_built() {
        true => tracing::info!("the web app is at {}/", address_here(at, is_tls)),
        false => tracing::info!("there is no web app: {}", web::MISSING),
    }
}

/// Tells the link that makes the first user.
fn tell_setup(at: SocketAddr, is_tls: bool) -> anyhow::Result<Setup> {
    let (secret, address) = (random_hash()?, address_here(at, is_tls));
    tracing::warn!(
        "nobody can log in yet: make the first user on this machine at {address}/setup/{secret} or with `vggt user add NAME`"
    );
    Ok(Setup::new(&secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_or_off() {
        let at = |host: &str, port| Ok(HttpAddress::At(host.to_owned(), port));
        assert_eq!("off".parse(), Ok(HttpAddress::Off));
        assert_eq!("OFF".parse(), Ok(HttpAddress::Off));
        assert_eq!("0.0.0.0:80".parse(), at("0.0.0.0", 80));
        assert_eq!("localhost:0".parse(), at("localhost", 0));
        assert_eq!("[::1]:4568".parse(), at("::1", 4568));
        assert_eq!("8080".parse(), at("127.0.0.1", 8080));
        for bad in [
            "",
            ":80",
            "localhost",
            "1.2.3.4:",
            "1.2.3.4:65536",
            "::1",
            "[]:80",
            "-1",
            "on",
        ] {
            assert!(bad.parse::<HttpAddress>().is_err(), "{bad}");
        }
    }
}
