//! Sessions and tokens of HTTP: how they begin, what they open, and when they end.

use std::{fs, io::Read, io::Write, time::Duration};

use serde_json::{Value, json};

use crate::support::{
    http::{Request, connect, request},
    service::{PASSWORD, Service},
    store::number,
};

const SESSIONS: &str = "/api/v1/sessions";
const CURRENT: &str = "/api/v1/sessions/current";
const TOKENS: &str = "/api/v1/tokens";

fn login(name: &str, password: &str) -> Request {
    request("POST", SESSIONS).json(&json!({"username": name, "password": password}))
}

fn is_in(service: &Service, secret: &str) -> bool {
    let answer = request("GET", CURRENT).bearer(secret).send(service.http());
    if answer.status != 200 {
        answer.problem(401, "not_logged_in");
    }
    answer.status == 200
}

/// A named token, made with a session: its secret and its key.
fn named(service: &Service, session: &str, name: &str) -> (String, i64) {
    let made = request("POST", TOKENS)
        .bearer(session)
        .json(&json!({"name": name}))
        .send(service.http())
        .expect(201);
    let secret = made["token"].as_str().unwrap().to_owned();
    (secret, made["id"].as_i64().unwrap())
}

#[test]
fn a_login_gives_a_cookie_and_a_token_that_open_the_same() {
    let service = Service::start_http(&[]);
    let answer = login("vic", PASSWORD).send(service.http());
    let session = answer.expect(201);
    assert_eq!(session["username"], "vic");
    assert_eq!(session["is_vip"], true);
    let secret = session["token"].as_str().unwrap();
    let cookie = answer.header("set-cookie").unwrap();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(pair, format!("vggt_session={secret}"));
    let attributes: Vec<&str> = attributes.split("; ").collect();
    for wanted in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(attributes.contains(&wanted), "{cookie}");
    }
    assert!(!attributes.contains(&"Secure"), "{cookie}");
    assert!(is_in(&service, secret));
    let by_cookie = request("GET", CURRENT).header("Cookie", &format!("a=b; {pair}"));
    assert_eq!(
        by_cookie.send(service.http()).expect(200)["username"],
        "vic"
    );
    // Neither in the log nor in the database.
    assert!(!service.log().contains(secret) && !service.log().contains(PASSWORD));
    for file in ["vggt_app.db", "vggt_app.db-wal"] {
        let bytes = fs::read(service.dir.path().join(file)).unwrap_or_default();
        let found = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
        assert!(!found, "{file}");
    }
}

#[test]
fn the_cookie_is_for_https_alone_where_a_trusted_proxy_says_so() {
    let secure = |service: &Service| {
        let login = login("ann", PASSWORD).header("X-Forwarded-Proto", "https");
        let answer = login.send(service.http());
        answer.expect(201);
        answer.header("set-cookie").unwrap().contains("; Secure")
    };
    assert!(!secure(&Service::start_http(&[])));
    assert!(secure(&Service::start_http(&[
        "--trusted-proxy",
        "127.0.0.1"
    ])));
}

