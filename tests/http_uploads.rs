//! Uploads over HTTP: what is taken, what is refused, and what is left of one that ends early.

use std::{io::Write, thread};

use serde_json::json;

use crate::support::{
    http::{Part, Request, connect, multipart, read, request},
    service::{Service, demo_images, long_job, refs, varied, wait_for},
};

fn submit(token: &str) -> Request {
    request("POST", "/api/v1/jobs").bearer(token)
}

#[test]
fn options_come_before_or_after_the_files_and_count() {
    let service = Service::start_http(&[]);
    let token = service.token("ann");
    let image = demo_images(1)[0];
    let options = json!({"name": "Kitchen", "show_cam": true}).to_string();
    let file: Part = ("files", Some("a.png"), image);
    let options: Part = ("options", None, options.as_bytes());
    for parts in [[file, options], [options, file]] {
        let answer = submit(&token).multipart(&parts).send(service.http());
        let job = answer.expect(201);
        let place = format!("/api/v1/jobs/{}", job["id"]);
        assert_eq!(answer.header("location"), Some(place.as_str()));
        assert_eq!(job["name"], "Kitchen.glb");
        let job = service.finished_job(&token, job["id"].as_i64().unwrap());
        assert_eq!(job["state"], "done", "{job}");
    }
}

#[cfg(feature = "video")]
#[test]
fn a_video_is_known_by_its_bytes() {
    let service = Service::start_http(&[]);
    let token = service.token("ann");
    let clip = crate::support::service::clip();
    let parts: [Part; 1] = [("files", None, &clip)];
    let job = submit(&token).multipart(&parts).send(service.http());
    let id = job.expect(201)["id"].as_i64().unwrap();
    let job = service.finished_job(&token, id);
    assert_eq!(job["state"], "done", "{job}");
    assert!(job["name"].as_str().unwrap().starts_with("video_"), "{job}");
    let image = demo_images(1)[0];
    for parts in [
        [("files", None, &clip[..]), ("files", None, image)],
        [("files", None, image), ("files", None, &clip[..])],
    ] {
        let answer = submit(&token).multipart(&parts).send(service.http());
        answer.problem(400, "bad_request");
    }
}

#[test]
fn a_file_is_called_by_its_name() {
    let service = Service::start_http(&[]);
    let token = service.token("ann");
    let image = demo_images(1)[0];
    let parts: [Part; 2] = [
        ("files", Some("good.png"), image),
        (
            "files",
            Some("../dir/broken.jpg"),
            b"\xff\xd8\xff\xe0 not a photo",
        ),
    ];
    let job = submit(&token).multipart(&parts).send(service.http());
    let id = job.expect(201)["id"].as_i64().unwrap();
    let job = service.finished_job(&token, id).to_string();
    assert!(
        job.contains("broken.jpg") && !job.contains("image_0"),
        "{job}"
    );
    assert!(!job.contains("dir/"), "{job}");
}

#[test]
fn what_is_no_upload_is_refused_with_its_reason_and_leaves_nothing() {
    let service = Service::start_http(&["--max-images", "3", "--max-upload", "1"]);
    let token = service.token("ann");
    let image = demo_images(1)[0];
    let big = vec![0; 2 << 20];
    let cases: [(&[Part], u16, &str); 11] = [
        (&[], 400, "bad_request"),
        (&[("options", None, b"{}")], 400, "bad_request"),
        (&[("files", Some("a.png"), b"")], 400, "bad_request"),
        (
            &[("files", None, image), ("files", None, b"")],
            400,
            "bad_request",
        ),
        (&[("other", None, b"x")], 400, "bad_request"),
        (
            &[("options", None, b"{"), ("files", None, image)],
            400,
            "bad_request",
        ),
        (
            &[
                ("files", None, image),
                ("options", None, b"{\"no_such\": 1}"),
            ],
            400,
            "bad_request",
        ),
        (
            &[("files", None, image), ("options", None, b"{\"fps\": -1}")],
            400,
            "bad_request",
        ),
        (
            &[("options", None, b"{}"), ("options", None, b"{}")],
            400,
            "bad_request",
        ),
        (&[("files", None, image); 4], 400, "bad_request"),
        (&[("files", None, &big)], 413, "too_large"),
    ];
    for (parts, status, code) in cases {
        let answer = submit(&token).multipart(parts).send(service.http());
        let problem = answer.problem(status, code);
        assert!(problem["detail"].is_string(), "{problem}");
    }
    // JSON makes a job whose files come later.
    let other = submit(&token).header("Content-Type", "text/plain");
    let other = other.body(b"{}");
    other
        .send(service.http())
        .problem(415, "unsupported_media_type");
    let chunked = submit(&token)
        .multipart_type()
        .header("Transfer-Encoding", "chunked");
    chunked.send(service.http()).problem(411, "length_required");
    let huge = submit(&token)
        .multipart_type()
        .header("Content-Length", "99999999999");
    huge.send(service.http()).problem(413, "too_large");
    for broken in [
        &b"nothing of the kind"[..],
        b"--x-boundary-of-a-test\r\n",
        b"",
    ] {
        let broken = submit(&token).multipart_type().body(broken);
        broken.send(service.http()).problem(400, "bad_request");
    }
    service.assert_nothing_left();
}

