//! HTTPS: the certificate, what is not TLS, and a certificate that is replaced while the service runs.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Instant,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    pki_types::CertificateDer,
    version::{TLS12, TLS13},
};
use serde_json::json;

use crate::support::{
    fail,
    http::{connect, request},
    service::{PASSWORD, PATIENCE, Service, wait_for},
};

const NAME: &str = "vggt.test";

struct Certificate {
    der: CertificateDer<'static>,
}

/// Writes a new certificate and its key into a folder.
fn write_certificate(dir: &Path) -> Certificate {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    Certificate {
        der: made.cert.der().clone(),
    }
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

impl Certificate {
    /// A connection that trusts this certificate alone, after the handshake.
    fn connect(
        &self,
        address: SocketAddr,
        version: &'static SupportedProtocolVersion,
    ) -> std::io::Result<Tls> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = NAME.try_into().unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(client, connect(address));
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }
}

fn start(extra: &[&str]) -> (Service, Certificate) {
    let service = Service::start(&[]);
    let dir = service.kill();
    let certificate = write_certificate(dir.path());
    let args = [
        "--http",
        "127.0.0.1:0",
        "--tls_cert",
        "cert.pem",
        "--tls-key",
        "key.pem",
    ];
    (
        Service::start_in(dir, &[&args, extra].concat()),
        certificate,
    )
}

#[test]
fn a_login_over_https_sets_a_cookie_for_https_alone() {
    let (service, certificate) = start(&[]);
    for version in [&TLS12, &TLS13] {
        let mut stream = certificate.connect(service.http(), version).unwrap();
        let health = request("GET", "/health").send_on(&mut stream);
        assert_eq!(health.expect(200)["status"], "ok");
        let login = json!({"username": "ann", "password": PASSWORD});
        let login = request("POST", "/api/v1/sessions").json(&login);
        let session = login.send_on(&mut stream);
        assert!(
            session.header("set-cookie").unwrap().ends_with("; Secure"),
            "{session:?}"
        );
        // Another request on the same connection.
        let token = session.expect(201)["token"].as_str().unwrap().to_owned();
        let jobs = request("GET", "/api/v1/jobs")
            .bearer(&token)
            .send_on(&mut stream);
        jobs.expect(200);
    }
}

#[test]
fn what_is_no_tls_is_told_or_ended() {
    let (service, certificate) = start(&["--stall-timeout", "1"]);
    let mut plain = connect(service.http());
    plain.write_all(&request("GET", "/health").bytes()).unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"),
        "{answer}"
    );
    // A handshake that stalls, at its beginning and in its midst, and one that makes no sense.
    for begun in [
        &b""[..],
        &[22, 3, 1, 2, 0, 1],
        &[22; 4096],
        &[22, 3, 3, 255, 255],
    ] {
        let mut stream = connect(service.http());
        stream.write_all(begun).unwrap();
        let mut rest = Vec::new();
        // Closed, or reset where what was sent is not read.
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < 100, "{} bytes", rest.len());
    }
    let mut stream = certificate.connect(service.http(), &TLS13).unwrap();
    request("GET", "/health").send_on(&mut stream).expect(200);
}

#[test]
fn a_peer_that_does_not_read_its_answers_is_closed() {
    let (service, certificate) = start(&["--stall-timeout", "1"]);
    let mut stream = certificate.connect(service.http(), &TLS13).unwrap();
    // More than the kernel keeps for a peer: asked for again and again, until nobody takes it any more.
    let asked = request("GET", "/api/v1/openapi.json").bytes().repeat(64);
    let begin = Instant::now();
    while stream.write_all(&asked).is_ok() {
        assert!(begin.elapsed() < PATIENCE);
    }
    assert!(!stream.conn.is_handshaking());
}

#[test]
fn a_new_certificate_is_read_at_sighup_and_one_that_is_broken_is_not_used() {
    let (mut service, first) = start(&[]);
    let hang_up = |service: &Service| service.send_signal("HUP");
    let speaks = |service: &Service, certificate: &Certificate| {
        let stream = certificate.connect(service.http(), &TLS13);
        stream.is_ok_and(|mut stream| request("GET", "/health").send_on(&mut stream).status == 200)
    };
    let mut before = first.connect(service.http(), &TLS13).unwrap();
    let second = write_certificate(service.dir());
    assert!(speaks(&service, &first) && !speaks(&service, &second));
    hang_up(&service);
    wait_for("the new certificate", || {
        speaks(&service, &second).then_some(())
    });
    assert!(!speaks(&service, &first));
    // A connection that was there goes on.
    request("GET", "/health").send_on(&mut before).expect(200);

    fs::write(service.dir().join("cert.pem"), "nonsense").unwrap();
    hang_up(&service);
    wait_for("the error", || {
        service
            .log()
            .contains("the certificate before stays in use")
            .then_some(())
    });
    assert!(speaks(&service, &second));
    assert_eq!(service.terminate(), Some(0));
}

#[test]
fn files_that_cannot_be_used_are_told_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    write_certificate(dir.path());
    fs::rename(dir.path().join("key.pem"), dir.path().join("other.pem")).unwrap();
    write_certificate(dir.path());
    fs::write(dir.path().join("empty.pem"), "").unwrap();
    let serve = |code, certificate: &str, key: &str| {
        let args = ["serve", "--demo", "--port", "0", "--host", "127.0.0.1"];
        let tls = [
            "--http",
            "127.0.0.1:0",
            "--tls-cert",
            certificate,
            "--tls-key",
            key,
        ];
        fail(dir.path(), code, &[&args[..], &tls].concat())
    };
    for (certificate, key, said) in [
        (
            "none.pem",
            "key.pem",
            "cannot read certificates from \"none.pem\"",
        ),
        (
            "cert.pem",
            "none.pem",
            "cannot read a private key from \"none.pem\"",
        ),
        ("empty.pem", "key.pem", "\"empty.pem\""),
        (
            "cert.pem",
            "cert.pem",
            "cannot read a private key from \"cert.pem\"",
        ),
        (
            "cert.pem",
            "other.pem",
            "cannot use the certificate in \"cert.pem\" with the key in \"other.pem\"",
        ),
    ] {
        let error = serve(1, certificate, key);
        assert!(error.contains(said), "{error}");
    }
    let half = ["serve", "--demo", "--tls-cert", "cert.pem"];
    assert!(fail(dir.path(), 2, &half).contains("--tls-key"));
}
