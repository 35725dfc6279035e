//! Errors over HTTP: what every operation of the document answers to requests that are wrong, and that each code is given.

use std::{collections::BTreeSet, io::Write, net::TcpStream};

use serde_json::{Value, json};

use crate::{
    http_resumable::Tus,
    support::{
        http::{Part, Request, Response, connect, multipart, read, request},
        service::{Service, demo_images, long_job, refs, varied, wait_for},
        store,
    },
};

const METHODS: [&str; 8] = [
    "get", "put", "post", "delete", "options", "head", "patch", "trace",
];
/// A page of another origin.
const EVIL: &str = "https://evil.test";

/// The document, and the codes that were answered.
struct Book {
    paths: Value,
    codes: BTreeSet<String>,
}

impl Book {
    fn new(service: &Service) -> Self {
        let document = request("GET", "/api/v1/openapi.json").send(service.http());
        Self {
            paths: document.expect(200)["paths"].clone(),
            codes: BTreeSet::new(),
        }
    }

    /// Checks that an operation's answer is described, and that an error is a problem object with this code.
    fn enter(&mut self, method: &str, path: &str, answer: &Response, status: u16, code: &str) {
        let operation = &self.paths[path][method.to_lowercase()];
        let responses = operation["responses"].as_object();
        let responses = responses.unwrap_or_else(|| panic!("{method} {path} is not described"));
        let known = status.to_string();
        let known = responses.get(&known).or_else(|| responses.get("default"));
        let known = known.unwrap_or_else(|| panic!("{method} {path}: {status} is not described"));
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        if method == "HEAD" {
            return;
        }
        answer.problem(status, code);
        let described = &known["content"]["application/problem+json"];
        assert!(described.is_object(), "{method} {path} {status}: {known}");
        self.codes.insert(code.to_owned());
    }
}

/// An operation of the document.
struct Operation<'a> {
    method: String,
    path: &'a str,
    of: &'a Value,
}

impl Operation<'_> {
    fn needs_login(&self) -> bool {
        self.of["security"].is_array()
    }

    fn changes(&self) -> bool {
        !["GET", "HEAD", "OPTIONS"].contains(&self.method.as_str())
    }

    fn takes(&self, kind: &str) -> bool {
        self.of["requestBody"]["content"][kind].is_object()
    }

    /// A request that would do, if there were such a thing.
    fn request(&self, id: &str) -> Request {
        let request = self.bare(id);
        if self.takes("application/json") && self.path != "/api/v1/jobs" {
            return request.json(&self.json());
        }
        if self.takes("application/offset+octet-stream") {
            let request = request.header("Content-Type", "application/offset+octet-stream");
            return request.header("Upload-Offset", "0").body(b"x");
        }
        if self.takes("multipart/form-data") {
            return request.images(&demo_images(1));
        }
        match self.changes() {
            true => request.body(b""),
            false => request,
        }
    }

    /// The same without a body.
    fn bare(&self, id: &str) -> Request {
        let path = self
            .path
            .replace("{id}", id)
            .replace("{format}", "glb")
            .replace("{file}", "0.jpg")
            .replace("{link}", id)
            .replace("{secret}", id)
            .replace("{number}", "0");
        assert!(!path.contains('{'), "{path}");
        let mut request = request(&self.method, &path);
        if self.path.contains("/uploads") {
            request = request.header("Tus-Resumable", "1.0.0");
            request = request.header("Upload-Length", "1");
        }
        request
    }

    fn json(&self) -> Value {
        match self.path {
            "/api/v1/sessions" => json!({"username": "ann", "password": "wrong"}),
            "/api/v1/tokens" | "/api/v1/jobs/{id}" => json!({"name": "x"}),
            _ => json!({}),
        }
    }
}

