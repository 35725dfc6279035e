//! `vggt view` and `export --open`: a local server that ends with its tab.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::support::{NO_CACHE, fail, run};

/// How long a process may take that has to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that serves a page.
struct Viewer {
    process: Child,
    port: u16,
    /// With slashes around it.
    path: String,
}

impl Viewer {
    fn start(dir: &Path, args: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_vggt"))
            .env("XDG_CACHE_HOME", NO_CACHE)
            .current_dir(dir)
            .args(args)
            .arg("--no-browser")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut lines = lines.map(Result::unwrap);
        let address = lines
            .find_map(|line| Some(line.split_once("http://127.0.0.1:")?.1.to_owned()))
            .unwrap();
        // Read to its end, so that the program can go on writing.
        std::thread::spawn(move || lines.for_each(drop));
        let (port, rest) = address.split_once('/').unwrap();
        let secret = rest.split('/').next().unwrap();
        assert_eq!(secret.len(), 32);
        Self {
            process,
            port: port.parse().unwrap(),
            path: format!("/{secret}/"),
        }
    }

    /// Asks for a path; the answer ends with the connection.
    fn ask(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn get(&self, path: &str) -> String {
        let mut answer = Vec::new();
        self.ask(path).read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// What a tab holds open; answered once the program has counted it.
    fn tab(&self) -> TcpStream {
        let mut stream = self.ask(&format!("{}alive", self.path));
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).unwrap();
        assert_eq!(&begin, b"HTTP/1.1 200");
        stream
    }

    fn is_over(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }

    fn ends(&mut self) {
        let begin = Instant::now();
        while !self.is_over() {
            assert!(begin.elapsed() < PATIENCE, "it did not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_page_is_served_to_who_knows_its_address_until_its_last_tab_is_closed() {
    let dir = TempDir::new().unwrap();
    let export = [
        "export",
        "--demo",
        "--out",
        "scene.glb",
        "--out",
        "scene.html",
    ];
    run(dir.path(), &[&export[..], &["--max_frames", "2"]].concat());
    let mut viewer = Viewer::start(dir.path(), &["view", "scene.glb"]);
    let page = viewer.get(&viewer.path);
    assert!(page.starts_with("HTTP/1.1 200"), "{page:.200}");
    assert!(page.contains("<title>scene</title>") && page.contains("data-alive=\"alive\""));
    assert!(page.ends_with("</body>\n</html>\n"));
    for path in ["/", "/alive", "/0123456789abcdef0123456789abcdef/"] {
        assert!(viewer.get(path).starts_with("HTTP/1.1 404"), "{path}");
    }

    // A reload: the page comes back before the program has given up.
    let (first, second) = (viewer.tab(), viewer.tab());
    drop(first);
    drop(second);
    let third = viewer.tab();
    std::thread::sleep(Duration::from_secs(4));
    assert!(!viewer.is_over());
    drop(third);
    viewer.ends();

    // A page brings what it has beside the GLB.
    let mut viewer = Viewer::start(dir.path(), &["view", "scene.html"]);
    let page = viewer.get(&viewer.path);
    let old = fs::read_to_string(dir.path().join("scene.html")).unwrap();
    let scene = |page: &str| page[page.find("<script class=\"glb\"").unwrap()..].to_owned();
    assert!(scene(&page) == scene(&old));
    assert!(page.contains("data-alive=\"alive\"") && page.contains("connect-src 'self'"));
    drop(viewer.tab());
    viewer.ends();
}

#[test]
fn an_export_can_be_looked_at_whatever_its_format() {
    let dir = TempDir::new().unwrap();
    let export = [
        "export",
        "--demo",
        "--max_frames",
        "2",
        "--out",
        "a.ply",
        "--open",
    ];
    let mut viewer = Viewer::start(
        dir.path(),
        &[&export[..], &["--save-predictions", "a.safetensors"]].concat(),
    );
    let page = viewer.get(&viewer.path);
    assert!(page.contains("<title>a</title>") && page.contains("<script class=\"confidence\""));
    drop(viewer.tab());
    viewer.ends();
    assert!(dir.path().join("a.ply").is_file());

    // The same from saved predictions.
    let mut viewer = Viewer::start(dir.path(), &["view", "a.safetensors"]);
    let scene = |page: &str| page[page.find("<script class=\"confidence\"").unwrap()..].to_owned();
    assert!(scene(&viewer.get(&viewer.path)) == scene(&page));
    drop(viewer.tab());
    viewer.ends();
}

#[test]
fn what_cannot_be_shown_is_told() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("a.glb"), "not a GLB").unwrap();
    fs::write(dir.path().join("a.html"), "<!DOCTYPE html><title>x</title>").unwrap();
    fs::write(dir.path().join("a.obj"), "").unwrap();
    for file in ["a.glb", "a.html", "a.obj"] {
        let err = fail(dir.path(), 2, &["view", file]);
        assert!(
            err.contains(file) && err.contains("expected a .glb or .html"),
            "{err}"
        );
    }
    let err = fail(dir.path(), 1, &["view", "none.glb"]);
    assert!(err.contains("none.glb"), "{err}");
    let both = ["export", "--each", "a", "--out", "b/", "--open"];
    assert!(fail(dir.path(), 2, &both).contains("--open"));
}
