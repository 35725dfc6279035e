//! The process lives no longer than its job, and than the service.

use super::{children, is_alive, large_png, limits::worker_of, signal};
use crate::support::service::{Service, demo_images, refs, wait_for};

fn long_decoding() -> Vec<Vec<u8>> {
    let png = large_png();
    (0..60_u8).map(|i| [&png[..], &[i]].concat()).collect()
}

/// A process that has only just started has not asked the kernel yet to end with its parent.
fn wait_until_confined(worker: u32) {
    wait_for("the process to be confined", || {
        let status = std::fs::read_to_string(format!("/proc/{worker}/status")).ok()?;
        status.contains("Seccomp:\t2").then_some(())
    });
}

#[test]
fn a_service_that_is_killed_takes_the_process_along() {
    let service = Service::start(&[]);
    let mut ann = service.login("ann");
    ann.submit(&refs(&long_decoding()));
    let worker = worker_of(&service);
    wait_until_confined(worker);
    // It does not notice by its stream: it is not reading.
    signal(worker, "-STOP");
    service.kill();
    wait_for("the process to end", || (!is_alive(worker)).then_some(()));
}

#[test]
fn a_cancelled_job_ends_the_process_within_an_image() {
    let service = Service::start(&[]);
    let mut ann = service.login("ann");
    let job = ann.submit(&refs(&long_decoding()));
    let worker = worker_of(&service);
    // Stopped before it is this program, it would hold up the thread that starts it.
    wait_until_confined(worker);
    // As if it were in the middle of one image for ever.
    signal(worker, "-STOP");
    ann.json(10, &format!("{{\"job\": {job}}}"));
    assert_eq!(ann.finished(job)["state"], "cancelled");
    wait_for("the process to end", || (!is_alive(worker)).then_some(()));
    let job = ann.submit(&demo_images(2));
    assert_eq!(ann.finished(job)["state"], "done");
}

#[test]
fn a_stop_ends_the_process_and_signals_of_the_terminal_do_not() {
    let mut service = Service::start(&["--grace", "1"]);
    let mut ann = service.login("ann");
    ann.submit(&refs(&long_decoding()));
    let worker = worker_of(&service);
    wait_until_confined(worker);
    // systemd and terminals send them to all processes of a service.
    for name in ["-INT", "-TERM", "-HUP"] {
        signal(worker, name);
    }
    assert!(is_alive(worker));
    assert_eq!(service.terminate(), Some(0));
    wait_for("the process to end", || (!is_alive(worker)).then_some(()));
    assert!(children(service.process.id()).is_empty());
}