#[test]
fn every_operation_refuses_what_is_wrong_with_an_error_that_is_described() {
    let service = Service::start_http(&[]);
    let token = service.token("ann");
    let mut book = Book::new(&service);
    let paths = book.paths.clone();
    let operations = paths.as_object().unwrap().iter().flat_map(|(path, item)| {
        METHODS.iter().filter_map(move |method| {
            Some(Operation {
                method: method.to_uppercase(),
                path,
                of: item.get(method)?,
            })
        })
    });
    let mut checked = 0;
    for operation in operations {
        let mut enter = |request: Request, status, code| {
            let answer = request.send(service.http());
            book.enter(&operation.method, operation.path, &answer, status, code);
            checked += 1;
        };
        if !operation.needs_login() {
            if operation.path.contains('{') && operation.method == "GET" {
                enter(operation.bare("none"), 404, "not_found");
            }
        } else {
            enter(operation.request("1"), 401, "not_logged_in");
            let stale = operation.request("1").bearer("vggt_stale");
            enter(stale, 401, "not_logged_in");
            if operation.path.contains("{id}") {
                for id in ["999999", "x", "-1", "99999999999999999999"] {
                    enter(operation.request(id).bearer(&token), 404, "not_found");
                }
            }
            if operation.changes() {
                let cookie = format!("vggt_session={token}");
                let forged = operation.request("1").header("Cookie", &cookie);
                enter(forged.header("Origin", EVIL), 403, "cross_site");
            }
        }
        if operation.takes("application/json") && operation.path != "/api/v1/jobs" {
            let body = |kind: &str, body: &[u8]| {
                let request = operation.bare("1").bearer(&token);
                request.header("Content-Type", kind).body(body)
            };
            let json = "application/json";
            enter(body("text/plain", b"{}"), 415, "unsupported_media_type");
            for broken in [&b"{"[..], b"[]", b"", b"\xff"] {
                enter(body(json, broken), 400, "bad_request");
            }
            // Which options there are is looked at together with the job.
            if operation.path != "/api/v1/jobs/{id}/rerun" {
                let unknown = br#"{"no_such_field": 1}"#;
                enter(body(json, unknown), 400, "bad_request");
            }
            enter(body(json, &[b' '; 100_000]), 413, "too_large");
        }
    }
    assert!(checked > 150, "{checked}");
}

/// Sends wrong passwords at the same time until one is not looked at any more.
fn refused_login(service: &Service) -> Response {
    let wrong = json!({"username": "nobody", "password": "x"});
    let login = || request("POST", "/api/v1/sessions").json(&wrong);
    login().send(service.http()).problem(401, "wrong_login");
    let mut waiting: Vec<TcpStream> = (0..20).map(|_| connect(service.http())).collect();
    for stream in &mut waiting {
        stream.write_all(&login().bytes()).unwrap();
        stream.set_nonblocking(true).unwrap();
    }
    wait_for("a login to be refused", || {
        waiting.iter_mut().find_map(|stream| {
            stream.peek(&mut [0]).ok()?;
            stream.set_nonblocking(false).unwrap();
            let answer = read(stream, false);
            stream.set_nonblocking(true).unwrap();
            (answer.status == 429).then_some(answer)
        })
    })
}

/// Codes of the files that arrive in parts.
fn of_uploads(book: &mut Book, service: &Service) {
    let tus = Tus::new(service, "ben");
    let uploads = "/api/v1/jobs/{id}/uploads";
    let upload = "/api/v1/jobs/{id}/uploads/{number}";
    let id = tus.empty_job();
    let url = tus.announce(id, "a.png", 10);
    let versionless = request("POST", &format!("/api/v1/jobs/{id}/uploads"));
    let answer = tus.send(versionless.bearer(&tus.token).body(b""));
    book.enter("POST", uploads, &answer, 412, "tus_version");
    let answer = tus.send(tus.part(&url, 3).body(b"x"));
    book.enter("PATCH", upload, &answer, 409, "offset_mismatch");
    let sum = "sha1 qZk+NkcGgWq6PiVxeFDCbJzQ2J0=";
    let part = tus.part(&url, 0).header("Upload-Checksum", sum);
    let answer = tus.send(part.body(b"x"));
    book.enter("PATCH", upload, &answer, 460, "checksum_mismatch");
    let start = "/api/v1/jobs/{id}/start";
    book.enter("POST", start, &tus.start(id), 409, "incomplete");
    let mut stream = connect(service.http());
    let head = tus.part(&url, 0).header("Content-Length", "10").bytes();
    stream.write_all(&[&head[..], b"1"].concat()).unwrap();
    // Until that part has begun, this one is at a wrong place.
    let locked = wait_for("the part to begin", || {
        let answer = tus.send(tus.part(&url, 9).body(b"x"));
        (answer.status == 423).then_some(answer)
    });
    book.enter("PATCH", upload, &locked, 423, "locked");
    drop(stream);
    let too_many = wait_for("the last job that may wait for files", || {
        let answer = tus.try_job(&json!({}));
        (answer.status != 201).then_some(answer)
    });
    book.enter("POST", "/api/v1/jobs", &too_many, 429, "too_many_uploads");
}

