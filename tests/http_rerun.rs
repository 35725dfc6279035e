//! A job that is done, once more with other options, over HTTP.

use serde_json::{Value, json};

use crate::support::{
    http::{Request, Response, request},
    service::{Service, demo_images, long_job},
};

fn asked(token: &str, id: i64) -> Request {
    request("POST", &format!("/api/v1/jobs/{id}/rerun")).bearer(token)
}

fn rerun(service: &Service, token: &str, id: i64, options: Value) -> Response {
    asked(token, id).json(&options).send(service.http())
}

fn glb(service: &Service, token: &str, id: i64) -> Vec<u8> {
    let path = format!("/api/v1/jobs/{id}/artifacts/glb");
    let answer = request("GET", &path).bearer(token).send(service.http());
    assert_eq!(answer.status, 200);
    answer.body
}

fn done(service: &Service, token: &str, images: usize) -> i64 {
    let id = service.submit_http(token, &demo_images(images));
    assert_eq!(service.finished_job(token, id)["state"], "done");
    id
}

#[test]
fn a_job_that_is_done_runs_again_with_other_options_and_keeps_the_rest() {
    let service = Service::start_http(&["--no_cache"]);
    let token = service.token("ann");
    let parts: [(&str, Option<&str>, &[u8]); 2] = [
        ("files", Some("a.png"), demo_images(1)[0]),
        ("options", None, br#"{"name": "Kitchen", "show_cam": true}"#),
    ];
    let first = request("POST", "/api/v1/jobs")
        .bearer(&token)
        .multipart(&parts);
    let first = first.send(service.http()).expect(201)["id"]
        .as_i64()
        .unwrap();
    assert_eq!(service.finished_job(&token, first)["state"], "done");

    let answer = rerun(&service, &token, first, json!({"conf_thres": 60}));
    let job = answer.expect(201);
    let second = job["id"].as_i64().unwrap();
    assert_eq!(job["name"], "Kitchen.glb");
    let place = answer.header("location").unwrap();
    assert_eq!(place, format!("/api/v1/jobs/{second}"));
    let asked = request("GET", place).bearer(&token).send(service.http());
    assert_eq!(asked.expect(200)["id"], second);
    assert_eq!(service.finished_job(&token, second)["state"], "done");
    let (old, new) = (glb(&service, &token, first), glb(&service, &token, second));
    assert!(new.len() < old.len());
    // The cameras are as they were, and the TCP port does the same.
    let mut tcp = service.login("ann");
    tcp.json(11, &json!({"conf_thres": 60}).to_string());
    let third = tcp.json(15, &json!({ "job": first }).to_string());
    let third = third["job"].as_i64().unwrap();
    assert_eq!(service.finished_job(&token, third)["state"], "done");
    assert!(glb(&service, &token, third) == new);
    // One of one, under another name.
    let again = rerun(&service, &token, second, json!({"name": "Again"})).expect(201);
    assert_eq!(again["name"], "Again.glb");
    let again = again["id"].as_i64().unwrap();
    service.finished_job(&token, again);
    assert!(glb(&service, &token, again) == new);
    service.assert_nothing_left();
}

#[test]
fn what_a_rerun_cannot_do_is_said_before_it_is_queued() {
    let service = Service::start_http(&[]);
    let token = service.token("ann");
    let id = done(&service, &token, 1);
    for (options, word) in [
        (json!({"fps": 2}), "fps"),
        (json!({"attention": "anchors"}), "attention"),
        (json!({"keyframes": 3}), "keyframes"),
        (json!({"conf_thres": "many"}), "conf_thres"),
        (json!({"conf_thres": 101}), "conf_thres"),
        (json!({"no_such_option": 1}), "no_such_option"),
        (json!({"mask_sky": true}), "sky"),
        (json!({"name": ""}), "name"),
        (json!({"name": 7}), "name"),
        (json!([]), "JSON"),
        (json!("x"), "JSON"),
    ] {
        let problem = rerun(&service, &token, id, options.clone()).problem(400, "bad_request");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(word), "{options}: {detail}");
    }
    let form = asked(&token, id).body(b"conf_thres=1").send(service.http());
    form.problem(415, "unsupported_media_type");
    let broken = asked(&token, id).header("Content-Type", "application/json");
    let broken = broken.body(b"{\"conf_thres\":").send(service.http());
    broken.problem(400, "bad_request");
    rerun(&service, &token, id + 1, json!({})).problem(404, "not_found");
    let ben = service.token("ben");
    rerun(&service, &ben, id, json!({})).problem(404, "not_found");
    let stranger = request("POST", &format!("/api/v1/jobs/{id}/rerun")).json(&json!({}));
    stranger.send(service.http()).problem(401, "not_logged_in");

    let failed = service.submit_http(&token, &[b"no picture"]);
    assert_eq!(service.finished_job(&token, failed)["state"], "failed");
    rerun(&service, &token, failed, json!({})).problem(409, "conflict");
    let running = service.submit_http(&token, &long_job());
    rerun(&service, &token, running, json!({})).problem(409, "conflict");
    // Deleted by its hash.
    let hash = service.job(&token, id)["result"]["hash"].clone();
    let delete = json!({ "hash": hash }).to_string();
    service.login("ann").json(6, &delete);
    rerun(&service, &token, id, json!({})).problem(409, "conflict");
}

#[test]
fn a_result_whose_frames_are_not_kept_cannot_be_made_again() {
    let service = Service::start_http(&["--max_user_spools", "0"]);
    let token = service.token("ann");
    let id = done(&service, &token, 1);
    let problem = rerun(&service, &token, id, json!({})).problem(409, "not_kept");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("send the images again"), "{detail}");
}

#[test]
fn a_rerun_waits_in_the_same_queue() {
    let service = Service::start_http(&["--queue_per_user", "1"]);
    let token = service.token("ann");
    let id = done(&service, &token, 1);
    // One that runs and one that waits.
    let running = service.submit_http(&token, &long_job());
    crate::support::service::wait_for("the job to run", || {
        (service.job(&token, running)["state"] != "queued").then_some(())
    });
    let waiting = service.submit_http(&token, &demo_images(2));
    let answer = rerun(&service, &token, id, json!({"conf_thres": 60}));
    if service.job(&token, waiting)["state"] == "queued" {
        answer.problem(503, "busy");
        assert!(answer.header("retry-after").is_some());
    }
}
