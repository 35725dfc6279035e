//! The files of a store in an S3 bucket, beside a folder of this process: what is received and computed there is put into the bucket
//! before its row is written, and what others have put there is fetched.
//!
//! | key | content |
//! |---|---|
//! | `.vggt_id` | the identifier of the database |
//! | `YYYY-MM-DD/<hash>.glb` | a result |
//! | `YYYY-MM-DD/<hash>.spool/NNNNNN` | what is kept of a result, in packs: see [`pack`] |
//! | `.jobs/<folder>/<name>` | an input file of a job, its preview, or a part of a file of a draft |
//! | `.jobs/<folder>/spool-N/NNNNNN` | what the attempt N at a job has computed so far, in packs |
//! | `.unclaimed/<name>` | what a repair found to be nobody's |

mod ahead;
mod check;
mod inputs;
mod kept;
mod pack;
mod packs;
mod scratch;
mod sweep;

pub use self::{inputs::JobObjects, pack::FilePart};

use self::scratch::Scratch;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Bucket, BucketError, GlbFile, Store, StoreError,
    files::{JOBS, UNCLAIMED, below_root, is_stored_name},
};

/// The object of the identifier.
const IDENTIFIER: &str = ".vggt_id";

/// Requests of one operation that are on their way at the same time.
const AT_ONCE: usize = 8;

/// Where the files of a store are.
#[derive(Debug, Clone)]
pub enum OutRoot {
    /// In a folder.
    Folder(PathBuf),
    /// In a bucket.
    Bucket {
        /// The bucket.
        bucket: Bucket,
        /// A local folder in which this process gets one for what it receives, computes or has read.
        scratch: PathBuf,
    },
}

impl<P: Into<PathBuf>> From<P> for OutRoot {
    fn from(path: P) -> Self {
        Self::Folder(path.into())
    }
}

/// A bucket, and the folder of this process.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) bucket: Bucket,
    pub(super) scratch: Scratch,
}

impl Remote {
    pub(super) fn new(bucket: Bucket, scratch: &Path) -> Self {
        Self {
            bucket,
            scratch: Scratch::below(scratch),
        }
    }

    /// Returns an object as messages name it.
    pub(super) fn named(&self, key: &str) -> PathBuf {
        let url = self.bucket.url().to_string();
        format!("{}/{key}", url.trim_end_matches('/')).into()
    }

    /// Returns what the object of the identifier holds; `None` when there is none.
    pub(super) fn identifier(&self) -> Result<Option<String>, BucketError> {
        match self.bucket.get(IDENTIFIER) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned())),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub(super) fn set_identifier(&self, identifier: &str) -> Result<(), BucketError> {
        let bytes = format!("{identifier}\n").into_bytes();
        self.bucket.put(IDENTIFIER, bytes).map(|_| ())
    }

    /// Returns whether there are results of a service, and whether there are inputs of jobs.
    pub(super) fn holds(&self) -> Result<(bool, bool), BucketError> {
        let (mut results, mut inputs) = (false, false);
        for entry in self.bucket.list("") {
            let key = entry?.key;
            results |= glb_of(&key).is_some_and(|glb| glb == key);
            inputs |= job_of(&key).is_some();
            if results && inputs {
                break;
            }
        }
        Ok((results, inputs))
    }

    /// Removes a result and what is kept with it. Those that are not there are no error.
    pub(super) fn remove(&self, file_path: &str) -> Result<(), BucketError> {
        let key = key(file_path);
        if key.ends_with(".glb") {
            self.bucket.delete_prefix(&spool_prefix(&key))?;
            self.bucket.delete(&key)
        } else {
            // Of a spool alone.
            self.bucket.delete_prefix(&format!("{key}/"))?;
            Ok(())
        }
    }

    /// Keeps a folder beside a result, unless it is there. Returns the bytes that were sent.
    pub(super) fn send_spool_of(&self, glb: &str, folder: &Path) -> Result<u64, BucketError> {
        packs::send_new(&self.bucket, &spool_prefix(glb), folder)
    }

    /// Returns the objects of a job's folder.
    pub(super) fn job(&self, dir: &str) -> JobObjects {
        JobObjects::new(&self.bucket, dir)
    }
}

/// Returns the key of a `file_path`, never one outside of the prefix.
pub(super) fn key(file_path: &str) -> String {
    below_root(file_path).collect::<Vec<_>>().join("/")
}

/// Returns the folder of the job that an object belongs to; `None` for an object of another kind.
fn job_of(key: &str) -> Option<&str> {
    let rest = key.strip_prefix(JOBS)?.strip_prefix('/')?;
    rest.split_once('/').map(|(dir, _)| dir)
}

/// Returns what the keys of a job's objects begin with.
fn job_prefix(dir: &str) -> String {
    format!("{JOBS}/{dir}/")
}

/// Returns the names and paths of the files in a folder; folders in it are not files.
fn files_of(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let name = entry.file_name().into_string();
            let name = name.map_err(|_| io::ErrorKind::InvalidFilename)?;
            files.push((name, entry.path()));
        }
    }
    Ok(files)
}

/// Returns what the keys of what is kept with a result begin with.
pub(super) fn spool_prefix(glb: &str) -> String {
    format!("{}.spool/", glb.strip_suffix(".glb").unwrap_or(glb))
}

/// Returns the key of the result that an object is or belongs to; `None` for an object of another kind.
fn glb_of(key: &str) -> Option<String> {
    let mut parts = key.splitn(3, '/');
    let (day, name, rest) = (parts.next()?, parts.next()?, parts.next());
    day.parse::<jiff::civil::Date>().ok()?;
    let glb = match rest {
        None => name.to_owned(),
        Some(_) => format!("{}.glb", name.strip_suffix(".spool")?),
    };
    is_stored_name(&glb).then(|| format!("{day}/{glb}"))
}

