//! Services and workers that share a PostgreSQL database and a folder or bucket of files, on one machine.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Child,
    time::{Duration, Instant},
};

use serde_json::Value;
use vggt::store::{Store, StoreSettings};

use crate::support::{
    command,
    database::{Cluster, psql},
    fail,
    files::{bucket_of, bucket_variables_of, is_bucket, only_for_folders, out_of_bucket},
    http::request,
    run, send_signal,
    service::{
        Client, PASSWORD, Service, assert_glb, demo_images, images_payload, leftovers_of, wait_for,
    },
    text,
};

/// A front end that runs no jobs, and what shares its database.
pub(crate) struct Fleet {
    pub(crate) url: String,
    pub(crate) front: Service,
    in_bucket: bool,
}

impl Fleet {
    fn new(args: &[&str]) -> Self {
        Self::on(Cluster::get(), args)
    }

    fn on(cluster: &Cluster, args: &[&str]) -> Self {
        Self::with(cluster, is_bucket(), args)
    }

    /// With files in a bucket, whatever the other tests have.
    pub(crate) fn in_bucket(args: &[&str]) -> Self {
        Self::with(Cluster::get(), true, args)
    }

    fn with(cluster: &Cluster, in_bucket: bool, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = cluster.url_of(dir.path());
        let store = open(&url, dir.path(), in_bucket);
        for (name, vip) in [("ann", false), ("ben", false), ("vic", true)] {
            store.add_user(name, PASSWORD, vip).unwrap();
        }
        drop(store);
        let all = [&["--db", &url, "--workers", "0", "--no-cache"][..], args].concat();
        let mut vggt = command(dir.path());
        vggt.envs(variables(dir.path(), in_bucket));
        let front = Service::start_with(dir, vggt, &all);
        Self {
            url,
            front,
            in_bucket,
        }
    }

    /// The folder of the files.
    pub(crate) fn out(&self) -> PathBuf {
        match self.in_bucket {
            true => out_of_bucket(self.front.dir()),
            false => self.front.dir().join("out"),
        }
    }

    /// A second front end.
    pub(crate) fn another_front(&self, args: &[&str]) -> Service {
        let out = self.out();
        let mut all = vec!["--db", &self.url, "--workers", "0", "--no-cache"];
        if !self.in_bucket {
            all.extend(["--out-root", text(&out)]);
        }
        all.extend(args);
        let dir = tempfile::tempdir().unwrap();
        let mut vggt = command(dir.path());
        vggt.envs(variables(self.front.dir(), self.in_bucket));
        Service::start_with(dir, vggt, &all)
    }

    pub(crate) fn worker(&self, args: &[&str]) -> Worker {
        Worker::start(self, args)
    }

    pub(crate) fn store(&self) -> Store {
        open(&self.url, self.front.dir(), self.in_bucket)
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        psql(&self.url, sql).unwrap().trim().to_owned()
    }

    fn status(&self) -> Value {
        let told = run(self.front.dir(), &["status", "--json", "--db", &self.url]);
        serde_json::from_str(&told).unwrap()
    }

    /// Waits until a worker has a job.
    pub(crate) fn running(&self, client: &mut Client, job: i64) {
        wait_for("the job to run", || {
            let status = client.status(job);
            let state = status["state"].as_str();
            assert!(matches!(state, Some("queued" | "running")), "{status}");
            (state == Some("running")).then_some(())
        });
    }

    /// Every row has its file and every file its row, and nothing is left of the inputs.
    pub(crate) fn assert_consistent(&self) {
        // Files that were made of results stay for a while.
        let inputs = || leftovers_of(&self.out(), self.in_bucket);
        let of_jobs = |path: &PathBuf| path.parent().unwrap().ends_with(".jobs");
        wait_for("inputs to go", || {
            (!inputs().iter().any(of_jobs)).then_some(())
        });
        let report = self.store().check(false).unwrap();
        assert_eq!(report.problems(), 0, "{report:?}");
    }
}

/// Enough images to kill a worker that has them, and long enough for its lease to run out.
pub(crate) fn long() -> Vec<&'static [u8]> {
    demo_images(8).repeat(15)
}

fn variables(dir: &Path, in_bucket: bool) -> Vec<(String, String)> {
    match in_bucket {
        true => bucket_variables_of(dir),
        false => Vec::new(),
    }
}

fn open(url: &str, dir: &Path, in_bucket: bool) -> Store {
    let settings = StoreSettings {
        db: url.parse().unwrap(),
        out_root: match in_bucket {
            true => bucket_of(dir),
            false => dir.join("out").into(),
        },
    };
    Store::open(&settings).unwrap()
}

/// A worker process; killed when dropped.
pub(crate) struct Worker {
    pub(crate) process: Child,
    log: PathBuf,
}

