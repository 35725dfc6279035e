//! What pages of other origins may do, and what is compressed.

use serde_json::json;

use crate::support::{
    fail,
    http::{Request, Response, request},
    service::{PASSWORD, Service, demo_images},
};

const APP: &str = "https://app.example.org";

fn preflight(service: &Service, origin: &str) -> Response {
    let asked = request("OPTIONS", "/api/v1/jobs").header("Origin", origin);
    let asked = asked.header("Access-Control-Request-Method", "POST");
    asked.send(service.http())
}

fn login(origin: &str) -> Request {
    let login = json!({"username": "ann", "password": PASSWORD});
    let login = request("POST", "/api/v1/sessions").json(&login);
    login
        .header("Origin", origin)
        .header("Sec-Fetch-Site", "cross-site")
}

#[test]
fn pages_of_listed_origins_use_a_token_and_no_others_do() {
    let service = Service::start_http(&[
        "--http-origin",
        APP,
        "--http_origin",
        "http://localhost:3000",
    ]);
    for origin in [APP, "http://localhost:3000"] {
        let allowed = preflight(&service, origin);
        assert_eq!(allowed.status, 204, "{allowed:?}");
        assert_eq!(allowed.header("access-control-allow-origin"), Some(origin));
        assert!(
            allowed
                .header("access-control-allow-methods")
                .unwrap()
                .contains("PATCH")
        );
        assert!(
            allowed
                .header("access-control-allow-headers")
                .unwrap()
                .contains("authorization")
        );
        // Never with the cookie.
        assert_eq!(allowed.header("access-control-allow-credentials"), None);
    }
    let session = login(APP).send(service.http());
    assert_eq!(session.header("access-control-allow-origin"), Some(APP));
    assert_eq!(session.header("vary"), Some("origin"));
    let token = session.expect(201)["token"].as_str().unwrap().to_owned();
    let job = request("POST", "/api/v1/jobs")
        .bearer(&token)
        .header("Origin", APP);
    let job = job
        .header("Sec-Fetch-Site", "cross-site")
        .images(&demo_images(1));
    let answer = job.send(service.http());
    assert!(
        answer
            .header("access-control-expose-headers")
            .unwrap()
            .contains("location")
    );
    let id = answer.expect(201)["id"].as_i64().unwrap();
    // The same with the cookie is refused.
    let path = format!("/api/v1/jobs/{id}");
    let cookie = request("DELETE", &path).header("Cookie", &format!("vggt_session={token}"));
    let cookie = cookie
        .header("Origin", APP)
        .header("Sec-Fetch-Site", "cross-site");
    cookie.send(service.http()).problem(403, "cross_site");
    // An error can be read as well.
    let missing = request("GET", "/api/v1/jobs/999")
        .bearer(&token)
        .header("Origin", APP);
    let missing = missing.send(service.http());
    missing.problem(404, "not_found");
    assert_eq!(missing.header("access-control-allow-origin"), Some(APP));

    for other in [
        "https://evil.example.org",
        "https://app.example.org.evil.org",
        "https://app.example.org:444",
        "http://app.example.org",
        "null",
    ] {
        let refused = preflight(&service, other);
        refused.problem(405, "method_not_allowed");
        assert_eq!(
            refused.header("access-control-allow-origin"),
            None,
            "{other}"
        );
        login(other).send(service.http()).problem(403, "cross_site");
    }
}

#[test]
fn without_a_list_there_is_no_cors() {
    let service = Service::start_http(&[]);
    preflight(&service, APP).problem(405, "method_not_allowed");
    let health = request("GET", "/health")
        .header("Origin", APP)
        .send(service.http());
    assert_eq!(health.header("access-control-allow-origin"), None);
    for bad in ["*", "app.example.org", "https://app.example.org/", ""] {
        let dir = tempfile::tempdir().unwrap();
        let args = ["serve", "--demo", "--http-origin", bad];
        assert!(
            fail(dir.path(), 2, &args).contains("--http-origin"),
            "{bad}"
        );
    }
}

#[test]
fn descriptions_and_lists_are_compressed_and_secrets_and_files_are_not() {
    let service = Service::start_http(&[]);
    let zipped = |path: &str, token: Option<&str>| {
        let asked = request("GET", path).header("Accept-Encoding", "gzip, br");
        match token {
            Some(token) => asked.bearer(token),
            None => asked,
        }
        .send(service.http())
    };
    let plain = request("GET", "/api/v1/openapi.json").send(service.http());
    assert_eq!(plain.header("content-encoding"), None);
    let small = zipped("/api/v1/openapi.json", None);
    assert_eq!(small.header("content-encoding"), Some("gzip"));
    assert!(small.body.starts_with(&[0x1f, 0x8b]) && small.body.len() * 4 < plain.body.len());
    assert_eq!(zipped("/health", None).header("content-encoding"), None);

    let login = json!({"username": "ann", "password": PASSWORD});
    let login = request("POST", "/api/v1/sessions").json(&login);
    let session = login.header("Accept-Encoding", "gzip").send(service.http());
    assert_eq!(session.header("content-encoding"), None);
    let token = session.expect(201)["token"].as_str().unwrap().to_owned();
    let id = service.submit_http(&token, &demo_images(1));
    service.finished_job(&token, id);
    for artifact in ["glb", "points", "cameras.json", "html"] {
        let answer = zipped(
            &format!("/api/v1/jobs/{id}/artifacts/{artifact}"),
            Some(&token),
        );
        assert_eq!(
            (answer.status, answer.header("content-encoding")),
            (200, None),
            "{artifact}"
        );
    }
}
