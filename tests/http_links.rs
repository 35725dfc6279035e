//! Links under which people without a login see a result.

use serde_json::{Value, json};

use crate::support::{
    database::{psql, url_of},
    http::{DoneJob, Response, request},
    run,
    service::Service,
    store::execute,
};

impl DoneJob {
    fn links(&self) -> String {
        format!("/api/v1/jobs/{}/links", self.id)
    }

    fn link(&self, asked: &Value) -> Response {
        let link = request("POST", &self.links())
            .bearer(&self.token)
            .json(asked);
        link.send(self.service.http())
    }

    fn new_path(&self) -> String {
        self.link(&json!({})).expect(201)["path"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// As somebody without a login.
    fn visit(&self, path: &str) -> Response {
        request("GET", path).send(self.service.http())
    }
}

#[test]
fn everybody_who_knows_a_link_sees_the_scene_and_no_names() {
    let shared = DoneJob::of_images(2);
    let answer = shared.link(&json!({"expires_in_days": 7}));
    let made = answer.expect(201);
    let path = made["path"].as_str().unwrap();
    assert_eq!(answer.header("location"), Some(path));
    assert!(path.starts_with("/s/") && path.len() == 3 + 32, "{path}");
    assert!(made["expires_at"].is_string(), "{made}");
    let scene = shared.visit(path).expect(200);
    assert_eq!(scene["frames"], 2, "{scene}");
    assert_eq!(scene["expires_at"], made["expires_at"]);

    let own = |artifact: &str| {
        let path = format!("/api/v1/jobs/{}/artifacts/{artifact}", shared.id);
        let own = request("GET", &path).bearer(&shared.token);
        own.send(shared.service.http()).body
    };
    for file in [
        "points",
        "points?max_points=10",
        "scene.jpg",
        "frames/1.jpg",
        "thumbnails/0.jpg",
    ] {
        let answer = shared.visit(&format!("{path}/{file}"));
        assert_eq!(answer.status, 200, "{file}: {answer:?}");
        assert_eq!(answer.body, own(file), "{file}");
    }
    let cameras = shared.visit(&format!("{path}/cameras.json")).expect(200);
    assert_eq!(cameras["cameras"].as_array().unwrap().len(), 2);
    assert!(!cameras.to_string().contains("photo"), "{cameras}");
    let part = request("GET", &format!("{path}/points")).header("Range", "bytes=0-7");
    assert_eq!(part.send(shared.service.http()).body, b"VGGTPTS1");

    // Nothing else, and nothing under another name.
    for file in [
        "glb",
        "ply",
        "safetensors",
        "colmap.zip",
        "depth.zip",
        "html",
        "preview.glb",
        "frames/0.depth.png",
        "frames/2.jpg",
        "thumbnails/2.jpg",
        "links",
        "..",
    ] {
        let answer = shared.visit(&format!("{path}/{file}"));
        answer.problem(404, "not_found");
    }
    shared.visit(&format!("{path}x")).problem(404, "not_found");
    shared
        .visit(&path[..path.len() - 1])
        .problem(404, "not_found");
    shared
        .visit(&format!("/s/{}", "a".repeat(5000)))
        .problem(404, "not_found");
    // Neither the log nor the database tells the link.
    let secret = path.strip_prefix("/s/").unwrap();
    let log = shared.service.log();
    assert!(
        log.contains("/s/.../points") && !log.contains(secret),
        "{log}"
    );
    let found = match url_of(shared.service.dir()) {
        Some(url) => psql(&url, "SELECT * FROM share_links")
            .unwrap()
            .contains(secret),
        None => {
            let database = std::fs::read(shared.service.dir().join("vggt_app.db")).unwrap();
            let mut parts = database.windows(secret.len());
            parts.any(|part| part == secret.as_bytes())
        }
    };
    assert!(!found, "the database has the secret");
}

#[test]
fn a_link_ends_with_its_time_its_removal_its_result_and_its_user() {
    let shared = DoneJob::of_images(2);
    let path = shared.new_path();
    let list = || {
        request("GET", &shared.links())
            .bearer(&shared.token)
            .send(shared.service.http())
    };
    let links = list().expect(200);
    assert_eq!(links["links"].as_array().unwrap().len(), 1, "{links}");
    assert_eq!(links["links"][0]["expires_at"], Value::Null);
    assert!(!links.to_string().contains(&path[3..]));

    let second = shared.new_path();
    execute(
        shared.service.dir(),
        "UPDATE share_links SET expires_at = '2020-01-01 00:00:00' WHERE id = 2",
    );
    shared.visit(&second).problem(404, "not_found");
    assert_eq!(list().expect(200)["links"].as_array().unwrap().len(), 1);

    // It survives a restart.
    let DoneJob { service, token, id } = shared;
    let service = Service::start_in(service.kill(), &["--http", "127.0.0.1:0"]);
    let shared = DoneJob { service, token, id };
    shared.visit(&path).expect(200);

    run(shared.service.dir(), &["user", "disable", "ann"]);
    shared.visit(&path).problem(404, "not_found");
    run(shared.service.dir(), &["user", "enable", "ann"]);
    shared.visit(&path).expect(200);

    let token = shared.service.token("ann");
    let shared = DoneJob { token, ..shared };
    let remove = |link: &str| {
        let path = format!("{}/{link}", shared.links());
        request("DELETE", &path)
            .bearer(&shared.token)
            .send(shared.service.http())
    };
    remove("1").expect(204);
    shared.visit(&path).problem(404, "not_found");
    for gone in ["1", "77", "x", "-1"] {
        remove(gone).problem(404, "not_found");
    }

    let third = shared.new_path();
    let job = format!("/api/v1/jobs/{}", shared.id);
    request("DELETE", &job)
        .bearer(&shared.token)
        .send(shared.service.http())
        .expect(204);
    shared.visit(&third).problem(404, "not_found");
    shared.link(&json!({})).problem(404, "not_found");
}

#[test]
fn links_are_made_by_the_owner_of_a_result_that_is_there() {
    let shared = DoneJob::of_images(2);
    for bad in [
        json!({"expires_in_days": 0}),
        json!({"expires_in_days": 3651}),
        json!({"expires_in_days": -1}),
        json!({"expires_in_days": "x"}),
        json!({"other": 1}),
        json!([]),
    ] {
        shared.link(&bad).problem(400, "bad_request");
    }
    let ben = shared.service.token("ben");
    for method in ["GET", "POST"] {
        let foreign = request(method, &shared.links())
            .bearer(&ben)
            .json(&json!({}));
        foreign
            .send(shared.service.http())
            .problem(404, "not_found");
        let stranger = request(method, &shared.links()).json(&json!({}));
        stranger
            .send(shared.service.http())
            .problem(401, "not_logged_in");
    }
    for _ in 0..100 {
        shared.new_path();
    }
    shared.link(&json!({})).problem(409, "conflict");
}
