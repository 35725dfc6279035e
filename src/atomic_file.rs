//! A file that appears whole or not at all: written under a temporary name beside its target, flushed to
//! the disk, then renamed. [`remove_unfinished`] is for the Ctrl-C handler, since a signal runs no `Drop`.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Mutex,
};

/// Names that are tried for a temporary file.
const MAX_ATTEMPTS: u32 = 100;

/// Bytes of the target's name in that of its temporary file: file systems allow 255 in all.
const MAX_NAME: usize = 200;

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
    /// Opens a temporary file beside `target`, in the same folder so that the rename stays on one file system.
    ///
    /// # Errors
    /// When the folder does not exist or cannot be written.
    pub fn create(target: impl Into<PathBuf>) -> io::Result<Self> {
        let target = target.into();
        if target.is_dir() {
            return Err(named(&target, io::Error::from(io::ErrorKind::IsADirectory)));
        }
        let name = target
            .file_name()
            .ok_or_else(|| named(&target, io::Error::from(io::ErrorKind::InvalidFilename)))?;
        let name = name.to_string_lossy();
        let mut last = None;
        for attempt in 0..MAX_ATTEMPTS {
            let temporary = target.with_file_name(temporary_name(&name, attempt));
            lock().insert(temporary.clone());
            // Never through what is there already: another file of this process, or a link that somebody put there.
            match File::create_new(&temporary) {
                Ok(file) => {
                    return Ok(Self {
                        writer: BufWriter::with_capacity(1 << 20, file),
                        temporary,
                        target,
                        committed: false,
                    });
                }
                Err(e) => {
                    lock().remove(&temporary);
                    let taken = e.kind() == io::ErrorKind::AlreadyExists;
                    last = Some(e);
                    if !taken {
                        break;
                    }
                }
            }
        }
        let e = last.unwrap_or_else(|| io::ErrorKind::AlreadyExists.into());
        Err(named(&target, e))
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

    /// Flushes to the disk and gives the file its real name.
    ///
    /// # Errors
    /// When the disk is full or the name cannot be taken; the temporary file is gone then.
    pub fn commit(mut self) -> io::Result<()> {
        let done = self
            .writer
            .flush()
            .and_then(|()| self.writer.get_ref().sync_all())
            .and_then(|()| fs::rename(&self.temporary, &self.target));
        self.committed = done.is_ok();
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
        if !self.committed {
            // Nothing to tell: the caller already has the error that led here, or the name was never used.
            let _ = fs::remove_file(&self.temporary);
        }
        lock().remove(&self.temporary);
    }
}

/// Removes the temporary files of every [`AtomicFile`] that is still open: what a signal handler calls.
pub fn remove_unfinished() {
    for path in lock().iter() {
        let _ = fs::remove_file(path);
    }
}

fn lock() -> std::sync::MutexGuard<'static, BTreeSet<PathBuf>> {
    // A panic while holding the lock leaves the set as it was: every operation on it is one call.
    UNFINISHED.lock().unwrap_or_else(|e| e.into_inner())
}

/// Returns the name of a temporary file for `name`: `.NAME.PROCESS.tmp`, which the store recognizes when the process is gone.
fn temporary_name(name: &str, attempt: u32) -> String {
    let end = (0..=name.len().min(MAX_NAME))
        .rev()
        .find(|i| name.is_char_boundary(*i));
    let name = &name[..end.unwrap_or(0)];
    let process = std::process::id();
    match attempt {
        0 => format!(".{name}.{process}.tmp"),
        n => format!(".{name}.{process}-{n}.tmp"),
    }
}

fn named(path: &Path, e: io::Error) -> io::Error {
    io::Error::new(
        e.kind(),
        format!("cannot write \"{}\": {e}", path.display()),
    )
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
}
