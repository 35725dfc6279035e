//! Jobs over HTTP: the same as those of the TCP port, and their results.

use serde_json::{Value, json};

use crate::support::{
    http::{Request, request},
    service::{Service, demo_images, long_job, refs, varied},
};

fn of_job(method: &str, token: &str, id: i64) -> Request {
    request(method, &format!("/api/v1/jobs/{id}")).bearer(token)
}

fn glb(method: &str, token: &str, id: i64) -> Request {
    let path = format!("/api/v1/jobs/{id}/artifacts/glb");
    request(method, &path).bearer(token)
}

fn list(service: &Service, token: &str, query: &str) -> Value {
    let path = format!("/api/v1/jobs{query}");
    let page = request("GET", &path).bearer(token).send(service.http());
    page.expect(200)
}

fn ids(page: &Value) -> Vec<i64> {
    let jobs = page["jobs"].as_array().unwrap().iter();
    jobs.map(|job| job["id"].as_i64().unwrap()).collect()
}

#[test]
fn a_job_of_http_is_one_of_the_other_port_and_gives_the_same_bytes() {
    let service = Service::start_http(&[]);
    let token = service.token("ann");
    let id = service.submit_http(&token, &demo_images(2));
    let job = service.finished_job(&token, id);
    assert_eq!(job["state"], "done", "{job}");
    assert!(job["created_at"].is_string() && job["finished_at"].is_string());
    assert!(job.get("place").is_none() && job.get("stage").is_none());
    let kinds = job["warnings"].as_array().unwrap().iter();
    assert!(
        kinds
            .into_iter()
            .all(|w| w["kind"].is_string() && w["text"].is_string())
    );
    let hash = job["result"]["hash"].as_str().unwrap();
    let mut tcp = service.login("ann");
    assert_eq!(tcp.status(id)["state"], "done");
    let (_, bytes) = tcp.get(hash).glb();
    let answer = glb("GET", &token, id).send(service.http());
    assert_eq!((answer.status, &answer.body), (200, &bytes));
    assert_eq!(answer.header("content-type"), Some("model/gltf-binary"));
    assert_eq!(job["result"]["size"], bytes.len());
    assert_eq!(job["result"]["public"], false);
    // And the other way round.
    let other = tcp.submit(&refs(&varied(1)));
    assert_eq!(service.finished_job(&token, other)["state"], "done");
    assert_eq!(ids(&list(&service, &token, "")), [other, id]);
    // The same files again are the same result, at once.
    let again = service.submit_http(&token, &demo_images(2));
    assert_eq!(service.job(&token, again)["result"]["hash"], hash);
}

#[test]
fn a_result_is_sent_in_parts_and_not_again_to_who_has_it() {
    let service = Service::start_http(&[]);
    let token = service.token("ann");
    let id = service.submit_http(&token, &demo_images(1));
    assert_eq!(service.finished_job(&token, id)["state"], "done");
    let whole = glb("GET", &token, id).send(service.http());
    let (bytes, etag) = (&whole.body, whole.header("etag").unwrap());
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert!(
        whole
            .header("content-disposition")
            .unwrap()
            .starts_with("attachment; ")
    );
    let head = glb("HEAD", &token, id).send(service.http());
    assert_eq!(head.status, 200);
    assert_eq!(
        head.header("content-length"),
        Some(bytes.len().to_string().as_str())
    );
    assert_eq!(head.header("etag"), Some(etag));
    let len = bytes.len();
    for (range, expected) in [
        ("bytes=0-0".to_owned(), 0..1),
        ("bytes=12-99".to_owned(), 12..100),
        (format!("bytes={}-", len - 5), len - 5..len),
        ("bytes=-7".to_owned(), len - 7..len),
        (format!("bytes=300-{}", 10 * len), 300..len),
    ] {
        let asked = glb("GET", &token, id).header("Range", &range);
        let part = asked.header("If-Range", etag).send(service.http());
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(part.body, bytes[expected.clone()], "{range}");
        let said = format!("bytes {}-{}/{len}", expected.start, expected.end - 1);
        assert_eq!(part.header("content-range"), Some(said.as_str()));
        let changed = glb("GET", &token, id).header("Range", &range);
        let changed = changed.header("If-Range", "\"other\"").send(service.http());
        assert_eq!((changed.status, &changed.body), (200, bytes));
    }
    let beyond = glb("GET", &token, id).header("Range", &format!("bytes={len}-"));
    let beyond = beyond.send(service.http());
    beyond.problem(416, "range_not_satisfiable");
    let total = format!("bytes */{len}");
    assert_eq!(beyond.header("content-range"), Some(total.as_str()));
    let known = glb("GET", &token, id).header("If-None-Match", etag);
    let known = known.send(service.http());
    assert_eq!((known.status, known.body.len()), (304, 0));
    assert_eq!(known.header("etag"), Some(etag));
}

