//! A real `vggt serve --demo` in a folder of its own, and the bytes a client sends it.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use vggt::store::{Store, StoreSettings};
use vggt_model::demo;

use crate::support::{
    command,
    database::{database_of, url_of},
    files::{is_bucket, out_of, out_root_of, scratch_of, variables_of},
    send_signal,
};

/// Far beyond what anything here takes on a slow machine; a test that needs it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) const PASSWORD: &str = "correct horse";

/// A server process; killed when dropped.
pub(crate) struct Service {
    pub(crate) dir: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) process: Child,
    /// Length of the log of earlier services in the same folder.
    log_before: usize,
}

impl Service {
    /// With the users ann and ben, and vic, who is VIP.
    pub(crate) fn start(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        store.add_user("ann", PASSWORD, false).unwrap();
        store.add_user("ben", PASSWORD, false).unwrap();
        store.add_user("vic", PASSWORD, true).unwrap();
        drop(store);
        Self::start_in(dir, args)
    }

    pub(crate) fn start_in(dir: TempDir, args: &[&str]) -> Self {
        let vggt = command(dir.path());
        Self::start_with(dir, vggt, args)
    }

    /// As [`Service::start`], and no file can grow beyond so many KiB: a write fails as it does on a full disk.
    pub(crate) fn start_with_small_files(kib: u32, args: &[&str]) -> Self {
        let service = Self::start(&[]);
        let dir = service.kill();
        let vggt = command(dir.path());
        let mut shell = std::process::Command::new("sh");
        // POSIX counts in 512 bytes; ignored, the signal leaves an error for the write.
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", 2 * kib);
        shell.current_dir(dir.path()).args(["-c", &script]);
        shell.arg(vggt.get_program());
        Self::start_with(dir, shell, args)
    }

    /// As [`Service::start`], with another standard error than the file of the log.
    pub(crate) fn start_logging_to(stderr: impl Into<Stdio>, args: &[&str]) -> Self {
        let dir = Self::start(&[]).kill();
        let vggt = command(dir.path());
        Self::start_process(dir, vggt, stderr.into(), args)
    }

    pub(crate) fn start_with(dir: TempDir, vggt: std::process::Command, args: &[&str]) -> Self {
        let log = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(dir.path().join("log"))
            .unwrap();
        Self::start_process(dir, vggt, log.into(), args)
    }

    pub(crate) fn start_process(
        dir: TempDir,
        mut vggt: std::process::Command,
        stderr: Stdio,
        args: &[&str],
    ) -> Self {
        let log_before = read_log(dir.path()).len();
        // Also where a shell is between.
        if let Some(url) = url_of(dir.path()) {
            vggt.env("VGGT_DB", url);
        }
        if is_bucket() && vggt.get_envs().all(|(name, _)| name != "VGGT_OUT_ROOT") {
            vggt.envs(variables_of(dir.path()));
        }
        let mut process = vggt
            .args(["serve", "--host", "127.0.0.1", "--port", "0"])
            .args(["--device", "cpu"])
            .args((!args.contains(&"--checkpoint")).then_some("--demo"))
            .args(args)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let port = line
            .trim()
            .strip_prefix("Manager TCP Server running on port ")
            .unwrap_or_else(|| panic!("{line:?}: {}", read_log(dir.path())));
        Self {
            address: ([127, 0, 0, 1], port.parse().unwrap()).into(),
            dir,
            process,
            log_before,
        }
    }

    /// Where HTTP is served, of a service with `--http 127.0.0.1:0`: the first line of the log says so.
    pub(crate) fn http(&self) -> SocketAddr {
        wait_for("the address of HTTP", || {
            let log = self.log();
            let (_, rest) = log.get(self.log_before..)?.split_once(", HTTP on ")?;
            rest.split_once(',')?.0.parse().ok()
        })
    }

    pub(crate) fn out(&self) -> PathBuf {
        out_of(self.dir.path())
    }

