//! Decoding in a process of its own: the same frames, limits, and a process that can do nothing else.

mod confined;
mod limits;
mod parents;
mod same;

use std::{
    fs,
    io::{self, IoSlice, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};

/// The process that decodes, with this test in place of the service. Killed when dropped.
struct Worker {
    child: Child,
    stream: UnixStream,
}

impl Worker {
    /// `memory` in bytes, `cpu_s` in seconds.
    fn start(memory: u64, cpu_s: u64) -> Self {
        let mut worker = Self::spawned(Command::new(env!("CARGO_BIN_EXE_vggt")));
        worker.send(
            &json!({"memory": memory, "cpu_s": cpu_s, "threads": 1}),
            None,
        );
        worker
    }

    fn spawned(mut vggt: Command) -> Self {
        let (here, there) = UnixStream::pair().unwrap();
        here.set_read_timeout(Some(crate::support::service::PATIENCE))
            .unwrap();
        let child = vggt
            .arg("decode-worker")
            .stdin(OwnedFd::from(there))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            stream: here,
        }
    }

    /// Sends a message, and a file along with it.
    fn send(&mut self, message: &Value, file: Option<&fs::File>) {
        let json = message.to_string();
        let mut bytes = (json.len() as u32).to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files: Vec<_> = file.iter().map(|file| file.as_fd()).collect();
        if !files.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&files));
        }
        let parts = [IoSlice::new(&bytes)];
        let sent = sendmsg(&self.stream, &parts, &mut control, SendFlags::NOSIGNAL).unwrap();
        assert_eq!(sent, bytes.len());
    }

    /// Asks for an image at its full size.
    fn ask_for_image(&mut self, file: &fs::File) {
        let limits = json!({"pixels": 1 << 30, "side": 1 << 20, "bytes": 1_u64 << 40, "memory": 1_u64 << 50});
        let shape = json!({"network": null, "pad": false});
        let task = json!({"Image": {"limits": limits, "shape": shape}});
        self.send(&json!({"name": "image", "task": task}), Some(file));
    }

    fn reply(&mut self) -> io::Result<Value> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut json = vec![0; u32::from_le_bytes(length) as usize];
        self.stream.read_exact(&mut json)?;
        Ok(serde_json::from_slice(&json)?)
    }

    fn ended(mut self) -> ExitStatus {
        // What it still says is not of interest.
        let _ = io::copy(&mut self.stream, &mut io::sink());
        self.child.wait().unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A PNG of 100 megapixels, black and white, in 12 KB: decoded it takes 300 MB, and some time.
fn large_png() -> Vec<u8> {
    const SIDE: u32 = 10_000;
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, SIDE, SIDE);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header().unwrap();
    let mut stream = writer.stream_writer().unwrap();
    let row = [0; SIDE as usize / 8];
    for _ in 0..SIDE {
        stream.write_all(&row).unwrap();
    }
    stream.finish().unwrap();
    writer.finish().unwrap();
    file
}

/// The processes whose parent is `parent`.
fn children(parent: u32) -> Vec<u32> {
    let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let name = entry.ok()?.file_name();
        name.to_str()?.parse::<u32>().ok()
    });
    numbers
        .filter(|process| stat(*process).is_some_and(|(_, of)| of == parent))
        .collect()
}

/// State and parent of a process.
fn stat(process: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

fn is_alive(process: u32) -> bool {
    stat(process).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

fn signal(process: u32, name: &str) {
    let sent = Command::new("kill")
        .args([name, &process.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// Whether the tests run as root, who may do what some of them need.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Files of `tests/data/frames/<folder>`.
fn files_of(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/frames")
        .join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}
