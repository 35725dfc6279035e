//! A store whose files are in an S3 bucket: a file and its row appear together, whatever ends the process that makes them, and every
//! process finds what the others have put there.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use diesel::{Connection, SqliteConnection, connection::SimpleConnection};
use serde_json::json;
use tempfile::TempDir;
use vggt::store::{
    Bucket, BucketLimits, BucketSettings, OutRoot, Repair, Store, StoreError, StoreSettings,
};

use crate::{
    fleet::{Fleet, long},
    support::{
        bucket::{PATIENT, S3, variables},
        bucket_proxy::{Action, Answer, Proxy},
        command,
        database::only_for_sqlite,
        fail,
        files::{bucket_of, bucket_variables_of, only_for_folders, out_of_bucket, scratch_of},
        http::request,
        send_signal,
        service::{Client, Service, assert_glb, demo_images, wait_for},
        store::{GLB, write_glb},
        text,
    },
};

/// A store of SQLite whose files are in a bucket.
struct Remote {
    dir: TempDir,
    store: Store,
}

fn open(dir: &Path, db: &str, out_root: OutRoot) -> Store {
    let settings = StoreSettings {
        db: dir.join(db).into(),
        out_root,
    };
    Store::open(&settings).unwrap()
}

impl Remote {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = open(dir.path(), "vggt_app.db", bucket_of(dir.path()));
        store.add_user("ann", "p", false).unwrap();
        store.bind_folder().unwrap();
        Self { dir, store }
    }

    fn vggt(&self, args: &[&str]) -> String {
        let mut command = command(self.dir.path());
        command
            .envs(bucket_variables_of(self.dir.path()))
            .env("VGGT_DB", "vggt_app.db")
            .args(args);
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(!err.contains("panicked"), "{err}");
        told + &err
    }
}

/// The keys of objects as the server keeps them.
fn objects(bucket: &Path) -> Vec<String> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => below(&path, found),
                false => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    below(bucket, &mut found);
    let keys = found.iter().map(|path| path.strip_prefix(bucket).unwrap());
    let mut keys: Vec<String> = keys.map(|key| key.to_str().unwrap().to_owned()).collect();
    keys.retain(|key| key != ".vggt_id");
    keys.sort();
    keys
}

fn execute(dir: &Path, sql: &str) {
    let path = dir.join("vggt_app.db");
    let mut conn = SqliteConnection::establish(text(&path)).unwrap();
    conn.batch_execute(sql).unwrap();
}

fn key_of(file_path: &str) -> String {
    file_path.strip_prefix("out/").unwrap().to_owned()
}

#[test]
fn a_result_is_an_object_with_a_row_and_goes_with_it() {
    let Remote { dir, store } = &Remote::new();
    let row = store.save_glb(1, "a.glb", &mut write_glb).unwrap();
    let out = out_of_bucket(dir.path());
    assert_eq!(objects(&out), [key_of(&row.file_path)]);
    let (file, len) = store.open_glb(&row).unwrap();
    assert_eq!((file.len(), len), (GLB.len() as u64, GLB.len() as u32));
    assert_eq!(file.read_all().unwrap(), GLB);
    let at = store.location_of(&row);
    assert_eq!(
        at.to_str().unwrap(),
        format!("s3://out/{}", key_of(&row.file_path))
    );
    // Nothing stays on this machine.
    let scratch = objects(&scratch_of(dir.path()));
    assert!(
        !scratch.iter().any(|name| name.ends_with("glb")),
        "{scratch:?}"
    );

    // One that cannot be written, of nobody, and of a job that is over.
    let cut = &mut |out: &mut dyn vggt::store::WriteSeek| {
        out.write_all(GLB)?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    };
    assert!(store.save_glb(1, "b.glb", cut).unwrap_err().is_disk_full());
    store.save_glb(7, "b.glb", &mut write_glb).unwrap_err();
    let origin = vggt::store::GlbOrigin {
        user_id: 1,
        original_name: "b.glb",
        job: Some(99.into()),
        input_key: None,
    };
    let e = store.save_result(&origin, &mut write_glb, &mut |_| Ok(None));
    assert!(matches!(e, Err(StoreError::JobOver(99))), "{e:?}");
    assert_eq!(objects(&out), [key_of(&row.file_path)]);
    assert_eq!(store.check(false).unwrap().problems(), 0);

    // Other bytes of the same length are not taken for it.
    let path = out.join(key_of(&row.file_path));
    fs::write(&path, [&GLB[..11], b"x"].concat()).unwrap();
    let e = store.open_glb(&row).unwrap().0.read_all().unwrap_err();
    assert!(e.to_string().contains("digest"), "{e}");

    assert!(store.delete_glb(1, &row.hashed_name).unwrap());
    assert_eq!(objects(&out), Vec::<String>::new());
    assert!(store.open_glb(&row).is_err());
}

