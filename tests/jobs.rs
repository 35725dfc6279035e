//! Jobs: the queue, what survives, what ends.

use std::{fs, io::Write, thread, time::Duration};

use serde_json::{Value, json};

use crate::support::files::out_of;
use crate::support::service::{
    Service, assert_glb, demo_images, images_payload, leftovers, long_job, refs, store, varied,
    wait_for,
};

#[test]
fn a_submitted_job_is_answered_at_once_and_told_of_until_it_is_done() {
    let service = Service::start(&[]);
    let mut client = service.login("ann");
    let job = client.submit(&demo_images(4));
    let mut last = 0.0;
    let done = wait_for("the job", || {
        let status = client.status(job);
        assert_eq!(status["job"], job);
        match status["state"].as_str().unwrap() {
            "queued" => None,
            "running" => {
                let fraction = status["fraction"].as_f64().unwrap();
                assert!((last..=1.0).contains(&fraction), "{status}");
                assert!(status["stage"].is_string());
                last = fraction;
                None
            }
            _ => Some(status),
        }
    });
    assert_eq!(done["state"], "done", "{done}");
    assert_glb(&client.get(done["hash"].as_str().unwrap()).glb().1);
    service.assert_nothing_left();
    // Nobody else's business, and no such job.
    for (user, id) in [("ben", job), ("ann", job + 1000)] {
        let reply = service.login(user).status(id);
        assert_eq!(reply["error"], "ERROR_JOB_NOT_FOUND");
    }
    // The same again is done at once, under a number of its own.
    let again = client.submit(&demo_images(4));
    assert_ne!(again, job);
    assert_eq!(client.status(again)["hash"], done["hash"]);
}

#[test]
fn a_job_of_what_is_no_picture_fails_with_a_reason() {
    let service = Service::start(&[]);
    let mut client = service.login("ann");
    let job = client.submit(&[b"not an image"]);
    let status = client.finished(job);
    assert_eq!(status["state"], "failed");
    let reason = status["reason"].as_str().unwrap();
    assert!(
        reason.contains("image_00000") && !reason.contains("/out/"),
        "{reason}"
    );
    service.assert_nothing_left();
    client.send(8, &[7, 1, 2, 3]);
    let reply: Value = serde_json::from_slice(&client.read_blob()).unwrap();
    assert_eq!(reply["error"], "ERROR_BAD_REQUEST");
    client.send(8, &[2, 0, 0, 0, 0]);
    let reply: Value = serde_json::from_slice(&client.read_blob()).unwrap();
    assert_eq!(reply["error"], "ERROR_IMAGE_REQUEST");
}

#[test]
fn a_full_queue_says_how_many_are_ahead_and_takes_the_next_when_there_is_room() {
    let service = Service::start(&["--queue", "3", "--queue_per_user", "2"]);
    let (mut ann, mut ben) = (service.login("ann"), service.login("ben"));
    let first = ann.submit(&long_job());
    wait_for("the first job to run", || {
        (ann.status(first)["state"] != "queued").then_some(())
    });
    let mine: Vec<i64> = (0..2).map(|i| ann.submit(&refs(&varied(i)))).collect();
    let own = ann.images(&demo_images(1)).error();
    assert!(
        own.starts_with("ERROR_IMAGE_REQUEST: busy, 2 of your own"),
        "{own}"
    );
    let his = ben.submit(&refs(&varied(7)));
    let all = ben.images(&demo_images(1)).error();
    assert!(
        all.starts_with("ERROR_IMAGE_REQUEST: busy, ") && all.ends_with(" ahead"),
        "{all}"
    );
    for job in mine {
        assert_eq!(ann.finished(job)["state"], "done");
    }
    assert_eq!(ben.finished(his)["state"], "done");
    assert_glb(&ben.images(&demo_images(1)).glb().1);
    service.assert_nothing_left();
}

#[test]
fn vip_jobs_run_before_others() {
    let service = Service::start(&[]);
    let (mut ann, mut vic) = (service.login("ann"), service.login("vic"));
    let first = ann.submit(&long_job());
    wait_for("the first job to run", || {
        (ann.status(first)["state"] != "queued").then_some(())
    });
    let plain = ann.submit(&refs(&varied(1)));
    let vip = vic.submit(&refs(&varied(2)));
    let (at_plain, at_vip) = (ann.status(plain), vic.status(vip));
    assert_eq!(at_vip["ahead"], 1, "{at_vip}");
    assert_eq!(at_plain["ahead"], 2, "{at_plain}");
    ann.finished(plain);
    assert_eq!(vic.status(vip)["state"], "done");
}

