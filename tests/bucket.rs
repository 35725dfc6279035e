//! Files in an S3 bucket: what is stored comes back, whole, from a real server.

use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use vggt::store::{Bucket, BucketError, BucketObject, BucketSettings, BucketUrl};

use crate::support::{
    bucket::{ACCESS_KEY, BUCKET, PATIENT, S3, SECRET_KEY, bucket_at, variables},
    bucket_proxy::{Action, Answer, Proxy},
};

const MIB: usize = 1 << 20;

/// Bytes that differ at every place of a part and between parts.
pub(crate) fn bytes(count: usize) -> Vec<u8> {
    let mut state = count as u64 + 1;
    let mut next = || {
        // xorshift
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..count.div_ceil(8))
        .flat_map(|_| next().to_le_bytes())
        .take(count)
        .collect()
}

pub(crate) fn digest(bytes: &[u8]) -> Option<[u8; 32]> {
    Some(Sha256::digest(bytes).into())
}

/// The names in a folder.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn list(bucket: &Bucket, prefix: &str) -> Vec<String> {
    bucket
        .list(prefix)
        .map(|entry| entry.unwrap().key)
        .collect()
}

fn with(bucket: &str, all: &[(&str, &str)]) -> Result<Bucket, BucketError> {
    let url: BucketUrl = bucket.parse().unwrap();
    let all = all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
    let mut settings = BucketSettings::from_variables(all);
    settings.limits = PATIENT;
    Bucket::with(&url, &settings)
}

#[test]
fn files_of_every_length_come_back_as_they_were() {
    let s3 = S3::start();
    let bucket = s3.bucket("out/of/vggt");
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    for length in [0, 1, 1000, 8 * MIB, 8 * MIB + 1, 20 * MIB] {
        let stored = bytes(length);
        fs::write(&from, &stored).unwrap();
        let key = format!("lengths/{length}.glb");
        let expected = BucketObject {
            key: key.clone(),
            length: length as u64,
            sha256: digest(&stored),
        };
        assert_eq!(bucket.put_file(&key, &from).unwrap(), expected);
        assert_eq!(bucket.head(&key).unwrap(), expected);
        assert_eq!(bucket.get_file(&key, &to).unwrap(), expected);
        assert!(fs::read(&to).unwrap() == stored, "{length}");
        assert_eq!(
            fs::metadata(&to).unwrap().permissions().mode() & 0o777,
            0o600
        );
        // Below the prefix, as other programs see it.
        let file = s3.folder().join("out/of/vggt").join(&key);
        assert!(fs::read(file).unwrap() == stored, "{length}");
    }
    assert_eq!(s3.unfinished(), Vec::<String>::new());
    assert_eq!(names(dir.path()), ["from", "to"]);
}

#[test]
fn an_object_replaces_an_older_one_and_a_file_an_older_file() {
    let s3 = S3::start();
    let bucket = s3.bucket("");
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("to");
    for stored in [bytes(100), bytes(50), bytes(9 * MIB)] {
        let from = dir.path().join("from");
        fs::write(&from, &stored).unwrap();
        bucket.put_file("a", &from).unwrap();
        bucket.get_file("a", &to).unwrap();
        assert!(fs::read(&to).unwrap() == stored);
    }
}

