//! Peers that close their sending side wait for their answers; peers that close their connection take their jobs along.

use std::{
    io::{Read, Write},
    net::Shutdown,
};

use serde_json::json;

use crate::support::service::{
    Client, PASSWORD, Service, assert_glb, clip, demo_images, images_payload, long_job, wait_for,
};

fn head(command: u8, len: u32) -> Vec<u8> {
    let mut head = vec![command];
    head.extend(len.to_be_bytes());
    head
}

fn close_sending(client: &Client) {
    client.stream.shutdown(Shutdown::Write).unwrap();
}

#[test]
fn a_client_that_closes_its_sending_side_gets_its_answers() {
    let service = Service::start(&["--preload"]);
    let mut ann = service.login("ann");
    ann.send(2, &images_payload(&demo_images(2)));
    close_sending(&ann);
    let (name, bytes) = ann.read_named().glb();
    assert_glb(&bytes);
    assert!(ann.is_closed());
    // A video, an error, a stored file, a job, and several requests at once.
    let mut ann = service.login("ann");
    ann.send(3, &clip());
    close_sending(&ann);
    assert_glb(&ann.read_named().glb().1);
    let mut ann = service.login("ann");
    ann.send(2, &images_payload(&[b"no image"]));
    close_sending(&ann);
    let error = ann.read_named().error();
    assert!(error.starts_with("ERROR_IMAGE_REQUEST"), "{error}");
    let mut ann = service.login("ann");
    ann.send(4, name.trim_end_matches(".glb").as_bytes());
    close_sending(&ann);
    assert_eq!(ann.read_blob(), bytes);
    let mut ann = service.connect();
    ann.send(1, json!({"u": "ann", "p": PASSWORD}).to_string().as_bytes());
    ann.send(2, &images_payload(&demo_images(3)));
    ann.send(8, &[&[2][..], &images_payload(&demo_images(1))].concat());
    ann.send(2, &images_payload(&demo_images(4)));
    ann.send(12, b"");
    ann.send(99, b"");
    close_sending(&ann);
    assert_eq!(ann.read_blob(), b"[true, false]");
    assert_glb(&ann.read_named().glb().1);
    assert!(ann.read_blob().starts_with(b"{"));
    assert_glb(&ann.read_named().glb().1);
    assert!(ann.read_blob().starts_with(b"{"));
    assert_eq!(ann.read_blob(), b"UNKNOWN_COMMAND");
    assert!(ann.is_closed());
    service.assert_nothing_left();
}

#[test]
fn a_client_that_closes_its_sending_side_late_gets_its_answer_too() {
    let service = Service::start(&["--preload"]);
    let (mut ann, mut ben) = (service.login("ann"), service.login("ben"));
    ann.send(2, &images_payload(&long_job()));
    wait_for("the job", || {
        (ben.json(12, "")["running"] == 1).then_some(())
    });
    close_sending(&ann);
    assert_glb(&ann.read_named().glb().1);
}

#[test]
fn a_client_that_leaves_is_noticed_behind_bytes_that_it_sent_ahead() {
    let service = Service::start(&["--preload"]);
    let mut ben = service.login("ben");
    let whole = head(12, 0).repeat(3);
    let long = [head(99, 8 << 20), vec![0; 32 << 10]].concat();
    let ahead = [vec![12], whole, long, vec![]];
    for (i, bytes) in ahead.iter().enumerate() {
        let mut images = long_job();
        let mut other = images[0].to_vec();
        other.push(i as u8);
        images[0] = &other;
        let mut ann = service.login("ann");
        ann.send(2, &images_payload(&images));
        ann.stream.write_all(bytes).unwrap();
        wait_for("the job", || {
            (ben.json(12, "")["running"] == 1).then_some(())
        });
        // Without the courtesy of a shutdown.
        drop(ann);
        wait_for("the job to stop", || {
            (ben.json(12, "")["running"] == 0).then_some(())
        });
    }
    service.assert_nothing_left();
    assert!(service.store().list_glbs(1).unwrap().is_empty());
}

#[test]
fn a_client_that_first_closes_its_sending_side_and_then_leaves_is_noticed() {
    let service = Service::start(&["--preload"]);
    let (mut ann, mut ben) = (service.login("ann"), service.login("ben"));
    ann.send(2, &images_payload(&long_job()));
    wait_for("the job", || {
        (ben.json(12, "")["running"] == 1).then_some(())
    });
    close_sending(&ann);
    // The first byte of the answer comes early; who leaves it unread resets the connection.
    let mut byte = [1];
    assert_eq!(ann.stream.peek(&mut byte).unwrap(), 1);
    assert_eq!(byte, [0]);
    drop(ann);
    wait_for("the job to stop", || {
        (ben.json(12, "")["running"] == 0).then_some(())
    });
    service.assert_nothing_left();
    assert!(service.store().list_glbs(1).unwrap().is_empty());
}

#[test]
fn a_client_that_leaves_in_the_slow_lane_frees_its_turn() {
    let service = Service::start(&["--login_attempts", "1"]);
    let wrong = json!({"u": "ann", "p": "a guess"}).to_string();
    let mut first = Client::from("127.0.0.5", service.address);
    assert_eq!(first.log_in("ann", "a guess"), json!([false, false]));
    let mut second = Client::from("127.0.0.5", service.address);
    second.send(1, wrong.as_bytes());
    second.stream.write_all(&[12]).unwrap();
    drop(second);
    wait_for("the log", || {
        service.log().contains("client gone").then_some(())
    });
    // Half-closed, it gets its answer.
    let mut third = Client::from("127.0.0.5", service.address);
    third.send(1, json!({"u": "ann", "p": PASSWORD}).to_string().as_bytes());
    close_sending(&third);
    assert_eq!(third.read_blob(), b"[true, false]");
    let mut rest = Vec::new();
    assert_eq!(third.stream.read_to_end(&mut rest).unwrap(), 0);
}