impl Worker {
    fn start(fleet: &Fleet, args: &[&str]) -> Self {
        let dir = fleet.front.dir();
        let number = fs::read_dir(dir).unwrap().count();
        let log = dir.join(format!("worker{number}.log"));
        let process = command(dir)
            .envs(variables(dir, fleet.in_bucket))
            .args(["worker", "--demo", "--device", "cpu", "--db", &fleet.url])
            .args(args)
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { process, log }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        send_signal(self.process.id(), name);
    }

    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("a worker's log:\n{}", self.log());
        }
    }
}

#[test]
fn front_ends_take_requests_and_workers_run_them() {
    let fleet = Fleet::new(&["--http", "127.0.0.1:0"]);
    let alone = Service::start(&["--no_cache"]);
    let (_, expected) = alone.login("ann").images(&demo_images(2)).glb();

    // What is sent before there is a worker waits for one.
    let mut ann = fleet.front.login("ann");
    let waiting = ann.submit(&demo_images(2));
    assert_eq!(ann.status(waiting)["state"], "queued");
    let worker = fleet.worker(&["--http", "127.0.0.1:0"]);
    let done = ann.finished(waiting);
    assert_eq!(done["state"], "done", "{done}");
    let hash = done["hash"].as_str().unwrap();
    assert!(ann.get(hash).glb().1 == expected);

    // A connection waits for its own, and so does HTTP.
    let (name, bytes) = ann.images(&demo_images(2)).glb();
    assert!(name.ends_with(".glb") && bytes == expected);
    let token = fleet.front.token("ann");
    let job = fleet.front.submit_http(&token, &demo_images(2));
    let job = fleet.front.finished_job(&token, job);
    assert_eq!(job["state"], "done", "{job}");
    let path = format!("/api/v1/jobs/{}/artifacts/ply", job["id"]);
    let ply = request("GET", &path)
        .bearer(&token)
        .send(fleet.front.http());
    assert_eq!(ply.status, 200);

    // Who does what.
    let status = fleet.status();
    assert_eq!(status["workers"].as_array().unwrap().len(), 1, "{status}");
    assert_eq!(status["workers"][0]["device"], "cpu");
    let table = run(fleet.front.dir(), &["status", "--db", &fleet.url]);
    assert!(
        table.contains("0 jobs wait") && table.contains("on 1 workers"),
        "{table}"
    );
    let at = wait_for("the address of metrics", || {
        let log = worker.log();
        let (_, rest) = log.split_once("metrics on ")?;
        rest.lines().next()?.trim().parse().ok()
    });
    let metrics = request("GET", "/metrics").send(at);
    let metrics = String::from_utf8(metrics.body).unwrap();
    assert!(
        metrics.contains("vggt_jobs_ended_total{outcome=\"done\"} 3\n") || metrics.contains("done"),
        "{metrics}"
    );
    assert_eq!(request("GET", "/ready").send(at).status, 200);
    assert_eq!(request("GET", "/api/v1/jobs").send(at).status, 404);
    fleet.assert_consistent();
}

#[test]
fn another_worker_goes_on_where_one_was_killed_with_the_same_bytes() {
    let fleet = Fleet::new(&[]);
    let mut ann = fleet.front.login("ann");
    let first = fleet.worker(&[]);
    let undisturbed = ann.submit(&long());
    let undisturbed = ann.finished(undisturbed)["hash"]
        .as_str()
        .unwrap()
        .to_owned();
    let (_, expected) = ann.get(&undisturbed).glb();
    let job = ann.submit(&long());
    fleet.running(&mut ann, job);
    first.kill();
    let _second = fleet.worker(&[]);
    let done = ann.finished(job);
    assert_eq!(done["state"], "done", "{done}");
    let hash = done["hash"].as_str().unwrap().to_owned();
    assert!(ann.get(&hash).glb().1 == expected);
    // Taken, taken away, and taken again.
    let token = fleet.sql(&format!("SELECT token FROM jobs WHERE id = {job}"));
    assert_eq!(token, "3");
    assert_eq!(fleet.sql("SELECT count(*) FROM glb_files"), "2");
    fleet.assert_consistent();
}

#[test]
fn a_worker_that_was_paused_past_its_lease_writes_nothing() {
    let fleet = Fleet::new(&[]);
    let mut ann = fleet.front.login("ann");
    let first = fleet.worker(&["--lease", "3"]);
    let job = ann.submit(&long());
    fleet.running(&mut ann, job);
    first.signal("STOP");
    let second = fleet.worker(&["--lease", "3"]);
    wait_for("the second worker to begin", || {
        second.log().contains("started").then_some(())
    });
    // Both work on it now.
    first.signal("CONT");
    let done = ann.finished(job);
    assert_eq!(done["state"], "done", "{done}");
    wait_for("the first worker to notice", || {
        first
            .log()
            .contains("was given to another worker")
            .then_some(())
    });
    assert_eq!(fleet.sql("SELECT count(*) FROM glb_files"), "1");
    let by = fleet.sql(&format!("SELECT worker FROM jobs WHERE id = {job}"));
    assert!(second.log().contains(&by), "{by}");
    assert_glb(&ann.get(done["hash"].as_str().unwrap()).glb().1);
    fleet.assert_consistent();
    // It is as good as before.
    drop(second);
    let next = ann.submit(&demo_images(1));
    assert_eq!(ann.finished(next)["state"], "done");
}

