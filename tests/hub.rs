//! The hub: a local server that answers like it, and all the ways in which it fails.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use vggt::hub::{Hub, HubError, HubSettings, find_weights};

use crate::support::{command, hash, repository, text};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Large enough for several reads, so that a connection can drop in the middle.
const SIZE: usize = 1 << 20;

/// How the server misbehaves.
#[derive(Clone, Copy, Default)]
struct Habits {
    /// Status instead of every answer.
    status: Option<u16>,
    /// Ends the first body after this many bytes.
    drops_after: Option<usize>,
    /// Answers 200 with everything to a range request.
    ignores_range: bool,
    /// A Content-Range that is not what was asked for.
    lies_about_range: bool,
    /// Sends bytes that do not match the hash.
    corrupts: bool,
    /// Hands out files to the holder of the token only.
    gated: bool,
    /// Holds the tiny checkpoint instead of mere bytes.
    real: bool,
}

struct Request {
    port: u16,
    line: String,
    headers: Vec<String>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// The hub on one port, and where it sends those who want bytes on another.
struct Server {
    endpoint: String,
    hub_port: u16,
    seen: Arc<Mutex<Vec<Request>>>,
}

/// The tiny checkpoint and its config.
fn real() -> (Vec<u8>, Vec<u8>) {
    let file = |name| fs::read(repository("model/tests/data/tiny").join(name)).unwrap();
    (file("model.pt"), file("config.json"))
}

fn content() -> Vec<u8> {
    (0..SIZE).map(|i| (i * 31 + i / 997) as u8).collect()
}

impl Server {
    fn start(habits: Habits) -> Self {
        let hub = TcpListener::bind("127.0.0.1:0").unwrap();
        let cdn = TcpListener::bind("127.0.0.1:0").unwrap();
        let (hub_port, cdn_port) = (
            hub.local_addr().unwrap().port(),
            cdn.local_addr().unwrap().port(),
        );
        let seen = Arc::new(Mutex::new(Vec::new()));
        let dropped = Arc::new(Mutex::new(false));
        for listener in [hub, cdn] {
            let (seen, dropped) = (seen.clone(), dropped.clone());
            // Ends with the process: accept has nobody to wait for then.
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let (seen, dropped) = (seen.clone(), dropped.clone());
                    let Ok(stream) = stream else { return };
                    thread::spawn(move || answer(stream, habits, cdn_port, &seen, &dropped));
                }
            });
        }
        Self {
            endpoint: format!("http://127.0.0.1:{hub_port}"),
            hub_port,
            seen,
        }
    }

    fn settings(&self, cache: &Path) -> HubSettings {
        HubSettings {
            cache: cache.to_owned(),
            endpoint: self.endpoint.clone(),
            repo: "org/net".to_owned(),
            backoff: Duration::from_millis(1),
            ..HubSettings::default()
        }
    }

    fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

