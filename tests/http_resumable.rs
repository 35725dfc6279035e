//! Jobs that are made empty over HTTP, and whose files arrive in parts: the whole way, and what interrupts it.

use std::{
    io::Write,
    net::{Shutdown, TcpStream},
    thread,
    time::Duration,
};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use crate::support::{
    files::is_bucket,
    http::{Request, Response, connect, read, request},
    service::{Service, demo_images, leftovers, long_job, refs, varied, wait_for},
};

/// A user with a service, and what is sent to it.
pub(crate) struct Tus<'a> {
    pub(crate) service: &'a Service,
    pub(crate) token: String,
}

impl<'a> Tus<'a> {
    pub(crate) fn new(service: &'a Service, name: &str) -> Self {
        let token = service.token(name);
        Self { service, token }
    }

    pub(crate) fn send(&self, request: Request) -> Response {
        request.send(self.service.http())
    }

    /// A request with the version.
    pub(crate) fn request(&self, method: &str, path: &str) -> Request {
        let request = request(method, path).bearer(&self.token);
        request.header("Tus-Resumable", "1.0.0")
    }

    pub(crate) fn try_job(&self, options: &Value) -> Response {
        let made = request("POST", "/api/v1/jobs").bearer(&self.token);
        self.send(made.json(&json!({"options": options})))
    }

    pub(crate) fn empty_job(&self) -> i64 {
        self.try_job(&json!({})).expect(201)["id"].as_i64().unwrap()
    }

    pub(crate) fn try_announce(&self, job: i64, length: u64, metadata: &str) -> Response {
        let path = format!("/api/v1/jobs/{job}/uploads");
        let mut asked = self.request("POST", &path);
        asked = asked.header("Upload-Length", &length.to_string());
        if !metadata.is_empty() {
            asked = asked.header("Upload-Metadata", metadata);
        }
        self.send(asked.body(b""))
    }

    pub(crate) fn announce(&self, job: i64, name: &str, length: usize) -> String {
        let metadata = format!("filename {}", BASE64_STANDARD.encode(name));
        let made = self.try_announce(job, length as u64, &metadata);
        made.expect(201);
        assert_eq!(made.header("tus-resumable"), Some("1.0.0"));
        assert!(made.header("upload-expires").unwrap().ends_with(" GMT"));
        made.header("location").unwrap().to_owned()
    }

    /// The head of a part; its body may follow.
    pub(crate) fn part(&self, url: &str, offset: usize) -> Request {
        let part = self.request("PATCH", url);
        part.header("Content-Type", "application/offset+octet-stream")
            .header("Upload-Offset", &offset.to_string())
    }

    pub(crate) fn append(&self, url: &str, offset: usize, bytes: &[u8]) {
        let part = self.send(self.part(url, offset).body(bytes));
        part.expect(204);
        let end = (offset + bytes.len()).to_string();
        assert_eq!(part.header("upload-offset"), Some(end.as_str()));
    }

    pub(crate) fn ask(&self, url: &str) -> Response {
        self.send(self.request("HEAD", url))
    }

    pub(crate) fn offset(&self, url: &str) -> usize {
        let asked = self.ask(url);
        asked.expect(200);
        assert_eq!(asked.header("cache-control"), Some("no-store"));
        asked.header("upload-offset").unwrap().parse().unwrap()
    }

    /// Announces and sends a file as a whole.
    pub(crate) fn upload(&self, job: i64, name: &str, bytes: &[u8]) -> String {
        let url = self.announce(job, name, bytes.len());
        self.append(&url, 0, bytes);
        url
    }

    pub(crate) fn start(&self, job: i64) -> Response {
        let path = format!("/api/v1/jobs/{job}/start");
        self.send(request("POST", &path).bearer(&self.token).body(b""))
    }

    pub(crate) fn job(&self, job: i64) -> Value {
        self.service.job(&self.token, job)
    }

    fn glb(&self, job: i64) -> Vec<u8> {
        let path = format!("/api/v1/jobs/{job}/artifacts/glb");
        let answer = self.send(request("GET", &path).bearer(&self.token));
        assert_eq!(answer.status, 200);
        answer.body
    }