/// Codes of jobs and of their files.
fn of_jobs(book: &mut Book, service: &Service) {
    let token = service.token("ann");
    let jobs = "/api/v1/jobs";
    let done = service.submit_http(&token, &demo_images(1));
    service.finished_job(&token, done);
    let ask = |method: &str, below: &str| {
        request(method, &format!("{jobs}/{done}{below}")).bearer(&token)
    };
    let answer = ask("GET", "/artifacts/ply").send(service.http());
    let artifact = "/api/v1/jobs/{id}/artifacts/{format}";
    book.enter("GET", artifact, &answer, 409, "not_kept");
    let range = ask("GET", "/artifacts/glb").header("Range", "bytes=99999999-");
    let answer = range.send(service.http());
    book.enter("GET", artifact, &answer, 416, "range_not_satisfiable");
    let answer = ask("GET", "/artifacts/preview.glb").send(service.http());
    book.enter("GET", artifact, &answer, 409, "conflict");
    let submit = || request("POST", jobs).bearer(&token);
    let chunked = submit().multipart_type();
    let chunked = chunked.header("Transfer-Encoding", "chunked");
    let answer = chunked.send(service.http());
    book.enter("POST", jobs, &answer, 411, "length_required");
    let parts: [Part; 1] = [("files", None, demo_images(1)[0])];
    let body = multipart(&parts);
    let head = submit().multipart_type();
    let head = head.header("Content-Length", &body.len().to_string());
    let mut stalled = connect(service.http());
    stalled.write_all(&head.bytes()).unwrap();
    stalled.write_all(&body[..100]).unwrap();
    let answer = read(&mut stalled, false);
    book.enter("POST", jobs, &answer, 408, "request_timeout");
    let running = service.submit_http(&token, &long_job());
    wait_for("the job to run", || {
        (service.job(&token, running)["state"] != "queued").then_some(())
    });
    service.submit_http(&token, &refs(&varied(1)));
    let answer = submit().images(&refs(&varied(2))).send(service.http());
    book.enter("POST", jobs, &answer, 503, "busy");
    let answer = ask("GET", "/events").send(service.http());
    book.enter(
        "GET",
        "/api/v1/jobs/{id}/events",
        &answer,
        429,
        "too_many_events",
    );
}