fn answer(
    stream: TcpStream,
    habits: Habits,
    cdn_port: u16,
    seen: &Mutex<Vec<Request>>,
    dropped: &Mutex<bool>,
) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(line)) = lines.next() else { return };
    let headers = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
    let request = Request {
        port: stream.local_addr().unwrap().port(),
        line,
        headers,
    };
    let mut out = stream;
    let mut send = |status: u16, headers: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{headers}\r\n");
        let _ = out
            .write_all(head.as_bytes())
            .and_then(|()| out.write_all(body));
    };
    let (line, range) = (
        request.line.clone(),
        request.header("range").map(str::to_owned),
    );
    let known = request.header("authorization") == Some("Bearer secret");
    seen.lock().unwrap().push(request);
    let path = line.split(' ').nth(1).unwrap_or_default();
    let common = format!("X-Repo-Commit: {COMMIT}\r\n");
    let (bytes, config) = if habits.real {
        real()
    } else {
        (content(), b"{}".to_vec())
    };
    let size = bytes.len();
    if let Some(status) = habits.status {
        send(status, "Content-Length: 0\r\n", b"");
    } else if path.starts_with("/cdn/") {
        let start = range
            .as_deref()
            .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let start = start.filter(|_| !habits.ignores_range).unwrap_or(0);
        let mut body = bytes[start..].to_vec();
        let mut headers = format!("Content-Length: {}\r\n", body.len());
        if start > 0 {
            let said = if habits.lies_about_range {
                start + 1
            } else {
                start
            };
            headers += &format!("Content-Range: bytes {said}-{}/{size}\r\n", size - 1);
        }
        if habits.corrupts {
            body[size / 2] ^= 1;
        }
        if let Some(count) = habits.drops_after
            && !std::mem::replace(&mut *dropped.lock().unwrap(), true)
        {
            body.truncate(count);
        }
        send(if start > 0 { 206 } else { 200 }, &headers, &body);
    } else if habits.gated && !known {
        send(401, "Content-Length: 0\r\n", b"");
    } else if path == "/api/models/org/net/revision/main" {
        let list = br#"{"sha":"x","tags":["pytorch","license:mit"],"siblings":[{"rfilename":"README.md"},{"rfilename":"config.json"},{"rfilename":"model.pt"}]}"#;
        send(200, &format!("Content-Length: {}\r\n", list.len()), list);
    } else if path.ends_with("/config.json") {
        let length = config.len();
        let head = line.starts_with("HEAD");
        let body: &[u8] = if head { b"" } else { &config };
        // What git calls a file: SHA-1 over a header and the bytes.
        let etag = if habits.real {
            "ETag: \"08580dd1c449dc275bc24ec78fcdf818ff8f5549\"\r\n"
        } else {
            "ETag: \"9e26dfeeb6e641a33dae4961196235bdb965b21b\"\r\n"
        };
        send(
            200,
            &format!("{common}{etag}Content-Length: {length}\r\n"),
            body,
        );
    } else if path.ends_with("/model.pt") || path.ends_with("/skyseg.onnx") {
        let linked = format!(
            "X-Linked-Etag: \"{}\"\r\nX-Linked-Size: {size}\r\n",
            hash(&bytes)
        );
        let to = format!("Location: http://127.0.0.1:{cdn_port}/cdn/file?signature=s3cr3t\r\n");
        send(
            302,
            &format!("{common}{linked}{to}ETag: \"other\"\r\nContent-Length: 0\r\n"),
            b"",
        );
    } else {
        send(
            404,
            "X-Error-Code: EntryNotFound\r\nContent-Length: 0\r\n",
            b"",
        );
    }
}

fn quiet(_: &str, _: u64, _: u64) -> bool {
    true
}

fn fetch(server: &Server, cache: &Path) -> Result<PathBuf, HubError> {
    Hub::new(server.settings(cache))?.weights(&mut quiet)
}

/// Every file below `folder`, without links.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(files(&entry.path())),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

fn blob(cache: &Path, end: &str) -> PathBuf {
    cache.join(format!("models--org--net/blobs/{}{end}", hash(&content())))
}

#[test]
fn weights_are_downloaded_into_the_shared_layout_and_found_again_without_a_request() {
    let server = Server::start(Habits::default());
    let cache = tempfile::tempdir().unwrap();
    let path = fetch(&server, cache.path()).unwrap();
    let snapshot = cache.path().join("models--org--net/snapshots").join(COMMIT);
    assert_eq!(path, snapshot.join("model.pt"));
    assert_eq!(fs::read(&path).unwrap(), content());
    assert_eq!(fs::read(snapshot.join("config.json")).unwrap(), b"{}");
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert!(!fs::read_link(&path).unwrap().is_absolute());
    let asked = server.requests();
    assert_eq!(fetch(&server, cache.path()).unwrap(), path);
    assert_eq!(server.requests(), asked);
    // As the crate that shares the cache sees it.
    let other = hf_hub::Cache::new(cache.path().to_owned()).model("org/net".to_owned());
    assert_eq!(other.get("model.pt"), Some(path));
}

#[test]
fn a_dropped_connection_goes_on_where_it_broke() {
    let server = Server::start(Habits {
        drops_after: Some(300_000),
        ..Habits::default()
    });
    let cache = tempfile::tempdir().unwrap();
    let path = fetch(&server, cache.path()).unwrap();
    assert_eq!(fs::read(path).unwrap(), content());
    let seen = server.seen.lock().unwrap();
    let ranges: Vec<_> = seen.iter().filter_map(|r| r.header("range")).collect();
    // Asked of the hub and of the CDN behind it; from where the bytes stopped.
    assert!(ranges.contains(&"bytes=300000-"), "{ranges:?}");
}

#[test]
fn a_stopped_download_is_resumed_by_the_next_process() {
    let server = Server::start(Habits::default());
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(server.settings(cache.path())).unwrap();
    let stopped = hub.file("org/net", "model.pt", &mut |_, at, _| at < 400_000);
    assert!(matches!(stopped, Err(HubError::Cancelled)));
    let part = fs::metadata(blob(cache.path(), ".part")).unwrap().len();
    assert!(part >= 400_000 && !blob(cache.path(), "").exists());
    let mut first = None;
    let path = hub.file("org/net", "model.pt", &mut |_, at, _| {
        first.get_or_insert(at);
        true
    });
    assert_eq!(fs::read(path.unwrap()).unwrap(), content());
    assert_eq!(first, Some(part));
}