#[test]
fn the_head_of_a_part_is_not_collected_without_an_end() {
    let service = Service::start_http(&[]);
    let token = service.token("ann");
    let mut body = b"--x-boundary-of-a-test\r\nContent-Disposition: ".to_vec();
    body.resize(3 << 20, b'x');
    let endless = submit(&token).multipart_type().body(&body);
    let problem = endless.send(service.http()).problem(400, "bad_request");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("too long"), "{detail}");
}

#[test]
fn an_upload_that_stalls_or_is_cut_off_leaves_nothing() {
    let service = Service::start_http(&["--stall-timeout", "1"]);
    let token = service.token("ann");
    let body = multipart(&[("files", Some("a.png"), demo_images(1)[0])]);
    let head = submit(&token).multipart_type();
    let head = head
        .header("Content-Length", &body.len().to_string())
        .bytes();
    let begin = || {
        let mut stream = connect(service.http());
        stream.write_all(&head).unwrap();
        stream.write_all(&body[..body.len() / 2]).unwrap();
        stream
    };
    let mut stalled = begin();
    drop(begin());
    read(&mut stalled, false).problem(408, "request_timeout");
    service.assert_nothing_left();
    let page = request("GET", "/api/v1/jobs")
        .bearer(&token)
        .send(service.http());
    assert_eq!(page.expect(200)["jobs"], json!([]));
}

#[test]
fn an_upload_beyond_what_a_user_may_hold_or_queue_is_refused() {
    let service = Service::start_http(&["--max-user-bytes", "0"]);
    let token = service.token("ann");
    let full = submit(&token).images(&demo_images(1)).send(service.http());
    full.problem(507, "quota_exceeded");

    let service = Service::start_http(&["--queue-per-user", "1"]);
    let token = service.token("ann");
    let first = service.submit_http(&token, &long_job());
    wait_for("the job to run", || {
        (service.job(&token, first)["state"] != "queued").then_some(())
    });
    service.submit_http(&token, &refs(&varied(1)));
    let busy = submit(&token)
        .images(&refs(&varied(2)))
        .send(service.http());
    busy.problem(503, "busy");
    assert_eq!(busy.header("retry-after"), Some("30"));
}

#[test]
fn an_upload_during_a_stop_is_answered() {
    let mut service = Service::start_http(&["--grace", "60"]);
    let token = service.token("ann");
    let http = service.http();
    let body = multipart(&[("files", Some("a.png"), demo_images(1)[0])]);
    let head = submit(&token).multipart_type();
    let head = head
        .header("Content-Length", &body.len().to_string())
        .bytes();
    let mut stream = connect(http);
    stream.write_all(&head).unwrap();
    stream.write_all(&body[..100]).unwrap();
    // The request has begun once its folder is there.
    wait_for("the upload to begin", || service.uploads().pop());
    let log = service.dir.path().join("log");
    let stopping = thread::spawn(move || {
        wait_for("the stop", || {
            let log = std::fs::read_to_string(&log).ok()?;
            log.contains("stopping").then_some(())
        });
        stream.write_all(&body[100..]).unwrap();
        read(&mut stream, false)
    });
    assert_eq!(service.terminate(), Some(0));
    stopping.join().unwrap().problem(503, "busy");
}