#[test]
fn a_login_that_is_wrong_or_makes_no_sense_is_refused() {
    let service = Service::start_http(&[]);
    for (name, password) in [("ann", "wrong"), ("nobody", PASSWORD), ("", "")] {
        let answer = login(name, password).send(service.http());
        answer.problem(401, "wrong_login");
        assert_eq!(answer.header("set-cookie"), None);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    for body in [
        "",
        "{",
        "[]",
        "{\"username\": \"ann\"}",
        "{\"username\": 1, \"password\": 2}",
    ] {
        let bad = request("POST", SESSIONS).header("Content-Type", "application/json");
        let bad = bad.body(body.as_bytes()).send(service.http());
        bad.problem(400, "bad_request");
    }
    let form = request("POST", SESSIONS)
        .header("Content-Type", "text/plain")
        .body(b"{\"username\": \"ann\", \"password\": \"correct horse\"}");
    form.send(service.http())
        .problem(415, "unsupported_media_type");
    let long = login("ann", &"x".repeat(100_000)).send(service.http());
    long.problem(413, "too_large");
    for authorization in ["Bearer", "Bearer ", "Basic YTpi", "Bearer vggt_x", "vggt_x"] {
        let odd = request("GET", CURRENT).header("Authorization", authorization);
        odd.send(service.http()).problem(401, "not_logged_in");
    }
}

#[test]
fn a_body_that_does_not_arrive_is_not_waited_for() {
    let service = Service::start_http(&["--stall-timeout", "1"]);
    let head = request("POST", SESSIONS)
        .header("Content-Type", "application/json")
        .header("Content-Length", "100")
        .bytes();
    let mut stream = connect(service.http());
    stream.write_all(&head).unwrap();
    stream.write_all(b"{\"username\"").unwrap();
    let answer = crate::support::http::read(&mut stream, false);
    answer.problem(408, "request_timeout");
}

#[test]
fn sessions_and_tokens_survive_a_restart() {
    let service = Service::start_http(&[]);
    let session = service.token("ann");
    let (token, _) = named(&service, &session, "backup");
    let service = Service::start_in(service.kill(), &["--http", "127.0.0.1:0"]);
    assert!(is_in(&service, &session) && is_in(&service, &token));
}

#[test]
fn sessions_and_tokens_end_with_the_password_and_with_their_user() {
    let service = Service::start_http(&[]);
    let store = service.store();
    let secrets = |name: &str| {
        let session = service.token(name);
        let (token, _) = named(&service, &session, "t");
        [session, token]
    };
    let all_in = |all: &[String]| all.iter().all(|secret| is_in(&service, secret));
    let all_out = |all: &[String]| all.iter().all(|secret| !is_in(&service, secret));
    let (ann, ben, vic) = (secrets("ann"), secrets("ben"), secrets("vic"));
    assert!(all_in(&ann) && all_in(&ben) && all_in(&vic));
    store.set_password("ann", "another one").unwrap();
    store.set_active("ben", false).unwrap();
    store.remove_user("vic").unwrap();
    assert!(all_out(&ann) && all_out(&ben) && all_out(&vic));
    // For good, also for somebody who gets the name next.
    store.set_active("ben", true).unwrap();
    store.add_user("vic", PASSWORD, false).unwrap();
    assert!(all_out(&ben) && all_out(&vic));
    let rows =
        "SELECT count(*) AS answer FROM access_tokens WHERE user_id NOT IN (SELECT id FROM users)";
    assert_eq!(number(service.dir.path(), rows), 0);
    // A change that is none of the login.
    let ben = secrets("ben");
    store.set_vip("ben", true, None).unwrap();
    assert!(all_in(&ben));
}

#[test]
fn logging_out_ends_this_session_and_no_other() {
    let service = Service::start_http(&[]);
    let (one, other) = (service.token("ann"), service.token("ann"));
    let answer = request("DELETE", CURRENT).bearer(&one).send(service.http());
    answer.expect(204);
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.starts_with("vggt_session=; ") && cookie.contains("Max-Age=0"));
    assert!(!is_in(&service, &one) && is_in(&service, &other));
    let again = request("DELETE", CURRENT).bearer(&one);
    again.send(service.http()).problem(401, "not_logged_in");
}

#[test]
fn named_tokens_are_made_listed_and_revoked_by_their_user_alone() {
    let service = Service::start_http(&[]);
    let session = service.token("ann");
    let (secret, id) = named(&service, &session, "nightly build");
    let list = |secret: &str| {
        let answer = request("GET", TOKENS).bearer(secret).send(service.http());
        answer.expect(200)["tokens"].as_array().unwrap().clone()
    };
    assert!(is_in(&service, &secret));
    let listed = list(&session);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["name"], "nightly build");
    assert_eq!(listed[0]["id"], id);
    assert!(listed[0]["created_at"].is_string() && listed[0]["last_used_at"].is_string());
    assert_eq!(listed[0]["expires_at"], Value::Null);
    assert!(!listed[0].to_string().contains(&secret));
    // One that leaked makes no others, and does not log its user out.
    let more = request("POST", TOKENS).bearer(&secret);
    let more = more.json(&json!({"name": "more"})).send(service.http());
    more.problem(403, "session_required");
    let out = request("DELETE", CURRENT).bearer(&secret);
    out.send(service.http()).problem(403, "session_required");

    let path = format!("{TOKENS}/{id}");
    let ben = service.token("ben");
    assert!(list(&ben).is_empty());
    let foreign = request("DELETE", &path).bearer(&ben).send(service.http());
    foreign.problem(404, "not_found");
    let own = request("DELETE", &path).bearer(&session);
    own.clone().send(service.http()).expect(204);
    own.send(service.http()).problem(404, "not_found");
    assert!(!is_in(&service, &secret) && is_in(&service, &session));
    assert!(list(&session).is_empty());
}

