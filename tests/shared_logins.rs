//! What several servers of one PostgreSQL database tell each other about logins.

use std::{
    io::{Read, Write},
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;
use vggt::store::{LoginCount, Store, StoreSettings};

use crate::support::{
    command,
    database::{Cluster, psql},
    files::{is_bucket, out_root_of, variables_of},
    http::{connect, request},
    service::{Client, PASSWORD, Service, demo_images, wait_for},
};

const HOUR: Duration = Duration::from_secs(3600);

const ADDRESS: &str = "192.0.2.7";

/// The store as a server of this database has it.
fn open(url: &str, dir: &Path) -> Store {
    let settings = StoreSettings {
        db: url.parse().unwrap(),
        out_root: out_root_of(dir),
    };
    Store::open(&settings).unwrap()
}

/// Two stores of one database with the users ann and ben.
fn two(dir: &Path) -> (String, Store, Store) {
    let url = Cluster::get().url_of(dir);
    let store = open(&url, dir);
    store.add_user("ann", PASSWORD, false).unwrap();
    store.add_user("ben", PASSWORD, false).unwrap();
    (url.clone(), store, open(&url, dir))
}

fn count(url: &str, table: &str) -> i64 {
    let found = psql(url, &format!("SELECT count(*) FROM {table}")).unwrap();
    found.trim().parse().unwrap()
}

#[test]
fn the_last_login_of_an_address_is_known_to_all_servers_until_it_ends() {
    let dir = TempDir::new().unwrap();
    let (url, one, other) = two(dir.path());
    let (here, there) = (one.shared_logins().unwrap(), other.shared_logins().unwrap());
    let login = |name: &str| one.login(name, PASSWORD).unwrap().unwrap();
    let who = |address: &str| {
        let user = there.of(address, HOUR).unwrap();
        user.map(|user| user.username)
    };
    let ann = Some("ann".to_owned());
    assert_eq!(who(ADDRESS), None);
    here.note(ADDRESS, &login("ann"), HOUR).unwrap();
    assert_eq!((who(ADDRESS), who("192.0.2.8")), (ann.clone(), None));
    assert_eq!(there.of(ADDRESS, Duration::ZERO).unwrap(), None);
    // Another takes its place, and a failed one ends it.
    there.note(ADDRESS, &login("ben"), HOUR).unwrap();
    assert_eq!(who(ADDRESS), Some("ben".to_owned()));
    here.note(ADDRESS, &login("ann"), HOUR).unwrap();
    there.forget(ADDRESS).unwrap();
    assert_eq!(who(ADDRESS), None);
    // It ends with its time, with the password, and for good when its user is disabled or removed.
    here.note(ADDRESS, &login("ann"), Duration::ZERO).unwrap();
    assert_eq!(who(ADDRESS), None);
    here.note(ADDRESS, &login("ann"), HOUR).unwrap();
    other.set_vip("ann", true, None).unwrap();
    assert_eq!(who(ADDRESS), ann);
    other.set_password("ann", PASSWORD).unwrap();
    assert_eq!(who(ADDRESS), None);
    here.note(ADDRESS, &login("ann"), HOUR).unwrap();
    other.set_active("ann", false).unwrap();
    assert_eq!(who(ADDRESS), None);
    other.set_active("ann", true).unwrap();
    assert_eq!(who(ADDRESS), None);
    here.note(ADDRESS, &login("ann"), HOUR).unwrap();
    other.remove_user("ann").unwrap();
    assert_eq!(who(ADDRESS), None);
    // The clock is that of the database.
    here.note(ADDRESS, &login("ben"), HOUR).unwrap();
    psql(
        &url,
        "UPDATE last_logins SET logged_in_at = logged_in_at - 3600000000",
    )
    .unwrap();
    assert_eq!(who(ADDRESS), None);
}

#[test]
fn a_login_with_a_password_that_is_still_plain_leaves_no_hash_of_it() {
    let dir = TempDir::new().unwrap();
    let (url, one, _) = two(dir.path());
    let plain = format!("UPDATE users SET password_hash = '{PASSWORD}' WHERE username = 'ann'");
    psql(&url, &plain).unwrap();
    let user = one.user_by_name("ann").unwrap();
    let logins = one.shared_logins().unwrap();
    logins.note(ADDRESS, &user, HOUR).unwrap();
    assert_eq!(count(&url, "last_logins"), 0);
}

#[test]
fn counts_are_changed_by_one_server_at_a_time() {
    let dir = TempDir::new().unwrap();
    let (_, one, other) = two(dir.path());
    let keys = ["account/1".to_owned(), "address/1".to_owned()];
    let turned = [keys[1].clone(), keys[0].clone()];
    let add = |counts: &mut [Option<LoginCount>]| {
        for count in counts {
            let failed = count.map_or(0, |count| count.failed);
            *count = Some(LoginCount {
                failed: failed + 1,
                checking: 0,
                since_failed: Duration::ZERO,
                since_started: Duration::ZERO,
                wait: Duration::from_secs(8),
                keep: HOUR,
            });
        }
    };
    std::thread::scope(|scope| {
        for (store, keys) in [(&one, &keys), (&other, &turned)].repeat(3) {
            let counts = store.login_counts().unwrap();
            scope.spawn(move || {
                for _ in 0..20 {
                    counts.change(keys, &mut |counts| add(counts)).unwrap();
                }
            });
        }
    });
    let counts = other.login_counts().unwrap();
    let take = || {
        let mut found = Vec::new();
        let mut take = |counts: &mut [Option<LoginCount>]| {
            found = counts.iter_mut().map(Option::take).collect();
        };
        counts.change(&keys, &mut take).unwrap();
        found
    };
    for count in take() {
        let count = count.unwrap();
        assert_eq!((count.failed, count.checking), (120, 0));
        assert!(count.wait <= Duration::from_secs(8) && count.wait > Duration::ZERO);
        assert!(count.keep <= HOUR && count.since_failed < HOUR);
    }
    // What was taken is gone.
    assert_eq!(take(), [None, None]);
}

#[test]
fn rows_about_logins_are_few_and_those_of_an_attack_stay() {
    let dir = TempDir::new().unwrap();
    let (url, store, _) = two(dir.path());
    let now = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    let far = format!("{now} + 3600000000");
    let made_up = format!(
        "INSERT INTO login_counts SELECT 'account/' || n, 1 + n / 30500, 0, n, n, n, {far} FROM generate_series(1, 30500) n; \
         INSERT INTO login_counts SELECT 'address/' || n, 90, 0, n, n, n, n FROM generate_series(1, 900) n; \
         INSERT INTO last_logins SELECT 'new' || n, 1, '', n, {far} FROM generate_series(1, 10500) n; \
         INSERT INTO last_logins SELECT 'old' || n, 1, '', {now}, 1 FROM generate_series(1, 900) n;"
    );
    psql(&url, &made_up).unwrap();
    store.forget_old_logins().unwrap();
    assert_eq!(count(&url, "login_counts"), 30_000);
    assert_eq!(count(&url, "login_counts WHERE key = 'account/30500'"), 1);
    assert_eq!(count(&url, "last_logins"), 10_000);
    assert_eq!(count(&url, "last_logins WHERE address = 'new10500'"), 1);
}

/// A service whose rows are in this database.
fn service(dir: TempDir, url: &str, args: &[&str]) -> Service {
    Service::start_in(dir, &[&["--db", url], args].concat())
}

#[test]
fn without_its_table_logins_go_on_and_guesses_are_slow_as_before() {
    let dir = TempDir::new().unwrap();
    let (url, ..) = two(dir.path());
    let service = service(dir, &url, &["--login_attempts", "3", "--login_delay", "1"]);
    service.login("ann").close();
    psql(&url, "DROP TABLE login_counts").unwrap();
    let body = json!({"u": "ben", "p": "a guess"}).to_string();
    let mut guesses: Vec<_> = (2..6)
        .map(|i| Client::from(&format!("127.0.0.{i}"), service.address))
        .collect();
    for client in &mut guesses {
        client.send(1, body.as_bytes());
    }
    wait_for("the limit", || {
        let log = service.log();
        (log.matches("wrong name or password").count() >= 3).then_some(())
    });
    service.login("ann").close();
    let log = service.log();
    assert!(
        log.contains("failed logins are counted in this process alone"),
        "{log}"
    );
    assert_eq!(log.matches("counted in this process alone").count(), 1);
    assert_eq!(log.matches("wrong name or password").count(), 3);
}

#[test]
fn a_database_that_is_away_keeps_no_connection_waiting_and_nobody_logged_in() {
    let mut cluster = Cluster::durable();
    let dir = TempDir::new().unwrap();
    let url = cluster.url_of(dir.path());
    open(&url, dir.path())
        .add_user("ann", PASSWORD, false)
        .unwrap();
    let service = service(dir, &url, &["--session_by_address", "60"]);
    service.login("ann").close();
    assert!(service.connect().json(5, "")["files"].is_array());
    cluster.kill();
    let start = Instant::now();
    let info = service.connect().json(12, "");
    assert_eq!(info["protocol"], 2, "{info}");
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
    cluster.start_again();
    wait_for("the database", || {
        let ok = service.connect().log_in("ann", PASSWORD)[0] == true;
        ok.then_some(())
    });
    assert!(service.connect().json(5, "")["files"].is_array());
}

/// Two servers of one database and folder, with the users ann and ben.
fn servers(args: &[&str]) -> [Service; 2] {
    let dir = TempDir::new().unwrap();
    let (url, ..) = two(dir.path());
    let http = ["--http", "127.0.0.1:0"];
    let one = service(dir, &url, &[&http, args].concat());
    let other = beside(&one, &url, &[&http, args].concat());
    [one, other]
}

/// Another server of the same database and folder.
fn beside(one: &Service, url: &str, args: &[&str]) -> Service {
    let own = TempDir::new().unwrap();
    let out = one.out().display().to_string();
    let mut vggt = command(own.path());
    vggt.envs(variables_of(one.dir()));
    let out_root = ["--out_root", &out];
    let folder = if is_bucket() { &[][..] } else { &out_root };
    Service::start_with(own, vggt, &[&["--db", url], folder, args].concat())
}

fn is_out(service: &Service) -> bool {
    service.connect().json(5, "")["error"] == "ERROR_NOT_LOGGED_IN"
}

fn compared(services: &[Service]) -> usize {
    let logs = services.iter().map(Service::log);
    logs.map(|log| log.matches("wrong name or password").count())
        .sum()
}

#[test]
fn a_phone_logs_in_at_one_server_and_sends_its_images_to_another() {
    let [one, other] = servers(&["--session_by_address", "60"]);
    assert!(is_out(&one) && is_out(&other));
    one.login("ann").close();
    let (name, bytes) = other.connect().images(&demo_images(1)).glb();
    let hash = name.trim_end_matches(".glb");
    assert_eq!(one.connect().get(hash).glb().1, bytes);
    // The last login from the address counts, at both.
    other.login("ben").close();
    let files = |service: &Service| service.connect().json(5, "")["files"].clone();
    assert_eq!((files(&one), files(&other)), (json!([]), json!([])));
    // A failed login ends it, and so does another password.
    assert_eq!(one.connect().log_in("ann", "wrong"), json!([false, false]));
    assert!(is_out(&one) && is_out(&other));
    one.login("ann").close();
    assert_eq!(files(&other).as_array().unwrap().len(), 1);
    let store = open(&Cluster::get().url_of(one.dir()), one.dir());
    store.set_password("ann", "another one").unwrap();
    assert!(is_out(&one) && is_out(&other));
}

#[test]
fn guesses_at_two_servers_are_compared_no_more_often_than_at_one() {
    let services = servers(&["--login_attempts", "5", "--login_delay", "1"]);
    let body = json!({"u": "ann", "p": "a guess"}).to_string();
    let mut all = Vec::new();
    for i in 2..10 {
        for service in &services {
            for _ in 0..8 {
                all.push(Client::from(&format!("127.0.0.{i}"), service.address));
            }
        }
    }
    let start = Instant::now();
    for client in &mut all {
        client.send(1, body.as_bytes());
    }
    let answers = all.iter_mut().map(Client::try_read_blob);
    let refused = answers.filter(|answer| answer.as_ref().is_ok_and(|a| a == b"[false, false]"));
    assert_eq!(refused.count(), 2 * 8 * 8);
    // What came after the limit was reached may have had a turn of the slow lane, one each 8 s for both.
    let turns = 1 + start.elapsed().as_secs() as usize / 8;
    let slow = compared(&services).saturating_sub(5);
    assert!(slow <= turns, "{slow} in {:?}", start.elapsed());
}

#[test]
fn a_guess_at_one_server_delays_the_next_at_another_and_after_a_restart() {
    let args = ["--login_attempts", "3", "--login_delay", "1"];
    let [one, other] = servers(&args);
    let login = |password: &str| {
        let body = json!({"username": "ann", "password": password});
        request("POST", "/api/v1/sessions").json(&body)
    };
    let guess = |service: &Service| {
        let mut client = service.connect();
        assert_eq!(client.log_in("ann", "a guess"), json!([false, false]));
    };
    guess(&one);
    guess(&other);
    login("a guess")
        .send(one.http())
        .problem(401, "wrong_login");
    // The next one has to wait, at either server and port. Later is as good here as never.
    let soon = Duration::from_secs(1);
    let waits_at = |service: &Service| {
        let mut tcp = service.connect();
        tcp.send(1, json!({"u": "ann", "p": PASSWORD}).to_string().as_bytes());
        assert!(tcp.is_closed_within(soon).is_none());
        let mut http = connect(service.http());
        http.write_all(&login(PASSWORD).bytes()).unwrap();
        http.set_read_timeout(Some(soon)).unwrap();
        assert!(http.read(&mut [0]).is_err());
    };
    waits_at(&other);
    drop(other);
    let url = Cluster::get().url_of(one.dir());
    let new = beside(
        &one,
        &url,
        &[&["--http", "127.0.0.1:0"], &args[..]].concat(),
    );
    waits_at(&new);
    // Others are not affected.
    new.login("ben").close();
}
