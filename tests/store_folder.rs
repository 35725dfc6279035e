//! The folder of the files: whose it is, who may look into it, and who has it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use diesel::connection::SimpleConnection;
use tempfile::TempDir;
use vggt::store::{GlbFile, Repair, Store, StoreError, StoreSettings};

use crate::support::{
    command,
    database::only_for_sqlite,
    fail,
    files::only_for_folders,
    run, send_signal,
    service::{PASSWORD, Service, demo_images, long_job, wait_for},
    store::{GLB, House, day_of, house, python_house, save, settings, write_glb},
    text,
};

const ID: &str = ".vggt_id";

/// Two databases with users and files, each bound to its folder.
fn two_pairs() -> (TempDir, [Store; 2]) {
    let dir = TempDir::new().unwrap();
    let stores = ["a", "b"].map(|name| {
        let store = Store::open(&pair(dir.path(), name, name)).unwrap();
        let id = store.add_user("ann", PASSWORD, false).unwrap().id;
        store.bind_folder().unwrap();
        save(&store, id);
        save(&store, id);
        store
    });
    (dir, stores)
}

fn pair(dir: &Path, db: &str, out: &str) -> StoreSettings {
    StoreSettings {
        db: dir.join(format!("{db}.db")).into(),
        out_root: dir.join(out).into(),
    }
}

#[test]
fn a_database_and_the_folder_of_another_are_refused_by_every_command() {
    only_for_folders!();
    let (dir, stores) = two_pairs();
    let before: Vec<_> = stores.iter().map(|s| s.list_glbs(1).unwrap()).collect();
    let here = dir.path();
    let mixed = ["--db", "a.db", "--out_root", "b"];
    for args in [
        &["serve", "--demo", "--host", "127.0.0.1", "--port", "0"][..],
        &["check"],
        &["check", "--repair", "--yes", "--accept_loss"],
        &["user", "remove", "ann", "--yes"],
        &["export", "--demo", "--save_to_db", "--user_id", "1"],
    ] {
        let e = fail(here, 1, &[args, &mixed].concat());
        assert!(
            e.contains("does not belong to") && e.contains("--adopt"),
            "{e}"
        );
    }
    let store = Store::open(&pair(here, "a", "b")).unwrap();
    for e in [
        store.save_glb(1, "x.glb", &mut write_glb).unwrap_err(),
        store.delete_glb(1, &before[0][0].hashed_name).unwrap_err(),
        store.sweep_temporary().unwrap_err(),
        store.remove_user("ann").unwrap_err(),
        store.check(true).unwrap_err(),
    ] {
        assert!(matches!(e, StoreError::OtherFolder { .. }), "{e}");
    }
    for (store, before) in stores.iter().zip(before) {
        assert_eq!(store.list_glbs(1).unwrap(), before);
        assert_eq!(store.check(false).unwrap().problems(), 0);
    }
    // A new database is not that of a folder that has one either.
    let e = fail(
        here,
        1,
        &["user", "remove", "x", "--db", "a.db", "--out_root", "b"],
    );
    assert!(e.contains("no user"), "{e}");
    Store::open(&pair(here, "new", "b")).unwrap();
    let e = fail(here, 1, &["check", "--db", "new.db", "--out_root", "b"]);
    assert!(e.contains("does not belong to"), "{e}");
}

