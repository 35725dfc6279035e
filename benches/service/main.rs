//! The service's own cost, on loopback: bytes per second up and down on both ports, memory while many upload, and the time it adds
//! to a reconstruction. `cargo bench --bench service [-- CLIENTS MIB]`; 50 clients with 100 MiB each by default. `-- bytes` measures
//! bytes per second alone. Files are in the system's folder for temporary files: with `TMPDIR=/dev/shm` the disk does not count.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a benchmark has no interface, and a failure ends it"
)]

mod http;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use vggt::{
    pipeline::{
        DeviceChoice, Network, NetworkSource, ReconstructOptions, Silent, Source, reconstruct,
        write_glb,
    },
    store::{Admission, JobKind, JobOutcome, NewJob, Store, StoreSettings},
};
use vggt_model::{Precision, demo};

use self::http::{Http, certificate};

const MIB: usize = 1 << 20;
const ROUNDS: usize = 25;

/// Rounds of everything that is measured in bytes per second, each in turn.
const ROUNDS_OF_BYTES: usize = 7;

/// Bytes of an upload, below the limit of the service.
const UP: usize = 400 * MIB;

/// Bytes of a result behind its head.
const DOWN: usize = 512 * MIB;

const USER: &str = "ann";
const PASSWORD: &str = "pw";

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let clients = numbers.first().copied().unwrap_or(50);
    let mib = numbers.get(1).copied().unwrap_or(100);

    let plain = Stored::new();
    let server = Server::start(plain.dir.path(), &[]);
    let idle = server.memory("VmRSS");
    measure_bytes(&server, &plain);
    if std::env::args().any(|a| a == "bytes") {
        return;
    }
    let mut client = server.login();

    let before = server.memory("VmHWM");
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..clients {
            let mut client = server.login();
            scope.spawn(move || {
                let piece = vec![0; MIB];
                let mut head = vec![3];
                head.extend(((mib * MIB) as u32).to_be_bytes());
                client.write_all(&head).unwrap();
                for _ in 0..mib {
                    client.write_all(&piece).unwrap();
                }
                read_blob(&mut client);
                read_blob(&mut client);
            });
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{clients} clients with {mib} MiB each: {:.0} MB/s; memory idle {idle} MiB, peak before {before} MiB, peak after {} MiB",
        (clients * mib * MIB) as f64 / 1e6 / seconds,
        server.memory("VmHWM"),
    );

    let mut through = Vec::new();
    let mut direct = Vec::new();
    let reconstruct = in_process(plain.dir.path());
    // In turns, so that both meet the same machine.
    for round in 0..=ROUNDS {
        let start = Instant::now();
        let mut payload = (demo::FRAMES.len() as u32).to_be_bytes().to_vec();
        for (_, bytes) in demo::FRAMES {
            payload.extend((bytes.len() as u32).to_be_bytes());
            payload.extend(bytes);
        }
        send(&mut client, 2, &[&payload]);
        assert!(!read_blob(&mut client).is_empty());
        assert!(read_blob(&mut client).starts_with(b"glTF"));
        let one = start.elapsed();
        let start = Instant::now();
        reconstruct();
        // The first round loads the network and warms the caches.
        if round > 0 {
            through.push(one);
            direct.push(start.elapsed());
        }
    }
    through.sort();
    direct.sort();
    // The best of each is what the machine can do; the median shows how busy it was.
    for (what, at) in [("best", 0), ("median", ROUNDS / 2)] {
        let (through, direct) = (through[at].as_secs_f64(), direct[at].as_secs_f64());
        println!(
            "the demo's 8 frames, {what} of {ROUNDS}: {:.1} ms through the service, {:.1} ms in process, {:+.1} %",
            through * 1e3,
            direct * 1e3,
            (through / direct - 1.0) * 100.0
        );
    }
}

/// A folder with a user and a job whose result is large.
struct Stored {
    dir: TempDir,
    job: i64,
    hash: String,
    len: usize,
}

