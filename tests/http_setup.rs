//! The link that makes the first user.

use crate::support::{
    http::{Request, request},
    run,
    service::{PASSWORD, Service, wait_for},
};

fn start(args: &[&str]) -> Service {
    let dir = tempfile::tempdir().unwrap();
    Service::start_in(dir, &[&["--http", "127.0.0.1:0"], args].concat())
}

/// The path of the link in the log.
fn link(service: &Service) -> String {
    wait_for("the link", || {
        let log = service.log();
        let address = format!("http://{}", service.http());
        // The first is that of the web app.
        let mut paths = log.split(&address).skip(1);
        let path = paths.find(|rest| rest.starts_with("/setup/"))?;
        Some(path.split_whitespace().next()?.to_owned())
    })
}

fn form(path: &str, body: &str) -> Request {
    let form = request("POST", path).header("Content-Type", "application/x-www-form-urlencoded");
    form.body(body.as_bytes())
}

#[test]
fn the_first_user_is_made_in_a_browser_and_no_second_one() {
    let service = start(&[]);
    let path = link(&service);
    assert!(path.starts_with("/setup/") && path.len() > 40, "{path}");
    let page = request("GET", &path).send(service.http());
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.contains("default-src 'none'") && policy.contains("form-action 'self'"),
        "{policy}"
    );
    let text = String::from_utf8(page.body).unwrap();
    assert!(
        text.contains("name=\"username\"") && text.contains("name=\"password\""),
        "{text}"
    );
    for bad in [
        "username=&password=x",
        "username=a%0Ab&password=x",
        "username=ann&password=",
    ] {
        let again = form(&path, bad).send(service.http());
        assert_eq!(again.status, 400, "{bad}");
        assert!(
            String::from_utf8(again.body)
                .unwrap()
                .contains("role=\"alert\"")
        );
    }
    for bad in [
        "",
        "username=ann",
        "password=x",
        "username=ann&password=x&vip=1",
        "%ff",
    ] {
        form(&path, bad)
            .send(service.http())
            .problem(400, "bad_request");
    }
    let json =
        request("POST", &path).json(&serde_json::json!({"username": "ann", "password": "x"}));
    json.send(service.http())
        .problem(415, "unsupported_media_type");
    let wrong = format!("{}0", &path[..path.len() - 1]);
    let wrong = if wrong == path {
        format!("{path}0")
    } else {
        wrong
    };
    for path in [wrong.as_str(), "/setup/", "/setup/x"] {
        request("GET", path)
            .send(service.http())
            .problem(404, "not_found");
        form(path, "username=eve&password=x")
            .send(service.http())
            .problem(404, "not_found");
    }

    let made = form(&path, "username=ann+b&password=correct+horse").send(service.http());
    assert_eq!(made.status, 201, "{made:?}");
    assert!(
        String::from_utf8(made.body)
            .unwrap()
            .contains("log in</a> now")
    );
    service.login("ann b");
    assert_eq!(PASSWORD, "correct horse");
    request("GET", &path)
        .send(service.http())
        .problem(404, "not_found");
    form(&path, "username=eve&password=x")
        .send(service.http())
        .problem(404, "not_found");
    // The log of requests does not repeat it.
    assert_eq!(service.log().matches(&path).count(), 1);
}

#[test]
fn the_link_is_for_this_machine_and_until_there_is_a_user() {
    let service = start(&["--trusted-proxy", "127.0.0.1"]);
    let path = link(&service);
    let through = |address: &str| {
        let asked = request("GET", &path).header("X-Forwarded-For", address);
        asked.send(service.http())
    };
    through("192.0.2.7").problem(404, "not_found");
    assert_eq!(request("GET", &path).send(service.http()).status, 200);
    run(service.dir(), &["user", "add", "ann", "secret"]);
    request("GET", &path)
        .send(service.http())
        .problem(404, "not_found");
    form(&path, "username=eve&password=x")
        .send(service.http())
        .problem(404, "not_found");
    let users = run(service.dir(), &["user", "list"]);
    assert!(!users.contains("eve"), "{users}");
    // The next process has none to make.
    let service = Service::start_in(service.kill(), &["--http", "127.0.0.1:0"]);
    let at = service.http();
    let log = service.log();
    let (_, last) = log.rsplit_once("HTTP on").unwrap();
    assert!(!last.contains("/setup/"), "{last}");
    request("GET", &path).send(at).problem(404, "not_found");
}

#[test]
fn without_http_the_command_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start_in(dir, &[]);
    wait_for("the hint", || {
        let log = service.log();
        (log.contains("`vggt user add NAME`") && !log.contains("/setup/")).then_some(())
    });
}
