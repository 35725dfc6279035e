//! Keys that are never given twice, in new databases and in those of older programs, which lose nothing on the way.

use std::{
    collections::BTreeSet, fs, path::Path, process::Stdio, sync::Barrier, thread, time::Duration,
};

use tempfile::TempDir;
use vggt::store::Store;

use crate::support::{
    command,
    database::only_for_sqlite,
    repository,
    store::{House, ask, connect, execute, house, number, save, settings},
};

/// The schema of the older service's tables and of what hangs on them, without what the program adds.
const SCHEMA: &str = "SELECT type || ' ' || name || ' ' || replace(coalesce(sql, ''), ' AUTOINCREMENT', '') AS answer
    FROM sqlite_master WHERE tbl_name IN ('users', 'glb_files', 'models', 'all_files', 'audit')
    AND name NOT IN ('glb_files_by_user', 'glb_files_by_size', 'glb_files_by_age') ORDER BY 1";

/// Every value of the older tables.
const ROWS: &str = "SELECT quote(u.id) || quote(username) || quote(password_hash) || quote(is_vip) || quote(vip_expire_time)
    || quote(status) || quote(created_at) || quote(updated_at) AS answer FROM users u
    UNION ALL SELECT quote(id) || quote(hashed_name) || quote(original_name) || quote(file_path) || quote(user_id)
    || quote(file_size) || quote(created_at) || quote(is_public) FROM glb_files
    UNION ALL SELECT quote(id) || quote(user_id) || quote(name) || quote(file_path) FROM models ORDER BY 1";

/// A database of the Python service, changed by `sql`.
fn python(sql: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    let fixture = fs::read_to_string(repository("tests/data/store/python_service.sql")).unwrap();
    execute(dir.path(), &fixture);
    // SQLAlchemy enforces no foreign keys.
    execute(dir.path(), &format!("PRAGMA foreign_keys = OFF; {sql}"));
    dir
}

fn assert_sound(dir: &Path) {
    for table in ["users", "glb_files", "jobs"] {
        let sql = format!("SELECT sql AS answer FROM sqlite_master WHERE name = '{table}'");
        let sql = ask(dir, &sql);
        assert_eq!(sql[0].matches("AUTOINCREMENT").count(), 1, "{sql:?}");
    }
    assert_eq!(
        ask(
            dir,
            "SELECT integrity_check AS answer FROM pragma_integrity_check"
        ),
        ["ok"]
    );
}

#[test]
fn a_removed_user_and_a_removed_file_leave_their_keys_to_nobody() {
    only_for_sqlite!();
    let House { dir, store } = house();
    let mut users = BTreeSet::from([1]);
    let mut files = BTreeSet::new();
    for round in 0..4 {
        let name = format!("user {round}");
        let id = store.add_user(&name, "p", false).unwrap().id;
        assert!(users.insert(id), "{id}");
        let file = save(&store, id);
        assert!(files.insert(file.id), "{}", file.id);
        if round % 2 == 0 {
            assert!(store.delete_glb(id, &file.hashed_name).unwrap());
        }
        assert_eq!(store.remove_user(&name).unwrap(), round % 2);
        // As does another program that knows nothing of it.
        execute(
            dir.path(),
            "INSERT INTO users (username, password_hash, created_at, updated_at) VALUES ('x', 'p', '', '')",
        );
        let id = number(dir.path(), "SELECT id FROM users WHERE username = 'x'") as i32;
        assert!(users.insert(id), "{id}");
        execute(dir.path(), "DELETE FROM users WHERE username = 'x'");
    }
    assert_sound(dir.path());
}