/// Codes of who asks.
fn of_callers(book: &mut Book, service: &Service) {
    let (sessions, tokens) = ("/api/v1/sessions", "/api/v1/tokens");
    let token = service.token("ann");
    let named = request("POST", tokens).bearer(&token);
    let named = named.json(&json!({"name": "t"})).send(service.http());
    let named = named.expect(201)["token"].as_str().unwrap().to_owned();
    let more = request("POST", tokens).bearer(&named);
    let answer = more.json(&json!({"name": "u"})).send(service.http());
    book.enter("POST", tokens, &answer, 403, "session_required");
    let cookie = format!("vggt_session={token}");
    let forged = request("POST", tokens).header("Cookie", &cookie);
    let answer = forged.json(&json!({"name": "u"})).send(service.http());
    book.enter("POST", tokens, &answer, 403, "cross_site");
    let answer = request("GET", "/metrics").header("Via", "1.1 proxy");
    let answer = answer.send(service.http());
    book.enter("GET", "/metrics", &answer, 403, "forbidden");
    let wrong = json!({"username": "ann", "password": "x"});
    let wrong = request("POST", sessions).json(&wrong);
    let answer = wrong.send(service.http());
    book.enter("POST", sessions, &answer, 401, "wrong_login");
    let answer = request("GET", tokens).send(service.http());
    book.enter("GET", tokens, &answer, 401, "not_logged_in");
    let text = request("POST", sessions).header("Content-Type", "text/plain");
    let answer = text.body(b"{}").send(service.http());
    book.enter("POST", sessions, &answer, 415, "unsupported_media_type");
    let long = json!({"username": "ann", "password": "x".repeat(100_000)});
    let answer = request("POST", sessions).json(&long).send(service.http());
    book.enter("POST", sessions, &answer, 413, "too_large");
    let jobs = request("GET", "/api/v1/jobs?limit=0").bearer(&token);
    let answer = jobs.send(service.http());
    book.enter("GET", "/api/v1/jobs", &answer, 400, "bad_request");
    let none = request("GET", "/api/v1/jobs/999999").bearer(&token);
    let answer = none.send(service.http());
    book.enter("GET", "/api/v1/jobs/{id}", &answer, 404, "not_found");
    let put = request("PUT", "/health").send(service.http());
    put.problem(405, "method_not_allowed");
    book.codes.insert("method_not_allowed".to_owned());
    book.enter(
        "POST",
        sessions,
        &refused_login(service),
        429,
        "too_many_logins",
    );
}

#[test]
fn every_code_is_given() {
    let service = Service::start_http(&[
        "--stall-timeout",
        "1",
        "--max-user-spools",
        "0",
        "--queue-per-user",
        "1",
        "--max-event-streams",
        "0",
    ]);
    let mut book = Book::new(&service);
    of_callers(&mut book, &service);
    of_uploads(&mut book, &service);
    of_jobs(&mut book, &service);
    drop(service);

    let service = Service::start_http(&["--max-user-bytes", "0"]);
    let submit = |service: &Service| {
        let submit = request("POST", "/api/v1/jobs").bearer(&service.token("ann"));
        submit.images(&demo_images(1)).send(service.http())
    };
    let answer = submit(&service);
    book.enter("POST", "/api/v1/jobs", &answer, 507, "quota_exceeded");
    drop(service);

    let service = Service::start_http(&["--min-free-space", "1000000000"]);
    let answer = submit(&service);
    book.enter("POST", "/api/v1/jobs", &answer, 507, "disk_full");
    // Another program does what it must not. A lock that is held would take the ten seconds for which one is waited for.
    let token = service.token("ann");
    store::execute(service.dir(), "ALTER TABLE removed_files RENAME TO gone");
    let answer = request("GET", "/ready").send(service.http());
    book.enter("GET", "/ready", &answer, 503, "not_ready");
    let missing = json!(["database", "disk"]);
    assert_eq!(answer.json()["missing"], missing);
    let said = String::from_utf8_lossy(&answer.body);
    assert!(!said.contains("removed_files"), "{said}");
    store::execute(service.dir(), "ALTER TABLE jobs RENAME TO lost");
    let jobs = request("GET", "/api/v1/jobs").bearer(&token);
    let answer = jobs.send(service.http());
    book.enter("GET", "/api/v1/jobs", &answer, 500, "internal");

    let source = include_str!("../src/http/problem.rs");
    let (_, words) = source.split_once("fn word(self)").unwrap();
    let (words, _) = words.split_once("fn status(self)").unwrap();
    let words = words.lines().filter_map(|line| line.split('"').nth(1));
    // Not given by anything here: for a status that a layer of the framework may answer some day.
    let words: BTreeSet<String> = words.filter(|w| *w != "other").map(str::to_owned).collect();
    assert_eq!(book.codes, words);
}