#[test]
fn what_a_token_cannot_be_is_refused() {
    let service = Service::start_http(&[]);
    let session = service.token("ann");
    for bad in [
        json!({}),
        json!({"name": ""}),
        json!({"name": "x".repeat(65)}),
        json!({"name": "a\nb"}),
        json!({"name": "a", "expires_in_days": 0}),
        json!({"name": "a", "expires_in_days": -1}),
        json!({"name": "a", "expires_in_days": 5_000_000}),
        json!({"name": "a", "expires": 1}),
    ] {
        let asked = request("POST", TOKENS).bearer(&session).json(&bad);
        asked.send(service.http()).problem(400, "bad_request");
    }
    let ends = json!({"name": "ends", "expires_in_days": 1});
    let ends = request("POST", TOKENS).bearer(&session).json(&ends);
    let made = ends.send(service.http()).expect(201);
    assert!(made["expires_at"].is_string());
    // Its time is over.
    let past =
        "UPDATE access_tokens SET expires_at = '2026-01-01 00:00:00.000000' WHERE name = 'ends'";
    crate::support::store::execute(service.dir.path(), past);
    assert!(!is_in(&service, made["token"].as_str().unwrap()));
    for path in [
        "/api/v1/tokens/x",
        "/api/v1/tokens/-1",
        "/api/v1/tokens/99999999999999999999",
    ] {
        let asked = request("DELETE", path).bearer(&session);
        asked.send(service.http()).problem(404, "not_found");
    }
}

#[test]
fn a_page_of_another_origin_changes_nothing_with_the_cookie() {
    let service = Service::start_http(&[]);
    let session = service.token("ann");
    let cookie = format!("vggt_session={session}");
    let make = || {
        let make = request("POST", TOKENS).json(&json!({"name": "t"}));
        make.header("Cookie", &cookie)
    };
    for forged in [
        make(),
        make().header("Origin", "https://evil.test"),
        make().header("Origin", "null"),
        make().header("Origin", "http://vggt.test.evil.test"),
        make().header("Sec-Fetch-Site", "cross-site"),
        make().header("Sec-Fetch-Site", "same-site"),
        // The newer header counts.
        make()
            .header("Sec-Fetch-Site", "cross-site")
            .header("Origin", "http://vggt.test"),
        // Nobody trusts this peer.
        make()
            .header("Origin", "https://evil.test")
            .header("X-Forwarded-Host", "evil.test"),
    ] {
        forged.send(service.http()).problem(403, "cross_site");
    }
    for own in [
        make().header("Sec-Fetch-Site", "same-origin"),
        make().header("Origin", "http://vggt.test"),
    ] {
        own.send(service.http()).expect(201);
    }
    // Reading is not changing; what is read stays unreadable to the other page, without CORS.
    let read = request("GET", TOKENS).header("Cookie", &cookie);
    let read = read.header("Origin", "https://evil.test");
    let answer = read.send(service.http());
    assert_eq!(answer.expect(200)["tokens"].as_array().unwrap().len(), 2);
    assert_eq!(answer.header("access-control-allow-origin"), None);
    // Nor is a browser logged in as somebody else.
    let login = login("ben", PASSWORD).header("Origin", "https://evil.test");
    login.send(service.http()).problem(403, "cross_site");
}

#[test]
fn guesses_count_on_both_ports() {
    let options = ["--login-attempts", "3", "--login-delay", "1"];
    let service = Service::start_http(&options);
    for _ in 0..2 {
        let mut client = service.connect();
        assert_eq!(client.log_in("ann", "a guess"), json!([false, false]));
    }
    login("ann", "a guess")
        .send(service.http())
        .problem(401, "wrong_login");
    // The next one has to wait, on either port. Later is as good here as never.
    let soon = Duration::from_secs(1);
    let mut http = connect(service.http());
    http.write_all(&login("ann", PASSWORD).bytes()).unwrap();
    http.set_read_timeout(Some(soon)).unwrap();
    assert!(http.read(&mut [0]).is_err());
    let mut tcp = service.connect();
    tcp.send(1, json!({"u": "ann", "p": PASSWORD}).to_string().as_bytes());
    tcp.stream.set_read_timeout(Some(soon)).unwrap();
    assert!(tcp.stream.read(&mut [0]).is_err());
    // Others are not affected.
    service.token("ben");
}
