//! A hub that has a name and a certificate: who finds it, and who trusts it.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};
use vggt::{
    hub::{Hub, HubError, HubSettings},
    resolver::Resolver,
};

use crate::support::{command, repository, text};

/// A name that no other name server knows: `test` is reserved for this.
const NAME: &str = "hub.test";
const CONTENT: &[u8] = b"{}";

/// A name server that knows [`NAME`] as 127.0.0.1, and nothing else.
fn name_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // Ends with the process.
    thread::spawn(move || {
        let mut query = [0; 512];
        loop {
            let (size, from) = socket.recv_from(&mut query).unwrap();
            socket.send_to(&answer(&query[..size]), from).unwrap();
        }
    });
    address
}

/// RFC 1035, section 4: a header, the question again, at most one answer.
fn answer(query: &[u8]) -> Vec<u8> {
    let (mut at, mut name) = (12, Vec::new());
    while query[at] != 0 {
        let length = usize::from(query[at]);
        name.push(String::from_utf8_lossy(&query[at + 1..][..length]).to_lowercase());
        at += 1 + length;
    }
    let known = name.join(".") == NAME;
    let is_a = query[at + 1..at + 3] == [0, 1];
    let mut reply = query[..2].to_vec();
    // A response that recursion is there for, with "no such name" in its last digit or without.
    reply.extend([0x81, if known { 0x80 } else { 0x83 }]);
    reply.extend([0, 1, 0, u8::from(known && is_a), 0, 0, 0, 0]);
    reply.extend(&query[12..at + 5]);
    if known && is_a {
        // The question's name, A, IN, for a minute, four bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    reply
}

/// A hub with one file, `config.json`; gives its port. Every connection goes through `wrap` first.
fn hub<S: Read + Write>(wrap: impl Fn(TcpStream) -> S + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that does not trust the certificate hangs up: that is its right.
            let _ = serve(wrap(stream.unwrap()));
        }
    });
    port
}

fn serve(mut stream: impl Read + Write) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    let length = CONTENT.len();
    let commit = "0123456789abcdef0123456789abcdef01234567";
    // What git calls the content.
    let etag = "9e26dfeeb6e641a33dae4961196235bdb965b21b";
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\nX-Repo-Commit: {commit}\r\nETag: \"{etag}\"\r\n\r\n"
    )?;
    if request.starts_with(b"GET") {
        stream.write_all(CONTENT)?;
    }
    stream.flush()
}

/// A hub behind TLS: its port, and the certificate to trust as PEM.
fn hub_with_certificate() -> (u16, String) {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .unwrap();
    let config = Arc::new(config);
    let port =
        hub(move |stream| StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream));
    (port, made.cert.pem())
}

fn resolver(server: SocketAddr) -> Resolver {
    server.to_string().parse().unwrap()
}

fn fetch(settings: HubSettings) -> Result<PathBuf, HubError> {
    Hub::new(settings)?.file("org/net", "config.json", &mut |_, _, _| true)
}

fn settings(endpoint: String, server: SocketAddr, cache: &Path) -> HubSettings {
    HubSettings {
        cache: cache.to_owned(),
        endpoint,
        resolver: resolver(server),
        backoff: Duration::from_millis(1),
        ..HubSettings::default()
    }
}

#[test]
fn the_name_server_that_is_named_is_asked() {
    let resolver = resolver(name_server());
    let expected: SocketAddr = "127.0.0.1:80".parse().unwrap();
    assert_eq!(resolver.addresses_blocking(NAME, 80).unwrap(), [expected]);
    let unknown = resolver.addresses_blocking("other.test", 80).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    assert!(unknown.to_string().contains("other.test"), "{unknown}");
}

#[test]
fn numbers_and_this_machine_need_no_name_server() {
    // Asked, it would never answer.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let asking = resolver(silent.local_addr().unwrap());
    for (host, expected) in [
        ("192.0.2.7", "192.0.2.7:9"),
        ("2001:db8::7", "[2001:db8::7]:9"),
        // As a URL spells it.
        ("[2001:db8::7]", "[2001:db8::7]:9"),
        ("localhost", "127.0.0.1:9"),
    ] {
        for resolver in [asking, Resolver::default()] {
            let found = resolver.addresses_blocking(host, 9).unwrap();
            assert!(
                found.contains(&expected.parse().unwrap()),
                "{host}: {found:?}"
            );
        }
    }
    silent.set_nonblocking(true).unwrap();
    let asked = silent.recv_from(&mut [0]).unwrap_err();
    assert_eq!(asked.kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_name_server_is_named_by_its_address_with_or_without_a_port() {
    for good in [
        "192.0.2.1",
        "192.0.2.1:5353",
        "2001:db8::1",
        "[2001:db8::1]:53",
    ] {
        assert!(good.parse::<Resolver>().is_ok(), "{good}");
    }
    for bad in ["", "one.one", "192.0.2", "192.0.2.1:", "192.0.2.1:99999"] {
        assert!(bad.parse::<Resolver>().is_err(), "{bad}");
    }
    assert_eq!(
        "192.0.2.1".parse::<Resolver>(),
        "192.0.2.1:53".parse::<Resolver>()
    );
}

#[test]
fn a_hub_is_found_by_its_name() {
    let endpoint = format!("http://{NAME}:{}", hub(|stream| stream));
    let cache = tempfile::tempdir().unwrap();
    let path = fetch(settings(endpoint, name_server(), cache.path())).unwrap();
    assert_eq!(fs::read(path).unwrap(), CONTENT);
}

#[test]
fn fetch_asks_the_name_server_of_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let fetch = |server: &str, host: &str, port: u16| {
        command(dir.path())
            .args(["fetch", "--repo", "org/net", "--file", "config.json"])
            .env("HF_ENDPOINT", format!("http://{host}:{port}"))
            .env("VGGT_NAME_SERVER", server)
            .output()
            .unwrap()
    };
    let server = name_server().to_string();
    let port = hub(|stream| stream);
    assert!(fetch(&server, NAME, port).status.success());
    assert_eq!(fetch("nowhere", NAME, port).status.code(), Some(2));
}

#[test]
fn a_certificate_is_trusted_only_when_it_is_named() {
    let (port, pem) = hub_with_certificate();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trusted.pem");
    fs::write(&file, pem).unwrap();
    let with = |roots: Option<PathBuf>| {
        let endpoint = format!("https://{NAME}:{port}");
        let settings = settings(endpoint, name_server(), &dir.path().join("cache"));
        fetch(HubSettings { roots, ..settings })
    };
    let refused = with(None).unwrap_err();
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
    let path = with(Some(file)).unwrap();
    assert_eq!(fs::read(path).unwrap(), CONTENT);
}

#[test]
fn a_file_without_certificates_is_no_reason_to_trust_anybody() {
    let dir = tempfile::tempdir().unwrap();
    let empty = repository("Cargo.toml");
    for file in [text(&empty), "missing.pem"] {
        let output = command(dir.path())
            .args(["fetch", "--file", "config.json"])
            .env("SSL_CERT_FILE", file)
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.contains("SSL_CERT_FILE") && err.contains(file), "{err}");
    }
}
