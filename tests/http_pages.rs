//! The web app's page and files, and what it asks before anything is uploaded.

use serde_json::json;
use vggt::web;

use crate::support::{
    http::{Response, request},
    service::{Service, demo_images},
};

fn get(service: &Service, path: &str) -> Response {
    let asked = request("GET", path).header("accept", "text/html,*/*;q=0.8");
    asked.send(service.http())
}

#[test]
fn every_address_of_the_app_has_the_page_which_runs_only_what_the_service_sends() {
    let service = Service::start_http(&[]);
    let index = web::file("index.html").expect(web::MISSING);
    for path in [
        "/",
        "/login",
        "/new",
        "/account",
        "/jobs/7",
        "/s/no-such-link",
    ] {
        let page = get(&service, path);
        assert_eq!((page.status, &page.body[..]), (200, index), "{path}");
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        let policy = page.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; "),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("x-frame-options"), Some("DENY"));
    }
    for path in [
        "/jobs",
        "/jobs/7/8",
        "/index.html",
        "/assets/",
        "/assets/page.html",
    ] {
        assert_eq!(get(&service, path).status, 404, "{path}");
    }
    // To a program the address of a link is an API.
    let asked = request("GET", "/s/no-such-link").header("accept", "application/json");
    assert_eq!(asked.send(service.http()).expect(404)["code"], "not_found");
}

#[test]
fn files_of_the_app_are_sent_once_and_compressed() {
    let service = Service::start_http(&[]);
    for (name, kind) in [
        ("app.js", "text/javascript; charset=utf-8"),
        ("viewer.js", "text/javascript; charset=utf-8"),
        ("app.css", "text/css; charset=utf-8"),
        ("viewer.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ] {
        let path = format!("/assets/{name}");
        let file = get(&service, &path);
        let expected = web::file(name).expect(web::MISSING);
        assert_eq!((file.status, &file.body[..]), (200, expected), "{name}");
        assert_eq!(file.header("content-type"), Some(kind));
        let tag = file.header("etag").unwrap();
        let again = request("GET", &path).header("if-none-match", tag);
        assert_eq!(again.send(service.http()).status, 304, "{name}");
    }
    let packed = request("GET", "/assets/viewer.js").header("accept-encoding", "gzip");
    let packed = packed.send(service.http());
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(packed.body.len() < web::file("viewer.js").unwrap().len() / 2);
    // What is not for browsers stays inside.
    assert_eq!(get(&service, "/assets/licenses.json").status, 404);
}

#[test]
fn limits_and_storage_are_told() {
    let service = Service::start_http(&[
        "--max-images",
        "7",
        "--max-upload",
        "9",
        "--max-user-bytes",
        "100",
    ]);
    let told = request("GET", "/api/v1/service").send(service.http());
    let told = told.expect(200);
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&told["max_images"], &told["max_upload"]),
        (&json!(7), &json!(9 << 20))
    );
    assert_eq!(
        (&told["sky"], &told["demo_weights"]),
        (&json!(false), &json!(true))
    );

    let storage = || request("GET", "/api/v1/storage");
    assert_eq!(
        storage().send(service.http()).expect(401)["code"],
        "not_logged_in"
    );
    let token = service.token("ann");
    let held = || storage().bearer(&token).send(service.http()).expect(200);
    assert_eq!(held(), json!({"used": 0, "limit": 100 << 20}));
    let id = service.submit_http(&token, &demo_images(2));
    assert_eq!(service.finished_job(&token, id)["state"], "done");
    let size = request("GET", &format!("/api/v1/jobs/{id}")).bearer(&token);
    let size = size.send(service.http()).expect(200)["result"]["size"].as_u64();
    assert!(held()["used"].as_u64() > size);
}