#[test]
fn nobody_else_sees_a_job_or_changes_it() {
    let service = Service::start_http(&[]);
    let token = service.token("ann");
    let id = service.submit_http(&token, &demo_images(1));
    service.finished_job(&token, id);
    let ben = service.token("ben");
    assert!(ids(&list(&service, &ben, "")).is_empty());
    for foreign in [
        of_job("GET", &ben, id),
        of_job("DELETE", &ben, id),
        of_job("PATCH", &ben, id).json(&json!({"public": true})),
        glb("GET", &ben, id),
        of_job("GET", &token, id + 1),
    ] {
        foreign.send(service.http()).problem(404, "not_found");
    }
    for stranger in [
        request("GET", "/api/v1/jobs"),
        request("GET", &format!("/api/v1/jobs/{id}")),
        request("DELETE", &format!("/api/v1/jobs/{id}")),
        request("GET", &format!("/api/v1/jobs/{id}/artifacts/glb")),
        request("POST", "/api/v1/jobs").images(&demo_images(1)),
    ] {
        stranger.send(service.http()).problem(401, "not_logged_in");
    }
    assert_eq!(service.job(&token, id)["state"], "done");
}

#[test]
fn a_result_gets_another_name_and_is_published() {
    let service = Service::start_http(&[]);
    let token = service.token("ann");
    let id = service.submit_http(&token, &demo_images(1));
    service.finished_job(&token, id);
    let change = |change: Value| {
        of_job("PATCH", &token, id)
            .json(&change)
            .send(service.http())
    };
    let job = change(json!({"name": "K\u{fc}che", "public": true})).expect(200);
    assert_eq!(job["name"], "K\u{fc}che.glb");
    assert_eq!(job["result"]["public"], true);
    let answer = glb("GET", &token, id).send(service.http());
    let disposition = answer.header("content-disposition").unwrap();
    assert!(
        disposition.ends_with("filename*=UTF-8''K%C3%BCche.glb"),
        "{disposition}"
    );
    let mut tcp = service.login("ann");
    assert_eq!(tcp.json(5, "")["files"][0]["name"], "K\u{fc}che.glb");
    // Without a login.
    let hash = job["result"]["hash"].as_str().unwrap();
    service.connect().get(hash).glb();
    assert_eq!(
        change(json!({"public": false})).expect(200)["result"]["public"],
        false
    );
    assert_eq!(service.connect().get(hash).error(), "ERROR_HASH_NOT_FOUND");
    assert_eq!(change(json!({})).expect(200)["name"], "K\u{fc}che.glb");
    for bad in [
        json!({"name": ""}),
        json!({"name": "a\nb"}),
        json!({"name": "x".repeat(300)}),
        json!({"public": 1}),
        json!({"state": "done"}),
        json!([]),
    ] {
        change(bad).problem(400, "bad_request");
    }
}

