//! Resolves host names to addresses.
//!
//! The dynamically linked program asks the C library. The static program must not: glibc loads further libraries of the
//! machine for that (`nsswitch.conf` names them), which an empty root file system does not have and which another version
//! of glibc cannot load. It reads `/etc/hosts` and `/etc/resolv.conf` itself, where they exist, and asks the name servers.
//! Both do so when a name server is set.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    str::FromStr,
};
#[cfg(feature = "builtin-resolver")]
use std::{net::Ipv4Addr, time::Duration};

#[cfg(feature = "builtin-resolver")]
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    system_conf::read_system_conf,
};

/// Default port of a name server.
const DNS_PORT: u16 = 53;
/// An answer that is not there by then is not coming: two servers that are silent twice, five seconds each.
#[cfg(feature = "builtin-resolver")]
const LIMIT: Duration = Duration::from_secs(20);

/// Why no name server can be asked.
#[cfg(not(feature = "builtin-resolver"))]
const NOT_BUILT: &str =
    "this program was built without a resolver of its own (feature `builtin-resolver`)";

/// Finds the addresses of machines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resolver {
    /// Name server to ask instead of the system's.
    server: Option<SocketAddr>,
}

impl FromStr for Resolver {
    type Err = String;

    /// Parses the address of the name server to ask, with a port unless that is 53. `/etc/hosts` still comes first.
    fn from_str(server: &str) -> Result<Self, Self::Err> {
        let server = server
            .parse()
            .or_else(|_| {
                let ip: IpAddr = server.parse()?;
                Ok(SocketAddr::new(ip, DNS_PORT))
            })
            .map_err(|_: std::net::AddrParseError| {
                format!(
                    "invalid name server {server:?}: expected an address such as 192.0.2.1 or [2001:db8::1]:53"
                )
            })?;
        #[cfg(not(feature = "builtin-resolver"))]
        return Err(format!("cannot ask the name server {server}: {NOT_BUILT}"));
        #[cfg(feature = "builtin-resolver")]
        Ok(Self {
            server: Some(server),
        })
    }
}

impl Resolver {
    /// Returns the addresses of `host`, a name or an IP address; at least one.
    ///
    /// # Errors
    /// When there is no such name, or no name server answers.
    pub async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let host = without_brackets(host);
        let addresses: Vec<_> = if self.bypasses_libc() {
            self.ask(host, port).await?
        } else {
            tokio::net::lookup_host((host, port)).await?.collect()
        };
        at_least_one(addresses, host)
    }

    /// As [`Resolver::addresses`], blocking; not for threads of an async runtime.
    ///
    /// # Errors
    /// As [`Resolver::addresses`].
    pub fn addresses_blocking(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if !self.bypasses_libc() {
            let host = without_brackets(host);
            return at_least_one((host, port).to_socket_addrs()?.collect(), host);
        }
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(self.addresses(host, port))
    }

    /// Returns true when the name servers are asked here, and not by the C library.
    fn bypasses_libc(&self) -> bool {
        self.server.is_some() || cfg!(target_feature = "crt-static")
    }

    #[cfg(not(feature = "builtin-resolver"))]
    async fn ask(&self, _host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, NOT_BUILT))
    }

    #[cfg(feature = "builtin-resolver")]
    async fn ask(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        // An IP address needs no name server, and no valid settings.
        if let Ok(ip) = host.parse() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let (config, mut options) = self.settings()?;
        // Every machine has a route to IPv4; an IPv6 address without one costs a failed attempt.
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        let servers: Vec<_> = config
            .name_servers()
            .iter()
            .map(|server| server.ip.to_string())
            .collect();
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map_err(io::Error::other)?;
        let found = tokio::time::timeout(LIMIT, resolver.lookup_ip(host)).await;
        let found = found.unwrap_or(Err(NetError::Timeout)).map_err(|e| {
            let servers = servers.join(" and ");
            if e.is_no_records_found() {
                let what = format!("the name server {servers} has no address of {host:?}");
                io::Error::new(io::ErrorKind::NotFound, what)
            } else {
                io::Error::other(format!(
                    "cannot ask the name server {servers} for the address of {host:?}: {e}; set VGGT_NAME_SERVER=ADDRESS to use another"
                ))
            }
        })?;
        Ok(found.iter().map(|ip| SocketAddr::new(ip, port)).collect())
    }

    /// Whom to ask, and how.
    #[cfg(feature = "builtin-resolver")]
    fn settings(&self) -> io::Result<(ResolverConfig, ResolverOpts)> {
        let only = |server| ResolverConfig::from_name_servers(vec![server]);
        if let Some(address) = self.server {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut way| {
                way.port = address.port();
                way
            });
            let server = NameServerConfig::new(address.ip(), true, connections.into());
            return Ok((only(server), ResolverOpts::default()));
        }
        match read_system_conf().map_err(of_net) {
            Ok(settings) => Ok(settings),
            // resolv.conf(5): without the file the name server on this machine is asked.
            Err(NetError::Io(e)) if e.kind() == io::ErrorKind::NotFound => {
                let here = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
                Ok((only(here), ResolverOpts::default()))
            }
            Err(e) => Err(io::Error::other(format!(
                "cannot use /etc/resolv.conf: {e}; set VGGT_NAME_SERVER=ADDRESS to use a name server directly"
            ))),
        }
    }
}

/// The error of reading the system's settings, which is one of two types: another one on Linux than on macOS and Windows.
#[cfg(feature = "builtin-resolver")]
fn of_net(e: impl Into<NetError>) -> NetError {
    e.into()
}

/// Removes the brackets that an IPv6 address has in a URL.
fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

fn at_least_one(addresses: Vec<SocketAddr>, host: &str) -> io::Result<Vec<SocketAddr>> {
    if addresses.is_empty() {
        let what = format!("{host:?} has no address");
        return Err(io::Error::new(io::ErrorKind::NotFound, what));
    }
    Ok(addresses)
}
