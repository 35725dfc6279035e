//! Paths of GLB files, and cleanup.

use std::{
    fs::{self, File},
    io::{self, Seek, Write},
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;

use super::{Store, StoreError};

/// First part of every `file_path`, whatever the actual name of the folder.
const ROOT_NAME: &str = "out";

/// Folder of the jobs' inputs, below the folder of the files.
const JOBS: &str = ".jobs";

/// Age at which a temporary file is abandoned: no file takes this long to write.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// Destination of a GLB.
pub trait WriteSeek: Write + Seek {}

impl<T: Write + Seek + ?Sized> WriteSeek for T {}

/// Returns the `file_path` of a file stored now: `out/YYYY-MM-DD/<hash>.glb`.
pub(super) fn relative(hash: &str, now: Timestamp) -> String {
    format!("{ROOT_NAME}/{}/{hash}.glb", now.strftime("%Y-%m-%d"))
}

/// Resolves a `file_path`, never to a path outside of `out_root`.
pub(super) fn absolute(out_root: &Path, file_path: &str) -> PathBuf {
    let mut parts = Path::new(file_path)
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .peekable();
    parts.next_if(|name| *name == ROOT_NAME);
    let mut path = out_root.to_owned();
    path.extend(parts);
    path
}

/// Returns true for the name of a GLB of this service: 64 hex digits and the extension.
pub(super) fn is_stored_name(name: &str) -> bool {
    name.strip_suffix(".glb")
        .is_some_and(|hash| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Makes a rename in `folder` survive a power failure.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    // On other systems a folder cannot be opened, and need not be.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Makes the bytes of a file survive a power failure.
pub(super) fn sync_file(path: &Path) -> io::Result<u64> {
    let file = File::open(path)?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// The files in the folders of the days.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Named as a GLB.
    pub(super) glbs: Vec<PathBuf>,
    /// Half-written by a process that has ended.
    pub(super) temporary: Vec<PathBuf>,
}

impl Store {
    /// Returns the input folder of a job, from the `dir` of its row.
    pub fn job_dir(&self, dir: &str) -> PathBuf {
        absolute(&self.out_root.join(JOBS), dir)
    }

    /// Returns the folder of the inputs of all jobs.
    pub fn jobs_dir(&self) -> PathBuf {
        self.out_root.join(JOBS)
    }

    /// Removes half-written GLB files of processes that have ended, and returns their number. For the start of a server.
    ///
    /// # Errors
    /// When a folder cannot be read or a file cannot be removed.
    pub fn sweep_temporary(&self) -> Result<usize, StoreError> {
        let found = self.found()?;
        for path in &found.temporary {
            self.remove_file(path)?;
        }
        Ok(found.temporary.len())
    }

    pub(super) fn found(&self) -> Result<Found, StoreError> {
        let mut found = Found::default();
        for day in entries(&self.out_root)? {
            let is_day = day
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.parse::<jiff::civil::Date>().is_ok());
            if !is_day || !day.is_dir() {
                continue;
            }
            for path in entries(&day)? {
                let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                    continue;
                };
                if is_stored_name(name) {
                    found.glbs.push(path);
                } else if is_left_behind(name, &path) {
                    found.temporary.push(path);
                }
            }
        }
        found.glbs.sort();
        found.temporary.sort();
        Ok(found)
    }

    pub(super) fn remove_file(&self, path: &Path) -> Result<(), StoreError> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::Files {
                what: "remove",
                path: path.to_owned(),
                source: e,
            }),
            _ => Ok(()),
        }
    }
}

/// Returns the entries of `folder`; none when it does not exist yet.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let read = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect()
    };
    match read() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|source| StoreError::Files {
            what: "read the folder",
            path: folder.to_owned(),
            source,
        }),
    }
}

/// Returns true for an abandoned temporary file, `.<hash>.glb.<process>.tmp`.
fn is_left_behind(name: &str, path: &Path) -> bool {
    let process = name
        .strip_prefix('.')
        .and_then(|name| name.strip_suffix(".tmp"))
        .and_then(|name| name.rsplit_once('.'))
        .filter(|(name, _)| is_stored_name(name))
        .and_then(|(_, process)| process.parse::<u32>().ok());
    let Some(process) = process else { return false };
    let processes = Path::new("/proc");
    let gone = processes.join("self").exists() && !processes.join(process.to_string()).exists();
    // The id may belong to another process by now, and not every system tells which processes are running.
    let old = || {
        let written = fs::metadata(path).and_then(|meta| meta.modified());
        written.is_ok_and(|time| {
            SystemTime::now()
                .duration_since(time)
                .is_ok_and(|age| age > STALE)
        })
    };
    gone || old()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_rows_lead_into_the_root_and_never_out_of_it() {
        let root = Path::new("/srv/glb");
        for (file_path, expected) in [
            ("out/2026-11-22/a.glb", "/srv/glb/2026-11-22/a.glb"),
            ("./out/2026-11-22/a.glb", "/srv/glb/2026-11-22/a.glb"),
            ("2026-11-22/a.glb", "/srv/glb/2026-11-22/a.glb"),
            ("out/out/a.glb", "/srv/glb/out/a.glb"),
            ("/etc/passwd", "/srv/glb/etc/passwd"),
            ("out/../../../etc/passwd", "/srv/glb/etc/passwd"),
        ] {
            assert_eq!(
                absolute(root, file_path),
                Path::new(expected),
                "{file_path}"
            );
        }
    }

    #[test]
    fn only_temporary_files_of_dead_processes_are_left_behind() {
        let hash = "a".repeat(64);
        // Linux counts processes to 2^22 at most.
        let dead = format!(".{hash}.glb.4294967295.tmp");
        let own = format!(".{hash}.glb.{}.tmp", std::process::id());
        let path = Path::new("nowhere");
        assert_eq!(
            is_left_behind(&dead, path),
            Path::new("/proc/self").exists()
        );
        for name in [&own, ".x.glb.4294967295.tmp", "notes.tmp", ""] {
            assert!(!is_left_behind(name, path), "{name}");
        }
    }
}
