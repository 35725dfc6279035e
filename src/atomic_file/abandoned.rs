//! Temporary files whose writers are gone: how they are told from others.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::Path,
    time::Duration,
};

use super::RANDOM;
use crate::system;

/// Name of this program as its processes have it.
const PROGRAM: &str = "vggt";

/// Returns the name of the target of a temporary file of this or an earlier version; `None` for any other name.
pub fn target_of(temporary: &str) -> Option<&str> {
    let (name, mark) = parts(temporary)?;
    let ours = is_random(mark) || process(mark).is_some();
    ours.then_some(name)
}

/// Returns a temporary file whose writer is gone, locked for the caller that removes it; `None` while it is written. Where files
/// cannot be locked, those of `old` are taken for abandoned, and those of an earlier version whose process is gone.
pub fn take_abandoned(path: &Path, old: Duration) -> Option<File> {
    let mark = parts(path.file_name()?.to_str()?)?.1;
    let file = open_existing(path).ok()?;
    let meta = file.metadata().ok().filter(fs::Metadata::is_file)?;
    let age = meta.modified().ok().and_then(|time| time.elapsed().ok());
    let is_old = age.is_some_and(|age| age > old);
    match (file.try_lock(), process(mark)) {
        // Such files are not locked while they are written.
        (Ok(()), _) if !system::LOCKS_ARE_ADVISORY => is_old.then_some(file),
        // An earlier version did not lock its files.
        (Ok(()), Some(process)) => (is_gone(process) || is_old).then_some(file),
        (Ok(()), None) => Some(file),
        (Err(fs::TryLockError::WouldBlock), _) => None,
        (Err(fs::TryLockError::Error(_)), _) => is_old.then_some(file),
    }
}

/// Splits `.NAME.MARK.tmp`.
fn parts(temporary: &str) -> Option<(&str, &str)> {
    temporary
        .strip_prefix('.')?
        .strip_suffix(".tmp")?
        .rsplit_once('.')
}

fn is_random(mark: &str) -> bool {
    mark.len() == RANDOM && mark.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// Returns the process that an earlier version put into the name: PROCESS or PROCESS-ATTEMPT.
fn process(mark: &str) -> Option<u32> {
    let (process, attempt) = mark.split_once('-').unwrap_or((mark, "0"));
    attempt.parse::<u32>().ok()?;
    process.parse().ok().filter(|_| !is_random(mark))
}

/// Returns true when the process that had this number is gone: none has it, or one that is not this program, or this one, which
/// names its files otherwise.
fn is_gone(process: u32) -> bool {
    let all = Path::new("/proc");
    if process == std::process::id() {
        return true;
    }
    let Ok(own) = fs::read_to_string(all.join("self/comm")) else {
        return false;
    };
    match fs::read_to_string(all.join(format!("{process}/comm"))) {
        Ok(name) => name != own && !name.starts_with(PROGRAM),
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    }
}

fn open_existing(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    system::open_no_link(&mut options, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(unix)]
    use crate::atomic_file::AtomicFile;

    #[cfg(unix)]
    const NEVER: Duration = Duration::MAX;

    #[test]
    fn names_of_temporary_files_are_told_from_others() {
        for (name, target) in [
            (".a.glb.0123456789abcDEF.tmp", Some("a.glb")),
            (".a.glb.17.tmp", Some("a.glb")),
            (".a.glb.4194304-3.tmp", Some("a.glb")),
            (".a.glb.0123456789abcde.tmp", None),
            (".a.glb.-1.tmp", None),
            (".a.glb.tmp", None),
            ("a.glb.17.tmp", None),
            (".tmp", None),
            ("", None),
        ] {
            assert_eq!(target_of(name), target, "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_what_nobody_writes_is_abandoned() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a.glb");
        let file = AtomicFile::create(&target).unwrap();
        assert!(take_abandoned(file.temporary(), Duration::ZERO).is_none());
        // As after kill -9: the lock is gone with the process, the file is not.
        let left = dir.path().join(".a.glb.0123456789abcDEF.tmp");
        fs::write(&left, b"gl").unwrap();
        assert!(take_abandoned(&left, NEVER).is_some());
        // Of an earlier version, in a container of its own, where this process has the same number.
        let own = dir
            .path()
            .join(format!(".a.glb.{}.tmp", std::process::id()));
        fs::write(&own, b"gl").unwrap();
        assert!(take_abandoned(&own, NEVER).is_some());
        // Of process 1 of a container, which is another program here.
        let first = dir.path().join(".a.glb.1.tmp");
        fs::write(&first, b"gl").unwrap();
        let on_linux = Path::new("/proc/1/comm").exists();
        assert_eq!(take_abandoned(&first, NEVER).is_some(), on_linux);
        let link = dir.path().join(".b.glb.0123456789abcDEF.tmp");
        std::os::unix::fs::symlink(&left, &link).unwrap();
        assert!(take_abandoned(&link, Duration::ZERO).is_none());
    }

    /// Sweeps while others write: no writer loses its file.
    #[cfg(unix)]
    #[test]
    fn a_sweeper_never_takes_the_file_of_a_writer() {
        let dir = tempfile::tempdir().unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    for entry in fs::read_dir(dir.path()).unwrap().flatten() {
                        if entry.path().extension().is_some_and(|e| e == "tmp")
                            && let Some(_locked) = take_abandoned(&entry.path(), NEVER)
                        {
                            let _ = fs::remove_file(entry.path());
                        }
                    }
                }
            });
            for i in 0..300 {
                AtomicFile::write(dir.path().join(format!("{i}.glb")), b"x").unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 300);
    }
}
