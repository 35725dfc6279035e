//! Jobs under control: deaths of the process, cancellation, time limits, and users who take turns.

use serde_json::json;
use vggt::store::StoredJobState;

use crate::support::service::{
    Client, Service, assert_glb, demo_images, images_payload, long_job, refs, varied, wait_for,
};

fn wait_until_running(client: &mut Client, job: i64) {
    wait_for("the job to run", || {
        (client.status(job)["state"] == "running").then_some(())
    });
}

fn cancel(client: &mut Client, job: i64) -> serde_json::Value {
    client.json(10, &json!({ "job": job }).to_string())
}

/// A job that takes far longer than any test waits for a cancelled one.
fn endless_job() -> Vec<&'static [u8]> {
    demo_images(8).repeat(37)
}

#[test]
fn a_job_that_kills_the_process_three_times_fails_and_delays_nobody() {
    let service = Service::start(&["--no_cache"]);
    let poison = service.login("ann").submit(&endless_job());
    wait_until_running(&mut service.login("ann"), poison);
    let other = service.login("ben").submit(&refs(&varied(1)));
    let deaths = |service: &Service| service.store().job(poison).unwrap().unwrap().deaths;

    let service = Service::start_in(service.kill(), &["--no_cache"]);
    assert_eq!(deaths(&service), 1);
    // Whoever waited runs first.
    assert_eq!(service.login("ben").finished(other)["state"], "done");
    wait_until_running(&mut service.login("ann"), poison);
    let service = Service::start_in(service.kill(), &["--no_cache"]);
    assert_eq!(deaths(&service), 2);
    wait_until_running(&mut service.login("ann"), poison);
    let service = Service::start_in(service.kill(), &["--no_cache"]);
    let status = service.login("ann").status(poison);
    assert_eq!(status["state"], "failed");
    let reason = status["reason"].as_str().unwrap();
    assert_eq!(reason, "the server died three times while it ran this job");
    assert_glb(&service.login("ben").images(&demo_images(1)).glb().1);

    // The operator may try it again; deaths count from zero then.
    service.store().retry_job(poison).unwrap();
    wait_until_running(&mut service.login("ann"), poison);
    assert_eq!(deaths(&service), 0);
    let service = Service::start_in(service.kill(), &["--no_cache"]);
    assert_eq!(deaths(&service), 1);
}

#[test]
fn a_clean_stop_is_no_death_and_forgets_the_earlier_ones() {
    let service = Service::start(&["--no_cache"]);
    let mut ann = service.login("ann");
    let job = ann.submit(&long_job());
    wait_until_running(&mut ann, job);
    let mut service = Service::start_in(service.kill(), &["--no_cache", "--grace", "0"]);
    let row = |service: &Service| service.store().job(job).unwrap().unwrap();
    assert_eq!(row(&service).deaths, 1);
    for signal in ["TERM", "HUP"] {
        wait_until_running(&mut service.login("ann"), job);
        assert_eq!(service.signal(signal), Some(0), "{signal}");
        let now = row(&service);
        assert_eq!((now.state, now.deaths), (StoredJobState::Queued, 0));
        service = Service::start_in(service.kill(), &["--no_cache", "--grace", "0"]);
    }
    assert_eq!(service.login("ann").finished(job)["state"], "done");
}

#[test]
fn a_cancel_that_is_acknowledged_survives_kill_9_and_ends_the_job_within_a_layer() {
    let service = Service::start(&["--no_cache"]);
    let (mut ann, mut ben) = (service.login("ann"), service.login("ben"));
    let running = ann.submit(&endless_job());
    let waiting = ann.submit(&refs(&varied(1)));
    wait_until_running(&mut ann, running);
    for job in [running, waiting] {
        assert_eq!(cancel(&mut ann, job)["state"], "cancelled");
        let row = service.store().job(job).unwrap().unwrap();
        assert_eq!(row.state, StoredJobState::Cancelled);
        assert_eq!(ann.status(job)["state"], "cancelled");
    }
    // The worker is free soon.
    assert_glb(&ben.images(&demo_images(1)).glb().1);
    assert!(service.store().list_glbs(1).unwrap().is_empty());
    service.assert_nothing_left();

    let again = ann.submit(&endless_job());
    wait_until_running(&mut ann, again);
    cancel(&mut ann, again);
    let service = Service::start_in(service.kill(), &["--no_cache"]);
    assert_eq!(service.login("ann").status(again)["state"], "cancelled");
    service.assert_nothing_left();
}

