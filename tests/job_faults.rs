//! Faults that pass: what stopped a job comes back, and the job runs.

use std::{fs, path::Path};

use vggt::store::{Job, StoredJobState};

use crate::support::{
    database::only_for_sqlite,
    files::{only_for_folders, out_of},
    repository,
    service::{Service, assert_glb, demo_images, leftovers, refs, varied, wait_for},
    store::connect,
};

fn row(service: &Service, id: i64) -> Job {
    service.store().job(id).unwrap().unwrap()
}

/// Waits until the job waits for another try.
fn wait_for_another_try(service: &Service, job: i64) -> Job {
    wait_for("the job to be put aside", || {
        Some(row(service, job)).filter(|row| row.tries > 0)
    })
}

/// Puts weights and their config into a folder.
fn weights(dir: &Path) -> String {
    fs::create_dir_all(dir.join("w")).unwrap();
    let copy = |from: &str, to: &str| {
        fs::copy(repository(from), dir.join("w").join(to)).unwrap();
    };
    copy("model/demo/demo.safetensors", "net.safetensors");
    copy("model/configs/demo.json", "config.json");
    dir.join("w/net.safetensors").to_str().unwrap().to_owned()
}

#[test]
fn a_job_waits_for_weights_that_are_gone_for_a_moment_and_tells_no_path() {
    let dir = Service::start(&[]).kill();
    let file = weights(dir.path());
    let service = Service::start_in(dir, &["--checkpoint", &file]);
    let away = format!("{file}.away");
    fs::rename(&file, &away).unwrap();
    let mut ann = service.login("ann");
    let job = ann.submit(&demo_images(1));
    let waiting = wait_for_another_try(&service, job);
    assert_eq!(waiting.state, StoredJobState::Queued);
    assert_eq!(
        waiting.reason.unwrap(),
        "the server cannot load its network"
    );
    assert!(waiting.next_try_at.is_some());
    assert_eq!(ann.status(job)["state"], "queued");
    // One that is waited for on a connection is told at once.
    let e = ann.images(&demo_images(2)).error();
    assert!(e.ends_with("the server cannot load its network"), "{e}");
    fs::rename(&away, &file).unwrap();
    // Without waiting for the pause to end.
    service.store().retry_job(job).unwrap();
    assert_eq!(ann.finished(job)["state"], "done");
    service.assert_nothing_left();
}

#[test]
fn a_fault_that_stays_ends_in_the_row_and_the_operator_can_try_again() {
    let dir = Service::start(&[]).kill();
    let file = weights(dir.path());
    let service = Service::start_in(dir, &["--checkpoint", &file, "--retry_minutes", "0"]);
    let away = format!("{file}.away");
    fs::rename(&file, &away).unwrap();
    let mut ann = service.login("ann");
    let job = ann.submit(&demo_images(1));
    let failed = ann.finished(job);
    assert_eq!(failed["reason"], "the server cannot load its network");
    // Those in a bucket stay, and their copies go in a moment.
    wait_for("the inputs alone", || {
        (leftovers(&service.out()).len() == 1).then_some(())
    });
    fs::rename(&away, &file).unwrap();
    // Also after a restart.
    let service = Service::start_in(service.kill(), &["--checkpoint", &file]);
    assert_eq!(leftovers(&service.out()).len(), 1);
    service.store().retry_job(job).unwrap();
    let mut ann = service.login("ann");
    assert_eq!(ann.finished(job)["state"], "done");
    service.assert_nothing_left();
}

