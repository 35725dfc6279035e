//! What happens to a job, as it happens: streams of events over HTTP, their end, and their limits.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::http_resumable::Tus;
use crate::support::{
    http::{Request, connect, read, request},
    service::{Client, PATIENCE, Service, demo_images, long_job, refs, varied, wait_for},
};

fn asked(token: &str, id: i64) -> Request {
    request("GET", &format!("/api/v1/jobs/{id}/events")).bearer(token)
}

/// One event, or what else stands between two empty lines.
#[derive(Debug, Default, PartialEq)]
struct Event {
    name: String,
    id: String,
    data: String,
    retry: String,
    comment: String,
}

impl Event {
    fn job(&self) -> Value {
        assert_eq!(self.name, "status", "{self:?}");
        serde_json::from_str(&self.data).unwrap()
    }
}

/// A stream of events, whose head was read.
struct Events {
    reader: BufReader<TcpStream>,
    /// What has arrived of a chunk and belongs to the next event.
    text: String,
}

impl Events {
    fn open(service: &Service, asked: Request) -> Self {
        Self::of(connect(service.http()), asked)
    }

    fn of(mut stream: TcpStream, asked: Request) -> Self {
        stream.write_all(&asked.bytes()).unwrap();
        let head = read(&mut stream, true);
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        assert_eq!(head.header("cache-control"), Some("no-store"));
        assert_eq!(head.header("x-accel-buffering"), Some("no"));
        assert_eq!(head.header("content-length"), None);
        Self {
            reader: BufReader::new(stream),
            text: String::new(),
        }
    }

    /// The next event, heartbeats included; `None` at the end of the stream, which is said and then the connection's.
    fn next_or_beat(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = parsed(event);
                self.text = rest.to_owned();
                return Some(event);
            }
            let mut len = String::new();
            self.reader.read_line(&mut len).unwrap();
            let len = usize::from_str_radix(len.trim(), 16).expect("the size of a chunk");
            let mut chunk = vec![0; len + 2];
            self.reader.read_exact(&mut chunk).unwrap();
            if len == 0 {
                assert_eq!(self.text, "");
                let mut rest = Vec::new();
                self.reader.read_to_end(&mut rest).unwrap();
                assert!(rest.is_empty());
                return None;
            }
            self.text += std::str::from_utf8(&chunk[..len]).unwrap();
        }
    }

    fn next(&mut self) -> Option<Event> {
        loop {
            let event = self.next_or_beat()?;
            if event.comment.is_empty() && event.retry.is_empty() {
                return Some(event);
            }
        }
    }
}

fn parsed(text: &str) -> Event {
    let mut event = Event::default();
    for line in text.lines() {
        let (field, value) = line.split_once(':').unwrap();
        let value = value.strip_prefix(' ').unwrap_or(value);
        let known = match field {
            "event" => &mut event.name,
            "id" => &mut event.id,
            "data" => &mut event.data,
            "retry" => &mut event.retry,
            "" => &mut event.comment,
            other => panic!("{other:?} in {text:?}"),
        };
        assert!(known.is_empty(), "{text:?}");
        value.clone_into(known);
    }
    event
}

/// A job that waits behind others for some time.
fn waiting(service: &Service, token: &str) -> i64 {
    for i in 0..3 {
        let mut images = long_job();
        images.extend(demo_images(i + 1));
        service.submit_http(token, &images);
    }
    service.submit_http(token, &refs(&varied(1)))
}

