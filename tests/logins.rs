//! The login guard: guesses are slow, owners are not kept out, and strangers learn and hold little.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::service::{
    Client, PASSWORD, Service, demo_images, images_payload, long_job, wait_for,
};

const REFUSED: &[u8] = b"[false, false]";

fn guess(service: &Service, name: &str, from: &str, count: usize) -> Vec<Client> {
    let body = json!({"u": name, "p": "a guess"}).to_string();
    let mut clients: Vec<_> = (0..count)
        .map(|_| Client::from(from, service.address))
        .collect();
    for client in &mut clients {
        client.send(1, body.as_bytes());
    }
    clients
}

/// Logs in once; the address is remembered soon after the reply.
fn become_known(service: &Service, name: &str) {
    service.login(name).close();
    let store = service.store();
    wait_for("the address to be known", || {
        store
            .knows_address(name, "127.0.0.1")
            .unwrap()
            .then_some(())
    });
}

fn compared(service: &Service) -> usize {
    service.log().matches("wrong name or password").count()
}

#[test]
fn many_guesses_at_once_are_compared_no_more_often_than_the_limit_says() {
    let service = Service::start(&["--login_attempts", "5", "--login_delay", "1"]);
    let mut all: Vec<_> = (2..10)
        .flat_map(|i| guess(&service, "ann", &format!("127.0.0.{i}"), 16))
        .collect();
    let answered = all
        .iter_mut()
        .filter_map(|client| client.try_read_blob().ok())
        .filter(|answer| answer == REFUSED)
        .count();
    assert_eq!(answered, 8 * 16);
    // What came after the limit was reached may have had a turn of the slow lane, one each 8 s.
    let slow = compared(&service).saturating_sub(5);
    assert!(slow <= 4, "{slow}");
}

#[test]
fn an_owner_is_not_kept_out_by_the_guesses_of_others() {
    let service = Service::start(&["--login_attempts", "5", "--login_delay", "1"]);
    become_known(&service, "ann");
    let mut attack = guess(&service, "ann", "127.0.0.66", 12);
    wait_for("the attack", || (compared(&service) >= 3).then_some(()));
    let start = Instant::now();
    for _ in 0..5 {
        service.login("ann").close();
    }
    // Far below the 8 s of the slow lane.
    assert!(start.elapsed() < Duration::from_secs(5));
    // From a new address with its turn in the slow lane.
    let mut new = Client::from("127.0.0.7", service.address);
    assert_eq!(new.log_in("ann", PASSWORD), json!([true, false]));
    for client in &mut attack {
        assert_eq!(client.read_blob(), REFUSED);
    }
}

#[test]
fn an_owner_who_is_known_stays_so_after_a_restart() {
    let service = Service::start(&[]);
    become_known(&service, "ann");
    let dir = service.kill();
    let service = Service::start_in(dir, &["--login_attempts", "1"]);
    let mut attack = guess(&service, "ann", "127.0.0.66", 4);
    assert!(
        attack
            .iter_mut()
            .any(|client| client.read_blob() == REFUSED)
    );
    let start = Instant::now();
    service.login("ann").close();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(service.store().knows_address("ann", "127.0.0.1").unwrap());
    assert!(!service.store().knows_address("ann", "127.0.0.66").unwrap());
    assert!(!service.store().knows_address("ben", "127.0.0.1").unwrap());
}

#[test]
fn made_up_names_from_the_same_address_keep_nobody_out() {
    let service = Service::start(&["--login_attempts", "2"]);
    let mut flood: Vec<_> = (0..10)
        .flat_map(|i| guess(&service, &format!("nobody{i}"), "127.0.0.1", 2))
        .collect();
    let mut ann = service.connect();
    assert_eq!(ann.log_in("ann", PASSWORD), json!([true, false]));
    for client in &mut flood {
        assert_eq!(client.read_blob(), REFUSED);
    }
}

