//! A session is that of the user who logged in, and ends with the login: removed, disabled, another password.

use std::io::Write;

use serde_json::json;

use crate::support::{
    service::{Client, PASSWORD, Service, demo_images, images_payload, long_job, wait_for},
    store::connect,
};

const NOT_LOGGED_IN: &str = "ERROR_NOT_LOGGED_IN";

fn is_out(client: &mut Client) -> bool {
    client.json(5, "")["error"] == NOT_LOGGED_IN
}

#[test]
fn a_session_ends_with_the_password_and_for_good_when_its_user_is_disabled() {
    let service = Service::start(&["--session_by_address", "60"]);
    let store = service.store();
    let (mut ann, mut ben) = (service.login("ann"), service.login("ben"));
    let mut heir = service.connect();
    assert!(!is_out(&mut heir));
    store.set_password("ann", "another one").unwrap();
    store.set_active("ben", false).unwrap();
    store.set_active("ben", true).unwrap();
    assert!(is_out(&mut ann) && is_out(&mut ben) && is_out(&mut heir));
    // What the address inherits is the same login.
    assert!(is_out(&mut service.connect()));
    assert_eq!(ann.log_in("ann", PASSWORD), json!([false, false]));
    assert_eq!(ann.log_in("ann", "another one"), json!([true, false]));
    assert!(!is_out(&mut ann) && !is_out(&mut service.connect()));
    // A change that is none of the login.
    store.set_vip("ann", true, None).unwrap();
    assert!(!is_out(&mut ann));
}

#[test]
fn the_session_of_a_removed_user_is_not_one_of_the_next_with_the_same_number() {
    let service = Service::start(&["--session_by_address", "60"]);
    let store = service.store();
    // The last one, whose number SQLite gave again.
    let mut vic = service.login("vic");
    let id = store.user_by_name("vic").unwrap().id;
    store.remove_user("vic").unwrap();
    store.add_user("carol", PASSWORD, false).unwrap();
    // As in a database of before, whatever its keys are now.
    let sql = format!("UPDATE users SET id = {id} WHERE username = 'carol'");
    connect(service.dir.path()).batch_execute(&sql).unwrap();
    let (name, _) = service.login("carol").images(&demo_images(1)).glb();
    let hash = name.trim_end_matches(".glb");
    assert!(is_out(&mut vic));
    assert_eq!(vic.get(hash).error(), "ERROR_HASH_NOT_FOUND");
    let one = json!({ "hash": hash }).to_string();
    assert_eq!(vic.json(6, &one)["error"], NOT_LOGGED_IN);
}

#[test]
fn a_plain_password_that_is_hashed_ends_no_session() {
    let service = Service::start(&[]);
    let mut conn = connect(service.dir.path());
    let plain = format!("UPDATE users SET password_hash = '{PASSWORD}' WHERE username = 'ann'");
    conn.batch_execute(&plain).unwrap();
    // Many at once: one of them replaces the plain password.
    let mut all: Vec<_> = (0..8).map(|_| service.connect()).collect();
    let login = json!({"u": "ann", "p": PASSWORD}).to_string();
    for client in &mut all {
        client.send(1, login.as_bytes());
    }
    for client in &mut all {
        assert_eq!(client.read_blob(), b"[true, false]");
    }
    assert!(!service.store().user_by_name("ann").unwrap().plain_password);
    assert!(all.iter_mut().all(|client| !is_out(client)));
    // A row that could not be replaced at the login is the same password when the operator replaces it.
    conn.batch_execute(&plain).unwrap();
    let store = service.store();
    let user = store.user_by_name("ann").unwrap();
    assert_eq!(store.rehash_all().unwrap(), 1);
    let now = store
        .user_of_session(user.id, &user.stamp)
        .unwrap()
        .unwrap();
    assert_ne!(now.stamp, user.stamp);
    store.set_password("ann", "another one").unwrap();
    for stamp in [&user.stamp, &now.stamp] {
        assert_eq!(store.user_of_session(user.id, stamp).unwrap(), None);
    }
    assert!(!format!("{user:?}").contains(PASSWORD));
}

#[test]
fn a_wait_ends_with_the_login_and_nothing_is_sent_or_stored_for_a_removed_user() {
    let service = Service::start(&["--preload"]);
    let store = service.store();
    let (mut ann, mut ben, mut vic) = (
        service.login("ann"),
        service.login("ben"),
        service.login("vic"),
    );
    let mut other = service.connect();
    other.log_in("ann", PASSWORD);
    ann.send(2, &images_payload(&long_job()));
    wait_for("the job", || {
        (other.json(12, "")["running"] == 1).then_some(())
    });
    // One runs, two wait.
    ben.send(2, &images_payload(&demo_images(2)));
    vic.send(2, &images_payload(&demo_images(3)));
    wait_for("the queue", || {
        (other.json(12, "")["queued"] == 2).then_some(())
    });
    let id = store.user_by_name("ben").unwrap().id;
    store.remove_user("ben").unwrap();
    store.set_password("vic", "another one").unwrap();
    store.set_active("ann", false).unwrap();
    for client in [&mut ann, &mut ben, &mut vic] {
        let error = client.read_named().error();
        assert!(error.starts_with(NOT_LOGGED_IN), "{error}");
    }
    service.assert_nothing_left();
    assert!(store.list_glbs(id).unwrap().is_empty());
}

#[test]
fn an_upload_that_ends_after_its_login_is_refused() {
    let service = Service::start(&[]);
    for command in [2, 8] {
        let mut ann = service.login("ann");
        let mut payload = images_payload(&demo_images(1));
        if command == 8 {
            payload.insert(0, 2);
        }
        let mut head = vec![command];
        head.extend((payload.len() as u32).to_be_bytes());
        let (begin, end) = payload.split_at(payload.len() - 1);
        ann.stream.write_all(&[&head, begin].concat()).unwrap();
        wait_for("the upload", || service.uploads().len().checked_sub(1));
        service.store().set_password("ann", PASSWORD).unwrap();
        ann.stream.write_all(end).unwrap();
        let reply = if command == 2 {
            ann.read_named().error()
        } else {
            String::from_utf8(ann.read_blob()).unwrap()
        };
        assert!(reply.contains(NOT_LOGGED_IN), "{reply}");
    }
    service.assert_nothing_left();
}
