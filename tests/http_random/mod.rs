//! Random and nearly right requests: whatever comes, the service answers, and it goes on.
//!
//! `VGGT_FUZZ_REQUESTS` and `VGGT_FUZZ_SEED` take other numbers; `tools/checks/fuzz` sends a million.

mod requests;
mod values;

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    sync::Mutex,
    thread,
};

use serde_json::Value;
use vggt::store::Store;

use self::requests::{Framing, Sent, World};
use crate::support::{
    http::{connect, request},
    random::Random,
    service::{Service, refs, varied},
};

/// Few enough for seconds.
const REQUESTS: usize = 12_000;

/// Connections that send side by side.
const THREADS: usize = 4;

/// After so many requests a thread makes a job and a link, since others may have removed those before.
const RENEW: usize = 400;

/// 5xx that are answers: what is missing passes, or is the operator's.
const EXPECTED_5XX: [u16; 2] = [503, 507];

/// What hyper refuses by itself, without a body: a head that makes no sense or is too long.
const BARE: [u16; 3] = [400, 414, 431];

fn number(name: &str, default: usize) -> usize {
    let asked = std::env::var(name).ok();
    asked.map_or(default, |count| count.parse().unwrap())
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The connection does not go on.
    is_last: bool,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let mut all = self.headers.iter();
        let found = all.find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }

    /// `None`: the connection ended before an answer.
    fn read(stream: &mut impl BufRead, is_head: bool) -> io::Result<Option<Self>> {
        loop {
            let Some(mut answer) = Self::read_head(stream)? else {
                return Ok(None);
            };
            // 100 Continue stands before the answer.
            if answer.status < 200 {
                continue;
            }
            answer.read_body(stream, is_head)?;
            return Ok(Some(answer));
        }
    }

    fn read_head(stream: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let status = line.split(' ').nth(1).and_then(|text| text.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("{line:?}")))?;
        let mut headers = Vec::new();
        loop {
            line.clear();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            headers.push((name.to_lowercase(), value.to_owned()));
        }
        let mut answer = Self {
            status,
            headers,
            body: Vec::new(),
            is_last: false,
        };
        answer.is_last = answer.header("connection") == "close";
        Ok(Some(answer))
    }

    fn read_body(&mut self, stream: &mut impl BufRead, is_head: bool) -> io::Result<()> {
        if is_head || [204, 304].contains(&self.status) {
            return Ok(());
        }
        if self.header("content-type") == "text/event-stream" {
            // It may last as long as the job.
            self.is_last = true;
            return Ok(());
        }
        if let Ok(len) = self.header("content-length").parse() {
            self.body = vec![0; len];
            return stream.read_exact(&mut self.body);
        }
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let len = usize::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
            let start = self.body.len();
            self.body.resize(start + len + 2, 0);
            stream.read_exact(&mut self.body[start..])?;
            self.body.truncate(start + len);
            if len == 0 {
                return Ok(());
            }
        }
    }

    /// What is wrong with it.
    fn fault(&self, is_head: bool) -> Option<&'static str> {
        let status = self.status;
        if status >= 500 && !EXPECTED_5XX.contains(&status) {
            return Some("it is no answer");
        }
        if status < 400 || is_head || (self.body.is_empty() && BARE.contains(&status)) {
            return None;
        }
        let is_problem = self.header("content-type") == "application/problem+json";
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let is_whole = body["status"] == status && body["code"].is_string();
        (!is_problem || !is_whole).then_some("it is not a problem object")
    }
}

/// What one thread sends, and on which connection.
struct Sender<'a> {
    service: &'a Service,
    /// Opened once: every pool of connections has threads of its own.
    store: Store,
    world: &'a Mutex<World>,
    random: Random,
    token: String,
    stream: Option<BufReader<TcpStream>>,
    counts: BTreeMap<u16, usize>,
}