#[test]
fn what_arrives_at_a_process_without_its_database_is_not_swept_by_another_that_starts() {
    let fleet = Fleet::new(&[]);
    let mut ann = fleet.front.login("ann");
    // More than the server reads at once.
    let images = long();
    let payload = images_payload(&images);
    let (first, rest) = payload.split_at(payload.len() / 2);
    ann.stream.write_all(&[2]).unwrap();
    let length = (payload.len() as u32).to_be_bytes();
    ann.stream.write_all(&length).unwrap();
    ann.stream.write_all(first).unwrap();
    let files = || -> usize {
        let folders = fleet.front.uploads();
        let files = folders
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok());
        files.map(Iterator::count).sum()
    };
    wait_for("some of the images", || (files() > 1).then_some(()));
    // As after a break of the database, from which this process has not come back yet.
    fleet.front.send_signal("STOP");
    fleet.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    let arrived = files();
    let worker = fleet.worker(&[]);
    wait_for("the worker to begin", || {
        worker.log().contains(": worker ").then_some(())
    });
    assert_eq!(files(), arrived);
    fleet.front.send_signal("CONT");
    ann.stream.write_all(rest).unwrap();
    let (_, glb) = ann.read_named().glb();
    let again = fleet.front.login("ben").images(&images).glb().1;
    assert!(glb == again, "{} and {} bytes", glb.len(), again.len());
    fleet.assert_consistent();
}

#[test]
fn what_a_process_of_another_machine_left_goes_when_nobody_else_has_the_folder() {
    only_for_folders!();
    let fleet = Fleet::new(&[]);
    let left = fleet.out().join(".tmp/upload-elsewhere-77-abcdef-x1");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("image"), b"some").unwrap();
    // It may be one whose connection to the database is lost.
    let worker = fleet.worker(&[]);
    wait_for("the worker to begin", || {
        worker.log().contains(": worker ").then_some(())
    });
    assert!(left.exists());
    drop(worker);
    let Fleet { url, front, .. } = fleet;
    let _front = Service::start_in(front.kill(), &["--db", &url, "--workers", "0"]);
    assert!(!left.exists());
}

