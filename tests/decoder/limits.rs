//! Each limit fails one job with a reason that says which, and the next job runs.

use std::{io::Write, os::unix::process::ExitStatusExt, time::Instant};

use serde_json::Value;
use vggt::{
    decoder::{self, Allowance, Session, Shape},
    frames::ImageLimits,
};

use super::{Worker, children, large_png, signal};
use crate::support::{
    fail,
    service::{Client, Service, demo_images, wait_for},
};

const SIGXCPU: i32 = 24;

fn failed(client: &mut Client, job: i64) -> String {
    let status: Value = client.finished(job);
    assert_eq!(status["state"], "failed", "{status}");
    status["reason"].as_str().unwrap().to_owned()
}

/// The job of `images` fails for a reason with these words, and another user's runs.
fn assert_fails(service: &Service, images: &[&[u8]], words: &[&str]) {
    let mut ann = service.login("ann");
    let job = ann.submit(images);
    let reason = failed(&mut ann, job);
    for word in words {
        assert!(reason.contains(word), "{reason}");
    }
    assert!(!reason.contains("/out/"), "{reason}");
    let mut ben = service.login("ben");
    let job = ben.submit(&demo_images(2));
    assert_eq!(ben.finished(job)["state"], "done");
}

/// The process of a running job, once it is there.
pub(super) fn worker_of(service: &Service) -> u32 {
    wait_for("the process that decodes", || {
        children(service.process.id()).first().copied()
    })
}

#[test]
fn an_image_that_needs_more_memory_than_is_permitted_is_refused_by_its_header() {
    let service = Service::start(&["--max_decode_memory", "200"]);
    let words = ["image_00000", "MiB of memory", "the limit is 200"];
    assert_fails(&service, &[&large_png()], &words);
}

#[test]
fn decoding_ends_when_its_time_is_over() {
    let service = Service::start(&["--max_decode_seconds", "1"]);
    let png = large_png();
    // Some seconds of decoding, and every image is a file of its own.
    let images: Vec<Vec<u8>> = (0..60_u8).map(|i| [&png[..], &[i]].concat()).collect();
    let start = Instant::now();
    let images = crate::support::service::refs(&images);
    assert_fails(&service, &images, &["1 seconds", "in all"]);
    assert!(start.elapsed().as_secs() < 60);
}

#[test]
fn exporting_in_its_own_process_looks_at_the_time_too() {
    let dir = tempfile::tempdir().unwrap();
    let png = large_png();
    let mut args = vec!["export", "--demo", "--max_decode_seconds", "1"];
    let names: Vec<String> = (0..20).map(|i| format!("{i}.png")).collect();
    for name in &names {
        std::fs::write(dir.path().join(name), &png).unwrap();
        args.push(name);
    }
    let e = fail(dir.path(), 1, &args);
    assert!(
        e.contains("1 seconds") && e.contains("--max-decode-seconds"),
        "{e}"
    );
}

#[test]
fn a_crash_of_a_decoder_costs_one_job() {
    let service = Service::start(&[]);
    let mut ann = service.login("ann");
    let png = large_png();
    for (name, word) in [("-SEGV", "crashed (signal 11)"), ("-KILL", "signal 9")] {
        let images: Vec<Vec<u8>> = (0..60_u8)
            .map(|i| [&png[..], name.as_bytes(), &[i]].concat())
            .collect();
        let job = ann.submit(&crate::support::service::refs(&images));
        signal(worker_of(&service), name);
        let reason = failed(&mut ann, job);
        assert!(reason.contains(word), "{reason}");
    }
    let job = ann.submit(&demo_images(2));
    assert_eq!(ann.finished(job)["state"], "done");
    assert!(children(service.process.id()).is_empty());
}

#[test]
fn what_the_header_does_not_tell_ends_at_the_limit_of_memory() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&large_png()).unwrap();
    let worker = decoder::Worker::at(env!("CARGO_BIN_EXE_vggt"), 0);
    let allowance = Allowance {
        memory: 50 << 20,
        ..Allowance::default()
    };
    let mut session = Session::start(&worker, &allowance).unwrap();
    // By its header it would be permitted.
    let limits = ImageLimits {
        max_memory: u64::MAX,
        ..ImageLimits::default()
    };
    let path = file.path();
    let e = session.image(path, "large", &limits, Shape::Whole, &mut || true);
    let e = e.unwrap_err().to_string();
    assert!(e.contains("more than the 50 MiB of memory"), "{e}");
}

#[test]
fn all_threads_together_use_up_the_processor_time() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&large_png()).unwrap();
    let mut worker = Worker::start(1 << 30, 1);
    assert!(worker.reply().unwrap()["Hello"].is_object());
    let mut stream = worker.stream.try_clone().unwrap();
    let reader = std::thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
    for _ in 0..60 {
        worker.ask_for_image(&file);
    }
    let _ = reader.join();
    let status = worker.child.wait().unwrap();
    assert_eq!(status.signal(), Some(SIGXCPU), "{status:?}");
}