#[test]
fn keys_of_every_kind_are_kept() {
    let s3 = S3::start();
    let bucket = s3.bucket("a prefix/ü+%41");
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("to");
    let keys = [
        "plain",
        "with space",
        "pl+us",
        "per%20cent",
        "per%cent",
        "ampersand&equals=question?hash#",
        "tilde~",
        "quotes'\"",
        "less<more>",
        "brackets[]{}()",
        "back\\slash",
        "colon:at@semi;comma,",
        "dollar$star*caret^pipe|tick`",
        "ünïcödé/日本/🎥",
        ".hidden/..also/...",
        "2026-11-30/0123456789abcdef.glb",
    ];
    for key in keys {
        bucket.put(key, key.into()).unwrap();
    }
    let found: BTreeSet<_> = list(&bucket, "").into_iter().collect();
    assert_eq!(found, keys.map(str::to_owned).into());
    for key in keys {
        assert!(bucket.exists(key).unwrap(), "{key}");
        bucket.get_file(key, &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), key);
    }
    assert_eq!(bucket.copy("per%20cent", "co py+%20").unwrap().length, 10);
    bucket.delete("per%20cent").unwrap();
    assert!(!bucket.exists("per%20cent").unwrap());
    assert!(bucket.exists("with space").unwrap());
    bucket.delete_all(keys.map(str::to_owned).into()).unwrap();
    assert_eq!(list(&bucket, ""), ["co py+%20"]);
}

#[test]
fn keys_that_lead_elsewhere_are_refused_before_anything_is_sent() {
    let bucket = bucket_at("127.0.0.1:9".parse().unwrap(), "a", PATIENT);
    for key in ["", "/", "../b", "a//b", "a/", "a\nb"] {
        let e = bucket.put(key, Vec::new()).unwrap_err();
        assert!(matches!(e, BucketError::BadKey { .. }), "{key:?}: {e}");
        assert!(!e.is_passing());
    }
    assert!(matches!(
        bucket.delete_prefix(""),
        Err(BucketError::BadKey { .. })
    ));
}

#[test]
fn ranges_are_read_and_streamed() {
    let s3 = S3::start();
    let bucket = s3.bucket("a");
    let stored = bytes(3 * MIB);
    let object = bucket.put("b", stored.clone()).unwrap();
    let all = stored.len() as u64;
    for range in [
        0..all,
        0..1,
        1..2,
        999..MIB as u64 + 7,
        all - 1..all,
        5..5,
        all..all,
    ] {
        let mut read = Vec::new();
        let mut reader = bucket.read(&object, range.clone()).unwrap();
        reader.read_to_end(&mut read).unwrap();
        assert!(
            read == stored[range.start as usize..range.end as usize],
            "{range:?}"
        );
        let stream = bucket.read(&object, range.clone()).unwrap();
        let pieces = pollster::block_on(stream.map(Result::unwrap).collect::<Vec<_>>());
        assert!(pieces.concat() == read, "{range:?}");
    }
    for (start, end) in [(0, all + 1), (all + 1, all + 2), (2, 1)] {
        let e = bucket.read(&object, start..end).unwrap_err();
        assert!(matches!(e, BucketError::BadRange { .. }), "{e}");
    }
    // One that is dropped halfway.
    let mut reader = bucket.read(&object, 0..all).unwrap();
    reader.read_exact(&mut [0; 10]).unwrap();
    drop(reader);
    assert_eq!(bucket.head("b").unwrap(), object);
}

#[test]
fn lists_and_removals_have_many_pages_and_stay_within_their_prefix() {
    let s3 = S3::start();
    let bucket = s3.bucket("a");
    let write = |key: String| {
        let path = s3.folder().join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    };
    for i in 0..2345 {
        write(format!("a/jobs/1/image_{i:05}"));
    }
    for key in [
        "a/jobs/10/image",
        "a/jobs/2",
        "ab/jobs/1/image",
        "jobs/1/image",
    ] {
        write(key.to_owned());
    }
    let found = list(&bucket, "jobs/1/");
    assert_eq!(found.len(), 2345);
    assert_eq!(found[2344], "jobs/1/image_02344");
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 2345);
    let entry = bucket.list("jobs/2").next().unwrap().unwrap();
    assert_eq!((entry.key.as_str(), entry.length), ("jobs/2", 1));
    let age = entry
        .modified
        .duration_until(jiff::Timestamp::now())
        .as_secs();
    assert!((-1..300).contains(&age), "{age}");
    assert_eq!(list(&bucket, "none/"), Vec::<String>::new());

    assert_eq!(bucket.delete_prefix("jobs/1/").unwrap(), 2345);
    assert_eq!(bucket.delete_prefix("jobs/1/").unwrap(), 0);
    assert_eq!(list(&bucket, ""), ["jobs/10/image", "jobs/2"]);
    assert!(s3.folder().join("ab/jobs/1/image").exists());
    assert!(s3.folder().join("jobs/1/image").exists());
}

