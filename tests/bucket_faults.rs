//! An S3 server that misbehaves: each fault ends in the right bytes or in an error in time, with nothing half written on either side.

use std::{
    collections::HashMap,
    fs,
    io::{Read, Write},
    path::Path,
    time::{Duration, Instant},
};

use vggt::store::{Bucket, BucketError, BucketLimits, BucketObject};

use crate::{
    bucket::{bytes, digest, names},
    support::{
        bucket::{PATIENT, S3, bucket_at},
        bucket_proxy::{Action, Answer, Proxy, Request},
    },
};

const MIB: usize = 1 << 20;

/// Makes what is done to a request.
type Fault = fn() -> Action;

/// For tests that wait until an operation is given up.
const HASTY: BucketLimits = BucketLimits {
    silence: Duration::from_millis(400),
    total: Duration::from_secs(2),
    slowest: 8 << 20,
    ..PATIENT
};

/// For tests that wait for silence, and in which what comes after it has to succeed on a machine that is busy.
const ALERT: BucketLimits = BucketLimits {
    silence: Duration::from_secs(2),
    total: Duration::from_secs(6),
    slowest: 8 << 20,
    ..PATIENT
};

/// How long an operation with these limits may take at most: its attempts, one that began in the last moment, the look at what there is,
/// and a machine that is busy with other tests.
const BOUND: Duration = Duration::from_secs(30);

/// Does something to the first requests of a kind, and nothing to the others.
fn first(
    times: usize,
    is_meant: impl Fn(&Request) -> bool + Send + 'static,
    action: impl Fn() -> Action + Send + 'static,
) -> impl FnMut(&Request) -> Action + Send + 'static {
    let mut done = 0;
    move |request| {
        if done < times && is_meant(request) {
            done += 1;
            return action();
        }
        Action::Pass
    }
}

fn bucket(proxy: &Proxy, limits: BucketLimits) -> Bucket {
    bucket_at(proxy.address(), "a", limits)
}

/// Fails in time with an error of a kind.
fn fails<T>(operation: impl FnOnce() -> Result<T, BucketError>) -> BucketError {
    let start = Instant::now();
    let e = operation().err().unwrap();
    assert!(start.elapsed() < BOUND, "{:?}: {e}", start.elapsed());
    let text = e.to_string();
    assert!(text.contains("s3://scenes/a"), "{text}");
    e
}

fn is_unavailable(e: &BucketError) -> bool {
    matches!(e, BucketError::Unavailable { .. }) && e.is_passing()
}

fn is_damaged(e: &BucketError) -> bool {
    matches!(e, BucketError::Damaged { .. }) && !e.is_passing()
}

/// Stores a file in parts, fetches it, and compares.
fn goes_through(bucket: &Bucket, length: usize) {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let stored = bytes(length);
    fs::write(&from, &stored).unwrap();
    let object = bucket.put_file("b", &from).unwrap();
    assert_eq!(object.sha256, digest(&stored));
    assert_eq!(bucket.get_file("b", &to).unwrap(), object);
    assert!(fs::read(&to).unwrap() == stored);
    assert_eq!(names(dir.path()), ["from", "to"]);
}

