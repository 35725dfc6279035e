//! Proxies in front of the service that are trusted to tell the addresses of their clients.

use std::{net::IpAddr, str::FromStr};

use ipnet::IpNet;

/// A proxy that is trusted to tell the addresses of its clients: an address, or a network such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedProxy(IpNet);

impl TrustedProxy {
    pub(crate) fn is(&self, peer: IpAddr) -> bool {
        self.0.contains(&peer.to_canonical())
    }
}

/// The text is neither an address nor a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an address or a network such as 10.0.0.0/8")]
pub struct ParseProxyError;

impl FromStr for TrustedProxy {
    type Err = ParseProxyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let net = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address.to_canonical()),
            Err(_) => text.parse().map_err(|_| ParseProxyError)?,
        };
        Ok(Self(net.trunc()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trusted_proxy_is_an_address_or_a_network() {
        let is = |proxy: &str, peer: &str| {
            let proxy: TrustedProxy = proxy.parse().unwrap();
            proxy.is(peer.parse().unwrap())
        };
        assert!(is("127.0.0.1", "127.0.0.1") && !is("127.0.0.1", "127.0.0.2"));
        assert!(is("127.0.0.1", "::ffff:127.0.0.1") && is("::ffff:127.0.0.1", "127.0.0.1"));
        assert!(is("10.1.2.3/8", "10.200.0.1") && !is("10.0.0.0/8", "11.0.0.1"));
        assert!(is("2001:db8::/32", "2001:db8:5::1") && !is("::/0", "10.0.0.1"));
        for bad in [
            "",
            "proxy",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0/",
            "1.2.3.4:80",
        ] {
            assert_eq!(bad.parse::<TrustedProxy>(), Err(ParseProxyError), "{bad}");
        }
    }
}
