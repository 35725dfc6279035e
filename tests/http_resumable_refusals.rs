//! Uploads in parts over HTTP: what is refused, and with which error.

use std::{io::Write, thread};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    http_resumable::Tus,
    support::{
        files::is_bucket,
        http::{connect, request},
        service::{Service, demo_images, leftovers, wait_for},
        store, vggt,
    },
};

#[test]
fn a_part_counts_when_its_checksum_is_right() {
    let service = Service::start_http(&[]);
    let tus = Tus::new(&service, "ann");
    let id = tus.empty_job();
    let url = tus.announce(id, "a.png", 6);
    let sha256 = |bytes: &[u8]| format!("sha256 {}", BASE64_STANDARD.encode(Sha256::digest(bytes)));
    let part = |offset, checksum: &str, bytes: &[u8]| {
        let part = tus.part(&url, offset).header("Upload-Checksum", checksum);
        tus.send(part.body(bytes))
    };
    // Of "abc", by another program.
    part(0, "sha1 qZk+NkcGgWq6PiVxeFDCbJzQ2J0=", b"abc").expect(204);
    part(3, "sha1 qZk+NkcGgWq6PiVxeFDCbJzQ2J0=", b"def").problem(460, "checksum_mismatch");
    part(3, &sha256(b"abc"), b"def").problem(460, "checksum_mismatch");
    assert_eq!(tus.offset(&url), 3);
    for bad in [
        "md5 kAFQmDzST7DWlj99KOF/cg==",
        "sha256",
        "sha256 ?",
        "sha256 YQ==",
        "",
    ] {
        part(3, bad, b"def").problem(400, "bad_request");
    }
    // One that breaks off is not kept at all.
    let head = tus.part(&url, 3).header("Upload-Checksum", &sha256(b"def"));
    let head = head.header("Content-Length", "3").bytes();
    let mut stream = connect(service.http());
    stream.write_all(&head).unwrap();
    stream.write_all(b"de").unwrap();
    drop(stream);
    wait_for("the part to end", || {
        (part(3, &sha256(b"def"), b"def").status == 204).then_some(())
    });
    assert_eq!(tus.offset(&url), 6);
    if is_bucket() {
        // In parts.
        return;
    }
    let whole = leftovers(&service.out());
    let file = whole[0].join("upload_00000");
    assert_eq!(std::fs::read(file).unwrap(), b"abcdef");
}

#[test]
fn a_part_that_does_not_fit_changes_nothing() {
    let service = Service::start_http(&[]);
    let tus = Tus::new(&service, "ann");
    let id = tus.empty_job();
    let url = tus.announce(id, "a.png", 100);
    tus.append(&url, 0, &[1; 40]);
    tus.append(&url, 40, b"");
    for offset in [0, 39, 41, 100, 1 << 40] {
        let part = tus.send(tus.part(&url, offset).body(&[2; 10]));
        part.problem(409, "offset_mismatch");
        assert_eq!(part.header("tus-resumable"), Some("1.0.0"));
    }
    tus.send(tus.part(&url, 40).body(&[2; 61]))
        .problem(413, "too_large");
    let chunks = tus.part(&url, 40).header("Transfer-Encoding", "chunked");
    let mut bytes = chunks.header("Connection", "close").bytes();
    bytes.extend(b"3D\r\n");
    bytes.extend([2; 0x3d]);
    bytes.extend(b"\r\n0\r\n\r\n");
    let mut stream = connect(service.http());
    stream.write_all(&bytes).unwrap();
    crate::support::http::read(&mut stream, false).problem(413, "too_large");
    assert_eq!(tus.offset(&url), 40);

    let plain = |kind: &str, offset: &str| {
        let part = tus.request("PATCH", &url).header("Content-Type", kind);
        tus.send(part.header("Upload-Offset", offset).body(b"x"))
    };
    plain("application/octet-stream", "40").problem(415, "unsupported_media_type");
    for offset in ["", "-1", "x", "40.0", "99999999999999999999"] {
        plain("application/offset+octet-stream", offset).problem(400, "bad_request");
    }
    let without = request("PATCH", &url).bearer(&tus.token);
    let without = without.header("Content-Type", "application/offset+octet-stream");
    let without = without.header("Upload-Offset", "40");
    for version in [None, Some("0.2.2"), Some("")] {
        let mut part = without.clone();
        if let Some(version) = version {
            part = part.header("Tus-Resumable", version);
        }
        let part = tus.send(part.body(b"x"));
        part.problem(412, "tus_version");
        assert_eq!(part.header("tus-version"), Some("1.0.0"));
    }
    assert_eq!(
        tus.send(request("HEAD", &url).bearer(&tus.token)).status,
        412
    );
    // In chunks it may come, and the rest of it.
    let chunks = tus.part(&url, 40).header("Transfer-Encoding", "chunked");
    let mut bytes = chunks.header("Connection", "close").bytes();
    bytes.extend(b"3C\r\n");
    bytes.extend([2; 0x3c]);
    bytes.extend(b"\r\n0\r\n\r\n");
    let mut stream = connect(service.http());
    stream.write_all(&bytes).unwrap();
    crate::support::http::read(&mut stream, false).expect(204);
    assert_eq!(tus.offset(&url), 100);
}

