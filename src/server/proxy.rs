//! The header in which a trusted proxy tells the address of its client.
//!
//! The format is the PROXY protocol of HAProxy, versions 1 and 2 (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>). A
//! trusted proxy must send it; from everybody else the same bytes are an unknown command.

use std::{io, net::IpAddr, time::Duration};

use tokio::time::timeout;

use super::inbox::Inbox;

/// Time for a whole header, which a proxy sends at once.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that are read before the version is known; the shortest header has 15.
const BEGIN: usize = 13;

/// Length of a header of version 2 before its addresses.
const V2_FIXED: usize = 16;

/// Maximum length of what follows in version 2: addresses have at most 216 bytes, the rest is optional fields such as the
/// name of a certificate.
const V2_REST_MAX: usize = 4096;

/// Maximum length of a header of version 1, by its specification.
const V1_MAX: usize = 107;

/// Why a header is not accepted.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    /// The proxy closed the connection first, as checks of its health do.
    #[error("closed before the header")]
    Closed,
    /// It did not arrive in time.
    #[error("no PROXY header in time")]
    Slow,
    /// The bytes are not a header.
    #[error("not a PROXY header: {0}")]
    Malformed(String),
}

impl From<io::Error> for HeaderError {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

/// Reads a header and not a byte more. Returns the client's address; `None` for a connection of the proxy itself or of a
/// client without an IP address.
pub(super) async fn read_header(inbox: &mut Inbox) -> Result<Option<IpAddr>, HeaderError> {
    match timeout(HEADER_TIMEOUT, read(inbox)).await {
        Ok(read) => read,
        Err(_) => Err(HeaderError::Slow),
    }
}

async fn read(inbox: &mut Inbox) -> Result<Option<IpAddr>, HeaderError> {
    let mut header = vec![0; BEGIN];
    // A byte that begins neither version is not followed by a header: there is nothing to wait for.
    inbox.read_exact(&mut header[..1]).await?;
    match header[0] {
        b'P' => {
            inbox.read_exact(&mut header[1..]).await?;
            while !header.ends_with(b"\r\n") {
                if header.len() >= V1_MAX {
                    return Err(HeaderError::Malformed("a line without an end".to_owned()));
                }
                let mut byte = [0];
                inbox.read_exact(&mut byte).await?;
                header.extend(byte);
            }
            version_1(&header)
        }
        b'\r' => {
            header.resize(V2_FIXED, 0);
            inbox.read_exact(&mut header[1..]).await?;
            let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
            if !header.starts_with(ppp::v2::PROTOCOL_PREFIX) || rest > V2_REST_MAX {
                let reason = format!("a wrong signature, or {rest} bytes follow it");
                return Err(HeaderError::Malformed(reason));
            }
            header.resize(V2_FIXED + rest, 0);
            inbox.read_exact(&mut header[V2_FIXED..]).await?;
            version_2(&header)
        }
        byte => Err(HeaderError::Malformed(format!(
            "it begins with {byte:#04x}"
        ))),
    }
}

fn version_1(header: &[u8]) -> Result<Option<IpAddr>, HeaderError> {
    use ppp::v1::{Addresses, Header};
    let header = Header::try_from(header).map_err(|e| HeaderError::Malformed(e.to_string()))?;
    Ok(match header.addresses {
        Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
        Addresses::Tcp6(addresses) => Some(IpAddr::from(addresses.source_address).to_canonical()),
        Addresses::Unknown => None,
    })
}

fn version_2(header: &[u8]) -> Result<Option<IpAddr>, HeaderError> {
    use ppp::v2::{Addresses, Header, Protocol};
    // Version 2, command LOCAL: whatever follows is to be ignored.
    if header[12] == 0x20 {
        return Ok(None);
    }
    let header = Header::try_from(header).map_err(|e| HeaderError::Malformed(e.to_string()))?;
    if header.protocol == Protocol::Datagram {
        return Err(HeaderError::Malformed(
            "a client without a connection".to_owned(),
        ));
    }
    Ok(match header.addresses {
        Addresses::IPv4(addresses) => Some(addresses.source_address.into()),
        Addresses::IPv6(addresses) => Some(IpAddr::from(addresses.source_address).to_canonical()),
        Addresses::Unspecified | Addresses::Unix(_) => None,
    })
}