/// Returns the process whose name is in that of a folder of inputs.
fn process_of(dir: &str) -> Option<&str> {
    let (_, rest) = dir.split_once('-')?;
    rest.rsplit_once('-').map(|(process, _)| process)
}

/// Does something with each of several things, some at the same time, and returns the first error.
fn each<T: Sync, E: Send>(all: &[T], work: impl Fn(&T) -> Result<(), E> + Sync) -> Result<(), E> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failed = std::sync::Mutex::new(None);
    let run = || {
        while let Some(one) = all.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            if let Err(e) = work(one) {
                failed
                    .lock()
                    .unwrap_or_else(|e| e.into_inner())
                    .get_or_insert(e);
                next.store(all.len(), std::sync::atomic::Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..all.len().min(AT_ONCE) {
            scope.spawn(run);
        }
        run();
    });
    let failed = failed.into_inner().unwrap_or_else(|e| e.into_inner());
    failed.map_or(Ok(()), Err)
}

impl Store {
    /// Returns where the files are, as messages name it.
    pub fn location(&self) -> PathBuf {
        match &self.remote {
            Some(remote) => remote.bucket.url().to_string().into(),
            None => self.out_root.to_path_buf(),
        }
    }

    /// Returns where a result is, as messages name it.
    pub fn location_of(&self, row: &GlbFile) -> PathBuf {
        match &self.remote {
            Some(remote) => remote.named(&key(&row.file_path)),
            None => self.glb_path(row),
        }
    }

    /// Returns where the input files of a job are, as messages name it; `None` when there are none.
    ///
    /// # Errors
    /// When the bucket cannot be listed.
    pub fn location_of_inputs(&self, dir: &str) -> Result<Option<PathBuf>, StoreError> {
        let Some(remote) = &self.remote else {
            let path = self.job_dir(dir);
            return Ok(path.is_dir().then_some(path));
        };
        let prefix = job_prefix(dir);
        match remote.bucket.list(&prefix).next() {
            Some(Ok(_)) => Ok(Some(remote.named(&prefix))),
            Some(Err(e)) => Err(e.into()),
            None => Ok(None),
        }
    }

    /// Removes the folder of this process, where the files are in a bucket: for the end of a server, some of whose threads may still
    /// have the store.
    pub fn remove_scratch(&self) {
        if let Some(remote) = &self.remote {
            remote.scratch.remove();
        }
    }

    /// Returns the objects of a job's folder; `None` when the files are in a folder.
    pub fn job_objects(&self, dir: &str) -> Option<JobObjects> {
        self.remote.as_ref().map(|remote| remote.job(dir))
    }

    /// Removes the folder of a job, and its objects. What cannot be removed now is found later.
    pub fn remove_job_dir(&self, dir: &str) {
        super::remove_folder(&self.job_dir(dir));
        if let Some(objects) = self.job_objects(dir) {
            objects.remove();
        }
    }

    fn set_aside_object(&self, remote: &Remote, key: &str) -> Result<(), StoreError> {
        let name = key.rsplit('/').next().unwrap_or(key);
        // It may be damaged, and is nobody's to lose.
        let aside = format!("{UNCLAIMED}/{name}");
        remote.bucket.copy_damaged(key, &aside)?;
        Ok(remote.bucket.delete(key)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_rows_lie_below_the_prefix() {
        for (file_path, expected) in [
            ("out/2026-11-22/a.glb", "2026-11-22/a.glb"),
            ("./out/2026-11-22/a.glb", "2026-11-22/a.glb"),
            ("out/out/a.glb", "out/a.glb"),
            ("/etc/passwd", "etc/passwd"),
            ("out/../../../etc/passwd", "etc/passwd"),
        ] {
            assert_eq!(key(file_path), expected, "{file_path}");
        }
    }

    #[test]
    fn objects_are_known_by_their_keys() {
        let hash = "ab".repeat(32);
        let glb = format!("2026-11-22/{hash}.glb");
        let of = |key: String| glb_of(&key);
        assert_eq!(of(glb.clone()), Some(glb.clone()));
        assert_eq!(of(format!("2026-11-22/{hash}.spool/000001")), Some(glb));
        for other in [
            format!("{hash}.glb"),
            format!("2026-11/{hash}.glb"),
            format!("2026-11-22/{hash}.glb/x"),
            "2026-11-22/a.glb".to_owned(),
            ".jobs/job-a/image_00000".to_owned(),
        ] {
            assert_eq!(glb_of(&other), None, "{other}");
        }
        assert_eq!(
            process_of("job-host-a-12-ab34ef-x9"),
            Some("host-a-12-ab34ef")
        );
        assert_eq!(process_of("job"), None);
    }

    #[test]
    fn all_is_done_and_the_first_error_ends_it() {
        let done = std::sync::Mutex::new(Vec::new());
        let all: Vec<u32> = (0..100).collect();
        each(&all, |n| {
            done.lock().unwrap().push(*n);
            Ok::<_, ()>(())
        })
        .unwrap();
        let mut done = done.into_inner().unwrap();
        done.sort_unstable();
        assert_eq!(done, all);
        let fails = |n: &u32| match n {
            0..5 => Ok(()),
            n => Err(*n),
        };
        assert!(each(&all, fails).is_err_and(|n| n < 5 + AT_ONCE as u32));
        assert_eq!(each::<u32, u32>(&[], fails), Ok(()));
    }
}
