//! Paths of GLB files, and cleanup.

use std::{
    fs,
    io::{self, Seek, Write},
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;

use super::{Store, StoreError, identity, spools};
use crate::{
    atomic_file::{take_abandoned, target_of},
    system::{self, FileId},
};

/// First part of every `file_path`, whatever the actual name of the folder.
const ROOT_NAME: &str = "out";

/// Folder of the jobs' inputs, below the folder of the files.
pub(super) const JOBS: &str = ".jobs";

/// Folder of uploads, on the same disk so that a rename keeps them.
const UPLOADS: &str = ".tmp";

/// Folder to which a repair moves files without a row: their owner is unknown, and they may be the only copy.
pub(super) const UNCLAIMED: &str = ".unclaimed";

/// The folders that are the service's own and hold nothing of others.
pub(super) const OWN_FOLDERS: [&str; 3] = [JOBS, UPLOADS, UNCLAIMED];

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
    let mut path = out_root.to_owned();
    path.extend(below_root(file_path));
    path
}

/// Returns the names in a `file_path` below the root, of which none leads out of it.
pub(super) fn below_root(file_path: &str) -> impl Iterator<Item = &str> {
    let parts = Path::new(file_path).components();
    let mut names = parts
        .filter_map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .peekable();
    names.next_if_eq(&ROOT_NAME);
    names
}

/// Returns true for the name of a GLB of this service: 64 hex digits and the extension.
pub(super) fn is_stored_name(name: &str) -> bool {
    name.strip_suffix(".glb")
        .is_some_and(|hash| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Returns when something was last added to a folder or removed from it.
pub fn changed_at(folder: &Path) -> Option<Timestamp> {
    let modified = fs::symlink_metadata(folder).and_then(|meta| meta.modified());
    Timestamp::try_from(modified.ok()?).ok()
}

/// Returns true when nothing has been added to or removed from a folder for so long that nobody works with it.
pub(super) fn is_stale(folder: &Path) -> bool {
    let age = changed_at(folder).map(|at| SystemTime::from(at).elapsed());
    age.is_some_and(|age| age.is_ok_and(|age| age > STALE))
}

/// Makes a rename in `folder` survive a power failure.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    system::sync_folder(folder)
}

/// The files in the folders of the days.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Named as a GLB.
    pub(super) glbs: Vec<PathBuf>,
    /// Abandoned by a process that has ended.
    pub(super) temporary: Vec<Temporary>,
    /// Folders named as those beside GLB files.
    pub(super) spools: Vec<PathBuf>,
}

/// A temporary file of a process that has ended.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Temporary {
    pub(super) path: PathBuf,
    /// The same file under the name that it was to get: its row may not have been written.
    pub(super) twin: Option<PathBuf>,
}

impl Found {
    fn take(&mut self, path: PathBuf, is_ours: impl Fn(&str) -> bool) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return;
        };
        if is_stored_name(name) && is_ours(name) {
            self.glbs.push(path);
        } else if spools::glb_name(name).is_some_and(|glb| is_ours(&glb)) {
            self.spools.push(path);
        } else if let Some(target) = target_of(name)
            && is_ours(target)
            && take_abandoned(&path, STALE).is_some()
        {
            let twin = path.with_file_name(target);
            let twin = Some(twin).filter(|twin| is_same(&path, twin));
            self.temporary.push(Temporary { path, twin });
        }
    }
}

impl Store {
    /// Returns the input folder of a job, from the `dir` of its row.
    pub fn job_dir(&self, dir: &str) -> PathBuf {
        absolute(&self.out_root.join(JOBS), dir)
    }

    /// Returns the folder of uploads, which is emptied at the start of a server.
    pub fn uploads_dir(&self) -> PathBuf {
        self.out_root.join(UPLOADS)
    }

    /// Creates the folders of uploads and of the inputs of jobs, for the service's user alone.
    ///
    /// # Errors
    /// As [`Store::bind_folder`], and when one of them is a link or cannot be created.
    pub fn create_input_folders(&self) -> Result<(), StoreError> {
        self.own_folder(&self.uploads_dir())?;
        self.own_folder(&self.jobs_dir())
    }

    /// Returns the folder of the inputs of all jobs.
    pub fn jobs_dir(&self) -> PathBuf {
        self.out_root.join(JOBS)
    }

    /// Removes what an earlier process left: half-written GLB files, GLB files whose row was not written any more, and files
    /// whose row was removed. Returns their number. For the start of a server.
    ///
    /// # Errors
    /// When the folder is not that of the database or cannot be read, or a file cannot be removed.
    pub fn sweep_temporary(&self) -> Result<usize, StoreError> {
        self.guard()?;
        if self.remote.is_some() {
            let swept = self.sweep_bucket()?;
            self.finish_removals()?;
            return Ok(swept);
        }
        let mut removed = self.finish_removals()?;
        let found = self.found()?;
        for temporary in &found.temporary {
            removed += usize::from(self.remove_temporary(temporary)?);
        }
        self.sweep_spools(&found.spools)?;
        Ok(removed)
    }

    /// Removes an abandoned temporary file, and the GLB that it is if its row was not written any more. Returns false if
    /// another process did.
    pub(super) fn remove_temporary(&self, temporary: &Temporary) -> Result<bool, StoreError> {
        // Locked until it is gone: nobody else takes it for abandoned.
        let Some(_locked) = take_abandoned(&temporary.path, STALE) else {
            return Ok(false);
        };
        if let Some(twin) = &temporary.twin
            && !self.has_row(twin)?
        {
            self.remove_file(twin)?;
        }
        self.remove_file(&temporary.path)?;
        Ok(true)
    }

    fn has_row(&self, glb: &Path) -> Result<bool, StoreError> {
        let name = glb.file_name().and_then(|name| name.to_str());
        let hash = name.and_then(|name| name.strip_suffix(".glb"));
        Ok(match hash {
            Some(hash) => self.find_glb(hash)?.is_some(),
            None => false,
        })
    }

    pub(super) fn found(&self) -> Result<Found, StoreError> {
        let mut found = Found::default();
        for day in entries(&self.out_root)? {
            let name = day.file_name().and_then(|name| name.to_str());
            let is_day = name.is_some_and(|name| name.parse::<jiff::civil::Date>().is_ok());
            // Not through a link: what is there is not ours to sweep.
            let is_folder = || fs::symlink_metadata(&day).is_ok_and(|meta| meta.is_dir());
            if is_day && is_folder() {
                for path in entries(&day)? {
                    found.take(path, is_stored_name);
                }
            } else {
                found.take(day, |name| name == identity::FILE);
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

/// Returns true when two names are those of one file.
fn is_same(a: &Path, b: &Path) -> bool {
    let id = |path| Some(FileId::new(path, &fs::symlink_metadata(path).ok()?));
    id(a).is_some_and(|id_of_a| id(b) == Some(id_of_a))
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
}