    /// The folders of uploads that arrive.
    pub(crate) fn uploads(&self) -> Vec<PathBuf> {
        let above = match is_bucket() {
            true => {
                let processes = fs::read_dir(scratch_of(self.dir())).into_iter().flatten();
                processes.map(|process| process.unwrap().path()).collect()
            }
            false => vec![self.out()],
        };
        let folders = above
            .iter()
            .filter_map(|path| fs::read_dir(path.join(".tmp")).ok());
        folders
            .flatten()
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn store(&self) -> Store {
        store(self.dir.path())
    }

    pub(crate) fn log(&self) -> String {
        read_log(self.dir.path())
    }

    /// A connection that nobody has logged in on.
    pub(crate) fn connect(&self) -> Client {
        Client::new(self.address)
    }

    pub(crate) fn login(&self, name: &str) -> Client {
        let mut client = self.connect();
        assert_eq!(client.log_in(name, PASSWORD)[0], true, "{name}");
        client
    }

    /// As `kill -9` does; gives the folder back.
    pub(crate) fn kill(mut self) -> TempDir {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }

    /// Sends SIGTERM and gives the exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        self.signal("TERM")
    }

    /// Sends a signal that ends the process and gives the exit code.
    pub(crate) fn signal(&mut self, name: &str) -> Option<i32> {
        self.send_signal(name);
        self.process.wait().unwrap().code()
    }

    /// Sends a signal after which the process goes on.
    pub(crate) fn send_signal(&self, name: &str) {
        send_signal(self.process.id(), name);
    }

    /// No upload and no job's input is left, once what goes on has ended.
    pub(crate) fn assert_nothing_left(&self) {
        let start = Instant::now();
        loop {
            let left = leftovers(&self.out());
            if left.is_empty() {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "they are left: {left:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
    }
}

pub(crate) fn store(dir: &Path) -> Store {
    let settings = StoreSettings {
        db: database_of(dir),
        out_root: out_root_of(dir),
    };
    Store::open(&settings).unwrap()
}

fn read_log(dir: &Path) -> String {
    fs::read_to_string(dir.join("log")).unwrap_or_default()
}

/// What lies in the folders of uploads and jobs.
pub(crate) fn leftovers(out: &Path) -> Vec<PathBuf> {
    leftovers_of(out, is_bucket())
}

pub(crate) fn leftovers_of(out: &Path, in_bucket: bool) -> Vec<PathBuf> {
    let below = |root: &Path| -> Vec<PathBuf> {
        let folders = [".tmp", ".jobs"].map(|name| fs::read_dir(root.join(name)).ok());
        let entries = folders.into_iter().flatten().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let mut found = below(out);
    if in_bucket {
        // The server leaves folders in which there is no object any more.
        found.retain(|path| holds_files(path));
        // Beside the server's.
        let scratch = out.ancestors().nth(2).unwrap().join("scratch");
        let processes = fs::read_dir(scratch).into_iter().flatten().flatten();
        found.extend(processes.flat_map(|process| below(&process.path())));
    }
    found
}

fn holds_files(path: &Path) -> bool {
    match fs::read_dir(path) {
        Ok(mut entries) => entries.any(|entry| holds_files(&entry.unwrap().path())),
        Err(_) => path.is_file(),
    }
}

/// Asks again and again: for what another process does at its own pace.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The bytes of the tables, written by hand so that a mistake of the codec shows.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

/// What commands 2, 3 and 4 answer.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    Glb { name: String, bytes: Vec<u8> },
    Error(String),
}

impl Answer {
    pub(crate) fn glb(self) -> (String, Vec<u8>) {
        match self {
            Self::Glb { name, bytes } => (name, bytes),
            Self::Error(e) => panic!("{e}"),
        }
    }

    pub(crate) fn error(self) -> String {
        match self {
            Self::Error(e) => e,
            Self::Glb { name, bytes } => panic!("{name}, {} bytes", bytes.len()),
        }
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream }
    }

    /// From an address of this machine, such as 127.0.0.2.
    pub(crate) fn from(source: &str, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let source: SocketAddr = format!("{source}:0").parse().unwrap();
        socket.bind(&source.into()).unwrap();
        socket.connect(&address.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream }
    }

    pub(crate) fn send(&mut self, command: u8, payload: &[u8]) {
        let mut bytes = vec![command];
        bytes.extend((payload.len() as u32).to_be_bytes());
        bytes.extend(payload);
        self.stream.write_all(&bytes).unwrap();
    }

    pub(crate) fn read_blob(&mut self) -> Vec<u8> {
        self.try_read_blob().unwrap()
    }

    pub(crate) fn try_read_blob(&mut self) -> std::io::Result<Vec<u8>> {
        let mut len = [0; 4];
        self.stream.read_exact(&mut len)?;
        let mut bytes = vec![0; u32::from_be_bytes(len) as usize];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn json(&mut self, command: u8, payload: &str) -> Value {
        self.send(command, payload.as_bytes());
        serde_json::from_slice(&self.read_blob()).unwrap()
    }

    pub(crate) fn log_in(&mut self, name: &str, password: &str) -> Value {
        self.json(
            1,
            &serde_json::json!({"u": name, "p": password}).to_string(),
        )
    }

    pub(crate) fn read_named(&mut self) -> Answer {
        let name = String::from_utf8(self.read_blob()).unwrap();
        let bytes = self.read_blob();
        if name.is_empty() {
            Answer::Error(String::from_utf8(bytes).unwrap())
        } else {
            Answer::Glb { name, bytes }
        }
    }

    pub(crate) fn images(&mut self, images: &[&[u8]]) -> Answer {
        self.send(2, &images_payload(images));
        self.read_named()
    }

    pub(crate) fn video(&mut self, bytes: &[u8]) -> Answer {
        self.send(3, bytes);
        self.read_named()
    }

    pub(crate) fn get(&mut self, hash: &str) -> Answer {
        self.send(4, hash.as_bytes());
        let bytes = self.read_blob();
        if bytes.starts_with(b"glTF") {
            Answer::Glb {
                name: hash.to_owned(),
                bytes,
            }
        } else {
            Answer::Error(String::from_utf8(bytes).unwrap())
        }
    }

    /// Submits images as a job and gives its id.
    pub(crate) fn submit(&mut self, images: &[&[u8]]) -> i64 {
        let mut payload = vec![2];
        payload.extend(images_payload(images));
        self.send(8, &payload);
        let reply: Value = serde_json::from_slice(&self.read_blob()).unwrap();
        reply["job"].as_i64().unwrap_or_else(|| panic!("{reply}"))
    }

    pub(crate) fn status(&mut self, job: i64) -> Value {
        self.json(9, &format!("{{\"job\": {job}}}"))
    }

    /// Waits until the job is over and gives its last state.
    pub(crate) fn finished(&mut self, job: i64) -> Value {
        wait_for("a job", || {
            let status = self.status(job);
            let state = status["state"]
                .as_str()
                .unwrap_or_else(|| panic!("{status}"));
            (!matches!(state, "queued" | "running")).then_some(status)
        })
    }

    /// Whether the server has closed this connection, or does now.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(n) => n == 0,
            Err(e) => e.kind() != std::io::ErrorKind::WouldBlock,
        }
    }

