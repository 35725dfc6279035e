//! `vggt job`: the operator's view of the jobs, with the server running or not.

use serde_json::Value;
use vggt::store::{Admission, NewJob, Store, StoredJobState};

use crate::support::{
    database::only_for_sqlite,
    fail,
    files::out_of,
    repository, run,
    service::{Service, demo_images, leftovers, refs, store, varied, wait_for},
    store::{connect, house},
};

fn add_job(store: &Store, user_id: i32, name: &str) -> i64 {
    let job = store.add_job(&NewJob {
        user_id,
        kind: vggt::store::JobKind::Images,
        original_name: name.to_owned(),
        options_json: "{}".to_owned(),
        input_key: "k".to_owned(),
        dir: format!("job-{name}"),
        admission: Admission::default(),
        hash: None,
    });
    job.unwrap().id
}

#[test]
fn jobs_are_listed_shown_and_changed_without_a_server() {
    let house = house();
    let (here, store) = (house.dir.path(), &house.store);
    let bob = store.add_user("bob", "p", false).unwrap().id;
    let (first, second) = (add_job(store, 1, "a"), add_job(store, bob, "b"));
    store.fail_job(second, "bad \x1b[2J image", false).unwrap();
    let list = run(here, &["job", "list"]);
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 3, "{list}");
    assert!(lines[1].contains("bob") && lines[1].contains("failed"));
    assert!(list.contains("bad \\u{1b}[2J image") && !list.contains('\x1b'));
    let ids = |args: &[&str]| -> Vec<i64> {
        let all = [&["job", "list", "--json"], args].concat();
        let reply: Value = serde_json::from_str(&run(here, &all)).unwrap();
        let jobs = reply["jobs"].as_array().unwrap();
        jobs.iter().map(|job| job["id"].as_i64().unwrap()).collect()
    };
    assert_eq!(ids(&[]), [second, first]);
    assert_eq!(ids(&["--user", "alice"]), [first]);
    assert_eq!(ids(&["--state", "failed"]), [second]);
    assert_eq!(ids(&["--limit", "1"]), [second]);
    let id = first.to_string();
    let shown: Value = serde_json::from_str(&run(here, &["job", "show", &id, "--json"])).unwrap();
    for (field, expected) in [("state", "queued"), ("user", "alice"), ("kind", "images")] {
        assert_eq!(shown[field], expected);
    }
    assert_eq!((&shown["deaths"], &shown["tries"]), (&0.into(), &0.into()));
    assert!(run(here, &["job", "show", &id]).contains("alice"));

    let folder = out_of(here).join(".jobs/job-a");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("image_00000"), "picture").unwrap();
    run(here, &["job", "cancel", &id]);
    let row = store.job(first).unwrap().unwrap();
    assert_eq!(row.state, StoredJobState::Cancelled);
    let e = fail(here, 1, &["job", "cancel", &id]);
    assert!(e.contains("it is cancelled"), "{e}");
    run(here, &["job", "retry", &id]);
    let row = store.job(first).unwrap().unwrap();
    assert_eq!((row.state, row.deaths), (StoredJobState::Queued, 0));
    let e = fail(here, 1, &["job", "retry", &second.to_string()]);
    assert!(e.contains("its input files are gone"), "{e}");

    for args in [
        ["job", "show", "99"],
        ["job", "cancel", "99"],
        ["job", "retry", "99"],
    ] {
        let e = fail(here, 1, &args);
        assert!(e.contains("there is no job 99"), "{e}");
    }
    fail(here, 1, &["job", "list", "--user", "nobody"]);
    fail(here, 2, &["job", "list", "--state", "lost"]);
    fail(here, 2, &["job", "cancel"]);
    fail(here, 2, &["job", "show", "many"]);
    let e = fail(here, 1, &["job", "list", "--db", "other.db"]);
    assert!(
        e.contains("other.db") && !here.join("other.db").exists(),
        "{e}"
    );
}

#[test]
fn jobs_of_the_version_before_deaths_were_counted_are_kept() {
    only_for_sqlite!();
    let house = house();
    let id = add_job(&house.store, 1, "a");
    house.store.mark_running(id).unwrap();
    let here = house.dir.path();
    drop(house.store);
    let down = repository("migrations/sqlite/2026-11-28-000000_count_deaths_of_jobs/down.sql");
    let down = std::fs::read_to_string(down).unwrap();
    let forget = "DELETE FROM __diesel_schema_migrations WHERE version = '20261128000000'";
    let mut older = connect(here);
    older.batch_execute(&format!("{down};{forget}")).unwrap();
    let store = store(here);
    let row = store.job(id).unwrap().unwrap();
    assert_eq!(
        (row.state, row.deaths, row.tries),
        (StoredJobState::Running, 0, 0)
    );
    assert!(store.count_deaths().unwrap().is_empty());
    let row = store.job(id).unwrap().unwrap();
    assert_eq!((row.state, row.deaths), (StoredJobState::Queued, 1));
    // What comes further than before starts from zero.
    store.note_progress(id).unwrap();
    assert_eq!(store.job(id).unwrap().unwrap().deaths, 0);
}

#[test]
fn a_running_server_follows_the_operator_in_the_midst_of_a_pass() {
    let service = Service::start(&["--no_cache"]);
    let here = service.dir.path();
    let (mut ann, mut ben) = (service.login("ann"), service.login("ben"));
    let long = ann.submit(&demo_images(8).repeat(37));
    wait_for("the job to run", || {
        (ann.status(long)["stage"] == "aggregator").then_some(())
    });
    let waiting = ann.submit(&refs(&varied(1)));
    let next = ben.submit(&refs(&varied(2)));
    let listed = run(here, &["job", "list", "--state", "running"]);
    assert!(listed.contains("ann"), "{listed}");
    run(
        here,
        &["job", "cancel", &long.to_string(), &waiting.to_string()],
    );
    for job in [long, waiting] {
        assert_eq!(ann.finished(job)["state"], "cancelled");
    }
    assert_eq!(ben.finished(next)["state"], "done");
    assert!(service.store().list_glbs(1).unwrap().is_empty());
    // It was the wrong one.
    run(here, &["job", "retry", &waiting.to_string()]);
    assert_eq!(ann.finished(waiting)["state"], "done");
    // What is kept of the other one is swept at some time, not now.
    wait_for("the other inputs to go", || {
        (leftovers(&service.out()).len() == 1).then_some(())
    });
    let service = Service::start_in(service.kill(), &[]);
    assert_eq!(leftovers(&service.out()).len(), 1);
    store(service.dir.path()).forget_input(long).unwrap();
    let service = Service::start_in(service.kill(), &[]);
    service.assert_nothing_left();
}
