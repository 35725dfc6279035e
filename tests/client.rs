//! The client library, `vggt client` and `tools/client.py` against a server that follows a script.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::{Value, json};
use vggt::{
    client::{Client, ClientError, ClientSettings},
    protocol::{
        ErrorCode, Hash, JobStateReply, ReconstructionOptions, ServerInfo, ServerLimits, encode,
    },
};

use crate::support::{command, files};

const DIGITS: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Whoever waits longer in a test waits for ever.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the buffers of two sockets cannot hold, so that an upload of it meets the close.
const BIGGER_THAN_BUFFERS: usize = 32 << 20;

/// One request a server must receive, byte by byte, and what it answers.
type Step = (Vec<u8>, Vec<u8>);

/// A server that plays `script` on one connection, a byte at a time when `dribble`; then the client must hang up.
fn server(script: Vec<Step>, dribble: bool) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = thread::spawn(move || {
        let mut stream = accept(&listener);
        for (request, reply) in script {
            let mut received = vec![0; request.len()];
            stream.read_exact(&mut received).unwrap();
            assert_eq!(received, request, "{}", String::from_utf8_lossy(&received));
            for piece in reply.chunks(if dribble { 1 } else { reply.len().max(1) }) {
                stream.write_all(piece).unwrap();
            }
        }
        // A client that was refused a file may hang up with bytes unread.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    });
    (port, thread)
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

async fn connect(port: u16) -> Client {
    let settings = ClientSettings {
        connect: PATIENCE,
        idle: PATIENCE,
        reconstruction: PATIENCE,
        ..ClientSettings::default()
    };
    Client::connect("127.0.0.1", port, settings).await.unwrap()
}

fn hash() -> Hash {
    DIGITS.parse().unwrap()
}

fn request(command: u8, payload: &[u8]) -> Vec<u8> {
    [
        &[command],
        &(payload.len() as u32).to_be_bytes()[..],
        payload,
    ]
    .concat()
}

/// As a server answers that knows no jobs, such as the older service.
fn no_jobs_step() -> Step {
    let unknown = b"UNKNOWN_COMMAND";
    let reply = [&(unknown.len() as u32).to_be_bytes()[..], unknown].concat();
    (request(12, b""), reply)
}

fn login_step(ok: bool, is_vip: bool) -> Step {
    let json = br#"{"p":"pass word","u":"ann"}"#;
    (request(1, json), encode::login_reply(ok, is_vip))
}

/// Longer than one buffer of the client.
fn glb() -> Vec<u8> {
    let mut glb = b"glTF".to_vec();
    glb.extend((0..600_000u32).map(|i| (i % 251) as u8));
    glb
}

fn named(glb: &[u8]) -> Vec<u8> {
    [&encode::named_glb_head(&hash(), glb.len() as u32)[..], glb].concat()
}

fn unnamed(glb: &[u8]) -> Vec<u8> {
    [&encode::blob_head(glb.len() as u32)[..], glb].concat()
}

/// Two "images": the server of a test looks at bytes only. The second is longer than one piece of the client.
fn images(dir: &Path) -> (Vec<PathBuf>, Vec<u8>) {
    let (a, b) = (b"first".to_vec(), vec![7; 300_000]);
    let paths = vec![dir.join("a.png"), dir.join("b.png")];
    let mut payload = 2u32.to_be_bytes().to_vec();
    for (path, bytes) in paths.iter().zip([a, b]) {
        fs::write(path, &bytes).unwrap();
        payload.extend((bytes.len() as u32).to_be_bytes());
        payload.extend(bytes);
    }
    (paths, payload)
}

#[tokio::test]
async fn login_images_and_get_go_over_one_connection() {
    let dir = tempfile::tempdir().unwrap();
    let (paths, payload) = images(dir.path());
    let script = vec![
        login_step(true, true),
        (request(2, &payload), named(&glb())),
        (request(4, DIGITS.as_bytes()), unnamed(&glb())),
    ];
    let (port, thread) = server(script, false);
    let mut client = connect(port).await;
    assert!(client.login("ann", "pass word").await.unwrap());
    let mut out = Vec::new();
    let received = client.images(&paths, &mut out).await.unwrap();
    assert_eq!(
        (received.hash, received.bytes),
        (hash(), glb().len() as u64)
    );
    assert!(out == glb());
    let mut again = Vec::new();
    client.get(&hash(), &mut again).await.unwrap();
    assert!(again == glb());
    drop(client);
    thread.join().unwrap();
}

#[tokio::test]
async fn every_command_of_version_2_is_understood_a_byte_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (paths, payload) = images(dir.path());
    let clip = dir.path().join("clip.mp4");
    fs::write(&clip, b"a clip").unwrap();
    let file = json!({"hash": DIGITS, "name": "a.glb", "size": 3, "created_at": "2026-01-31T12:00:00Z", "public": true});
    let info = ServerInfo {
        version: "0.1.0".to_owned(),
        protocol: 2,
        model: "demo".to_owned(),
        device: "cpu".to_owned(),
        queued: 1,
        running: 1,
        limits: ServerLimits {
            upload_bytes: 5,
            images: 4,
            queue: 3,
            queue_per_user: 2,
        },
    };
    let hash_body = format!(r#"{{"hash":"{DIGITS}"}}"#);
    let public_body = format!(r#"{{"hash":"{DIGITS}","public":true}}"#);
    let step = |command, payload: &[u8], reply: &Value| {
        (request(command, payload), encode::json_reply(reply))
    };
    let script = vec![
        step(5, b"", &json!({ "files": [file] })),
        step(
            6,
            hash_body.as_bytes(),
            &json!({"hash": DIGITS, "deleted": true}),
        ),
        step(
            7,
            public_body.as_bytes(),
            &json!({"hash": DIGITS, "public": true}),
        ),
        step(
            8,
            &[&[2], &payload[..]].concat(),
            &json!({"job": 9, "state": "queued", "ahead": 3}),
        ),
        step(
            8,
            b"\x03a clip",
            &json!({"job": 10, "state": "done", "hash": DIGITS}),
        ),
        step(
            9,
            br#"{"job":9}"#,
            &json!({"job": 9, "state": "running", "stage": "depth", "fraction": 0.5,
            "seconds_left": 2.0, "a newer field": 1}),
        ),
        step(
            10,
            br#"{"job":9}"#,
            &json!({"job": 9, "state": "cancelled"}),
        ),
        step(
            11,
            br#"{"show_cam":true}"#,
            &json!({"show_cam": true, "fps": 0.4}),
        ),
        (request(12, b""), encode::json_reply(&info)),
        (request(3, b"a clip"), named(b"glTF and more")),
    ];
    let (port, thread) = server(script, true);
    let mut client = connect(port).await;
    let files = client.list().await.unwrap();
    assert_eq!(serde_json::to_value(&files[0]).unwrap(), file);
    client.delete(&hash()).await.unwrap();
    client.set_public(&hash(), true).await.unwrap();
    let job = client.submit_images(&paths).await.unwrap();
    assert_eq!(
        (job.job, job.state),
        (9, JobStateReply::Queued { ahead: 3 })
    );
    let job = client.submit_video(&clip).await.unwrap();
    assert_eq!(job.state, JobStateReply::Done { hash: hash() });
    let running = JobStateReply::Running {
        stage: "depth".to_owned(),
        fraction: 0.5,
        seconds_left: Some(2.0),
        preview: None,
    };
    assert_eq!(client.status(9).await.unwrap().state, running);
    assert_eq!(
        client.cancel(9).await.unwrap().state,
        JobStateReply::Cancelled
    );
    let options = ReconstructionOptions::new(&json!({"show_cam": true})).unwrap();
    assert_eq!(client.options(&options).await.unwrap().fields["fps"], 0.4);
    assert_eq!(client.info().await.unwrap(), info);
    let mut out = Vec::new();
    client.video(&clip, &mut out).await.unwrap();
    assert_eq!(out, b"glTF and more");
    drop(client);
    thread.join().unwrap();
}

#[tokio::test]
async fn a_refusal_is_told_and_leaves_the_connection_usable() {
    let dir = tempfile::tempdir().unwrap();
    let (paths, payload) = images(dir.path());
    let refused = |command: u8, code, reason| encode::error_reply(command.into(), code, reason);
    let script = vec![
        login_step(false, false),
        (
            request(2, &payload),
            refused(2, ErrorCode::ImageRequest, "busy, 16 ahead"),
        ),
        (
            request(4, DIGITS.as_bytes()),
            refused(4, ErrorCode::HashNotFound, ""),
        ),
        (
            request(9, br#"{"job":1}"#),
            refused(9, ErrorCode::JobNotFound, "no job 1"),
        ),
        (request(5, b""), refused(200, ErrorCode::UnknownCommand, "")),
        (request(4, DIGITS.as_bytes()), unnamed(b"glTF")),
    ];
    let (port, thread) = server(script, false);
    let mut client = connect(port).await;
    let e = client.login("ann", "pass word").await.unwrap_err();
    assert!(matches!(e, ClientError::LoginRefused { .. }), "{e}");
    let mut out = Vec::new();
    let e = client.images(&paths, &mut out).await.unwrap_err();
    assert!(e.refusal().unwrap().is(ErrorCode::ImageRequest));
    assert!(
        e.to_string()
            .ends_with("ERROR_IMAGE_REQUEST: busy, 16 ahead"),
        "{e}"
    );
    let e = client.get(&hash(), &mut out).await.unwrap_err();
    assert!(e.refusal().unwrap().is(ErrorCode::HashNotFound));
    let e = client.status(1).await.unwrap_err();
    assert!(e.refusal().unwrap().is(ErrorCode::JobNotFound));
    let e = client.list().await.unwrap_err();
    assert!(e.refusal().unwrap().is(ErrorCode::UnknownCommand));
    assert!(out.is_empty());
    client.get(&hash(), &mut out).await.unwrap();
    assert_eq!(out, b"glTF");
    drop(client);
    thread.join().unwrap();
}

/// A server that takes the login, refuses the video after a part of it and closes the connection.
fn hanging_up() -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = thread::spawn(move || {
        let mut stream = accept(&listener);
        let mut head = [0; 5];
        stream.read_exact(&mut head).unwrap();
        let mut login = vec![0; usize::from(head[4])];
        stream.read_exact(&mut login).unwrap();
        stream.write_all(&encode::login_reply(true, false)).unwrap();
        stream.read_exact(&mut head).unwrap();
        assert_eq!(head[0], 3);
        let refused = encode::error_reply(3.into(), ErrorCode::VideoRequest, "too large");
        stream.write_all(&refused).unwrap();
        // The end of the thread closes the connection with most of the upload unread.
        stream.read_exact(&mut vec![0; 1 << 20]).unwrap();
    });
    (port, thread)
}

#[tokio::test]
async fn a_server_that_hangs_up_during_an_upload_is_heard_out() {
    let dir = tempfile::tempdir().unwrap();
    let big = dir.path().join("big.mp4");
    fs::write(&big, vec![1; BIGGER_THAN_BUFFERS]).unwrap();
    let (port, thread) = hanging_up();
    let mut client = connect(port).await;
    client.login("ann", "pass word").await.unwrap();
    let e = client.video(&big, &mut Vec::new()).await.unwrap_err();
    assert!(e.refusal().unwrap().is(ErrorCode::VideoRequest), "{e}");
    let e = client.info().await.unwrap_err();
    assert!(matches!(e, ClientError::Broken), "{e}");
    thread.join().unwrap();
}

#[tokio::test]
async fn a_reply_that_breaks_off_or_never_comes_is_an_error_and_the_end() {
    for reply in [&b""[..], b"\0\0", b"\0\0\0\x08glTF12"] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = thread::spawn(move || {
            let mut stream = accept(&listener);
            stream.read_exact(&mut [0; 5 + 64]).unwrap();
            stream.write_all(reply).unwrap();
        });
        let mut client = connect(port).await;
        let e = client.get(&hash(), &mut Vec::new()).await.unwrap_err();
        assert!(matches!(e, ClientError::Lost { .. }), "{e}");
        let e = client.info().await.unwrap_err();
        assert!(matches!(e, ClientError::Broken), "{e}");
        thread.join().unwrap();
    }

    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let settings = ClientSettings {
        idle: Duration::from_millis(50),
        ..ClientSettings::default()
    };
    let mut client = Client::connect("127.0.0.1", port, settings).await.unwrap();
    let e = client.info().await.unwrap_err();
    assert!(matches!(e, ClientError::TimedOut { .. }), "{e}");
}

#[tokio::test]
async fn files_that_cannot_be_sent_are_named_before_anything_is() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.png");
    fs::write(&empty, b"").unwrap();
    let (port, thread) = server(
        vec![(request(12, b""), encode::json_reply(&json!({})))],
        false,
    );
    let mut client = connect(port).await;
    for path in [dir.path().join("no.png"), empty, dir.path().to_owned()] {
        let e = client.images(&[&path], &mut Vec::new()).await.unwrap_err();
        assert!(e.to_string().contains(path.to_str().unwrap()), "{e}");
    }
    let none: [&Path; 0] = [];
    let e = client.images(&none, &mut Vec::new()).await.unwrap_err();
    assert!(matches!(e, ClientError::Size { .. }), "{e}");
    // Nothing of these went out: the server sees what follows first. It answers an info without fields.
    let e = client.info().await.unwrap_err();
    assert!(matches!(e, ClientError::Protocol(_)), "{e}");
    drop(client);
    thread.join().unwrap();
}

#[test]
fn the_command_sends_pictures_with_options_and_writes_the_glb() {
    let dir = tempfile::tempdir().unwrap();
    let (paths, payload) = images(dir.path());
    let script = vec![
        login_step(true, false),
        no_jobs_step(),
        (
            request(11, br#"{"show_cam":true}"#),
            encode::json_reply(&json!({})),
        ),
        (request(2, &payload), named(&glb())),
    ];
    let (port, thread) = server(script, false);
    let output = command(dir.path())
        .args([
            "client",
            "images",
            "--user",
            "ann",
            "--show_cam",
            "--json",
            "--out",
            "x.glb",
        ])
        .args(["--port", &port.to_string()])
        .args(&paths)
        .env("VGGT_PASSWORD", "pass word")
        .output()
        .unwrap();
    thread.join().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        told,
        json!({"hash": DIGITS, "out": "x.glb", "bytes": glb().len()})
    );
    assert!(fs::read(dir.path().join("x.glb")).unwrap() == glb());
}

#[test]
fn a_folder_is_sent_by_the_rules_of_export() {
    let dir = tempfile::tempdir().unwrap();
    let photos = dir.path().join("photos");
    fs::create_dir(&photos).unwrap();
    let formats = crate::support::repository("tests/data/frames/formats");
    let images = ["baseline.jpg", "rgb.png"].map(|name| fs::read(formats.join(name)).unwrap());
    let [jpeg, png] = &images;
    let files: [(&str, &[u8]); 6] = [
        ("img10.jpg", jpeg),
        ("img2.png", png),
        (".trashed-1700000000-b.jpg", jpeg),
        ("img2.DNG", jpeg),
        ("img2.xmp", b"<xmp/>"),
        ("notes.txt", b"notes"),
    ];
    for (name, bytes) in files {
        fs::write(photos.join(name), bytes).unwrap();
    }
    let mut payload = 2u32.to_be_bytes().to_vec();
    for bytes in [png, jpeg] {
        payload.extend((bytes.len() as u32).to_be_bytes());
        payload.extend(bytes);
    }
    let script = vec![no_jobs_step(), (request(2, &payload), named(&glb()))];
    let (port, thread) = server(script, false);
    let output = command(dir.path())
        .args(["client", "images", "photos", "--out", "x.glb"])
        .args(["--port", &port.to_string()])
        .output()
        .unwrap();
    thread.join().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}");
    let expected = "2 of 3 images used; skipped: 1 not an image (\"notes.txt\")";
    assert!(err.contains(expected), "{err}");
}