impl Stored {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreSettings {
            db: dir.path().join("vggt_app.db").into(),
            out_root: dir.path().join("out").into(),
        })
        .unwrap();
        let user = store.add_user(USER, PASSWORD, false).unwrap();
        let glb = store
            .save_glb(user.id, "big.glb", &mut |out| {
                out.write_all(b"glTF\x02\0\0\0")?;
                out.write_all(&((12 + DOWN) as u32).to_le_bytes())?;
                let piece = vec![7; MIB];
                (0..DOWN / MIB).try_for_each(|_| out.write_all(&piece))
            })
            .unwrap();
        let job = store
            .add_job(&NewJob {
                user_id: user.id,
                kind: JobKind::Images,
                original_name: "big.glb".to_owned(),
                options_json: "{}".to_owned(),
                input_key: String::new(),
                dir: "gone".to_owned(),
                admission: Admission::default(),
                hash: None,
            })
            .unwrap();
        let hash = glb.hashed_name;
        let done = JobOutcome::Done { hash: hash.clone() };
        assert!(store.finish_job(job.id, &done).unwrap());
        Self {
            dir,
            job: job.id,
            hash,
            len: glb.file_size as usize,
        }
    }
}

/// Bytes per second of one connection, up and down, on the TCP port, over HTTP and over HTTPS.
fn measure_bytes(server: &Server, plain: &Stored) {
    let encrypted = Stored::new();
    let tls = certificate(encrypted.dir.path());
    let options = ["--tls_cert", "cert.pem", "--tls_key", "key.pem"];
    let other = Server::start(encrypted.dir.path(), &options);
    let http = Http::log_in(server.http, None);
    let https = Http::log_in(other.http, Some(tls));
    let big = vec![0; UP];
    let (down, up) = (plain.len, UP);
    // It ends with an error, which takes the start of a decoding process; nothing is flushed to the disk.
    let refused = || {
        let mut client = server.login();
        let start = Instant::now();
        send(&mut client, 3, &[&big]);
        assert!(read_blob(&mut client).is_empty());
        read_blob(&mut client);
        start.elapsed()
    };
    let submitted = || {
        let mut client = server.login();
        let start = Instant::now();
        send(&mut client, 8, &[&[3], &big]);
        let reply = String::from_utf8(read_blob(&mut client)).unwrap();
        let time = start.elapsed();
        let (_, rest) = reply.split_once("\"job\":").unwrap();
        let digits = rest.chars().skip_while(|c| *c == ' ');
        let digits = digits.take_while(char::is_ascii_digit);
        http.remove(digits.collect::<String>().parse().unwrap());
        time
    };
    let get = || {
        let mut client = server.login();
        let start = Instant::now();
        send(&mut client, 4, &[plain.hash.as_bytes()]);
        assert_eq!(skip_blob(&mut client), down);
        start.elapsed()
    };
    let encrypted = || https.fetch(encrypted.job, down);
    let mut all = [
        Measured::new("up, TCP, a video that is none", up, refused),
        Measured::new("up, TCP, a job", up, submitted),
        Measured::new("up, HTTP, a job", up, || http.submit(&big)),
        Measured::new("up, HTTP, resumable", up, || http.append(&big)),
        Measured::new("up, HTTPS, a job", up, || https.submit(&big)),
        Measured::new("down, TCP", down, get),
        Measured::new("down, HTTP", down, || http.fetch(plain.job, down)),
        Measured::new("down, HTTPS", down, encrypted),
    ];
    for _ in 0..ROUNDS_OF_BYTES {
        // In turns, so that all meet the same machine.
        for Measured {
            bytes, rates, run, ..
        } in &mut all
        {
            rates.push(*bytes as f64 / 1e6 / run().as_secs_f64());
        }
    }
    for Measured { what, rates, .. } in &mut all {
        rates.sort_by(f64::total_cmp);
        let listed: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
        let median = rates[ROUNDS_OF_BYTES / 2];
        println!("{what}: {median:.0} MB/s (of {})", listed.join(" "));
    }
}