#[test]
fn a_stream_tells_each_state_once_and_ends_with_the_job() {
    let service = Service::start_http(&[]);
    let token = service.token("ann");
    let first = service.submit_http(&token, &long_job());
    let id = service.submit_http(&token, &demo_images(3));
    let mut events = Events::open(&service, asked(&token, id));
    let retry = events.next_or_beat().unwrap().retry;
    assert!((1000..=10_000).contains(&retry.parse::<u32>().unwrap()));
    let mut all = Vec::new();
    while let Some(event) = events.next() {
        all.push(event);
    }
    let jobs: Vec<Value> = all.iter().map(Event::job).collect();
    let last = jobs.last().unwrap();
    assert_eq!(last["state"], "done", "{last}");
    assert_eq!(*last, service.job(&token, id));
    assert!(last["result"]["hash"].is_string() && last["finished_at"].is_string());
    // In order, none twice, none after the end.
    let rank = |job: &Value| {
        let states = ["queued", "running", "done"];
        states
            .iter()
            .position(|state| job["state"] == *state)
            .unwrap()
    };
    assert!(jobs.is_sorted_by_key(rank), "{jobs:?}");
    assert!(jobs.windows(2).all(|two| two[0] != two[1]));
    assert!(
        jobs.iter()
            .all(|job| job["id"] == id && job["name"].is_string())
    );
    let fractions = jobs.iter().filter_map(|job| job["fraction"].as_f64());
    assert!(fractions.is_sorted());
    let mut ids: Vec<_> = all.iter().map(|event| &event.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all.len());

    // Who knows the end does not come back; who does not is told of it alone.
    let end = &all.last().unwrap().id;
    let known = asked(&token, id).header("Last-Event-ID", end);
    let answer = known.send(service.http());
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    for seen in [None, Some(&*all[0].id), Some("\u{e4} nonsense"), Some("")] {
        let again = match seen {
            Some(seen) => asked(&token, id).header("Last-Event-ID", seen),
            None => asked(&token, id),
        };
        let mut events = Events::open(&service, again);
        if seen == Some(end) {
            continue;
        }
        let event = events.next().unwrap();
        assert_eq!((&event.id, &event.job()), (end, last));
        assert!(events.next().is_none());
    }
    assert_eq!(service.job(&token, first)["state"], "done");
}

#[test]
fn a_job_is_followed_from_its_uploads_on() {
    let service = Service::start_http(&[]);
    let tus = Tus::new(&service, "ann");
    let id = tus.empty_job();
    let early = format!("/api/v1/jobs/{id}/artifacts/ply");
    let early = request("GET", &early).bearer(&tus.token);
    early.send(service.http()).problem(409, "conflict");
    let mut stream = Events::open(&service, asked(&tus.token, id));
    let first = stream.next().unwrap().job();
    assert_eq!(
        (&first["state"], &first["uploads"]),
        (&json!("uploading"), &json!([]))
    );
    let image = demo_images(1)[0];
    let url = tus.announce(id, "a.png", image.len());
    tus.append(&url, 0, image);
    let start = request("POST", &format!("/api/v1/jobs/{id}/start")).bearer(&tus.token);
    start.send(service.http()).expect(200);
    let mut states = Vec::new();
    while let Some(event) = stream.next() {
        states.push(event.job()["state"].as_str().unwrap().to_owned());
    }
    assert_eq!(
        states.last().map(String::as_str),
        Some("done"),
        "{states:?}"
    );
}

#[test]
fn a_client_that_comes_back_is_told_what_it_has_not_seen() {
    let service = Service::start_http(&["--stall-timeout", "1"]);
    let token = service.token("ann");
    let id = waiting(&service, &token);
    let mut events = Events::open(&service, asked(&token, id));
    let seen = events.next().unwrap();
    drop(events);
    let again = asked(&token, id).header("Last-Event-ID", &seen.id);
    let mut events = Events::open(&service, again);
    assert!(!events.next_or_beat().unwrap().retry.is_empty());
    let next = events.next_or_beat().unwrap();
    // A sign of life, unless the queue has moved on.
    if next.comment.is_empty() {
        assert_ne!(next.job(), seen.job());
    }
    let path = format!("/api/v1/jobs/{id}");
    let cancel = request("DELETE", &path).bearer(&token);
    cancel.send(service.http()).expect(200);
    let last = wait_for("the end", || {
        let event = events.next()?;
        (event.job()["state"] == "cancelled").then_some(event)
    });
    assert!(events.next().is_none());
    let known = asked(&token, id).header("Last-Event-ID", &last.id);
    assert_eq!(known.send(service.http()).status, 204);
}