#[test]
fn a_cancelled_job_stops_whether_it_waits_or_runs() {
    let service = Service::start(&[]);
    let (mut ann, mut ben) = (service.login("ann"), service.login("ben"));
    let running = ann.submit(&long_job());
    let waiting = ann.submit(&refs(&varied(1)));
    let cancel = |job: i64| json!({ "job": job }).to_string();
    assert_eq!(
        ben.json(10, &cancel(waiting))["error"],
        "ERROR_JOB_NOT_FOUND"
    );
    assert_eq!(ann.json(10, &cancel(waiting))["state"], "cancelled");
    wait_for("the job to run", || {
        (ann.status(running)["state"] == "running").then_some(())
    });
    ann.json(10, &cancel(running));
    assert_eq!(ann.finished(running)["state"], "cancelled");
    assert_eq!(ann.json(10, &cancel(running))["state"], "cancelled");
    assert_eq!(ann.json(5, ""), json!({"files": []}));
    service.assert_nothing_left();
}

#[test]
fn a_client_that_goes_takes_its_jobs_along() {
    let service = Service::start(&["--preload"]);
    let mut ann = service.login("ann");
    let mut ben = service.login("ben");
    ann.send(2, &images_payload(&long_job()));
    wait_for("the job to run", || {
        (ben.json(12, "")["running"] == 1).then_some(())
    });
    let mut queued = service.login("vic");
    queued.send(2, &images_payload(&demo_images(2)));
    wait_for("the queue", || {
        (ben.json(12, "")["queued"] == 1).then_some(())
    });
    queued.close();
    wait_for("the queue to empty", || {
        (ben.json(12, "")["queued"] == 0).then_some(())
    });
    ann.close();
    wait_for("the worker to stop", || {
        (ben.json(12, "")["running"] == 0).then_some(())
    });
    // In the midst of an upload too.
    let mut half = service.login("ann");
    half.stream.write_all(&[3, 0, 10, 0, 0, 1, 2, 3]).unwrap();
    half.close();
    service.assert_nothing_left();
    assert!(service.store().list_glbs(1).unwrap().is_empty());
    assert_glb(&ben.images(&demo_images(1)).glb().1);
}

