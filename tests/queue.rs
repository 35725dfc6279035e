//! The queue of a PostgreSQL database: what workers take, and what they may write.

use std::{
    collections::HashMap,
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use vggt::store::{
    Admission, Claim, Claimed, Full, GlbOrigin, JobKind, JobOutcome, JobSize, Lease, NewJob,
    Places, Store, StoreError, StoreSettings, StoredJobState,
};

use crate::support::{
    database::{Cluster, psql},
    store::write_glb,
};

const LEASE: Duration = Duration::from_secs(60);

struct Queue {
    dir: TempDir,
    url: String,
    store: Store,
}

impl Queue {
    /// With so many users, whose keys count from 1.
    fn of_users(count: usize) -> Self {
        let dir = TempDir::new().unwrap();
        let url = Cluster::get().url_of(dir.path());
        let store = open(&url, dir.path());
        for user in 0..count {
            // Plain, as the older service wrote them: a hash takes long.
            let sql =
                format!("INSERT INTO users (username, password_hash) VALUES ('u{user}', 'p')");
            psql(&url, &sql).unwrap();
        }
        Self { dir, url, store }
    }

    fn sql(&self, sql: &str) -> String {
        psql(&self.url, sql).unwrap().trim().to_owned()
    }

    fn add(&self, user: i32, admission: Admission) -> i64 {
        self.store.add_job(&job(user, admission)).unwrap().id
    }

    fn plain(&self, user: i32) -> i64 {
        self.add(user, Admission::default())
    }

    fn vip(&self, user: i32) -> i64 {
        let vip = true;
        self.add(
            user,
            Admission {
                vip,
                ..Admission::default()
            },
        )
    }

    fn claim(&self, claim: &Claim) -> Option<Claimed> {
        self.store.claim_job(claim).unwrap()
    }

    /// Takes everything that there is, in order.
    fn drain(&self, claim: &Claim) -> Vec<i64> {
        let claimed = std::iter::from_fn(|| self.claim(claim));
        claimed.map(|claimed| claimed.job.id).collect()
    }
}

fn open(url: &str, dir: &Path) -> Store {
    let settings = StoreSettings {
        db: url.parse().unwrap(),
        out_root: dir.join("out").into(),
    };
    Store::open(&settings).unwrap()
}

fn job(user_id: i32, admission: Admission) -> NewJob {
    NewJob {
        user_id,
        kind: JobKind::Images,
        original_name: "images_1.glb".to_owned(),
        options_json: "{}".to_owned(),
        input_key: "0".repeat(64),
        dir: "job-x".to_owned(),
        admission,
        hash: None,
    }
}

fn any(worker: &str) -> Claim {
    Claim {
        worker: worker.to_owned(),
        lease: LEASE,
        running_per_user: 100,
        only_vip: false,
        sizes: JobSize::ALL.to_vec(),
    }
}

#[test]
fn vips_are_first_users_take_turns_and_nobody_waits_forever() {
    let queue = Queue::of_users(3);
    let ann = [queue.plain(1), queue.plain(1), queue.plain(1)];
    let ben = [queue.plain(2), queue.plain(2)];
    let vic = [queue.vip(3), queue.vip(3)];
    // One that was there before all of them, and has waited for as long as makes up for it.
    let old = queue.plain(2);
    queue.sql(&format!(
        "UPDATE jobs SET queued_at = queued_at - interval '11 minutes' WHERE id = {old}"
    ));
    let expected = [old, vic[0], vic[1], ann[0], ben[0], ann[1], ben[1], ann[2]];
    let ahead = queue.store.jobs_ahead(&expected).unwrap();
    let told: Vec<usize> = expected.iter().map(|id| ahead[id]).collect();
    // As far as the order is known before anybody has had a turn: those of one user in theirs.
    assert_eq!(told[..3], [0, 1, 2]);
    assert_eq!(queue.drain(&any("w")), expected);
}

#[test]
fn a_worker_takes_what_its_labels_say_and_what_may_run_now() {
    let queue = Queue::of_users(1);
    let of = |size| {
        let admission = Admission {
            size,
            ..Admission::default()
        };
        queue.add(1, admission)
    };
    let [small, medium, large] = JobSize::ALL.map(of);
    let vip = queue.vip(1);
    let only = |only_vip, sizes: &[JobSize]| Claim {
        only_vip,
        sizes: sizes.to_vec(),
        ..any("w")
    };
    assert_eq!(queue.drain(&only(true, &JobSize::ALL)), [vip]);
    assert_eq!(queue.drain(&only(false, &[JobSize::Large])), [large]);
    let rest = [JobSize::Small, JobSize::Medium];
    assert_eq!(queue.drain(&only(false, &rest)), [small, medium]);

    // One that waits for another try.
    let later = queue.plain(1);
    let lease = queue.claim(&any("w")).unwrap().lease;
    let pause = Duration::from_secs(3600);
    assert!(
        queue
            .store
            .defer_job(lease, 1, pause, "the disk is full")
            .unwrap()
    );
    assert!(queue.drain(&any("w")).is_empty());
    queue.store.retry_job(later).unwrap_err();
    std::fs::create_dir_all(queue.dir.path().join("out/.jobs/job-x")).unwrap();
    queue.store.retry_job(later).unwrap();
    assert_eq!(queue.drain(&any("w")), [later]);
}

#[test]
fn no_user_has_more_running_than_allowed_however_many_workers_take_jobs() {
    const CLAIMANTS: usize = 16;
    const CAP: u32 = 2;
    const JOBS: usize = 240;
    let queue = Queue::of_users(6);
    for i in 0..JOBS {
        queue.plain(1 + (i * i) as i32 % 6);
    }
    /// How many jobs of each user run, the most that ever did, and how often each job was taken.
    #[derive(Default)]
    struct Seen {
        running: HashMap<i32, u32>,
        most: u32,
        taken: HashMap<i64, u32>,
    }
    let seen = Mutex::new(Seen::default());
    let work = |number: usize| {
        let store = open(&queue.url, queue.dir.path());
        let claim = Claim {
            running_per_user: CAP,
            ..any(&format!("w{number}"))
        };
        let mut idle_since = Instant::now();
        while idle_since.elapsed() < Duration::from_secs(2) {
            let Some(Claimed { job, lease, .. }) = store.claim_job(&claim).unwrap() else {
                if seen.lock().unwrap().taken.len() == JOBS {
                    return;
                }
                std::thread::sleep(Duration::from_millis(2));
                continue;
            };
            {
                let mut seen = seen.lock().unwrap();
                let running = seen.running.entry(job.user_id).or_default();
                *running += 1;
                let running = *running;
                seen.most = seen.most.max(running);
                *seen.taken.entry(job.id).or_default() += 1;
            }
            std::thread::sleep(Duration::from_millis(job.id as u64 % 5));
            // Before the row says so: what is counted here is never more than what the database counts.
            *seen.lock().unwrap().running.entry(job.user_id).or_default() -= 1;
            assert!(store.finish_job(lease, &JobOutcome::Cancelled).unwrap());
            idle_since = Instant::now();
        }
    };
    std::thread::scope(|scope| {
        for number in 0..CLAIMANTS {
            scope.spawn(move || work(number));
        }
    });
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.taken.len(), JOBS);
    assert!(seen.taken.values().all(|times| *times == 1));
    assert_eq!(seen.most, CAP);
    let counts = queue.sql("SELECT count(*) FROM job_turns WHERE running <> 0");
    assert_eq!(counts, "0");
}