#[test]
fn a_video_among_the_images_to_send_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    let clip = crate::support::repository("tests/data/frames/clips/h264.mp4");
    // Nothing listens there: it shows before anything is sent.
    let output = command(dir.path())
        .args(["client", "images", "--port", "9"])
        .arg(clip)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("vggt client video"));
}

#[test]
fn the_command_leaves_no_file_when_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = encode::error_reply(4.into(), ErrorCode::HashNotFound, "");
    let script = vec![
        login_step(true, false),
        (request(4, DIGITS.as_bytes()), refused),
    ];
    let (port, thread) = server(script, false);
    let mut child = command(dir.path())
        .args(["client", "get", DIGITS, "--user", "ann", "--password-stdin"])
        .args(["--port", &port.to_string()])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"pass word\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    thread.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ERROR_HASH_NOT_FOUND"));
    assert!(files(dir.path()).is_empty());
}

#[test]
fn the_command_without_a_way_to_a_password_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let output = command(dir.path())
        .args(["client", "list", "--user", "ann"])
        .env_remove("VGGT_PASSWORD")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--password-stdin"));
}

fn python(dir: &Path, port: u16, args: &[&str]) -> std::process::Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/client.py");
    Command::new("python3")
        .arg(script)
        .args(["--port", &port.to_string(), "--user", "ann"])
        .args(args)
        .env("VGGT_PASSWORD", "pass word")
        .current_dir(dir)
        .output()
        .unwrap()
}