    /// Waits so long for the end of the connection; `None` when it is still open.
    pub(crate) fn is_closed_within(&mut self, time: Duration) -> Option<()> {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let closed = self.is_closed();
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        closed.then_some(())
    }

    pub(crate) fn close(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

pub(crate) fn images_payload(images: &[&[u8]]) -> Vec<u8> {
    let mut payload = (images.len() as u32).to_be_bytes().to_vec();
    for image in images {
        payload.extend((image.len() as u32).to_be_bytes());
        payload.extend(*image);
    }
    payload
}

/// The first `n` images of the demo.
pub(crate) fn demo_images(n: usize) -> Vec<&'static [u8]> {
    demo::FRAMES
        .iter()
        .take(n)
        .map(|(_, bytes)| *bytes)
        .collect()
}

/// Enough images for a job that is still running when others have been submitted, also on a busy disk.
pub(crate) fn long_job() -> Vec<&'static [u8]> {
    demo_images(8).repeat(5)
}

/// The first two images with bytes of no meaning after their end, so that `i` makes another input of them.
pub(crate) fn varied(i: usize) -> Vec<Vec<u8>> {
    let mut images: Vec<Vec<u8>> = demo_images(2).iter().map(|p| p.to_vec()).collect();
    images[1].extend((i as u32).to_be_bytes());
    images
}

pub(crate) fn refs(images: &[Vec<u8>]) -> Vec<&[u8]> {
    images.iter().map(Vec::as_slice).collect()
}

pub(crate) fn clip() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("model/demo/clip.mp4");
    fs::read(path).unwrap()
}

/// A whole GLB of version 2 with points in it.
pub(crate) fn assert_glb(bytes: &[u8]) {
    assert_eq!(&bytes[..4], b"glTF");
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!((word(4), word(8)), (2, bytes.len() as u32));
    let json = &bytes[20..20 + word(12) as usize];
    let document: Value = serde_json::from_slice(json).unwrap();
    let points = document["meshes"][0]["primitives"][0]["mode"].as_u64();
    assert_eq!(points, Some(0), "{document}");
}
