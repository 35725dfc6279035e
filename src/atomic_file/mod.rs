//! A file that appears whole or not at all: written under a temporary name beside its target, flushed to
//! the disk, then renamed. [`remove_unfinished`] is for the Ctrl-C handler, since a signal runs no `Drop`.
//!
//! A temporary file has a random name, is never opened through a link, and is locked while it is written: [`take_abandoned`]
//! gets the lock when the writer is gone. The number of a process says nothing where each container counts its own.

mod abandoned;

pub use self::abandoned::{take_abandoned, target_of};

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Mutex,
};

use crate::system;

/// Bytes of the target's name in that of its temporary file: file systems allow 255 in all.
const MAX_NAME: usize = 200;

/// Random letters and digits in the name of a temporary file: 95 bits, so that no two meet.
const RANDOM: usize = 16;

/// Attempts to create a temporary file whose lock another process was quicker to take.
const MAX_ATTEMPTS: usize = 100;

/// Temporary files of this process that are not renamed yet.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A buffered file under a temporary name, which takes its real name on [`AtomicFile::commit`].
///
/// Dropped without a commit it leaves nothing behind and an older file of that name stays as it was.
#[derive(Debug)]
pub struct AtomicFile {
    writer: BufWriter<File>,
    temporary: PathBuf,
    target: PathBuf,
    committed: bool,
}

impl AtomicFile {
    /// Opens a temporary file beside `target`, in the same folder so that the rename stays on one file system. Who may read
    /// it is up to the process's umask.
    ///
    /// # Errors
    /// When the folder does not exist or cannot be written.
    pub fn create(target: impl Into<PathBuf>) -> io::Result<Self> {
        Self::with_mode(target.into(), 0o666)
    }

    /// As [`AtomicFile::create`], for a file that only its owner may read and write.
    ///
    /// # Errors
    /// As [`AtomicFile::create`].
    pub fn create_private(target: impl Into<PathBuf>) -> io::Result<Self> {
        Self::with_mode(target.into(), 0o600)
    }

    fn with_mode(target: PathBuf, mode: u32) -> io::Result<Self> {
        if target.is_dir() {
            return Err(named(&target, io::Error::from(io::ErrorKind::IsADirectory)));
        }
        let name = target
            .file_name()
            .ok_or_else(|| named(&target, io::Error::from(io::ErrorKind::InvalidFilename)))?;
        let prefix = format!(".{}.", shortened(&name.to_string_lossy()));
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        for _ in 0..MAX_ATTEMPTS {
            // The error of the operating system, which tells whether it may pass.
            let mut cause = None;
            let created = tempfile::Builder::new()
                .prefix(&prefix)
                .suffix(".tmp")
                .rand_bytes(RANDOM)
                .make_in(folder, |path| {
                    open_new(path, mode).inspect_err(|e| cause = e.raw_os_error())
                })
                .map_err(|e| named(&target, cause.map_or(e, io::Error::from_raw_os_error)))?;
            let (file, path) = created.into_parts();
            // From here on this process removes it, also on a signal.
            let temporary = path.keep().map_err(|e| named(&target, e.error))?;
            if is_still_ours(&file) {
                return Ok(Self {
                    writer: BufWriter::with_capacity(1 << 20, file),
                    temporary,
                    target,
                    committed: false,
                });
            }
            forget(&temporary);
        }
        Err(named(&target, io::ErrorKind::ResourceBusy.into()))
    }

    /// Writes `bytes` to `target` in one go.
    ///
    /// # Errors
    /// As [`AtomicFile::create`] and [`AtomicFile::commit`].
    pub fn write(target: impl Into<PathBuf>, bytes: &[u8]) -> io::Result<()> {
        let mut file = Self::create(target)?;
        file.write_all(bytes).map_err(|e| named(&file.target, e))?;
        file.commit()
    }