#[test]
fn an_export_into_a_bucket_says_where_it_is_and_names_no_viewer_for_it() {
    let remote = Remote::new();
    let told = remote.vggt(&["export", "--demo", "--save-to-db", "--user-id", "1"]);
    let row = remote.store.list_glbs(1).unwrap().pop().unwrap();
    let at = format!("path: s3://out/{}", key_of(&row.file_path));
    assert!(told.contains(&at), "{told}");
    assert!(!told.contains("to look at it"), "{told}");
}

#[test]
fn a_bucket_belongs_to_one_database() {
    let remote = Remote::new();
    remote.store.save_glb(1, "a.glb", &mut write_glb).unwrap();
    let dir = remote.dir.path();
    let other = open(dir, "other.db", bucket_of(dir));
    other.add_user("ann", "p", false).unwrap();
    let e = other.bind_folder().unwrap_err();
    assert!(matches!(e, StoreError::OtherFolder { .. }), "{e}");
    assert!(e.to_string().contains("s3://out"), "{e}");
    other.save_glb(1, "a.glb", &mut write_glb).unwrap_err();
    // Another process with the same database finds it its own.
    let again = open(dir, "vggt_app.db", bucket_of(dir));
    again.bind_folder().unwrap();
    assert_eq!(again.list_glbs(1).unwrap().len(), 1);
    // One that has files and no identifier is nobody's for the taking.
    fs::remove_file(out_of_bucket(dir).join(".vggt_id")).unwrap();
    let e = other.bind_folder().unwrap_err();
    assert!(matches!(e, StoreError::OtherFolder { .. }), "{e}");
    open(dir, "vggt_app.db", bucket_of(dir))
        .bind_folder()
        .unwrap();
}

#[test]
fn a_check_compares_rows_with_objects_and_repairs_both_ways() {
    let remote = Remote::new();
    let Remote { dir, store } = &remote;
    let rows: Vec<_> = (0..6)
        .map(|_| store.save_glb(1, "a.glb", &mut write_glb).unwrap())
        .collect();
    let out = out_of_bucket(dir.path());
    let path = |i: usize| out.join(key_of(&rows[i].file_path));
    let orphan = path(0).with_file_name(format!("{}.glb", "a".repeat(64)));
    let spool = path(0).with_file_name(format!("{}.spool", "b".repeat(64)));
    fs::write(&orphan, GLB).unwrap();
    fs::create_dir(&spool).unwrap();
    fs::write(spool.join("000000"), "pack").unwrap();
    fs::write(out.join("notes.txt"), "of somebody").unwrap();
    // Of a process that is gone.
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let dead = format!(".jobs/job-{}-4194305-abcdef-xyz", host.trim());
    fs::create_dir_all(out.join(&dead)).unwrap();
    fs::write(out.join(&dead).join("image_00000"), "picture").unwrap();
    fs::remove_file(path(1)).unwrap();
    fs::write(path(2), &GLB[..9]).unwrap();
    let report = store.check(false).unwrap();
    assert_eq!((report.rows, report.files), (6, 6), "{report:?}");
    assert_eq!(report.missing, [rows[1].clone()]);
    assert_eq!(report.damaged, [rows[2].clone()]);
    assert_eq!(report.unclaimed.len(), 1, "{report:?}");
    assert_eq!(report.temporary.len(), 2, "{report:?}");
    let told = remote.vggt(&["check"]);
    for part in [
        "row without a file: s3://out/",
        "not a whole GLB: s3://out/",
        "file without a row: s3://out/",
        &format!("half-written file: s3://out/{dead}/"),
        "5 wrong",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }

    let kept = store.check_and(Repair::Files).unwrap();
    assert_eq!((kept.kept, kept.repaired), (2, false));
    assert!(
        out.join(".unclaimed")
            .join(orphan.file_name().unwrap())
            .exists()
    );
    assert!(!orphan.exists() && !out.join(&dead).join("image_00000").exists());
    assert!(out.join("notes.txt").exists());
    let repaired = store.check(true).unwrap();
    assert!(repaired.repaired, "{repaired:?}");
    assert_eq!(store.list_glbs(1).unwrap().len(), 4);
    assert_eq!(store.check(false).unwrap().problems(), 0);
    // Most of them gone is no repair.
    for i in [0, 3, 4] {
        fs::remove_file(path(i)).unwrap();
    }
    let e = store.check(true).unwrap_err();
    assert!(
        matches!(e, StoreError::MostMissing { missing: 3, .. }),
        "{e}"
    );
}