#[test]
fn jobs_of_a_user_who_is_disabled_or_removed_end() {
    let service = Service::start(&["--no_cache"]);
    let (mut ann, mut ben) = (service.login("ann"), service.login("ben"));
    let running = ann.submit(&endless_job());
    let waiting = ann.submit(&refs(&varied(1)));
    wait_until_running(&mut ann, running);
    service.store().set_active("ann", false).unwrap();
    assert_glb(&ben.images(&demo_images(1)).glb().1);
    for job in [running, waiting] {
        let row = wait_for("the job to end", || {
            let row = service.store().job(job).unwrap().unwrap();
            row.state.is_final().then_some(row)
        });
        assert_eq!(row.state, StoredJobState::Cancelled);
        assert_eq!(row.reason.unwrap(), "the user was disabled");
    }
    service.store().set_active("ann", true).unwrap();
    let mut ann = service.login("ann");
    let running = ann.submit(&endless_job());
    ann.submit(&refs(&varied(1)));
    wait_until_running(&mut ann, running);
    service.store().remove_user("ann").unwrap();
    assert_glb(&ben.images(&demo_images(2)).glb().1);
    // One on a connection too.
    let mut vic = service.login("vic");
    vic.send(2, &images_payload(&endless_job()));
    wait_for("the job to run", || {
        (ben.json(12, "")["running"] == 1).then_some(())
    });
    service.store().remove_user("vic").unwrap();
    assert_glb(&ben.images(&demo_images(3)).glb().1);
    service.assert_nothing_left();
}

#[test]
fn a_job_that_runs_for_too_long_fails_and_the_next_one_runs() {
    let service = Service::start(&["--max_job_seconds", "1"]);
    let mut ann = service.login("ann");
    let long = ann.submit(&endless_job());
    let short = service.login("ben").submit(&demo_images(1));
    let status = ann.finished(long);
    assert_eq!(status["state"], "failed");
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.starts_with("it ran longer than 1 s"), "{reason}");
    assert_eq!(service.login("ben").finished(short)["state"], "done");
}

#[test]
fn users_take_turns_and_one_who_has_nothing_waiting_finds_a_place() {
    let service = Service::start(&["--queue", "2", "--queue_vip", "1", "--queue_per_user", "2"]);
    let (mut ann, mut ben) = (service.login("ann"), service.login("ben"));
    let mut vic = service.login("vic");
    let first = ann.submit(&endless_job());
    wait_until_running(&mut ann, first);
    let anns = [1, 2].map(|i| ann.submit(&refs(&varied(i))));
    // The queue is full, but not for somebody of whom nothing waits.
    let his = ben.submit(&refs(&varied(3)));
    let full = ben.images(&demo_images(1)).error();
    assert!(full.starts_with("ERROR_IMAGE_REQUEST: busy, "), "{full}");
    let vips = vic.submit(&refs(&varied(4)));
    let ahead = |client: &mut Client, job| client.status(job)["ahead"].as_u64().unwrap();
    // Ann has just had a turn.
    assert_eq!(ahead(&mut vic, vips), 1);
    assert_eq!(ahead(&mut ben, his), 2);
    assert_eq!(anns.map(|job| ahead(&mut ann, job)), [3, 4]);
    cancel(&mut ann, first);
    for (client, job) in [(&mut ben, his), (&mut ann, anns[1]), (&mut vic, vips)] {
        assert_eq!(client.finished(job)["state"], "done");
    }
}

#[test]
fn without_an_option_a_job_takes_at_most_500_frames() {
    let dir = tempfile::tempdir().unwrap();
    let help = crate::support::run(dir.path(), &["serve", "--help"]);
    let about = |flag: &str| {
        let at = help.find(flag).unwrap();
        help[at..].chars().take(400).collect::<String>()
    };
    assert!(about("--max-frames").contains("[default: 500]"));
    assert!(about("--max-job-seconds").contains("[default: 14400]"));
    let e = crate::support::fail(dir.path(), 2, &["serve", "--max_frames", "many"]);
    assert!(e.contains("off"), "{e}");
}