    /// Where the bytes lie until the commit, to read them back. What was written must be flushed first.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Flushes to the disk and returns the number of bytes.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn sync(&mut self) -> io::Result<u64> {
        let mut done = || {
            self.writer.flush()?;
            self.writer.get_ref().sync_all()?;
            Ok(self.writer.get_ref().metadata()?.len())
        };
        done().map_err(|e| named(&self.target, e))
    }

    /// Flushes to the disk and gives the file its real name.
    ///
    /// # Errors
    /// When the disk is full or the name cannot be taken; the temporary file is gone then.
    pub fn commit(mut self) -> io::Result<()> {
        self.sync()?;
        let done = fs::rename(&self.temporary, &self.target);
        self.committed = done.is_ok();
        done.map_err(|e| named(&self.target, e))
    }

    /// Flushes to the disk and gives the file its real name beside the temporary one, which goes when this is dropped. Never
    /// takes the place of another file. Until then the two names tell that its writer had not finished.
    ///
    /// # Errors
    /// When the disk is full or the name is taken.
    pub fn link(&mut self) -> io::Result<()> {
        self.sync()?;
        let done = fs::hard_link(&self.temporary, &self.target).or_else(|e| {
            // Not every file system has a second name for a file. The name is random or ours alone where this is used.
            if e.kind() == io::ErrorKind::AlreadyExists || self.target.exists() {
                return Err(e);
            }
            fs::rename(&self.temporary, &self.target)
        });
        done.map_err(|e| named(&self.target, e))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.writer.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        self.writer.seek(pos)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if self.committed {
            lock().remove(&self.temporary);
        } else {
            forget(&self.temporary);
        }
    }
}

/// Removes the temporary files of every [`AtomicFile`] that is still open: what a signal handler calls.
pub fn remove_unfinished() {
    for path in lock().iter() {
        let _ = fs::remove_file(path);
    }
}

/// Creates and locks a file. Never through what is there already: another file, or a link that somebody put there.
fn open_new(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    system::set_mode(&mut options, mode);
    lock().insert(path.to_owned());
    options.open(path).inspect_err(|_| {
        lock().remove(path);
    })
}

/// Locks a new file and returns false if somebody took it for abandoned in between.
fn is_still_ours(file: &File) -> bool {
    // This process must be able to read it by its name.
    if !system::LOCKS_ARE_ADVISORY {
        return true;
    }
    match file.try_lock() {
        Err(fs::TryLockError::WouldBlock) => false,
        // Without locks its age has to tell.
        Err(fs::TryLockError::Error(_)) => true,
        // Removed before it was locked?
        Ok(()) => file.metadata().is_ok_and(|meta| !system::is_removed(&meta)),
    }
}

fn forget(temporary: &Path) {
    // Nothing to tell: the caller already has the error that led here, or the name was never used.
    let _ = fs::remove_file(temporary);
    lock().remove(temporary);
}

fn lock() -> std::sync::MutexGuard<'static, BTreeSet<PathBuf>> {
    // A panic while holding the lock leaves the set as it was: every operation on it is one call.
    UNFINISHED.lock().unwrap_or_else(|e| e.into_inner())
}

/// Returns as much of a name as fits into that of a temporary file.
fn shortened(name: &str) -> &str {
    let end = (0..=name.len().min(MAX_NAME))
        .rev()
        .find(|i| name.is_char_boundary(*i));
    &name[..end.unwrap_or(0)]
}

/// An error with the file that it is about.
#[derive(Debug, thiserror::Error)]
#[error("cannot write \"{}\": {source}", path.display())]
struct Named {
    path: PathBuf,
    source: io::Error,
}

fn named(path: &Path, source: io::Error) -> io::Error {
    let path = path.to_owned();
    io::Error::new(source.kind(), Named { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abandoned_file_leaves_the_older_one_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a.glb");
        AtomicFile::write(&target, b"old").unwrap();
        let mut file = AtomicFile::create(&target).unwrap();
        file.write_all(b"new").unwrap();
        drop(file);
        assert_eq!(fs::read(&target).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_named_in_the_error() {
        let dir = tempfile::tempdir().unwrap();
        let e = AtomicFile::create(dir.path().join("no/such/a.glb")).unwrap_err();
        assert!(e.to_string().contains("no/such/a.glb"), "{e}");
    }

    #[test]
    fn a_linked_file_has_two_names_until_it_is_done_and_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a.glb");
        let mut file = AtomicFile::create_private(&target).unwrap();
        file.write_all(b"new").unwrap();
        file.link().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        drop(file);
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let mut file = AtomicFile::create_private(&target).unwrap();
        let e = file.link().unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::AlreadyExists);
        drop(file);
        assert_eq!(fs::read(&target).unwrap(), b"new");
    }
}
