//! The same bytes over HTTP.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::{MIB, PASSWORD, USER};

const NAME: &str = "vggt.test";
const BOUNDARY: &str = "boundary-of-the-benchmark";
const PAUSE: Duration = Duration::from_millis(10);

/// A user of the HTTP port.
pub(crate) struct Http {
    address: SocketAddr,
    token: String,
    tls: Option<Arc<ClientConfig>>,
}

pub(crate) trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

impl Http {
    pub(crate) fn log_in(address: SocketAddr, tls: Option<Arc<ClientConfig>>) -> Self {
        let mut http = Self {
            address,
            token: String::new(),
            tls,
        };
        let login = format!(r#"{{"username": "{USER}", "password": "{PASSWORD}"}}"#);
        let json = "Content-Type: application/json\r\n";
        let session = http.ask("POST", "/api/v1/sessions", json, login.as_bytes());
        http.token = field(&session, "token").to_owned();
        http
    }

    fn connect(&self) -> Box<dyn Stream> {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        let Some(tls) = &self.tls else {
            return Box::new(stream);
        };
        let client = ClientConnection::new(tls.clone(), NAME.try_into().unwrap()).unwrap();
        Box::new(StreamOwned::new(client, stream))
    }

    fn head(&self, method: &str, path: &str, headers: &str, len: usize) -> String {
        let token = &self.token;
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\nContent-Length: {len}\r\n\
             Authorization: Bearer {token}\r\nTus-Resumable: 1.0.0\r\n{headers}\r\n"
        )
    }

    /// Sends a request on a connection of its own and returns the answer with its head.
    fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> String {
        let mut stream = self.connect();
        let head = self.head(method, path, headers, body.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        answer(stream)
    }

    /// Sends a file as a job in one request.
    pub(crate) fn submit(&self, bytes: &[u8]) -> Duration {
        let before = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"files\"; filename=\"a.jpg\"\r\n\r\n"
        );
        let after = format!("\r\n--{BOUNDARY}--\r\n");
        let kind = format!("Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n");
        let len = before.len() + bytes.len() + after.len();
        let start = Instant::now();
        let mut stream = self.connect();
        let head = self.head("POST", "/api/v1/jobs", &kind, len);
        stream.write_all((head + &before).as_bytes()).unwrap();
        stream.write_all(bytes).unwrap();
        stream.write_all(after.as_bytes()).unwrap();
        let made = answer(stream);
        let time = start.elapsed();
        self.remove(number(&made));
        time
    }

    /// Sends a file as one part of a resumable upload.
    pub(crate) fn append(&self, bytes: &[u8]) -> Duration {
        let json = "Content-Type: application/json\r\n";
        let job = number(&self.ask("POST", "/api/v1/jobs", json, b"{}"));
        let path = format!("/api/v1/jobs/{job}/uploads");
        let length = format!("Upload-Length: {}\r\n", bytes.len());
        let made = self.ask("POST", &path, &length, b"");
        let url = made
            .lines()
            .find_map(|line| line.strip_prefix("location: "));
        let octets = "Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\n";
        let start = Instant::now();
        self.ask("PATCH", url.unwrap(), octets, bytes);
        let time = start.elapsed();
        self.ask("DELETE", &format!("/api/v1/jobs/{job}"), "", b"");
        time
    }

    /// Removes a job once it has ended.
    pub(crate) fn remove(&self, job: u64) {
        let path = format!("/api/v1/jobs/{job}");
        let is_over = |job: &str| !["queued", "running"].contains(&field(job, "state"));
        while !is_over(&self.ask("GET", &path, "", b"")) {
            thread::sleep(PAUSE);
        }
        self.ask("DELETE", &path, "", b"");
    }

    /// Fetches the result of a job and throws it away.
    pub(crate) fn fetch(&self, job: i64, len: usize) -> Duration {
        let path = format!("/api/v1/jobs/{job}/artifacts/glb");
        let start = Instant::now();
        let mut stream = self.connect();
        let head = self.head("GET", &path, "", 0);
        stream.write_all(head.as_bytes()).unwrap();
        let mut piece = vec![0; MIB];
        let mut read = 0;
        loop {
            let n = stream.read(&mut piece).unwrap();
            if n == 0 {
                break;
            }
            read += n;
        }
        assert!(read > len, "{read} bytes of {len}");
        start.elapsed()
    }
}

fn answer(mut stream: Box<dyn Stream>) -> String {
    let mut bytes = Vec::new();
    // What the other end says last, TLS reports as cut off unless it says so.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.starts_with("HTTP/1.1 2"), "{text}");
    text
}

/// Returns the number of the job in an answer.
fn number(answer: &str) -> u64 {
    let (_, rest) = answer.split_once("\"id\":").unwrap();
    rest.split_once(',').unwrap().0.parse().unwrap()
}

fn field<'a>(answer: &'a str, name: &str) -> &'a str {
    let (_, rest) = answer.split_once(&format!("\"{name}\":\"")).unwrap();
    rest.split_once('"').unwrap().0
}

/// Writes a certificate for a server into its folder and returns how a client trusts it.
pub(crate) fn certificate(dir: &Path) -> Arc<ClientConfig> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}