#[test]
fn a_job_that_runs_is_cancelled_and_one_that_has_ended_is_removed() {
    let service = Service::start_http(&[]);
    let token = service.token("ann");
    let running = service.submit_http(&token, &long_job());
    let waiting = service.submit_http(&token, &refs(&varied(1)));
    let job = service.job(&token, waiting);
    if job["state"] == "queued" {
        assert!(job["place"].as_u64().unwrap() >= 1, "{job}");
    }
    let early = of_job("PATCH", &token, waiting).json(&json!({"name": "early"}));
    early.send(service.http()).problem(409, "conflict");
    glb("GET", &token, waiting)
        .send(service.http())
        .problem(409, "conflict");
    for id in [waiting, running] {
        let job = of_job("DELETE", &token, id)
            .send(service.http())
            .expect(200);
        assert_eq!(job["state"], "cancelled", "{job}");
    }
    // One who only wants to cancel removes nothing, however late it is.
    let path = |query: &str| format!("/api/v1/jobs/{running}?{query}");
    let again = request("DELETE", &path("only_cancel=true")).bearer(&token);
    let job = again.send(service.http()).expect(200);
    assert_eq!(job["state"], "cancelled", "{job}");
    let odd = request("DELETE", &path("only_cancel=1")).bearer(&token);
    odd.send(service.http()).problem(400, "bad_request");
    for id in [waiting, running] {
        of_job("DELETE", &token, id)
            .send(service.http())
            .expect(204);
        let gone = of_job("GET", &token, id).send(service.http());
        gone.problem(404, "not_found");
    }
    service.assert_nothing_left();

    // Two jobs with one result: the last takes it along.
    let one = service.submit_http(&token, &demo_images(1));
    let hash = service.finished_job(&token, one)["result"]["hash"].clone();
    let two = service.submit_http(&token, &demo_images(1));
    assert_eq!(service.job(&token, two)["result"]["hash"], hash);
    of_job("DELETE", &token, one)
        .send(service.http())
        .expect(204);
    assert_eq!(glb("GET", &token, two).send(service.http()).status, 200);
    of_job("DELETE", &token, two)
        .send(service.http())
        .expect(204);
    let mut tcp = service.login("ann");
    let answer = tcp.get(hash.as_str().unwrap());
    assert_eq!(answer.error(), "ERROR_HASH_NOT_FOUND");
    assert!(ids(&list(&service, &token, "")).is_empty());
}

#[test]
fn a_result_that_was_deleted_is_not_there() {
    let service = Service::start_http(&[]);
    let token = service.token("ann");
    let id = service.submit_http(&token, &demo_images(1));
    let job = service.finished_job(&token, id);
    let hash = job["result"]["hash"].as_str().unwrap();
    let one = json!({ "hash": hash }).to_string();
    service.login("ann").json(6, &one);
    let job = service.job(&token, id);
    assert_eq!((&job["state"], job.get("result")), (&json!("done"), None));
    glb("GET", &token, id)
        .send(service.http())
        .problem(404, "not_found");
    let rename = of_job("PATCH", &token, id).json(&json!({"name": "x"}));
    rename.send(service.http()).problem(409, "conflict");
}

#[test]
fn jobs_are_listed_in_pages() {
    let service = Service::start_http(&[]);
    let token = service.token("ann");
    let first = service.submit_http(&token, &demo_images(1));
    service.finished_job(&token, first);
    // The same result each time.
    let mut all: Vec<i64> = (0..4)
        .map(|_| service.submit_http(&token, &demo_images(1)))
        .collect();
    all.reverse();
    all.push(first);
    let mut seen = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let page = list(&service, &token, &query);
        seen.extend(ids(&page));
        match page["next"].as_i64() {
            Some(next) => query = format!("?limit=2&before={next}"),
            None => break,
        }
    }
    assert_eq!(seen, all);
    let exact = list(&service, &token, "?limit=5");
    assert_eq!((ids(&exact), &exact["next"]), (all, &Value::Null));
    for bad in [
        "?limit=0",
        "?limit=1001",
        "?limit=-1",
        "?limit=a",
        "?before=x",
        "?other=1",
    ] {
        let path = format!("/api/v1/jobs{bad}");
        let asked = request("GET", &path).bearer(&token).send(service.http());
        asked.problem(400, "bad_request");
    }
}
