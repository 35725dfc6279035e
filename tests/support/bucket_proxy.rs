//! A proxy of HTTP/1.1 in front of an S3 server that does what a test tells it: one request a connection, a thread for each.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// The value of the header `Range`, if there is one.
    pub(crate) range: Option<String>,
}

impl Request {
    /// Whether it is for the bytes of an object.
    pub(crate) fn is_get(&self) -> bool {
        self.method == "GET" && !self.target.contains("list-type")
    }

    pub(crate) fn is_part(&self) -> bool {
        self.method == "PUT" && self.target.contains("partNumber")
    }

    /// Whether it makes an object of its parts.
    pub(crate) fn is_complete(&self) -> bool {
        self.method == "POST" && self.target.contains("uploadId")
    }
}

/// An answer of the server.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// Lines without the empty one at the end.
    pub(crate) head: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn new(status: &str, headers: &[&str], body: &str) -> Self {
        let mut head = vec![format!("HTTP/1.1 {status}")];
        head.extend(headers.iter().map(|header| (*header).to_owned()));
        head.push(format!("content-length: {}", body.len()));
        head.push("connection: close".to_owned());
        Self {
            head,
            body: body.into(),
        }
    }

    /// An error of S3.
    pub(crate) fn error(status: &str, code: &str) -> Self {
        let body =
            format!("<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>");
        Self::new(status, &["content-type: application/xml"], &body)
    }

    /// Replaces the value of a header that is there.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        for line in &mut self.head {
            if line.to_lowercase().starts_with(&format!("{name}:")) {
                *line = format!("{name}: {value}");
            }
        }
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let head = self.head.join("\r\n") + "\r\n\r\n";
        [head.as_bytes(), &self.body].concat()
    }
}

/// What becomes of a request.
pub(crate) enum Action {
    /// The server's answer, as it is.
    Pass,
    /// An answer without the server.
    Say(Answer),
    /// The connection is closed before the body is read.
    Refuse,
    /// The server's answer never arrives: the connection is closed.
    Lose,
    /// The head of the answer and some bytes of its body arrive, and the connection is closed.
    Cut(usize),
    /// The request is read, and nothing more happens.
    Stall,
    /// The head of the answer and some bytes of its body arrive, and nothing more happens.
    StallAfter(usize),
    /// The body of the answer arrives a byte at a time.
    Drip(Duration),
    /// Another answer instead of the server's.
    Edit(Box<dyn FnOnce(Answer) -> Answer>),
}

type Rule = Box<dyn FnMut(&Request) -> Action + Send>;

/// The proxy. Ends with its value; connections that stall are closed then.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    rule: Mutex<Rule>,
    seen: Mutex<Vec<Request>>,
    open: Mutex<Vec<TcpStream>>,
    over: AtomicBool,
}

impl Proxy {
    pub(crate) fn start(
        server: SocketAddr,
        rule: impl FnMut(&Request) -> Action + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            rule: Mutex::new(Box::new(rule)),
            seen: Mutex::default(),
            open: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let of_thread = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = of_thread.clone();
                let Ok(stream) = stream else { continue };
                if shared.over.load(Ordering::SeqCst) {
                    return;
                }
                thread::spawn(move || {
                    // A client that goes away is what most tests are about.
                    let _ = shared.serve(stream);
                });
            }
        });
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.shared.seen.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let (head, rest) = read_head(&mut client)?;
        let value = |name: &str| {
            let line = head
                .iter()
                .find(|line| line.to_lowercase().starts_with(&format!("{name}:")));
            line.map(|line| line[name.len() + 1..].trim().to_owned())
        };
        let mut words = head[0].split(' ').map(str::to_owned);
        let request = Request {
            method: words.next().unwrap(),
            target: words.next().unwrap(),
            range: value("range"),
        };
        self.seen.lock().unwrap().push(request.clone());
        let action = (self.rule.lock().unwrap())(&request);
        if matches!(action, Action::Refuse) {
            return Ok(());
        }
        let length = value("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = rest;
        let missing = length - body.len();
        io::copy(&mut (&mut client).take(missing as u64), &mut body)?;
        match action {
            Action::Say(answer) => return client.write_all(&answer.bytes()),
            Action::Stall => return self.keep(client),
            _ => {}
        }
        let answer = self.ask(&request, &head, &body)?;
        let mut write = |count: usize| {
            let head = Answer {
                body: Vec::new(),
                ..answer.clone()
            };
            client.write_all(&head.bytes())?;
            client.write_all(&answer.body[..count.min(answer.body.len())])
        };
        match action {
            Action::Lose => Ok(()),
            Action::Cut(count) => write(count),
            Action::StallAfter(count) => {
                write(count)?;
                self.keep(client)
            }
            Action::Drip(pause) => {
                write(0)?;
                for byte in &answer.body {
                    client.write_all(std::slice::from_ref(byte))?;
                    thread::sleep(pause);
                }
                Ok(())
            }
            Action::Edit(edit) => client.write_all(&edit(answer).bytes()),
            _ => client.write_all(&answer.bytes()),
        }
    }

    /// Leaves a connection open until the proxy ends.
    fn keep(&self, stream: TcpStream) -> io::Result<()> {
        self.open.lock().unwrap().push(stream);
        Ok(())
    }

    /// The server's answer. Its framing stays as it is: the connection ends with it.
    fn ask(&self, request: &Request, head: &[String], body: &[u8]) -> io::Result<Answer> {
        let mut server = TcpStream::connect(self.server)?;
        let mut head = head.to_vec();
        head.push("connection: close".to_owned());
        server.write_all((head.join("\r\n") + "\r\n\r\n").as_bytes())?;
        server.write_all(body)?;
        let (head, mut body) = read_head(&mut server)?;
        server.read_to_end(&mut body)?;
        assert!(request.method != "HEAD" || body.is_empty());
        Ok(Answer { head, body })
    }
}

/// The lines of a head, and what came after it.
fn read_head(stream: &mut TcpStream) -> io::Result<(Vec<String>, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            let text = String::from_utf8(bytes).unwrap();
            return Ok((
                text.trim_end().split("\r\n").map(str::to_owned).collect(),
                rest,
            ));
        }
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend(&piece[..count]),
        }
    }
}