#[test]
fn the_tables_of_the_older_service_are_changed_in_this_one_word() {
    only_for_sqlite!();
    let everything = "
        ALTER TABLE users ADD COLUMN nickname TEXT DEFAULT 'it''s (PRIMARY KEY)' COLLATE NOCASE;
        ALTER TABLE glb_files ADD COLUMN tags TEXT CHECK (length(tags) < 100);
        CREATE INDEX by_time ON glb_files (created_at DESC) WHERE is_public = 1;
        CREATE UNIQUE INDEX by_nick ON users (nickname) WHERE nickname <> 'it''s (PRIMARY KEY)';
        CREATE VIEW all_files AS SELECT u.username, g.* FROM users u JOIN glb_files g ON g.user_id = u.id;
        CREATE VIEW broken AS SELECT * FROM no_such_table;
        CREATE TABLE audit (what TEXT, at DATETIME);
        CREATE TRIGGER log_user AFTER DELETE ON users BEGIN INSERT INTO audit VALUES (old.username, '2025'); END;
        INSERT INTO glb_files VALUES (6, 'aa', 'x', 'out/x', 99, 1, NULL, NULL, 'tag');
        INSERT INTO models VALUES (2, 120, 'table', 'out/y', NULL, NULL, NULL, NULL);";
    for sql in [
        "",
        everything,
        "PRAGMA journal_mode = WAL;",
        "PRAGMA page_size = 1024; VACUUM;",
    ] {
        let dir = python(sql);
        let (schema, rows) = (ask(dir.path(), SCHEMA), ask(dir.path(), ROWS));
        let store = Store::open(&settings(dir.path())).unwrap();
        assert_eq!(ask(dir.path(), SCHEMA), schema, "{sql}");
        assert_eq!(ask(dir.path(), ROWS), rows, "{sql}");
        assert_sound(dir.path());
        // Above every key that was ever referred to.
        let next = if sql == everything { 121 } else { 8 };
        assert_eq!(store.add_user("new", "p", false).unwrap().id, next);
        assert_eq!(save(&store, next).id, if sql == everything { 7 } else { 6 });
        // Its foreign keys still hold, and its triggers fire.
        let orphan = connect(dir.path()).batch_execute(
            "PRAGMA foreign_keys = ON; INSERT INTO models VALUES (9, 999, '', '', NULL, NULL, NULL, NULL)",
        );
        assert!(orphan.is_err(), "{sql}");
        store.remove_user("new").unwrap();
        if sql == everything {
            assert_eq!(ask(dir.path(), "SELECT what AS answer FROM audit"), ["new"]);
            assert_eq!(number(dir.path(), "SELECT count(*) FROM all_files"), 1);
        }
        drop(store);
        // Opened again there is nothing to do.
        let version = number(
            dir.path(),
            "SELECT schema_version FROM pragma_schema_version",
        );
        drop(Store::open(&settings(dir.path())).unwrap());
        assert_eq!(
            number(
                dir.path(),
                "SELECT schema_version FROM pragma_schema_version"
            ),
            version
        );
    }
}

#[test]
fn every_earlier_version_of_this_program_is_brought_up_to_date() {
    only_for_sqlite!();
    let mut all: Vec<_> = fs::read_dir(repository("migrations/sqlite"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    all.sort();
    for version in 1..=all.len() {
        let dir = TempDir::new().unwrap();
        execute(
            dir.path(),
            "CREATE TABLE __diesel_schema_migrations (version VARCHAR(50) PRIMARY KEY NOT NULL,
             run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)",
        );
        for migration in &all[..version] {
            execute(
                dir.path(),
                &fs::read_to_string(migration.join("up.sql")).unwrap(),
            );
            let name = migration.file_name().unwrap().to_str().unwrap();
            let digits: String = name.split('_').next().unwrap().replace('-', "");
            execute(
                dir.path(),
                &format!("INSERT INTO __diesel_schema_migrations (version) VALUES ('{digits}')"),
            );
        }
        execute(
            dir.path(),
            "INSERT INTO users (id, username, password_hash, created_at, updated_at) VALUES (3, 'old', 'p', '', '')",
        );
        if version > 2 {
            execute(
                dir.path(),
                "PRAGMA foreign_keys = OFF; INSERT INTO results VALUES (40, 'k', 50, ''), (41, 'k', 2147483647, '')",
            );
        }
        let store = Store::open(&settings(dir.path())).unwrap();
        assert_sound(dir.path());
        let id = store.add_user("new", "p", false).unwrap().id;
        assert_eq!(id, if version > 2 { 42 } else { 4 });
        assert_eq!(save(&store, id).id, if version > 2 { 51 } else { 1 });
    }
}

#[test]
fn a_key_that_the_table_does_not_give_is_left_alone() {
    only_for_sqlite!();
    let dir = TempDir::new().unwrap();
    execute(
        dir.path(),
        "CREATE TABLE users (id BIGINT NOT NULL PRIMARY KEY, username TEXT, password_hash TEXT, is_vip BOOLEAN,
         vip_expire_time DATETIME, status INTEGER, created_at DATETIME, updated_at DATETIME);
         INSERT INTO users VALUES (5, 'ann', 'p', 0, NULL, 1, NULL, NULL);",
    );
    let store = Store::open(&settings(dir.path())).unwrap();
    assert_eq!(store.users().unwrap()[0].id, 5);
    assert_eq!(save(&store, 5).id, 1);
}