struct Measured<'a> {
    what: &'static str,
    bytes: usize,
    /// In MB/s.
    rates: Vec<f64>,
    run: Box<dyn Fn() -> Duration + 'a>,
}

impl<'a> Measured<'a> {
    fn new(what: &'static str, bytes: usize, run: impl Fn() -> Duration + 'a) -> Self {
        Self {
            what,
            bytes,
            rates: Vec::new(),
            run: Box::new(run),
        }
    }
}

struct Server {
    process: Child,
    address: SocketAddr,
    http: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn start(dir: &Path, options: &[&str]) -> Self {
        let log = dir.join("log");
        let mut process = Command::new(env!("CARGO_BIN_EXE_vggt"))
            .current_dir(dir)
            .args(["serve", "--demo", "--preload", "--device", "cpu"])
            .args(["--host", "127.0.0.1", "--port", "0", "--no_cache"])
            .args(["--max_connections_per_address", "256", "--queue", "256"])
            .args(["--queue_per_user", "256", "--http", "127.0.0.1:0"])
            .args(options)
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let port: u16 = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
        Self {
            process,
            address: ([127, 0, 0, 1], port).into(),
            http: http_of(&log),
        }
    }

    fn login(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        send(&mut stream, 1, &[br#"{"u": "ann", "p": "pw"}"#]);
        assert_eq!(read_blob(&mut stream), b"[true, false]");
        stream
    }

    /// Returns a memory figure of the process in MiB, as Linux reports it.
    fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix(field));
        let kib = line.and_then(|l| l.trim_start_matches(':').split_whitespace().next());
        kib.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) / 1024
    }
}

/// Where HTTP is served: the first line of the log says so.
fn http_of(log: &Path) -> SocketAddr {
    loop {
        let text = fs::read_to_string(log).unwrap();
        let told = text.split_once(", HTTP on ");
        if let Some((address, _)) = told.and_then(|(_, rest)| rest.split_once(',')) {
            return address.parse().unwrap();
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn send(stream: &mut impl Write, command: u8, payload: &[&[u8]]) {
    let len: usize = payload.iter().map(|part| part.len()).sum();
    let mut head = vec![command];
    head.extend((len as u32).to_be_bytes());
    stream.write_all(&head).unwrap();
    for part in payload {
        stream.write_all(part).unwrap();
    }
}

fn read_len(stream: &mut impl Read) -> usize {
    let mut len = [0; 4];
    stream.read_exact(&mut len).unwrap();
    u32::from_be_bytes(len) as usize
}

fn read_blob(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = vec![0; read_len(stream)];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn skip_blob(stream: &mut impl Read) -> usize {
    let len = read_len(stream);
    let mut piece = vec![0; MIB];
    let mut left = len;
    while left > 0 {
        let n = left.min(MIB);
        stream.read_exact(&mut piece[..n]).unwrap();
        left -= n;
    }
    len
}

/// The same recipe without the service: files in, a file out.
fn in_process(dir: &Path) -> impl Fn() {
    let network = Network::load(
        &NetworkSource::Demo,
        DeviceChoice::Cpu.open().unwrap(),
        None,
        Precision::Exact,
    )
    .unwrap();
    let paths: Vec<_> = demo::FRAMES
        .iter()
        .map(|(name, bytes)| {
            let path = dir.join(name);
            fs::write(&path, bytes).unwrap();
            path
        })
        .collect();
    let out = dir.join("direct.glb");
    move || {
        let options = ReconstructOptions {
            fit_memory: false,
            ..ReconstructOptions::default()
        };
        let source = Source::Images(paths.clone());
        let made = reconstruct(&network, &source, &options, &mut Silent).unwrap();
        let mut file = vggt::atomic_file::AtomicFile::create(&out).unwrap();
        let frames = &*made.predictions;
        write_glb(
            &made.scene,
            frames,
            &made.provenance,
            Default::default(),
            &mut file,
        )
        .unwrap();
        file.commit().unwrap();
    }
}