#[test]
fn every_request_is_tried_again_after_a_fault_that_passes() {
    let faults: [(&str, Fault); 7] = [
        ("503", || {
            Action::Say(Answer::error("503 Slow Down", "SlowDown"))
        }),
        ("500", || {
            Action::Say(Answer::error("500 Oops", "InternalError"))
        }),
        ("429", || {
            Action::Say(Answer::error("429 Too Many Requests", ""))
        }),
        ("502", || {
            Action::Say(Answer::new(
                "502 Bad Gateway",
                &["content-type: text/html"],
                "<html>",
            ))
        }),
        ("refused", || Action::Refuse),
        ("lost", || Action::Lose),
        ("cut off", || Action::Cut(0)),
    ];
    for (name, fault) in faults {
        let s3 = S3::start();
        // Each request twice, but not what the crate cannot tell from a success.
        let mut times = HashMap::<Request, usize>::new();
        let proxy = Proxy::start(s3.address(), move |request| {
            let time = times.entry(request.clone()).or_default();
            *time += 1;
            let has_body = request.is_get() || request.target.contains("list-type");
            match *time <= 2 && (has_body || name != "cut off") {
                true => fault(),
                false => Action::Pass,
            }
        });
        let bucket = bucket(&proxy, PATIENT);
        goes_through(&bucket, 9 * MIB);
        bucket.put("c", bytes(10)).unwrap();
        bucket.copy("c", "d").unwrap();
        assert!(!bucket.exists("none").unwrap());
        let found: Vec<_> = bucket.list("").map(|entry| entry.unwrap().key).collect();
        assert_eq!(found, ["b", "c", "d"], "{name}");
        bucket.delete("c").unwrap();
        assert_eq!(bucket.delete_prefix("d").unwrap(), 1);
        assert_eq!(names(&s3.folder().join("a")), ["b"], "{name}");
        // An upload whose first answer was lost is one that nobody knows the name of: a rule of the bucket's lifecycle removes it.
        assert!(
            name == "lost" || s3.unfinished().is_empty(),
            "{name}: {:?}",
            s3.unfinished()
        );
    }
}

#[test]
fn a_server_that_stays_away_is_told_as_passing() {
    let s3 = S3::start();
    let (dir, object) = with_object(&s3, 1000);
    let to = dir.path().join("to");
    let actions: [(&str, Fault); 3] = [
        ("answers 503", || {
            Action::Say(Answer::error("503 Slow Down", "SlowDown"))
        }),
        ("lost the connection", || Action::Refuse),
        ("did not answer", || Action::Stall),
    ];
    for (word, action) in actions {
        let proxy = Proxy::start(s3.address(), move |_| action());
        let bucket = bucket(&proxy, HASTY);
        for e in [
            fails(|| bucket.check()),
            fails(|| bucket.head("b")),
            fails(|| bucket.put("c", bytes(10))),
            fails(|| bucket.get_object(&object, &to)),
            fails(|| bucket.list("").next().unwrap()),
            fails(|| bucket.delete("b")),
        ] {
            assert!(is_unavailable(&e) && e.to_string().contains(word), "{e}");
        }
    }
    // Nobody listens.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let e = fails(|| bucket_at(closed, "a", HASTY).check());
    assert!(
        is_unavailable(&e) && e.to_string().contains("cannot connect to 127.0.0.1:"),
        "{e}"
    );
    assert_eq!(names(dir.path()), Vec::<String>::new());
    assert_eq!(names(&s3.folder().join("a")), ["b"]);
}

/// A bucket with an object `a/b`, and an empty folder.
fn with_object(s3: &S3, length: usize) -> (tempfile::TempDir, BucketObject) {
    let object = s3.bucket("a").put("b", bytes(length)).unwrap();
    (tempfile::tempdir().unwrap(), object)
}

fn fetches(bucket: &Bucket, dir: &Path, length: usize) {
    let to = dir.join("to");
    bucket.get_file("b", &to).unwrap();
    assert!(fs::read(&to).unwrap() == bytes(length));
    fs::remove_file(to).unwrap();
    let object = bucket.head("b").unwrap();
    let mut read = Vec::new();
    let range = 10..object.length - 10;
    bucket
        .read(&object, range)
        .unwrap()
        .read_to_end(&mut read)
        .unwrap();
    assert!(read == bytes(length)[10..length - 10]);
}

#[test]
fn a_body_that_ends_early_is_read_on_where_it_ended() {
    let s3 = S3::start();
    let (dir, _) = with_object(&s3, MIB);
    let proxy = Proxy::start(s3.address(), {
        let mut cuts = [5, 0, 100_000, 300_000].into_iter();
        move |request| match request.is_get().then(|| cuts.next()).flatten() {
            Some(count) => Action::Cut(count),
            None => Action::Pass,
        }
    });
    fetches(&bucket(&proxy, PATIENT), dir.path(), MIB);
    let ranges: Vec<_> = proxy
        .seen()
        .into_iter()
        .filter_map(|request| request.range)
        .collect();
    let starts: Vec<_> = ranges
        .iter()
        .map(|range| range.split('-').next().unwrap())
        .collect();
    assert_eq!(
        starts,
        [
            "bytes=0",
            "bytes=5",
            "bytes=5",
            "bytes=100005",
            "bytes=400005",
            "bytes=10"
        ]
    );
}

