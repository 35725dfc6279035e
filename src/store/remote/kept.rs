//! What is kept with results, fetched from the bucket into the folder of this process as it is asked for.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    time::SystemTime,
};

use super::{Remote, key, packs, spool_prefix};
use crate::store::{GlbFile, Store, StoreError, private::remove_folder, spools::EXTENSION};

/// Bytes of all that is fetched, beyond which those go that were not asked for longest.
const MOST: u64 = 16 << 30;

/// Held while one is fetched: the pictures of a page are asked for together.
static FETCHING: Mutex<()> = Mutex::new(());

impl Store {
    /// Fetches what is kept with a result into a folder, unless it is there. Returns false when there is nothing.
    pub(in crate::store) fn fetch_kept(
        &self,
        remote: &Remote,
        glb: &GlbFile,
        folder: &Path,
    ) -> Result<bool, StoreError> {
        let _fetching = FETCHING.lock().unwrap_or_else(|e| e.into_inner());
        if folder.is_dir() {
            // For those that look for the oldest. It may be one that nobody may change.
            let _ = fs::File::open(folder).and_then(|file| file.set_modified(SystemTime::now()));
            return Ok(true);
        }
        let packs = packs::list(&remote.bucket, &spool_prefix(&key(&glb.file_path)))?;
        if packs.is_empty() {
            return Ok(false);
        }
        self.own_folder(folder.parent().unwrap_or(&self.out_root))?;
        packs::fetch(&remote.bucket, &packs, folder)?;
        let all: u64 = fetched(&self.out_root).iter().map(|one| one.bytes).sum();
        drop_oldest(&self.out_root, all.saturating_sub(MOST), Some(folder));
        Ok(true)
    }

    /// Removes what was fetched and not asked for longest, until so many bytes are free. Returns how many that are.
    pub(in crate::store) fn drop_fetched(&self, bytes: u64) -> u64 {
        drop_oldest(&self.out_root, bytes, None)
    }
}

struct Fetched {
    path: PathBuf,
    used: SystemTime,
    bytes: u64,
}

fn fetched(root: &Path) -> Vec<Fetched> {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let is_kept = |path: &PathBuf| path.extension().is_some_and(|e| e == EXTENSION);
    let days = entries(root).filter(|day| day.path().is_dir());
    let folders = days.flat_map(|day| entries(&day.path()).map(|entry| entry.path()));
    let about = |path: PathBuf| {
        let files = entries(&path).filter_map(|file| Some(file.metadata().ok()?.len()));
        Some(Fetched {
            bytes: files.sum(),
            used: path.metadata().and_then(|meta| meta.modified()).ok()?,
            path,
        })
    };
    folders.filter(is_kept).filter_map(about).collect()
}

fn drop_oldest(root: &Path, bytes: u64, but: Option<&Path>) -> u64 {
    if bytes == 0 {
        return 0;
    }
    let mut all = fetched(root);
    all.retain(|one| Some(one.path.as_path()) != but);
    all.sort_by_key(|one| one.used);
    let mut freed = 0;
    for one in all {
        if freed >= bytes {
            break;
        }
        remove_folder(&one.path);
        freed += one.bytes;
    }
    freed
}