#[test]
fn the_python_client_sends_pictures_and_fetches_the_glb_again() {
    let dir = tempfile::tempdir().unwrap();
    let glb = b"glTF, a byte at a time";
    let (_, payload) = images(dir.path());
    // Python spells JSON with spaces.
    let login = (
        request(1, br#"{"u": "ann", "p": "pass word"}"#),
        encode::login_reply(true, false),
    );
    let script = vec![
        login.clone(),
        (request(2, &payload), named(glb)),
        (request(4, DIGITS.as_bytes()), unnamed(glb)),
    ];
    let (port, thread) = server(script, true);
    let output = python(
        dir.path(),
        port,
        &[
            "images",
            "a.png",
            "b.png",
            "--out",
            "x.glb",
            "--fetch-again",
        ],
    );
    thread.join().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains(DIGITS));
    assert!(fs::read(dir.path().join("x.glb")).unwrap() == glb);

    let refused = encode::error_reply(4.into(), ErrorCode::HashNotFound, "");
    let (port, thread) = server(vec![login, (request(4, DIGITS.as_bytes()), refused)], false);
    let output = python(dir.path(), port, &["get", DIGITS]);
    thread.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ERROR_HASH_NOT_FOUND"));
    assert!(!dir.path().join("scene.glb").exists());
}