#[test]
fn a_stream_ends_with_the_login_that_it_was_opened_with() {
    let service = Service::start_http(&["--stall-timeout", "1"]);
    let session = service.token("ann");
    let named = request("POST", "/api/v1/tokens").bearer(&session);
    let named = named.json(&json!({"name": "watch"}));
    let named = named.send(service.http()).expect(201);
    let id = waiting(&service, &session);
    let mut of_session = Events::open(&service, asked(&session, id));
    let mut of_token = Events::open(&service, asked(named["token"].as_str().unwrap(), id));
    for events in [&mut of_session, &mut of_token] {
        assert_eq!(events.next().unwrap().job()["id"], id);
    }
    let path = format!("/api/v1/tokens/{}", named["id"]);
    let revoked = request("DELETE", &path).bearer(&session);
    revoked.send(service.http()).expect(204);
    let states = |events: &mut Events| {
        let mut last = Value::Null;
        while let Some(event) = events.next() {
            last = event.job()["state"].clone();
        }
        last
    };
    // Not by the end of the job.
    assert_ne!(states(&mut of_token), "done");
    let ended = request("DELETE", "/api/v1/sessions/current").bearer(&session);
    ended.send(service.http()).expect(204);
    assert_ne!(states(&mut of_session), "done");
    asked(&session, id)
        .send(service.http())
        .problem(401, "not_logged_in");
}

#[test]
fn a_stop_is_told_and_ends_the_stream_before_the_running_job() {
    let mut service = Service::start_http(&[]);
    let token = service.token("ann");
    let id = waiting(&service, &token);
    let mut events = Events::open(&service, asked(&token, id));
    assert_eq!(events.next().unwrap().job()["state"], "queued");
    let address = service.http();
    service.send_signal("TERM");
    let stopping = wait_for("the news", || {
        let event = events.next().expect("no end without it");
        (event.name == "stopping").then_some(event)
    });
    assert_eq!((&*stopping.data, &*stopping.id), ("{}", ""));
    assert!(events.next().is_none());
    wait_for("the port to close", || TcpStream::connect(address).err());
    assert_eq!(service.process.wait().unwrap().code(), Some(0));
}

#[test]
fn streams_are_for_the_user_of_the_job() {
    let service = Service::start_http(&[]);
    let token = service.token("ann");
    let id = service.submit_http(&token, &demo_images(1));
    let ben = service.token("ben");
    for foreign in [asked(&ben, id), asked(&token, id + 1)] {
        foreign.send(service.http()).problem(404, "not_found");
    }
    let stranger = request("GET", &format!("/api/v1/jobs/{id}/events"));
    stranger.send(service.http()).problem(401, "not_logged_in");
    service.finished_job(&token, id);
    // A failed one tells why.
    let failed = service.submit_http(&token, &[b"no picture"]);
    let mut events = Events::open(&service, asked(&token, failed));
    let mut last = Value::Null;
    while let Some(event) = events.next() {
        last = event.job();
    }
    assert_eq!(last["state"], "failed");
    assert!(last["reason"].is_string(), "{last}");
}

#[test]
fn streams_have_limits_of_their_own_and_leave_the_address_its_connections() {
    let service = Service::start_http(&[
        "--max-connections-per-address",
        "3",
        "--max-event-streams-per-user",
        "9",
        "--max-event-streams",
        "12",
    ]);
    let token = service.token("ann");
    let id = waiting(&service, &token);
    let mut streams: Vec<_> = (0..9)
        .map(|_| Events::open(&service, asked(&token, id)))
        .collect();
    asked(&token, id)
        .send(service.http())
        .problem(429, "too_many_events");
    // As many connections as before.
    let mut tcp: Vec<_> = (0..2).map(|_| service.login("ann")).collect();
    assert_eq!(service.job(&token, id)["id"], id);
    assert_eq!(tcp[0].json(12, "")["protocol"], 2);
    drop(tcp);
    let ben = service.token("ben");
    let other = service.submit_http(&ben, &demo_images(2));
    let _three: Vec<_> = (0..3)
        .map(|_| Events::open(&service, asked(&ben, other)))
        .collect();
    asked(&ben, other)
        .send(service.http())
        .problem(429, "too_many_events");
    // One that ends gives its place free.
    drop(streams.pop());
    wait_for("the place", || {
        let answer = asked(&token, id).header("Last-Event-ID", "x");
        let mut stream = connect(service.http());
        stream.write_all(&answer.bytes()).unwrap();
        (read(&mut stream, true).status == 200).then_some(())
    });
}