#[test]
fn a_connection_without_a_login_is_closed_in_time_whatever_it_sends() {
    let service = Service::start(&["--login_timeout", "2"]);
    let mut ann = service.login("ann");
    let start = Instant::now();
    let mut silent = service.connect();
    let mut asking = service.connect();
    let mut wrong = service.connect();
    let mut dripping = service.connect();
    dripping.stream.write_all(&[99, 0, 8, 0, 0]).unwrap();
    let mut head = service.connect();
    head.stream.write_all(&[1, 0, 0]).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(silent.is_closed()));
        scope.spawn(|| assert!(head.is_closed()));
        scope.spawn(|| {
            until_closed(|| {
                asking.stream.write_all(&[12, 0, 0, 0, 0]).ok()?;
                asking.try_read_blob().ok()
            })
        });
        scope.spawn(|| {
            until_closed(|| {
                wrong
                    .stream
                    .write_all(b"\x01\0\0\0\x14{\"u\":\"ben\",\"p\":\"no\"}")
                    .ok()?;
                wrong.try_read_blob().ok()
            })
        });
        scope.spawn(|| until_closed(|| dripping.stream.write_all(b"x").ok()));
    });
    let took = start.elapsed();
    assert!(
        took >= Duration::from_secs(2) && took < Duration::from_secs(30),
        "{took:?}"
    );
    assert_eq!(ann.json(12, "")["protocol"], 2);
}

fn until_closed<T>(mut ask: impl FnMut() -> Option<T>) {
    wait_for("the end of a connection", || match ask() {
        Some(_) => {
            std::thread::sleep(Duration::from_millis(20));
            None
        }
        None => Some(()),
    });
}

#[test]
fn who_loses_a_login_has_time_for_another_and_public_files_need_none() {
    let service = Service::start(&["--login_timeout", "1"]);
    let mut ann = service.login("ann");
    let (name, bytes) = ann.images(&demo_images(1)).glb();
    let hash = name.trim_end_matches(".glb");
    ann.json(7, &json!({"hash": hash, "public": true}).to_string());
    let mut stranger = service.connect();
    assert_eq!(stranger.get(hash).glb().1, bytes);
    assert!(stranger.is_closed());
    assert_eq!(ann.log_in("ann", "wrong"), json!([false, false]));
    assert_eq!(ann.log_in("ann", PASSWORD), json!([true, false]));
    assert!(ann.is_closed_within(Duration::from_millis(1500)).is_none());
    assert_eq!(ann.json(12, "")["protocol"], 2);
}

#[test]
fn a_long_payload_is_not_read_to_its_end_without_a_login() {
    let service = Service::start(&[]);
    let mut stranger = service.connect();
    stranger.stream.write_all(&[99, 4, 0, 0, 0]).unwrap();
    assert_eq!(stranger.read_blob(), b"UNKNOWN_COMMAND");
    let start = Instant::now();
    until_closed(|| stranger.stream.write_all(&[0; 1024]).ok());
    assert!(start.elapsed() < Duration::from_secs(30));
    // One who is logged in keeps the connection.
    let mut ann = service.login("ann");
    ann.send(99, &vec![0; 8 << 20]);
    assert_eq!(ann.read_blob(), b"UNKNOWN_COMMAND");
    assert_eq!(ann.json(12, "")["protocol"], 2);
}

#[test]
fn only_those_who_are_logged_in_see_whether_a_job_runs() {
    let service = Service::start(&["--preload"]);
    let (mut ann, mut ben) = (service.login("ann"), service.login("ben"));
    ann.send(2, &images_payload(&long_job()));
    ben.submit(&demo_images(1));
    wait_for("the jobs", || {
        let info = ben.json(12, "");
        (info["running"] == 1 && info["queued"] == 1).then_some(())
    });
    let info = service.connect().json(12, "");
    assert_eq!((&info["running"], &info["queued"]), (&json!(0), &json!(0)));
    assert_eq!(ben.json(12, "")["running"], 1);
    ann.close();
}

#[test]
fn the_longest_times_that_options_can_hold_are_as_good_as_others() {
    let max = u64::MAX.to_string();
    let mut service = Service::start(&[
        "--login_attempts",
        "1",
        "--login_pause",
        &max,
        "--stall_timeout",
        &max,
        "--idle_timeout",
        &max,
        "--grace",
        &max,
        "--login_timeout",
        &max,
        "--login_delay",
        &max,
        "--min_upload_rate",
        &max,
        "--max_skip",
        &max,
    ]);
    for _ in 0..2 {
        let mut client = guess(&service, "ben", "127.0.0.5", 1);
        assert_eq!(client[0].read_blob(), REFUSED);
    }
    let mut ann = service.login("ann");
    ann.images(&demo_images(1)).glb();
    ann.send(99, &[0; 100]);
    assert_eq!(ann.read_blob(), b"UNKNOWN_COMMAND");
    assert_eq!(service.terminate(), Some(0));
    assert!(!service.log().contains("panicked"), "{}", service.log());
}