#[test]
fn a_body_that_always_ends_early_is_given_up_in_time() {
    let s3 = S3::start();
    let (dir, object) = with_object(&s3, 20 * MIB);
    let actions: [Fault; 4] = [
        || Action::Cut(100),
        || Action::Cut(0),
        || Action::StallAfter(100),
        || Action::Drip(Duration::from_millis(50)),
    ];
    for action in actions {
        let proxy = Proxy::start(s3.address(), move |request| match request.is_get() {
            true => action(),
            false => Action::Pass,
        });
        let bucket = bucket(&proxy, HASTY);
        let e = fails(|| bucket.get_file("b", &dir.path().join("to")));
        assert!(is_unavailable(&e), "{e}");
        let e = fails(|| {
            let mut reader = bucket.read(&object, 0..object.length)?;
            while let Some(piece) = reader.next_piece() {
                piece?;
            }
            Ok(())
        });
        assert!(is_unavailable(&e), "{e}");
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }
}

#[test]
fn silence_counts_as_a_lost_connection() {
    let s3 = S3::start();
    let (dir, _) = with_object(&s3, MIB);
    let limits = BucketLimits {
        total: PATIENT.total,
        ..ALERT
    };
    let actions: [Fault; 3] = [
        || Action::Stall,
        || Action::StallAfter(0),
        || Action::StallAfter(70_000),
    ];
    for action in actions {
        let proxy = Proxy::start(s3.address(), first(1, Request::is_get, action));
        fetches(&bucket(&proxy, limits), dir.path(), MIB);
    }
    let proxy = Proxy::start(s3.address(), first(1, Request::is_part, || Action::Stall));
    goes_through(&bucket(&proxy, limits), 9 * MIB);
}

#[test]
fn a_reader_that_takes_its_time_does_not_count_as_silence() {
    let s3 = S3::start();
    let (_dir, object) = with_object(&s3, 24 * MIB);
    let bucket = bucket_at(s3.address(), "a", ALERT);
    let mut reader = bucket.read(&object, 0..object.length).unwrap();
    let mut read = vec![0; MIB];
    reader.read_exact(&mut read).unwrap();
    // Longer than all that the server would be given.
    std::thread::sleep(ALERT.total + Duration::from_secs(4));
    reader.read_to_end(&mut read).unwrap();
    assert!(read == bytes(24 * MIB));
}

/// Replaces the body of an answer, or a part of one, by that of another object.
fn of_another(mut answer: Answer, other: &[u8]) -> Answer {
    answer.body = other[..answer.body.len()].to_vec();
    answer
}