#[test]
fn a_misspelt_folder_and_a_disk_that_is_not_mounted_cost_no_row() {
    only_for_folders!();
    let (dir, stores) = two_pairs();
    let here = dir.path();
    fs::create_dir(here.join("mountpoint")).unwrap();
    let repair = [
        "check",
        "--repair",
        "--yes",
        "--accept_loss",
        "--db",
        "a.db",
        "--out_root",
    ];
    for (out, expected) in [
        ("misspelt", "there is no folder"),
        ("mountpoint", "mounted"),
    ] {
        let e = fail(here, 1, &[&repair[..], &[out]].concat());
        assert!(e.contains(expected), "{e}");
        let e = fail(
            here,
            1,
            &[
                "user",
                "remove",
                "ann",
                "--yes",
                "--db",
                "a.db",
                "--out_root",
                out,
            ],
        );
        assert!(e.contains(expected), "{e}");
        let other = Store::open(&pair(here, "a", out)).unwrap();
        let e = other.save_glb(1, "x.glb", &mut write_glb).unwrap_err();
        assert!(e.is_passing(), "{e}");
    }
    assert!(!here.join("misspelt").exists());
    assert_eq!(fs::read_dir(here.join("mountpoint")).unwrap().count(), 0);
    assert_eq!(stores[0].list_glbs(1).unwrap().len(), 2);
    // A user without files needs no folder.
    run(here, &["user", "add", "ben", "p", "--db", "a.db"]);
    run(
        here,
        &[
            "user",
            "remove",
            "ben",
            "--db",
            "a.db",
            "--out_root",
            "misspelt",
        ],
    );
}

#[test]
fn a_folder_that_vanishes_while_it_is_used_is_not_made_anew() {
    only_for_folders!();
    let (dir, [store, _]) = two_pairs();
    let (out, away) = (dir.path().join("a"), dir.path().join("away"));
    fs::rename(&out, &away).unwrap();
    let rows = store.list_glbs(1).unwrap();
    for empty in [false, true] {
        if empty {
            fs::create_dir(&out).unwrap();
        }
        let saved = store.save_glb(1, "x.glb", &mut write_glb).unwrap_err();
        let deleted = store.delete_glb(1, &rows[0].hashed_name).unwrap_err();
        let upload = store.create_input_folders().unwrap_err();
        for e in [saved, deleted, upload] {
            assert!(e.is_passing(), "{e}");
        }
        assert_eq!(out.exists(), empty);
    }
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
    fs::remove_dir(&out).unwrap();
    fs::rename(&away, &out).unwrap();
    save(&store, 1);
    assert!(store.delete_glb(1, &rows[0].hashed_name).unwrap());
    assert_eq!(store.check(false).unwrap().problems(), 0);
}

#[test]
fn a_pair_of_an_earlier_version_gets_its_identifier_when_most_files_are_there() {
    only_for_folders!();
    only_for_sqlite!();
    let House { dir, store } = python_house();
    assert!(!dir.path().join("out").join(ID).exists());
    store.bind_folder().unwrap();
    let id = fs::read_to_string(dir.path().join("out").join(ID)).unwrap();
    assert_eq!(id.trim().len(), 32);
    // Once is enough, from wherever it is opened.
    let again = Store::open(&settings(dir.path())).unwrap();
    again.bind_folder().unwrap();
    assert_eq!(
        fs::read_to_string(dir.path().join("out").join(ID)).unwrap(),
        id
    );
    // A backup that left it out: the files prove the rest.
    fs::remove_file(dir.path().join("out").join(ID)).unwrap();
    again.bind_folder().unwrap();
    assert_eq!(
        fs::read_to_string(dir.path().join("out").join(ID)).unwrap(),
        id
    );
    // A database without rows does not take a folder with files of another.
    let other = StoreSettings {
        db: dir.path().join("typo.db").into(),
        out_root: dir.path().join("out").into(),
    };
    let e = Store::open(&other).unwrap().bind_folder().unwrap_err();
    assert!(matches!(e, StoreError::OtherFolder { .. }), "{e}");
    fs::remove_file(dir.path().join("out").join(ID)).unwrap();
    let e = Store::open(&other).unwrap().bind_folder().unwrap_err();
    assert!(matches!(e, StoreError::OtherFolder { .. }), "{e}");
}