#[test]
fn sigterm_lets_the_running_job_finish_and_the_process_ends_well() {
    let mut service = Service::start(&["--preload"]);
    let mut client = service.login("ann");
    // The answer has to fit into what the system holds for a client that does not read yet.
    client.json(11, r#"{"max_points": 1000}"#);
    client.send(2, &images_payload(&long_job()));
    let mut other = service.login("ben");
    // A worker that has only just taken a job of a shared database gives it back.
    wait_for("the job to start", || {
        service.log().contains(" started").then_some(())
    });
    assert_eq!(service.terminate(), Some(0));
    assert_glb(&client.read_named().glb().1);
    assert!(other.is_closed());
    assert!(leftovers(&service.out()).is_empty());
}

#[test]
fn without_grace_jobs_with_a_number_run_again_after_the_restart() {
    let mut service = Service::start(&["--grace", "0"]);
    let mut client = service.login("ann");
    let mut jobs = vec![client.submit(&long_job())];
    jobs.extend((0..2).map(|i| client.submit(&refs(&varied(i)))));
    let mut direct = service.login("ben");
    direct.send(2, &images_payload(&demo_images(2)));
    // The first runs meanwhile, and the server has read the last.
    wait_for("the queue", || {
        (client.json(12, "")["queued"].as_u64() >= Some(3)).then_some(())
    });
    assert_eq!(service.terminate(), Some(0));
    let told = direct.read_named();
    if let crate::support::service::Answer::Error(e) = told {
        assert!(e.contains("shutting down"), "{e}");
    }
    let dir = service.kill();
    let service = Service::start_in(dir, &[]);
    let mut client = service.login("ann");
    for job in jobs {
        assert_eq!(client.finished(job)["state"], "done");
    }
    service.assert_nothing_left();
}

/// When the process is killed: before, in and after every stage of a job.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Uploading,
    Acknowledged,
    Stage(&'static str),
    AfterMillis(u64),
}

#[test]
fn kill_9_at_any_moment_loses_no_acknowledged_job_and_leaves_nothing_half_written() {
    let mut killed_in = Vec::new();
    let moments = [
        Moment::Uploading,
        Moment::Acknowledged,
        Moment::Stage("load"),
        Moment::Stage("decode"),
        Moment::Stage("patch embed"),
        Moment::Stage("aggregator"),
        Moment::Stage("depth"),
        Moment::Stage("points"),
        Moment::Stage("write"),
        Moment::AfterMillis(3),
        Moment::AfterMillis(30),
        Moment::AfterMillis(300),
    ];
    let eight = |i: usize| {
        let mut input: Vec<Vec<u8>> = demo_images(8).iter().map(|p| p.to_vec()).collect();
        input[7].push(i as u8);
        input
    };
    let mut service = Service::start(&["--no_cache"]);
    let mut acknowledged = Vec::new();
    for (i, moment) in moments.iter().copied().enumerate() {
        let mut client = service.login("ann");
        // The third death in a row would end a job, so none is there for more than two kills.
        if i % 2 == 0 {
            acknowledged.iter().for_each(|job| {
                client.finished(*job);
            });
        }
        match moment {
            Moment::Uploading => {
                let payload = images_payload(&demo_images(2));
                let mut bytes = vec![8];
                bytes.extend((payload.len() as u32 + 1).to_be_bytes());
                bytes.push(2);
                bytes.extend(&payload[..payload.len() / 2]);
                client.stream.write_all(&bytes).unwrap();
                wait_for("the upload", || {
                    (!leftovers(&service.out()).is_empty()).then_some(())
                });
            }
            _ => acknowledged.push(client.submit(&refs(&eight(i)))),
        }
        match moment {
            Moment::Uploading | Moment::Acknowledged => {}
            Moment::AfterMillis(ms) => thread::sleep(Duration::from_millis(ms)),
            Moment::Stage(stage) => {
                let job = *acknowledged.last().unwrap();
                // A short stage may be missed: then the job is over, and was killed nowhere.
                wait_for("the stage", || {
                    let status = client.status(job);
                    let over = !matches!(status["state"].as_str(), Some("queued" | "running"));
                    (over || status["stage"] == stage).then_some(())
                });
            }
        }
        killed_in.push(acknowledged.last().map(|job| client.status(*job)));
        let dir = service.kill();
        service = Service::start_in(dir, &["--no_cache"]);
        // A job may end between the two looks.
        wait_for(&format!("nothing but jobs after {moment:?}"), || {
            let left = leftovers(&service.out()).len();
            (service.store().pending_jobs().unwrap().len() >= left).then_some(())
        });
    }
    let running = killed_in
        .iter()
        .flatten()
        .filter(|status| status["state"] == "running")
        .count();
    assert!(running >= moments.len() / 2, "{killed_in:#?}");
    let mut client = service.login("ann");
    let hashes: std::collections::BTreeSet<String> = acknowledged
        .iter()
        .map(|job| {
            let status = client.finished(*job);
            assert_eq!(status["state"], "done", "{status}");
            let hash = status["hash"].as_str().unwrap().to_owned();
            assert_glb(&client.get(&hash).glb().1);
            hash
        })
        .collect();
    assert_eq!(hashes.len(), acknowledged.len());
    service.assert_nothing_left();
    let dir = service.kill();
    // Every row has its file, and every file its row: the starts have removed what the kills left.
    assert_eq!(store(dir.path()).check(false).unwrap().problems(), 0);
    let days: Vec<_> = fs::read_dir(out_of(dir.path()))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.is_dir() && !path.file_name().unwrap().to_str().unwrap().starts_with('.')
        })
        .collect();
    for day in days {
        for file in fs::read_dir(day).unwrap() {
            // And what is kept beside a file belongs to one.
            let path = file.unwrap().path();
            let kept = path.extension().is_some_and(|ext| ext == "spool");
            let glb = path.with_extension("glb");
            assert!(if kept { glb.is_file() } else { path == glb }, "{path:?}");
        }
    }
}