#[test]
fn one_part_of_a_file_at_a_time() {
    let service = Service::start_http(&["--max-user-uploads", "2"]);
    let tus = Tus::new(&service, "ann");
    let id = tus.empty_job();
    let urls: Vec<String> = (0..3).map(|_| tus.announce(id, "a.png", 10)).collect();
    let begin = |url: &str| {
        let head = tus.part(url, 0).header("Content-Length", "10").bytes();
        let mut stream = connect(service.http());
        stream.write_all(&head).unwrap();
        stream.write_all(b"12345").unwrap();
        // The file is made behind the lock.
        let number = url.rsplit('/').next().unwrap();
        let name = format!("upload_{number:0>5}");
        wait_for("the part to begin", || {
            let folder = leftovers(&service.out()).pop().unwrap();
            (is_bucket() || folder.join(&name).exists()).then_some(())
        });
        // At a wrong place, so that it changes nothing.
        let second = || tus.send(tus.part(url, 9).body(b"x"));
        if is_bucket() {
            wait_for("the part to begin", || {
                (second().status == 423).then_some(())
            });
        }
        second().problem(423, "locked");
        stream
    };
    let mut first = begin(&urls[0]);
    tus.send(tus.request("DELETE", &urls[0]))
        .problem(423, "locked");
    let second = begin(&urls[1]);
    let third = tus.send(tus.part(&urls[2], 0).body(b"x"));
    third.problem(429, "too_many_uploads");
    first.write_all(b"67890").unwrap();
    crate::support::http::read(&mut first, false).expect(204);
    tus.append(&urls[2], 0, b"1234567890");
    // The job goes, and with it what arrives.
    let path = format!("/api/v1/jobs/{id}");
    tus.send(request("DELETE", &path).bearer(&tus.token))
        .expect(204);
    let mut second = second;
    second.write_all(b"67890").unwrap();
    crate::support::http::read(&mut second, false).problem(404, "not_found");
    tus.send(request("GET", &path).bearer(&tus.token))
        .problem(404, "not_found");
    service.assert_nothing_left();
}

#[test]
fn a_part_that_has_fallen_silent_gives_way_to_its_client_on_another_connection() {
    // A sixth of it.
    let service = Service::start_http(&["--stall-timeout", "6"]);
    let tus = Tus::new(&service, "ann");
    let id = tus.empty_job();
    let url = tus.announce(id, "a.png", 10);
    for (at, sent) in [(0, "123"), (3, "456")] {
        let head = tus
            .part(&url, at)
            .header("Content-Length", &(10 - at).to_string());
        let mut stream = connect(service.http());
        stream.write_all(&head.bytes()).unwrap();
        stream.write_all(sent.as_bytes()).unwrap();
        // Once by asking, once by going on.
        if at == 0 {
            wait_for("the part to end", || (tus.offset(&url) == 3).then_some(()));
        } else {
            wait_for("the part to end", || {
                (tus.send(tus.part(&url, 6).body(b"7890")).status == 204).then_some(())
            });
        }
        crate::support::http::read(&mut stream, false).problem(423, "locked");
    }
    assert_eq!(tus.offset(&url), 10);
}