#[test]
fn copies_are_the_same_object() {
    let s3 = S3::start();
    let bucket = s3.bucket("a");
    let object = bucket.put("b", bytes(1000)).unwrap();
    let copy = bucket.copy("b", "c/d").unwrap();
    assert_eq!(
        (copy.key.as_str(), copy.length, copy.sha256),
        ("c/d", object.length, object.sha256)
    );
    assert_eq!(bucket.head("c/d").unwrap(), copy);
    assert!(bucket.copy("none", "c/d").unwrap_err().is_not_found());
}

#[test]
fn an_object_of_another_program_has_no_digest_until_it_is_fetched() {
    let s3 = S3::start();
    let bucket = s3.bucket("");
    fs::write(s3.folder().join("b"), "bytes").unwrap();
    assert_eq!(bucket.head("b").unwrap().sha256, None);
    let dir = tempfile::tempdir().unwrap();
    let fetched = bucket.get_file("b", &dir.path().join("b")).unwrap();
    assert_eq!(fetched.sha256, digest(b"bytes"));
    // One whose digest is in a row is compared with that.
    let mut expected = fetched.clone();
    expected.sha256 = digest(b"other");
    let e = bucket
        .get_object(&expected, &dir.path().join("c"))
        .unwrap_err();
    assert!(matches!(e, BucketError::Damaged { .. }), "{e}");
    assert_eq!(names(dir.path()), ["b"]);
}

#[test]
fn an_object_that_was_changed_in_the_bucket_is_never_a_file() {
    let s3 = S3::start();
    let bucket = s3.bucket("");
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("to");
    fs::write(&to, "older").unwrap();
    let object = bucket.put("b", bytes(1000)).unwrap();
    let file = s3.folder().join("b");
    let mut changed = bytes(1000);
    changed[500] ^= 1;
    for wrong in [changed, bytes(1000)[..999].into(), Vec::new()] {
        fs::write(&file, wrong).unwrap();
        let errors = [
            bucket.get_file("b", &to).unwrap_err(),
            bucket.get_object(&object, &to).unwrap_err(),
        ];
        for e in errors {
            assert!(matches!(e, BucketError::Damaged { .. }), "{e}");
            assert!(
                !e.is_passing() && e.to_string().contains("s3://scenes/b"),
                "{e}"
            );
        }
        assert_eq!(fs::read_to_string(&to).unwrap(), "older");
        assert_eq!(names(dir.path()), ["to"]);
    }
}

