//! The cache's layout: names that are safe to be paths, snapshots, links.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use hf_hub::{Cache, Repo, RepoType};

use super::HubError;
use crate::system;

/// Whether each part between slashes is a plain file name.
fn is_plain(path: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c))
    };
    path.len() <= 256 && path.split('/').all(part)
}

pub(super) fn check_repo(repo: &str) -> Result<(), HubError> {
    if is_plain(repo) && repo.split('/').count() == 2 {
        return Ok(());
    }
    let expected = "expected org/name, such as facebook/VGGT-1B";
    Err(HubError::Setting {
        what: "a repo",
        value: repo.to_owned(),
        expected,
    })
}

pub(super) fn check_path(what: &'static str, value: &str) -> Result<(), HubError> {
    if is_plain(value) {
        return Ok(());
    }
    let expected = "expected letters, digits, and . _ - + between single slashes";
    Err(HubError::Setting {
        what,
        value: value.to_owned(),
        expected,
    })
}

fn repo(repo: &str, revision: &str) -> Repo {
    Repo::with_revision(repo.to_owned(), RepoType::Model, revision.to_owned())
}

/// The folder of a repo.
pub(super) fn folder(cache: &Path, name: &str) -> PathBuf {
    cache.join(repo(name, "main").folder_name())
}

/// The folder of the snapshot that `revision` stood at when it was last asked for, if it is there.
pub(super) fn snapshot(cache: &Path, name: &str, revision: &str) -> Option<PathBuf> {
    let repo = repo(name, revision);
    let folder = cache.join(repo.folder_name());
    let written = fs::read_to_string(folder.join("refs").join(revision)).ok();
    // A commit is its own name.
    let commit = written.as_deref().map_or(revision, str::trim);
    if !is_plain(commit) {
        return None;
    }
    Some(Cache::new(cache.to_owned()).repo(repo).pointer_path(commit)).filter(|path| path.is_dir())
}

/// Where the bytes of `etag` belong. Makes the folder.
pub(super) fn blob(cache: &Path, name: &str, etag: &str) -> Result<PathBuf, HubError> {
    let path = Cache::new(cache.to_owned())
        .repo(repo(name, "main"))
        .blob_path(etag);
    let folder = path.parent().unwrap_or(cache);
    fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
    Ok(path)
}

/// Makes `file` of `commit` a link to `blob`, and notes that `revision` stands at `commit`.
pub(super) fn link(
    cache: &Path,
    name: &str,
    revision: &str,
    commit: &str,
    file: &str,
    blob: &Path,
) -> Result<PathBuf, HubError> {
    let repo = repo(name, revision);
    let folder = cache.join(repo.folder_name());
    let pointer = Cache::new(cache.to_owned())
        .repo(repo)
        .pointer_path(commit)
        .join(file);
    let parent = pointer.parent().unwrap_or(&folder);
    fs::create_dir_all(parent).map_err(|e| failed(parent, e))?;
    if !pointer.is_file() {
        // From snapshots/<commit>/<file> up to the repo's folder.
        let up = "../".repeat(2 + file.matches('/').count());
        let target = Path::new(&up)
            .join("blobs")
            .join(blob.file_name().unwrap_or_default());
        // Renamed into its place: a link whose blob is gone may be in the way, and at no moment may a link that
        // another process has just made be missing.
        let temporary = temporary(&pointer);
        place(&target, blob, &temporary)
            .and_then(|()| fs::rename(&temporary, &pointer))
            .map_err(|e| failed(&pointer, e))?;
    }
    if revision != commit {
        let note = folder.join("refs").join(revision);
        let parent = note.parent().unwrap_or(&folder);
        let temporary = temporary(&note);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&temporary, commit))
            .and_then(|()| fs::rename(&temporary, &note))
            .map_err(|e| failed(&note, e))?;
    }
    Ok(pointer)
}

/// A name beside `path` that no other thread or process uses.
fn temporary(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".{name}.{}.{count}.tmp", std::process::id()))
}

fn place(target: &Path, blob: &Path, pointer: &Path) -> io::Result<()> {
    match system::symlink(target, pointer) {
        // Where links need a privilege the file itself moves, as the hub's other clients do it.
        Err(e) if e.kind() == io::ErrorKind::Unsupported => fs::rename(blob, pointer),
        done => done,
    }
}

pub(super) fn failed(path: &Path, source: io::Error) -> HubError {
    HubError::Cache {
        path: path.to_owned(),
        source,
    }
}
