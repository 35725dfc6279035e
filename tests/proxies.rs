//! Clients behind a proxy: the PROXY protocol, from trusted addresses only.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::service::{Client, PASSWORD, Service, wait_for};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2 with `rest` after the fixed part.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = (rest.len() as u16).to_be_bytes();
    [SIGNATURE, &[command, family], &len, rest].concat()
}

/// A client of the IPv4 address 192.0.2.`i`.
fn ipv4(i: u8) -> Vec<u8> {
    v2(
        0x21,
        0x11,
        &[192, 0, 2, i, 127, 0, 0, 1, 0x80, 0, 0x11, 0xd7],
    )
}

/// A client of 2001:db8:0:`net`::`host`.
fn ipv6(net: u8, host: u8) -> Vec<u8> {
    let mut source = [0; 16];
    source[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
    (source[7], source[15]) = (net, host);
    v2(
        0x21,
        0x21,
        &[&source[..], &[0; 15], &[1], &[0x80, 0, 0x11, 0xd7]].concat(),
    )
}

fn through(service: &Service, header: &[u8]) -> Client {
    let mut client = service.connect();
    client.stream.write_all(header).unwrap();
    client
}

#[test]
fn clients_behind_a_trusted_proxy_are_told_apart() {
    let service = Service::start(&[
        "--trusted_proxy",
        "127.0.0.1",
        "--session_by_address",
        "5",
        "--max_connections_per_address",
        "3",
    ]);
    let mut ann = through(&service, &ipv4(1));
    assert_eq!(ann.log_in("ann", PASSWORD), json!([true, false]));
    // Sessions, limits and the log go by the client's address.
    let mut second = through(&service, &ipv4(1));
    assert_eq!(second.json(5, ""), json!({"files": []}));
    assert_eq!(
        through(&service, &ipv4(2)).json(5, "")["error"],
        "ERROR_NOT_LOGGED_IN"
    );
    let mut third = through(&service, &ipv4(1));
    assert_eq!(third.json(12, "")["protocol"], 2);
    assert!(through(&service, &ipv4(1)).is_closed());
    assert_eq!(through(&service, &ipv4(3)).json(12, "")["protocol"], 2);
    assert!(service.log().contains("address=192.0.2.1"));
    // One IPv6 network is one client.
    let mut first: Vec<_> = (1..4).map(|i| through(&service, &ipv6(0, i))).collect();
    for client in &mut first {
        assert_eq!(client.log_in("ben", PASSWORD), json!([true, false]));
    }
    assert!(through(&service, &ipv6(0, 9)).is_closed());
    assert_eq!(through(&service, &ipv6(1, 9)).json(12, "")["protocol"], 2);
}

#[test]
fn both_versions_and_every_family_of_the_header_are_read() {
    let service = Service::start(&["--trusted_proxy", "127.0.0.0/8"]);
    let unix = [0; 216];
    // Fields of other kinds follow the addresses: a name, a checksum, nothing.
    let mut fields = ipv4(7)[16..].to_vec();
    fields.extend([2, 0, 4]);
    fields.extend(b"name");
    fields.extend([4, 0, 0]);
    for header in [
        ipv4(1),
        ipv6(1, 1),
        v2(0x21, 0x11, &fields),
        v2(0x21, 0x31, &unix),
        v2(0x21, 0x00, &[]),
        v2(0x21, 0x00, &[9; 100]),
        v2(0x20, 0x00, &[]),
        v2(0x20, 0x11, &[]),
        v2(0x20, 0xff, &[1; 30]),
        b"PROXY TCP4 192.0.2.9 127.0.0.1 40000 4567\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::9 ::1 40000 4567\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(),
    ] {
        // Not a byte of the request behind it is lost.
        let mut client = through(&service, &[&header[..], &[12, 0, 0, 0, 0]].concat());
        let info = client.read_blob();
        assert!(info.starts_with(b"{"), "{header:?}");
        let mut slow = service.connect();
        for byte in header.chunks(7) {
            slow.stream.write_all(byte).unwrap();
        }
        assert_eq!(slow.json(12, "")["protocol"], 2);
    }
}

#[test]
fn a_trusted_proxy_without_a_good_header_is_closed_in_time() {
    let service = Service::start(&["--trusted_proxy", "127.0.0.1"]);
    let login = json!({"u": "ann", "p": PASSWORD}).to_string();
    let mut request = vec![1];
    request.extend((login.len() as u32).to_be_bytes());
    request.extend(login.as_bytes());
    let datagram = v2(0x21, 0x12, &ipv4(1)[16..]);
    let start = Instant::now();
    for bad in [
        request,
        vec![12, 0, 0, 0, 0],
        v2(0x11, 0x11, &[0; 12]),
        v2(0x22, 0x11, &[0; 12]),
        v2(0x21, 0x41, &[0; 12]),
        v2(0x21, 0x13, &[0; 12]),
        v2(0x21, 0x11, &[0; 11]),
        v2(0x21, 0x21, &[0; 35]),
        v2(0x21, 0x31, &[0; 215]),
        v2(0x21, 0x11, &[0; 60_000]),
        datagram,
        b"\r\n\r\n\0\r\nQUITT21x".to_vec(),
        b"PROXY TCP4 192.0.2.9\r\n".to_vec(),
        b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(),
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n".to_vec(),
        b"PROXX TCP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(),
        [b"PROXY TCP4 ".as_slice(), &[b'1'; 500]].concat(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        let mut client = service.connect();
        // The server may close before all is sent.
        let _ = client.stream.write_all(&bad);
        assert!(client.is_closed(), "{bad:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(30));
    // Half a header and none.
    let mut half = through(&service, &ipv4(1)[..20]);
    let mut silent = service.connect();
    assert!(half.is_closed() && silent.is_closed());
    // Checks of the proxy's health: connect and close, without a line in the log.
    let lines = service.log().lines().count();
    for _ in 0..20 {
        service.connect().close();
    }
    assert_eq!(through(&service, &ipv4(1)).json(12, "")["protocol"], 2);
    wait_for("the log", || {
        service.log().contains("info by -").then_some(())
    });
    assert!(service.log().lines().count() < lines + 20);
}

#[test]
fn nobody_else_is_believed() {
    let service = Service::start(&["--trusted_proxy", "127.0.0.66"]);
    let mut client = through(&service, &ipv4(1));
    // The bytes are requests: command 13 with a payload that nobody sends.
    let answer = String::from_utf8(client.read_blob()).unwrap();
    assert!(answer.contains("ERROR_BAD_REQUEST"), "{answer}");
    let mut plain = service.connect();
    assert_eq!(plain.log_in("ann", PASSWORD), json!([true, false]));
    assert!(!service.log().contains("192.0.2.1"));
    // The proxy itself is believed.
    let mut proxied = Client::from("127.0.0.66", service.address);
    proxied.stream.write_all(&ipv4(1)).unwrap();
    assert_eq!(proxied.log_in("ann", PASSWORD), json!([true, false]));
    wait_for("the log", || {
        service.log().contains("address=192.0.2.1").then_some(())
    });
    let err = crate::support::fail(
        service.dir.path(),
        2,
        &["serve", "--demo", "--trusted-proxy", "10.0.0.0/40"],
    );
    assert!(
        err.contains("10.0.0.0/40") && err.contains("network"),
        "{err}"
    );
}

#[test]
fn an_attack_behind_a_proxy_slows_only_its_own_address() {
    let service = Service::start(&["--trusted_proxy", "127.0.0.1", "--login_attempts", "1"]);
    let mut attack: Vec<_> = (0..6).map(|_| through(&service, &ipv4(66))).collect();
    for (i, client) in attack.iter_mut().enumerate() {
        let name = format!("nobody{i}");
        client.send(1, json!({"u": name, "p": "x"}).to_string().as_bytes());
    }
    let start = Instant::now();
    let mut ann = through(&service, &ipv4(1));
    assert_eq!(ann.log_in("ann", PASSWORD), json!([true, false]));
    assert!(start.elapsed() < Duration::from_secs(5));
}
