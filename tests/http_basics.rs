//! HTTP: what holds for every request, `/health` and `/ready`, and the OpenAPI document.

use std::{
    fs,
    io::Write,
    net::{Shutdown, TcpListener},
};

use serde_json::{Value, json};

use crate::support::{
    command,
    http::{connect, read, request},
    repository,
    service::{Client, PASSWORD, Service, wait_for},
    vggt,
};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

fn document(service: &Service) -> Value {
    let answer = request("GET", "/api/v1/openapi.json").send(service.http());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.expect(200)
}

#[test]
fn health_and_readiness_need_no_login() {
    let service = Service::start_http(&[]);
    let health = request("GET", "/health").send(service.http()).expect(200);
    assert_eq!(health["status"], "ok");
    let ready = request("GET", "/ready").send(service.http()).expect(200);
    assert_eq!(ready["status"], "ready");
    let head = request("HEAD", "/health").send(service.http());
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn readiness_says_what_is_missing() {
    let service = Service::start_http(&["--min-free-space", "1000000000"]);
    let answer = request("GET", "/ready").send(service.http());
    let problem = answer.problem(503, "not_ready");
    assert_eq!(problem["missing"], serde_json::json!(["disk"]));
    request("GET", "/health").send(service.http()).expect(200);

    let weights = tempfile::tempdir().unwrap();
    let file = weights.path().join("demo.safetensors");
    fs::copy(repository("model/demo/demo.safetensors"), &file).unwrap();
    let service = Service::start_http(&["--checkpoint", file.to_str().unwrap()]);
    fs::remove_file(&file).unwrap();
    let answer = request("GET", "/ready").send(service.http());
    let problem = answer.problem(503, "not_ready");
    assert_eq!(problem["missing"], serde_json::json!(["weights"]));
    let said = problem["detail"].as_str().unwrap();
    assert!(!said.contains('/'), "a path of the server: {said}");
}

#[test]
fn every_error_is_a_problem_object() {
    let service = Service::start_http(&[]);
    for path in [
        "/none",
        "/api",
        "/api/v1",
        "/api/v1/none",
        "/health/",
        "/%ff",
        "/..",
        "/api/v2/jobs",
    ] {
        request("GET", path)
            .send(service.http())
            .problem(404, "not_found");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = request(method, "/health").send(service.http());
        answer.problem(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), Some("GET,HEAD"));
    }
}

#[test]
fn every_answer_keeps_browsers_from_guessing_framing_and_reading_across_origins() {
    let service = Service::start_http(&[]);
    for path in ["/health", "/none", "/api/v1/openapi.json"] {
        let origin = request("GET", path).header("Origin", "https://evil.test");
        let answer = origin.send(service.http());
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe-inline"), "{policy}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
        assert_eq!(answer.header("server"), None);
    }
}

#[test]
fn the_document_describes_exactly_the_routes_that_there_are() {
    let service = Service::start_http(&[]);
    let document = document(&service);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.contains_key("/health") && paths.contains_key("/ready"));
    for (path, item) in paths {
        let real = path
            .replace("{id}", "1")
            .replace("{number}", "1")
            .replace("{link}", "1")
            .replace("{secret}", "1")
            .replace("{format}", "points")
            .replace("{file}", "0.jpg");
        assert!(!real.contains('{'), "{path}");
        for method in METHODS {
            let answer = request(&method.to_uppercase(), &real).send(service.http());
            let is_described = item.get(method).is_some();
            assert_eq!(answer.status != 405, is_described, "{method} {path}");
            let Some(operation) = item.get(method) else {
                continue;
            };
            // Without a login and a body: whatever the answer is, it is described.
            let responses = operation["responses"].as_object().unwrap();
            let status = answer.status.to_string();
            let known = responses.contains_key(&status) || responses.contains_key("default");
            assert!(known, "{method} {path}: {status}");
            let body = String::from_utf8_lossy(&answer.body);
            let nothing = body.contains("nothing under this path");
            assert!(!nothing, "{method} {path} is described and not there");
        }
    }
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(to)) = fields.get("$ref") {
                    found.push(to);
                }
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let service = Service::start_http(&[]);
    let document = document(&service);
    // Generators of clients make a function of each.
    let items = document["paths"].as_object().unwrap().values();
    let items = items.flat_map(|item| item.as_object().unwrap().values());
    let mut names: Vec<_> = items
        .map(|item| item["operationId"].as_str().unwrap())
        .collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "{names:?}");
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn a_slow_or_endless_head_ends_the_connection() {
    let service = Service::start_http(&["--stall-timeout", "1"]);
    for beginning in ["", "GET /hea", "GET /health HTTP/1.1\r\nHost: x\r\n"] {
        let mut stream = connect(service.http());
        stream.write_all(beginning.as_bytes()).unwrap();
        let mut client = Client { stream };
        assert!(client.is_closed(), "{beginning:?}");
    }
    let long = request("GET", "/health").header("X", &"x".repeat(100_000));
    assert_eq!(long.send(service.http()).status, 431);
    // What is not HTTP, such as a request of the other port.
    let mut client = Client::new(service.http());
    client.send(1, b"{\"u\": \"ann\", \"p\": \"\"}");
    assert!(client.try_read_blob().is_err() || client.is_closed());
    request("GET", "/health").send(service.http()).expect(200);
}