/// How many tables of the two have the word.
fn words(dir: &Path) -> usize {
    let sql = "SELECT group_concat(sql) AS answer FROM sqlite_master WHERE name IN ('users', 'glb_files')";
    ask(dir, sql)[0].matches("AUTOINCREMENT").count()
}

#[test]
fn a_full_disk_leaves_the_old_or_the_new() {
    only_for_sqlite!();
    let mut changed = BTreeSet::new();
    // In units of 512 bytes, from not even a page to more than is written in all.
    for limit in [1, 16, 40, 64, 80, 96, 104, 112, 128, 160, 192, 400] {
        let dir = python("");
        let before = ask(dir.path(), ROWS);
        let vggt = command(dir.path());
        let mut shell = std::process::Command::new("sh");
        let script = format!("trap '' XFSZ; ulimit -f {limit}; exec \"$0\" user list");
        shell.current_dir(dir.path()).args(["-c", &script]);
        let ended = shell.arg(vggt.get_program()).output().unwrap();
        assert_eq!(ask(dir.path(), ROWS), before);
        let words = words(dir.path());
        assert!(words == 0 || words == 2, "{words}");
        assert_eq!(ended.status.success(), words == 2, "{limit}: {ended:?}");
        changed.insert(words);
        drop(Store::open(&settings(dir.path())).unwrap());
        assert_sound(dir.path());
    }
    assert_eq!(changed.len(), 2);
}

#[test]
fn programs_that_start_together_change_the_tables_once() {
    only_for_sqlite!();
    let dir = python("");
    let barrier = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                barrier.wait();
                let list = command(dir.path()).args(["user", "list"]).output().unwrap();
                assert!(list.status.success(), "{list:?}");
            });
        }
    });
    assert_sound(dir.path());
    let sequences = "SELECT name || ' ' || seq AS answer FROM sqlite_sequence ORDER BY 1";
    assert_eq!(ask(dir.path(), sequences), ["glb_files 5", "users 7"]);
}

#[test]
fn a_program_killed_at_any_moment_leaves_the_old_or_the_new() {
    only_for_sqlite!();
    let mut changed = 0;
    for pause_ms in [0, 2, 4, 6, 8, 10, 13, 16, 20, 30] {
        let dir = python("");
        let before = ask(dir.path(), ROWS);
        let mut list = command(dir.path())
            .args(["user", "list"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(pause_ms));
        list.kill().unwrap();
        list.wait().unwrap();
        assert_eq!(ask(dir.path(), ROWS), before);
        let words = words(dir.path());
        assert!(words == 0 || words == 2, "{words}");
        changed += words / 2;
        drop(Store::open(&settings(dir.path())).unwrap());
        assert_sound(dir.path());
    }
    println!("{changed} of 10 were changed before the kill");
}