    /// Starts the job, waits for its end, and compares its result with that of the same images in one request.
    fn assert_same_as_at_once(&self, job: i64, images: &[&[u8]]) {
        self.start(job).expect(200);
        let done = self.service.finished_job(&self.token, job);
        assert_eq!(done["state"], "done", "{done}");
        let at_once = self.service.submit_http(&self.token, images);
        let at_once = self.service.finished_job(&self.token, at_once);
        assert_eq!(at_once["result"]["hash"], done["result"]["hash"]);
    }

    /// Begins a part of which only some bytes are sent.
    fn begin(&self, url: &str, offset: usize, length: usize, bytes: &[u8]) -> TcpStream {
        let head = self.part(url, offset);
        let head = head.header("Content-Length", &length.to_string()).bytes();
        let mut stream = connect(self.service.http());
        stream.write_all(&head).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    }
}

#[test]
fn files_that_come_in_parts_are_the_job_that_they_are_at_once() {
    let service = Service::start_http(&[]);
    let tus = Tus::new(&service, "ann");
    let images = demo_images(2);
    let options = json!({"name": "K\u{fc}che", "show_cam": true});
    let made = tus.try_job(&options);
    let job = made.expect(201);
    let id = job["id"].as_i64().unwrap();
    let place = format!("/api/v1/jobs/{id}");
    assert_eq!(made.header("location"), Some(place.as_str()));
    assert_eq!(
        (&job["state"], &job["name"]),
        (&json!("uploading"), &json!("K\u{fc}che.glb"))
    );
    assert_eq!(job["uploads"], json!([]));
    // Announced in order, sent in another.
    let urls: Vec<String> = (0..2)
        .map(|i| tus.announce(id, &format!("photo {i}.png"), images[i].len()))
        .collect();
    assert_ne!(urls[0], urls[1]);
    let half = images[1].len() / 2;
    tus.append(&urls[1], 0, &images[1][..half]);
    tus.append(&urls[0], 0, images[0]);
    let job = tus.job(id);
    let second = &job["uploads"][1];
    assert_eq!(second["url"], urls[1]);
    assert_eq!(second["name"], "photo 1.png");
    assert_eq!(
        (&second["offset"], &second["length"]),
        (&json!(half), &json!(images[1].len()))
    );
    assert!(job["expires_at"].is_string() && job["created_at"].is_string());
    assert_eq!(tus.offset(&urls[1]), half);
    let asked = tus.ask(&urls[1]);
    let length = images[1].len().to_string();
    assert_eq!(asked.header("upload-length"), Some(length.as_str()));
    let metadata = format!("filename {}", BASE64_STANDARD.encode("photo 1.png"));
    assert_eq!(asked.header("upload-metadata"), Some(metadata.as_str()));
    tus.append(&urls[1], half, &images[1][half..]);
    let started = tus.start(id).expect(200);
    assert_ne!(started["state"], "uploading");
    assert_eq!(started["id"], id);
    assert_eq!(service.finished_job(&tus.token, id)["state"], "done");
    for url in &urls {
        assert_eq!(tus.ask(url).status, 404);
    }
    // Once more, whatever has become of it.
    assert_eq!(tus.start(id).expect(200)["state"], "done");
    let options = options.to_string();
    let parts = [
        ("files", Some("photo 0.png"), images[0]),
        ("files", Some("photo 1.png"), images[1]),
        ("options", None, options.as_bytes()),
    ];
    let at_once = request("POST", "/api/v1/jobs").bearer(&tus.token);
    let at_once = tus.send(at_once.multipart(&parts)).expect(201);
    let at_once = at_once["id"].as_i64().unwrap();
    assert!(at_once > id);
    let hash = &service.finished_job(&tus.token, at_once)["result"]["hash"];
    assert_eq!(hash, &tus.job(id)["result"]["hash"]);
    assert!(tus.glb(id).starts_with(b"glTF") && tus.glb(id) == tus.glb(at_once));
    service.assert_nothing_left();
}

