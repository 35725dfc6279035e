//! The folder of a job's input files, removed when the job ends.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    error::JobsError,
    quota::{InputHold, Quotas, Upload},
};
use crate::{
    pipeline::Source,
    store::{JobKind, Store, remove_folder},
};

/// A folder of input files. Removed when dropped, unless the job has a row: then it stays until the job has ended.
#[derive(Debug)]
pub struct InputFolder {
    path: PathBuf,
    durable: bool,
    /// Counts its bytes.
    hold: Option<InputHold>,
}

impl InputFolder {
    /// Creates an empty folder.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(store: &Store) -> io::Result<Self> {
        // Not in a folder that is another one for a moment, as when its disk is not mounted.
        store.create_input_folders().map_err(io::Error::other)?;
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        let folder = builder.prefix("upload-").tempdir_in(store.uploads_dir())?;
        Ok(Self {
            path: folder.keep(),
            durable: false,
            hold: None,
        })
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of image `index`.
    pub fn image(&self, index: u32) -> PathBuf {
        self.path.join(format!("image_{index:05}"))
    }

    /// Returns the path of the video.
    pub fn video(&self) -> PathBuf {
        self.path.join("video")
    }

    /// Counts the bytes of the upload that filled it until it is dropped.
    pub fn count(&mut self, upload: Upload) {
        self.hold = upload.received();
    }

    /// Stops counting: the result counts from now on, and a client that has it may send the next upload before the files are
    /// removed.
    pub(super) fn uncount(&mut self) {
        self.hold = None;
    }

    /// Counts the bytes of an upload to an earlier process.
    pub(super) fn resume(&mut self, quotas: &Arc<Quotas>, user: i32) {
        let files = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let sizes = files.filter_map(|file| Some(file.metadata().ok()?.len()));
        self.hold = Some(quotas.resume(user, sizes.sum()));
    }

    /// Moves the folder to those of the jobs that have rows, and returns its name there. Once this returns it is on the
    /// disk. Its files must have been flushed.
    pub(super) fn keep(&mut self, store: &Store) -> io::Result<String> {
        let parent = store.jobs_dir();
        let name = self
            .path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or(io::ErrorKind::InvalidFilename)?
            .replace("upload-", "job-");
        let kept = parent.join(&name);
        sync_folder(&self.path)?;
        fs::rename(&self.path, &kept)?;
        self.path = kept;
        sync_folder(&parent)?;
        sync_folder(store.out_root())?;
        Ok(name)
    }

    /// Leaves the removal of the folder to the job's row.
    pub(super) fn has_row(&mut self) {
        self.durable = true;
    }

    /// Returns the folder of a job's row.
    pub(super) fn of_row(store: &Store, dir: &str) -> Self {
        Self {
            path: store.job_dir(dir),
            durable: true,
            hold: None,
        }
    }

    /// Removes the folder of a job that has ended.
    pub(super) fn remove(mut self) {
        self.durable = false;
    }

    /// Returns the source for the pipeline; `None` when the files are missing.
    pub(super) fn source(&self, kind: JobKind) -> Option<Source> {
        match kind {
            JobKind::Video => {
                let path = self.video();
                path.is_file().then_some(Source::Video(path))
            }
            JobKind::Images => {
                let mut paths: Vec<PathBuf> = fs::read_dir(&self.path)
                    .ok()?
                    .filter_map(|entry| Some(entry.ok()?.path()))
                    .collect();
                paths.sort();
                (!paths.is_empty()).then_some(Source::Images(paths))
            }
        }
    }
}

impl Drop for InputFolder {
    fn drop(&mut self) {
        if !self.durable {
            remove_folder(&self.path);
        }
    }
}

/// Removes leftovers of uploads and finished jobs of earlier processes. `wanted` are the folders of jobs that have not
/// ended.
pub(super) fn sweep(store: &Store, wanted: &[PathBuf]) -> Result<usize, JobsError> {
    let mut removed = 0;
    store.create_input_folders()?;
    for parent in [store.uploads_dir(), store.jobs_dir()] {
        let Ok(entries) = fs::read_dir(&parent) else {
            continue;
        };
        for entry in entries {
            let path = entry.map_err(JobsError::Folder)?.path();
            if !wanted.contains(&path) {
                remove_folder(&path);
                removed += 1;
            }
        }
    }
    Ok(removed)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    // Elsewhere a folder cannot be opened, and need not be.
    #[cfg(unix)]
    File::open(path)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
