//! Requests of HTTP, written by hand so that a mistake of a client's library cannot hide one of the server.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use super::service::{PASSWORD, PATIENCE, Service, demo_images, wait_for};

/// An answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice: {self:?}");
        value
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Checks the status and gives the JSON.
    pub(crate) fn expect(&self, status: u16) -> Value {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{body}");
        if self.body.is_empty() {
            return Value::Null;
        }
        self.json()
    }

    /// Checks that it is an error as RFC 9457 has it.
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        let kind = self.header("content-type");
        assert_eq!(kind, Some("application/problem+json"), "{self:?}");
        let problem = self.expect(status);
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["type"], format!("urn:vggt:problem:{code}"));
        assert!(problem["title"].is_string(), "{problem}");
        problem
    }
}

/// A request: method, path, and what else it has.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    head: String,
    body: Vec<u8>,
}

pub(crate) fn request(method: &str, path: &str) -> Request {
    Request {
        head: format!("{method} {path} HTTP/1.1\r\nHost: vggt.test\r\n"),
        body: Vec::new(),
    }
}

impl Request {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.head += &format!("{name}: {value}\r\n");
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("Content-Type", "application/json")
            .body(body.to_string().as_bytes())
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self = self.header("Content-Length", &body.len().to_string());
        self.body = body.to_vec();
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.head.as_bytes(), b"\r\n", &self.body].concat()
    }

    /// Sends it on a connection of its own.
    pub(crate) fn send(self, address: SocketAddr) -> Response {
        let mut stream = connect(address);
        let last = self.header("Connection", "close");
        // The server may refuse the request before it has read it.
        let _ = stream.write_all(&last.bytes());
        read(&mut stream, last.head.starts_with("HEAD "))
    }

    /// Sends it on a connection that goes on.
    pub(crate) fn send_on(self, stream: &mut (impl Read + Write)) -> Response {
        stream.write_all(&self.bytes()).unwrap();
        read(stream, false)
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads one answer.
pub(crate) fn read(stream: &mut impl Read, is_head: bool) -> Response {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        let read = stream.read(&mut byte);
        assert!(
            matches!(read, Ok(1)),
            "{read:?} after {:?}",
            String::from_utf8_lossy(&head)
        );
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let mut response = Response {
        status: status.parse().unwrap(),
        headers: headers.collect(),
        body: Vec::new(),
    };
    if is_head || [204, 304].contains(&response.status) {
        return response;
    }
    if let Some(len) = response.header("content-length") {
        response.body = vec![0; len.parse().unwrap()];
        stream.read_exact(&mut response.body).unwrap();
    } else {
        assert_eq!(response.header("transfer-encoding"), Some("chunked"));
        response.body = chunks(stream);
    }
    response
}

fn chunks(stream: &mut impl Read) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        while !line.ends_with("\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            line.push(byte[0].into());
        }
        let len = usize::from_str_radix(line.trim(), 16).unwrap();
        let start = body.len();
        body.resize(start + len + 2, 0);
        stream.read_exact(&mut body[start..]).unwrap();
        body.truncate(start + len);
        if len == 0 {
            return body;
        }
    }
}

/// A body of `multipart/form-data`: name, file name, bytes.
pub(crate) type Part<'a> = (&'a str, Option<&'a str>, &'a [u8]);

const BOUNDARY: &str = "x-boundary-of-a-test";

pub(crate) fn multipart(parts: &[Part]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, bytes) in parts {
        let file = file.map(|file| format!("; filename=\"{file}\""));
        let file = file.unwrap_or_default();
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n"
        );
        body.extend(head.as_bytes());
        body.extend(*bytes);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

impl Request {
    pub(crate) fn multipart(self, parts: &[Part]) -> Self {
        self.multipart_type().body(&multipart(parts))
    }

    pub(crate) fn multipart_type(self) -> Self {
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        self.header("Content-Type", &kind)
    }

    /// Sends images as `files`.
    pub(crate) fn images(self, images: &[&[u8]]) -> Self {
        let names: Vec<String> = (0..images.len())
            .map(|i| format!("photo {i}.png"))
            .collect();
        let parts = names.iter().zip(images);
        let parts = parts.map(|(name, bytes)| ("files", Some(name.as_str()), *bytes));
        self.multipart(&parts.collect::<Vec<_>>())
    }
}

impl Service {
    /// As [`Service::start`], with HTTP on a free port.
    pub(crate) fn start_http(args: &[&str]) -> Self {
        Self::start(&[&["--http", "127.0.0.1:0"], args].concat())
    }

    /// The token of a new session.
    pub(crate) fn token(&self, name: &str) -> String {
        let login = serde_json::json!({"username": name, "password": PASSWORD});
        let login = request("POST", "/api/v1/sessions").json(&login);
        let session = login.send(self.http()).expect(201);
        session["token"].as_str().unwrap().to_owned()
    }

    /// Submits images as a job and gives its number.
    pub(crate) fn submit_http(&self, token: &str, images: &[&[u8]]) -> i64 {
        let job = request("POST", "/api/v1/jobs").bearer(token).images(images);
        job.send(self.http()).expect(201)["id"].as_i64().unwrap()
    }

    pub(crate) fn job(&self, token: &str, id: i64) -> Value {
        let path = format!("/api/v1/jobs/{id}");
        let job = request("GET", &path).bearer(token).send(self.http());
        job.expect(200)
    }

    /// Waits until the job is over and gives it.
    pub(crate) fn finished_job(&self, token: &str, id: i64) -> Value {
        wait_for("a job", || {
            let job = self.job(token, id);
            let state = job["state"].as_str().unwrap();
            (!["queued", "running"].contains(&state)).then_some(job)
        })
    }
}

/// A service with a job of the demo's images that is done.
pub(crate) struct DoneJob {
    pub(crate) service: Service,
    /// Of its user.
    pub(crate) token: String,
    pub(crate) id: i64,
}

impl DoneJob {
    /// Starts the service and has it reconstruct so many images.
    pub(crate) fn of_images(count: usize) -> Self {
        let service = Service::start_http(&[]);
        let token = service.token("ann");
        let id = service.submit_http(&token, &demo_images(count));
        assert_eq!(service.finished_job(&token, id)["state"], "done");
        Self { service, token, id }
    }

    /// The path of the job in the API, with `rest` behind it.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/api/v1/jobs/{}{rest}", self.id)
    }

    /// What its user gets there.
    pub(crate) fn get(&self, rest: &str) -> Response {
        let asked = request("GET", &self.path(rest)).bearer(&self.token);
        asked.send(self.service.http())
    }
}
