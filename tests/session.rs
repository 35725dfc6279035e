//! The wire as a client meets it: a real server, real sockets, the demo weights.

use std::{fs, io::Write, thread, time::Instant};

use serde_json::json;

use crate::support::database::{is_postgres, only_for_sqlite};
use crate::support::files::stored_at;
use crate::support::service::{
    PASSWORD, PATIENCE, Service, assert_glb, clip, demo_images, images_payload, refs, varied,
    wait_for,
};

const NOT_LOGGED_IN: &str = "ERROR_NOT_LOGGED_IN";

#[test]
fn images_give_a_glb_that_its_hash_gives_again() {
    let service = Service::start(&[]);
    let mut client = service.login("ann");
    let (name, bytes) = client.images(&demo_images(2)).glb();
    assert_glb(&bytes);
    let hash = name.strip_suffix(".glb").unwrap();
    assert_eq!(hash.len(), 64);
    // On the same connection, in either case of the digits, and on another one.
    assert_eq!(client.get(hash).glb().1, bytes);
    assert_eq!(client.get(&hash.to_ascii_uppercase()).glb().1, bytes);
    assert_eq!(service.login("ann").get(hash).glb().1, bytes);
    let list = client.json(5, "");
    assert_eq!(list["files"][0]["hash"], hash);
    assert_eq!(list["files"][0]["size"], bytes.len());
    let original = list["files"][0]["name"].as_str().unwrap();
    assert!(original.starts_with("images_") && original.ends_with(".glb"));
    service.assert_nothing_left();
}

#[test]
fn a_video_gives_a_glb() {
    let service = Service::start(&["--preload"]);
    let mut client = service.login("vic");
    assert_glb(&client.video(&clip()).glb().1);
    let list = client.json(5, "{}");
    assert!(
        list["files"][0]["name"]
            .as_str()
            .unwrap()
            .starts_with("video_")
    );
    service.assert_nothing_left();
}

