//! The real clients against the real server: library, `vggt client`, the script in Python, and peers that send noise.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use vggt::{
    client::{Client, ClientSettings},
    protocol::{JobStateReply, ReconstructionOptions},
};

use crate::support::{
    checked, command,
    service::{PASSWORD, Service, assert_glb, demo_images, wait_for},
};

fn demo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("model/demo")
        .join(name)
}

fn frames(n: usize) -> Vec<PathBuf> {
    (0..n)
        .map(|i| demo(&format!("frames/frame_{i:02}.png")))
        .collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn the_client_library_does_all_there_is() {
    let service = Service::start(&[]);
    runtime().block_on(async {
        let settings = ClientSettings::default();
        let port = service.address.port();
        let mut client = Client::connect("127.0.0.1", port, settings).await.unwrap();
        assert_eq!(client.info().await.unwrap().protocol, 2);
        assert!(client.login("ann", "wrong").await.is_err());
        assert!(client.login("vic", PASSWORD).await.unwrap());
        let mut glb = Vec::new();
        let made = client.images(&frames(2), &mut glb).await.unwrap();
        assert_glb(&glb);
        let mut again = Vec::new();
        client.get(&made.hash, &mut again).await.unwrap();
        assert_eq!(again, glb);
        let options = serde_json::json!({"fps": 2.0, "show_cam": true});
        let options = ReconstructionOptions::new(&options).unwrap();
        assert_eq!(client.options(&options).await.unwrap().fields["fps"], 2.0);
        let mut film = Vec::new();
        client.video(&demo("clip.mp4"), &mut film).await.unwrap();
        assert_glb(&film);
        // For the Khronos validator, which runs after the tests.
        for (name, bytes) in [("served_images.glb", &glb), ("served_video.glb", &film)] {
            fs::write(checked(name), bytes).unwrap();
        }
        let job = client.submit_images(&frames(3)).await.unwrap().job;
        let hash = loop {
            match client.status(job).await.unwrap().state {
                JobStateReply::Done { hash } => break hash,
                state => assert!(!state.is_final(), "{state:?}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        client.set_public(&hash, true).await.unwrap();
        let files = client.list().await.unwrap();
        assert_eq!(files.len(), 3);
        assert!(files[0].public && files[0].hash == hash);
        client.delete(&hash).await.unwrap();
        let gone = client.get(&hash, &mut Vec::new()).await.unwrap_err();
        assert!(gone.refusal().is_some(), "{gone}");
    });
    service.assert_nothing_left();
}

fn output(command: &mut Command) -> Output {
    command.env("VGGT_PASSWORD", PASSWORD).output().unwrap()
}

fn assert_done(output: &Output) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}");
}

#[test]
fn the_client_command_writes_a_glb() {
    let service = Service::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let port = service.address.port().to_string();
    let client = |args: &[&str]| {
        let mut command = command(dir.path());
        command.arg("client").args(args);
        command.args(["--port", &port, "--user", "ann"]);
        output(&mut command)
    };
    assert_done(&client(&["login"]));
    let clip = demo("clip.mp4");
    assert_done(&client(&[
        "video",
        clip.to_str().unwrap(),
        "--out",
        "a.glb",
    ]));
    assert_glb(&fs::read(dir.path().join("a.glb")).unwrap());
    let list = client(&["list", "--json"]);
    assert_done(&list);
    assert!(String::from_utf8_lossy(&list.stdout).contains("video_"));
}

#[test]
fn the_script_in_python_gets_the_same_bytes_twice() {
    let service = Service::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let mut python = Command::new("python3");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/client.py");
    python.arg(script).current_dir(dir.path());
    python.args(["--port", &service.address.port().to_string()]);
    python.args(["--user", "ben", "images"]).args(frames(2));
    python.args(["--out", "a.glb", "--fetch-again"]);
    assert_done(&output(&mut python));
    assert_glb(&fs::read(dir.path().join("a.glb")).unwrap());
}

/// Numbers that are the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn peers_that_send_noise_hurt_nobody() {
    let service = Service::start(&["--stall_timeout", "2", "--max_skip", "1"]);
    let mut noise = Noise(0x5EED);
    for round in 0..300 {
        let mut client = if round % 3 == 0 {
            service.login("ann")
        } else {
            service.connect()
        };
        let mut bytes = vec![(noise.next() % 14) as u8];
        let len = noise.next() % 200;
        // The length is that of the payload, shorter, or anything.
        let told = match noise.next() % 3 {
            0 => len,
            1 => noise.next() % 100,
            _ => noise.next(),
        };
        bytes.extend((told as u32).to_be_bytes());
        bytes.extend((0..len).map(|_| noise.next() as u8));
        // The server may have hung up on it already.
        let _ = client.stream.write_all(&bytes);
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = client.stream.read_to_end(&mut answer);
    }
    let mut client = service.login("ben");
    assert_glb(&client.images(&demo_images(1)).glb().1);
    wait_for("the work to end", || {
        let info = client.json(12, "");
        (info["running"] == 0 && info["queued"] == 0).then_some(())
    });
    service.assert_nothing_left();
    assert!(!service.log().contains("panicked"), "{}", service.log());
}