#[test]
fn an_upload_that_is_cut_anywhere_goes_on_where_it_was_cut() {
    let service = Service::start_http(&[]);
    let tus = Tus::new(&service, "ann");
    // Beyond the pieces in which it is written, with bytes of no meaning behind the image.
    let mut image = demo_images(1)[0].to_vec();
    image.extend((0..600_000_u32).map(|i| i as u8));
    let id = tus.empty_job();
    let url = tus.announce(id, "a.png", image.len());
    let piece = 256 << 10;
    let mut cuts = vec![0, 1, 2, 1000, image.len() - 1];
    for boundary in [piece, 2 * piece, 3 * piece] {
        cuts.extend([boundary - 1, boundary, boundary + 1]);
    }
    cuts.extend((1..20).map(|i| i * 33_333));
    cuts.retain(|cut| *cut < image.len());
    cuts.sort_unstable();
    cuts.dedup();
    let mut at = 0;
    for cut in cuts {
        // The part before may be about to end.
        wait_for("the part before to end", || {
            let none = tus.send(tus.part(&url, at).body(b""));
            (none.status == 204).then_some(())
        });
        let sent = &image[at..cut];
        let stream = tus.begin(&url, at, image.len() - at, sent);
        // As an end of the connection, or as an end of what is sent.
        match cut % 2 {
            0 => drop(stream),
            _ => stream.shutdown(Shutdown::Write).unwrap(),
        }
        wait_for("what has arrived to be kept", || {
            (tus.offset(&url) == cut).then_some(())
        });
        at = cut;
    }
    wait_for("the last part", || {
        let part = tus.send(tus.part(&url, at).body(&image[at..]));
        (part.status == 204).then_some(())
    });
    tus.assert_same_as_at_once(id, &[&image]);
    service.assert_nothing_left();
}

#[test]
fn uploads_survive_a_kill_and_count_as_before() {
    let service = Service::start_http(&["--max-user-bytes", "2"]);
    let tus = Tus::new(&service, "ann");
    let token = tus.token.clone();
    let images = demo_images(2);
    let mut long = images[1].to_vec();
    long.resize(1 << 20, 7);
    let id = tus.empty_job();
    let whole = tus.upload(id, "a.png", images[0]);
    let cut = tus.announce(id, "b.png", long.len());
    tus.append(&cut, 0, &long[..1000]);
    let stream = tus.begin(&cut, 1000, long.len() - 1000, &long[1000..700_000]);
    wait_for("some bytes to be written", || written(&service, 250_000));
    let dir = service.kill();
    drop(stream);
    let service = Service::start_in(dir, &["--http", "127.0.0.1:0", "--max-user-bytes", "2"]);
    let tus = Tus {
        service: &service,
        token: token.clone(),
    };
    assert_eq!(tus.offset(&whole), images[0].len());
    let at = tus.offset(&cut);
    assert!((1000..=700_000).contains(&at), "{at}");
    assert_eq!(tus.job(id)["state"], "uploading");
    // What was announced counts, not what has arrived.
    let more = tus.try_announce(id, 1 << 20, "");
    more.problem(507, "quota_exceeded");
    let beside = request("POST", "/api/v1/jobs").bearer(&tus.token);
    let beside = tus.send(beside.multipart(&[("files", None, &[0; 1 << 20])]));
    beside.problem(507, "quota_exceeded");
    tus.append(&cut, at, &long[at..]);
    let dir = service.kill();
    let service = Service::start_in(dir, &["--http", "127.0.0.1:0"]);
    let tus = Tus {
        service: &service,
        token,
    };
    tus.assert_same_as_at_once(id, &[images[0], &long]);
}

/// Whether a file of a job that is uploading has so many bytes by now.
fn written(service: &Service, bytes: u64) -> Option<()> {
    if is_bucket() {
        // They are in a file without a name until the part ends.
        thread::sleep(Duration::from_secs(1));
        return Some(());
    }
    let folders = leftovers(&service.out());
    let files = folders.iter().filter_map(|dir| std::fs::read_dir(dir).ok());
    let mut lengths = files
        .flatten()
        .map(|file| file.unwrap().metadata().unwrap().len());
    lengths.any(|len| len >= bytes).then_some(())
}