#[test]
fn a_worker_whose_lease_is_over_changes_nothing() {
    let queue = Queue::of_users(1);
    let store = &queue.store;
    let id = queue.plain(1);
    let first = queue.claim(&any("first")).unwrap();
    assert!(store.renew_lease(first.lease, LEASE, Some("{}")).unwrap());
    assert!(store.reap_jobs(LEASE, false).unwrap().is_empty());
    // It is paused for longer than its lease.
    queue.sql("UPDATE jobs SET lease_until = clock_timestamp() - interval '1 second'");
    let reaped = store.reap_jobs(LEASE, false).unwrap();
    assert_eq!(reaped.len(), 1);
    assert_eq!(reaped[0].worker.as_deref(), Some("first"));
    let second = queue.claim(&any("second")).unwrap();
    assert_eq!((second.job.id, second.job.deaths), (id, 1));
    assert!(second.token > first.token);

    let origin = |lease: Lease| GlbOrigin {
        user_id: 1,
        original_name: "images_1.glb",
        job: Some(lease),
        input_key: None,
    };
    let save = |lease| store.save_result(&origin(lease), &mut write_glb, &mut |_| Ok(None));
    let late = first.lease;
    assert!(!store.renew_lease(late, LEASE, None).unwrap());
    assert!(!store.holds_lease(late).unwrap() && !store.mark_running(late).unwrap());
    assert!(!store.defer_job(late, 1, LEASE, "late").unwrap());
    assert!(!store.fail_job(late, "late", false).unwrap());
    assert!(!store.fail_job(late, "late", true).unwrap());
    assert!(!store.finish_job(late, &JobOutcome::Cancelled).unwrap());
    store.set_job_warnings(late, "[\"late\"]").unwrap();
    store.note_progress(late).unwrap();
    store.release_job(late).unwrap();
    assert!(matches!(save(late), Err(StoreError::LeaseOver(of)) if of == id));
    let row = store.job(id).unwrap().unwrap();
    assert_eq!((row.state, row.deaths), (StoredJobState::Running, 1));
    assert!(store.job_warnings(&[id]).unwrap().is_empty());

    let glb = save(second.lease).unwrap();
    assert!(matches!(save(second.lease), Err(StoreError::JobOver(_))));
    assert!(matches!(save(late), Err(StoreError::JobOver(_))));
    let hash = glb.hashed_name.clone();
    assert_eq!(
        store.job(id).unwrap().unwrap().state,
        StoredJobState::Done { hash }
    );
    assert_eq!(store.list_glbs(1).unwrap(), [glb]);
    assert_eq!(store.check(false).unwrap().problems(), 0);
}

