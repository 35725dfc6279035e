//! Places for connections under a flood: owners can log in, and nobody who is logged in is pushed out.

use serde_json::json;

use crate::support::service::{Client, PASSWORD, Service};

/// Connections that do not log in, from many addresses.
fn flood(service: &Service, addresses: std::ops::Range<u8>, each: usize) -> Vec<Client> {
    addresses
        .flat_map(|i| (0..each).map(move |_| format!("127.0.1.{i}")))
        .map(|from| Client::from(&from, service.address))
        .collect()
}

#[test]
fn strangers_neither_push_out_nor_keep_out_those_who_log_in() {
    let service = Service::start(&["--max_connections", "16", "--login_timeout", "600"]);
    let mut ann = service.login("ann");
    let mut held = flood(&service, 10..40, 1);
    // A new address gets a place, and so does a known one; the oldest strangers lose theirs.
    let mut ben = Client::from("127.0.2.1", service.address);
    assert_eq!(ben.log_in("ben", PASSWORD), json!([true, false]));
    let mut again = service.login("ann");
    assert!(held[0].is_closed());
    let open = held
        .iter_mut()
        .filter_map(|client| {
            client.stream.write_all_request(12)?;
            client.try_read_blob().ok()
        })
        .count();
    assert!((1..=12).contains(&open), "{open}");
    for client in [&mut ann, &mut ben, &mut again] {
        assert_eq!(client.json(12, "")["protocol"], 2);
    }
}

#[test]
fn an_address_with_one_connection_stays_when_one_with_many_asks_for_more() {
    let service = Service::start(&["--max_connections", "16", "--login_timeout", "600"]);
    let mut one = Client::from("127.0.2.1", service.address);
    assert_eq!(one.json(12, "")["protocol"], 2);
    let _many = flood(&service, 10..12, 30);
    assert_eq!(one.log_in("ben", PASSWORD), json!([true, false]));
}

#[test]
fn those_who_are_logged_in_share_all_places() {
    let service = Service::start(&["--max_connections", "8"]);
    let mut all: Vec<_> = (0..8).map(|_| service.login("ann")).collect();
    assert!(service.connect().is_closed());
    for client in &mut all {
        assert_eq!(client.json(12, "")["protocol"], 2);
    }
}

trait Request {
    fn write_all_request(&mut self, command: u8) -> Option<()>;
}

impl Request for std::net::TcpStream {
    fn write_all_request(&mut self, command: u8) -> Option<()> {
        std::io::Write::write_all(self, &[command, 0, 0, 0, 0]).ok()
    }
}