#[test]
fn the_python_client_hears_a_server_out_that_hangs_up() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("big.mp4"), vec![1; BIGGER_THAN_BUFFERS]).unwrap();
    let (port, thread) = hanging_up();
    let output = python(dir.path(), port, &["video", "big.mp4"]);
    thread.join().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("ERROR_VIDEO_REQUEST: too large"), "{told}");
    assert_eq!(files(dir.path()), ["big.mp4"]);
}

/// Text that moves the cursor, sets the window's title, hides itself, and begins another line.
const HOSTILE: &str = "a\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}b\nforged";

/// Runs `vggt client` with a login against a server that follows a script; gives all that it printed.
fn printed(dir: &Path, args: &[&str], steps: Vec<Step>) -> String {
    let script = [vec![login_step(true, false)], steps].concat();
    let (port, thread) = server(script, false);
    let output = command(dir)
        .env("VGGT_PASSWORD", "pass word")
        .args(["client", "--user", "ann", "--port", &port.to_string()])
        .args(args)
        .output()
        .unwrap();
    thread.join().unwrap();
    let all = [output.stdout, output.stderr].concat();
    String::from_utf8(all).unwrap()
}

#[test]
fn what_a_server_sends_does_nothing_to_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let page = br#"{"before":null,"limit":null}"#;
    let file =
        json!({"hash": DIGITS, "name": HOSTILE, "size": 1, "created_at": HOSTILE, "public": true});
    let two = encode::json_reply(&json!({"files": [file, file], "next": null}));
    let failed = encode::json_reply(&json!({"job": 1, "state": "failed", "reason": HOSTILE}));
    let running = json!({"job": 1, "state": "running", "stage": HOSTILE, "fraction": 0.5, "seconds_left": null});
    let running = encode::json_reply(&running);
    let refused = encode::json_reply(&json!({"error": HOSTILE, "reason": HOSTILE}));
    let limits = json!({"upload_bytes": 1, "images": 1, "queue": 1, "queue_per_user": 1});
    let info = json!({"version": HOSTILE, "protocol": 2, "model": HOSTILE, "device": HOSTILE,
        "queued": 0, "running": 0, "limits": limits});
    let info = encode::json_reply(&info);
    let status = br#"{"job":1}"#;
    let job = json!({"job": 1, "state": "failed", "reason": HOSTILE, "name": HOSTILE, "created_at": HOSTILE,
        "finished_at": HOSTILE, "warnings": [{"kind": HOSTILE, "text": HOSTILE}]});
    let jobs = encode::json_reply(&json!({"jobs": [job, job], "next": null}));
    let warned = json!({"job": 1, "state": "cancelled", "warnings": [{"kind": HOSTILE, "text": HOSTILE, HOSTILE: HOSTILE}]});
    let warned = encode::json_reply(&warned);
    type Case<'a> = (&'a [&'a str], u8, &'a [u8], &'a Vec<u8>, usize);
    let cases: [Case<'_>; 14] = [
        (&["jobs"], 14, page, &jobs, 2),
        (&["jobs", "--json"], 14, page, &jobs, 1),
        (&["status", "1"], 9, status, &warned, 2),
        (&["status", "1", "--watch"], 9, status, &failed, 1),
        (&["wait", "1"], 9, status, &failed, 1),
        (&["list"], 13, page, &two, 2),
        (&["list", "--json"], 13, page, &two, 1),
        (&["list"], 13, page, &refused, 1),
        (&["status", "1"], 9, status, &failed, 1),
        (&["status", "1", "--json"], 9, status, &failed, 1),
        (&["status", "1"], 9, status, &running, 1),
        (&["cancel", "1"], 10, status, &refused, 1),
        (&["info"], 12, b"", &info, 4),
        (&["info", "--json"], 12, b"", &info, 1),
    ];
    for (args, command, payload, reply, lines) in cases {
        let steps = vec![(request(command, payload), reply.clone())];
        let text = printed(dir.path(), args, steps);
        let acts = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!text.contains(acts), "{args:?}: {text:?}");
        assert!(text.contains("owned"), "{args:?}: {text:?}");
        if !reply.ends_with(&refused[4..]) {
            assert_eq!(text.lines().count(), lines, "{args:?}: {text}");
        }
    }
    // The name of a result is the server's, and only a hash is one.
    let name = "../../../tmp/x.glb";
    let mut reply = (name.len() as u32).to_be_bytes().to_vec();
    reply.extend(name.as_bytes());
    reply.extend(unnamed(&glb()));
    let clip = dir.path().join("clip.mp4");
    fs::write(&clip, b"a clip").unwrap();
    let step = (request(3, b"a clip"), reply);
    let text = printed(
        dir.path(),
        &["video", "clip.mp4"],
        vec![no_jobs_step(), step],
    );
    assert!(text.contains("cannot take 14 bytes as a hash"), "{text}");
    assert_eq!(files(dir.path()), ["clip.mp4"]);
}

