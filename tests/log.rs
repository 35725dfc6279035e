//! The log of the service: it stops nothing, and no peer can fill a disk with it.

use std::{
    fs,
    io::{Read, Write, pipe},
    process::Stdio,
    thread,
    time::Duration,
};

use crate::support::service::{Client, PASSWORD, Service, assert_glb, demo_images, wait_for};

/// More log than any pipe or queue holds, if each were a line.
const FLOOD: usize = 3000;

/// Lines of an address without a login that are written in a minute; the test may reach into two.
const OF_AN_ADDRESS: usize = 40;

/// Sends unknown commands, which need no login, and reads the answers.
fn flood(client: &mut Client, requests: usize) {
    for _ in 0..requests / 100 {
        client
            .stream
            .write_all(&[99, 0, 0, 0, 0].repeat(100))
            .unwrap();
        for _ in 0..100 {
            assert_eq!(client.read_blob(), b"UNKNOWN_COMMAND");
        }
    }
}

/// Logins that fail, requests, a reconstruction: everything works, whatever became of the log.
fn assert_works(service: &mut Service) {
    flood(&mut service.connect(), FLOOD);
    let mut ann = service.login("ann");
    assert_glb(&ann.images(&demo_images(1)).glb().1);
    let job = ann.submit(&demo_images(2));
    assert_eq!(ann.finished(job)["state"], "done");
    wait_for("the worker to be free", || {
        (ann.json(12, "")["running"] == 0).then_some(())
    });
    assert_eq!(service.terminate(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let (unread, log) = pipe().unwrap();
    // Full from the start: every line of the service finds no room.
    let mut full = log.try_clone().unwrap();
    let filler = thread::spawn(move || while full.write_all(&[b'x'; 4096]).is_ok() {});
    thread::sleep(Duration::from_millis(50));
    assert_works(&mut Service::start_logging_to(log, &["--grace", "1"]));
    drop(unread);
    filler.join().unwrap();
}

#[test]
fn a_log_whose_reader_is_gone_stops_nothing() {
    let (gone, log) = pipe().unwrap();
    drop(gone);
    assert_works(&mut Service::start_logging_to(log, &[]));
}

#[test]
fn a_full_disk_of_the_log_stops_nothing_and_the_loss_is_told() {
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    assert_works(&mut Service::start_logging_to(full, &[]));
}

#[test]
fn a_full_log_file_goes_on_when_it_has_room_again() {
    // Lines beyond the limit of a file fail as on a full disk.
    let mut service = Service::start_with_small_files(600, &[]);
    let log = service.dir.path().join("log");
    let file = fs::OpenOptions::new().write(true).open(&log).unwrap();
    // The thread of the log has its own pace: it may come to a line only when there is room again.
    wait_for("a loss to be told", || {
        file.set_len(600 << 10).unwrap();
        flood(&mut service.connect(), 100);
        service.login("ann");
        thread::sleep(Duration::from_millis(50));
        file.set_len(0).unwrap();
        thread::sleep(Duration::from_millis(1500));
        service
            .log()
            .contains("lines of this log were lost")
            .then_some(())
    });
    service.login("ben");
    assert_eq!(service.terminate(), Some(0));
    assert!(
        service.log().contains("login by ben: ok"),
        "{}",
        service.log()
    );
}

#[test]
fn a_stranger_cannot_fill_the_log_and_users_are_still_heard() {
    let mut service = Service::start(&["--login_delay", "0"]);
    let before = service.log().len();
    let mut stranger = service.connect();
    flood(&mut stranger, 20_000);
    for _ in 0..3 {
        assert_eq!(service.connect().log_in("ann", "wrong")[0], false);
    }
    service.login("ann").json(5, "");
    assert_eq!(service.terminate(), Some(0));
    let log = service.log();
    let lines = log.matches("unknown by -").count();
    assert!((10..=OF_AN_ADDRESS + 2).contains(&lines), "{lines}\n{log}");
    assert!(log.len() - before < 16 << 10, "{} bytes", log.len());
    // The rest is counted, in one line or, at the end of a minute, two.
    let more: usize = log
        .lines()
        .filter_map(|line| line.split_once(" more like this in "))
        .filter_map(|(before, _)| before.rsplit(' ').next()?.parse::<usize>().ok())
        .sum();
    assert!(more >= 20_003 - OF_AN_ADDRESS, "{log}");
    assert!(log.contains("list by ann: ok"), "{log}");
}

#[test]
fn lines_have_a_time_unless_the_journal_adds_it() {
    let mut service = Service::start(&[]);
    service.login("ann");
    assert_eq!(service.terminate(), Some(0));
    for line in service.log().lines() {
        let time: Result<jiff::Timestamp, _> = line.split(' ').next().unwrap().parse();
        assert!(time.is_ok() && line.contains("Z "), "{line}");
    }
    let (mut read, log) = pipe().unwrap();
    let journal = {
        use std::os::unix::fs::MetadataExt;
        let meta = fs::metadata(format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&log)
        ));
        let meta = meta.unwrap();
        format!("{}:{}", meta.dev(), meta.ino())
    };
    let dir = service.kill();
    let mut vggt = crate::support::command(dir.path());
    vggt.env("JOURNAL_STREAM", journal);
    let mut service = Service::start_process(dir, vggt, Stdio::from(log), &[]);
    assert_eq!(service.terminate(), Some(0));
    drop(service);
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    assert!(
        text.starts_with(" INFO ") || text.starts_with(" WARN "),
        "{text}"
    );
}

#[test]
fn nothing_that_a_peer_sends_breaks_a_line_or_reaches_a_terminal() {
    let mut service = Service::start(&[]);
    let mut client = service.connect();
    let name = "x\n2026-01-01T00:00:00Z  INFO login by ann: ok\u{1b}[2J\u{9b}2J\u{202e}";
    client.log_in(name, PASSWORD);
    let mut ann = service.login("ann");
    ann.json(
        11,
        &format!(
            "{{\"{}\": 1}}",
            name.replace('\n', "\\n").replace('\u{1b}', "\\u001b")
        ),
    );
    ann.json(6, "{\"hash\": \"\\u001b[2J\\n\\u202e\"}");
    assert_eq!(service.terminate(), Some(0));
    let log = service.log();
    let acts = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    assert!(!log.contains(acts), "{log:?}");
    assert_eq!(log.matches("\n2026-01-01").count(), 0, "{log}");
}

#[test]
fn the_line_with_the_port_needs_no_reader() {
    let mut service = Service::start(&[]);
    // The helper has closed the pipe after the first line; a second start has nobody from the start.
    service.login("ann");
    assert_eq!(service.terminate(), Some(0));
    let dir = service.kill();
    let (gone, out) = pipe().unwrap();
    drop(gone);
    let log = fs::File::create(dir.path().join("log")).unwrap();
    let mut process = crate::support::command(dir.path())
        .args([
            "serve",
            "--demo",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--device",
            "cpu",
        ])
        .stdout(out)
        .stderr(log)
        .spawn()
        .unwrap();
    let port = wait_for("the port", || {
        let log = fs::read_to_string(dir.path().join("log")).unwrap();
        let (_, rest) = log.split_once("listening on port ")?;
        rest.split_whitespace().next()?.parse::<u16>().ok()
    });
    let mut client = Client::new(([127, 0, 0, 1], port).into());
    assert_eq!(client.log_in("ann", PASSWORD)[0], true);
    process.kill().unwrap();
    process.wait().unwrap();
}
