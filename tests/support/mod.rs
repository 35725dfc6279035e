//! What tests share: calls of the program here, the service, fixtures and readers in a module each.

pub(crate) mod bucket;
pub(crate) mod bucket_proxy;
pub(crate) mod clip;
pub(crate) mod database;
pub(crate) mod files;
pub(crate) mod glb;
pub(crate) mod http;
pub(crate) mod placed;
pub(crate) mod random;
pub(crate) mod scene;
pub(crate) mod service;
pub(crate) mod store;
pub(crate) mod synthetic;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use sha2::{Digest, Sha256};

/// A folder of caches that cannot be: no result of one call is taken for another's, and the user's cache stays as it is.
pub(crate) const NO_CACHE: &str = "/dev/null/none";

/// The program in `dir`, with an empty cache, no hub but the one a test gives it, and no HTTP.
pub(crate) fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vggt"));
    command
        .current_dir(dir)
        .env("HF_HOME", dir.join(".empty-cache"))
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .env("XDG_CACHE_HOME", NO_CACHE)
        .env_remove("HF_TOKEN")
        .env_remove("SSL_CERT_FILE")
        .env_remove("VGGT_NAME_SERVER")
        // Services of tests run side by side; one that needs HTTP says where.
        .env("VGGT_HTTP", "off")
        .env_remove("VGGT_DB")
        .env_remove("VGGT_OUT_ROOT")
        .env_remove("VGGT_SCRATCH")
        .env("TORCH_HOME", dir.join(".empty-cache"))
        .env_remove("HUGGING_FACE_HUB_TOKEN")
        .env_remove("HUGGINGFACE_HUB_CACHE")
        .env_remove("TRANSFORMERS_CACHE")
        .env_remove("HF_HUB_CACHE");
    if let Some(url) = database::url_of(dir) {
        command.env("VGGT_DB", url);
    }
    command.envs(files::variables_of(dir));
    command
}

pub(crate) fn vggt(dir: &Path, args: &[&str]) -> Output {
    command(dir).args(args).output().unwrap()
}

/// Runs a call that must succeed and gives its standard output.
pub(crate) fn run(dir: &Path, args: &[&str]) -> String {
    let output = vggt(dir, args);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {err}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a call that must fail with `code` and gives its standard error.
pub(crate) fn fail(dir: &Path, code: i32, args: &[&str]) -> String {
    let output = vggt(dir, args);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {err}");
    assert!(!err.contains("panicked"), "{err}");
    err
}

/// What `vggt export --json` says of a call that must succeed.
pub(crate) fn summary(dir: &Path, args: &[&str]) -> Value {
    let all = [&["export", "--json"], args].concat();
    serde_json::from_str(&run(dir, &all)).unwrap()
}

pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Makes a pipe with a name.
pub(crate) fn mkfifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Names in a folder, sorted; the cache of [`command`] is none of them, nor is the folder of a bucket.
pub(crate) fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != ".empty-cache" && name != files::FOLDER)
        .collect();
    names.sort();
    names
}

/// Where a GLB goes that the Khronos validator is to see.
pub(crate) fn checked(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("glb");
    fs::create_dir_all(&dir).unwrap();
    dir.join(name)
}

/// SHA-256 in hex digits.
pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// Sends a signal to a process.
pub(crate) fn send_signal(process: u32, name: &str) {
    let process = process.to_string();
    let sent = Command::new("kill").args(["-s", name, &process]).status();
    assert!(sent.unwrap().success());
}