impl Sender<'_> {
    fn new_token(&mut self) {
        // Not over HTTP: wrong logins of this address may be held up.
        let user = self.store.user_by_name("ann").unwrap();
        self.token = self.store.start_session(&user).unwrap().secret;
    }

    /// A job with a result, and a link to it; where the queue has no place, those before do.
    fn renew(&mut self) {
        let images = varied(self.random.below(3));
        let job = request("POST", "/api/v1/jobs").bearer(&self.token);
        let job = job.images(&refs(&images)).send(self.service.http());
        if job.status != 201 {
            return;
        }
        let place = job.header("location").unwrap().to_owned();
        let id = job.json()["id"].as_i64().unwrap();
        self.service.finished_job(&self.token, id);
        let link = request("POST", &format!("{place}/links")).bearer(&self.token);
        let link = link.json(&serde_json::json!({})).send(self.service.http());
        let mut world = self.world.lock().unwrap();
        world.keep(&place, &mut self.random);
        if link.status == 201 {
            let path = link.json()["path"].as_str().unwrap().to_owned();
            world.keep(&path, &mut self.random);
        }
    }

    fn one(&mut self) {
        let sent = {
            let world = self.world.lock().unwrap();
            world.request(&mut self.random, &self.token)
        };
        let answer = match sent.framing {
            Framing::Right => self.exchange(&sent),
            // Nothing can follow on its connection.
            Framing::Wrong => self.alone(&sent),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(e) => panic!("{e} after {sent}"),
        };
        let Some(answer) = answer else {
            assert!(sent.may_be_unanswered(), "no answer to {sent}");
            *self.counts.entry(0).or_default() += 1;
            return;
        };
        *self.counts.entry(answer.status).or_default() += 1;
        if let Some(fault) = answer.fault(sent.is_head()) {
            let body = String::from_utf8_lossy(&answer.body);
            let (status, headers) = (answer.status, &answer.headers);
            panic!("{fault}: {status} {headers:?} {body}, the answer to {sent}");
        }
        let place = answer.header("location");
        if answer.status == 201 && !place.is_empty() {
            let mut world = self.world.lock().unwrap();
            world.keep(place, &mut self.random);
        }
        if answer.status == 401 && sent.has_token {
            self.new_token();
        }
    }

    fn exchange(&mut self, sent: &Sent) -> io::Result<Option<Answer>> {
        let address = self.service.http();
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => BufReader::new(connect(address)),
        };
        // It may be refused before it has been read.
        let _ = stream.get_mut().write_all(&sent.bytes);
        let answer = match Answer::read(&mut stream, sent.is_head()) {
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => None,
            answer => answer?,
        };
        if answer.as_ref().is_some_and(|answer| !answer.is_last) {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    fn alone(&mut self, sent: &Sent) -> io::Result<Option<Answer>> {
        let mut stream = BufReader::new(connect(self.service.http()));
        let _ = stream.get_mut().write_all(&sent.bytes);
        let _ = stream.get_mut().shutdown(Shutdown::Write);
        match Answer::read(&mut stream, sent.is_head()) {
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            // A client that sends no more has gone: what it was being sent ends.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Ok(answer) => {
                let is_stream = answer.as_ref().is_some_and(|answer| answer.is_last);
                if !is_stream {
                    // To its end: it must have one.
                    let _ = stream.read_to_end(&mut Vec::new());
                }
                Ok(answer)
            }
            Err(e) => Err(e),
        }
    }
}

#[test]
fn random_and_nearly_right_requests_are_answered() {
    // Else wrong logins would wait for their turn, and most of the time all connections would.
    let args = [
        "--stall-timeout",
        "60",
        "--max_skip",
        "4",
        "--login-delay",
        "0",
        "--login-attempts",
        "1000000",
    ];
    let mut service = Service::start_http(&args);
    let document = request("GET", "/api/v1/openapi.json").send(service.http());
    let world = Mutex::new(World::new(&document.expect(200)));
    let (all, seed) = (
        number("VGGT_FUZZ_REQUESTS", REQUESTS),
        number("VGGT_FUZZ_SEED", 1),
    );
    let mut counts = BTreeMap::new();
    let store = service.store();
    thread::scope(|scope| {
        let (service, world, store) = (&service, &world, &store);
        let senders: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let mut sender = Sender {
                        service,
                        store: store.clone(),
                        world,
                        random: Random((seed * THREADS + thread + 1) as u64),
                        token: String::new(),
                        stream: None,
                        counts: BTreeMap::new(),
                    };
                    sender.new_token();
                    for i in 0..all / THREADS {
                        if i % RENEW == 0 {
                            sender.renew();
                        }
                        sender.one();
                    }
                    sender.counts
                })
            })
            .collect();
        for sender in senders {
            for (status, count) in sender.join().unwrap() {
                *counts.entry(status).or_insert(0) += count;
            }
        }
    });
    eprintln!("answers by status, 0 for none: {counts:?}");
    // The requests are near enough to right ones.
    for status in [200, 201, 204, 400, 401, 403, 404, 405, 409, 412, 415] {
        assert!(counts.contains_key(&status), "{status}: {counts:?}");
    }
    request("GET", "/health").send(service.http()).expect(200);
    assert_eq!(service.terminate(), Some(0));
    let log = service.log();
    assert!(!log.contains("panicked"));
}
