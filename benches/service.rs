//! The service's own cost, on loopback: bytes per second up and down, memory while many upload, and the time it adds to
//! a reconstruction. `cargo bench --bench service [-- CLIENTS MIB]`; 50 clients with 100 MiB each by default.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a benchmark has no interface, and a failure ends it"
)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Instant,
};

use vggt::{
    pipeline::{
        DeviceChoice, Network, NetworkSource, ReconstructOptions, Silent, Source, reconstruct,
        write_glb,
    },
    store::{Store, StoreSettings},
};
use vggt_model::{Precision, demo};

const MIB: usize = 1 << 20;
const ROUNDS: usize = 25;

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let clients = numbers.first().copied().unwrap_or(50);
    let mib = numbers.get(1).copied().unwrap_or(100);

    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&StoreSettings {
        db: dir.path().join("vggt_app.db"),
        out_root: dir.path().join("out"),
    })
    .unwrap();
    let user = store.add_user("ann", "pw", false).unwrap();
    let mut server = Server::start(dir.path());

    let glb = store
        .save_glb(user.id, "big.glb", &mut |out| {
            let len = (12 + 512 * MIB) as u32;
            out.write_all(b"glTF\x02\0\0\0")?;
            out.write_all(&len.to_le_bytes())?;
            let piece = vec![7; MIB];
            (0..512).try_for_each(|_| out.write_all(&piece))
        })
        .unwrap();
    let idle = server.memory("VmRSS");

    let mut client = server.login();
    let big = vec![0; 500 * MIB];
    report("up, a video that is none", big.len(), || {
        send(&mut client, 3, &big);
        assert!(read_blob(&mut client).is_empty());
        read_blob(&mut client).len()
    });
    drop(big);
    report("down, a stored GLB", glb.file_size as usize, || {
        send(&mut client, 4, glb.hashed_name.as_bytes());
        skip_blob(&mut client)
    });

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
    let reconstruct = in_process(dir.path());
    // In turns, so that both meet the same machine.
    for round in 0..=ROUNDS {
        let start = Instant::now();
        let mut payload = (demo::FRAMES.len() as u32).to_be_bytes().to_vec();
        for (_, bytes) in demo::FRAMES {
            payload.extend((bytes.len() as u32).to_be_bytes());
            payload.extend(bytes);
        }
        send(&mut client, 2, &payload);
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
    server.process.kill().unwrap();
    server.process.wait().unwrap();
}

struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start(dir: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_vggt"))
            .current_dir(dir)
            .args(["serve", "--demo", "--preload", "--device", "cpu"])
            .args(["--host", "127.0.0.1", "--port", "0", "--no_cache"])
            .args(["--max_connections_per_address", "256", "--queue", "256"])
            .args(["--queue_per_user", "256"])
            .stdout(Stdio::piped())
            .stderr(fs::File::create(dir.join("log")).unwrap())
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
        }
    }

    fn login(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        send(&mut stream, 1, br#"{"u": "ann", "p": "pw"}"#);
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

fn report(what: &str, bytes: usize, mut run: impl FnMut() -> usize) {
    let mut rates: Vec<f64> = (0..3)
        .map(|_| {
            let start = Instant::now();
            run();
            bytes as f64 / 1e6 / start.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    println!(
        "{what}: {:.0} MB/s (of {:.0} to {:.0})",
        rates[1], rates[0], rates[2]
    );
}

fn send(stream: &mut TcpStream, command: u8, payload: &[u8]) {
    let mut head = vec![command];
    head.extend((payload.len() as u32).to_be_bytes());
    stream.write_all(&head).unwrap();
    stream.write_all(payload).unwrap();
}

fn read_len(stream: &mut TcpStream) -> usize {
    let mut len = [0; 4];
    stream.read_exact(&mut len).unwrap();
    u32::from_be_bytes(len) as usize
}

fn read_blob(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; read_len(stream)];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn skip_blob(stream: &mut TcpStream) -> usize {
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