#[test]
fn a_bucket_that_fails_leaves_neither_object_nor_row() {
    let s3 = S3::start();
    let dir = TempDir::new().unwrap();
    let proxy = Proxy::start(s3.address(), |request| {
        let is_glb = request.target.contains(".glb");
        match (is_glb, request.method.as_str()) {
            (true, "PUT") => Action::Say(Answer::error("503 Slow Down", "SlowDown")),
            _ => Action::Pass,
        }
    });
    let mut settings = BucketSettings::from_variables(variables(proxy.address()));
    settings.limits = BucketLimits {
        total: Duration::from_secs(1),
        ..PATIENT
    };
    let bucket = Bucket::with(&"s3://scenes/a".parse().unwrap(), &settings).unwrap();
    let scratch = dir.path().join("scratch");
    let store = open(dir.path(), "a.db", OutRoot::Bucket { bucket, scratch });
    store.add_user("ann", "p", false).unwrap();
    store.bind_folder().unwrap();
    let e = store.save_glb(1, "a.glb", &mut write_glb).unwrap_err();
    assert!(e.is_passing(), "{e}");
    assert_eq!(store.list_glbs(1).unwrap(), []);
    assert_eq!(objects(&s3.folder()), ["a/.vggt_id"]);
    // Once it is well again.
    drop(proxy);
    let direct = OutRoot::Bucket {
        bucket: s3.bucket("a"),
        scratch: dir.path().join("scratch"),
    };
    let store = open(dir.path(), "a.db", direct);
    let row = store.save_glb(1, "a.glb", &mut write_glb).unwrap();
    assert_eq!(store.open_glb(&row).unwrap().0.read_all().unwrap(), GLB);
    assert_eq!(store.check(false).unwrap().problems(), 0);
}

#[test]
fn a_server_waits_for_its_bucket_and_stops_meanwhile_when_it_is_told() {
    let s3 = S3::start();
    let is_away = Arc::new(AtomicBool::new(true));
    let away = is_away.clone();
    let proxy = Proxy::start(s3.address(), move |_| match away.load(Relaxed) {
        true => Action::Say(Answer::error(
            "503 Service Unavailable",
            "ServiceUnavailable",
        )),
        false => Action::Pass,
    });
    let dir = TempDir::new().unwrap();
    let log = || fs::read_to_string(dir.path().join("log")).unwrap();
    let start = || {
        command(dir.path())
            .envs(variables(proxy.address()))
            .args([
                "serve",
                "--demo",
                "--host",
                "127.0.0.1",
                "--port",
                "0",
                "--db",
                "a.db",
            ])
            .args(["--out-root", "s3://scenes/a", "--scratch", "scratch"])
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap()
    };
    let stop = |mut server: Child| {
        send_signal(server.id(), "TERM");
        assert_eq!(server.wait().unwrap().code(), Some(0), "{}", log());
    };
    let waits = "waiting for the files: \"s3://scenes/a\" does not answer";
    let server = start();
    wait_for("the server to wait", || log().contains(waits).then_some(()));
    stop(server);
    assert_eq!(objects(&s3.folder()), Vec::<String>::new());
    let server = start();
    wait_for("the server to wait", || log().contains(waits).then_some(()));
    is_away.store(false, Relaxed);
    wait_for("the server to listen", || {
        log().contains("listening on port").then_some(())
    });
    assert!(log().contains("the files are there"), "{}", log());
    stop(server);
}