#[test]
fn jobs_wait_for_a_folder_that_is_gone_for_a_moment_and_one_that_lost_its_input_fails() {
    only_for_sqlite!();
    only_for_folders!();
    let service = Service::start(&[]);
    let mut ann = service.login("ann");
    let before = ann.submit(&demo_images(8).repeat(37));
    let jobs = [0, 1].map(|i| ann.submit(&refs(&varied(i))));
    wait_for("the first job to have read its input", || {
        (ann.status(before)["stage"] == "aggregator").then_some(())
    });
    let (inputs, away) = (service.out().join(".jobs"), service.dir.path().join("away"));
    fs::rename(&inputs, &away).unwrap();
    ann.json(10, &format!("{{\"job\": {before}}}"));
    for job in jobs {
        let row = wait_for_another_try(&service, job);
        assert_eq!(row.state, StoredJobState::Queued, "{row:?}");
        let reason = row.reason.unwrap();
        assert_eq!(reason, "the server's folder of input files is missing");
    }
    fs::rename(&away, &inputs).unwrap();
    for job in jobs {
        service.store().retry_job(job).unwrap();
        assert_eq!(ann.finished(job)["state"], "done");
    }

    let lost = ann.submit(&demo_images(8).repeat(37));
    let dir = service.kill();
    for folder in fs::read_dir(out_of(dir.path()).join(".jobs")).unwrap() {
        fs::remove_dir_all(folder.unwrap().path()).unwrap();
    }
    let service = Service::start_in(dir, &[]);
    let status = service.login("ann").status(lost);
    assert_eq!(status["state"], "failed", "{status}");
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains("submit it again"), "{reason}");
}

/// Makes a change of the tables fail as it does on a full disk.
fn fail_on(service: &Service, what: &str) {
    let trigger = format!(
        "CREATE TRIGGER full BEFORE {what} BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
    );
    connect(service.dir.path()).batch_execute(&trigger).unwrap();
}

fn no_longer(service: &Service) {
    let drop = "DROP TRIGGER full";
    connect(service.dir.path()).batch_execute(drop).unwrap();
}

#[test]
fn an_end_that_cannot_be_written_is_written_later_and_is_not_called_queued() {
    only_for_sqlite!();
    let service = Service::start(&[]);
    let (mut ann, mut ben) = (service.login("ann"), service.login("ben"));
    fail_on(&service, "UPDATE ON jobs WHEN NEW.state = 'failed'");
    let job = ann.submit(&[b"not an image"]);
    wait_for("the end of the job", || {
        (ann.status(job)["stage"] == "storing").then_some(())
    });
    // Others run meanwhile, and the input is there for a restart.
    assert_glb(&ben.images(&demo_images(1)).glb().1);
    wait_for("the other's input to go", || {
        (leftovers(&service.out()).len() == 1).then_some(())
    });
    assert_eq!(ann.status(job)["state"], "running");
    no_longer(&service);
    assert_eq!(ann.finished(job)["state"], "failed");
    service.assert_nothing_left();

    // A clean stop before it could be written: it runs again, and the process did not die of it.
    fail_on(&service, "UPDATE ON jobs WHEN NEW.state = 'failed'");
    let job = ann.submit(&[b"not an image either"]);
    wait_for("the end of the job", || {
        (ann.status(job)["stage"] == "storing").then_some(())
    });
    let mut service = service;
    assert_eq!(service.terminate(), Some(0));
    let left = row(&service, job);
    assert_eq!((left.state, left.deaths), (StoredJobState::Queued, 0));
    no_longer(&service);
    let service = Service::start_in(service.kill(), &[]);
    assert_eq!(service.login("ann").finished(job)["state"], "failed");
}

#[test]
fn a_result_that_cannot_be_stored_is_stored_later() {
    only_for_sqlite!();
    let service = Service::start(&[]);
    let mut ann = service.login("ann");
    fail_on(&service, "INSERT ON glb_files");
    let job = ann.submit(&demo_images(1));
    wait_for("the result", || {
        (ann.status(job)["stage"] == "storing").then_some(())
    });
    no_longer(&service);
    let done = ann.finished(job);
    assert_eq!(done["state"], "done", "{done}");
    assert_glb(&ann.get(done["hash"].as_str().unwrap()).glb().1);
    assert_eq!(row(&service, job).tries, 0);
    fail_on(&service, "INSERT ON glb_files");
    let e = ann.images(&demo_images(2)).error();
    assert!(e.ends_with("the server's disk is full"), "{e}");
    service.assert_nothing_left();
}