#[test]
fn a_stop_ends_a_part_at_once_and_keeps_it() {
    let mut service = Service::start_http(&["--grace", "100"]);
    let tus = Tus::new(&service, "ann");
    let token = tus.token.clone();
    let mut image = demo_images(1)[0].to_vec();
    image.resize(1 << 20, 7);
    let id = tus.empty_job();
    let url = tus.announce(id, "a.png", image.len());
    let mut stream = tus.begin(&url, 0, image.len(), &image[..600_000]);
    wait_for("some bytes to be written", || written(&service, 250_000));
    let stopping = thread::spawn(move || read(&mut stream, false));
    assert_eq!(service.terminate(), Some(0));
    let stopped = stopping.join().unwrap();
    stopped.problem(503, "busy");
    assert!(stopped.header("retry-after").is_some());
    let dir = service.kill();
    let service = Service::start_in(dir, &["--http", "127.0.0.1:0"]);
    let service = &service;
    let tus = Tus { service, token };
    let at = tus.offset(&url);
    assert!((250_000..=600_000).contains(&at), "{at}");
    tus.append(&url, at, &image[at..]);
    tus.assert_same_as_at_once(id, &[&image]);
}

#[test]
fn the_other_port_does_not_see_what_is_uploading() {
    let service = Service::start_http(&[]);
    let tus = Tus::new(&service, "ann");
    let mut tcp = service.login("ann");
    let seen = |tcp: &mut crate::support::service::Client| {
        let job = "{\"job\": 1}";
        [(5, ""), (9, job), (10, job), (13, "{}"), (14, "{}")]
            .map(|(command, payload)| tcp.json(command, payload))
    };
    let none = seen(&mut tcp);
    let id = tus.empty_job();
    tus.upload(id, "a.png", demo_images(1)[0]);
    assert_eq!((id, seen(&mut tcp)), (1, none));
    assert_eq!(tus.job(id)["state"], "uploading");
    // Numbers are given once, on whichever port.
    let other = tcp.submit(&refs(&varied(1)));
    assert!(other > id);
    let page = |query: &str| {
        let path = format!("/api/v1/jobs{query}");
        let page = tus
            .send(request("GET", &path).bearer(&tus.token))
            .expect(200);
        let jobs = page["jobs"].as_array().unwrap().clone();
        let ids: Vec<i64> = jobs.iter().map(|job| job["id"].as_i64().unwrap()).collect();
        (ids, page["next"].clone())
    };
    let last = tus.empty_job();
    assert_eq!(page(""), (vec![last, other, id], Value::Null));
    assert_eq!(page("?limit=2"), (vec![last, other], json!(other)));
    let before = format!("?limit=1&before={other}");
    assert_eq!(page(&before), (vec![id], Value::Null));
    tus.start(id).expect(200);
    assert_eq!(page("").0, [last, other, id]);
    assert_eq!(tcp.finished(id)["state"], "done");
}

#[test]
fn a_job_that_the_queue_does_not_take_keeps_its_files() {
    let service = Service::start_http(&["--queue-per-user", "1"]);
    let tus = Tus::new(&service, "ann");
    let id = tus.empty_job();
    let url = tus.upload(id, "a.png", demo_images(1)[0]);
    let running = service.submit_http(&tus.token, &long_job());
    wait_for("the job to run", || {
        (tus.job(running)["state"] != "queued").then_some(())
    });
    let waiting = service.submit_http(&tus.token, &refs(&varied(1)));
    tus.start(id).problem(503, "busy");
    assert_eq!(tus.job(id)["state"], "uploading");
    assert_eq!(tus.offset(&url), demo_images(1)[0].len());
    for other in [running, waiting] {
        let path = format!("/api/v1/jobs/{other}");
        tus.send(request("DELETE", &path).bearer(&tus.token))
            .expect(200);
    }
    wait_for("the queue to be empty", || {
        (tus.start(id).status == 200).then_some(())
    });
    assert_eq!(service.finished_job(&tus.token, id)["state"], "done");
}