#[test]
fn an_object_whose_process_was_killed_before_its_row_is_removed() {
    let remote = Remote::new();
    let Remote { dir, store } = &remote;
    let row = store.save_glb(1, "a.glb", &mut write_glb).unwrap();
    let noted = |since: &str, process: &str| {
        let path = format!("out/2026-11-30/{}.glb", "c".repeat(64));
        let sql = format!(
            "INSERT INTO removed_files (file_path, since, process) VALUES ('{path}', '{since}', '{process}')"
        );
        execute(dir.path(), &sql);
        let object = out_of_bucket(dir.path()).join(key_of(&path));
        fs::create_dir_all(object.parent().unwrap()).unwrap();
        fs::write(&object, GLB).unwrap();
        object
    };
    let now = jiff::Timestamp::now().to_string();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let host = host.trim();
    // It lives: a process of this machine that does, and one of another.
    let alive = format!("{host}-{}-abcdef", std::process::id());
    let object = noted(&now, &alive);
    assert_eq!(store.check(false).unwrap().problems(), 0);
    store.sweep_temporary().unwrap();
    assert!(object.exists());
    execute(dir.path(), "DELETE FROM removed_files");
    // It was killed.
    let dead = format!("{host}-4194305-abcdef");
    let object = noted(&now, &dead);
    let report = store.check(false).unwrap();
    assert_eq!(
        (report.temporary.len(), report.problems()),
        (1, 1),
        "{report:?}"
    );
    store.sweep_temporary().unwrap();
    assert!(!object.exists());
    assert_eq!(store.check(false).unwrap().problems(), 0);
    assert_eq!(store.list_glbs(1).unwrap(), [row]);
}

#[test]
fn two_front_ends_and_a_worker_share_nothing_but_database_and_bucket() {
    let fleet = Fleet::in_bucket(&["--http", "127.0.0.1:0"]);
    let other = fleet.another_front(&["--http", "127.0.0.1:0"]);
    let worker = fleet.worker(&["--save-progress-every", "1"]);
    let token = fleet.front.token("ann");
    // A file whose parts go to one and the other.
    let image = demo_images(1)[0];
    let made = request("POST", "/api/v1/jobs").bearer(&token);
    let made = made.json(&json!({"options": {}})).send(fleet.front.http());
    let id = made.expect(201)["id"].as_i64().unwrap();
    let tus = |method: &str, path: &str| {
        let request = request(method, path).bearer(&token);
        request.header("Tus-Resumable", "1.0.0")
    };
    let announced = tus("POST", &format!("/api/v1/jobs/{id}/uploads"))
        .header("Upload-Length", &image.len().to_string())
        .body(b"")
        .send(other.http());
    announced.expect(201);
    let url = announced.header("location").unwrap().to_owned();
    let mut offset = 0;
    for (n, part) in image.chunks(image.len().div_ceil(5)).enumerate() {
        let at = [fleet.front.http(), other.http()][n % 2];
        let sent = tus("PATCH", &url)
            .header("Content-Type", "application/offset+octet-stream")
            .header("Upload-Offset", &offset.to_string())
            .body(part)
            .send(at);
        sent.expect(204);
        offset += part.len();
        // The same again does not count.
        let again = tus("PATCH", &url)
            .header("Content-Type", "application/offset+octet-stream")
            .header("Upload-Offset", &(offset - part.len()).to_string())
            .body(part)
            .send(at);
        assert_eq!(again.status, 409);
    }
    let start = request("POST", &format!("/api/v1/jobs/{id}/start")).bearer(&token);
    start.body(b"").send(other.http()).expect(200);
    let done = fleet.front.finished_job(&token, id);
    assert_eq!(done["state"], "done", "{done}");
    let glb = |at, job: i64| {
        let path = format!("/api/v1/jobs/{job}/artifacts/glb");
        request("GET", &path).bearer(&token).send(at)
    };
    let bytes = glb(fleet.front.http(), id).body;
    assert_glb(&bytes);
    assert_eq!(glb(other.http(), id).body, bytes);
    // In ranges.
    let path = format!("/api/v1/jobs/{id}/artifacts/glb");
    let part = request("GET", &path)
        .bearer(&token)
        .header("Range", "bytes=100-1099")
        .send(other.http());
    assert_eq!((part.status, &part.body[..]), (206, &bytes[100..1100]));
    // What is made of what is kept, and a picture; and the scene once more, without the network.
    for made in ["ply", "colmap.zip"] {
        let path = format!("/api/v1/jobs/{id}/artifacts/{made}");
        let answer = request("GET", &path).bearer(&token).send(other.http());
        assert_eq!(answer.status, 200, "{made}");
    }
    let again = request("POST", &format!("/api/v1/jobs/{id}/rerun"));
    let again = again.bearer(&token).json(&json!({"conf_thres": 80.0}));
    let again = again.send(other.http()).expect(201)["id"].as_i64().unwrap();
    let done = fleet.front.finished_job(&token, again);
    assert_eq!(done["state"], "done", "{done}");
    assert_ne!(glb(fleet.front.http(), again).body, bytes);
    // Of a job that runs there is a preview at both.
    let options = json!({"attention": "anchors", "anchors": 4});
    let mut ann = fleet.front.login("ann");
    ann.json(11, &options.to_string());
    let job = ann.submit(&long());
    let preview = |at| {
        let path = format!("/api/v1/jobs/{job}/artifacts/preview.glb");
        let answer = request("GET", &path).bearer(&token).send(at);
        (answer.status == 200).then_some(answer.body)
    };
    let here = wait_for("a preview", || preview(fleet.front.http()));
    assert_glb(&here);
    assert_eq!(preview(other.http()).as_ref(), Some(&here));
    assert_eq!(ann.finished(job)["state"], "done", "{}", worker.log());
    // All of it goes.
    for job in [id, again, job] {
        let path = format!("/api/v1/jobs/{job}");
        let removed = request("DELETE", &path).bearer(&token).send(other.http());
        assert_eq!(removed.status, 204);
    }
    fleet.assert_consistent();
    assert_eq!(objects(&fleet.out()), Vec::<String>::new());
}

