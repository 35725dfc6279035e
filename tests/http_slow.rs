//! Peers that are slow or silent, in every state of a connection: each is closed in time, and others are served meanwhile.
//!
//! A handshake of TLS that stalls is in [`super::http_tls`], a stream of events that is not read in [`super::http_events`].

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use crate::{
    http_resumable::Tus,
    support::{
        http::{Request, connect, request},
        service::{PATIENCE, Service, assert_glb, demo_images, wait_for},
    },
};

/// Length of a body of which next to nothing comes.
const LENGTH: usize = 1000;

/// Time between two bytes of a peer that sends some, so that it is never silent for the second that the service waits.
const DRIP: Duration = Duration::from_millis(100);

/// Reads what comes until the end, sending a byte now and then where `drips`.
fn until_closed(mut stream: TcpStream, drips: bool) -> String {
    stream.set_read_timeout(Some(DRIP)).unwrap();
    let start = Instant::now();
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        assert!(start.elapsed() < PATIENCE, "{all:?}");
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => all.extend(&piece[..n]),
            Err(e) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&e.kind()) => {}
            Err(_) => break,
        }
        if drips {
            // Once it is closed, the read says so.
            let _ = stream.write_all(b"x");
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// A request of which only the head is there, and the first bytes of the body.
fn begun(head: Request, bytes: &[u8]) -> Vec<u8> {
    let head = head.header("Content-Length", &LENGTH.to_string());
    [&head.bytes(), bytes].concat()
}

/// What a peer has sent when it falls silent, or begins to drip; and the statuses of the answers.
type State = (&'static str, Vec<u8>, Vec<u8>, &'static [u16]);

#[test]
fn peers_that_send_too_slowly_are_closed_in_every_state() {
    let service = Service::start_http(&["--stall-timeout", "1"]);
    let token = service.token("ann");
    let tus = Tus::new(&service, "ann");
    let job = tus.empty_job();
    let files = ["a.jpg", "b.jpg"].map(|name| tus.announce(job, name, LENGTH));
    let json = |method, path| {
        let head = request(method, path).bearer(&token);
        begun(head.header("Content-Type", "application/json"), b"{")
    };
    let multipart = begun(
        request("POST", "/api/v1/jobs")
            .bearer(&token)
            .multipart_type(),
        b"--x-boundary-of-a-test\r\nContent-Disposition: form-data; name=\"files\"\r\n\r\nabc",
    );
    let refused = begun(request("POST", "/api/v1/jobs").multipart_type(), b"--x");
    let health = request("GET", "/health").bytes();
    // What has come, and the status of the last answer: none where no request has begun.
    let part = |i: usize| begun(tus.part(&files[i], 0), b"abc");
    let states: Vec<State> = vec![
        ("nothing", vec![], vec![], &[]),
        ("a line", b"GET /hea".to_vec(), b"GET /hea".to_vec(), &[408]),
        (
            "a head",
            b"GET /health HTTP/1.1\r\nX: ".to_vec(),
            b"GET /health HTTP/1.1\r\nX: ".to_vec(),
            &[408],
        ),
        ("between requests", health.clone(), vec![], &[200]),
        (
            "the next head",
            [&health[..], b"GET "].concat(),
            [&health[..], b"GET "].concat(),
            &[200, 408],
        ),
        (
            "a login",
            json("POST", "/api/v1/sessions"),
            json("POST", "/api/v1/sessions"),
            &[408],
        ),
        (
            "options",
            json("POST", "/api/v1/jobs"),
            json("POST", "/api/v1/jobs"),
            &[408],
        ),
        ("an upload", multipart.clone(), multipart, &[408]),
        (
            "an upload that is refused",
            refused.clone(),
            refused,
            &[401],
        ),
        ("a part", part(0), part(1), &[408]),
    ];
    thread::scope(|scope| {
        for (what, silent, dripping, statuses) in states {
            for (drips, bytes) in [(false, silent), (true, dripping)] {
                if drips && bytes.is_empty() {
                    // A byte would begin a request.
                    continue;
                }
                let mut stream = connect(service.http());
                scope.spawn(move || {
                    stream.write_all(&bytes).unwrap();
                    let got = until_closed(stream, drips);
                    // An answer begins where the body before it ends.
                    let answers = got.split("HTTP/1.1 ").skip(1);
                    let found: Vec<u16> = answers.map(|text| text[..3].parse().unwrap()).collect();
                    // A head that does not come may be answered or not.
                    let may_be = statuses.split_last().map_or(&[][..], |(_, before)| before);
                    let is_right =
                        found == statuses || (found == may_be && statuses.ends_with(&[408]));
                    assert!(is_right, "{what}, dripping {drips}: {got}");
                });
            }
        }
        // Others are served meanwhile.
        let images = demo_images(2);
        let id = service.submit_http(&token, &images);
        assert_eq!(service.finished_job(&token, id)["state"], "done");
    });
    // What has come of the parts is kept, nothing of the rest.
    for file in &files {
        assert!(tus.offset(file) >= 3);
    }
    let path = format!("/api/v1/jobs/{job}");
    let removed = request("DELETE", &path).bearer(&token).send(service.http());
    assert_eq!(removed.status, 204);
    service.assert_nothing_left();
}

/// A connection whose own buffer is as small as there is.
fn small(service: &Service) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    socket.connect(&service.http().into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn peers_that_do_not_read_their_answers_are_closed() {
    let service = Service::start_http(&["--stall-timeout", "1"]);
    let token = service.token("ann");
    let job = service.submit_http(&token, &demo_images(2));
    service.finished_job(&token, job);
    let glb = request("GET", &format!("/api/v1/jobs/{job}/artifacts/glb")).bearer(&token);
    assert_glb(&glb.clone().send(service.http()).body);
    let list = request("GET", "/api/v1/jobs").bearer(&token);
    let document = request("GET", "/api/v1/openapi.json");
    thread::scope(|scope| {
        for (what, asked) in [
            ("a file", glb),
            ("a list", list),
            ("a description", document),
        ] {
            let mut stream = small(&service);
            scope.spawn(move || {
                // More than the kernel keeps for a peer: asked for again and again, until nobody takes it any more.
                let (bytes, start) = (asked.bytes().repeat(64), Instant::now());
                while stream.write_all(&bytes).is_ok() {
                    assert!(start.elapsed() < PATIENCE, "{what}");
                }
                // Whatever was underway, it is over.
                while stream.read(&mut [0; 65_536]).is_ok_and(|n| n > 0) {}
            });
        }
        assert_eq!(service.job(&token, job)["state"], "done");
    });
    wait_for("the server to take another request", || {
        let health = request("GET", "/health").send(service.http());
        (health.status == 200).then_some(())
    });
}
