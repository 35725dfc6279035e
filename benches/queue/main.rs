//! The queue of a PostgreSQL database: jobs submitted, taken and ended per second, by so many workers at the same time.
//!
//! `cargo bench --bench queue -- postgres://user@host/database [JOBS]`, with a database that has no tables yet. Each worker has a store of
//! its own, as a process has, with its connections; it takes a job, prolongs the lease once and ends the job, and computes nothing.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a benchmark has no interface, and a failure ends it"
)]

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use vggt::store::{Admission, Claim, JobKind, JobOutcome, JobSize, NewJob, Store, StoreSettings};

const USERS: i32 = 40;
const LEASE: Duration = Duration::from_secs(60);
const WORKERS: [usize; 4] = [1, 8, 16, 100];

fn main() {
    let mut args = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"));
    let Some(url) = args.next() else {
        println!("queue: left out, no address of a database is given");
        return;
    };
    let jobs: usize = args.next().map_or(2000, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let settings = StoreSettings {
        db: url.parse().unwrap(),
        out_root: dir.path().join("out").into(),
    };
    let open = || Store::open(&settings).unwrap();
    let store = open();
    for user in 0..USERS {
        store
            .add_user(&format!("u{user}"), "p", user % 10 == 0)
            .unwrap();
    }
    println!("workers  submitted/s  taken and ended/s  claim p50 ms  p99 ms  max ms");
    for workers in WORKERS {
        let start = Instant::now();
        for i in 0..jobs {
            let user = 1 + (i % USERS as usize) as i32;
            store.add_job(&job(user)).unwrap();
        }
        let submitted = jobs as f64 / start.elapsed().as_secs_f64();
        let (left, claims) = (AtomicUsize::new(jobs), Mutex::new(Vec::new()));
        let stores: Vec<Store> = (0..workers).map(|_| open()).collect();
        let start = Instant::now();
        thread::scope(|scope| {
            for (number, store) in stores.iter().enumerate() {
                let (left, claims) = (&left, &claims);
                scope.spawn(move || work(store, number, left, claims));
            }
        });
        let taken = jobs as f64 / start.elapsed().as_secs_f64();
        let mut claims = claims.into_inner().unwrap();
        claims.sort_unstable();
        let at = |part: f64| {
            let index = (part * (claims.len() - 1) as f64) as usize;
            1000.0 * claims[index].as_secs_f64()
        };
        println!(
            "{workers:>7}  {submitted:>11.0}  {taken:>17.0}  {:>12.1}  {:>6.1}  {:>6.1}",
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
}

fn work(store: &Store, number: usize, left: &AtomicUsize, claims: &Mutex<Vec<Duration>>) {
    let claim = Claim {
        worker: format!("worker-{number}"),
        lease: LEASE,
        running_per_user: 4,
        only_vip: false,
        sizes: JobSize::ALL.to_vec(),
    };
    let mut own = Vec::new();
    while left.load(Relaxed) > 0 {
        let start = Instant::now();
        let Some(claimed) = store.claim_job(&claim).unwrap() else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        own.push(start.elapsed());
        assert!(store.renew_lease(claimed.lease, LEASE, Some("{}")).unwrap());
        assert!(
            store
                .finish_job(claimed.lease, &JobOutcome::Cancelled)
                .unwrap()
        );
        left.fetch_sub(1, Relaxed);
    }
    claims.lock().unwrap().extend(own);
}

fn job(user_id: i32) -> NewJob {
    NewJob {
        user_id,
        kind: JobKind::Images,
        original_name: "images_1.glb".to_owned(),
        options_json: "{}".to_owned(),
        input_key: "0".repeat(64),
        dir: "job-x".to_owned(),
        admission: Admission::default(),
        hash: None,
    }
}