#[test]
fn another_worker_goes_on_with_what_the_bucket_has_of_a_job_to_the_same_bytes() {
    let fleet = Fleet::in_bucket(&[]);
    let submit = |client: &mut Client| {
        let options = json!({"attention": "anchors", "anchors": 4});
        client.json(11, &options.to_string());
        client.submit(&demo_images(8).repeat(20))
    };
    let mut ann = fleet.front.login("ann");
    let first = fleet.worker(&["--save-progress-every", "1"]);
    let undisturbed = submit(&mut ann);
    let undisturbed = ann.finished(undisturbed);
    let hash = undisturbed["hash"]
        .as_str()
        .unwrap_or_else(|| panic!("{undisturbed}"));
    let expected = ann.get(hash).glb().1;

    let job = submit(&mut ann);
    let dir = fleet.sql(&format!("SELECT dir FROM jobs WHERE id = {job}"));
    let folder = fleet.out().join(".jobs").join(dir);
    let packs = || -> Vec<String> {
        let found = objects(&folder);
        let is_pack = |key: &String| key.starts_with("spool-");
        found.into_iter().filter(is_pack).collect()
    };
    wait_for("two packs", || (packs().len() >= 2).then_some(()));
    first.kill();
    let second = fleet.worker(&["--save-progress-every", "1"]);
    let done = ann.finished(job);
    assert_eq!(done["state"], "done", "{done}");
    let bytes = ann.get(done["hash"].as_str().unwrap()).glb().1;
    assert!(bytes == expected, "{}", second.log());
    assert!(second.log().contains("going on with"), "{}", second.log());
    fleet.assert_consistent();
}