#[test]
fn two_hundred_streams_from_one_address_take_little_memory() {
    let service = Service::start_http(&[]);
    let token = service.token("ann");
    let first = service.submit_http(&token, &demo_images(8));
    service.finished_job(&token, first);
    let before = resident(&service);
    let id = waiting(&service, &token);
    let mut streams: Vec<_> = (0..200)
        .map(|_| Events::open(&service, asked(&token, id)))
        .collect();
    for events in &mut streams {
        assert_eq!(events.next().unwrap().job()["id"], id);
    }
    let grown = resident(&service).saturating_sub(before);
    assert_eq!(service.job(&token, id)["id"], id);
    assert!(grown < 64 << 20, "{grown} bytes");
    // All are told of the end.
    let path = format!("/api/v1/jobs/{id}");
    request("DELETE", &path).bearer(&token).send(service.http());
    for events in &mut streams {
        let mut last = Value::Null;
        while let Some(event) = events.next() {
            last = event.job();
        }
        assert!(["cancelled", "done"].contains(&last["state"].as_str().unwrap()));
    }
}

/// Bytes of the service's process in memory. What the running job takes is among them.
fn resident(service: &Service) -> u64 {
    let path = format!("/proc/{}/status", service.process.id());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().strip_suffix("kB").unwrap();
    kib.trim().parse::<u64>().unwrap() << 10
}

/// A connection whose own buffer is as small as there is.
fn small(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let service = Service::start_http(&["--stall-timeout", "1"]);
    let token = service.token("ann");
    // Events of some kilobytes: a name of four bytes a character in the job's, and in a warning.
    let tall = tall_picture();
    let long = "\u{1f3e0}".repeat(240);
    let name = format!("{long}.png");
    let options = json!({ "name": long }).to_string();
    let mut parts: Vec<_> = (0..60)
        .map(|_| ("files", Some(name.as_str()), tall.as_slice()))
        .collect();
    parts.push(("options", None, options.as_bytes()));
    let job = request("POST", "/api/v1/jobs")
        .bearer(&token)
        .multipart(&parts);
    let id = job.send(service.http()).expect(201)["id"].as_i64().unwrap();
    let mut stream = small(service.http());
    stream.write_all(&asked(&token, id).bytes()).unwrap();
    let end = service.finished_job(&token, id);
    assert_eq!(end["state"], "done", "{end}");
    assert!(end.to_string().len() > 2500, "{end}");
    let sockets = || connections(&service);
    wait_for("the server to close it", || (sockets() == 0).then_some(()));
    let mut client = Client { stream };
    let mut got = Vec::new();
    let cut = client.stream.read_to_end(&mut got);
    assert!(cut.is_err() || !got.ends_with(b"0\r\n\r\n"));
    assert!(client.is_closed_within(Duration::from_secs(1)).is_some());
}

/// Open connections of the service's HTTP port, by the kernel's list.
fn connections(service: &Service) -> usize {
    let port = format!(":{:04X}", service.http().port());
    let list = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let lines = list.lines().skip(1).map(|line| line.split_whitespace());
    // The server's own end, established.
    lines
        .filter(|line| {
            let fields: Vec<&str> = line.clone().collect();
            fields[1].ends_with(&port) && fields[3] == "01"
        })
        .count()
}

fn tall_picture() -> Vec<u8> {
    let mut png = std::io::Cursor::new(Vec::new());
    let image = image::RgbImage::from_fn(60, 100, |x, y| image::Rgb([x as u8, y as u8, 9]));
    image.write_to(&mut png, image::ImageFormat::Png).unwrap();
    png.into_inner()
}
