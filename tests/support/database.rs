//! The database of a test: a file of SQLite, or one of its own in a PostgreSQL server with `VGGT_TEST_DATABASE=postgres`.
//!
//! The server is a cluster in a temporary folder, on the loopback interface alone. It is started with the first database that a
//! test asks for, and ends with the tests' process, however that ends.

use std::{
    collections::HashSet,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Mutex, OnceLock},
};

use diesel::{Connection, SqliteConnection, connection::SimpleConnection};
use sha2::{Digest, Sha256};
use vggt::store::Database;

use super::text;

/// Whether the tests' services keep their rows in PostgreSQL.
pub(crate) fn is_postgres() -> bool {
    std::env::var("VGGT_TEST_DATABASE").is_ok_and(|name| name == "postgres")
}

/// Ends a test of what only SQLite has: its files, its locks, its triggers, and databases of before PostgreSQL was known.
macro_rules! only_for_sqlite {
    () => {
        if $crate::support::database::is_postgres() {
            return;
        }
    };
}
pub(crate) use only_for_sqlite;

/// The database of the service in a folder.
pub(crate) fn database_of(dir: &Path) -> Database {
    match url_of(dir) {
        Some(url) => url.parse().unwrap(),
        None => dir.join("vggt_app.db").into(),
    }
}

/// The address of the database of a folder, which is made with the first call; `None` for SQLite.
pub(crate) fn url_of(dir: &Path) -> Option<String> {
    is_postgres().then(|| Cluster::get().url_of(dir))
}

/// The rows of the service in a folder as another program sees them.
pub(crate) enum Rows {
    Sqlite(SqliteConnection),
    Postgres(String),
}

impl Rows {
    pub(crate) fn of(dir: &Path) -> Self {
        if let Some(url) = url_of(dir) {
            return Self::Postgres(url);
        }
        let path = dir.join("vggt_app.db");
        let mut conn = SqliteConnection::establish(text(&path)).unwrap();
        conn.batch_execute("PRAGMA busy_timeout = 10000;").unwrap();
        Self::Sqlite(conn)
    }

    pub(crate) fn batch_execute(&mut self, sql: &str) -> Result<(), String> {
        match self {
            Self::Sqlite(conn) => conn.batch_execute(sql).map_err(|e| e.to_string()),
            Self::Postgres(url) => psql(url, sql).map(|_| ()),
        }
    }
}

/// Runs a query and gives its rows, one a line.
pub(crate) fn psql(url: &str, sql: &str) -> Result<String, String> {
    let mut psql = Command::new(program("psql"));
    let set = ["--quiet", "--no-psqlrc", "--tuples-only", "--no-align"];
    let output = psql
        .arg(url)
        .args(set)
        .args(["--set", "ON_ERROR_STOP=1", "--command", sql])
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// A PostgreSQL server for this process.
pub(crate) struct Cluster {
    port: u16,
    dir: PathBuf,
    /// Its standard input is closed with this process, which ends the server.
    process: Child,
    said: BufReader<ChildStdout>,
    made: Mutex<HashSet<PathBuf>>,
}

/// Starts the server, says so, and ends it with its folder once the standard input is closed.
const SCRIPT: &str = r#"
set -e
trap 'rm -rf "$dir"' EXIT
"$bin/initdb" --pgdata="$dir/data" --username=vggt --auth=trust --encoding=UTF8 --locale=C >"$dir/log" 2>&1
start() {
    # One that was killed has children that are about to end, and the next one refuses to start beside them.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        "$bin/postgres" -D "$dir/data" -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories="$dir" \
            -c ssl=on -c ssl_cert_file="$dir/cert.pem" -c ssl_key_file="$dir/key.pem" -c max_connections=300 \
            -c fsync="$durable" -c full_page_writes="$durable" >>"$dir/log" 2>&1 </dev/null &
        server=$!
        while kill -0 "$server" 2>/dev/null; do
            "$bin/pg_isready" --quiet --host=127.0.0.1 --port="$port" && echo ready && return
            sleep 0.05
        done
        sleep 0.2
    done
    cat "$dir/log"
    exit 1
}
start
while read -r command; do
    case $command in
    kill)
        kill -KILL "$server"
        wait "$server" 2>/dev/null || true
        echo killed
        ;;
    start) start ;;
    esac
done
kill -INT "$server" 2>/dev/null && wait "$server" || true
"#;

impl Cluster {
    pub(crate) fn get() -> &'static Self {
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        CLUSTER.get_or_init(|| Self::start("off"))
    }

    /// One of its own, which can be killed: what it has confirmed is on the disk.
    pub(crate) fn durable() -> Self {
        Self::start("on")
    }

    /// Ends the server as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.tell("kill", "killed");
    }

    /// Starts it again.
    pub(crate) fn start_again(&mut self) {
        self.tell("start", "ready");
    }

    fn tell(&mut self, command: &str, answer: &str) {
        let stdin = self.process.stdin.as_mut().unwrap();
        writeln!(stdin, "{command}").unwrap();
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), answer);
    }

    fn start(durable: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("vggt-pg-")
            .tempdir()
            .unwrap()
            .keep();
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(dir.join("cert.pem"), key.cert.pem()).unwrap();
        write_private(&dir.join("key.pem"), &key.signing_key.serialize_pem());
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        // Free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        // PostgreSQL refuses to run as root; Debian's package makes the user.
        let is_root = fs::read_to_string("/proc/self/status")
            .unwrap()
            .contains("Uid:\t0\t");
        let mut command = match is_root {
            true => {
                let made = Command::new("chown")
                    .arg("-R")
                    .arg("postgres")
                    .arg(&dir)
                    .status()
                    .unwrap();
                assert!(
                    made.success(),
                    "no user postgres: tools/setup --tests makes it"
                );
                let mut command = Command::new("setpriv");
                command.args([
                    "--reuid=postgres",
                    "--regid=postgres",
                    "--clear-groups",
                    "sh",
                ]);
                command
            }
            false => Command::new("sh"),
        };
        let mut process = command
            .args(["-c", SCRIPT])
            .env("dir", &dir)
            .env("bin", program("initdb").parent().unwrap())
            .env("port", port.to_string())
            .env("durable", durable)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "PostgreSQL did not start");
        Self {
            port,
            dir,
            process,
            said,
            made: Mutex::default(),
        }
    }

    /// The certificate of the server, for the name localhost.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.join("cert.pem")
    }

    fn url(&self, name: &str) -> String {
        format!(
            "postgres://vggt@127.0.0.1:{}/{name}?sslmode=disable",
            self.port
        )
    }

    /// The address of the database of a folder, which is made with the first call.
    pub(crate) fn url_of(&self, dir: &Path) -> String {
        let dir = fs::canonicalize(dir).unwrap();
        let digest = Sha256::digest(text(&dir));
        let name: String = digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let name = format!("test_{name}");
        let url = self.url(&name);
        // Held while it is made: others ask for the same one.
        let mut made = self.made.lock().unwrap_or_else(|e| e.into_inner());
        if made.insert(dir) {
            let create = format!("CREATE DATABASE {name} STRATEGY file_copy");
            psql(&self.url("postgres"), &create).unwrap();
        }
        url
    }
}

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A program of PostgreSQL: Debian has the server's beside no others.
fn program(name: &str) -> PathBuf {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .expect("no PostgreSQL: tools/setup --tests installs it")
        .map(|entry| entry.unwrap().path())
        .collect();
    versions.sort();
    versions.last().unwrap().join("bin").join(name)
}