#[test]
fn a_job_of_which_some_files_are_gone_fails_and_gives_no_other_result() {
    let fleet = Fleet::new(&[]);
    let mut ann = fleet.front.login("ann");
    let job = ann.submit(&demo_images(4));
    let dir = fleet.sql(&format!("SELECT dir FROM jobs WHERE id = {job}"));
    let folder = fleet.out().join(".jobs").join(dir);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    fs::remove_file(&files[1]).unwrap();
    let _worker = fleet.worker(&[]);
    let end = ann.finished(job);
    let reason = end["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("some of its input files are gone"), "{end}");
}

#[test]
fn a_worker_that_is_stopped_ends_its_job_or_gives_it_back() {
    let fleet = Fleet::new(&[]);
    let mut ann = fleet.front.login("ann");
    let mut first = fleet.worker(&["--grace", "100"]);
    // Also on a machine so busy that nobody looks in time.
    fleet.sql(
        "CREATE TABLE drains (name text); \
         CREATE FUNCTION note_drain() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN INSERT INTO drains VALUES (NEW.name); RETURN NEW; END $$; \
         CREATE TRIGGER note_drain BEFORE UPDATE ON workers \
         FOR EACH ROW WHEN (NEW.draining) EXECUTE FUNCTION note_drain()",
    );
    let job = ann.submit(&long());
    fleet.running(&mut ann, job);
    let name = fleet.sql("SELECT name FROM workers");
    first.signal("TERM");
    wait_for("the worker to say that it drains", || {
        (fleet.sql("SELECT DISTINCT name FROM drains") == name).then_some(())
    });
    // It takes no other meanwhile.
    let other = ann.submit(&demo_images(1));
    assert_eq!(ann.finished(job)["state"], "done");
    assert_eq!(
        first.process.wait().unwrap().code(),
        Some(0),
        "{}",
        first.log()
    );
    assert_eq!(ann.status(other)["state"], "queued");
    assert_eq!(fleet.status()["workers"], serde_json::json!([]));

    let mut second = fleet.worker(&["--grace", "0"]);
    assert_eq!(ann.finished(other)["state"], "done");
    wait_for("the status to tell of a worker that drains", || {
        // It writes its own row again from time to time.
        fleet.sql("UPDATE workers SET draining = true");
        (fleet.status()["workers"][0]["draining"] == true).then_some(())
    });
    let job = ann.submit(&long());
    fleet.running(&mut ann, job);
    second.signal("TERM");
    assert_eq!(
        second.process.wait().unwrap().code(),
        Some(0),
        "{}",
        second.log()
    );
    let row = fleet.store().job(job).unwrap().unwrap();
    assert_eq!((row.state.name(), row.deaths), ("queued", 0));
    let _third = fleet.worker(&[]);
    assert_eq!(ann.finished(job)["state"], "done");
    fleet.assert_consistent();
}

#[test]
fn a_job_is_cancelled_wherever_it_runs() {
    let fleet = Fleet::new(&[]);
    let worker = fleet.worker(&[]);
    let mut ann = fleet.front.login("ann");
    let job = ann.submit(&long());
    let waiting = ann.submit(&demo_images(1));
    fleet.running(&mut ann, job);
    for id in [waiting, job] {
        let told = ann.json(10, &format!("{{\"job\": {id}}}"));
        assert_eq!(told["state"], "cancelled", "{told}");
    }
    wait_for("the worker to stop", || {
        worker.log().contains("was cancelled").then_some(())
    });
    // Of a connection that is gone nobody wants the answer.
    let mut gone = fleet.front.login("ben");
    let payload = images_payload(&long());
    gone.send(2, &payload);
    wait_for("its job", || (fleet.status()["running"] == 1).then_some(()));
    gone.close();
    let cancelled = "SELECT count(*) FROM jobs WHERE state = 'cancelled'";
    wait_for("its end", || (fleet.sql(cancelled) == "3").then_some(()));
    fleet.assert_consistent();
}

#[test]
fn two_front_ends_take_the_jobs_of_one_user() {
    let fleet = Fleet::new(&[]);
    let other = fleet.another_front(&[]);
    let (mut here, mut there) = (fleet.front.login("ann"), other.login("ann"));
    // The limit on waiting jobs counts those of both.
    let mut jobs = Vec::new();
    for i in 0..4 {
        let client = if i % 2 == 0 { &mut here } else { &mut there };
        jobs.push(client.submit(&demo_images(1)));
    }
    let refused = {
        let mut payload = vec![2];
        payload.extend(images_payload(&demo_images(1)));
        here.send(8, &payload);
        serde_json::from_slice::<Value>(&here.read_blob()).unwrap()
    };
    assert!(
        refused.to_string().contains("4 of your own wait already"),
        "{refused}"
    );
    let ahead: Vec<_> = jobs
        .iter()
        .map(|job| there.status(*job)["ahead"].clone())
        .collect();
    assert_eq!(ahead, [0, 1, 2, 3].map(Value::from));
    let _workers = [
        fleet.worker(&["--only", "small"]),
        fleet.worker(&["--max-jobs", "2"]),
    ];
    for job in jobs {
        assert_eq!(here.finished(job)["state"], "done");
        assert_eq!(there.status(job)["state"], "done");
    }
    fleet.assert_consistent();
}

#[test]
fn what_needs_several_processes_says_so_for_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let e = fail(dir.path(), 2, &["worker", "--demo", "--db", "a.db"]);
    assert!(e.contains("needs a PostgreSQL database"), "{e}");
    let e = fail(
        dir.path(),
        2,
        &["serve", "--demo", "--db", "a.db", "--workers", "0"],
    );
    assert!(e.contains("needs a PostgreSQL database"), "{e}");
    run(dir.path(), &["user", "add", "ann", "p", "--db", "a.db"]);
    let e = fail(dir.path(), 1, &["status", "--db", "a.db"]);
    assert!(e.contains("vggt job list"), "{e}");
}

#[test]
fn workers_outlive_their_database() {
    let mut cluster = Cluster::durable();
    let fleet = Fleet::on(&cluster, &[]);
    let worker = fleet.worker(&[]);
    let mut ann = fleet.front.login("ann");
    let job = ann.submit(&long());
    fleet.running(&mut ann, job);
    cluster.kill();
    let away = Instant::now();
    std::thread::sleep(Duration::from_secs(2));
    cluster.start_again();
    let mut ann = wait_for("the database", || {
        let mut client = fleet.front.connect();
        (client.log_in("ann", PASSWORD)[0] == true).then_some(client)
    });
    let done = ann.finished(job);
    assert_eq!(
        done["state"],
        "done",
        "{done} after {:?}: {}",
        away.elapsed(),
        worker.log()
    );
    let next = ann.submit(&demo_images(1));
    assert_eq!(ann.finished(next)["state"], "done");
    assert_eq!(fleet.sql("SELECT count(*) FROM glb_files"), "2");
    fleet.assert_consistent();
}