#[test]
fn pages_without_an_end_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let page = |before: Option<i64>| {
        let payload = json!({"before": before, "limit": null}).to_string();
        request(13, payload.as_bytes())
    };
    let reply = encode::json_reply(&json!({"files": [], "next": 7}));
    let script = vec![
        login_step(true, false),
        (page(None), reply.clone()),
        (page(Some(7)), reply),
    ];
    let (port, thread) = server(script, false);
    let output = command(dir.path())
        .env("VGGT_PASSWORD", "pass word")
        .args([
            "client",
            "list",
            "--user",
            "ann",
            "--port",
            &port.to_string(),
        ])
        .output()
        .unwrap();
    thread.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("pages do not end"));
}

#[test]
fn an_older_server_lists_all_files_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file =
        json!({"hash": DIGITS, "name": "x.glb", "size": 1, "created_at": "", "public": true});
    let script = vec![
        login_step(true, false),
        (
            request(13, br#"{"before":null,"limit":null}"#),
            encode::error_reply(99.into(), ErrorCode::UnknownCommand, ""),
        ),
        (
            request(5, b""),
            encode::json_reply(&json!({"files": [file]})),
        ),
    ];
    let (port, thread) = server(script, false);
    let output = command(dir.path())
        .env("VGGT_PASSWORD", "pass word")
        .args([
            "client",
            "list",
            "--user",
            "ann",
            "--port",
            &port.to_string(),
        ])
        .output()
        .unwrap();
    thread.join().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains(DIGITS));
}
