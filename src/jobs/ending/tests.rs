use std::fs;

use super::*;
use crate::{
    jobs::{JobNames, JobOptions, JobRequest, JobSettings, Jobs},
    pipeline::{DeviceChoice, NetworkSource},
    store::{JobKind, Store, StoreSettings, StoredJobState},
};

/// Without threads: the test is the worker.
fn jobs(dir: &std::path::Path) -> Jobs {
    let store = Store::open(&StoreSettings {
        db: dir.join("a.db").into(),
        out_root: dir.join("out").into(),
    })
    .unwrap();
    store.add_user("ann", "p", false).unwrap();
    let (settings, source) = (JobSettings::default(), NetworkSource::Demo);
    let shared = Shared::new(settings, store, &source, DeviceChoice::Cpu);
    Jobs {
        shared: Arc::new(shared),
    }
}

fn submit(jobs: &Jobs) -> i64 {
    let store = &jobs.shared.store;
    let folder = InputFolder::create(store).unwrap();
    fs::write(folder.image(0), b"x").unwrap();
    let request = JobRequest {
        user: store.user_by_id(1).unwrap().unwrap(),
        kind: JobKind::Images,
        folder,
        input_sha256: String::new(),
        options: JobOptions::default(),
        original_name: "a.glb".to_owned(),
        names: JobNames::default(),
    };
    jobs.submit_durable(request).unwrap()
}

fn state_of(jobs: &Jobs, id: i64) -> Option<JobState> {
    jobs.status(1, id).unwrap().map(|status| status.state)
}

#[test]
fn a_job_whose_worker_panicked_outside_of_it_fails_and_its_input_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = jobs(dir.path());
    let (first, second) = (submit(&jobs), submit(&jobs));
    // The worker has it, and loses it.
    drop(jobs.shared.next(0).unwrap());
    jobs.shared.abandon(0);
    let state = state_of(&jobs, first);
    assert!(matches!(state, Some(JobState::Failed { reason }) if reason == BUG));
    assert_eq!(jobs.load().running, 0);
    let (work, _) = jobs.shared.next(0).unwrap();
    assert_eq!(work.row(), Some(second));
    jobs.shared.store.retry_job(first).unwrap();
}

#[test]
fn a_fault_puts_a_job_aside_and_the_last_one_fails_it() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = jobs(dir.path());
    let shared = &jobs.shared;
    let id = submit(&jobs);
    for tries in 1.. {
        let (work, _) = shared.next(0).unwrap();
        assert!(shared.store.mark_running(id).unwrap());
        shared.finish(work, End::Fault("the disk is full".to_owned()));
        let row = shared.store.job(id).unwrap().unwrap();
        if let StoredJobState::Failed { reason } = row.state {
            assert_eq!(reason, format!("the disk is full (tried {tries} times)"));
            assert_eq!(tries, 9);
            break;
        }
        assert_eq!((row.state, row.tries), (StoredJobState::Queued, tries));
        assert!(row.next_try_at.is_some());
        assert_eq!(state_of(&jobs, id), Some(JobState::Queued { ahead: 0 }));
        // Its pause is over.
        let mut state = shared.lock();
        let delayed = state.delayed.pop().unwrap();
        assert!(delayed.due.unwrap() > Instant::now());
        shared.push(&mut state, delayed.work);
    }
    assert!(shared.store.is_input_kept(id).unwrap());
}

#[test]
fn a_cancelled_job_stays_cancelled_whatever_the_worker_says_later() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = jobs(dir.path());
    let id = submit(&jobs);
    let (work, _) = jobs.shared.next(0).unwrap();
    assert_eq!(jobs.cancel(2, id).unwrap(), None);
    let cancelled = jobs.cancel(1, id).unwrap().map(|status| status.state);
    assert_eq!(cancelled, Some(JobState::Cancelled));
    assert_eq!(work.handle.stopped(), Some(StopReason::Cancelled));
    let late = End::Fault("the disk is full".to_owned());
    jobs.shared.finish(work, late);
    assert_eq!(state_of(&jobs, id), Some(JobState::Cancelled));
    assert!(jobs.shared.lock().delayed.is_empty());
}