#[test]
fn a_server_that_ignores_ranges_sends_everything_again() {
    let habits = Habits {
        drops_after: Some(300_000),
        ignores_range: true,
        ..Habits::default()
    };
    let server = Server::start(habits);
    let cache = tempfile::tempdir().unwrap();
    assert_eq!(
        fs::read(fetch(&server, cache.path()).unwrap()).unwrap(),
        content()
    );
}

#[test]
fn a_range_that_was_not_asked_for_is_refused() {
    let habits = Habits {
        drops_after: Some(300_000),
        lies_about_range: true,
        ..Habits::default()
    };
    let server = Server::start(habits);
    let cache = tempfile::tempdir().unwrap();
    let error = fetch(&server, cache.path()).unwrap_err().to_string();
    assert!(
        error.contains("content-range") && !error.contains("s3cr3t"),
        "{error}"
    );
}

#[test]
fn a_wrong_hash_leaves_nothing_that_could_be_used() {
    let server = Server::start(Habits {
        corrupts: true,
        ..Habits::default()
    });
    let cache = tempfile::tempdir().unwrap();
    let error = fetch(&server, cache.path()).unwrap_err();
    assert!(matches!(error, HubError::Damaged { .. }), "{error}");
    assert!(!blob(cache.path(), "").exists() && !blob(cache.path(), ".part").exists());
    assert!(
        files(cache.path())
            .iter()
            .all(|f| fs::metadata(f).unwrap().len() < 100)
    );
    let snapshot = cache.path().join("models--org--net/snapshots").join(COMMIT);
    assert!(!snapshot.join("model.pt").exists());
}

#[test]
fn a_gated_repo_says_how_to_get_access_and_opens_with_the_token() {
    let server = Server::start(Habits {
        gated: true,
        ..Habits::default()
    });
    let cache = tempfile::tempdir().unwrap();
    let error = fetch(&server, cache.path()).unwrap_err();
    assert!(matches!(error, HubError::NoAccess { .. }));
    assert!(error.to_string().contains("HF_TOKEN"), "{error}");
    let with = |token: &str| HubSettings {
        token: Some(token.to_owned()),
        ..server.settings(cache.path())
    };
    let wrong = Hub::new(with("other"))
        .unwrap()
        .weights(&mut quiet)
        .unwrap_err();
    assert!(matches!(wrong, HubError::Refused { .. }), "{wrong}");
    Hub::new(with("secret"))
        .unwrap()
        .weights(&mut quiet)
        .unwrap();
    for request in server.seen.lock().unwrap().iter() {
        let sent = request.header("authorization").is_some();
        assert!(
            !sent || request.port == server.hub_port,
            "the token went to {}",
            request.line
        );
    }
    assert!(!format!("{:?}", with("secret")).contains("secret"));
}

#[test]
fn a_missing_file_or_repo_is_named() {
    let server = Server::start(Habits::default());
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(server.settings(cache.path())).unwrap();
    let error = hub.file("org/net", "lost.bin", &mut quiet).unwrap_err();
    assert!(matches!(error, HubError::NotFound { .. }));
    assert!(error.to_string().contains("lost.bin"), "{error}");
    let other = HubSettings {
        repo: "org/nothing".to_owned(),
        ..server.settings(cache.path())
    };
    let error = Hub::new(other).unwrap().weights(&mut quiet).unwrap_err();
    assert!(matches!(error, HubError::NotFound { .. }), "{error}");
}

#[test]
fn any_file_of_any_repo_can_be_had() {
    let server = Server::start(Habits::default());
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(server.settings(cache.path())).unwrap();
    let path = hub
        .file("JianyuanWang/skyseg", "skyseg.onnx", &mut quiet)
        .unwrap();
    assert_eq!(fs::read(path).unwrap(), content());
}