#[test]
fn both_ports_share_the_connections_of_an_address() {
    let service = Service::start_http(&["--max-connections-per-address", "2"]);
    let mut first = connect(service.http());
    request("GET", "/health").send_on(&mut first).expect(200);
    let mut second = service.login("ann");
    assert!(second.json(12, "")["protocol"].is_u64());
    // The third takes the place of the one that is not logged in.
    let mut third = connect(service.http());
    request("GET", "/health").send_on(&mut third).expect(200);
    let mut first = Client { stream: first };
    assert!(first.is_closed());
    assert!(second.json(12, "")["protocol"].is_u64());
}

#[test]
fn a_stop_ends_idle_connections_and_the_process() {
    let mut service = Service::start_http(&[]);
    let mut idle = connect(service.http());
    request("GET", "/health").send_on(&mut idle).expect(200);
    let fresh = connect(service.http());
    assert_eq!(service.terminate(), Some(0));
    for stream in [idle, fresh] {
        assert!(Client { stream }.is_closed());
    }
}

#[test]
fn connections_go_on_and_pipelined_requests_are_answered_in_order() {
    let service = Service::start_http(&[]);
    let mut stream = connect(service.http());
    let both = [
        request("GET", "/health").bytes(),
        request("GET", "/none").bytes(),
    ];
    stream.write_all(&both.concat()).unwrap();
    assert_eq!(read(&mut stream, false).status, 200);
    assert_eq!(read(&mut stream, false).status, 404);
    request("GET", "/health").send_on(&mut stream).expect(200);
    stream.shutdown(Shutdown::Both).unwrap();
}

#[test]
fn a_connection_goes_on_after_a_body_that_nobody_reads_or_the_answer_says_that_it_ends() {
    let service = Service::start_http(&[]);
    let refused = || request("POST", "/api/v1/tokens").header("Content-Type", "application/json");
    let mut stream = connect(service.http());
    // Its body comes later, as the libraries of most clients send it.
    let later = refused().body(b"{\"name\": \"x\"}").bytes();
    let (head, body) = later.split_at(later.len() - 13);
    stream.write_all(head).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    stream.write_all(body).unwrap();
    let answer = read(&mut stream, false);
    assert_eq!(answer.header("connection"), None);
    answer.problem(401, "not_logged_in");
    // In chunks, of which each is a piece of its own.
    let chunked = refused().header("Transfer-Encoding", "chunked").bytes();
    let chunks = [&chunked[..], b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"].concat();
    stream.write_all(&chunks).unwrap();
    read(&mut stream, false).problem(401, "not_logged_in");
    request("GET", "/health").send_on(&mut stream).expect(200);
    // Too long, whether it is sent before it is asked for or not.
    for (name, value) in [("X", "x"), ("Expect", "100-continue")] {
        let mut stream = connect(service.http());
        let head = refused()
            .header("Content-Length", "2000000")
            .header(name, value);
        stream.write_all(&head.bytes()).unwrap();
        let answer = read(&mut stream, false);
        assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
        answer.problem(401, "not_logged_in");
        assert!(Client { stream }.is_closed());
    }
}

#[test]
fn a_client_that_takes_no_answer_as_it_is_gets_one_nevertheless() {
    let service = Service::start_http(&[]);
    for (asked, encoding) in [
        ("gzip", Some("gzip")),
        ("gzip, identity;q=0", Some("gzip")),
        ("GZIP;q=0.5, *;q=0", Some("gzip")),
        ("identity;q=0", None),
        ("gzip;q=0, *;q=0.0", None),
        ("br, *;q=0", None),
    ] {
        let document = request("GET", "/api/v1/openapi.json").header("Accept-Encoding", asked);
        let document = document.send(service.http());
        assert_eq!(document.status, 200, "{asked}");
        assert_eq!(document.header("content-encoding"), encoding, "{asked}");
        // Its status is not another one once it is done.
        let login = json!({"username": "ann", "password": PASSWORD});
        let login = request("POST", "/api/v1/sessions").json(&login);
        let session = login.header("Accept-Encoding", asked).send(service.http());
        assert_eq!(session.status, 201, "{asked}");
    }
}

#[test]
fn an_address_that_was_asked_for_must_be_free_and_the_default_need_not() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = Service::start(&[]).kill();
    let serve = ["serve", "--demo", "--host", "127.0.0.1", "--port", "0"];
    let output = vggt(dir.path(), &[&serve[..], &["--http", &address]].concat());
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--http"), "{said}");

    // Whether this test takes it or another program has it.
    let _default = TcpListener::bind("127.0.0.1:4568");
    let mut program = command(dir.path());
    program.env_remove("VGGT_HTTP");
    let service = Service::start_with(dir, program, &[]);
    wait_for("the warning", || {
        let log = service.log();
        log.contains("HTTP is not served").then_some(())
    });
    assert!(service.log().contains(", HTTP off,"));
    service.login("ann");
}