#[test]
fn what_cannot_be_announced_is_refused_with_its_reason() {
    let service = Service::start_http(&["--max-images", "3", "--max-upload", "1"]);
    let tus = Tus::new(&service, "ann");
    for bad in [
        json!({"no_such": 1}),
        json!({"fps": -1}),
        json!({"name": ""}),
    ] {
        tus.try_job(&bad).problem(400, "bad_request");
    }
    for bad in [json!({"other": 1}), json!({"options": 1}), json!([])] {
        let made = request("POST", "/api/v1/jobs").bearer(&tus.token);
        tus.send(made.json(&bad)).problem(400, "bad_request");
    }
    service.assert_nothing_left();
    let id = tus.empty_job();
    tus.try_announce(id, 0, "filename YS5wbmc=")
        .problem(400, "bad_request");
    tus.try_announce(id, (1 << 20) + 1, "")
        .problem(413, "too_large");
    for metadata in [
        "filename YS5wbmc",
        "filename /w==",
        "filename ?",
        ",",
        "a YQ==,a YQ==",
    ] {
        tus.try_announce(id, 5, metadata)
            .problem(400, "bad_request");
    }
    let path = format!("/api/v1/jobs/{id}/uploads");
    for (name, value) in [
        ("Upload-Defer-Length", "1"),
        ("Upload-Length", "-1"),
        ("Upload-Length", "many"),
        ("X", "no length"),
    ] {
        let asked = tus.request("POST", &path).header(name, value);
        tus.send(asked.body(b"")).problem(400, "bad_request");
    }
    let with_body = tus.request("POST", &path).header("Upload-Length", "5");
    tus.send(with_body.body(b"12345"))
        .problem(400, "bad_request");
    let other = request("POST", &path)
        .bearer(&tus.token)
        .header("Upload-Length", "5");
    tus.send(other.body(b"")).problem(412, "tus_version");
    // The sum counts.
    let first = tus.announce(id, "../\u{fc} b.png", 1 << 19);
    tus.try_announce(id, (1 << 19) + 1, "")
        .problem(413, "too_large");
    tus.try_announce(id, 7, "").expect(201);
    tus.try_announce(id, 7, "filetype aW1hZ2UvcG5n").expect(201);
    tus.try_announce(id, 7, "").problem(400, "bad_request");
    let names: Vec<_> = tus.job(id)["uploads"].as_array().unwrap().clone();
    let names: Vec<_> = names
        .iter()
        .map(|upload| upload["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["\u{fc} b.png", "image 2", "image 3"]);
    // One that goes makes space, and its address is not given again.
    tus.send(tus.request("DELETE", &first)).expect(204);
    assert_eq!(tus.ask(&first).status, 404);
    tus.send(tus.part(&first, 0).body(b"x"))
        .problem(404, "not_found");
    assert_ne!(tus.announce(id, "c.png", (1 << 19) + 1), first);
    let job = format!("/api/v1/jobs/{id}");
    let change = request("PATCH", &job).bearer(&tus.token);
    tus.send(change.json(&json!({"name": "x"})))
        .problem(409, "conflict");
}

#[test]
fn a_client_learns_what_there_is() {
    let service = Service::start_http(&[]);
    let options = request("OPTIONS", "/api/v1/jobs/1/uploads").send(service.http());
    assert_eq!((options.status, options.body.len()), (204, 0));
    for (name, value) in [
        ("tus-resumable", "1.0.0"),
        ("tus-version", "1.0.0"),
        ("tus-extension", "creation,expiration,checksum,termination"),
        ("tus-max-size", "536870912"),
        ("tus-checksum-algorithm", "sha1,sha256"),
    ] {
        assert_eq!(options.header(name), Some(value), "{name}");
    }
}

#[test]
fn a_job_starts_when_all_of_its_files_are_there() {
    let service = Service::start_http(&[]);
    let tus = Tus::new(&service, "ann");
    let image = demo_images(1)[0];
    let id = tus.empty_job();
    tus.start(id).problem(409, "incomplete");
    let removed = tus.announce(id, "removed.png", 10);
    let url = tus.announce(id, "late.png", image.len());
    tus.upload(id, "there.png", image);
    tus.append(&url, 0, &image[..5]);
    let problem = tus.start(id).problem(409, "incomplete");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("late.png") && detail.contains("removed.png"),
        "{detail}"
    );
    assert!(!detail.contains("there.png"), "{detail}");
    tus.append(&url, 5, &image[5..]);
    tus.send(tus.request("DELETE", &removed)).expect(204);
    // Several at once, as a client that repeats what it got no answer to.
    let answers: Vec<_> = thread::scope(|scope| {
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| tus.start(id))).collect();
        starts
            .into_iter()
            .map(|start| start.join().unwrap())
            .collect()
    });
    for answer in answers {
        assert_eq!(answer.expect(200)["id"], id);
    }
    assert_eq!(service.finished_job(&tus.token, id)["state"], "done");
    tus.start(id + 1).problem(404, "not_found");
    tus.try_announce(id, 5, "").problem(404, "not_found");
    service.assert_nothing_left();
}

#[cfg(feature = "video")]
#[test]
fn a_video_is_sent_alone_in_parts_as_well() {
    let service = Service::start_http(&[]);
    let tus = Tus::new(&service, "ann");
    let clip = crate::support::service::clip();
    let both = tus.empty_job();
    let image = tus.upload(both, "a.png", demo_images(1)[0]);
    tus.upload(both, "clip", &clip);
    tus.start(both).problem(400, "bad_request");
    // Mended without a new job.
    tus.send(tus.request("DELETE", &image)).expect(204);
    tus.start(both).expect(200);
    let job = service.finished_job(&tus.token, both);
    assert_eq!(job["state"], "done", "{job}");
    assert!(job["name"].as_str().unwrap().starts_with("video_"), "{job}");
    let parts: [crate::support::http::Part; 1] = [("files", None, &clip)];
    let at_once = request("POST", "/api/v1/jobs")
        .bearer(&tus.token)
        .multipart(&parts);
    let at_once = tus.send(at_once).expect(201);
    assert_eq!(at_once["result"]["hash"], job["result"]["hash"]);
}