#[test]
fn rows_and_files_move_from_a_folder_into_a_bucket() {
    only_for_sqlite!();
    only_for_folders!();
    let mut service = Service::start_http(&[]);
    let token = service.token("ann");
    let done = service.submit_http(&token, &demo_images(2));
    let done = service.finished_job(&token, done);
    let path = format!("/api/v1/jobs/{}/artifacts/glb", done["id"]);
    let glb = request("GET", &path)
        .bearer(&token)
        .send(service.http())
        .body;
    // Half of a file of a job that was not started.
    let image = demo_images(1)[0];
    let draft = request("POST", "/api/v1/jobs").bearer(&token);
    let draft = draft.json(&json!({"options": {}})).send(service.http());
    let draft = draft.expect(201)["id"].as_i64().unwrap();
    let tus = |method: &str, path: &str| {
        let request = request(method, path).bearer(&token);
        request.header("Tus-Resumable", "1.0.0")
    };
    let append = |url: &str, offset: usize, part: &[u8], at| {
        let part = tus("PATCH", url)
            .header("Content-Type", "application/offset+octet-stream")
            .header("Upload-Offset", &offset.to_string())
            .body(part);
        part.send(at).expect(204);
    };
    let announced = tus("POST", &format!("/api/v1/jobs/{draft}/uploads"))
        .header("Upload-Length", &image.len().to_string())
        .body(b"")
        .send(service.http());
    let url = announced.header("location").unwrap().to_owned();
    append(&url, 0, &image[..1000], service.http());
    assert_eq!(service.terminate(), Some(0));

    let to = TempDir::new().unwrap();
    let call = |db: &str| {
        let mut command = command(service.dir());
        command.envs(bucket_variables_of(to.path()));
        command.args(["migrate", "--from", "vggt_app.db", "--to", db]);
        command.args(["--files-from", "out", "--files-to", "s3://out"]);
        let output = command.output().unwrap();
        let told = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(told).unwrap())
    };
    // The first database has rows already: only the files are copied.
    let full = to.path().join("full.db");
    let store = open(to.path(), "full.db", "none".into());
    store.add_user("somebody", "p", false).unwrap();
    drop(store);
    let (code, told) = call(text(&full));
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("there are rows in the table users"), "{told}");
    let (code, told) = call(text(&to.path().join("vggt_app.db")));
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains("1 results (1 were there, 0 are missing)"),
        "{told}"
    );

    let mut vggt = command(to.path());
    vggt.envs(bucket_variables_of(to.path()));
    let moved = Service::start_with(to, vggt, &["--http", "127.0.0.1:0"]);
    let got = request("GET", &path).bearer(&token).send(moved.http());
    assert_eq!(got.body, glb);
    let ply = path.replace("glb", "ply");
    let made = request("GET", &ply).bearer(&token).send(moved.http());
    assert_eq!(made.status, 200);
    append(&url, 1000, &image[1000..], moved.http());
    let start = request("POST", &format!("/api/v1/jobs/{draft}/start")).bearer(&token);
    start.body(b"").send(moved.http()).expect(200);
    let done = moved.finished_job(&token, draft);
    assert_eq!(done["state"], "done", "{done}");
    let report = open(moved.dir(), "vggt_app.db", bucket_of(moved.dir()))
        .check(false)
        .unwrap();
    assert_eq!((report.files, report.problems()), (2, 0), "{report:?}");
}

#[test]
fn what_leads_to_no_bucket_is_said() {
    let dir = TempDir::new().unwrap();
    let e = fail(dir.path(), 2, &["check", "--out-root", "s3://"]);
    assert!(e.contains("invalid address of a bucket"), "{e}");
    let e = fail(dir.path(), 2, &["check", "--out-root", "s3://a@b/c"]);
    assert!(e.contains("AWS_ACCESS_KEY_ID"), "{e}");
    let serve = |variables: &[(&str, &str)]| -> String {
        let mut command = command(dir.path());
        command.args([
            "serve",
            "--demo",
            "--port",
            "0",
            "--out-root",
            "s3://nobody/here",
        ]);
        command.env("VGGT_SCRATCH", dir.path().join("scratch"));
        command.envs(variables.iter().copied());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let s3 = S3::start();
    let variables = variables(s3.address());
    let variables: Vec<(&str, &str)> = variables.iter().map(|(a, b)| (&**a, &**b)).collect();
    let e = serve(&variables);
    assert!(e.contains("there is no bucket \"nobody\""), "{e}");
    let other: Vec<_> = variables
        .iter()
        .map(|(name, value)| match *name {
            "AWS_SECRET_ACCESS_KEY" => (*name, "wrong"),
            _ => (*name, *value),
        })
        .collect();
    let e = serve(&other);
    assert!(e.contains("access denied"), "{e}");
}