#[test]
fn a_missing_bucket_is_told_from_a_missing_object() {
    let s3 = S3::start();
    let here = s3.bucket("a");
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("to");
    here.check().unwrap();
    for e in [
        here.head("none").unwrap_err(),
        s3.bucket("a").head("none").unwrap_err(),
        here.get_file("none", &to).unwrap_err(),
        here.copy("none", "b").unwrap_err(),
    ] {
        assert!(e.is_not_found() && !e.is_passing(), "{e}");
        assert!(e.to_string().contains("s3://scenes/a/none"), "{e}");
    }
    assert!(!here.exists("none").unwrap());
    here.delete("none").unwrap();

    let all = s3.variables();
    let all: Vec<_> = all.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let gone = || with("s3://no-such-bucket/a", &all).unwrap();
    for e in [
        gone().check().unwrap_err(),
        gone().head("b").unwrap_err(),
        gone().exists("b").unwrap_err(),
        gone().get_file("b", &to).unwrap_err(),
        gone().list("").next().unwrap().unwrap_err(),
        gone().delete_prefix("b/").unwrap_err(),
    ] {
        assert!(
            matches!(e, BucketError::NoBucket { .. }) && !e.is_passing(),
            "{e}"
        );
        assert!(
            e.to_string()
                .contains("no bucket \"no-such-bucket\" at 127.0.0.1:"),
            "{e}"
        );
    }
    // This server would make the folder of the bucket.
    let proxy = Proxy::start(s3.address(), |_| {
        Action::Say(Answer::error("404 Not Found", "NoSuchBucket"))
    });
    let e = bucket_at(proxy.address(), "a", PATIENT)
        .put("b", bytes(10))
        .unwrap_err();
    assert!(matches!(e, BucketError::NoBucket { .. }), "{e}");
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

#[test]
fn wrong_credentials_are_told_at_once_and_without_them() {
    let s3 = S3::start();
    let endpoint = format!("http://{}", s3.address());
    for (key, secret) in [(ACCESS_KEY, "wrong-s3cret"), ("BOB", SECRET_KEY)] {
        let variables = [
            ("AWS_ENDPOINT_URL_S3", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", key),
            ("AWS_SECRET_ACCESS_KEY", secret),
        ];
        let bucket = with("s3://scenes", &variables).unwrap();
        let start = Instant::now();
        for e in [
            bucket.check().unwrap_err(),
            bucket.head("b").unwrap_err(),
            bucket.put("b", bytes(10)).unwrap_err(),
            bucket.delete("b").unwrap_err(),
        ] {
            assert!(
                matches!(e, BucketError::Denied { .. }) && !e.is_passing(),
                "{e}"
            );
            assert!(
                !format!("{e} {e:?} {bucket:?}").contains(secret),
                "{e:?} {bucket:?}"
            );
        }
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn settings_that_do_not_fit_together_say_how_to_mend_them() {
    for (variables, word) in [
        (vec![("AWS_ACCESS_KEY_ID", "ANN")], "SecretAccessKey"),
        (
            vec![("AWS_ENDPOINT_URL", "127.0.0.1:9000")],
            "http://HOST:PORT",
        ),
        (
            vec![("AWS_ENDPOINT_URL", "http://ann:s3cret@127.0.0.1:9000")],
            "http://HOST:PORT",
        ),
        (
            vec![("AWS_ENDPOINT_URL", "ftp://127.0.0.1")],
            "http://HOST:PORT",
        ),
        (vec![("AWS_CA_BUNDLE", "/no/such.pem")], "/no/such.pem"),
        (vec![("AWS_CA_BUNDLE", "/dev/null")], "no certificate"),
    ] {
        let e = with("s3://scenes/a", &variables).unwrap_err();
        let text = e.to_string();
        assert!(
            matches!(e, BucketError::Settings { .. }) && !e.is_passing(),
            "{e}"
        );
        let plain = |text: &str| text.replace([' ', '_'], "").to_lowercase();
        assert!(plain(&text).contains(&plain(word)), "{variables:?}: {text}");
        assert!(
            text.contains("s3://scenes/a") && !text.contains("s3cret"),
            "{text}"
        );
    }
}

#[test]
fn what_leaves_this_machine_needs_tls_unless_somebody_says_otherwise() {
    // Reserved for documentation; nothing is sent there.
    let mut variables = vec![
        ("AWS_ENDPOINT_URL", "http://192.0.2.1:9000"),
        ("AWS_ACCESS_KEY_ID", "ANN"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
    ];
    let e = with("s3://scenes", &variables)
        .unwrap()
        .check()
        .unwrap_err();
    assert!(matches!(e, BucketError::Refused { .. }), "{e}");
    assert!(e.to_string().contains("AWS_ALLOW_HTTP=true"), "{e}");
    variables.push(("AWS_ALLOW_HTTP", "maybe"));
    let e = with("s3://scenes", &variables).unwrap_err();
    assert!(e.to_string().contains("AWS_ALLOW_HTTP"), "{e}");
}

#[test]
fn tls_is_believed_with_the_right_authority_alone() {
    let s3 = S3::start_tls();
    let endpoint = format!("https://localhost:{}", s3.address().port());
    let mut variables = vec![
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
    ];
    let start = Instant::now();
    let e = with("s3://scenes", &variables)
        .unwrap()
        .check()
        .unwrap_err();
    assert!(
        matches!(e, BucketError::Refused { .. }) && !e.is_passing(),
        "{e}"
    );
    assert!(e.to_string().contains("certificate"), "{e}");
    assert!(start.elapsed() < Duration::from_secs(10));
    let roots = s3.certificate().to_str().unwrap();
    variables.push(("AWS_CA_BUNDLE", roots));
    let bucket = with("s3://scenes", &variables).unwrap();
    let stored = bytes(100_000);
    let object = bucket.put("b", stored.clone()).unwrap();
    let mut read = Vec::new();
    bucket
        .read(&object, 0..object.length)
        .unwrap()
        .read_to_end(&mut read)
        .unwrap();
    assert!(read == stored);
}

#[test]
fn credentials_of_a_container_are_asked_for() {
    let s3 = S3::start();
    let body = format!(
        "{{\"AccessKeyId\": {ACCESS_KEY:?}, \"SecretAccessKey\": {SECRET_KEY:?}, \"Token\": \"\", \
         \"Expiration\": \"2100-01-01T00:00:00Z\"}}"
    );
    let agent = Proxy::start(s3.address(), move |_| {
        Action::Say(Answer::new(
            "200 OK",
            &["content-type: application/json"],
            &body,
        ))
    });
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    fs::write(&token, "a token").unwrap();
    let (endpoint, agent_url) = (
        format!("http://{}", s3.address()),
        format!("http://{}/c", agent.address()),
    );
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent_url.as_str()),
        (
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            token.to_str().unwrap(),
        ),
    ];
    let bucket = with("s3://scenes", &variables).unwrap();
    bucket.put("b", bytes(10)).unwrap();
    bucket.head("b").unwrap();
    assert_eq!(agent.seen().len(), 1);
}

#[test]
fn missing_credentials_are_told_with_the_variables_to_set() {
    let s3 = S3::start();
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (endpoint, nobody) = (
        format!("http://{}", s3.address()),
        format!("http://{closed}"),
    );
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_METADATA_ENDPOINT", nobody.as_str()),
    ];
    let e = with("s3://scenes", &variables)
        .unwrap()
        .check()
        .unwrap_err();
    let text = e.to_string();
    assert!(
        text.contains("cannot get credentials") && text.contains("AWS_ACCESS_KEY_ID"),
        "{text}"
    );
    // A server of credentials that has none is not a bucket without the object.
    let empty = Proxy::start(s3.address(), |_| {
        Action::Say(Answer::new("404 Not Found", &[], ""))
    });
    let nobody = format!("http://{}", empty.address());
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_METADATA_ENDPOINT", nobody.as_str()),
    ];
    let e = with("s3://scenes", &variables)
        .unwrap()
        .head("b")
        .unwrap_err();
    assert!(matches!(e, BucketError::Denied { .. }), "{e}");
}

#[test]
fn many_threads_share_a_bucket() {
    let s3 = S3::start();
    let bucket = s3.bucket("a");
    std::thread::scope(|scope| {
        for i in 0..8 {
            let bucket = bucket.clone();
            scope.spawn(move || {
                let dir = tempfile::tempdir().unwrap();
                let stored = bytes(100_000 + i);
                for key in 0..5 {
                    let key = format!("{i}/{key}");
                    bucket.put(&key, stored.clone()).unwrap();
                    bucket.get_file(&key, &dir.path().join("to")).unwrap();
                    assert!(fs::read(dir.path().join("to")).unwrap() == stored);
                }
            });
        }
    });
    assert_eq!(list(&bucket, "").len(), 40);
    assert_eq!(bucket.url().bucket(), BUCKET);
    assert_eq!(variables(s3.address()), s3.variables());
}