#[test]
fn after_a_restore_a_folder_is_adopted_on_request() {
    only_for_folders!();
    let (dir, stores) = two_pairs();
    let here = dir.path();
    // The database of a backup that was made before there were identifiers.
    connect_to(&here.join("a.db"), "DELETE FROM identity");
    let args = ["--db", "a.db", "--out_root", "a"];
    fail(here, 1, &[&["check"][..], &args].concat());
    let said = run(here, &[&["check", "--adopt"][..], &args].concat());
    assert!(said.contains("2 rows, 2 files: nothing is wrong"), "{said}");
    run(here, &[&["check"][..], &args].concat());
    stores[0]
        .delete_glb(1, &stores[0].list_glbs(1).unwrap()[0].hashed_name)
        .unwrap();
    // Not while a server has it, and not what is not there.
    let lock = stores[0].lock_folder().unwrap();
    let e = fail(here, 1, &[&["check", "--adopt"][..], &args].concat());
    assert!(e.contains("another vggt serve"), "{e}");
    drop(lock);
    let e = fail(
        here,
        1,
        &["check", "--adopt", "--db", "a.db", "--out_root", "no"],
    );
    assert!(
        e.contains("there is no folder") && !here.join("no").exists(),
        "{e}"
    );
}

fn connect_to(db: &Path, sql: &str) {
    use diesel::Connection;
    let mut conn = diesel::SqliteConnection::establish(text(db)).unwrap();
    conn.batch_execute(sql).unwrap();
}

#[test]
fn a_repair_refuses_when_most_files_are_missing_and_keeps_rows_unless_told() {
    only_for_folders!();
    let House { dir, store } = house();
    store.bind_folder().unwrap();
    let rows: Vec<GlbFile> = (0..5).map(|_| save(&store, 1)).collect();
    let here = dir.path();
    let lose = |i: usize| fs::remove_file(store.glb_path(&rows[i])).unwrap();
    lose(0);
    let e = fail(here, 1, &["check", "--repair"]);
    assert!(e.contains("1 row would be removed"), "{e}");
    assert_eq!(store.list_glbs(1).unwrap().len(), 5);
    lose(1);
    lose(2);
    let orphan = here.join("out").join(day_of(&rows[0]));
    let orphan = orphan.join(format!("{}.glb", "c".repeat(64)));
    fs::write(&orphan, GLB).unwrap();
    for args in [&["check", "--repair"][..], &["check", "--repair", "--yes"]] {
        let e = fail(here, 1, args);
        assert!(e.contains("3 of 5 files are missing"), "{e}");
        assert!(e.contains("--accept-loss") && orphan.exists(), "{e}");
    }
    fail(here, 2, &["check", "--yes"]);
    fail(here, 2, &["check", "--repair", "--accept_loss"]);
    assert_eq!(store.list_glbs(1).unwrap().len(), 5);
    run(here, &["check", "--repair", "--yes", "--accept_loss"]);
    assert_eq!(store.list_glbs(1).unwrap().len(), 2);
    assert_eq!(store.check_and(Repair::No).unwrap().problems(), 0);
}

/// Starts `vggt serve` in `dir` and gives its error, as it must end at once.
fn refused(dir: &Path, db: &str, out: &str) -> String {
    let serve = ["serve", "--demo", "--host", "127.0.0.1", "--port", "0"];
    fail(
        dir,
        1,
        &[&serve[..], &["--db", db, "--out_root", out]].concat(),
    )
}