#[test]
fn the_same_input_gives_the_stored_result_and_only_to_the_same_user() {
    let service = Service::start(&[]);
    let mut ann = service.login("ann");
    let (first, _) = ann.images(&demo_images(2)).glb();
    assert_eq!(ann.images(&demo_images(2)).glb().0, first);
    assert_ne!(service.login("ben").images(&demo_images(2)).glb().0, first);
    // Other options are another result.
    ann.json(11, r#"{"show_cam": true}"#);
    assert_ne!(ann.images(&demo_images(2)).glb().0, first);
    assert_eq!(ann.images(&demo_images(2)).glb().0, first);
}

#[test]
fn without_the_cache_everything_is_made_anew() {
    let service = Service::start(&["--no_cache"]);
    let mut ann = service.login("ann");
    let (first, _) = ann.images(&demo_images(1)).glb();
    assert_ne!(ann.images(&demo_images(1)).glb().0, first);
}

#[test]
fn a_login_tells_who_is_vip_and_a_wrong_one_ends_the_one_before() {
    let service = Service::start(&[]);
    let mut client = service.connect();
    assert_eq!(client.log_in("ann", PASSWORD), json!([true, false]));
    assert_eq!(client.log_in("vic", PASSWORD), json!([true, true]));
    assert_eq!(client.log_in("vic", "wrong"), json!([false, false]));
    assert_eq!(client.log_in("nobody", PASSWORD), json!([false, false]));
    assert_eq!(client.json(1, "[]"), json!([false, false]));
    assert!(
        client
            .images(&demo_images(1))
            .error()
            .starts_with(NOT_LOGGED_IN)
    );
    service.store().set_active("ann", false).unwrap();
    assert_eq!(client.log_in("ann", PASSWORD), json!([false, false]));
}

#[test]
fn a_user_who_is_disabled_is_out_at_once() {
    let service = Service::start(&[]);
    let mut client = service.login("ann");
    service.store().set_active("ann", false).unwrap();
    assert_eq!(client.json(5, "")["error"], NOT_LOGGED_IN);
}

#[test]
fn nothing_but_login_info_and_public_files_without_a_login() {
    let service = Service::start(&[]);
    let mut client = service.connect();
    assert!(
        client
            .images(&demo_images(1))
            .error()
            .starts_with(NOT_LOGGED_IN)
    );
    assert!(client.video(&clip()).error().starts_with(NOT_LOGGED_IN));
    for (command, payload) in [
        (5, ""),
        (6, &*format!(r#"{{"hash": "{}"}}"#, "0".repeat(64))),
        (8, "\u{2}whatever"),
        (9, r#"{"job": 1}"#),
        (10, r#"{"job": 1}"#),
        (11, "{}"),
    ] {
        assert_eq!(client.json(command, payload)["error"], NOT_LOGGED_IN);
    }
    let info = client.json(12, "");
    assert_eq!(info["protocol"], 2, "{info}");
    assert_eq!(info["model"], "demo.safetensors");
    assert_eq!(info["limits"]["images"], 300);
    assert_eq!(client.get(&"0".repeat(64)).error(), "ERROR_HASH_NOT_FOUND");
    service.assert_nothing_left();
}

#[test]
fn a_file_is_its_owners_until_it_is_public() {
    let service = Service::start(&[]);
    let (mut ann, mut ben) = (service.login("ann"), service.login("ben"));
    let (name, bytes) = ann.images(&demo_images(1)).glb();
    let hash = name.trim_end_matches(".glb");
    let not_found = "ERROR_HASH_NOT_FOUND";
    assert_eq!(ben.get(hash).error(), not_found);
    assert_eq!(service.connect().get(hash).error(), not_found);
    let public = |public: bool| json!({"hash": hash, "public": public}).to_string();
    assert_eq!(ben.json(7, &public(true))["error"], not_found);
    assert_eq!(ann.json(7, &public(true))["public"], true);
    assert_eq!(ben.get(hash).glb().1, bytes);
    assert_eq!(service.connect().get(hash).glb().1, bytes);
    assert_eq!(ann.json(7, &public(false))["public"], false);
    assert_eq!(ben.get(hash).error(), not_found);
    let one = json!({ "hash": hash }).to_string();
    assert_eq!(ben.json(6, &one)["error"], not_found);
    assert_eq!(ann.json(6, &one)["deleted"], true);
    assert_eq!(ann.get(hash).error(), not_found);
    assert_eq!(ann.json(5, ""), json!({"files": []}));
}

#[test]
fn open_get_gives_a_file_to_whoever_knows_its_hash() {
    let service = Service::start(&["--open_get"]);
    let (name, bytes) = service.login("ann").images(&demo_images(1)).glb();
    let hash = name.trim_end_matches(".glb");
    assert_eq!(service.connect().get(hash).glb().1, bytes);
}

#[test]
fn a_hash_that_is_none_and_a_file_that_is_gone_are_told_apart() {
    let service = Service::start(&[]);
    let mut client = service.login("ann");
    let long = "a".repeat(65);
    for bad in ["", "abc", &long, "../../../../etc/passwd", &"x".repeat(64)] {
        assert!(client.get(bad).error().starts_with("ERROR_INVALID_HASH"));
    }
    let huge = "a".repeat(100_000);
    assert!(client.get(&huge).error().starts_with("ERROR_INVALID_HASH"));
    let (name, _) = client.images(&demo_images(1)).glb();
    let hash = name.trim_end_matches(".glb");
    let store = service.store();
    let row = store.find_glb(hash).unwrap().unwrap();
    fs::remove_file(stored_at(&store, &row)).unwrap();
    assert_eq!(client.get(hash).error(), "ERROR_FILE_MISSING");
}

#[test]
fn an_unknown_command_is_answered_and_the_connection_goes_on() {
    let service = Service::start(&[]);
    let mut client = service.connect();
    for (command, payload) in [(0, vec![]), (16, vec![7; 10]), (255, vec![0; 300_000])] {
        client.send(command, &payload);
        assert_eq!(client.read_blob(), b"UNKNOWN_COMMAND");
    }
    assert_eq!(client.log_in("ann", PASSWORD), json!([true, false]));
}

#[test]
fn requests_sent_at_once_are_answered_in_order() {
    let service = Service::start(&[]);
    let mut client = service.login("ann");
    client.send(2, &images_payload(&demo_images(1)));
    client.send(12, b"");
    client.send(99, b"");
    assert_glb(&client.read_named().glb().1);
    assert!(client.read_blob().starts_with(b"{"));
    assert_eq!(client.read_blob(), b"UNKNOWN_COMMAND");
}

#[test]
fn a_request_in_single_bytes_is_a_request() {
    let service = Service::start(&[]);
    let mut client = service.connect();
    let body = json!({"u": "ann", "p": PASSWORD}).to_string();
    let mut bytes = vec![1];
    bytes.extend((body.len() as u32).to_be_bytes());
    bytes.extend(body.as_bytes());
    for byte in bytes {
        client.stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(client.read_blob(), b"[true, false]");
}

#[test]
fn bad_uploads_are_refused_with_a_reason_and_leave_nothing() {
    let service = Service::start(&["--max_images", "3", "--max_upload", "1"]);
    let mut client = service.login("ann");
    let image = demo_images(1)[0];
    let mut trailing = images_payload(&[image]);
    trailing.push(0);
    let mut short = images_payload(&[image, image]);
    short.truncate(image.len() + 20);
    for (payload, reason) in [
        (vec![], "payload"),
        (vec![0; 4], "0 images"),
        (images_payload(&[image; 4]), "at most 3"),
        (images_payload(&[b""]), ""),
        (trailing, "after the last image"),
        (short, "left"),
        (images_payload(&[b"not an image at all"]), "image_00000"),
        (vec![1; (1 << 20) + 1], "at most 1048576"),
    ] {
        client.send(2, &payload);
        let error = client.read_named().error();
        assert!(error.starts_with("ERROR_IMAGE_REQUEST: "), "{error}");
        assert!(error.contains(reason), "{error}");
        let path = service.dir.path().to_str().unwrap();
        assert!(!error.contains(path), "{error}");
    }
    for bad in [&b""[..], b"no video"] {
        let error = client.video(bad).error();
        assert!(error.starts_with("ERROR_VIDEO_REQUEST: "), "{error}");
    }
    service.assert_nothing_left();
    // The connection is as good as before.
    assert_glb(&client.images(&[image]).glb().1);
}

#[test]
fn a_payload_too_long_to_skip_is_answered_and_closes_the_connection() {
    let service = Service::start(&["--max_upload", "1", "--max_skip", "1"]);
    let mut client = service.login("ann");
    let mut head = vec![3];
    head.extend((100_u32 << 20).to_be_bytes());
    client.stream.write_all(&head).unwrap();
    let error = client.read_named().error();
    assert!(error.starts_with("ERROR_VIDEO_REQUEST: "), "{error}");
    assert!(client.is_closed());
    service.assert_nothing_left();
}

#[test]
fn before_a_login_only_small_payloads_are_taken() {
    let service = Service::start(&["--max_skip", "1"]);
    for (command, len) in [(2_u8, 80_u32 << 20), (1, 2 << 20), (8, 80 << 20)] {
        let mut client = service.connect();
        let mut head = vec![command];
        head.extend(len.to_be_bytes());
        client.stream.write_all(&head).unwrap();
        let first = client.read_blob();
        if command == 1 {
            assert_eq!(first, b"[false, false]");
        } else {
            assert!(!first.starts_with(b"glTF"));
        }
    }
    service.assert_nothing_left();
}

#[test]
fn slow_and_silent_peers_are_dropped_while_others_are_served() {
    let service = Service::start(&["--stall_timeout", "1", "--idle_timeout", "2"]);
    let mut ann = service.login("ann");
    let mut slow: Vec<_> = (0..4).map(|_| service.connect()).collect();
    // Half a head, a body that never comes, half an upload, and nothing at all.
    slow[0].stream.write_all(&[1, 0]).unwrap();
    slow[1].stream.write_all(&[1, 0, 0, 0, 9]).unwrap();
    slow[2].log_in("ben", PASSWORD);
    slow[2].stream.write_all(&[3, 0, 1, 0, 0, 7, 7]).unwrap();
    // A byte now and then is no life.
    let mut dripping = service.connect();
    dripping.stream.write_all(&[1, 0, 0, 200, 0]).unwrap();
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || {
            while dripping.stream.write_all(b" ").is_ok() {
                assert!(start.elapsed() < PATIENCE);
                thread::sleep(std::time::Duration::from_millis(200));
            }
        });
        scope.spawn(|| assert_glb(&ann.images(&demo_images(1)).glb().1));
        for client in &mut slow {
            assert!(client.is_closed());
        }
    });
    service.assert_nothing_left();
}

#[test]
fn connections_beyond_the_limit_are_closed_and_places_come_free() {
    let service = Service::start(&["--max_connections_per_address", "3"]);
    let mut open: Vec<_> = (0..3).map(|_| service.login("ann")).collect();
    assert!(service.connect().is_closed());
    open.pop().unwrap().close();
    wait_for("a free place", || {
        let mut client = service.connect();
        client.send(12, b"");
        client.try_read_blob().ok()
    });
    for client in &mut open {
        assert_eq!(client.json(12, "")["protocol"], 2);
    }
}

#[test]
fn options_hold_for_one_reconstruction_and_bad_ones_are_named() {
    let service = Service::start(&[]);
    let mut client = service.login("ann");
    let reply = client.json(11, "{}");
    // Those of `vggt export` with the demo's weights.
    let defaults = json!({
        "conf_thres": 10.0, "prediction_mode": "Depthmap and Camera", "fps": 0.4, "keyframes": null, "mask_black_bg": false,
        "mask_white_bg": false, "mask_sky": false, "drop_edges": false, "drop_outliers": false, "refine": false, "show_cam": false, "max_points": null,
        "format": "glb",
        "attention": "auto", "anchors": null, "anchor_frames": null, "anchor_schedule": null, "anchor_cache": null,
        "drop_unrelated": false,
    });
    assert_eq!(reply, defaults);
    for (bad, word) in [
        (r#"{"conf_tres": 3}"#, "conf_tres"),
        (r#"{"conf_thres": 300}"#, "conf_thres"),
        (r#"{"prediction_mode": "x"}"#, "prediction_mode"),
        (r#"{"mask_sky": true}"#, "mask_sky"),
        (r#"{"fps": -1}"#, "fps"),
        ("[", "JSON"),
    ] {
        let reply = client.json(11, bad);
        assert_eq!(reply["error"], "ERROR_BAD_REQUEST");
        assert!(reply["reason"].as_str().unwrap().contains(word), "{reply}");
    }
    let all = client.images(&demo_images(1)).glb().1.len();
    let chosen = r#"{"max_points": 100, "prediction_mode": "Depthmap and Camera", "format": "glb_quantized"}"#;
    let reply = client.json(11, chosen);
    assert_eq!(reply["max_points"], 100);
    assert_eq!(reply["format"], "glb_quantized");
    let few = client.images(&demo_images(1)).glb().1;
    assert_glb(&few);
    assert!(few.len() < 10_000 && few.len() < all);
    assert_eq!(client.images(&demo_images(1)).glb().1.len(), all);
}

#[test]
fn others_are_answered_while_a_reconstruction_runs() {
    let service = Service::start(&["--preload"]);
    let mut ann = service.login("ann");
    ann.send(2, &images_payload(&demo_images(8)));
    let mut ben = service.login("ben");
    let mut seen_running = false;
    for _ in 0..10 {
        seen_running |= ben.json(12, "")["running"] == 1;
    }
    assert!(seen_running);
    assert_glb(&ann.read_named().glb().1);
}

#[test]
fn a_phone_that_connects_anew_for_every_request_stays_logged_in_where_that_is_allowed() {
    let service = Service::start(&["--session_by_address", "1"]);
    assert!(
        service
            .connect()
            .images(&demo_images(1))
            .error()
            .starts_with(NOT_LOGGED_IN)
    );
    service.login("ann").close();
    let (name, bytes) = service.connect().images(&demo_images(1)).glb();
    let hash = name.trim_end_matches(".glb");
    assert_eq!(service.connect().get(hash).glb().1, bytes);
    let strict = Service::start(&[]);
    strict.login("ann").close();
    assert!(
        strict
            .connect()
            .images(&demo_images(1))
            .error()
            .starts_with(NOT_LOGGED_IN)
    );
}

#[test]
fn fifty_clients_at_once_all_get_what_is_theirs() {
    let clients = 50;
    let service = Service::start(&[
        "--max_connections_per_address",
        "60",
        "--queue",
        "60",
        "--queue_per_user",
        "60",
    ]);
    let names: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|i| {
                let service = &service;
                scope.spawn(move || {
                    let mut client = service.login(["ann", "ben", "vic"][i % 3]);
                    let input = varied(i);
                    let (name, bytes) = client.images(&refs(&input)[1..]).glb();
                    assert_glb(&bytes);
                    let hash = name.trim_end_matches(".glb");
                    assert_eq!(client.get(hash).glb().1, bytes);
                    name
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let different: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(different.len(), clients);
    service.assert_nothing_left();
}

#[test]
fn the_log_has_a_line_for_each_request_and_no_password() {
    let service = Service::start(&[]);
    let mut client = service.connect();
    client.log_in("ann", "a wrong secret");
    client.log_in("ann", PASSWORD);
    client.send(1, b"{\"u\": 5, \"p\": \"a wrong secret\"}");
    client.read_blob();
    client.log_in("ann", PASSWORD);
    client.images(&demo_images(1)).glb();
    client.submit(&demo_images(2));
    client.images(&[b"payload"]).error();
    let log = wait_for("the log", || {
        let log = service.log();
        log.contains("ERROR_IMAGE_REQUEST").then_some(log)
    });
    for line in ["login by ann: ok", "images by ann: ok", "submit by ann: ok"] {
        assert_eq!(
            log.matches(line).count(),
            1 + usize::from(line.starts_with("login")),
            "{line}\n{log}"
        );
    }
    // One that a connection waits for has no row where there is only one process.
    let id = if is_postgres() { "job.id=" } else { "job.id=c" };
    assert!(log.contains("duration_ms=") && log.contains(id), "{log}");
    assert!(!log.contains("secret") && !log.contains(PASSWORD), "{log}");
}

#[test]
fn a_second_server_does_not_take_the_folder_of_the_first() {
    only_for_sqlite!();
    let service = Service::start(&[]);
    let err = crate::support::fail(
        service.dir.path(),
        1,
        &["serve", "--demo", "--port", "0", "--host", "127.0.0.1"],
    );
    assert!(err.contains("another vggt serve"), "{err}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let service = Service::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let port = service.address.port().to_string();
    let err = crate::support::fail(
        dir.path(),
        1,
        &["serve", "--demo", "--port", &port, "--host", "127.0.0.1"],
    );
    assert!(err.contains(&port) && err.contains("--port"), "{err}");
}

#[test]
fn a_write_that_fails_is_answered_and_the_server_goes_on() {
    // Room for the images and the database, not for a scene of 75 000 points.
    let service = Service::start_with_small_files(600, &[]);
    let mut client = service.login("ann");
    let error = client.images(&demo_images(8)).error();
    assert!(
        error.starts_with("ERROR_IMAGE_REQUEST: the server"),
        "{error}"
    );
    let error = client.video(&vec![0; 1 << 20]).error();
    assert!(
        error.starts_with("ERROR_VIDEO_REQUEST: the server"),
        "{error}"
    );
    client.json(11, r#"{"max_points": 100}"#);
    assert_glb(&client.images(&demo_images(8)).glb().1);
    assert_eq!(client.json(5, "")["files"].as_array().unwrap().len(), 1);
    service.assert_nothing_left();
    let dir = service.kill();
    let report = crate::support::service::store(dir.path()).check(false);
    let report = report.unwrap();
    assert_eq!(report.problems(), 0, "{report:?}");
}
