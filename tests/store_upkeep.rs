//! What becomes of old results and old jobs.

use std::fs;

use jiff::{SignedDuration, Timestamp};
use vggt::store::{Admission, JobKind, JobOutcome, NewJob, Retention, Store};

use crate::support::{
    command,
    files::stored_at,
    service::{Service, demo_images, wait_for},
    store::{GLB, House, connect, house, number, save},
};

/// A date of so many days ago, as a column holds it and as Python's isoformat writes it.
fn days_ago(days: i64) -> [String; 2] {
    let time = Timestamp::now() - SignedDuration::from_hours(24 * days);
    ["%Y-%m-%d %H:%M:%S%.6f", "%Y-%m-%dT%H:%M:%S"].map(|form| time.strftime(form).to_string())
}

fn execute(house: &House, sql: &str) {
    connect(house.dir.path()).batch_execute(sql).unwrap();
}

fn jobs_of(house: &House, user: i32) -> i64 {
    let sql = format!("SELECT count(*) FROM jobs WHERE user_id = {user}");
    number(house.dir.path(), &sql)
}

fn job(store: &Store, user_id: i32, ended: bool) -> i64 {
    let new = NewJob {
        user_id,
        kind: JobKind::Images,
        original_name: "images_1.glb".to_owned(),
        options_json: "{}".to_owned(),
        input_key: "k".to_owned(),
        dir: "none".to_owned(),
        admission: Admission::default(),
        hash: None,
    };
    let id = store.add_job(&new).unwrap().id;
    if ended {
        assert!(store.finish_job(id, &JobOutcome::Cancelled).unwrap());
    }
    id
}

fn tidy(store: &Store, retention: Retention) -> (usize, usize) {
    store.tidy(&retention, None, &|| false).unwrap()
}

#[test]
fn results_older_than_asked_for_go_with_their_files_and_others_stay() {
    let house = house();
    let store = &house.store;
    let file = save(store, 1);
    let day = stored_at(store, &file).parent().unwrap().to_owned();
    // Many more, without waiting for the disk for each.
    let mut sql = "BEGIN;".to_owned();
    for i in 1..450 {
        let name = format!("{i:064x}");
        fs::write(day.join(format!("{name}.glb")), GLB).unwrap();
        let path = file.file_path.replace(&file.hashed_name, &name);
        sql += &format!(
            "INSERT INTO glb_files (hashed_name, original_name, file_path, user_id, file_size, created_at)
             VALUES ('{name}', 'x.glb', '{path}', 1, 12, '');"
        );
    }
    execute(&house, &(sql + "COMMIT"));
    let [column, iso] = days_ago(8);
    let [young, _] = days_ago(6);
    let first = file.id;
    for (sql, at) in [
        (format!("id < {}", first + 400), &column),
        (format!("id = {}", first + 400), &iso),
        (format!("id = {}", first + 401), &young),
        // Unknown is no reason.
        (format!("id = {}", first + 402), &"some day".to_owned()),
    ] {
        execute(
            &house,
            &format!("UPDATE glb_files SET created_at = '{at}' WHERE {sql}"),
        );
    }
    execute(
        &house,
        &format!("UPDATE glb_files SET is_public = TRUE WHERE id = {first}"),
    );
    // What an operator put there.
    let theirs = day.join(format!("{}.glb", "a".repeat(64)));
    fs::write(&theirs, b"theirs").unwrap();
    assert_eq!(tidy(store, Retention::default()), (0, 0));
    let week = Retention {
        result_days: Some(7),
        ..Retention::default()
    };
    assert_eq!(tidy(store, week), (401, 0));
    assert_eq!(tidy(store, week), (0, 0));
    let left = store.list_glbs(1).unwrap();
    assert_eq!(left.len(), 49);
    assert!(left.iter().all(|row| stored_at(store, row).exists()));
    let report = store.check(false).unwrap();
    assert_eq!((report.files, report.problems()), (50, 1));
    assert!(theirs.exists());
    // As far back as it goes.
    let ever = Retention {
        result_days: Some(u32::MAX),
        job_days: Some(u32::MAX),
        ..week
    };
    assert_eq!(tidy(store, ever), (0, 0));
}