#[test]
fn offline_asks_nobody_and_says_what_to_do() {
    let server = Server::start(Habits::default());
    let cache = tempfile::tempdir().unwrap();
    let settings = HubSettings {
        offline: true,
        ..server.settings(cache.path())
    };
    let error = Hub::new(settings.clone())
        .unwrap()
        .weights(&mut quiet)
        .unwrap_err();
    assert!(
        matches!(&error, HubError::Offline { repo, file: None, .. } if repo == "org/net"),
        "{error}"
    );
    assert_eq!(server.requests(), 0);
    let path = fetch(&server, cache.path()).unwrap();
    assert_eq!(
        Hub::new(settings).unwrap().weights(&mut quiet).unwrap(),
        path
    );
}

#[test]
fn a_hub_that_stays_down_is_given_up_after_some_attempts() {
    let server = Server::start(Habits {
        status: Some(503),
        ..Habits::default()
    });
    let cache = tempfile::tempdir().unwrap();
    let error = fetch(&server, cache.path()).unwrap_err();
    assert!(
        matches!(error, HubError::Network { attempts: 3, .. }),
        "{error}"
    );
    assert_eq!(server.requests(), 3);
}

#[test]
fn two_downloads_at_once_share_one_blob() {
    let server = Server::start(Habits::default());
    let cache = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        let all = [0; 4].map(|_| scope.spawn(|| fetch(&server, cache.path()).unwrap()));
        for one in all {
            assert_eq!(fs::read(one.join().unwrap()).unwrap(), content());
        }
    });
    assert!(!blob(cache.path(), ".part").exists());
    let seen = server.seen.lock().unwrap();
    assert_eq!(seen.iter().filter(|r| r.line.contains("/cdn/")).count(), 1);
}

#[test]
fn a_named_file_comes_first_then_the_working_folder() {
    let server = Server::start(Habits::default());
    let dir = tempfile::tempdir().unwrap();
    let settings = server.settings(dir.path());
    let find = |explicit: Option<&str>| {
        find_weights(explicit.map(Path::new), dir.path(), &settings, &mut quiet).unwrap()
    };
    assert_eq!(find(Some("mine.pt")), Path::new("mine.pt"));
    fs::write(dir.path().join("model.safetensors"), b"").unwrap();
    assert_eq!(find(None), dir.path().join("model.safetensors"));
    fs::write(dir.path().join("model.pt"), b"").unwrap();
    assert_eq!(find(None), dir.path().join("model.pt"));
    assert_eq!(server.requests(), 0);
}

#[test]
fn names_that_could_leave_the_cache_are_refused() {
    let server = Server::start(Habits::default());
    let cache = tempfile::tempdir().unwrap();
    for repo in ["net", "../../etc", "a/b/c", "org/net?x", ""] {
        let settings = HubSettings {
            repo: repo.to_owned(),
            ..server.settings(cache.path())
        };
        assert!(
            matches!(Hub::new(settings), Err(HubError::Setting { .. })),
            "{repo}"
        );
    }
    let hub = Hub::new(server.settings(cache.path())).unwrap();
    for file in ["../x", "/etc/passwd", "a//b", ".."] {
        let refused = hub.file("org/net", file, &mut quiet);
        assert!(matches!(refused, Err(HubError::Setting { .. })), "{file}");
    }
    let settings = HubSettings {
        endpoint: "ftp://x".to_owned(),
        ..server.settings(cache.path())
    };
    assert!(matches!(Hub::new(settings), Err(HubError::Setting { .. })));
}

#[test]
fn export_downloads_the_weights_once_and_says_where_they_are_from() {
    let server = Server::start(Habits {
        real: true,
        drops_after: Some(100_000),
        ..Habits::default()
    });
    let dir = tempfile::tempdir().unwrap();
    let frames = repository("model/demo/frames");
    let export = || {
        let output = command(dir.path())
            .env("HF_ENDPOINT", &server.endpoint)
            .args(["export", "--json", "--repo", "org/net", "--max_frames", "1"])
            .arg(text(&frames))
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{err}");
        let said = serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap();
        (said, err)
    };
    let (said, err) = export();
    // One line beforehand.
    let lines: Vec<&str> = err
        .lines()
        .filter(|line| line.contains("downloading"))
        .collect();
    let [line] = lines[..] else { panic!("{err}") };
    for part in [
        "model.pt of org/net",
        "4 MB",
        "models--org--net",
        "license: mit",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert_eq!(said["weights"], "org/net");
    assert_eq!(said["weights_sha256"], hash(&real().0));
    // The config came along: without it these weights would not fit.
    assert_eq!(said["width"], 70);
    let requests = server.requests();
    assert!(requests > 0);
    let (_, err) = export();
    assert!(!err.contains("downloading"), "{err}");
    assert_eq!(server.requests(), requests);
}
