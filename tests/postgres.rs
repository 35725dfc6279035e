//! The service's rows in PostgreSQL: what only a server has. With `VGGT_TEST_DATABASE=postgres` the other tests run there as well.

use std::{fs, path::Path, sync::Arc};

use serde_json::{Value, json};
use tempfile::TempDir;
use vggt::store::{Database, Store, StoreError, StoreLock, StoreSettings};

use crate::support::{
    database::{Cluster, psql},
    fail,
    files::out_root_of,
    run,
    service::{PASSWORD, Service, demo_images, long_job, wait_for},
    store::{save, write_glb},
    vggt,
};

fn open(db: Database, dir: &Path) -> Store {
    let settings = StoreSettings {
        db,
        out_root: out_root_of(dir),
    };
    Store::open(&settings).unwrap()
}

fn server(dir: &Path) -> (String, Database) {
    let url = Cluster::get().url_of(dir);
    let db = url.parse().unwrap();
    (url, db)
}

/// A database of SQLite with something in many tables, and keys whose rows are gone.
fn filled(dir: &Path) -> Store {
    let store = open(dir.join("a.db").into(), dir);
    store.add_user("ann", "geheim", true).unwrap();
    store.add_user("b\u{f6}b", "geheim", false).unwrap();
    store.add_user("gone", "p", false).unwrap();
    let glb = save(&store, 1);
    let other = save(&store, 2);
    store.set_public(1, &glb.hashed_name, true).unwrap();
    store.set_meters_per_unit(&glb, Some(0.1 + 0.2)).unwrap();
    store.remember_address(1, "192.0.2.7").unwrap();
    store.remember_result(1, "key", &glb.hashed_name).unwrap();
    store.delete_glb(2, &other.hashed_name).unwrap();
    store.set_active("gone", false).unwrap();
    store.remove_user("gone").unwrap();
    store
}

#[test]
fn rows_and_keys_go_from_sqlite_to_postgresql_and_back() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    let old = filled(here);
    let users = old.users().unwrap();
    drop(old);
    let (url, db) = server(here);
    let to = ["migrate", "--from", "a.db", "--to", &url];
    let told = run(here, &to);
    assert!(
        told.contains("users  2") && told.contains("glb_files  1"),
        "{told}"
    );
    let new = open(db.clone(), here);
    assert_eq!(new.users().unwrap(), users);
    assert!(new.login("ann", "geheim").unwrap().is_some());
    let glb = new.cached_result(1, "key").unwrap().unwrap();
    assert!(glb.is_public);
    assert_eq!(new.meters_per_unit(&glb).unwrap(), Some(0.1 + 0.2));
    assert!(new.knows_address("ann", "192.0.2.7").unwrap());
    // The folder is that of the new database too, and its files are all there.
    assert_eq!(new.check(false).unwrap().problems(), 0);
    // Numbers that were given are not given again.
    assert_eq!(new.add_user("new", "p", false).unwrap().id, 4);
    assert_eq!(save(&new, 4).id, 3);
    drop(new);

    let e = fail(here, 1, &to);
    assert!(e.contains("rows in the table users already"), "{e}");
    run(here, &["migrate", "--from", &url, "--to", "b.db"]);
    let back = open(here.join("b.db").into(), here);
    assert_eq!(back.users().unwrap().len(), 3);
    assert_eq!(back.add_user("newer", "p", false).unwrap().id, 5);
}

#[test]
fn what_cannot_be_copied_is_named_and_nothing_is() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    drop(filled(here));
    let mut conn = <diesel::SqliteConnection as diesel::Connection>::establish(
        here.join("a.db").to_str().unwrap(),
    )
    .unwrap();
    // As an older program could leave it: a file of nobody.
    let orphan = "PRAGMA foreign_keys = OFF; INSERT INTO glb_files (hashed_name, original_name, file_path, user_id, file_size, \
        created_at, is_public) VALUES ('x', 'x.glb', 'out/x.glb', 77, 1, '', 0)";
    diesel::connection::SimpleConnection::batch_execute(&mut conn, orphan).unwrap();
    drop(conn);
    let (url, db) = server(here);
    let e = fail(here, 1, &["migrate", "--from", "a.db", "--to", &url]);
    assert!(
        e.contains("glb_files") && e.contains("nothing was copied"),
        "{e}"
    );
    assert!(open(db, here).users().unwrap().is_empty());
    let e = fail(here, 1, &["migrate", "--from", "none.db", "--to", &url]);
    assert!(
        e.contains("there is no database") && !here.join("none.db").exists(),
        "{e}"
    );
}

#[test]
fn services_share_a_database_and_who_repairs_it_has_it_alone() {
    let dir = TempDir::new().unwrap();
    let (url, db) = server(dir.path());
    let settings = StoreSettings {
        db: db.clone(),
        out_root: out_root_of(dir.path()),
    };
    let join = || settings.join_database(Arc::default(), || {});
    let locks = [join().unwrap(), join().unwrap()];
    let in_use =
        |lock: Result<StoreLock, StoreError>| matches!(lock, Err(StoreError::InUse { .. }));
    assert!(in_use(settings.lock_database()));
    run(dir.path(), &["user", "add", "ann", "p", "--db", &url]);
    drop(locks);
    let alone = settings.lock_database().unwrap();
    assert!(in_use(settings.lock_database()) && in_use(join()));
    drop(alone);
    let again = join();
    assert!(again.is_ok(), "{again:?}");
}