#[test]
fn rows_of_jobs_that_ended_long_ago_are_forgotten_and_pending_ones_never() {
    let house = house();
    let store = &house.store;
    execute(
        &house,
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250)
         INSERT INTO jobs (user_id, kind, original_name, options_json, input_key, dir, state, created_at)
         SELECT 1, 'images', 'x.glb', '{}', 'k', 'none', CASE i % 2 WHEN 1 THEN 'failed' ELSE 'done' END, '' FROM n",
    );
    let pending = job(store, 1, false);
    let [column, _] = days_ago(31);
    execute(
        &house,
        &format!(
            "UPDATE jobs SET created_at = '{column}', finished_at = CASE state WHEN 'queued' THEN NULL ELSE '{column}' END"
        ),
    );
    let young = job(store, 1, true);
    let keep = Retention {
        job_days: None,
        ..Retention::default()
    };
    assert_eq!(tidy(store, keep), (0, 0));
    assert_eq!(tidy(store, Retention::default()), (0, 250));
    let left: Vec<i64> = store.jobs_of(1).unwrap().iter().map(|job| job.id).collect();
    assert_eq!(left, [young, pending]);
    // No number is given again.
    assert!(job(store, 1, true) > young);
}

#[test]
fn a_user_has_a_bounded_number_of_rows_however_quickly_they_come() {
    let house = house();
    let store = &house.store;
    let bob = store.add_user("bob", "p", false).unwrap().id;
    let his = job(store, bob, true);
    let upkeep = store
        .start_upkeep(Retention {
            jobs_per_user: 20,
            ..Retention::default()
        })
        .unwrap();
    let mut last = 0;
    for _ in 0..150 {
        last = job(store, 1, true);
        assert!(jobs_of(&house, 1) <= 20 + 64);
    }
    drop(upkeep);
    let few = Retention {
        jobs_per_user: 3,
        ..Retention::default()
    };
    tidy(store, few);
    let left: Vec<i64> = store.jobs_of(1).unwrap().iter().map(|job| job.id).collect();
    assert_eq!(left, [last, last - 1, last - 2]);
    assert_eq!(store.jobs_of(bob).unwrap()[0].id, his);
    // Later rounds look at users whose jobs have ended since the one before.
    let since = |time| store.tidy(&few, Some(time), &|| false).unwrap();
    let now = Timestamp::now();
    job(store, 1, true);
    let [day_ago, _] = days_ago(1);
    execute(
        &house,
        &format!("UPDATE jobs SET finished_at = '{day_ago}'"),
    );
    assert_eq!(since(now), (0, 0));
    job(store, 1, true);
    assert_eq!(since(now), (0, 2));
    assert_eq!(since(Timestamp::MIN), (0, 0));
}

#[test]
fn a_server_deletes_old_results_when_told_to() {
    let service = Service::start(&[]);
    let mut client = service.login("ann");
    client.images(&demo_images(1)).glb();
    client.images(&demo_images(2)).glb();
    let dir = service.kill();
    let [column, _] = days_ago(3);
    connect(dir.path())
        .batch_execute(&format!(
            "UPDATE glb_files SET created_at = '{column}' WHERE id = 1"
        ))
        .unwrap();
    let service = Service::start_in(dir, &["--keep_days", "2"]);
    let mut client = service.login("ann");
    wait_for("the old result to go", || {
        let files = client.json(5, "");
        (files["files"].as_array().unwrap().len() == 1).then_some(())
    });
    wait_for("its file to go", || {
        let report = service.store().check(false).unwrap();
        ((report.files, report.problems()) == (1, 0)).then_some(())
    });
    for bad in ["0", "-1", "x"] {
        let serve = ["serve", "--demo", "--keep_days", bad];
        let ended = command(service.dir.path()).args(serve).output().unwrap();
        assert_eq!(ended.status.code(), Some(2), "{bad}");
    }
}