#[test]
fn a_second_server_is_refused_by_whatever_name_it_calls_the_database() {
    only_for_folders!();
    only_for_sqlite!();
    let service = Service::start(&[]);
    let mut client = service.login("ann");
    let jobs: Vec<i64> = (0..2).map(|i| client.submit(&demo_images(2 + i))).collect();
    let here = service.dir.path();
    fs::create_dir(here.join("sub")).unwrap();
    let absolute = here.join("vggt_app.db");
    #[allow(unused_mut, reason = "links are made on Unix only")]
    let mut names = vec![
        "vggt_app.db".to_owned(),
        "./sub/../vggt_app.db".to_owned(),
        text(&absolute).to_owned(),
    ];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("../vggt_app.db", here.join("sub/link.db")).unwrap();
        std::os::unix::fs::symlink(".", here.join("here")).unwrap();
        names.extend(["sub/link.db".to_owned(), "here/vggt_app.db".to_owned()]);
    }
    #[cfg(target_os = "linux")]
    {
        fs::hard_link(&absolute, here.join("sub/hard.db")).unwrap();
        names.push("sub/hard.db".to_owned());
    }
    for name in &names {
        for out in ["out", "other"] {
            let e = refused(here, name, out);
            assert!(e.contains("another vggt serve uses"), "{name}: {e}");
        }
    }
    assert!(!here.join("other").exists());
    // The other way round: another database, the same folder.
    run(here, &["user", "add", "x", "p", "--db", "second.db"]);
    let e = refused(here, "second.db", "out");
    assert!(e.contains("does not belong to"), "{e}");
    for job in jobs {
        assert_eq!(client.finished(job)["state"], "done");
    }
}

#[test]
fn a_server_waits_for_its_folder_and_loses_no_job() {
    only_for_folders!();
    let service = Service::start(&[]);
    let mut client = service.login("ann");
    let first = client.submit(&demo_images(1));
    assert_eq!(client.finished(first)["state"], "done");
    let jobs = [client.submit(&long_job()), client.submit(&demo_images(3))];
    let dir = service.kill();
    let (out, away) = (dir.path().join("out"), dir.path().join("away"));
    fs::rename(&out, &away).unwrap();
    let log = dir.path().join("log");
    let starting = std::thread::spawn(move || Service::start_in(dir, &[]));
    wait_for("the server to wait", || {
        let log = fs::read_to_string(&log).ok()?;
        log.contains("waiting for the files: there is no folder")
            .then_some(())
    });
    assert!(!out.exists());
    fs::rename(&away, &out).unwrap();
    let service = starting.join().unwrap();
    let mut client = service.login("ann");
    for job in jobs {
        assert_eq!(client.finished(job)["state"], "done");
    }
    // A folder that vanishes while it serves: what is asked for fails, and nothing is made anew.
    fs::rename(&out, &away).unwrap();
    let e = client.images(&demo_images(4)).error();
    assert!(e.contains("could not keep the upload"), "{e}");
    assert!(!out.exists());
    fs::rename(&away, &out).unwrap();
    client.images(&demo_images(4)).glb();
}

#[cfg(unix)]
#[test]
fn a_server_that_waits_stops_when_it_is_told() {
    only_for_folders!();
    let (dir, _) = two_pairs();
    fs::rename(dir.path().join("a"), dir.path().join("away")).unwrap();
    let log = fs::File::create(dir.path().join("log")).unwrap();
    let mut server = command(dir.path())
        .args(["serve", "--demo", "--host", "127.0.0.1", "--port", "0"])
        .args(["--db", "a.db", "--out_root", "a"])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    wait_for("the server to wait", || {
        let log = fs::read_to_string(dir.path().join("log")).ok()?;
        log.contains("waiting for the files").then_some(())
    });
    send_signal(server.id(), "TERM");
    assert_eq!(server.wait().unwrap().code(), Some(0));
    assert!(!dir.path().join("a").exists());
}