#[test]
fn stores_that_open_together_make_the_tables_once() {
    let dir = TempDir::new().unwrap();
    let (url, db) = server(dir.path());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| open(db.clone(), dir.path()));
        }
    });
    let made = psql(&url, "SELECT count(*) FROM __diesel_schema_migrations").unwrap();
    let known = fs::read_dir(crate::support::repository("migrations/postgres")).unwrap();
    assert_eq!(made.trim(), known.count().to_string());
    let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('29990101000000')";
    psql(&url, newer).unwrap();
    let e = fail(dir.path(), 1, &["user", "list", "--db", &url]);
    assert!(e.contains("newer version"), "{e}");
}

#[test]
fn a_lost_connection_costs_one_call() {
    let dir = TempDir::new().unwrap();
    let (url, db) = server(dir.path());
    let store = open(db, dir.path());
    store.add_user("ann", "p", false).unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    psql(&url, end).unwrap();
    // The pool notices, or the call fails as one that may be tried again.
    if let Err(e) = store.users() {
        assert!(e.is_passing(), "{e}");
    }
    assert_eq!(store.users().unwrap().len(), 1);
    // In the midst of a transaction: neither file nor row.
    let cut = store.save_glb(1, "images_1.glb", &mut |out| {
        psql(&url, end).map_err(std::io::Error::other)?;
        write_glb(out)
    });
    if let Err(e) = cut {
        assert!(e.is_passing(), "{e}");
    }
    assert_eq!(store.check(false).unwrap().problems(), 0);
}

#[test]
fn addresses_are_told_without_passwords_and_servers_by_their_certificates() {
    let dir = TempDir::new().unwrap();
    let cluster = Cluster::get();
    let (url, _) = server(dir.path());
    let address = url.split('?').next().unwrap();
    let with = |tls: &str| {
        let secret = address.replace("vggt@127.0.0.1", "vggt:geheim@localhost");
        let url = format!("{secret}?{tls}");
        vggt(dir.path(), &["user", "list", "--db", &url])
    };
    let root = cluster.certificate().display().to_string();
    for tls in [
        "sslmode=disable",
        "sslmode=prefer",
        "sslmode=require",
        &format!("sslmode=verify-full&sslrootcert={root}"),
    ] {
        let output = with(tls);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{tls}: {err}");
    }
    // The public authorities do not know it, nor does a file of others.
    let other = dir.path().join("other.pem");
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(&other, key.cert.pem()).unwrap();
    for tls in [
        "sslmode=verify-full".to_owned(),
        format!("sslmode=verify-full&sslrootcert={}", other.display()),
    ] {
        let output = with(&tls);
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{tls}: {err}");
        assert!(err.contains("certificate"), "{tls}: {err}");
        assert!(!err.contains("geheim"), "{err}");
    }
    // What the server says of its connections.
    let seen = psql(&url, "SHOW ssl").unwrap();
    assert_eq!(seen.trim(), "on");
}

/// A service whose rows are in a cluster of its own.
fn service(cluster: &Cluster) -> Service {
    let dir = TempDir::new().unwrap();
    let url = cluster.url_of(dir.path());
    let store = open(url.parse().unwrap(), dir.path());
    store.add_user("ann", PASSWORD, false).unwrap();
    drop(store);
    Service::start_in(dir, &["--db", &url, "--no_cache"])
}

#[test]
fn a_database_that_is_killed_loses_nothing_that_was_acknowledged() {
    let mut cluster = Cluster::durable();
    let service = service(&cluster);
    let mut ann = service.login("ann");
    let done = ann.submit(&demo_images(1));
    assert_eq!(ann.finished(done)["state"], "done");
    // One that runs and one that waits while the database goes.
    let (running, waiting) = (ann.submit(&long_job()), ann.submit(&demo_images(2)));
    cluster.kill();
    // Whoever asks is told; nothing hangs, and nobody is believed without the database.
    let answer = ann.json(9, &json!({"job": running}).to_string());
    assert!(answer.is_object(), "{answer}");
    cluster.start_again();
    for job in [running, waiting] {
        let mut ann = wait_for("the database", || {
            let mut client = service.connect();
            client
                .log_in("ann", PASSWORD)
                .get(0)
                .is_some_and(|ok| ok == &Value::Bool(true))
                .then_some(client)
        });
        assert_eq!(ann.finished(job)["state"], "done");
    }
    let url = cluster.url_of(service.dir());
    let store = open(url.parse().unwrap(), service.dir());
    assert_eq!(store.check(false).unwrap().problems(), 0);
    assert_eq!(
        psql(&url, "SELECT count(*) FROM jobs WHERE state = 'done'")
            .unwrap()
            .trim(),
        "3"
    );
    // It has the lock again.
    let settings = StoreSettings {
        db: url.parse().unwrap(),
        out_root: out_root_of(service.dir()),
    };
    wait_for("the lock of the service", || {
        settings.lock_database().is_err().then_some(())
    });
}

#[test]
fn a_server_ends_once_its_database_was_taken_by_one_that_repairs_it() {
    let mut cluster = Cluster::durable();
    let mut service = service(&cluster);
    let url = cluster.url_of(service.dir());
    let settings = StoreSettings {
        db: url.parse().unwrap(),
        out_root: out_root_of(service.dir()),
    };
    cluster.kill();
    cluster.start_again();
    // Quicker than the service.
    let _lock = wait_for("the lock", || settings.lock_database().ok());
    let code = service.process.wait().unwrap().code();
    assert_eq!(code, Some(1), "{}", service.log());
    assert!(
        service
            .log()
            .contains("another vggt process has taken the database for itself")
    );
}
