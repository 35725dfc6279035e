//! A folder of this process for what it receives, computes, or has read from a bucket. It goes with the process; that of one that was
//! killed goes with the next process that makes one beside it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use crate::store::{
    files::is_stale,
    private::{open_lock, private_folder, remove_folder},
    queue::process_name,
};

/// The lock in each folder, and that of all of them while one is made or removed.
const LOCK: &str = ".lock";

/// How the names of the folders begin.
const PREFIX: &str = "process-";

/// The folder of this process. Nothing is created before [`Scratch::create`].
#[derive(Debug)]
pub(in crate::store) struct Scratch {
    path: PathBuf,
    /// Locked as long as the folder is used.
    lock: Mutex<Option<File>>,
}

impl Scratch {
    /// Names a folder below another.
    pub(in crate::store) fn below(above: &Path) -> Self {
        // A process may have several stores.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        Self {
            path: above.join(format!("{PREFIX}{}-{number}", process_name())),
            lock: Mutex::default(),
        }
    }

    pub(in crate::store) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the folder, and removes those of processes that have ended.
    ///
    /// # Errors
    /// When it cannot be created.
    pub(in crate::store) fn create(&self) -> io::Result<()> {
        let mut lock = self.lock.lock().unwrap_or_else(|e| e.into_inner());
        if lock.is_some() && self.path.is_dir() {
            return Ok(());
        }
        let above = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(above)?;
        // Nobody takes a folder without its lock for one that was left.
        let all = open_lock(&above.join(LOCK))?;
        all.lock()?;
        for entry in fs::read_dir(above)?.flatten() {
            let is_ours = |name: &str| name.starts_with(PREFIX);
            if entry.file_name().to_str().is_some_and(is_ours) {
                remove_if_left(&entry.path());
            }
        }
        private_folder(&self.path)?;
        let file = open_lock(&self.path.join(LOCK))?;
        file.lock()?;
        *lock = Some(file);
        Ok(())
    }

    /// Removes the folder. One that is created again is another one.
    pub(in crate::store) fn remove(&self) {
        let mut lock = self.lock.lock().unwrap_or_else(|e| e.into_inner());
        if lock.take().is_some() {
            remove_folder(&self.path);
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.remove();
    }
}

fn remove_if_left(path: &Path) {
    let is_left = match File::open(path.join(LOCK)) {
        Ok(file) => file.try_lock().is_ok(),
        Err(_) => is_stale(path),
    };
    if is_left {
        remove_folder(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_its_process_and_no_other_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let above = dir.path().join("scratch");
        let (first, second) = (Scratch::below(&above), Scratch::below(&above));
        assert!(!above.exists());
        first.create().unwrap();
        fs::write(first.path().join("file"), "").unwrap();
        // As a process that was killed leaves it.
        let left = above.join("process-gone-1-abc-0");
        fs::create_dir(&left).unwrap();
        fs::write(left.join(LOCK), "").unwrap();
        fs::create_dir(above.join("of somebody else")).unwrap();
        second.create().unwrap();
        second.create().unwrap();
        assert!(first.path().join("file").exists() && !left.exists());
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists() && second.path().exists());
        drop(second);
        assert!(above.join("of somebody else").exists());
    }
}
