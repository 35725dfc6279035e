//! A whole file: attempts, resumption, verification, and one process at a time.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{
    Hub, HubError, Progress, cache,
    find::INDEX_END,
    license,
    transfer::{Failed, Remote, plain},
};

/// Failures in a row before a download is given up: half a minute in which a line may come back.
const ATTEMPTS: u32 = 6;
/// Number of consecutive failures after which a small request fails: without a network the user should not have to wait.
const QUESTION_ATTEMPTS: u32 = 3;
/// Bytes read at once.
const CHUNK: usize = 1 << 18;

impl Hub {
    /// Repeats `attempt` with growing waits while it fails for reasons that may pass.
    pub(super) fn with_retries<T>(
        &self,
        what: &str,
        mut attempt: impl FnMut() -> Result<T, Failed>,
    ) -> Result<T, HubError> {
        let mut failures = 0;
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(Failed::For(error)) => return Err(error),
                Err(Failed::Again { url, what: reason }) => {
                    failures += 1;
                    self.pause(what, (failures, QUESTION_ATTEMPTS), url, reason)?;
                }
            }
        }
    }

    /// Waits before attempt number `failures` + 1, or gives up.
    fn pause(
        &self,
        of: &str,
        (failures, most): (u32, u32),
        url: String,
        what: String,
    ) -> Result<(), HubError> {
        if failures >= most {
            return Err(HubError::Network {
                url,
                what,
                attempts: failures,
            });
        }
        let wait = self.settings.backoff * 2u32.pow(failures - 1);
        tracing::warn!(%url, %what, "trying {of} again in {wait:?}");
        std::thread::sleep(wait);
        Ok(())
    }

    /// Returns files of one repo from a cache, and downloads those that are in none, after one line that says what comes.
    pub(super) fn files(
        &self,
        repo: &str,
        names: &[String],
        license: Option<&str>,
        progress: Progress<'_>,
    ) -> Result<Vec<PathBuf>, HubError> {
        let (settings, revision) = (&self.settings, self.revision_of(repo));
        // The parts of a whole, and the index that names them, must lie in one folder.
        let is_part = names.len() > 1 || names.iter().any(|name| name.ends_with(INDEX_END));
        let cached = |name: &str| {
            let mut snapshots = settings
                .caches()
                .take(if is_part { 1 } else { usize::MAX })
                .filter_map(|folder| cache::snapshot(folder, repo, revision));
            snapshots.find_map(|folder| Some(folder.join(name)).filter(|path| path.is_file()))
        };
        let all: Option<Vec<PathBuf>> = names.iter().map(|name| cached(name)).collect();
        if let Some(all) = all {
            return Ok(all);
        }
        if settings.offline {
            return Err(self.offline(repo, names.first().map(String::as_str)));
        }
        let mut remotes = Vec::new();
        for name in names {
            remotes.push(self.with_retries(repo, || self.client.look(repo, revision, name))?);
        }
        self.announce(repo, names, &remotes, license)?;
        let mut paths = Vec::new();
        for (name, remote) in names.iter().zip(&remotes) {
            let blob = self.blob(repo, name, remote, &mut *progress)?;
            let commit = &remote.commit;
            paths.push(cache::link(
                &settings.cache,
                repo,
                revision,
                commit,
                name,
                &blob,
            )?);
        }
        Ok(paths)
    }

    /// Says what is about to be downloaded.
    fn announce(
        &self,
        repo: &str,
        names: &[String],
        remotes: &[Remote],
        license: Option<&str>,
    ) -> Result<(), HubError> {
        let settings = &self.settings;
        let (mut missing, mut bytes) = (Vec::new(), 0_u64);
        for (name, remote) in names.iter().zip(remotes) {
            let blob = cache::blob(&settings.cache, repo, &remote.etag)?;
            if !is_whole(&blob, remote) {
                missing.push(name.as_str());
                bytes = bytes.saturating_add(remote.size);
            }
        }
        let folder = cache::folder(&settings.cache, repo);
        let from = (settings.endpoint.as_str(), repo);
        if let Some(line) = license::line(from, &missing, bytes, &folder, license) {
            tracing::info!("{line}");
        }
        Ok(())
    }

    /// The blob of `remote`, downloaded if it is not there, under its final name only once it is verified.
    pub(super) fn blob(
        &self,
        repo: &str,
        file: &str,
        remote: &Remote,
        progress: Progress<'_>,
    ) -> Result<PathBuf, HubError> {
        let blob = cache::blob(&self.settings.cache, repo, &remote.etag)?;
        let beside = |end: &str| blob.with_file_name(format!("{}{end}", remote.etag));
        let (part, lock_path) = (beside(".part"), beside(".part.lock"));
        let lock = File::create(&lock_path).map_err(|e| cache::failed(&lock_path, e))?;
        // Two processes would write into one file: the second waits, and then finds the blob.
        if lock.try_lock().is_err() {
            tracing::info!("waiting for another process that downloads {file}");
            lock.lock().map_err(|e| cache::failed(&lock_path, e))?;
        }
        if !is_whole(&blob, remote) {
            self.complete(repo, file, remote, &part, progress)?;
            fs::rename(&part, &blob).map_err(|e| cache::failed(&blob, e))?;
        }
        // The lock's file stays: removed, a third process would lock a new one beside a second that waited for this.
        Ok(blob)
    }

    /// Fills `part` from where it stands and verifies it.
    fn complete(
        &self,
        repo: &str,
        file: &str,
        remote: &Remote,
        part: &Path,
        progress: Progress<'_>,
    ) -> Result<(), HubError> {
        let failed = |e: io::Error, at: u64| {
            if matches!(
                e.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ) {
                HubError::DiskFull {
                    path: part.to_owned(),
                    needed: remote.size.saturating_sub(at),
                }
            } else {
                cache::failed(part, e)
            }
        };
        let mut out = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(part)
            .map_err(|e| failed(e, 0))?;
        let mut hasher = Sha256::new();
        let mut at = io::copy(&mut out, &mut Hashing(&mut hasher)).map_err(|e| failed(e, 0))?;
        if at > remote.size {
            (hasher, at) = (Sha256::new(), 0);
            rewind(&mut out).map_err(|e| failed(e, 0))?;
        }
        let mut buffer = vec![0; CHUNK];
        let mut failures = 0;
        if !progress(file, at, remote.size) {
            return Err(HubError::Cancelled);
        }
        while at < remote.size {
            let before = at;
            let reason = match self.client.bytes(repo, remote, file, at) {
                Err(Failed::For(error)) => return Err(error),
                Err(Failed::Again { url, what }) => (url, what),
                Ok((url, body, start)) => {
                    if start < at {
                        // The server does not resume: all over again.
                        (hasher, at) = (Sha256::new(), 0);
                        rewind(&mut out).map_err(|e| failed(e, 0))?;
                    }
                    let mut reader = body.into_reader();
                    loop {
                        match reader.read(&mut buffer) {
                            Ok(0) => break (plain(&url), "the connection ended early".to_owned()),
                            Err(e) => break (plain(&url), e.to_string()),
                            Ok(count) => {
                                if at + count as u64 > remote.size {
                                    drop(fs::remove_file(part));
                                    let what = format!(
                                        "more than the promised {} bytes arrived",
                                        remote.size
                                    );
                                    return Err(HubError::Damaged {
                                        file: file.to_owned(),
                                        what,
                                    });
                                }
                                out.write_all(&buffer[..count]).map_err(|e| failed(e, at))?;
                                hasher.update(&buffer[..count]);
                                at += count as u64;
                                if !progress(file, at, remote.size) {
                                    return Err(HubError::Cancelled);
                                }
                                if at == remote.size {
                                    break Default::default();
                                }
                            }
                        }
                    }
                }
            };
            if at < remote.size {
                // A line that drops now and then but moves on is not hopeless.
                failures = if at > before { 1 } else { failures + 1 };
                self.pause(file, (failures, ATTEMPTS), reason.0, reason.1)?;
            }
        }
        out.sync_all().map_err(|e| failed(e, at))?;
        let found: String = hasher
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if remote.etag.len() == 64 && !remote.etag.eq_ignore_ascii_case(&found) {
            drop(fs::remove_file(part));
            let what = format!("its SHA-256 is {found}, the hub promised {}", remote.etag);
            return Err(HubError::Damaged {
                file: file.to_owned(),
                what,
            });
        }
        Ok(())
    }
}

fn is_whole(blob: &Path, remote: &Remote) -> bool {
    fs::metadata(blob).is_ok_and(|found| found.len() == remote.size)
}

/// A hasher as something to write into.
struct Hashing<'a>(&'a mut Sha256);

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn rewind(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()
}