#[test]
fn the_third_worker_that_dies_with_a_job_fails_it_and_one_that_gives_it_back_does_not_count() {
    let queue = Queue::of_users(1);
    let store = &queue.store;
    let id = queue.plain(1);
    let die = || {
        queue.claim(&any("w")).unwrap();
        queue.sql("UPDATE jobs SET lease_until = clock_timestamp() - interval '1 second'");
        let reaped = store.reap_jobs(LEASE, false).unwrap();
        assert_eq!(reaped.len(), 1);
        reaped[0].failed
    };
    assert!(!die() && !die());
    let lease = queue.claim(&any("w")).unwrap().lease;
    store.release_job(lease).unwrap();
    assert!(!die() && !die());
    let lease = queue.claim(&any("w")).unwrap().lease;
    // It came further than before.
    store.note_progress(lease).unwrap();
    store.release_job(lease).unwrap();
    assert!(!die() && !die() && die());
    let row = store.job(id).unwrap().unwrap();
    assert!(
        matches!(row.state, StoredJobState::Failed { .. }),
        "{row:?}"
    );
    assert!(row.finished_at.is_some() && store.is_input_kept(id).unwrap());
    assert_eq!(queue.sql("SELECT running FROM job_turns"), "0");
}

#[test]
fn a_clock_that_jumps_costs_a_try_at_most() {
    let queue = Queue::of_users(2);
    let store = &queue.store;
    let (one, two) = (queue.plain(1), queue.plain(2));
    let lease = queue.claim(&any("w")).unwrap().lease;
    // A day back: the lease seems to hold for a day. Its worker may be gone.
    let jump = |by: &str| {
        queue.sql(&format!(
            "UPDATE jobs SET lease_until = lease_until + interval '{by}', queued_at = queued_at + interval '{by}'"
        ))
    };
    jump("1 day");
    assert!(store.reap_jobs(LEASE, false).unwrap().is_empty());
    let left = queue.sql(&format!(
        "SELECT lease_until < clock_timestamp() + interval '61 seconds' FROM jobs WHERE id = {one}"
    ));
    assert_eq!(left, "t");
    assert!(store.renew_lease(lease, LEASE, None).unwrap());
    assert_eq!(queue.claim(&any("v")).unwrap().job.id, two);
    // And forward again: all leases are over.
    jump("-2 days");
    assert_eq!(store.reap_jobs(LEASE, false).unwrap().len(), 2);
    assert!(!store.renew_lease(lease, LEASE, None).unwrap());
    let mut again = queue.drain(&any("w"));
    again.sort_unstable();
    assert_eq!(again, [one, two]);
}

#[test]
fn places_are_those_of_all_processes() {
    let queue = Queue::of_users(3);
    let other = open(&queue.url, queue.dir.path());
    let places = Places {
        all: 3,
        vip: 1,
        per_user: 2,
    };
    let add = |store: &Store, user, vip| {
        let places = Some(places);
        let admission = Admission {
            vip,
            places,
            ..Admission::default()
        };
        store.add_job(&job(user, admission)).map(|job| job.id)
    };
    let full = |added: Result<i64, StoreError>| match added {
        Err(StoreError::QueueFull(full)) => full,
        other => panic!("{other:?}"),
    };
    add(&queue.store, 1, false).unwrap();
    add(&other, 1, false).unwrap();
    let own = Full {
        waiting: 2,
        own: true,
    };
    assert_eq!(full(add(&queue.store, 1, false)), own);
    add(&other, 2, false).unwrap();
    let all = Full {
        waiting: 3,
        own: false,
    };
    assert_eq!(full(add(&other, 2, false)), all);
    // Who has none that waits is taken, and a VIP has places of their own.
    add(&other, 3, true).unwrap();
    // Those that run wait no more.
    assert_eq!(queue.drain(&any("w")).len(), 4);
    add(&queue.store, 2, false).unwrap();
    assert_eq!(queue.sql("SELECT count(*) FROM jobs"), "5");
}