#[test]
fn nobody_else_reaches_an_upload() {
    let service = Service::start_http(&[]);
    let tus = Tus::new(&service, "ann");
    let id = tus.empty_job();
    let url = tus.announce(id, "a.png", 10);
    let ben = Tus::new(&service, "ben");
    assert_eq!(ben.ask(&url).status, 404);
    ben.send(ben.part(&url, 0).body(b"x"))
        .problem(404, "not_found");
    ben.send(ben.request("DELETE", &url))
        .problem(404, "not_found");
    ben.try_announce(id, 5, "").problem(404, "not_found");
    ben.start(id).problem(404, "not_found");
    let job = format!("/api/v1/jobs/{id}");
    for method in ["GET", "DELETE"] {
        ben.send(request(method, &job).bearer(&ben.token))
            .problem(404, "not_found");
    }
    for path in [
        "/api/v1/jobs/x/uploads/0",
        "/api/v1/jobs/1/uploads/-1",
        "/api/v1/jobs/1/uploads/9999999999",
    ] {
        tus.send(tus.part(path, 0).body(b"x"))
            .problem(404, "not_found");
    }
    let stranger = request("PATCH", &url).header("Tus-Resumable", "1.0.0");
    stranger
        .body(b"x")
        .send(service.http())
        .problem(401, "not_logged_in");
    assert_eq!(tus.offset(&url), 0);
}

#[test]
fn a_user_has_so_many_jobs_that_wait_for_files() {
    let service = Service::start_http(&["--max-user-files", "20"]);
    let tus = Tus::new(&service, "ann");
    let ids: Vec<i64> = (0..16).map(|_| tus.empty_job()).collect();
    tus.try_job(&json!({})).problem(429, "too_many_uploads");
    Tus::new(&service, "ben").empty_job();
    let first = format!("/api/v1/jobs/{}", ids[0]);
    tus.send(request("DELETE", &first).bearer(&tus.token))
        .expect(204);
    tus.empty_job();

    let service = Service::start_http(&["--max-user-files", "2"]);
    let tus = Tus::new(&service, "ann");
    let last = (tus.empty_job(), tus.empty_job()).1;
    tus.try_job(&json!({})).problem(507, "quota_exceeded");
    // It counts itself once, whatever its files are.
    let url = tus.upload(last, "a.png", demo_images(1)[0]);
    assert_eq!(tus.offset(&url), demo_images(1)[0].len());
}

#[test]
fn what_is_over_or_whose_user_is_gone_goes_with_its_files() {
    let service = Service::start_http(&[]);
    let tus = Tus::new(&service, "ann");
    let id = tus.empty_job();
    let url = tus.upload(id, "a.png", &[1; 10]);
    let sql = "UPDATE drafts SET expires_at = '2026-01-01 00:00:00.000000'";
    store::execute(service.dir.path(), sql);
    assert_eq!(tus.ask(&url).status, 404);
    tus.start(id).problem(404, "not_found");
    service.assert_nothing_left();
    // And at a start.
    let id = tus.empty_job();
    let url = tus.upload(id, "a.png", &[1; 10]);
    let token = tus.token.clone();
    let dir = service.kill();
    store::execute(dir.path(), sql);
    let service = Service::start_in(dir, &["--http", "127.0.0.1:0"]);
    service.assert_nothing_left();
    let tus = Tus {
        service: &service,
        token,
    };
    assert_eq!(tus.ask(&url).status, 404);
    let store = service.store();
    let disable = || store.set_active("ann", false).unwrap();
    let remove = || assert_eq!(store.remove_user("ben").unwrap(), 0);
    let ends: [(&str, &dyn Fn()); 2] = [("ann", &disable), ("ben", &remove)];
    for (name, end) in ends {
        let tus = Tus::new(&service, name);
        let id = tus.empty_job();
        let url = tus.upload(id, "a.png", &[1; 10]);
        end();
        service.assert_nothing_left();
        assert_eq!(tus.ask(&url).status, 401);
    }
}

#[test]
fn a_check_of_the_store_leaves_uploads_alone() {
    let service = Service::start_http(&[]);
    let tus = Tus::new(&service, "ann");
    let id = tus.empty_job();
    let url = tus.upload(id, "a.png", &[1; 10]);
    let checked = vggt(service.dir.path(), &["check", "--repair", "--yes"]);
    assert!(checked.status.success(), "{checked:?}");
    assert_eq!(tus.offset(&url), 10);
    assert_eq!(tus.job(id)["state"], "uploading");
}