#[test]
fn bytes_of_another_object_are_never_a_file() {
    let s3 = S3::start();
    let (dir, _) = with_object(&s3, MIB);
    let mut other = bytes(MIB);
    other[MIB / 2] ^= 1;
    let swapped = move || {
        let other = other.clone();
        Action::Edit(Box::new(move |answer| of_another(answer, &other)))
    };
    let proxy = Proxy::start(s3.address(), first(1, Request::is_get, swapped.clone()));
    let to = dir.path().join("to");
    bucket(&proxy, PATIENT).get_file("b", &to).unwrap();
    assert!(fs::read(&to).unwrap() == bytes(MIB));
    fs::remove_file(&to).unwrap();

    let proxy = Proxy::start(s3.address(), first(usize::MAX, Request::is_get, swapped));
    let e = fails(|| bucket(&proxy, PATIENT).get_file("b", &to));
    assert!(is_damaged(&e) && e.to_string().contains("digest"), "{e}");
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

#[test]
fn an_answer_about_another_object_is_refused_before_its_bytes() {
    let s3 = S3::start();
    let (dir, object) = with_object(&s3, 1000);
    for length in [1000, 2000] {
        let mut other = bytes(length);
        other[0] ^= 1;
        s3.bucket("a").put("c", other).unwrap();
        // The whole answer is that about the other one, as from a cache that mixes up its entries.
        let mut heard = None;
        let proxy = Proxy::start(s3.address(), move |request| {
            if !request.is_get() {
                return Action::Pass;
            }
            let (sender, receiver) = std::sync::mpsc::channel();
            match heard.replace(receiver) {
                None => Action::Edit(Box::new(move |answer| {
                    sender.send(answer.clone()).unwrap();
                    answer
                })),
                Some(first) => {
                    let answer: Answer = first.recv().unwrap();
                    sender.send(answer.clone()).unwrap();
                    Action::Say(answer)
                }
            }
        });
        let bucket = bucket(&proxy, PATIENT);
        let to = dir.path().join("to");
        bucket.get_file("c", &to).unwrap();
        fs::remove_file(&to).unwrap();
        let mut read = Vec::new();
        let e = bucket
            .read(&object, 0..1000)
            .unwrap()
            .read_to_end(&mut read)
            .unwrap_err();
        assert!(
            read.is_empty() && e.to_string().contains("s3://scenes/a/b"),
            "{e}"
        );
        let e = fails(|| bucket.get_file("b", &to));
        assert!(!e.is_passing(), "{e}");
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }
}

#[test]
fn etags_are_not_believed() {
    let s3 = S3::start();
    let lies = |answer: Answer| answer.set("etag", "\"00000000000000000000000000000000\"");
    let proxy = Proxy::start(s3.address(), move |request| match request.is_part() {
        true => Action::Pass,
        false => Action::Edit(Box::new(lies)),
    });
    goes_through(&bucket(&proxy, PATIENT), 9 * MIB);
    goes_through(&bucket(&proxy, PATIENT), MIB);

    // The ETags of parts name them: the server itself refuses the wrong ones.
    let proxy = Proxy::start(s3.address(), move |request| match request.is_part() {
        true => Action::Edit(Box::new(lies)),
        false => Action::Pass,
    });
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    fs::write(&from, bytes(9 * MIB + 1)).unwrap();
    let stored = bucket(&proxy, PATIENT).put_file("c", &from);
    match stored {
        Ok(object) => assert_eq!(
            s3.bucket("a")
                .get_file("c", &dir.path().join("to"))
                .unwrap(),
            object
        ),
        Err(e) => {
            assert!(matches!(e, BucketError::Refused { .. }), "{e}");
            assert!(s3.bucket("a").head("c").unwrap_err().is_not_found());
        }
    }
    assert_eq!(s3.unfinished(), Vec::<String>::new());
}

#[test]
fn an_upload_that_fails_leaves_nothing() {
    let s3 = S3::start();
    let (dir, _) = with_object(&s3, 10);
    let from = dir.path().join("from");
    fs::write(&from, bytes(32 * MIB + 1)).unwrap();
    let limits = BucketLimits {
        total: HASTY.total,
        ..PATIENT
    };
    let actions: [(&str, Fault); 2] = [
        ("denied", || {
            Action::Say(Answer::error("403 Forbidden", "AccessDenied"))
        }),
        ("lost the connection", || Action::Refuse),
    ];
    for (word, action) in actions {
        for part in ["partNumber=1&", "partNumber=5&"] {
            let is_it = move |request: &Request| request.target.contains(part);
            let proxy = Proxy::start(s3.address(), first(usize::MAX, is_it, action));
            let e = fails(|| bucket(&proxy, limits).put_file("b", &from));
            assert!(e.to_string().contains(word), "{e}");
            assert_eq!(s3.unfinished(), Vec::<String>::new(), "{word} {part}");
        }
        let proxy = Proxy::start(
            s3.address(),
            first(usize::MAX, Request::is_complete, action),
        );
        let e = fails(|| bucket(&proxy, limits).put_file("b", &from));
        assert!(e.to_string().contains(word), "{e}");
        assert_eq!(s3.unfinished(), Vec::<String>::new(), "{word}");
    }
    // The older object of that name is what it was.
    let bucket = s3.bucket("a");
    bucket.get_file("b", &dir.path().join("to")).unwrap();
    assert_eq!(fs::read(dir.path().join("to")).unwrap(), bytes(10));
}

#[test]
fn an_upload_whose_last_answer_is_lost_is_found_to_be_there() {
    let s3 = S3::start();
    for times in [1, usize::MAX] {
        let proxy = Proxy::start(
            s3.address(),
            first(times, Request::is_complete, || Action::Lose),
        );
        goes_through(&bucket(&proxy, ALERT), 9 * MIB);
        assert_eq!(s3.unfinished(), Vec::<String>::new());
    }
}

#[test]
fn an_object_that_arrived_as_another_is_no_success() {
    let s3 = S3::start();
    let is_head = |request: &Request| request.method == "HEAD";
    let lies: [fn(Answer) -> Answer; 3] = [
        |answer| answer.set("content-length", "9"),
        |answer| answer.set("x-amz-meta-vggt-sha256", &"0".repeat(64)),
        |answer| answer.set("x-amz-meta-vggt-sha256", "none"),
    ];
    for lie in lies {
        let edited = move || Action::Edit(Box::new(lie));
        let proxy = Proxy::start(s3.address(), first(usize::MAX, is_head, edited));
        let e = fails(|| bucket(&proxy, PATIENT).put("b", bytes(10)));
        assert!(is_damaged(&e), "{e}");
    }
}

#[test]
fn a_file_that_changes_while_it_is_stored_is_not_stored() {
    let s3 = S3::start();
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    let changes: [fn(&Path); 3] = [
        |path| {
            fs::OpenOptions::new()
                .append(true)
                .open(path)
                .unwrap()
                .write_all(b"x")
                .unwrap()
        },
        |path| {
            fs::OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(9 << 20)
                .unwrap()
        },
        |path| {
            let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.write_all(b"x").unwrap();
        },
    ];
    for change in changes {
        fs::write(&from, bytes(20 * MIB)).unwrap();
        let path = from.clone();
        // After its digest was taken, and before its first part is read.
        let proxy = Proxy::start(s3.address(), move |request| {
            if request.target.contains("?uploads") {
                change(&path);
            }
            Action::Pass
        });
        let e = fails(|| bucket(&proxy, PATIENT).put_file("b", &from));
        assert!(matches!(e, BucketError::Changed { .. }), "{e}");
        assert_eq!(s3.unfinished(), Vec::<String>::new());
        assert!(!s3.folder().join("a").exists());
    }
}

#[test]
fn lists_that_lead_elsewhere_remove_nothing() {
    let s3 = S3::start();
    let (_dir, _) = with_object(&s3, 10);
    let page = |keys: &[&str], token: &str| {
        let object = |key: &&str| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2026-11-30T12:00:00.000Z</LastModified>\
                 <ETag>\"0\"</ETag><Size>10</Size></Contents>"
            )
        };
        let objects: String = keys.iter().map(object).collect();
        let next = match token {
            "" => String::new(),
            token => format!("<NextContinuationToken>{token}</NextContinuationToken>"),
        };
        let text = format!("<ListBucketResult>{objects}{next}</ListBucketResult>");
        Answer::new("200 OK", &["content-type: application/xml"], &text)
    };
    let is_list = |request: &Request| request.target.contains("list-type");
    for (answer, word) in [
        (page(&["a/x/1", "other/secret"], ""), "other/secret"),
        (page(&["a/xx/1", "a/b"], ""), "a/xx/1"),
        (page(&[], "again"), "same page"),
        (page(&["a/x/../b"], ""), "a/x/../b"),
        (
            Answer::new("200 OK", &[], "<html>hello</html>"),
            "missing field",
        ),
    ] {
        let said = answer.clone();
        let proxy = Proxy::start(
            s3.address(),
            first(usize::MAX, is_list, move || Action::Say(said.clone())),
        );
        let e = fails(|| bucket(&proxy, HASTY).delete_prefix("x/"));
        assert!(!e.is_passing(), "{word}: {e}");
        assert!(
            proxy.seen().iter().all(|request| request.method == "GET"),
            "{word}: {e}"
        );
    }
    assert!(s3.bucket("a").exists("b").unwrap());
}