#[cfg(unix)]
#[test]
fn what_the_service_creates_is_for_its_user_alone() {
    only_for_folders!();
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn walk(path: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            found.push(entry.path());
            walk(&entry.path(), found);
        }
    }
    // The tests' umask lets others read: the export at the end shows it.
    let service = Service::start(&[]);
    let mut client = service.login("ann");
    client.images(&demo_images(1)).glb();
    client.submit(&long_job());
    let here = service.dir.path();
    let mut found = Vec::new();
    walk(&service.out(), &mut found);
    let beside = [
        "vggt_app.db",
        "vggt_app.db-wal",
        "vggt_app.db-shm",
        "vggt_app.db-lock",
        "out",
    ];
    found.extend(beside.iter().map(|name| here.join(name)));
    let names: Vec<String> = found.iter().map(|p| p.display().to_string()).collect();
    for expected in [".jobs/job-", ".lock", ID, ".glb", "image_00000"] {
        assert!(
            names.iter().any(|name| name.contains(expected)),
            "{names:?}"
        );
    }
    for path in &found {
        // An upload may have become a job in the meantime.
        let Ok(meta) = fs::metadata(path) else {
            continue;
        };
        assert_eq!(meta.mode() & 0o077, 0, "{}", path.display());
    }
    // What was there before is warned about, once, and left.
    let dir = service.kill();
    let out = dir.path().join("out");
    fs::set_permissions(&out, fs::Permissions::from_mode(0o755)).unwrap();
    let service = Service::start_in(dir, &[]);
    assert_eq!(fs::metadata(&out).unwrap().mode() & 0o777, 0o755);
    assert_eq!(service.log().matches("may look into").count(), 1);
    // An export is the user's own.
    let mut shell = std::process::Command::new("sh");
    shell.current_dir(service.dir.path());
    shell.args(["-c", "umask 022; exec \"$0\" export --demo --out scene.glb"]);
    let vggt = command(service.dir.path());
    assert!(
        shell
            .arg(vggt.get_program())
            .output()
            .unwrap()
            .status
            .success()
    );
    let scene = fs::metadata(service.dir.path().join("scene.glb")).unwrap();
    assert_eq!(scene.mode() & 0o777, 0o644);
}

#[cfg(unix)]
#[test]
fn links_in_place_of_its_own_files_and_folders_lead_a_server_nowhere() {
    only_for_folders!();
    only_for_sqlite!();
    use std::os::unix::fs::symlink;

    let dir = TempDir::new().unwrap();
    let here = dir.path();
    run(here, &["user", "add", "ann", "p"]);
    fs::create_dir_all(here.join("other/keep")).unwrap();
    fs::write(here.join("other/keep/f"), "x").unwrap();
    fs::write(here.join("victim"), "precious\n").unwrap();
    for (name, target) in [
        (".lock", "victim"),
        (".tmp", "other"),
        (".jobs", "other"),
        (ID, "victim"),
    ] {
        let out = here.join("out");
        let _ = fs::remove_dir_all(&out);
        fs::create_dir(&out).unwrap();
        symlink(here.join(target), out.join(name)).unwrap();
        let e = refused(here, "vggt_app.db", "out");
        assert!(e.contains(name), "{e}");
        assert_eq!(
            fs::read_to_string(here.join("victim")).unwrap(),
            "precious\n"
        );
        assert!(here.join("other/keep/f").exists());
    }
    // The folder of a day: nothing is stored through it, and nothing swept.
    let House { dir, store } = house();
    let row = save(&store, 1);
    let day = dir.path().join("out").join(day_of(&row));
    fs::rename(&day, dir.path().join("elsewhere")).unwrap();
    symlink(dir.path().join("elsewhere"), &day).unwrap();
    let e = store.save_glb(1, "x.glb", &mut write_glb).unwrap_err();
    assert!(e.to_string().contains("link"), "{e}");
    assert_eq!(
        fs::read_dir(dir.path().join("elsewhere")).unwrap().count(),
        1
    );
}

#[cfg(unix)]
#[test]
fn a_planted_link_of_the_older_name_is_not_written_through() {
    only_for_folders!();
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    fs::write(here.join("victim"), "precious\n").unwrap();
    let script = "ln -s victim .scene.glb.$$.tmp; exec \"$0\" export --demo --out scene.glb";
    let mut shell = std::process::Command::new("sh");
    shell.current_dir(here).args(["-c", script]);
    let ended = shell.arg(command(here).get_program()).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(
        fs::read_to_string(here.join("victim")).unwrap(),
        "precious\n"
    );
    assert!(!here.join("scene.glb").is_symlink());
}
